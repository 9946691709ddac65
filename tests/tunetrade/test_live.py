"""`tunetrade serve`: a dry run as a new user would do it, and what it shows."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bridge.client import Client, ClosedBar
from forecasting.bars import load_bars
from forecasting.errors import UserError
from tunetrade.cli import main
from tunetrade.live import desks, usual_spread
from tunetrade.live_table import CLIENTS, LiveTable, event_line
from tunetrade.verbs_live import Show

RUNS = "runs/small/EURUSD-D1"


@contextlib.contextmanager
def serving(folder: Path, journal: Path, *options: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The command in a process; its port, and after the block, ended by Ctrl-C, its events."""
    command = [sys.executable, "-m", "tunetrade", "serve", f"{RUNS}/full/1", f"{RUNS}/random-walk/0", "--port", "0"]
    child = subprocess.Popen(
        [*command, "--log-json", "--journal", str(journal), *options],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    events: list[dict[str, Any]] = []
    try:
        assert child.stdout is not None
        port = None
        while port is None:  # who waited while the models loaded is welcomed before the server says where it listens
            line = child.stdout.readline()
            assert line, child.stderr and child.stderr.read()
            port = json.loads(line).get("port")
        yield port, events
        child.send_signal(signal.SIGINT)
        rest, errors = child.communicate(timeout=20)
        assert child.returncode == 0, errors
        events += [json.loads(line) for line in rest.splitlines()]
    finally:
        child.kill()
        child.wait()


def rows_until(cutoff: pd.Timestamp) -> list[ClosedBar]:
    bars = load_bars("ecb:EURUSD")
    times = (bars.times.astype(np.int64) // 1_000_000).tolist()
    last = times.index(cutoff.value // 1_000_000)
    return [ClosedBar.flat(*pair) for pair in zip(times[: last + 1], bars.closes.tolist(), strict=False)]


def dry_run(folder: Path, journal: Path, restarts: int) -> list[dict[str, Any]]:
    """Serve, follow some bars of the test part, Ctrl-C, and all over again; the events of the first time."""
    models = ("full/1", "random-walk/0")
    wanted = {model: pd.read_parquet(folder / RUNS / model / "forecasts.parquet") for model in models}
    cutoffs = wanted["full/1"]["cutoff"].drop_duplicates().tolist()
    first: list[dict[str, Any]] = []

    def check(model: str, forecast: Any, cutoff: pd.Timestamp) -> None:
        rows = wanted[model][wanted[model]["cutoff"] == cutoff].sort_values("h")
        assert list(forecast.mean) == rows["mean"].tolist()
        assert [list(forecast.q05), list(forecast.q95)] == [rows["q05"].tolist(), rows["q95"].tolist()]
        assert list(forecast.p_up) == rows["p_up"].tolist()
        assert forecast.input_sha == rows["input_sha"].iloc[0]

    for run in range(1 + restarts):
        at, newest = 4 * run, cutoffs[4 * run - 1].value // 1_000_000 if run else 0
        with serving(folder, journal) as (port, events):
            for model in models:
                address = f"tcp://127.0.0.1:{port}"
                with Client.connect(address, "EURUSD-D1", model=model, feed="Demo", timeout_s=20) as client:
                    assert model == "random-walk/0" or client.welcome.from_ms == newest
                    check(model, client.backfill(rows_until(cutoffs[at])), cutoffs[at])
                    for cutoff in cutoffs[at + 1 : at + 4]:
                        forecast = client.send_bar(rows_until(cutoff)[-1])
                        check(model, forecast, cutoff)
                    client.ack(forecast, "NOOP")
        first = first or events
    return first


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C of another process")
def test_a_dry_run_gives_the_forecasts_of_the_study(finished: Path, tmp_path: Path) -> None:
    events = dry_run(finished, tmp_path / "journal.sqlite", restarts=0)
    assert [event["event"] for event in events].count("forecast") == 8
    assert events[-1]["event"] == "stopped"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C of another process")
def test_a_dry_run_goes_on_after_restarts(finished: Path, tmp_path: Path) -> None:
    dry_run(finished, tmp_path / "journal.sqlite", restarts=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs/none"], "no such run folder"),
        ([f"{RUNS}/random-walk/0", "--host", "0.0.0.0"], "secret"),
        ([f"{RUNS}/random-walk/0", "--secret-file", "none.txt"], "write the secret"),
        ([f"{RUNS}/random-walk/0", "--port", "70000"], "port 70000"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(finished)
    assert main(["serve", *arguments, "--journal", str(tmp_path / "j.sqlite")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("run", "words"), [(".", "has no run.json"), (f"{RUNS}/buy-and-hold/0", "kind benchmark")])
def test_a_run_without_forecasts_of_its_own_is_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch, run: str, words: str
) -> None:
    monkeypatch.chdir(finished)
    with pytest.raises(UserError, match=words):
        desks([run])


def test_a_desk_trades_by_the_rules_of_its_study(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    (desk,) = desks([f"{RUNS}/random-walk/0"])
    assert (desk.facts.key, desk.tf_sec, desk.close_only) == ("EURUSD-D1/random-walk/0", 86_400, True)
    assert desk.spread == pytest.approx(10 * 1e-5)
    with pytest.raises(UserError, match="named twice"):
        desks([f"{RUNS}/random-walk/0"] * 2)
    bars = load_bars("ecb:EURUSD")
    bars = replace(bars, frame=bars.frame.assign(spread=np.arange(len(bars)) % 21.0))
    assert usual_spread(bars, replace(desk.signal.broker, spread_points="data")) == pytest.approx(10e-5, rel=0.1)


WELCOME = {
    "event": "welcome", "ts_ms": 0, "client": "ea-1", "unique_id": "EURUSD-H1", "model_id": "lora/1", "accepted": True,
    "reason": "",
}  # fmt: skip
BARS = {
    "event": "bars", "ts_ms": 0, "client": "ea-1", "unique_id": "EURUSD-H1", "count": 2,
    "bar_time_ms": 1_700_000_400_000, "close": 1.0671, "spread": 8.0, "equity": 1e4, "position": 0.0,
}  # fmt: skip
FORECAST = {
    "event": "forecast", "ts_ms": 1_000, "client": "ea-1", "unique_id": "EURUSD-H1", "model_id": "lora/1",
    "bar_time_ms": 1_700_000_400_000, "valid_until_ms": 50_000, "close_ref": 1.0671, "mean": 1.0702, "position": -1.0,
    "lots": 0.1, "stop": None, "take_profit": None, "reason": "short: because", "latency_ms": 12.5, "model_ms": 9.0,
}  # fmt: skip


def test_the_table_shows_each_client_with_its_newest_forecast_and_percentiles() -> None:
    table = LiveTable()
    table.take({"event": "listening", "ts_ms": 0, "host": "127.0.0.1", "port": 5757, "epoch": 3, "desks": []})
    table.take(WELCOME)
    assert table.lines(0, 200)[2].split() == ["ea-1", "EURUSD-H1", "lora/1", *"-------", "0"]
    table.take(BARS)
    for latency in range(1, 101):
        table.take({**FORECAST, "latency_ms": float(latency)})
    table.take({"event": "error", "ts_ms": 0, "client": "ea-1", "code": "gap", "text": "bars are missing"})
    table.take({"event": "ack", "ts_ms": 0, "client": "ea-1", "code": "GUARD:hours"})
    head, heads, row, trouble = table.lines(31_000, 200)
    assert trouble == "last error 00:00:00 ea-1, gap: bars are missing"
    assert head.startswith("listening on 127.0.0.1:5757")
    for wanted in ("2023-11-14 22:20", "1.0671", "short 0.1 -> 1.0702", "30s", "50.0", "99.0", "GUARD:hours"):
        assert wanted in row
    assert row.endswith("1")
    assert heads.split()[-1] == "errors"
    assert "late" in table.lines(51_000, 200)[2]
    assert all(len(line) <= 40 for line in table.lines(0, 40))
    table.take({"event": "forgotten", "ts_ms": 0, "client": "ea-1"})
    assert len(table.lines(0, 200)) == 3


@pytest.mark.parametrize(("text", "words"), [("{", "not JSON"), ("[]", "a JSON object"), ("{}", "it lacks 'config'")])
def test_a_damaged_run_json_is_told_with_its_cure(tmp_path: Path, text: str, words: str) -> None:
    folder = tmp_path / "EURUSD-D1" / "full" / "1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(text)
    with pytest.raises(UserError, match=rf"run.json cannot be read \({words}.*; run the study again$"):
        desks([str(folder)])


def words(lines: list[str]) -> list[str]:
    return " ".join(lines).split()


def test_a_narrow_terminal_shows_every_column_in_several_lines() -> None:
    table = LiveTable()
    for event in (WELCOME, BARS, FORECAST, {"event": "ack", "ts_ms": 0, "client": "ea-1", "code": "GUARD:max_spread"}):
        table.take(event)
    wide = table.lines(31_000, 300)
    assert len(wide) == 2
    for width in (80, 60, 40):
        narrow = table.lines(31_000, width)
        assert len(narrow) > 2 and max(map(len, narrow)) <= width
        assert words(narrow) == words(wide)


def test_where_there_is_no_room_the_clients_heard_last_are_shown() -> None:
    table = LiveTable()
    for number in range(30):
        table.take({**WELCOME, "client": f"ea-{number}", "ts_ms": number})
    table.take({"event": "ack", "ts_ms": 99, "client": "ea-3", "code": "NOOP"})
    lines = table.lines(100, 200, 8)
    assert [line.split()[0] for line in lines] == ["client", "ea-3", "ea-25", "ea-26", "ea-27", "ea-28", "ea-29", "and"]
    assert lines[-1] == "and 24 more"
    assert len(table.lines(100, 40, 8)) <= 8


def test_who_has_no_session_has_no_row_but_the_newest_error_is_told() -> None:
    table = LiveTable()
    table.take({**WELCOME, "client": "00ab", "unique_id": "doctor-M1", "accepted": False, "reason": "not served"})
    assert len(table.lines(0, 200)) == 1
    table.take({"event": "error", "ts_ms": 61_000, "client": "00ac", "code": "auth", "text": "the proof is wrong"})
    assert table.lines(0, 200)[1:] == ["last error 00:01:01 00ac, auth: the proof is wrong"]
    table.take({**WELCOME, "accepted": False, "reason": "X-H1 is not served here", "ts_ms": 0})
    assert table.lines(0, 200)[1:] == ["last error 00:00:00 ea-1, X-H1 is not served here"]


def test_the_client_silent_longest_gives_way_where_there_are_too_many() -> None:
    table, welcome = LiveTable(), {"event": "welcome", "accepted": True, "unique_id": "EURUSD-D1", "model_id": "lora"}
    for number in range(CLIENTS):
        table.take({**welcome, "ts_ms": number, "client": f"ea-{number}"})
    table.take({"event": "bars", "ts_ms": CLIENTS, "client": "ea-0", "bar_time_ms": 0, "close": 1.0})
    table.take({"event": "error", "ts_ms": CLIENTS, "client": "stranger", "code": "json", "text": ""})
    table.take({**welcome, "ts_ms": CLIENTS, "client": "one-more"})
    assert len(table.clients) == CLIENTS and {"ea-0", "one-more"} <= set(table.clients)
    assert not {"ea-1", "stranger"} & set(table.clients)


def test_elsewhere_each_event_is_a_line_or_json() -> None:
    assert event_line(FORECAST) == (
        "00:00:01 forecast  ea-1 EURUSD-H1 lora/1: bar 2023-11-14 22:20, short 0.1 -> 1.0702, 12.5 ms, short: because"
    )
    assert "2 to 2023-11-14 22:20, close 1.0671" in event_line(BARS)
    assert event_line(WELCOME).startswith("00:00:00 welcome   client ea-1, unique_id EURUSD-H1")
    for as_json in (False, True):
        stream = io.StringIO()
        show = Show(as_json, stream)
        show.take(BARS)
        show.take(FORECAST)
        show.close()
        lines = stream.getvalue().splitlines()
        assert lines == (
            [json.dumps(BARS), json.dumps(FORECAST)] if as_json else [event_line(BARS), event_line(FORECAST)]
        )


def test_a_reader_that_does_not_read_holds_nothing_up() -> None:
    """A pipe that nobody empties takes 64 KiB; far more is said here, and every call returns."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w") as stream:
        show = Show(True, stream)
        for _ in range(20_000):
            show.take(BARS)
        assert len(show._events) > 0
        os.set_blocking(writing, False)
