"""Ensembles: their tables against exact distributions, and as cells of a study that runs, resumes and fails."""

from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from forecasting.bars import load_bars
from forecasting.base import find_base
from forecasting.errors import UserError
from forecasting.files import read_json
from forecasting.forecasts import QUANTILE_COLUMNS, QUANTILE_LEVELS, TABLE_COLUMNS
from strategies.signals import Ballot
from tunetrade.cell import Cell, fingerprints, read_cell, run_cell
from tunetrade.config import StudyConfig, study_from
from tunetrade.ensembles import combined, forecasts_of, skill_weights
from tunetrade.ledger import trials
from tunetrade.progress import Board
from tunetrade.study import Outcome, cells, run_study
from tunetrade.workers import Finished

COUNT = 400


def crps(mean: np.ndarray, deviation: float, y: np.ndarray) -> np.ndarray:
    """Of a normal distribution (Gneiting and Raftery 2007)."""
    if not deviation:
        return np.abs(y - mean)
    z = (y - mean) / deviation
    return deviation * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))


def table(mean: np.ndarray, deviation: float, y: np.ndarray, sha: str = "a") -> pd.DataFrame:
    """A long table of normal forecasts of one step."""
    times = pd.date_range("2021-01-01", periods=COUNT, freq="h", tz="UTC")
    columns = {
        "unique_id": "X-H1", "cutoff": times, "ds": times + pd.Timedelta("1h"), "h": np.int16(1), "y": y, "mean": mean,
        "mean_se": 1e-4 * deviation, "p_up": norm.sf(0, mean, deviation or 1), "p_up_se": 0.01 * deviation,
        "crps": crps(mean, deviation, y), "anchor": 0.0, "sigma": deviation, "input_sha": sha, "crps_noise": 0.02,
    }  # fmt: skip
    for name, level in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, strict=True):
        columns[name] = mean + deviation * norm.ppf(level)
    return pd.DataFrame({name: columns[name] for name in TABLE_COLUMNS}, index=range(COUNT))


def members(apart: float, deviations: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, list[pd.DataFrame]]:
    rng = np.random.default_rng(1)
    y, mean = rng.normal(0, 1, COUNT), rng.normal(0, 0.3, COUNT)
    parts = zip((mean, mean + apart), deviations, ("a", "b"), strict=True)
    return y, mean, [table(at, deviation, y, sha) for at, deviation, sha in parts]


@pytest.mark.parametrize(("apart", "deviations"), [(0.3, (1.0, 1.0)), (0.0, (0.7, 1.5)), (0.8, (1.0, 1.4))])
def test_averaged_quantiles_of_normals_are_a_normal_and_score_as_one(
    apart: float, deviations: tuple[float, float]
) -> None:
    y, mean, tables = members(apart, deviations)
    whole = combined(tables, [0.25, 0.75])
    centre, deviation = mean + 0.75 * apart, 0.25 * deviations[0] + 0.75 * deviations[1]
    assert whole["mean"].to_numpy() == pytest.approx(centre)
    assert whole["sigma"].to_numpy() == pytest.approx(deviation)
    for name, level in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, strict=True):
        assert whole[name].to_numpy() == pytest.approx(centre + deviation * norm.ppf(level))
    exact, parts = crps(centre, deviation, y), [frame["crps"].to_numpy() for frame in tables]
    average = 0.25 * parts[0] + 0.75 * parts[1]
    assert (whole["crps"] <= average + 1e-12).all()
    assert abs(whole["crps"].mean() - exact.mean()) < 0.02 * exact.mean()
    assert abs(whole["crps"].mean() - exact.mean()) < 0.35 * (average.mean() - exact.mean())


def test_averaged_points_score_exactly() -> None:
    y, mean, tables = members(0.5, (0.0, 0.0))
    whole = combined(tables, [0.5, 0.5])
    assert whole["crps"].to_numpy() == pytest.approx(np.abs(y - mean - 0.25))


def test_errors_add_up_inputs_are_named_and_an_unknown_truth_stays_unknown() -> None:
    _, _, tables = members(0.3, (1.0, 2.0))
    for frame in tables:
        frame.loc[7, ["y", "crps"]] = np.nan
    whole = combined(tables, [0.5, 0.5])
    assert whole["mean_se"].to_numpy() == pytest.approx(1.5e-4)
    assert whole["crps_noise"].to_numpy() == pytest.approx(0.02)
    assert np.flatnonzero(whole["crps"].isna()).tolist() == [7]
    assert whole["input_sha"].nunique() == 1
    assert whole["input_sha"][0] not in ("a", "b")
    assert list(whole.columns) == list(TABLE_COLUMNS)


def test_members_of_other_cutoffs_are_refused() -> None:
    _, _, tables = members(0.3, (1.0, 2.0))
    with pytest.raises(UserError, match="not forecast at the same cutoffs"):
        combined([tables[0], tables[1].iloc[1:]], [0.5, 0.5])


def test_weights_follow_skill_and_nothing_is_made_of_none() -> None:
    assert skill_weights([0.9, 0.95, 1.2], 1.0) == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert skill_weights([1.0, 1.1], 1.0) == [0.5, 0.5]


STUDY = {
    "name": "pairs",
    "series": ["ecb:EURUSD"],
    "methods": [],
    "baselines": ["random-walk", "ewma-t", "drift"],
    "benchmarks": [],
    "windows": {"context": 12, "horizon": 3},
    "codec": {"half_lives": [3.0], "weights": [1.0]},
    "split": {
        "train_start": "2018-01-01", "validation_start": "2019-01-01", "test_start": "2019-06-01",
        "test_end": "2019-07-15",
    },
    "sampling": {"paths": 8},
    "trading": {"signal": "mean-vs-context"},
    "ensemble": {
        "mean": {"members": ["random-walk", "drift"]},
        "vote": {"members": ["random-walk", "ewma-t", "drift"], "how": "vote"},
        "skill": {"members": ["random-walk", "ewma-t"], "how": "skill"},
    },
}  # fmt: skip


def here(broken: str = ""):  # type: ignore[no-untyped-def]
    """Works off cells in this process; the cell of a `broken` method fails."""

    def run(todo: list[Cell], slots: int, jobs: int, board: Board) -> Generator[Finished, None, None]:
        for cell in todo:
            try:
                assert cell.method != broken, "broken"
                run_cell(cell.paths.folder, lambda _: None)
                yield cell, None
            except (UserError, AssertionError) as error:
                yield cell, str(error).split("\n")[0]

    return run


@pytest.fixture
def study(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNETRADE_CACHE", str(tmp_path / "cache"))
    return study_from(STUDY, [f'base="{tiny_base.as_posix()}"'])


def run(study: StudyConfig, broken: str = "") -> Outcome:
    return run_study(study, Path("runs"), runner=here(broken))


def names(cells: Iterable[str]) -> list[str]:
    return [name.split("/")[1] for name in cells]


def test_an_ensemble_is_a_cell_like_a_methods(study: StudyConfig) -> None:
    """A member fails, is mended, and then one ensemble alone is changed."""
    outcome = run(study, broken="ewma-t")
    assert set(names(outcome.failed)) == {"ewma-t", "vote", "skill"}
    said = outcome.failed["EURUSD-D1/vote/0"]
    assert said.startswith("member EURUSD-D1/ewma-t/0 of ensemble vote failed: broken")
    mended = run(study)
    assert names(mended.done) == ["ewma-t", "vote", "skill"]
    check_files(study, outcome.folder / "EURUSD-D1")
    changed = {**study.ensemble, "mean": replace(study.ensemble["mean"], how="vote")}
    assert names(run(replace(study, ensemble=changed)).done) == ["mean"]


def check_files(study: StudyConfig, folder: Path) -> None:
    tables = {name: pd.read_parquet(folder / name / "0/forecasts.parquet") for name in (*study.baselines, "mean")}
    wanted = (tables["random-walk"]["q90"] + tables["drift"]["q90"]) / 2
    assert tables["mean"]["q90"].to_numpy() == pytest.approx(wanted.to_numpy())
    reports = {name: read_json(folder / name / "0/forecast.json") for name in (*study.baselines, "skill")}
    reference = reports["ewma-t"]["validation"]["crps"]
    assert reports["skill"]["reference_crps"] == pytest.approx(reference)
    weights = skill_weights([reports[name]["validation"]["crps"] for name in ("random-walk", "ewma-t")], reference)
    assert list(reports["skill"]["members"].values()) == pytest.approx(weights)
    for name in study.ensemble:
        files = {path.name for path in (folder / name / "0").iterdir()}
        assert {"trades.parquet", "equity.parquet", "backtest.json"} <= files
        assert ("members.parquet" in files) == (name == "vote")
    (line,) = (line for line in trials(Path("runs/ledger.jsonl")) if line["method"] == "vote" and "failed" not in line)
    assert line["kind"] == "ensemble"
    assert line["settings"]["ensemble"] == {"members": ["random-walk", "ewma-t", "drift"], "how": "vote"}
    ballot = forecasts_of(read_cell(folder / "vote/0"))
    assert isinstance(ballot, Ballot)
    found = [float(member.mean[0, 2]) for member in ballot.members]
    assert found == [tables[name]["mean"][2] for name in ("random-walk", "ewma-t", "drift")]


def test_the_fingerprint_of_an_ensemble_covers_its_members(study: StudyConfig, tmp_path: Path) -> None:
    def prints(changed: StudyConfig) -> dict[str, str]:
        grid = cells(changed, tmp_path, {"ecb:EURUSD": bars})
        return {
            c.method: fingerprints(c, bars.instrument.sha256, base)["forecast"] for c in grid if c.kind == "ensemble"
        }

    bars, base = load_bars("ecb:EURUSD", study.source), find_base(study.base)
    first = prints(study)
    assert prints(replace(study, trading=replace(study.trading, lots=0.2))) == first
    other = prints(replace(study, sampling=replace(study.sampling, seed=9)))
    assert {name for name in first if other[name] != first[name]} == set(first)


def test_an_ensemble_of_trained_methods_has_their_seeds(study: StudyConfig, tmp_path: Path) -> None:
    more = study_from(
        {**STUDY, "methods": ["full", "untuned"], "seeds": [3, 4]},
        [f'base="{study.base}"', 'ensemble.three.members=["full", "untuned", "drift"]'],
    )
    bars = load_bars("ecb:EURUSD", more.source)
    grid = cells(more, tmp_path, {"ecb:EURUSD": bars})
    assert [(cell.method, cell.seed) for cell in grid if cell.kind == "ensemble"][-2:] == [("three", 3), ("three", 4)]
    base, sha = find_base(more.base), bars.instrument.sha256
    whole = [fingerprints(cell, sha, base)["forecast"] for cell in grid if cell.method == "three"]
    assert whole[0] != whole[1]
