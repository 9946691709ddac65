"""The journal: everything once, nothing half, and bars that can be read back as a source."""

import sqlite3

import numpy as np
import pytest
import stub
from live import running

from bridge.client import Account, Client, ClosedBar, LinkError
from bridge.journal import Journal
from bridge.messages import Ack, Exec
from forecasting.bars import load_bars
from forecasting.errors import DataError, UserError

HOUR = stub.HOUR
START = 1_700_000_000_000 // HOUR
FILL = Exec(
    unique_id="EURUSD-H1", bar_time_ms=HOUR, deal=51, order=77, ticket=77, side="buy", entry="in", lots=0.1, price=1.1,
    requested=None, slippage=0.0, commission=-0.35, swap=0.0, profit=0.0, time_ms=2 * HOUR, latency_ms=14.0,
    reason="signal", dry_run=True,
)  # fmt: skip


def closed(first, last):
    return [
        ClosedBar((START + n) * HOUR, 1.1 + n / 1e3, 1.2 + n / 1e3, 1.0, 1.15 + n / 1e3, 10.0 + n, n - 1)
        for n in range(first, last + 1)
    ]


def rows(file, query):
    with sqlite3.connect(file) as base:
        return base.execute(query).fetchall()


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "live" / "journal.sqlite"
    monkeypatch.setenv("TUNETRADE_JOURNAL", str(path))
    return path


def test_everything_that_passed_is_kept_once_and_found_again_after_a_restart(file):
    desk = stub.desk("EURUSD-H1")
    with running(desk, journal=file) as address, Client.connect(address, "EURUSD-H1", feed="Demo") as client:
        client.account = Account(equity=5_000.0)
        client.backfill(closed(0, 5))
        forecast = client.send_bar(closed(6, 6)[0])
        client.send_bar(closed(6, 6)[0])
        client.ack(forecast, "GUARD:max_spread", "31 points")
        client.fill(FILL)
        client.fill(FILL)
        first_epoch = client.welcome.epoch
    with running(desk, journal=file) as address, Client.connect(address, "EURUSD-H1", feed="Demo") as client:
        assert client.welcome.from_ms == (START + 6) * HOUR
        assert client.welcome.epoch > first_epoch
        again = client.backfill(closed(0, 7))
        assert again.bar_time_ms == (START + 7) * HOUR
    # Of the first backfill the history of five bars was sent.
    assert rows(file, "SELECT count(*), min(time_ms), max(time_ms) FROM bars") == [
        (7, (START + 1) * HOUR, (START + 7) * HOUR)
    ]
    kept = rows(file, "SELECT bar_time_ms, body FROM forecasts ORDER BY epoch, seq")
    assert [time_ms for time_ms, _ in kept] == [(START + n) * HOUR for n in (5, 6, 7)]
    assert f'"input_sha":"{forecast.input_sha}"' in kept[1][1]
    assert rows(file, "SELECT re, code, text FROM acks") == [(forecast.seq, "GUARD:max_spread", "31 points")]
    assert rows(file, "SELECT feed, deal, price, requested FROM fills") == [("Demo", 51, 1.1, None)]


def ack(seq, bar, code="NOOP"):
    return Ack(unique_id="EURUSD-H1", bar_time_ms=bar * HOUR, code=code, text="", dry_run=True, epoch=7, seq=seq, re=2)


def test_a_terminal_started_again_counts_from_one_and_none_of_its_acks_is_lost(file):
    with Journal(file) as journal:
        for told in (ack(3, 1, "TAKEN"), ack(3, 1, "TAKEN"), ack(3, 1, "DUP"), ack(3, 2)):
            journal.add_ack("ea", told, 0)
    assert rows(file, "SELECT bar_time_ms, code FROM acks ORDER BY 1, 2") == [
        (HOUR, "DUP"),
        (HOUR, "TAKEN"),
        (2 * HOUR, "NOOP"),
    ]


def test_a_journal_of_before_gets_the_new_key_of_acks_and_keeps_its_rows(file):
    with Journal(file) as journal:
        journal.add_ack("ea", ack(3, 1, "TAKEN"), 0)
    with sqlite3.connect(file) as base:
        (made,) = base.execute("SELECT sql FROM sqlite_master WHERE name = 'acks'").fetchone()
        base.execute("ALTER TABLE acks RENAME TO moved")
        base.execute(made.replace("(epoch, client, seq, bar_time_ms, code)", "(epoch, client, seq)"))
        base.execute("INSERT INTO acks SELECT * FROM moved")
        base.execute("DROP TABLE moved")
    for _ in range(2):
        with Journal(file) as journal:
            journal.add_ack("ea", ack(3, 2), 0)
    assert rows(file, "SELECT bar_time_ms, code FROM acks ORDER BY 1") == [(HOUR, "TAKEN"), (2 * HOUR, "NOOP")]


def test_bars_of_the_journal_are_a_source(file):
    with running(stub.desk("EURUSD-H1"), journal=file) as address, Client.connect(address, "EURUSD-H1") as client:
        client.backfill(closed(1, 5))
        bars = load_bars("journal:EURUSD,H1")
    assert bars.instrument.unique_id == "EURUSD-H1"
    assert (bars.instrument.digits, bars.instrument.close_only) == (5, False)
    assert bars.times.tolist() == [(START + n) * HOUR * 1_000_000 for n in range(1, 6)]
    wanted = np.array([bar[1:] for bar in closed(1, 5)])
    assert np.array_equal(bars.frame.to_numpy(), wanted)


def test_a_spread_that_was_not_known_is_nan(file):
    with running(stub.desk("EURUSD-H1"), journal=file) as address, Client.connect(address, "EURUSD-H1") as client:
        client.backfill([bar._replace(spread=-1.0) for bar in closed(1, 5)])
    assert np.isnan(load_bars("journal:eurusd,h1").frame["spread"]).all()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("journal:EURUSD", "name symbol and timeframe"),
        ("journal:GBPUSD,H1", "has EURUSD,H1,one; EURUSD,H1,two"),
        ("journal:EURUSD,H1", "several feeds have it \\(one, two\\)"),
        ("journal:EURUSD,H1,three", "has EURUSD,H1,one"),
    ],
)
def test_what_the_journal_does_not_have_is_told_with_what_it_has(file, source, words):
    with running(stub.desk("EURUSD-H1"), journal=file) as address:
        for feed in ("one", "two"):
            with Client.connect(address, "EURUSD-H1", feed=feed) as client:
                client.backfill(closed(1, 5))
    with pytest.raises(DataError, match=words):
        load_bars(source)
    assert len(load_bars("journal:EURUSD,H1,two")) == 5


def test_a_missing_or_foreign_file_is_told_with_the_cure(file, tmp_path):
    with pytest.raises(DataError, match="TUNETRADE_JOURNAL"):
        load_bars("journal:EURUSD,H1")
    file.parent.mkdir()
    file.write_text("no database at all, but long enough to be taken for one" * 50)
    with pytest.raises(DataError, match="cannot be read as a journal"):
        load_bars("journal:EURUSD,H1")
    with pytest.raises(UserError, match="--journal"):
        Journal(file)


def test_an_epoch_grows_even_if_the_clock_goes_back(file):
    with Journal(file) as journal:
        assert journal.new_epoch(1_000) == 1_000
        assert journal.new_epoch(900) == 1_001


def test_a_disk_that_is_full_takes_no_bar_and_the_link_goes_on_when_there_is_room(file):
    """SQLite's own bound on the size of a file stands in for the disk's."""
    with running(stub.desk("EURUSD-H1"), journal=file) as address, Client.connect(address, "EURUSD-H1") as client:
        client.backfill(closed(1, 5))
    full = Journal(file)
    size = full._base.execute("PRAGMA page_count").fetchone()[0]
    full._base.execute(f"PRAGMA max_page_count={size}")
    with pytest.raises(sqlite3.Error, match="full"):
        full.add_bars("", "EURUSD-H1", [tuple(bar) for bar in closed(6, 5_000)])
    assert rows(file, "SELECT count(*) FROM bars") == [(5,)]
    full._base.execute("PRAGMA max_page_count=1000000")
    full.add_bars("", "EURUSD-H1", [tuple(bar) for bar in closed(6, 7)])
    full.close()
    assert rows(file, "SELECT count(*) FROM bars") == [(7,)]


def test_a_bar_the_journal_cannot_take_is_refused_and_may_be_sent_again(file, monkeypatch):
    original, broken = Journal.add_bars, [True]

    def failing(self, *arguments):
        if broken[0]:
            raise sqlite3.OperationalError("database or disk is full")
        original(self, *arguments)

    with running(stub.desk("EURUSD-H1"), journal=file) as address, Client.connect(address, "EURUSD-H1") as client:
        client.backfill(closed(1, 5))
        monkeypatch.setattr(Journal, "add_bars", failing)
        with pytest.raises(LinkError, match="disk is full") as caught:
            client.send_bar(closed(6, 6)[0])
        assert caught.value.code == "internal"
        broken[0] = False
        assert client.send_bar(closed(6, 6)[0]).TYPE == "forecast"
