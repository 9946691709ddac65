"""A study end to end: files, report, resume, a failing cell, and what changes redo."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small import contents, partials, write_study

from forecasting.bars import load_bars
from forecasting.base import Base, find_base
from forecasting.checkpoint import load_checkpoint, new_model, save_checkpoint
from forecasting.evaluate import rolling_forecasts
from forecasting.files import read_json
from forecasting.forecasts import from_table
from strategies.plans import targets
from tunetrade import provenance
from tunetrade.cell import fingerprints, read_cell, run_cell
from tunetrade.cli import main
from tunetrade.config import load_study, study_from
from tunetrade.ledger import trials
from tunetrade.locks import only_one
from tunetrade.prepared import prepare
from tunetrade.report import write_report
from tunetrade.report.load import read_study
from tunetrade.study import load_series, run_study
from tunetrade.workers import _death

Command = Callable[..., "subprocess.CompletedProcess[str]"]

BACKTEST = {"run.json", "trades.parquet", "equity.parquet", "backtest.json"}
FORECAST = BACKTEST | {"forecasts.parquet", "forecast.json"}
TRAIN = FORECAST | {"train.json", "checkpoint", "tensorboard"}


@pytest.fixture
def copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished study, to be spoilt; the current folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nothing(_: dict[str, Any]) -> None:
    pass


def test_every_file_of_the_documentation_is_there(finished: Path) -> None:
    cells = finished / "runs" / "small" / "EURUSD-D1"
    for name, files in (("full/1", TRAIN), ("random-walk/0", FORECAST), ("buy-and-hold/0", BACKTEST)):
        assert {path.name for path in (cells / name).iterdir()} == files
        run = read_json(cells / name / "run.json")
        assert (run["status"], run["failure"]) == ("done", None)
    keys = "study source unique_id kind method seed status failure config versions data_sha git instrument stages"
    assert set(keys.split()) <= set(run)
    train = read_json(cells / "full/1/train.json")
    keys = "seconds peak_memory_bytes trained_parameters total_parameters stored_bytes steps best_step history"
    assert set(keys.split()) <= set(train)
    assert train["steps"] == 4
    forecast = read_json(cells / "full/1/forecast.json")
    assert (train["threads"], train["jobs"]) == (1, os.cpu_count())
    assert (forecast["threads"], forecast["jobs"]) == (1, os.cpu_count())
    walk = read_json(cells / "random-walk/0/forecast.json")
    assert (walk["paths"], walk["paths_per_second"]) == (None, None)
    table = pd.read_parquet(cells / "full/1/forecasts.parquet")
    assert forecast["origins"] == table["cutoff"].nunique() > 20
    assert len(table) == 3 * forecast["origins"]


def test_the_report_the_status_and_the_json_of_a_study_with_a_failed_cell(finished: Path) -> None:
    assert (finished / "status.txt").read_text() == "1"
    outcome = json.loads((finished / "stdout.json").read_text())
    assert set(outcome["failed"]) == {"EURUSD-D1/adapter/1"}
    assert "out of memory" in outcome["failed"]["EURUSD-D1/adapter/1"]
    assert set(outcome["done"]) == {"EURUSD-D1/full/1", "EURUSD-D1/random-walk/0", "EURUSD-D1/buy-and-hold/0"}
    page = (finished / outcome["report"]).read_text(encoding="utf-8")
    assert "adapter" in page
    run = read_json(finished / "runs/small/EURUSD-D1/adapter/1/run.json")
    assert run["status"] == "failed"
    assert "--jobs 1" in run["failure"]
    assert "Traceback" not in (finished / "stderr.txt").read_text()
    assert partials(finished) == []


def test_each_trial_is_in_the_ledger_once(finished: Path) -> None:
    found = trials(finished / "runs" / "ledger.jsonl")
    assert sorted(trial["method"] for trial in found) == ["adapter", "buy-and-hold", "full", "random-walk"]
    failed = [trial for trial in found if "failed" in trial]
    assert [(trial["method"], "daily_returns" in trial) for trial in failed] == [("adapter", False)]
    assert "out of memory" in failed[0]["failed"]
    assert all(len(trial["days"]) == len(trial["daily_returns"]) > 20 for trial in found if trial not in failed)
    assert set(found[0]["settings"]) >= {"codec", "base", "source", "windows", "trading"}


def test_a_failure_is_counted_once_however_often_it_is_tried(copy: Path) -> None:
    outcome = run_study(load_study(Path("small.toml"), ["baselines=[]", "benchmarks=[]"]), Path("runs"))
    assert set(outcome.failed) == {"EURUSD-D1/adapter/1"}
    assert len(trials(Path("runs/ledger.jsonl"))) == 4


def test_code_base_and_rules_are_part_of_what_a_stage_depends_on(
    finished: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, base = read_cell(finished / "runs/small/EURUSD-D1/full/1"), find_base(str(tiny_base))

    def changed(base: Base) -> set[str]:
        return {name for name, value in fingerprints(cell, "sha", base).items() if before[name] != value}

    before = fingerprints(cell, "sha", base)
    assert changed(base) == set()
    assert changed(replace(base, card={**base.card, "cutoff": "2001-12-31"})) == {"train", "forecast", "backtest"}
    real = provenance.code_of
    for stage, redone in (("backtest", {"backtest"}), ("forecast", {"forecast", "backtest"})):
        with monkeypatch.context() as patch:
            patch.setattr("tunetrade.cell.code_of", lambda name, stage=stage: "new" if name == stage else real(name))
            assert changed(base) == redone


def test_code_is_known_by_its_sources_and_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("forecasting/sources/ecb.py", "strategies/rules.py", "tunetrade/cell.py", "tunetrade/cli.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("1")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    known = {stage: provenance.code_of.__wrapped__(stage) for stage in provenance.STAGE_SOURCES}

    def changed() -> set[str]:
        return {stage for stage, value in known.items() if provenance.code_of.__wrapped__(stage) != value}

    for file, stages in (
        ("tunetrade/cli.py", set()), ("strategies/rules.py", {"backtest", "validate"}),
        ("tunetrade/cell.py", set(known)), ("forecasting/sources/ecb.py", set(known)),
    ):  # fmt: skip
        (tmp_path / file).write_text("2")
        assert changed() == stages
        (tmp_path / file).write_text("1")
    real = provenance.package_version
    forecasts = {"train", "forecast", "validate"}
    for package, stages in (
        ("backtrader", {"backtest", "validate"}), ("scipy", forecasts), ("pandas", forecasts), ("matplotlib", set()),
    ):  # fmt: skip
        monkeypatch.setattr(provenance, "package_version", lambda name, new=package: "9" if name == new else real(name))
        assert changed() == stages


def test_an_unchanged_study_starts_no_process_and_touches_no_file(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def times() -> dict[Path, int]:
        files = (path for name in ("runs", "reports") for path in (copy / name).rglob("*"))
        return {path: path.stat().st_mtime_ns for path in files if path.is_file()}

    monkeypatch.setattr("subprocess.Popen", None)
    shutil.rmtree("runs/small/EURUSD-D1/adapter")
    write_report(Path("runs/small"), Path("reports/small"))
    assert main(["study", "small.toml", "--set", 'methods=["full"]']) == 0
    before = times()
    assert main(["study", "small.toml", "--set", 'methods=["full"]']) == 0
    assert times() == before


def test_a_change_of_trading_keeps_training_and_forecasts(copy: Path) -> None:
    folder = Path("runs/small/EURUSD-D1/full/1")
    before = contents(Path("runs"))
    run = read_json(folder / "run.json")
    run["config"]["broker"]["spread_points"] = 30.0
    run["git"] = run["versions"] = {"commit": "one that made what is about to be replaced"}
    (folder / "run.json").write_text(json.dumps(run))
    seen: list[str] = []
    run_cell(folder, lambda message: seen.append(message.get("stage", "")))
    assert seen == ["backtest", "done"]
    now = read_json(folder / "run.json")
    assert (now["git"], now["versions"]) == (provenance.git_state(), provenance.versions())
    after = contents(Path("runs"))
    changed = {name.split("/")[-1] for name in before if before[name] != after[name]}
    assert changed == {"run.json", "equity.parquet", "trades.parquet", "backtest.json"}


def test_a_stage_that_began_is_never_taken_for_the_one_before(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after new files stood but before they were recorded, a return to the old settings must not trust them."""
    folder = Path("runs/small/EURUSD-D1/random-walk/0")
    before = contents(Path("runs"))
    run = read_json(folder / "run.json")
    changed = json.loads(json.dumps(run))
    changed["config"]["sampling"]["seed"] = 9
    (folder / "run.json").write_text(json.dumps(changed))
    with monkeypatch.context() as killed:
        killed.setattr("tunetrade.cell.mark", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run_cell(folder, nothing)
    left = read_json(folder / "run.json")
    assert left["stages"] == {}
    assert left["status"] == "pending"
    (folder / "run.json").write_text(json.dumps({**left, "config": run["config"]}))
    run_cell(folder, nothing)
    (folder / "run.json").write_text(json.dumps({**read_json(folder / "run.json"), "status": "done"}))
    assert contents(Path("runs")) == before


def test_files_deleted_by_hand_are_made_again(copy: Path) -> None:
    folder = Path("runs/small/EURUSD-D1/random-walk/0")
    before = contents(Path("runs"))
    (folder / "forecasts.parquet").unlink()
    assert main(["forecast", str(folder)]) == 0
    assert read_json(folder / "run.json")["status"] == "pending"
    assert set(read_json(folder / "run.json")["stages"]) == {"forecast"}
    outcome = run_study(load_study(Path("small.toml"), ['methods=["full"]']), Path("runs"))
    assert outcome.done == ("EURUSD-D1/random-walk/0",) or set(outcome.skipped) == {"EURUSD-D1/full/1"}
    after = contents(Path("runs"))
    assert {name for name in before if before[name] != after[name]} <= {
        f"small/EURUSD-D1/{cell}/run.json" for cell in ("full/1", "random-walk/0", "buy-and-hold/0")
    }


def test_a_damaged_run_json_is_a_cell_to_run(copy: Path) -> None:
    Path("runs/small/EURUSD-D1/buy-and-hold/0/run.json").write_text("{")
    outcome = run_study(load_study(Path("small.toml"), ["methods=[]", "baselines=[]"]), Path("runs"))
    assert outcome.done == ("EURUSD-D1/buy-and-hold/0",)
    assert set(outcome.left_over) == {f"EURUSD-D1/{name}" for name in ("full/1", "adapter/1", "random-walk/0")}
    assert [cell.method for cell in read_study(Path("runs/small")).cells] == ["buy-and-hold"]


def test_a_second_study_in_the_same_folder_is_refused(copy: Path) -> None:
    with (
        only_one(Path("runs/small/.lock"), "busy"),
        pytest.raises(ValueError, match=r"another tunetrade is at work in .*small; wait"),
    ):
        run_study(load_study(Path("small.toml")), Path("runs"))


def test_backtest_and_forecast_of_a_run(copy: Path, capsys: pytest.CaptureFixture) -> None:
    before = contents(Path("runs"))
    folder = "runs/small/EURUSD-D1/full/1"
    for name in (folder, "runs/small/EURUSD-D1/buy-and-hold/0"):
        assert main(["backtest", name, "--json", "--out", "own"]) == 0
        assert json.loads(capsys.readouterr().out) == read_json(Path(name) / "backtest.json")
        assert (Path("own") / "backtest.json").read_bytes() == (Path(name) / "backtest.json").read_bytes()
    assert len(trials(Path("runs/ledger.jsonl"))) == 4
    changed = ["--set", "spread_points=100", "--set", "trading.lots=0.2", "--out", "o p"]
    assert main(["backtest", folder, *changed]) == main(["backtest", folder, *changed]) == 0
    assert {path.name for path in Path("o p").iterdir()} == {"trades.parquet", "equity.parquet", "backtest.json"}
    assert main(["tester", "o p"]) == 0
    assert "EURUSD" in (Path("o p") / "tester.csv").read_text(encoding="utf-8-sig")
    capsys.readouterr()
    *_, added = found = trials(Path("runs/ledger.jsonl"))
    assert len(found) == 5
    settings = added["settings"]
    assert (added["method"], settings["trading"]["lots"], settings["broker"]["spread_points"]) == ("full", 0.2, 100.0)
    assert main(["backtest", folder, "--set", "spred_points=3"]) == 2
    assert "did you mean 'broker.spread_points'?" in capsys.readouterr().err
    assert main(["forecast", folder, "--latest", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert len(steps) == 3
    assert all(step["q05"] < step["q50"] < step["q95"] for step in steps)
    assert main(["forecast", folder, "--latest", "--source", "ecb:USDJPY"]) == 2
    assert main(["forecast", "runs/small/EURUSD-D1/buy-and-hold/0"]) == 2
    assert main(["forecast", "nowhere"]) == 2
    assert main(["report", "nowhere"]) == 2
    assert contents(Path("runs")) == before


def test_a_backtest_of_other_bars_is_refused(copy: Path, capsys: pytest.CaptureFixture) -> None:
    folder = Path("runs/small/EURUSD-D1/full/1")
    (folder / "run.json").write_text(json.dumps({**read_json(folder / "run.json"), "data_sha": "0" * 64}))
    assert main(["backtest", str(folder)]) == 2
    assert "other bars" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signal", "least_traded"), [("mean-vs-context", 0.9), ("mean-vs-last", 0.1), ("threshold", 0.02)]
)
def test_another_sampling_seed_keeps_positions(
    signal: str, least_traded: float, untuned_twice: tuple[Any, ...]
) -> None:
    """On the base as it ships; the share that is not flat shows that something is compared."""
    first, second = positions_of(signal, untuned_twice)
    assert np.mean(first == second) >= 0.95
    assert np.mean(first != 0) >= least_traded
    assert not np.any(first * second < 0)


def positions_of(signal: str, forecast_twice: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The positions a signal takes on the forecasts of one sampling seed, and of another."""
    bars, study, *tables = forecast_twice
    rules, context = replace(study.trading, signal=signal, threshold_k=0.25), study.windows.context
    one, other = (
        np.array([target.position for target in targets(bars, from_table(table), rules, context)]) for table in tables
    )
    return one, other


@pytest.fixture(scope="module")
def untuned_twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """Recent bars forecast by the embedded base, untuned, under two sampling seeds."""
    study = study_from({"name": "s", "series": ["ecb:EURUSD"], "methods": ["untuned"]}, ["sampling.paths=64"])
    bars = load_bars("ecb:EURUSD")
    folder, options = tmp_path_factory.mktemp("untuned") / "checkpoint", study.options_of("untuned")
    model = new_model("embedded", "untuned", options)
    save_checkpoint(folder, model, "untuned", options, study.windows, prepare(study, bars).codec, "embedded")
    positions = np.arange(len(bars) - 750, len(bars))
    forecasters = (load_checkpoint(folder, replace(study.sampling, seed=seed))[0] for seed in (1, 2))
    return bars, study, *(rolling_forecasts(each, bars, study.windows, positions) for each in forecasters)


def test_a_process_that_dies_says_how(tmp_path: Path) -> None:
    log = tmp_path / "stderr.log"
    assert "SIGKILL (out of memory?" in _death(-9, log)
    assert "SIGSEGV" in _death(-11, log)
    log.write_text("Traceback ...\nImportError: no torch\n\n")
    assert _death(1, log) == "its process ended with code 1: ImportError: no torch"


@pytest.mark.slow
def test_all_methods_on_two_series_do_not_depend_on_jobs(tmp_path: Path, tiny_base: Path) -> None:
    file = write_study(tmp_path, tiny_base)
    changes = [
        'series=["ecb:EURUSD", "ecb:NZDUSD"]', 'methods=["untuned", "full", "lora", "adapter"]',
        'baselines=["random-walk", "ewma-t"]', "method.adapter.bottleneck=4",
    ]  # fmt: skip
    study = load_study(file, changes)
    assert len(load_series(study)) == 2
    found = []
    for jobs in (1, 2):
        outcome = run_study(study, tmp_path / str(jobs), jobs)
        assert not outcome.failed
        assert len(outcome.done) == 14
        found.append(contents(tmp_path / str(jobs)))
        assert write_report(outcome.folder, tmp_path / "report").is_file()
    assert found[0] == found[1]
