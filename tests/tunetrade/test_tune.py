"""Tuning on equal terms: same budget, nothing seen of the test part, the lowest validation CRPS, and resume."""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small
from small import partials

from forecasting.bars import Bars, load_bars
from forecasting.base import find_base
from forecasting.errors import ConfigError
from forecasting.files import read_json, write_json, write_parquet
from forecasting.methods import METHODS, MethodOptions
from forecasting.methods.lora import LoraOptions
from tunetrade.cell import fingerprints, run_cell
from tunetrade.cli import main
from tunetrade.config import StudyConfig, as_plain, load_study, study_from
from tunetrade.ledger import trials
from tunetrade.prepared import prepare
from tunetrade.spaces import SPACES, drawn, space_of, tune_options
from tunetrade.study import cells, load_series, open_cell
from tunetrade.toml import toml
from tunetrade.tune import Trial, cells_of, load_tuning, of_method, run_tuning, tuned_file, with_settings
from tunetrade.tune_table import terminal
from tunetrade.validation import blind
from tunetrade.verbs import study_file

TEST_START = "2019-06-01"
OWN: dict[str, Any] = {
    "series": ["EURUSD_D1.csv"],
    "methods": ["untuned", "full", "adapter"],
    "baselines": [],
    "benchmarks": [],
    "seeds": [7],
    "split": {"train_start": "2018-01-01", "validation_start": "2019-01-01", "test_start": TEST_START},
    "tune": {
        "trials": 2,
        "space": {"adapter": {"learning_rate": [1, 4], "bottleneck": [4, 10_000_000_000_000]}},
    },
    "method": {"adapter": {"bottleneck": 4}},
}
"""Where the small study that is tuned differs. The adapter's second trial fails: no machine has memory for it."""

COSTS = ("seconds", "peak_memory_bytes")


def write_series(folder: Path, changed_from: str = "", seed: int = 0) -> None:
    """Real daily fixings up to the middle of 2019; from a day on, where one is given, random ones."""
    closes = load_bars("ecb:EURUSD").frame["close"].loc["2017":"2019-07-15"].copy()  # type: ignore[misc]
    if changed_from:
        walk = np.random.default_rng(seed).standard_t(3, size=len(closes)) * 0.02
        closes = closes.where(closes.index < pd.Timestamp(changed_from, tz="UTC"), 1.1 * np.exp(walk))
    days = closes.index.strftime("%Y-%m-%d")
    text = "".join(f"{day},{close:.5f}\n" for day, close in zip(days, closes, strict=True))
    (folder / "EURUSD_D1.csv").write_text("time,close\n" + text)


def write_case(folder: Path, base: Path, changed_from: str = "") -> None:
    write_series(folder, changed_from)
    (folder / "small.toml").write_text(toml(small.study_values(base) | OWN))


def at(folder: Path) -> "contextlib.AbstractContextManager[None]":
    """In that folder, cells run in this process."""
    return small.inside(folder, "tunetrade.study.run_cells")


def tune(folder: Path) -> tuple[int, dict[str, Any]]:
    """Status and JSON of `tunetrade tune small.toml --json`."""
    said = io.StringIO()
    with at(folder), contextlib.redirect_stdout(said):
        status = main(["tune", "small.toml", "--json"])
    return status, json.loads(said.getvalue())


def study_at(folder: Path, *overrides: str) -> StudyConfig:
    return load_study(folder / "small.toml", overrides)


def contents(runs: Path) -> dict[str, Any]:
    """All that tuning leaves: its trials, the ledger in any order, what was chosen without what that cost."""
    found = {name: what for name, what in small.contents(runs).items() if not name.endswith("stderr.log")}
    return found | {
        "ledger": sorted((runs / "ledger.jsonl").read_text().splitlines()),
        "tune": without(read_json(runs / "small/tune.json"), COSTS),
        "tuned": (runs / "small/tuned.toml").read_bytes(),
    }


def without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: without(item, keys) for key, item in value.items() if key not in keys}
    return [without(item, keys) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A folder in which the small tuning ran undisturbed."""
    folder = tmp_path_factory.mktemp("tuned")
    write_case(folder, tiny_base)
    status, result = tune(folder)
    assert status == 1  # the trial that fails
    write_json(folder / "stdout.json", result)
    return folder


def test_every_method_has_the_same_budget_data_steps_and_seed(tuned: Path) -> None:
    result = read_json(tuned / "runs/small/tune.json")
    assert {name: len(own["rows"]) for name, own in result["methods"].items()} == {
        "untuned": 1, "full": 2, "adapter": 2,
    }  # fmt: skip
    runs = [read_json(file) for file in (tuned / "runs/small/tuning").glob("*/*/*/run.json")]
    assert len(runs) == 5
    assert {run["seed"] for run in runs} == {7}
    assert len({run["data_sha"] for run in runs}) == 1
    assert {run["config"]["training"]["steps"] for run in runs} == {4}
    assert {run["kind"] for run in runs} == {"trial"}
    sampling = {json.dumps(run["config"]["sampling"], sort_keys=True) for run in runs}
    assert len(sampling) == 1


def test_the_lowest_validation_crps_is_chosen(tuned: Path) -> None:
    """The figures against the tables of the trials, read by other means."""
    result = json.loads((tuned / "stdout.json").read_text())
    assert result["methods"] == read_json(tuned / "runs/small/tune.json")["methods"]
    for name, own in result["methods"].items():
        means, by_cutoff = {}, {}
        for row in own["rows"]:
            file = tuned / f"runs/small/tuning/EURUSD-D1/{name}/{row['number']}/validation.parquet"
            if row["status"] == "done":
                table = pd.read_parquet(file)
                assert table["cutoff"].max() < pd.Timestamp(TEST_START, tz="UTC")
                assert table["ds"].max() < pd.Timestamp(TEST_START, tz="UTC")
                means[row["number"]] = sum(table["crps"]) / len(table)
                by_cutoff[row["number"]] = table["crps"].to_numpy().reshape(-1, 3).mean(axis=1)
                assert row["crps"] == pytest.approx(means[row["number"]], rel=1e-12)
            else:
                assert "out of memory" in row["failure"]
        assert own["chosen"] == min(means, key=lambda number: (means[number], number))
        chosen, default = by_cutoff[own["chosen"]], by_cutoff[1]
        best = own["rows"][own["chosen"] - 1]
        assert best["gain"] == pytest.approx(1 - chosen.mean() / default.mean(), abs=1e-12)
        assert own["failed"] == len(own["rows"]) - len(means)
    assert result["methods"]["adapter"]["failed"] == 1
    assert result["methods"]["full"]["failed"] == 0
    assert len({row["crps"] for row in result["methods"]["full"]["rows"]}) == 2


def test_the_tuned_file_is_the_study_with_the_settings_chosen(tuned: Path) -> None:
    final = load_study(tuned / "runs/small/tuned.toml")
    result = read_json(tuned / "runs/small/tune.json")["methods"]
    study = study_at(tuned)
    assert (final.name, final.seeds, final.methods) == ("small-tuned", (7, 1, 2), ("untuned", "full"))
    for name in final.methods:
        assert final.options_of(name) == dataclasses.replace(study.options_of(name), **result[name]["settings"])
    assert dataclasses.replace(final, name="small", seeds=(7,), methods=study.methods, method=study.method) == study
    assert set(final.method) <= {"full"}


def test_the_ledger_has_every_trial_once_with_the_money_of_the_validation_part(tuned: Path) -> None:
    found = trials(tuned / "runs/ledger.jsonl")
    assert len(found) == len({line["key"] for line in found}) == 5
    for line in found:
        assert (line["kind"], line["study"], line["seed"]) == ("trial", "small", 7)
        assert line["settings"]["method"]["learning_rate"] > 0
        if "failed" in line:
            continue
        assert line["validation"]["crps"] > 0
        assert len(line["days"]) == len(line["daily_returns"]) > 50
        assert "2019-01-01" <= min(line["days"]) <= max(line["days"]) < TEST_START
    assert len({tuple(line["daily_returns"]) for line in found if "failed" not in line}) > 1


def test_the_test_part_changes_no_choice_and_no_byte(tuned: Path, tmp_path: Path, tiny_base: Path) -> None:
    write_case(tmp_path, tiny_base, changed_from=TEST_START)
    assert (tmp_path / "EURUSD_D1.csv").read_bytes() != (tuned / "EURUSD_D1.csv").read_bytes()
    assert tune(tmp_path)[0] == 1
    assert contents(tmp_path / "runs") == contents(tuned / "runs")


def test_another_test_part_leaves_nothing_to_do_and_another_validation_part_all(
    tuned: Path, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_case(tmp_path, tiny_base)
    study = study_at(tmp_path)

    def wanted() -> dict[str, str]:
        bars = blind(load_bars("EURUSD_D1.csv"), study)
        (cell, *_) = cells_of(study, Path("runs"), {"EURUSD_D1.csv": bars}, "full", 1, {})
        return fingerprints(cell, bars.instrument.sha256, find_base(study.base))

    recorded = read_json(tuned / "runs/small/tuning/EURUSD-D1/full/1/run.json")["stages"]
    assert wanted() == recorded
    write_series(tmp_path, TEST_START)
    assert wanted() == recorded
    write_series(tmp_path, "2019-05-30")
    assert set(wanted()) == {"train", "validate"}
    assert not set(wanted().values()) & set(recorded.values())


@pytest.mark.parametrize("seed", range(20))
def test_a_blind_series_depends_on_nothing_from_the_test_part_on(seed: int, tiny_base: Path, eurusd: Bars) -> None:
    """Prices, spreads and volume from the first test bar on are random, and their number is too."""
    values = small.study_values(tiny_base) | OWN | {"series": ["ecb:EURUSD"]}
    study = study_from(values, ["split.test_end=2022-01-01"] if seed % 2 else [])
    rng = np.random.default_rng(seed)
    first = int(prepare(study, eurusd).split.test[0])
    end = len(eurusd) if seed % 2 else int(rng.integers(first + 4, len(eurusd)))
    frame = eurusd.frame.iloc[:end].copy()
    frame.iloc[first:] = np.exp(rng.normal(size=(end - first, frame.shape[1])))
    other = dataclasses.replace(eurusd, frame=frame)
    one, two = blind(eurusd, study), blind(other, study)
    pd.testing.assert_frame_equal(one.frame, two.frame)
    assert one.instrument == two.instrument
    assert one.instrument.sha256 != eurusd.instrument.sha256
    assert set(one.closes[first:]) == {eurusd.closes[first - 1]}
    np.testing.assert_array_equal(one.closes[:first], eurusd.closes[:first])
    whole, seen = prepare(study, eurusd).split, prepare(study, one).split
    np.testing.assert_array_equal(seen.train, whole.train)
    np.testing.assert_array_equal(seen.validation, whole.validation)


def test_interrupted_twice_it_ends_as_undisturbed_and_does_nothing_twice(
    tuned: Path, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once within a training, after its first state was saved, and once within a forecast."""
    write_case(tmp_path, tiny_base)
    heard: list[tuple[str, Any]] = []
    moments = [("full/1", ("step", 3)), ("adapter/1", ("windows", 16))]

    def run(folder: Path, _: object) -> None:
        def emit(message: dict[str, Any]) -> None:
            heard.append(("/".join(folder.parts[-2:]), next(iter(message.items()))))
            name, (key, value) = heard[-1]
            if moments and (name, key) == (moments[0][0], moments[0][1][0]) and value >= moments[0][1][1]:
                moments.pop(0)
                raise KeyboardInterrupt

        original(folder, emit)

    original = run_cell
    monkeypatch.setattr(small, "run_cell", run)
    with at(tmp_path):
        assert main(["tune", "small.toml"]) == 130
        assert main(["tune", "small.toml"]) == 130
    assert not (tmp_path / "runs/small/tune.json").exists()
    status, outcome = tune(tmp_path)
    assert (status, moments) == (1, [])
    assert contents(tmp_path / "runs") == contents(tuned / "runs")
    assert partials(tmp_path) == []
    assert outcome["skipped"] == ["EURUSD-D1/untuned/1", "EURUSD-D1/full/1"]
    assert [value for name, (key, value) in heard if (name, key) == ("full/1", "step")] == [1, 2, 3, 3, 4]
    assert [value for name, (key, value) in heard if (name, key) == ("adapter/1", "step")] == [1, 2, 3, 4]
    assert [value for name, (key, value) in heard if (name, key) == ("untuned/1", "stage")] == [
        "train", "validate", "done",
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_killed_with_its_processes_it_goes_on(tuned: Path, tmp_path: Path, tiny_base: Path) -> None:
    write_case(tmp_path, tiny_base)
    log = tmp_path / "stderr.txt"
    with log.open("w") as errors:
        running = subprocess.Popen(
            [sys.executable, "-m", "tunetrade", "tune", "small.toml", "--jobs", "1"],
            cwd=tmp_path, env=os.environ | {"TUNETRADE_CACHE": str(tmp_path / "cache")},
            stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True, text=True,
        )  # fmt: skip
    while "untuned/1 done" not in log.read_text():
        assert running.poll() is None, log.read_text()
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait(10)
    before = (tmp_path / "runs/small/tuning/EURUSD-D1/untuned/1/train.json").read_bytes()
    tune(tmp_path)
    assert (tmp_path / "runs/small/tuning/EURUSD-D1/untuned/1/train.json").read_bytes() == before
    assert contents(tmp_path / "runs") == contents(tuned / "runs")
    assert [path.name for path in partials(tmp_path) if path.name != "stderr.log"] == []  # a worker's to remove


def test_the_final_comparison_runs_what_was_chosen_and_a_trial_is_no_run(
    tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
    with at(tmp_path):
        assert main(["forecast", "runs/small/tuning/EURUSD-D1/full/1"]) == 2
        assert "no test part" in capsys.readouterr().err
        assert main(["tune", "small.toml", "--set", 'methods=["full"]', "--final"]) == 0
    said = capsys.readouterr().out
    assert "0 trials done, 2 unchanged, 0 failed" in said
    assert "3 cells done, 0 unchanged, 0 failed" in said
    chosen = read_json(tmp_path / "runs/small/tune.json")["methods"]["full"]["settings"]
    for seed in (7, 1, 2):
        config = read_json(tmp_path / f"runs/small-tuned/EURUSD-D1/full/{seed}/run.json")["config"]
        assert config["method"]["full"] == dataclasses.asdict(METHODS["full"].options()) | chosen
    assert (tmp_path / "reports/small-tuned/index.html").is_file()


@pytest.mark.parametrize("more", [[], ["--json"], ["--set", 'methods=["adapter"]']])
def test_a_method_short_of_its_trials_forbids_the_final_comparison(
    more: list[str], tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
    with at(tmp_path):
        assert main(["tune", "small.toml", "--final", *more]) == 1
    said = capsys.readouterr()
    assert said.err.strip().splitlines()[-1].startswith("tunetrade: error: trials failed: adapter (1 of 2); ")
    assert "[tune.space.adapter], or leave it out of methods" in said.err
    if "--json" in more:
        assert json.loads(said.out)["methods"]["adapter"]["failed"] == 1
    assert not (tmp_path / "runs/small-tuned").exists()
    assert not (tmp_path / "reports").exists()
    final = load_study(tmp_path / "runs/small/tuned.toml")
    assert final.methods == (() if "--set" in more else ("untuned", "full"))
    assert "# Left out, as trials of theirs failed: adapter." in (tmp_path / "runs/small/tuned.toml").read_text()


@pytest.fixture
def plain() -> StudyConfig:
    values: dict[str, Any] = {"name": "s", "series": ["ecb:EURUSD"], "base": "embedded"}
    return study_from(values | {"methods": list(METHODS)})


def test_a_methods_own_batch_size_is_what_its_training_uses(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_case(tmp_path, tiny_base)
    monkeypatch.chdir(tmp_path)
    weights = {}
    for case in ("method.full.batch_size=3", "training.batch_size=3", "training.batch_size=5"):
        study = study_at(tmp_path, case, 'methods=["full"]')
        loaded = load_series(study)
        (cell,) = cells(study, tmp_path / case, loaded)
        open_cell(cell, loaded[cell.source], find_base(study.base).card)
        run_cell(cell.paths.folder, lambda _: None, until="train")
        weights[case] = (cell.paths.checkpoint / "model.safetensors").read_bytes()
    own, same, other = weights.values()
    assert own == same != other


def test_in_eight_trials_every_method_tries_each_learning_rate_factor_once(plain: StudyConfig) -> None:
    options = tune_options({})
    factors = {}
    for name in plain.methods:
        found = drawn(plain, name, options)
        default = plain.options_of(name)
        if not METHODS[name].trains:
            assert found == [{}]
            continue
        assert len(found) == 8
        assert found[0] == {}
        rates = [settings.get("learning_rate", default.learning_rate) / default.learning_rate for settings in found]
        factors[name] = [(round(rate, 6), s.get("batch_size", 16)) for rate, s in zip(rates, found, strict=True)]
        assert sorted(rate for rate, _ in factors[name]) == [0.125, 0.25, 0.5, 1, 2, 4, 8, 16]
        assert len({json.dumps(settings, sort_keys=True) for settings in found}) == 8
        assert drawn(plain, name, options) == found
    assert len({tuple(own) for own in factors.values()}) == 1
    assert drawn(plain, "lora", tune_options({"seed": 2})) != drawn(plain, "lora", options)


def test_options_that_go_together_are_drawn_together(plain: StudyConfig) -> None:
    """Each of three pairs once in every three trials, `keys` among them as often as the others."""
    found = [{"init": "keys", "projection": False, **s} for s in drawn(plain, "prefix", tune_options({"trials": 12}))]
    pairs = [(each["init"], each["projection"]) for each in found]
    allowed = [("keys", False), ("random", False), ("random", True)]
    assert pairs[0] == allowed[0]
    assert [sorted(pairs[i : i + 3]) for i in range(0, 12, 3)] == [allowed] * 4
    for name, option in (("lora", "dora"), ("lora", "rslora"), ("lora", "init"), ("qlora", "init")):
        own = [getattr(plain.options_of(name), option), *(s.get(option) for s in drawn(plain, name, tune_options({})))]
        assert len({value for value in own if value is not None}) == 2, (name, option)


def test_a_longer_search_begins_as_a_shorter_one(plain: StudyConfig) -> None:
    long = drawn(plain, "lora", tune_options({"trials": 40}))
    assert drawn(plain, "lora", tune_options({"trials": 9})) == long[:9]
    ranks = [settings.get("rank", 8) for settings in long]
    assert {rank: ranks[:5].count(rank) for rank in ranks} == dict.fromkeys((2, 4, 8, 16, 32), 1)


def test_a_grid_is_the_defaults_and_every_other_combination(plain: StudyConfig) -> None:
    section = {"rank": [4, 8], "alpha": [16.0, 32.0, 64.0], "learning_rate": [1, 2]}
    found = drawn(plain, "lora", tune_options({"grid": True, "trials": 1, "space": {"lora": section}}))
    assert found[0] == {}
    made = {(s.get("rank", 8), s.get("alpha", 32.0), s.get("learning_rate", 1e-4)) for s in found}
    assert made == {(r, a, lr) for r in (4, 8) for a in (16.0, 32.0, 64.0) for lr in (1e-4, 2e-4)}
    assert len(found) == 12


def test_the_study_file_is_the_default_that_is_varied(plain: StudyConfig) -> None:
    study = dataclasses.replace(plain, method={"lora": LoraOptions(learning_rate=0.01, rank=3, batch_size=10)})
    found = drawn(study, "lora", tune_options({"grid": True, "space": {"lora": {"learning_rate": [0.5, 1]}}}))
    assert found == [{}, {"learning_rate": 0.005}]
    found = drawn(study, "lora", tune_options({"grid": True, "space": {"lora": {"batch_size": [0.5, 1, 2]}}}))
    assert found == [{}, {"batch_size": 5}, {"batch_size": 20}]


@pytest.mark.parametrize("name", METHODS)
def test_the_shipped_space_of_every_method_holds(name: str, plain: StudyConfig) -> None:
    space = space_of(plain, name, tune_options({}))
    assert bool(space) == METHODS[name].trains
    if space:
        shipped = tomllib.loads(SPACES.read_text())
        whole = {**shipped["any"], **shipped.get(name, {})}
        assert {key: list(values) for key, values in space.items()} == whole


@pytest.mark.parametrize("name", ["lora", "partial", "prompt"])
def test_what_cannot_be_is_never_drawn(name: str, plain: StudyConfig, tiny_base: Path) -> None:
    """A batch with fewer windows than micro-batches, more blocks than the base has, more tokens than fit."""
    changes = ["training.accumulate=16", "windows.context=12", "windows.horizon=3", f"base={tiny_base.as_posix()}"]
    study = study_from(as_plain(plain), [f'methods=["{name}"]', *changes, "method.prompt.tokens=5"])
    space = space_of(study, name, tune_options({}))
    assert space["batch_size"] == (1, 2)
    assert space.get("blocks", (1, 2)) == (1, 2)
    assert space.get("tokens", (5, 10)) == (5, 10)
    found = drawn(study, name, tune_options({}))
    assert len(found) == 8
    assert len({settings.get("learning_rate") for settings in found}) == 8
    for settings in found:
        with_settings(study, {name: settings}).training_of(name)
    own = {"space": {name: {"learning_rate": [1, 2], "batch_size": [0.5, 1]}}}
    with pytest.raises(ConfigError, match=r"batch_size holds 0.5, which cannot be: .*accumulate 16; .*raise"):
        drawn(study, name, tune_options(own))


def test_epochs_which_hang_on_the_batch_size_are_refused(tmp_path: Path, plain: StudyConfig) -> None:
    study = study_from(as_plain(plain), ["training.epochs=2"])
    with pytest.raises(ConfigError, match=r"training.epochs is 2, .*set training.epochs = 0 and give training.steps"):
        run_tuning(study, tune_options({}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_method_with_settings_of_its_own_has_a_section_of_its_own() -> None:
    shared = {field.name for field in dataclasses.fields(MethodOptions)}
    own = {name for name, m in METHODS.items() if {f.name for f in dataclasses.fields(m.options)} - shared}
    assert own <= set(tomllib.loads(SPACES.read_text()))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (3, "must be a section"),
        ({"trials": 0}, "tune.trials is 0"),
        ({"trials": 2.5}, "tune.trials is 2.5"),
        ({"seed": -1}, "tune.seed is -1"),
        ({"trails": 8}, "unknown key 'tune.trails'.*did you mean 'tune.trials'"),
        ({"space": {"lorra": {}}}, "tune.space.lorra.*did you mean 'tune.space.lora'"),
        ({"space": {"lora": 4}}, "must be a section of lists"),
        ({"space": {"lora": {"rank": 4}}}, "give a list of values"),
        ({"space": {"lora": {"rank": []}}}, "give a list of values"),
        ({"space": {"lora": {"rank": [4, 4]}}}, "names a value twice"),
        ({"space": {"lora": {"rnk": [4]}}}, "unknown option 'tune.space.lora.rnk'.*did you mean"),
        ({"space": {"lora": {"rank": [4, 0]}}}, "tune.space.lora.rank holds 0, which cannot be: method.lora.rank is 0"),
        ({"space": {"lora": {"rank": [4.5]}}}, "tune.space.lora.rank holds 4.5.*must be a whole number"),
        ({"space": {"lora": {"rank,alpha": [[4, 8.0], [4]]}}}, r"rank,alpha holds \[4\]; give lists of 2 values"),
        ({"space": {"lora": {"rank,alpha": [8]}}}, "rank,alpha holds 8; give lists of 2 values"),
        ({"space": {"lora": {"rank,learning_rate": [[8, 1]]}}}, "and no factors"),
        ({"space": {"lora": {"rank,alpha": [[4, 8.0]], "rank": [4]}}}, "names an option twice: rank,alpha, rank"),
        (
            {"space": {"lora": {"rank,alpha": [[4, 8.0], [0, 8.0]]}}},
            r"holds \[0, 8.0\], which cannot be: method.lora.r",
        ),
        ({"space": {"lora": {"rank,alhpa": [[4, 8.0]]}}}, "unknown option 'tune.space.lora.alhpa'.*did you mean"),
        ({"space": {"lora": {"learning_rate": [0]}}}, "give factors of the method's own"),
        ({"space": {"lora": {"learning_rate": [1e6]}}}, "learning_rate holds 1000000.0, which cannot be"),
        ({"space": {"lora": {"rank": [4, 8]}}}, "holds 2 different settings, fewer than tune.trials = 8"),
    ],
)
def test_a_bad_tune_section_is_one_line(section: Any, message: str, plain: StudyConfig) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        drawn(plain, "lora", tune_options(section))
    assert "\n" not in str(caught.value)


def test_a_learning_rate_for_all_methods_leaves_nothing_to_tune(plain: StudyConfig) -> None:
    study = study_from({"name": "s", "series": ["ecb:EURUSD"]}, ["training.learning_rate=0.001"])
    with pytest.raises(ConfigError, match=r"training.learning_rate is 0.001"):
        drawn(study, "full", tune_options({}))
    only = tune_options({"trials": 2, "space": {"full": {"batch_size": [1, 2]}}})
    assert drawn(study, "full", only) == [{}, {"batch_size": 32}]


def test_a_method_without_a_space_has_the_dimensions_of_all(plain: StudyConfig) -> None:
    assert "full" not in tomllib.loads(SPACES.read_text())
    assert set(space_of(plain, "full", tune_options({}))) == {"learning_rate", "batch_size"}


def test_the_shipped_studies_are_at_their_word() -> None:
    sweep, options = load_tuning(study_file("lora-sweep"))
    assert (sweep.methods, options.grid) == (("lora",), True)
    assert len(drawn(sweep, "lora", options)) == 27
    methods, options = load_tuning(study_file("methods"))
    assert methods.methods == tuple(METHODS)
    assert (methods.training.steps, methods.seeds, methods.series, options.trials) == (200, (1,), ("ecb:NZDUSD",), 8)


def write_trial(trial: Trial, crps: list[float], loss: float) -> None:
    """A finished trial of one series, one step ahead, in the layout of a real one."""
    (cell,) = trial.cells
    days = pd.date_range("2019-01-01", periods=len(crps))
    write_json(cell.paths.run, {"status": "done", "failure": None})
    write_json(cell.paths.validation, {"horizon": 1, "metrics": {"overall": {"crps": float(np.mean(crps))}}})
    write_parquet(cell.paths.validation_table, pd.DataFrame({"cutoff": days, "h": 1, "crps": crps}))
    costs = dict.fromkeys(("trained_parameters", "stored_bytes", "peak_memory_bytes", "seconds"), 1)
    history = [{"validation_loss": loss + 1}, {"validation_loss": loss}, {"validation_loss": None}]
    write_json(cell.paths.train, costs | {"history": history})


@pytest.mark.parametrize(
    ("means", "losses", "chosen", "by"),
    [
        ((3.0, 2.0, 2.5), (1.0, 9.0, 0.5), 2, "crps"),
        ((2.0, 2.0, 2.0), (1.0, 0.4, 0.5), 2, "validation_loss"),
        ((2.0, 2.0, 2.0), (1.0, 1.0, 1.0), 1, "validation_loss"),
        ((2.0, 2.0, 3.0), (1.0, 0.9, 0.1), 2, "crps"),
    ],
)
def test_the_loss_decides_only_between_equal_crps(
    means: tuple[float, ...], losses: tuple[float, ...], chosen: int, by: str,
    tmp_path: Path, plain: StudyConfig, eurusd: Bars,
) -> None:  # fmt: skip
    """A method that leaves the base's density alone cannot move the CRPS, and is judged by what it does move."""
    made = []
    for number, (mean, loss) in enumerate(zip(means, losses, strict=True), start=1):
        found = cells_of(plain, tmp_path, {"ecb:EURUSD": eurusd}, "lora", number, {"rank": number})
        made.append(Trial("lora", number, {"rank": number}, found))
        write_trial(made[-1], [mean - 0.5, mean + 0.5], loss)
    result = of_method(made)
    assert (result["chosen"], result["chosen_by"], result["settings"]) == (chosen, by, {"rank": chosen})
    assert result["rows"][chosen - 1]["gain"] == pytest.approx(1 - means[chosen - 1] / means[0])
    whole = {
        "study": "s", "series": ["ecb:EURUSD"], "seed": 1, "steps": 2, "trials": 3, "grid": False, "draws": 1,
        "methods": {"lora": result},
    }  # fmt: skip
    assert ("own validation loss decided" in terminal(whole).replace("\n", " ")) == (by != "crps")
    assert load_from(tuned_file(plain, whole)).options_of("lora") == LoraOptions(rank=chosen)


def load_from(text: str) -> StudyConfig:
    return study_from(tomllib.loads(text))


def test_series_count_alike_whatever_their_price_level(tmp_path: Path, plain: StudyConfig, eurusd: Bars) -> None:
    """Trial 2 is 10 % better on the small series and 5 % worse on the one whose errors are a hundred times as large."""
    other = dataclasses.replace(eurusd, instrument=dataclasses.replace(eurusd.instrument, symbol="USDJPY"))
    made = []
    for number, scale in ((1, (1.0, 100.0)), (2, (0.9, 105.0))):
        found = cells_of(plain, tmp_path, {"a": eurusd, "b": other}, "lora", number, {})
        made.append(Trial("lora", number, {}, found))
        for cell, size in zip(found, scale, strict=True):
            write_trial(Trial("lora", number, {}, [cell]), [size * 0.9, size * 1.1], 1.0)
    result = of_method(made)
    assert result["chosen"] == 2
    assert result["rows"][1]["crps"] == pytest.approx(np.sqrt(0.9 * 105))
    assert result["rows"][1]["gain"] == pytest.approx((0.1 - 0.05) / 2)


@pytest.mark.parametrize(
    "values",
    [
        {"a": 1, "b": [1.5, 2e-05], "c": {"d e": 'quote " and \\ and \n and é', "f": {}}, "g": {"h": {"i": True}}},
        {"method": {"p-tuning": {"tokens": 8}}, "name": "x", "series": ("a", "b")},
        {"empty": [], "deep": {"deeper": {"deepest": {"x": -3.0}}, "y": False}},
    ],
)
def test_toml_reads_back(values: dict[str, Any]) -> None:
    def listed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: listed(item) for key, item in value.items()}
        return list(value) if isinstance(value, tuple) else value

    assert tomllib.loads(toml(values)) == listed(values)
