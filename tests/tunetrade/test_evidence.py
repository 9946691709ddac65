"""evidence.json of simulated studies: against the project's own figures, plain loops, and what must hold of it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.evidence import write_study
from forecasting.bootstrap import means, weights, weights_within
from forecasting.evaluate import table_errors
from forecasting.files import read_json, write_parquet
from forecasting.significance import clark_west, diebold_mariano
from strategies.agreement import kendall
from strategies.deflated import deflated_sharpe, moments
from strategies.metrics import daily_returns, return_figures, years_between
from tunetrade.evidence import evidence_of, write_evidence
from tunetrade.evidence.errors import ratio_of_means
from tunetrade.evidence.panel import stretches

ROOT = Path(__file__).parents[2]
HORIZON, ORIGINS = 4, 120


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "simulated"
    write_study(folder, methods=3, series=2, origins=ORIGINS, horizon=HORIZON, seeds=2, trials=12)
    return folder


@pytest.fixture(scope="module")
def found(runs):
    return evidence_of(runs)  # with all replications


def table_of(runs, method, seed=0, series="SIM0-D1"):
    return pd.read_parquet(runs / series / method / str(seed) / "forecasts.parquet")


def losses_of(table, loss):
    """Mean loss over the steps of each origin, by pandas."""
    values = (table["y"] - table["mean"]) ** 2 if loss == "squared" else table["crps"]
    return values.groupby(table["cutoff"]).mean().to_numpy()


def copy_of(runs, tmp_path):
    return Path(shutil.copytree(runs.parent, tmp_path / "runs")) / runs.name


def change(runs, method, how, series=("SIM0-D1", "SIM1-D1")):
    for each in series:
        for file in runs.glob(f"{each}/{method}/*/forecasts.parquet"):
            write_parquet(file, how(pd.read_parquet(file)))


def test_values_are_the_figures_of_the_forecast_stage(runs, found):
    wanted = table_errors(table_of(runs, "untuned"), 0.01 / 2.5)
    own = found["series"]["SIM0-D1"]["errors"]["methods"]["untuned"]
    for name in own["figures"].keys() & wanted["overall"].keys():
        assert own["figures"][name]["value"] == pytest.approx(wanted["overall"][name], rel=1e-6), name
    assert len(own["figures"].keys() & wanted["overall"].keys()) == 11
    for step in range(1, HORIZON + 1):
        assert own["by_step"][str(step)]["crps"]["value"] == pytest.approx(wanted["by_step"][str(step)]["crps"])


def test_values_of_money_are_the_figures_of_the_backtest(runs, found):
    equity = pd.read_parquet(runs / "SIM0-D1/untuned/0/equity.parquet")
    own = found["series"]["SIM0-D1"]["money"]["methods"]["untuned"]
    returns, years = daily_returns(equity), years_between(equity["time"].dt.tz_localize(None).to_numpy())
    figures = {name: each["value"] for name, each in own["figures"].items()}
    assert figures["net_profit"] == pytest.approx(equity["equity"].iloc[-1] - 10_000)
    for name, value in return_figures(returns.to_numpy(), years).items():
        assert figures[name] == pytest.approx(value, rel=1e-6)
    money = equity["equity"].to_numpy()
    assert figures["max_drawdown_money"] == pytest.approx((np.maximum.accumulate(money) - money).max())
    assert own["sharpe"]["by_seed"]["0"]["value"] == pytest.approx(figures["sharpe"], rel=1e-6)


def test_an_interval_is_that_of_a_plain_loop_over_the_same_draws(runs, found):
    errors = found["series"]["SIM0-D1"]["errors"]
    drawn = weights(ORIGINS, errors["block_length"], 1000, 1)
    own, walk = (losses_of(table_of(runs, name), "squared") for name in ("untuned", "random-walk"))
    ratios = [np.repeat(own, row.astype(int)).sum() / np.repeat(walk, row.astype(int)).sum() for row in drawn]
    figure = errors["methods"]["untuned"]["figures"]["mse_ratio"]
    value = own.mean() / walk.mean()
    # Widened to what the test of the same difference says: Student's t and a long-run error instead of blocks alone.
    tested = diebold_mariano(own / walk.mean(), value * walk / walk.mean() + 1, HORIZON)
    factor = stats.t.ppf(0.975, tested.degrees) * tested.error / (1.959964 * np.std(ratios))
    wanted = value + max(1, factor) * (np.percentile(ratios, (2.5, 97.5)) - value)
    assert factor > 1
    assert (figure["low"], figure["high"]) == pytest.approx(tuple(wanted), rel=1e-5)


def test_intervals_of_overlapping_forecasts_hold_the_truth():
    rng, held, narrow = np.random.default_rng(0), 0, 0
    drawn = weights(250, 20.0, 200, 1)
    for _ in range(150):
        steps = np.cumsum(rng.standard_normal((270, 3)), axis=0)
        shared, one, other = ((steps[20:] - steps[:-20]) / 4.5).T
        top, bottom = (np.column_stack([x] + [np.ones(250)] * 20) for x in (9 + shared + one, 9 + shared + other))
        tops, bottoms = means(drawn, top), means(drawn, bottom)
        _, replicates = ratio_of_means(top, bottom, tops, bottoms)
        low, high = np.percentile(replicates[:, 0], (2.5, 97.5))
        held += low <= 1 <= high
        low, high = np.percentile(tops[:, 0] / bottoms[:, 0], (2.5, 97.5))
        narrow += low <= 1 <= high
    assert held / 150 > 0.88
    assert narrow / 150 < 0.88


def test_tests_average_seeds_before_they_compare(runs, found):
    own = np.mean([losses_of(table_of(runs, "method-00", seed), "crps") for seed in (1, 2)], axis=0)
    wanted = diebold_mariano(own, losses_of(table_of(runs, "ewma-t"), "crps"), HORIZON)
    got = found["series"]["SIM0-D1"]["errors"]["methods"]["method-00"]["tests"]["density"]
    assert (got["statistic"], got["p_value"]) == pytest.approx((wanted.statistic, wanted.p_value), rel=1e-6)
    assert got["reference"] == "ewma-t"
    table = table_of(runs, "untuned")
    steps = [table[column].to_numpy().reshape(-1, HORIZON) for column in ("y", "anchor", "mean")]
    got = found["series"]["SIM0-D1"]["errors"]["methods"]["untuned"]["tests"]["clark_west"]["difference"]
    assert got == pytest.approx(clark_west(*(column.ravel() for column in steps), 1).difference, rel=1e-5)


def test_a_second_copy_of_a_series_makes_nothing_surer(runs, tmp_path):
    """Two series that move as one are one piece of evidence."""
    twice = copy_of(runs, tmp_path)
    shutil.rmtree(twice / "SIM1-D1")
    (twice / "study.json").unlink()
    once = evidence_of(twice, 200)["overall"]["errors"]["methods"]["method-00"]
    shutil.copytree(twice / "SIM0-D1", twice / "COPY-D1")
    for file in twice.glob("COPY-D1/*/*/run.json"):
        file.write_text(file.read_text().replace("SIM0-D1", "COPY-D1"))
    both = evidence_of(twice, 200)["overall"]["errors"]["methods"]["method-00"]
    assert both["skill"] == once["skill"]
    assert both["tests"]["density"]["p_value"] == pytest.approx(once["tests"]["density"]["p_value"])
    assert both["win_rate"]["density"]["series"] == 2


def test_a_better_method_beats_and_a_worse_one_loses(runs, tmp_path):
    planted = copy_of(runs, tmp_path)
    change(planted, "method-00", lambda table: table.assign(crps=table["crps"] * 0.7))
    change(planted, "method-01", lambda table: table.assign(crps=table["crps"] * 1.4))
    found = evidence_of(planted, 200)
    for part in (found["overall"]["errors"], found["series"]["SIM1-D1"]["errors"]):
        for against in ("density", "density_untuned"):
            verdict = {name: part["methods"][name]["tests"][against]["verdict"] for name in ("method-00", "method-01")}
            assert verdict == {"method-00": "BEATS", "method-01": "LOSES"}
        assert part["model_sets"]["density"]["confidence_set"]["included"] == ["method-00"]
        assert part["model_sets"]["density"]["superior_ability"]["p_value"] < 0.01
        assert part["model_sets"]["density"]["superior_ability"]["best"] == "method-00"
    skill = found["overall"]["errors"]["methods"]["method-00"]["skill"]["density_untuned"]
    assert skill["value"] == pytest.approx(0.3, abs=0.05)


def test_money_differences_are_paired(runs, tmp_path):
    """An account that earns a little more than the untuned one every day beats it, whatever both scatter by."""
    planted = copy_of(runs, tmp_path)
    for series in ("SIM0-D1", "SIM1-D1"):
        base = pd.read_parquet(planted / series / "untuned/0/equity.parquet")
        extra = np.random.default_rng(0).normal(1, 2, len(base)).cumsum()
        for file in planted.glob(f"{series}/method-01/*/equity.parquet"):
            write_parquet(file, base.assign(equity=base["equity"] + extra - extra[0]))
        shutil.copy(planted / series / "untuned/0/equity.parquet", planted / series / "random-walk/0/equity.parquet")
    found = evidence_of(planted, 200)
    agreement = found["overall"]["rank_agreement"]["density"]
    assert agreement["accounts"] == len(agreement["methods"]) - 1
    own = found["series"]["SIM0-D1"]["money"]["methods"]["method-01"]
    assert own["tests"]["untuned"]["verdict"] == "BEATS"
    assert own["figures"]["net_profit"]["low"] < 0 < own["tests"]["untuned"]["low"]
    assert found["overall"]["money"]["methods"]["method-01"]["tests"]["untuned"]["verdict"] == "BEATS"
    gap = next(
        row for row in found["series"]["SIM0-D1"]["money"]["differences"]
        if {row["one"], row["other"]} == {"method-01", "untuned"}
    )  # fmt: skip
    assert abs(gap["value"]) == pytest.approx(own["tests"]["untuned"]["difference"])
    assert gap["p_value"] < 0.05


def test_at_the_break_even_spread_nothing_is_left(runs, found, tmp_path):
    trades = pd.read_parquet(runs / "SIM0-D1/untuned/0/trades.parquet")
    own = found["series"]["SIM0-D1"]["money"]["methods"]["untuned"]["break_even"]
    dearer = trades["net_profit"] - (own["times"] - 1) * trades["spread_cost"]
    assert dearer.sum() == pytest.approx(0, abs=1e-4)
    assert own["points"] == pytest.approx(own["times"] * 10)
    planted = copy_of(runs, tmp_path)
    for file in planted.glob("SIM0-D1/method-*/*/trades.parquet"):  # 9 trades a seed, 18 of both
        write_parquet(file, pd.read_parquet(file).head(9))
    few = evidence_of(planted, 50)["series"]["SIM0-D1"]["money"]["methods"]
    assert few["method-00"]["break_even"] == {"reason": "9 trades are too few; at least 10 are needed"}
    assert few["untuned"]["break_even"] == own


def test_every_trial_of_the_ledger_counts(runs, found, tmp_path):
    part = found["series"]["SIM0-D1"]["trials"]
    assert (part["trials"], part["on_these_days"], part["failed"], part["alike"]) == (12, 12, 0, 0)
    assert part["overfitting"]["trials"] == 12
    lines = [json.loads(line) for line in (runs.parent / "ledger.jsonl").read_text().splitlines()]
    ratios = [moments(np.array(line["daily_returns"])).sharpe for line in lines if line["unique_id"] == "SIM0-D1"]
    returns = daily_returns(pd.read_parquet(runs / "SIM0-D1/untuned/0/equity.parquet")).to_numpy()
    wanted = deflated_sharpe(moments(returns), 12, np.var(ratios, ddof=1))
    assert part["deflated"]["untuned"]["0"]["probability"] == pytest.approx(wanted, rel=1e-6)
    more = copy_of(runs, tmp_path)
    trial = {**lines[0], "key": "again", "kind": "trial"}
    others = [
        trial,  # earned the same on the same days: no other trial
        {**trial, "key": "early", "days": ["2001-01-01", "2001-01-02", "2001-01-03"], "daily_returns": [0.1, 0, 0.2]},
        {"key": "failed", "kind": "method", "unique_id": "SIM0-D1", "failure": "why"},
        {**trial, "key": "held", "kind": "benchmark", "daily_returns": [0.0] * len(trial["days"])},
    ]
    with (more.parent / "ledger.jsonl").open("a") as ledger:
        ledger.writelines(json.dumps(line) + "\n" for line in others)
    part = evidence_of(more, 200)["series"]["SIM0-D1"]["trials"]
    assert (part["trials"], part["on_these_days"], part["failed"], part["alike"]) == (14, 12, 1, 1)


def test_agreement_is_tau_of_what_is_reported(runs, found):
    own = found["overall"]["rank_agreement"]["density"]
    for series, tau in own["by_series"].items():
        part = found["series"][series]
        errors = [part["errors"]["methods"][name]["figures"]["crps"]["value"] for name in own["methods"]]
        money = [part["money"]["methods"][name]["figures"]["net_profit"]["value"] for name in own["methods"]]
        assert tau == pytest.approx(kendall(-np.array([errors]), np.array([money]))[0])
    assert own["accounts"] == len(own["methods"])
    assert own["value"] == pytest.approx(np.mean(list(own["by_series"].values())))


def test_it_is_written_once_and_anew_when_the_ledger_grows(runs, tmp_path):
    own = copy_of(runs, tmp_path)
    file = write_evidence(own)
    first, stamp = file.read_bytes(), file.stat().st_mtime_ns
    assert write_evidence(own) == file
    assert file.stat().st_mtime_ns == stamp
    (own / "SIM0-D1/untuned/0/audit.json").write_text("{}")  # says nothing of errors or money
    assert write_evidence(own).stat().st_mtime_ns == stamp
    table = pd.read_parquet(own / "SIM0-D1/untuned/0/forecasts.parquet")
    write_parquet(own / "SIM0-D1/untuned/0/forecasts.parquet", table.assign(crps=table["crps"] / 2))
    halved = read_json(write_evidence(own))["series"]["SIM0-D1"]["errors"]["methods"]["untuned"]["figures"]["crps"]
    before = json.loads(first)["series"]["SIM0-D1"]["errors"]["methods"]["untuned"]["figures"]["crps"]
    assert halved["value"] == pytest.approx(before["value"] / 2)
    shutil.copy(runs / "SIM0-D1/untuned/0/forecasts.parquet", own / "SIM0-D1/untuned/0/forecasts.parquet")
    file.write_text("{torn")
    assert write_evidence(own).read_bytes() == first
    line = json.loads((own.parent / "ledger.jsonl").read_text().splitlines()[0])
    line |= {"key": "one more", "daily_returns": line["daily_returns"][::-1]}
    with (own.parent / "ledger.jsonl").open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")
    assert read_json(write_evidence(own))["series"]["SIM0-D1"]["trials"]["trials"] == 13


def test_what_cannot_be_said_has_a_reason(runs, tmp_path):
    own = copy_of(runs, tmp_path)
    (own.parent / "ledger.jsonl").unlink()
    (own / "SIM0-D1/method-00/1/forecasts.parquet").write_bytes(b"torn")
    for file in own.glob("SIM1-D1/*/*/forecasts.parquet"):
        table = pd.read_parquet(file)
        write_parquet(file, table[table["cutoff"] <= table["cutoff"].unique()[10]])
    for file in own.glob("SIM1-D1/*/*/equity.parquet"):
        file.unlink()
    found = evidence_of(own, 200)
    assert "forecasts.parquet: cannot be read" in found["series"]["SIM0-D1"]["errors"]["reason"]
    assert "11 origins are too few" in found["series"]["SIM1-D1"]["errors"]["reason"]
    assert "no finished run was traded" in found["series"]["SIM1-D1"]["money"]["reason"]
    trials = found["series"]["SIM0-D1"]["trials"]
    assert "no trial in the ledger" in trials["overfitting"]["reason"]
    assert "(0) than accounts in the study (7)" in trials["deflated"]["reason"] and trials["expected_of_luck"] is None
    assert found["overall"]["errors"] == {"reason": "no series has errors"}
    assert "at least 4" in found["overall"]["rank_agreement"]["reason"]
    json.dumps(found, allow_nan=False)


def test_methods_are_compared_on_the_origins_they_share(runs, tmp_path):
    own = copy_of(runs, tmp_path)
    change(own, "method-01", lambda table: table[table["cutoff"] > table["cutoff"].unique()[19]], ("SIM0-D1",))
    part = evidence_of(own, 200)["series"]["SIM0-D1"]["errors"]
    assert (part["origins"], part["origins_left_out"]) == (ORIGINS - 20, 20)
    table = table_of(own, "ewma-t")
    kept = table[table["cutoff"] > table["cutoff"].unique()[19]]
    assert part["methods"]["ewma-t"]["figures"]["crps"]["value"] == pytest.approx(kept["crps"].mean())


def test_every_key_is_described(found):
    """Names of series, methods, seeds and steps aside, docs/EVIDENCE.md names every key of the file."""
    words = set(re.findall(r"[a-z_0-9]+", (ROOT / "docs/EVIDENCE.md").read_text(encoding="utf-8")))
    names = {*found["methods"], *found["series"], "0", "1", "2", "3", "4"}

    def keys(value):
        if isinstance(value, dict):
            return set(value) | set().union(*map(keys, value.values()))
        return set().union(*map(keys, value)) if isinstance(value, list) else set()

    assert keys(found) - names - words == set()


def test_a_series_that_ends_early_has_days_in_every_replicate():
    """Its ratio would else be that of rounding: intervals of skill from -24 to 17 % were seen."""
    days = np.datetime64("2020-01-01") + np.arange(2_000)
    within = stretches(days, [days, days[:125], days[1:125]])
    assert within == [1, 124, 1_875]
    drawn = weights_within(within, 140.0, 300, 1)
    assert drawn.shape == (300, 2_000)
    assert (drawn[:, :125].sum(axis=1) == 125).all() and (drawn[:, 125:].sum(axis=1) == 1_875).all()
    assert (weights(2_000, 140.0, 300, 1)[:, :125].sum(axis=1) == 0).mean() > 0.05
    assert np.array_equal(weights_within([2_000], 140.0, 300, 1), weights(2_000, 140.0, 300, 1))
