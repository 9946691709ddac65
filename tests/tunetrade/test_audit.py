"""The audit passes what is honest and names the row of every seeded bug."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small import in_this_process

from forecasting.bars import Bars, load_bars
from forecasting.baselines import BASELINES, Baseline, naive
from forecasting.files import read_json, write_json, write_parquet
from forecasting.windows import Contexts, contexts, split
from strategies.market import market_of
from tunetrade.audit.checks import CHECKS
from tunetrade.audit.run import audit_place
from tunetrade.cell import backtest, forecast, read_cell, train
from tunetrade.cli import main
from tunetrade.config import study_from
from tunetrade.layout import VOLATILE
from tunetrade.study import run_study

VALUES: dict[str, Any] = {
    "name": "audited",
    "series": ["ecb:EURUSD"],
    "methods": ["full"],
    "baselines": ["random-walk"],
    "benchmarks": ["buy-and-hold"],
    "ensemble": {"both": {"members": ["full", "random-walk"], "how": "vote"}},
    "windows": {"context": 12, "horizon": 3},
    "codec": {"half_lives": [3.0], "weights": [1.0]},
    "split": {
        "train_start": "2018-01-01", "validation_start": "2019-01-01", "test_start": "2019-06-01",
        "test_end": "2019-09-15",
    },
    "training": {"steps": 2, "evaluate_every": 2, "min_steps": 2},
    "sampling": {"paths": 8},
    "audit": {"shuffles": 40},
}  # fmt: skip

FULL = "audited/EURUSD-D1/full/1"
STAGES = {"train": train, "forecast": forecast, "backtest": backtest}

Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[Path]:
    """An honest study on fixings, and one on hourly bars with a weekly pattern, both with their audits."""
    folder = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TUNETRADE_CACHE", str(folder / "cache"))
        (folder / "EURUSD_H1.csv").write_text(hourly_csv(), encoding="utf-8")
        study = study_from({**VALUES, "base": str(tiny_base)})
        run_study(study, Path("runs"), runner=in_this_process)
        dates = {
            "train_start": "",
            "validation_start": "2016-03-15",
            "test_start": "2016-04-11",
            "test_end": "2016-04-20",
        }
        changes = {
            "name": "hourly", "series": ["EURUSD_H1.csv"], "baselines": [], "benchmarks": [], "ensemble": {},
            "split": dates, "trading": {"stop": "atr:2.0", "trailing": "atr:3.0"},
            "broker": {"spread_points": "data", "slippage_points": 1.0, "commission_per_lot": 3.5},
        }  # fmt: skip
        run_study(study_from({**VALUES, **changes, "base": str(tiny_base)}), Path("runs"), runner=in_this_process)
        yield folder / "runs"


def hourly_csv() -> str:
    """Bars whose moves are larger around 14:00 than at night, from UTC opens."""
    rng = np.random.default_rng(3)
    opened = pd.date_range("2015-09-14", "2016-04-29 20:00", freq="h")
    opened = opened[(opened.day_of_week < 5) & ~((opened.day_of_week == 4) & (opened.hour > 20))]
    size = 4e-4 * (1 + np.exp(-((opened.hour.to_numpy() - 14) ** 2) / 18))
    close = np.round(1.1 * np.exp(np.cumsum(rng.standard_t(5, len(opened)) * size)), 5)
    first = np.round(np.concatenate([[1.1], close[:-1]]) * (1 + rng.standard_normal(len(close)) * 5e-5), 5)
    high = np.round(np.maximum(first, close) + rng.random(len(close)) * 3e-4, 5)
    low = np.round(np.minimum(first, close) - rng.random(len(close)) * 3e-4, 5)
    stamps = opened.strftime("%Y-%m-%d %H:%M:%S+00:00")
    rows = zip(stamps, first, high, low, close, strict=True)
    text = "".join(f"{t},{o:.5f},{h:.5f},{lo:.5f},{c:.5f},100,{8 + n % 5}\n" for n, (t, o, h, lo, c) in enumerate(rows))
    return "time,open,high,low,close,volume,spread\n" + text


@pytest.fixture
def copy(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The studies, to be spoilt; the current folder."""
    shutil.copytree(runs.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNETRADE_CACHE", str(tmp_path / "own-cache"))
    return tmp_path / "runs"


def nothing(_: dict[str, Any]) -> None:
    pass


def remake(folder: Path, first: str, patch: Patch) -> None:
    """Make the stages of a cell again, from `first` on, with a bug in the code."""
    cell = read_cell(folder)
    bars = load_bars(cell.source, cell.study.source)
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        for name in list(STAGES)[list(STAGES).index(first) :]:
            STAGES[name](cell, bars, "", nothing)


def statuses(record: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in record["checks"]}


def check_of(record: dict[str, Any], name: str) -> dict[str, Any]:
    return next(check for check in record["checks"] if check["name"] == name)


def fails(folder: Path, sample: int = 0) -> dict[str, dict[str, Any]]:
    """Checks that fail, each with its first offending row."""
    return {c["name"]: c for c in audit_place(folder, sample)["checks"] if c["status"] == "FAIL"}


def test_every_cell_of_an_honest_study_passes_every_check_that_applies(runs: Path) -> None:
    for study, applies in (
        ("audited", {"full/1", "random-walk/0", "both/1", "buy-and-hold/0"}),
        ("hourly", {"full/1"}),
    ):
        summary = read_json(runs / study / "audit.json")
        assert summary["verdict"] == "PASS", summary
        assert {line["run"].split("/", 1)[1] for line in summary["runs"]} == applies
    for folder in (runs / FULL, runs / "hourly/EURUSD-H1/full/1"):
        found = statuses(read_json(folder / "audit.json"))
        assert set(found) == {"source", *CHECKS}
        assert set(found.values()) == {"PASS"}, found
    record = read_json(runs / "hourly/EURUSD-H1/full/1/audit.json")
    assert check_of(record, "fit-windows")["measured"]["fitted"] == ["profile", "weekly pattern"]
    assert check_of(record, "positive-control")["measured"]["caught"] == 3
    low, high = check_of(record, "negative-control")["measured"]["interval"]
    assert low < 0 < high


def test_a_study_audits_what_is_new_and_can_be_told_not_to(copy: Path) -> None:
    study = read_cell(copy / FULL).study
    again = run_study(study, copy, runner=in_this_process)
    assert not again.done
    before = read_json(copy / FULL / "audit.json")
    (copy / FULL / "audit.json").unlink()
    assert run_study(study, copy, runner=in_this_process).done == ("EURUSD-D1/full/1",)
    after = read_json(copy / FULL / "audit.json")
    assert {key for key in after if after[key] != before[key]} <= set(VOLATILE["audit.json"])
    for change in ({"files": {}}, {"key": "older"}):
        write_json(copy / FULL / "audit.json", after | change)
        assert run_study(study, copy, runner=in_this_process).done == ("EURUSD-D1/full/1",)
    table = pd.read_parquet(copy / FULL / "forecasts.parquet")
    write_parquet(copy / FULL / "forecasts.parquet", table.assign(crps=table["crps"] / 2))
    assert run_study(study, copy, runner=in_this_process).done == ("EURUSD-D1/full/1",)
    assert statuses(read_json(copy / FULL / "audit.json"))["record"] == "FAIL"
    (copy / FULL / "audit.json").unlink()
    off = replace(study, audit=replace(study.audit, in_study=False))
    assert not run_study(off, copy, runner=in_this_process).done
    assert not (copy / FULL / "audit.json").is_file()


def test_the_verb_prints_a_table_and_fails_with_the_row_of_a_changed_forecast(copy: Path) -> None:
    table = pd.read_parquet(copy / FULL / "forecasts.parquet")
    table.loc[0, "mean"] += 1e-7
    write_parquet(copy / FULL / "forecasts.parquet", table)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["audit", str(copy / FULL), "--json"]) == 1
    row = check_of(json.loads(said.getvalue()), "truncation")["offending"][0]
    assert (row["time"], row["column"]) == ("2019-06-03T14:00:00", "mean[h=1]")
    assert row["seen"] - row["recomputed"] == pytest.approx(1e-7, rel=0.01)
    with contextlib.redirect_stdout(said):
        assert main(["audit", str(copy / "audited" / "EURUSD-D1")]) == 1
    assert "FAIL  EURUSD-D1/full/1" in said.getvalue()
    assert "FAIL     truncation" in (copy / FULL / "audit.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_forecast_changed_between_the_samples_is_seen_in_the_errors_and_found_by_a_full_sample(copy: Path) -> None:
    table = pd.read_parquet(copy / FULL / "forecasts.parquet")
    at = 3 * 5
    table.loc[at, "q50"] += 0.001
    write_parquet(copy / FULL / "forecasts.parquet", table)
    found = fails(copy / FULL)
    assert set(found) == {"record"}
    assert found["record"]["offending"][0]["column"] == "mae"
    row = fails(copy / FULL, 74)["truncation"]["offending"]
    assert [(r["time"], r["column"]) for r in row] == [
        (str(table.loc[at, "cutoff"])[:19].replace(" ", "T"), "q50[h=1]")
    ]


def centred(returns: np.ndarray, scale: Any) -> tuple[np.ndarray, Any]:
    """Sigma of a bar from the returns around it."""
    from forecasting.scale import causal_sigma

    sigma, state = causal_sigma(returns, scale)
    ahead = np.concatenate([np.abs(returns[:, 1:]), np.abs(returns[:, -1:])], axis=1)
    return (sigma + ahead + np.abs(returns)) / 3, state


def centre(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("forecasting.codecs.bins.causal_sigma", centred)


def test_a_centred_average_in_a_scale_is_caught_in_the_run_and_in_the_code(copy: Path) -> None:
    remake(copy / FULL, "train", centre)
    found = fails(copy / FULL)
    assert {"truncation", "training-rows"} <= set(found)
    assert found["training-rows"]["offending"][0]["column"] == "train sha"
    with pytest.MonkeyPatch.context() as patch:
        centre(patch)
        assert "causal-scale" in fails(copy / FULL)


def on_all_data(patch: pytest.MonkeyPatch) -> None:
    from forecasting.codecs.fit import fit_codec

    def fit(codec: Any, bars: Bars, options: Any, first: int, last: int) -> Any:
        return fit_codec(codec, bars, options, 0, len(bars) - 1)

    patch.setattr("tunetrade.prepared.fit_codec", fit)


def test_a_scale_fitted_on_all_data_is_caught_in_the_run_and_in_the_code(copy: Path) -> None:
    folder = copy / "hourly/EURUSD-H1/full/1"
    remake(folder, "train", on_all_data)
    found = fails(folder)
    assert {"fit-windows", "training-rows"} <= set(found)
    assert found["fit-windows"]["offending"][0]["column"] == "profile"
    with pytest.MonkeyPatch.context() as patch:
        on_all_data(patch)
        found = fails(folder)
    assert {"fit-windows", "training-rows"} <= set(found)


def test_of_many_training_windows_a_sample_is_made_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunetrade.audit.fitting.MOST_WINDOWS", 20)
    monkeypatch.setattr("tunetrade.audit.rows.SAMPLED", 16)
    folder = copy / "hourly/EURUSD-H1/full/1"
    remake(folder, "train", lambda _: None)
    found = check_of(audit_place(folder), "training-rows")
    assert (found["status"], found["said"][:6]) == ("PASS", "16 of ")
    remake(folder, "train", on_all_data)
    assert fails(folder)["training-rows"]["offending"][0]["column"] == "train sample_sha"


def at_the_decision(patch: pytest.MonkeyPatch) -> None:
    """Orders fill at the close they were decided at."""

    def market(bars: Bars, *rest: Any) -> Any:
        real = market_of(bars, *rest)
        opened = np.concatenate([real.open[:1], real.close[:-1]])
        return replace(real, open=opened)

    patch.setattr("strategies.backtest.market_of", market)


@pytest.mark.parametrize("folder", [FULL, "hourly/EURUSD-H1/full/1"])
def test_a_fill_at_the_close_of_the_decision_is_caught_in_the_run_and_in_the_code(copy: Path, folder: str) -> None:
    remake(copy / folder, "backtest", at_the_decision)
    found = fails(copy / folder)
    assert {"fills", "record"} <= set(found)
    assert found["fills"]["offending"][0]["column"] in ("entry_price", "exit_price")
    with pytest.MonkeyPatch.context() as patch:
        at_the_decision(patch)
        assert "fills" in fails(copy / folder)


def test_a_fill_in_the_bar_of_the_decision_is_caught_in_the_run_and_in_the_code(copy: Path) -> None:
    from strategies.plans import plan_of

    def early(patch: pytest.MonkeyPatch) -> None:
        def plan(*asked: Any) -> Any:
            real = plan_of(*asked)
            return replace(real, side=np.concatenate([real.side[1:], real.side[-1:]]))

        patch.setattr("strategies.backtest.plan_of", plan)

    remake(copy / FULL, "backtest", early)
    found = fails(copy / FULL)
    assert {"fills", "record"} <= set(found)
    assert found["fills"]["offending"][0]["column"] in ("position", "direction", "exit_time")
    with pytest.MonkeyPatch.context() as patch:
        early(patch)
        assert "targets" in fails(copy / FULL)


def test_overlapping_parts_are_caught_by_what_was_trained_on(copy: Path) -> None:
    def overlapping(patch: pytest.MonkeyPatch) -> None:
        def parts(*asked: Any) -> Any:
            real = split(*asked)
            return replace(real, train=np.arange(real.train[0], real.validation[0] + 20))

        patch.setattr("tunetrade.prepared.split", parts)

    remake(copy / FULL, "train", overlapping)
    found = fails(copy / FULL)
    assert {"split", "training-rows"} <= set(found)
    row = found["split"]["offending"][0]
    assert row["column"] == "last target of train"
    assert row["seen"] > row["recomputed"] == "2019-01-02T15:00:00"
    with pytest.MonkeyPatch.context() as patch:
        overlapping(patch)
        assert "split" in fails(copy / FULL)


def peeking(bars: Bars, spec: Any, warm_up: int, positions: np.ndarray) -> Contexts:
    """Contexts whose last close but one is the close to come."""
    real = contexts(bars, spec, warm_up, positions)
    closes = real.closes.copy()
    closes[:, -2] = bars.closes[np.minimum(positions + 1, len(bars) - 1)]
    return replace(real, closes=closes)


def test_a_context_with_its_target_is_caught_in_the_run_and_in_the_code(copy: Path) -> None:
    def peek(patch: pytest.MonkeyPatch) -> None:
        patch.setattr("forecasting.evaluate.contexts", peeking)

    remake(copy / FULL, "forecast", peek)
    found = fails(copy / FULL)
    assert {"truth", "truncation"} <= set(found)
    assert found["truth"]["offending"][0]["column"] == "input_sha"
    with pytest.MonkeyPatch.context() as patch:
        peek(patch)
        assert "truncation" in fails(copy / FULL)


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered baseline that keeps the series it was made of and forecasts what it holds."""

    class Oracle(naive.RandomWalk):
        def predict(self, asked: Contexts, progress: Any = None) -> Any:
            made = super().predict(asked, progress)
            bars = self.asked.bars
            at = np.searchsorted(bars.times, asked.cutoffs)
            share = 0.5 * (bars.closes[np.minimum(at + 1, len(bars) - 1)] - bars.closes[at])
            forecasts = replace(made.forecasts, mean=made.forecasts.mean + share[:, None])
            return replace(made, forecasts=forecasts)

    monkeypatch.setitem(BASELINES, "drift", Baseline(Oracle))  # type: ignore[index]


def test_a_forecaster_that_holds_the_future_is_caught_by_cutting_and_by_its_skill(
    oracle: None, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNETRADE_CACHE", str(tmp_path / "cache"))
    changes = {"methods": [], "ensemble": {}, "baselines": ["drift"], "benchmarks": [], "base": str(tiny_base)}
    run_study(study_from({**VALUES, **changes}), tmp_path, runner=in_this_process)
    found = {
        check["name"]: check
        for check in read_json(tmp_path / "audited/EURUSD-D1/drift/0/audit.json")["checks"]
        if check["status"] == "FAIL"
    }
    assert {"truncation", "skill"} <= set(found)
    assert found["skill"]["measured"]["r2"] == pytest.approx(0.75)  # half of each move is left, a quarter of its square


def test_an_account_that_earns_on_shuffled_prices_is_caught(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from strategies.twin import simulate

    def generous(*asked: Any) -> Any:
        run = simulate(*asked)
        return replace(run, equity=run.equity + 20.0 * len(run.trades))

    monkeypatch.setattr("tunetrade.audit.controls.simulate", generous)
    assert set(fails(copy / FULL)) == {"negative-control"}


def test_an_audit_that_cannot_see_a_leak_says_so(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cutting does not cut, a leak and honesty look alike."""
    monkeypatch.setattr("tunetrade.audit.truncation.until", lambda bars, position: bars)
    found = statuses(audit_place(copy / FULL))
    assert (found["truncation"], found["positive-control"]) == ("PASS", "FAIL")


@pytest.mark.parametrize(
    ("card", "allowed", "status"),
    [
        ({"cutoff": "2019-07-01"}, False, "FAIL"),
        ({"cutoff": "2019-07-01"}, True, "WARN"),
        ({"cutoff": "2017-12-31", "cutoff_stated": False}, False, "WARN"),
        ({"cutoff": "2018-12-31"}, False, "PASS"),
    ],
)
def test_what_the_base_has_seen_is_held_against_the_parts(
    copy: Path, card: dict[str, Any], allowed: bool, status: str
) -> None:
    run = read_json(copy / FULL / "run.json")
    write_json(
        copy / FULL / "run.json",
        {**run, "base": {**run["base"], **card}, "config": {**run["config"], "allow_seen": allowed}},
    )
    assert check_of(audit_place(copy / FULL), "base-cutoff")["status"] == status


def test_a_source_that_has_changed_fails_and_nothing_else_is_claimed(copy: Path) -> None:
    file = copy.parent / "EURUSD_H1.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    os.chdir(copy.parent)
    found = statuses(audit_place(copy / "hourly/EURUSD-H1/full/1"))
    assert found.pop("source") == "FAIL"
    assert set(found.values()) == {"SKIPPED"}
