"""The Expert Advisor's own code against the real server, over tcp on loopback."""

import itertools
import socket
import sqlite3
import threading
import time

import numpy as np
import pytest
from scripted import ACK, HOUR, START, TRADING, close_ms, market_file
from simulated import built, finished

from bridge.terminal.build import EXPERT

INPUTS = {**TRADING, "InpStopAlways": False, "InpFridayClose": "", "InpMaxAge": 0}


def walk(count):
    """Bars of a random walk, every price in whole points."""
    rng = np.random.default_rng(5)
    rows, close = [], 110_000
    for i in range(count):
        opens, close = close, close + int(rng.integers(-40, 41))
        high, low = max(opens, close) + int(rng.integers(0, 9)), min(opens, close) - int(rng.integers(0, 9))
        rows.append((START + HOUR * i, opens / 1e5, high / 1e5, low / 1e5, close / 1e5, 8))
    return rows


def desk():
    """Long after a rise, short after a fall: a forecaster whose targets change at every other bar."""
    import stub

    class Momentum(stub.Drift):
        sha = "momentum"

        def predict(self, contexts, progress=None):
            forecasts = super().predict(contexts).forecasts
            step = np.sign(contexts.closes[:, -1:] - contexts.closes[:, -2:-1]) * 0.002
            forecasts.mean[:] = contexts.closes[:, -1:] + step
            return type("Prediction", (), {"forecasts": forecasts})

    made = stub.desk("EURUSD-H1")
    object.__setattr__(made, "forecaster", Momentum())
    return made


def started(folder, rows, port, **terminal):
    folder.mkdir(exist_ok=True)
    market = market_file(folder / "market", rows, 30, close_at_end=0)
    where = {
        "MARKET": market,
        "FILES": folder,
        "WATCH": ACK,
        "BAR_MS": 5000,
        "RUN_MS": 50000,
        "LINGER_MS": 300,
        "EAGER": 1,
    }
    return built(EXPERT).start({**INPUTS, "InpPort": port}, {**where, **terminal})


def kept(journal, query):
    with sqlite3.connect(journal) as database:
        return database.execute(query).fetchall()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Bars, the terminal's journal and the server's after a run in which nothing went wrong."""
    from live import running

    folder = tmp_path_factory.mktemp("undisturbed")
    rows, journal = walk(200), folder / "journal.sqlite"
    with running(desk(), journal=str(journal)) as address:
        left = finished(started(folder, rows, int(address.rsplit(":", 1)[1])), 60)
    return rows, left, journal


def test_every_bar_is_answered_traded_and_kept_by_the_real_server(undisturbed):
    rows, left, journal = undisturbed
    assert left.of("unsettled") == [] and left.end["code"] == 0
    assert len(left.deals) > 30
    bars = kept(journal, "SELECT time_ms, open, high, low, close, spread FROM bars ORDER BY time_ms")
    last = [(close_ms(row[0]), *row[1:]) for row in rows[:-1]]
    assert bars == last[-len(bars) :] and len(bars) >= 169
    acks = kept(journal, "SELECT bar_time_ms, code FROM acks ORDER BY bar_time_ms")
    assert [bar for bar, _ in acks] == [close_ms(row[0]) for row in rows[29:-1]]
    assert {code for _, code in acks} <= {"TAKEN", "NOOP"}
    fills = kept(journal, "SELECT deal, side, lots, price FROM fills ORDER BY deal")
    told = [(deal["deal"], "buy" if deal["side"] > 0 else "sell", deal["lots"], deal["price"]) for deal in left.deals]
    assert fills == told[: len(fills)] and len(fills) >= len(told) - 2


def test_a_server_killed_and_restarted_again_and_again_changes_no_trade_and_doubles_none(undisturbed, tmp_path):
    from live import running

    rows, wanted, _ = undisturbed
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = started(tmp_path, rows, port, LINGER_MS=50)
    rng = np.random.default_rng(3)
    lives = 0
    left = []
    waiting = threading.Thread(target=lambda: left.append(finished(process, 60)))
    waiting.start()
    while waiting.is_alive():
        with running(desk(), journal=str(tmp_path / "journal.sqlite"), port=port):
            lives += 1
            until = time.monotonic() + rng.uniform(0.02, 0.1)
            while waiting.is_alive() and time.monotonic() < until:
                time.sleep(0.01)
    waiting.join()
    (left,) = left
    assert lives > 5
    assert left.of("unsettled") == []
    trades = [
        [(deal["bar"], deal["side"], deal["lots"], deal["price"]) for deal in run.deals] for run in (left, wanted)
    ]
    assert trades[0] == trades[1]
    bars = kept(tmp_path / "journal.sqlite", "SELECT time_ms FROM bars ORDER BY time_ms")
    assert {later - earlier for (earlier,), (later,) in itertools.pairwise(bars)} == {HOUR * 1000}
