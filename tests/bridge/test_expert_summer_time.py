"""Bars of a broker in Eastern Europe on both sides of a change of its clock, from the Expert Advisor's own code to the
journal of the real server; the oracle is the zone's own rules, from Python's zoneinfo."""

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import stub
from live import running
from scripted import ACK, TRADING
from simulated import built, finished

from bridge.terminal.build import EXPERT
from forecasting.windows import WindowSpec

EET = ZoneInfo("Europe/Helsinki")
HOUR = timedelta(hours=1)


def hours(first, last):
    """Every hour between two times of the zone's clock, as moments of UTC."""
    at = datetime.fromisoformat(first).replace(tzinfo=EET).astimezone(UTC)
    end = datetime.fromisoformat(last).replace(tzinfo=EET).astimezone(UTC)
    while at <= end:
        yield at
        at += HOUR


def broker(moment):
    """A moment as a terminal stamps it: the zone's clock, in seconds since 1970 as if that were UTC."""
    return int(moment.astimezone(EET).replace(tzinfo=UTC).timestamp())


def offset(moment):
    return int(moment.astimezone(EET).utcoffset().total_seconds())


SPRING = [*hours("2024-03-29T04:00", "2024-03-29T23:00"), *hours("2024-04-01T00:00", "2024-04-01T09:00")]
AUTUMN = [*hours("2024-10-25T04:00", "2024-10-25T23:00"), *hours("2024-10-28T00:00", "2024-10-28T09:00")]
NIGHT = [*hours("2024-03-30T10:00", "2024-03-31T12:00")]
"""Round the clock: 02:00 is followed by 04:00."""


@pytest.mark.parametrize(
    ("opens", "warm"),
    [(SPRING, 18), (SPRING, 24), (AUTUMN, 18), (AUTUMN, 24), (NIGHT, 12), (NIGHT, 22)],
    ids=["spring, live", "spring, behind", "autumn, live", "autumn, behind", "round the clock, live", "round, behind"],
)
def test_bars_on_both_sides_of_a_change_have_the_right_stamps(tmp_path, opens, warm):
    now, change = opens[warm], next(moment for moment in opens if offset(moment) != offset(opens[0]))
    lines = [f"warm {warm}", f"offset {offset(now)}", "close_at_end 0"]
    if now < change:
        lines.append(f"zone {broker(change)} {offset(change)}")
    closes = [round(1.1 + 1e-4 * (i % 7), 5) for i in range(len(opens))]
    lines += [
        f"bar {broker(moment)} {close} {close + 1e-4:.5f} {close - 1e-4:.5f} {close} 8"
        for moment, close in zip(opens, closes, strict=True)
    ]
    (tmp_path / "market").write_text("\n".join(lines) + "\n")
    desk = replace(stub.desk("EURUSD-H1"), windows=WindowSpec(context=8, horizon=2))
    where = {"MARKET": tmp_path / "market", "FILES": tmp_path, "WATCH": ACK, "BAR_MS": 5000, "RUN_MS": 30_000}
    inputs = {**TRADING, "InpClock": 1, "InpStopAlways": False, "InpFridayClose": "", "InpMaxAge": 0}
    with running(desk, journal=tmp_path / "journal.sqlite") as address:
        port = int(address.rpartition(":")[2])
        left = finished(built(EXPERT).start({**inputs, "InpPort": port}, {**where, "EAGER": 1, "LINGER_MS": 200}))
    assert left.of("unsettled") == []
    with sqlite3.connect(tmp_path / "journal.sqlite") as base:
        kept = base.execute("SELECT time_ms, close FROM bars ORDER BY time_ms").fetchall()
        acks = base.execute("SELECT bar_time_ms, code FROM acks").fetchall()
    wanted = [
        (int((moment + HOUR).timestamp() * 1000), close) for moment, close in zip(opens[:-1], closes[:-1], strict=True)
    ]
    assert kept == wanted[warm - desk.history :]
    assert opens[warm - desk.history] < change < opens[-1]
    # Friday's last bar is known to have closed when Monday's begins, and this market of the model knows no weekends.
    before_gap = int((opens[opens.index(change) - 1] + HOUR).timestamp() * 1000)
    late = {before_gap} if opens[opens.index(change) - 1] + HOUR < change else set()
    assert {at for at, code in acks if code == "STALE"} <= late
    assert {code for _, code in acks} <= {"TAKEN", "NOOP", "STALE"}
    assert len(acks) == len(opens) - warm
