"""`tunetrade replay` and `tunetrade export-tester` as a user runs them."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small import inside

from bridge.terminal import build as terminal
from bridge.terminal.build import EXPERT, BuildError, build, compiler
from forecasting.calendars import FxWeek
from forecasting.files import read_json, write_json
from forecasting.zones import from_utc
from tunetrade.cli import main
from tunetrade.ledger import trials
from tunetrade.replay import OFF, offline
from tunetrade.replay_market import broker_clock, market_text, trades_of_deals
from tunetrade.replay_run import Asked, case_of_run

STUDY = """
name = "hours"
series = ["EURUSD_H1.csv"]
base = "BASE"
methods = []
baselines = ["ewma-t"]
benchmarks = []
[source]
server_tz = "us-dst"
[windows]
context = 16
horizon = 3
[codec]
half_lives = [3.0]
weights = [1.0]
hour_of_week = false
[split]
train_start = 2021-01-01
validation_start = 2021-02-22
test_start = 2021-03-08
test_end = 2021-03-20
[sampling]
paths = 8
[trading]
signal = "mean-vs-context"
sizing = "risk"
stop = "atr:2.0"
trailing = "atr:2.5"
resize = true
[broker]
account = "hedging"
commission_per_lot = 3.5
hours = "03:00-22:00"
friday_close = "21:00"
"""
RUN = "runs/hours/EURUSD-H1/ewma-t/0"


def needs_compiler():
    try:
        compiler()
    except BuildError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A folder with a finished study of hourly bars in broker's time; New York's clock changes within its test part."""
    folder = tmp_path_factory.mktemp("hours")
    rng = np.random.default_rng(4)
    times = FxWeek("H1").between(np.datetime64("2021-01-04", "ns"), np.datetime64("2021-03-26", "ns"))
    path = 120_000 + np.cumsum(rng.integers(-25, 26, (len(times), 6)).ravel()).reshape(-1, 6)
    opens = from_utc(times - np.timedelta64(1, "h"), "us-dst")
    columns = {"open": path[:, 0], "high": path.max(1), "low": path.min(1), "close": path[:, -1]}
    frame = pd.DataFrame(columns, index=pd.DatetimeIndex(opens, name="time")) / 1e5
    frame.assign(volume=1).to_csv(folder / "EURUSD_H1.csv")
    (folder / "hours.toml").write_text(STUDY.replace("BASE", tiny_base.as_posix()), encoding="utf-8")
    with inside(folder, "tunetrade.study.run_cells"):
        assert main(["study", "hours.toml", "--json"]) == 0
    return folder


def test_what_is_exported_makes_the_tester_trade_the_backtest(
    hours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_compiler()
    monkeypatch.chdir(hours)
    target = tmp_path / "common" / "TuneTrade" / "EURUSD-H1.csv"
    target.parent.mkdir(parents=True)
    assert main(["export-tester", RUN, "--out", str(target), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    lines = target.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "tunetrade-targets 2 EURUSD-H1" and told["rows"] == len(lines) - 2
    case = case_of_run(Asked(RUN), 30)
    wanted = offline(case)
    bars = wanted.traded
    file_opens = [int(line.split(",")[0]) for line in lines[2:]]
    stamps = pd.read_csv("EURUSD_H1.csv", parse_dates=["time"])["time"].astype("datetime64[s]").astype(np.int64)
    assert set(file_opens) <= set(stamps) and len(np.unique(np.diff(from_utc(bars.times, "us-dst") - bars.times))) == 2
    clock = broker_clock(bars, "us-dst")
    (tmp_path / "market").write_text(market_text(bars, wanted.market, clock, case.broker, "USD"))
    inputs = {**OFF, "InpFridayClose": ""}
    process = build(EXPERT).start(inputs, {"MARKET": tmp_path / "market", "FILES": tmp_path, "IN_TESTER": 1})
    out, _ = process.communicate(timeout=30)
    events = [line.split("\t", 1) for line in out.splitlines()]
    live = trades_of_deals([json.loads(text) for kind, text in events if kind == "deal"])
    rows = sorted([t.entry_bar, t.exit_bar, t.lots, t.entry_price, t.exit_price] for t in live)
    ours = sorted(
        [int(t.entry_bar), int(t.exit_bar), t.units / 1e5, *t[["entry_price", "exit_price"]]] for t in wanted.run.trades
    )
    assert len(ours) > 20
    np.testing.assert_allclose(rows, ours, rtol=0, atol=1e-9)


def test_a_run_is_replayed_from_the_command_line(
    hours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the process of the models, over the weekend of the change to summer time; another account is a trial."""
    needs_compiler()
    monkeypatch.chdir(hours)
    tried = trials(Path("runs/ledger.jsonl"))
    days = ["--from", "2021-03-11", "--to", "2021-03-16"]
    assert main(["replay", RUN, *days, "--account", "netting", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["equal"] and record["trades"][0] > 5 and record["account"] == "netting"
    assert record["forecasts"] == record["bars"] - 1 and record["from"].startswith("2021-03-11")
    assert read_json(Path(RUN) / "replay.json") == record
    assert main(["backtest", RUN, "--set", "broker.account=netting"]) == 0  # the same trial, of the whole test part
    (added,) = trials(Path("runs/ledger.jsonl"))[len(tried) :]
    assert added["settings"]["broker"]["account"] == "netting"
    assert added["days"] == tried[0]["days"] and added["daily_returns"] != tried[0]["daily_returns"]


@pytest.mark.slow
def test_bars_from_elsewhere_are_replayed(
    hours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_compiler()
    monkeypatch.chdir(hours)
    shutil.copy("EURUSD_H1.csv", "later_EURUSD_H1.csv")
    options = ["--from", "2021-03-22", "--to", "2021-03-23", "--out", "other.json"]
    assert main(["replay", RUN, "--bars", "later_EURUSD_H1.csv", *options]) == 0
    shown = capsys.readouterr().out
    assert "equal: every trade" in shown and "report: other.json" in shown
    assert read_json(Path("other.json"))["forecasts"] > 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "runs/none"], "is no run folder"),
        (["replay", "BENCHMARK"], "forecasts nothing"),
        (["replay", "UNFINISHED"], "run `tunetrade forecast"),
        (["replay", RUN, "--from", "soon"], "must be a day"),
        (["replay", RUN, "--from", "2022-01-01"], "choose such days"),
        (["replay", RUN, "--account", "hedgin"], "hedging"),
        (["replay", RUN, "--bars", "GBPUSD_H1.csv"], "give the same series"),
        (["export-tester", RUN, "--server-tz", "Mars"], "Mars"),
        (["export-tester", "UNFINISHED"], "run `tunetrade forecast"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    hours: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(hours)
    monkeypatch.setattr(terminal, "compiler", lambda: ["true"])
    shutil.copy("EURUSD_H1.csv", "GBPUSD_H1.csv")
    folders = {"BENCHMARK": {"kind": "benchmark"}, "UNFINISHED": {"stages": {}}}
    for name, change in folders.items():
        write_json(Path(name) / "run.json", read_json(Path(RUN) / "run.json") | change)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") <= 2


def test_without_a_compiler_the_cure_is_told(
    hours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(hours)
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["replay", RUN]) == 2
    assert "pip install ziglang" in capsys.readouterr().err


def test_fixings_cannot_be_exported(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    assert main(["export-tester", "runs/small/EURUSD-D1/full/1"]) == 2
    assert "fixings" in capsys.readouterr().err


@pytest.mark.slow
def test_fixings_are_replayed(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()
    monkeypatch.chdir(finished)
    run = "runs/small/EURUSD-D1/full/1"
    assert main(["replay", run, "--out", str(tmp_path / "replay.json")]) == 0
    record = read_json(tmp_path / "replay.json")
    assert record["equal"] and record["forecasts"] == record["bars"] - 1 > 10
