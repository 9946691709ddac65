"""Walk-forward: no fold looks ahead, each origin is forecast once, and a walk ends the same however it was run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from small import contents, in_this_process, partials, study_values

from forecasting.bars import Bars, load_bars
from forecasting.base import find_base, load_model
from forecasting.checkpoint import load_tuned
from forecasting.errors import ConfigError
from forecasting.train import target_loss
from forecasting.windows import Split
from tunetrade import cell as cells_module
from tunetrade.cell import Cell, fingerprints, forecast, train
from tunetrade.cli import main
from tunetrade.config import StudyConfig, study_from
from tunetrade.prepared import prepare, prepare_split
from tunetrade.study import cells, open_cell, run_study
from tunetrade.walk import chosen_until, fold_cell, folds, folds_of, latest_forecaster, parts, until
from tunetrade.walk_options import WalkOptions
from tunetrade.walk_result import fold_errors, fold_profit

SILENT: Callable[[dict], None] = lambda message: None  # noqa: E731


def small(base: Path, walk: dict | None, *overrides: str) -> StudyConfig:
    """One trained method, the random walk and a fitted baseline; 27 test origins."""
    values = study_values(base) | {"methods": ["full"], "baselines": ["random-walk", "ar1"], "method": {}}
    values |= {"benchmarks": [], "walk": walk} if walk is not None else {"benchmarks": []}
    return study_from(values, overrides)


def run(study: StudyConfig, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tunetrade.study.run_cells", in_this_process)
    outcome = run_study(study, runs, jobs=1)
    assert not outcome.failed
    return runs / study.name / "EURUSD-D1"


def opened(study: StudyConfig, folder: Path, bars: Bars, method: str = "full") -> Cell:
    """A cell of the study that is about to work on these very bars."""
    cell = next(one for one in cells(study, folder, {"ecb:EURUSD": bars}) if one.method == method)
    open_cell(cell, bars, {})
    return cell


@pytest.mark.parametrize(
    ("options", "lengths"), [({"refit": 4}, [4, 4, 2]), ({"folds": 3}, [4, 4, 2]), ({"refit": 4, "folds": 2}, [4, 6])]
)
@pytest.mark.parametrize("window", ["expanding", "rolling:5"])
def test_folds_move_the_split_along_with_its_gaps(options: dict, lengths: list[int], window: str) -> None:
    plain = Split(np.arange(10, 20), np.arange(24, 30), np.arange(34, 44))
    found = folds(plain, WalkOptions(window=window, **options))
    assert [len(fold.split.test) for fold in found] == lengths
    assert np.concatenate([fold.split.test for fold in found]).tolist() == plain.test.tolist()
    for shift, fold in zip((0, 4, 8)[: len(lengths)], found, strict=True):
        train = range(10, 20 + shift) if window == "expanding" else range(15 + shift, 20 + shift)
        assert fold.split.train.tolist() == list(train)
        assert fold.split.validation.tolist() == list(range(24 + shift, 30 + shift))


def test_the_embargo_holds_in_every_fold_of_a_study(tiny_base: Path, eurusd: Bars) -> None:
    study = small(tiny_base, {"refit": 7, "window": "rolling:100"}, "split.embargo=6")
    found = folds_of(study, eurusd)
    assert len(found) == 4
    for fold in found:
        parts = fold.split
        assert parts.validation[0] - parts.train[-1] > 6
        assert parts.test[0] - parts.validation[-1] > 6
        assert parts.validation[-1] + study.windows.horizon < fold.known == parts.test[0]


def test_a_walk_of_one_fold_is_the_plain_run_bit_for_bit(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked = run(small(tiny_base, {"folds": 1}), tmp_path / "walked", monkeypatch)
    plain = run(small(tiny_base, None), tmp_path / "plain", monkeypatch)
    for cell in ("full/1", "random-walk/0"):
        for name in ("forecasts.parquet", "trades.parquet", "equity.parquet", "backtest.json"):
            assert (walked / cell / name).read_bytes() == (plain / cell / name).read_bytes()
    ours, theirs = contents(tmp_path / "walked"), contents(tmp_path / "plain")
    for name in theirs:
        if name.startswith(("small/EURUSD-D1/full", "small/EURUSD-D1/random-walk")) and not name.endswith("run.json"):
            assert ours[name] == theirs[name], name


def changed_after(bars: Bars, position: int) -> Bars:
    """The bars with other closes after a position, by returns drawn anew."""
    later = len(bars) - position - 1
    moves = np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.01, later)))
    frame = bars.frame.copy()
    for name in ("open", "high", "low", "close"):
        frame.iloc[position + 1 :, frame.columns.get_loc(name)] = bars.closes[position] * moves
    return replace(bars, frame=frame, instrument=replace(bars.instrument, sha256="f" * 64))


@pytest.mark.parametrize("method", ["full", "ar1"])
def test_what_comes_after_a_fold_changes_nothing_in_it(
    method: str, tmp_path: Path, tiny_base: Path, eurusd: Bars
) -> None:
    study = small(tiny_base, {"refit": 12, "warm_start": True})
    found = folds_of(study, eurusd)
    end = int(found[1].split.test[-1])  # of the second of three folds
    tables, cells_made = [], []
    for name, bars in (("as it was", eurusd), ("changed", changed_after(eurusd, end))):
        cell = opened(study, tmp_path / name, bars, method)
        if method == "full":
            train(cell, bars, "", SILENT)
        forecast(cell, bars, "", SILENT)
        tables.append(pd.read_parquet(cell.paths.forecasts))
        cells_made.append(cell)
    believed = [column for column in tables[0] if column not in ("y", "crps", "crps_noise")]
    known = [table[table["cutoff"] <= eurusd.frame.index[end]] for table in tables]
    known = [table[believed].reset_index(drop=True) for table in known]
    assert len(known[0]) == 24 * 3
    pd.testing.assert_frame_equal(*known, check_exact=True)
    assert not tables[0][believed].equals(tables[1][believed]), "the change reached nothing at all"
    if method == "full":
        for fold in found[:2]:
            one, other = (fold_cell(cell, fold).paths.checkpoint / "model.safetensors" for cell in cells_made)
            assert one.read_bytes() == other.read_bytes()


def test_a_fitted_baseline_is_fitted_anew_at_each_fold_up_to_its_first_forecast(
    tmp_path: Path, tiny_base: Path, eurusd: Bars
) -> None:
    """Closes up to the bar before the second fold change its forecasts; a plain run's fit ended long before."""
    study = small(tiny_base, {"refit": 12})
    known = folds_of(study, eurusd)[1].known
    frame = eurusd.frame.copy()
    at = known - 40  # in the validation slice, before every context of the test part
    frame.iloc[at, frame.columns.get_loc("close")] *= 1.05
    moved = replace(eurusd, frame=frame, instrument=replace(eurusd.instrument, sha256="e" * 64))
    tables = []
    for name, bars in (("as it was", eurusd), ("moved", moved)):
        cell = opened(study, tmp_path / name, bars, "ar1")
        forecast(cell, bars, "", SILENT)
        tables.append(pd.read_parquet(cell.paths.forecasts))
    second = [table[table["cutoff"] >= eurusd.frame.index[known]]["mean"] for table in tables]
    assert not np.allclose(*second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["full", "lora", "adalora", "prefix"])
def test_a_warm_start_begins_with_the_weights_the_fold_before_ended_with(
    method: str, tmp_path: Path, tiny_base: Path, eurusd: Bars
) -> None:
    walk = {"folds": 2, "warm_start": True}
    study = small(tiny_base, walk, "training.learning_rate=0.003", "training.steps=20").with_methods([method])
    cell = opened(study, tmp_path, eurusd, method)
    train(cell, eurusd, "", SILENT)
    one, two = folds_of(study, eurusd)
    data = prepare_split(study, until(eurusd, two.known), two.split).training_data(eurusd, study, method)
    started = json.loads((fold_cell(cell, two).paths.train).read_text())["history"][0]["validation_loss"]
    ended = target_loss(load_tuned(fold_cell(cell, one).paths.checkpoint).model, data.validation, data.context)
    assert started == pytest.approx(ended, rel=1e-6)
    base = target_loss(load_model(find_base(study.base)), data.validation, data.context)
    assert abs(started - base) > 1e-5 * base


def test_a_cold_start_begins_with_the_base_in_every_fold(tmp_path: Path, tiny_base: Path, eurusd: Bars) -> None:
    study = small(tiny_base, {"folds": 2})
    cell = opened(study, tmp_path, eurusd)
    train(cell, eurusd, "", SILENT)
    two = folds_of(study, eurusd)[1]
    data = prepare_split(study, until(eurusd, two.known), two.split).training_data(eurusd, study)
    started = json.loads((fold_cell(cell, two).paths.train).read_text())["history"][0]["validation_loss"]
    base = target_loss(load_model(find_base(study.base)), data.validation, data.context)
    assert started == pytest.approx(base, rel=1e-6)


KILL = """
import os, signal, sys
from pathlib import Path
from tunetrade.cell import run_cell

def emit(message):
    if message.get("stage", "").startswith("train fold 2") and message["step"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)

run_cell(Path(sys.argv[1]), emit)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_a_walk_killed_within_a_fold_ends_as_an_unbroken_one(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small(tiny_base, {"folds": 3, "warm_start": True, "warm_steps": 4}, "baselines=[]")
    unbroken = run(study, tmp_path / "unbroken", monkeypatch)
    cell = opened(study, tmp_path / "killed", load_bars("ecb:EURUSD"))
    killed = [sys.executable, "-c", KILL, str(cell.paths.folder)]
    assert subprocess.run(killed, check=False, timeout=120, env=os.environ).returncode == -signal.SIGKILL
    assert len(list((cell.paths.folder / "folds/002").glob("train-state-*"))) == 1
    first = (cell.paths.folder / "folds/001/checkpoint/model.safetensors").stat().st_mtime_ns
    again = run(study, tmp_path / "killed", monkeypatch)
    assert (again / "full/1/folds/001/checkpoint/model.safetensors").stat().st_mtime_ns == first, "trained twice"
    ours, theirs = contents(tmp_path / "killed"), contents(tmp_path / "unbroken")
    assert ours == theirs
    assert partials(tmp_path / "killed") == []
    assert json.loads((unbroken / "full/1/walk.json").read_text())["folds"][2]["steps"] == 4


def test_folds_of_a_shorter_series_serve_the_series_grown(
    tmp_path: Path, tiny_base: Path, eurusd: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[str] = []
    learn = cells_module.learn

    def counted(cell: Cell, *others: object) -> None:
        learnt.append(cell.paths.folder.name)
        learn(cell, *others)

    monkeypatch.setattr(cells_module, "learn", counted)
    study = small(tiny_base, {"refit": 10})
    cell = opened(study, tmp_path, eurusd)
    end = int(prepare(study, eurusd).split.test[-1])
    shorter = replace(study, split=replace(study.split, test_end=""))
    short_cell = replace(cell, study=shorter)
    train(short_cell, until(eurusd, end - 8), "", SILENT)
    train(cell, eurusd, "", SILENT)
    assert learnt == ["001", "002", "003"], "two of the shorter series, one more of the longer"
    other = replace(cell, study=replace(study, training=replace(study.training, steps=5)))
    train(other, eurusd, "", SILENT)
    assert learnt[3:] == ["001", "002", "003"]


def test_walk_json_says_how_each_fold_went(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = small(tiny_base, {"refit": 12})
    folder = run(study, tmp_path, monkeypatch)
    record = json.loads((folder / "full/1/walk.json").read_text())
    rows, equity = record["folds"], pd.read_parquet(folder / "full/1/equity.parquet")
    assert [row["test_windows"] for row in rows] == [12, 12, len(equity) - 24]
    profit = equity["equity"].iloc[-1] - study.broker.deposit
    assert sum(row["net_profit"] for row in rows) == pytest.approx(profit, abs=1e-6)
    table = pd.read_parquet(folder / "full/1/forecasts.parquet")
    whole = json.loads((folder / "full/1/forecast.json").read_text())["metrics"]["overall"]
    weights = [table["y"].notna()[table["cutoff"].between(row["test_start"], row["test_end"])].sum() for row in rows]
    assert np.average([row["crps"] for row in rows], weights=weights) == pytest.approx(whole["crps"], rel=1e-12)
    naive = json.loads((folder / "random-walk/0/walk.json").read_text())
    assert [row["mse_skill"] for row in naive["folds"]] == [0, 0, 0]
    assert naive["folds"][0]["best_step"] is None
    assert (folder / "full/1/walk.png").read_bytes().startswith(b"\x89PNG")
    assert load_file(folder / "full/1/checkpoint/model.safetensors").keys() == (
        load_file(folder / "full/1/folds/003/checkpoint/model.safetensors").keys()
    )


def test_figures_of_a_fold_by_hand() -> None:
    stamps = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"])
    own = pd.DataFrame(
        {"cutoff": stamps, "y": [2.0, 4.0, 1.0, np.nan], "mean": [1.0, 3.0, 1.0, 1.0], "anchor": [1.0, 2.0, 4.0, 1.0],
         "crps": [1.0, 2.0, 9.0, np.nan]}
    )  # fmt: skip
    other = own.assign(crps=[2.0, 4.0, 1.0, np.nan])
    found = fold_errors(own, other, stamps[:2].to_numpy())
    assert found == {"rmse": 1.0, "crps": 1.5, "mse_skill": pytest.approx(1 - 1 / 2.5), "crps_skill": 0.5}
    equity = pd.DataFrame({"time": stamps, "equity": [100.0, 90.0, 120.0, 115.0]})
    assert fold_profit(equity, stamps[:2].to_numpy(), 100.0) == -10.0
    assert fold_profit(equity, stamps[2:].to_numpy(), 100.0) == 25.0


@pytest.mark.parametrize(
    ("walk", "said"),
    [
        ({"folds": -2}, "walk.folds is -2"),
        ({"refit": -1}, "walk.refit is -1"),
        ({"refit": 5, "window": "rolling"}, "walk.window is 'rolling'"),
        ({"refit": 5, "window": "rolling:0"}, "walk.window is 'rolling:0'"),
        ({"refit": 5, "warm_steps": 3}, "walk.warm_steps is 3"),
        ({"refits": 5}, "unknown key .walk.refits. .did you mean .walk.refit."),
    ],
)
def test_what_cannot_be_is_refused(walk: dict, said: str, tiny_base: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        small(tiny_base, walk)


def test_a_rolling_window_longer_than_the_training_part_is_refused_before_any_work(
    tmp_path: Path, tiny_base: Path
) -> None:
    with pytest.raises(ConfigError, match=r"fold 1 has 2\d\d windows to train on; give at most rolling:2\d\d"):
        run_study(small(tiny_base, {"refit": 5, "window": "rolling:4000"}), tmp_path)


def test_a_study_without_a_walk_hangs_on_none_of_its_settings(tmp_path: Path, tiny_base: Path, eurusd: Bars) -> None:
    plain, off = small(tiny_base, None), small(tiny_base, {"window": "rolling:9"})
    base = find_base(plain.base)
    one, other = (opened(study, tmp_path, eurusd) for study in (plain, off))
    assert fingerprints(one, "d", base) == fingerprints(other, "d", base)
    walked = opened(small(tiny_base, {"refit": 9}), tmp_path, eurusd)
    assert set(fingerprints(walked, "d", base).values()).isdisjoint(fingerprints(one, "d", base).values())


def test_what_goes_live_and_out_is_the_last_fold(tmp_path: Path, tiny_base: Path, eurusd: Bars) -> None:
    """A baseline is fitted up to the last fold; an exported model's cut-off is behind the last validation slice."""
    study = small(tiny_base, {"refit": 12})
    last = folds_of(study, eurusd)[-1]
    assert chosen_until(study, eurusd) == last.split.validation[-1] + 3 == last.known - 1
    plain = small(tiny_base, None)
    assert chosen_until(plain, eurusd) == prepare(plain, eurusd).split.validation[-1] + 3
    cell = opened(study, tmp_path, eurusd, "ar1")
    assert latest_forecaster(cell, eurusd).sha == parts(cell, eurusd, prepare(study, eurusd))[-1].forecaster(eurusd).sha
    assert latest_forecaster(cell, eurusd).sha != latest_forecaster(replace(cell, study=plain), eurusd).sha


def test_the_table_of_a_walk(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fold = {
        "fold": 1,
        "test_start": "2020-01-02T15",
        "test_end": "2020-06-22T14",
        "train_windows": 1762,
        "best_step": None,
    }
    fold |= {"validation_loss": None, "crps": 0.0061, "mse_skill": 0.0005, "crps_skill": -0.25, "net_profit": -1220.0}
    spread = {"positive": 0.5}
    record = {"folds": [fold], "spread": {"crps_skill": spread, "net_profit": spread}}
    (tmp_path / "walk.json").write_text(json.dumps(record))
    assert main(["walk", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].split() == (
        ["1", "2020-01-02", "2020-06-22", "1,762", "-", "-", "0.0061", "+0.05%", "-25.00%", "-1,220.00"]
    )
    assert main(["walk", str(tmp_path / "nowhere")]) == 2
    assert "give a run folder of a study with a [walk] section" in capsys.readouterr().err
