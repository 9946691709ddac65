"""A study end to end: files, report, resume, a failing cell, and what changes redo."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small import contents, partials, write_study

from forecasting.bars import load_bars
from forecasting.files import read_json
from forecasting.forecasts import from_table
from strategies.backtest import targets
from tunetrade.cell import read_cell, run_cell
from tunetrade.cli import main
from tunetrade.config import load_study
from tunetrade.ledger import trials
from tunetrade.locks import only_one
from tunetrade.report import write_report
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
    assert sorted(trial["method"] for trial in found) == ["buy-and-hold", "full", "random-walk"]
    assert all(len(trial["days"]) == len(trial["daily_returns"]) > 20 for trial in found)


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
    run["config"]["trading"]["spread_points"] = 30.0
    (folder / "run.json").write_text(json.dumps(run))
    seen: list[str] = []
    run_cell(folder, lambda message: seen.append(message.get("stage", "")))
    assert seen == ["backtest", "done"]
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


def test_a_second_study_in_the_same_folder_is_refused(copy: Path) -> None:
    with (
        only_one(Path("runs/small/.lock"), "busy"),
        pytest.raises(ValueError, match=r"another tunetrade is at work in .*small; wait"),
    ):
        run_study(load_study(Path("small.toml")), Path("runs"))


def test_backtest_and_forecast_of_a_run(copy: Path, capsys: pytest.CaptureFixture) -> None:
    before = contents(Path("runs"))
    folder = "runs/small/EURUSD-D1/full/1"
    assert main(["backtest", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"] == read_json(Path(folder) / "backtest.json")["figures"]
    assert main(["backtest", folder, "--set", "spread_points=100", "--set", "trading.lots=0.2", "--out", "o p"]) == 0
    assert {path.name for path in Path("o p").iterdir()} == {"trades.parquet", "equity.parquet", "backtest.json"}
    assert main(["backtest", folder, "--set", "spred_points=3"]) == 2
    assert "did you mean 'trading.spread_points'?" in capsys.readouterr().err
    assert main(["forecast", folder, "--latest", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert len(steps) == 3
    assert all(step["q05"] < step["q50"] < step["q95"] for step in steps)
    assert main(["forecast", folder, "--latest", "--source", "ecb:USDJPY"]) == 2
    assert main(["forecast", "runs/small/EURUSD-D1/buy-and-hold/0"]) == 2
    assert main(["forecast", "nowhere"]) == 2
    assert main(["report", "nowhere"]) == 2
    assert contents(Path("runs")) == before


def test_another_sampling_seed_keeps_positions(copy: Path) -> None:
    """Check 6; the share itself is measured on the real base, where forecasts are not noise."""
    assert 0 <= kept_positions(Path("runs/small/EURUSD-D1/full/1"), seed=2) <= 1
    assert kept_positions(Path("runs/small/EURUSD-D1/full/1"), seed=1) == 1


def kept_positions(folder: Path, seed: int) -> float:
    """Share of the test part's positions that stay when the paths are drawn with another seed."""
    from dataclasses import replace

    from forecasting.evaluate import rolling_forecasts
    from tunetrade.forecasters import forecaster_of
    from tunetrade.prepared import prepare

    cell = read_cell(folder)
    other = replace(cell, study=replace(cell.study, sampling=replace(cell.study.sampling, seed=seed)))
    bars = load_bars(cell.source, cell.study.source)
    prepared = prepare(other.study, bars)
    table = rolling_forecasts(forecaster_of(other, prepared), bars, cell.study.windows, prepared.split.test)
    rules, context = cell.study.trading, cell.study.windows.context
    tables = (pd.read_parquet(cell.paths.forecasts), table)
    one, two = ([t.position for t in targets(bars, from_table(each), rules, context)] for each in tables)
    return float(np.mean(np.array(one) == np.array(two)))


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
