"""The search: its figures against their files, nothing seen of the test part, a planted edge, and what it refuses."""

import csv
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from searching import TEST_START, at, journal, optimize, write_case
from small import in_this_process

from forecasting.base import find_base
from forecasting.errors import ConfigError
from forecasting.files import read_json
from forecasting.forecasts import from_table
from strategies.backtest import run_backtest
from strategies.deflated import deflated_sharpe, moments
from strategies.metrics import daily_returns
from tunetrade.cli import main
from tunetrade.config import load_study, study_from
from tunetrade.layout import VOLATILE, VOLATILE_FOLDERS
from tunetrade.ledger import trials
from tunetrade.optimize import load_optimize, open_search, search_from, workplace
from tunetrade.optimize_models import load_search, model_cell
from tunetrade.optimize_money import Money, portfolio
from tunetrade.optimize_reads import READ_WITH, SIGNAL, size_of, used
from tunetrade.optimize_result import chosen, deflation, pareto_front
from tunetrade.optimize_space import Dimension, neighbours, optimize_options, own_point, study_at
from tunetrade.progress import Board

RUN = Path("runs/small")


def test_every_trial_is_there_and_each_model_was_made_once(searched: Path) -> None:
    found = journal(searched)
    assert [trial["number"] for trial in found] == list(range(10))
    assert {trial["state"] for trial in found} == {"COMPLETE"}
    points = {json.dumps(used(trial["params"]), sort_keys=True) for trial in found}
    assert len(points) == 10
    assert any("trading.threshold_k" not in point for point in points)
    rates = {trial["params"]["method.full.learning_rate"] for trial in found}
    folders = [file.parent for file in (searched / RUN / "optimize/EURUSD-D1").glob("*/*/run.json")]
    assert sorted(folder.parent.name for folder in folders) == ["ewma-t", *["full"] * len(rates)]
    assert not list((searched / RUN).glob("*/*/*/run.json")), "a report would take them for cells"


def test_objectives_and_constraints_are_what_the_files_say(searched: Path) -> None:
    lines = {line["key"]: line for line in trials(searched / "runs/ledger.jsonl")}
    folder = searched / RUN / "optimize/EURUSD-D1"
    (yardstick,) = (pd.read_parquet(file)["crps"].to_numpy() for file in folder.glob("ewma-t/*/validation.parquet"))
    models = {
        read_json(file)["config"]["method"]["full"]["learning_rate"]: pd.read_parquet(
            file.parent / "validation.parquet"
        )
        for file in folder.glob("full/*/run.json")
    }
    for trial in journal(searched):
        crps = models[trial["params"]["method.full.learning_rate"]]["crps"].to_numpy()
        returns = np.array(lines[trial["attrs"]["figures"]["key"]]["daily_returns"])
        days = pd.to_datetime(lines[trial["attrs"]["figures"]["key"]]["days"])
        years = ((days[-1] - days[0]).days + 1) / 365.25
        skill, sharpe = trial["values"]
        assert skill == pytest.approx(1 - (sum(crps) / len(crps)) / (sum(yardstick) / len(yardstick)))
        assert sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * np.sqrt(len(days) / years), rel=1e-6)
        wealth = [1.0]
        for value in returns:
            wealth.append(wealth[-1] * (1 + value))
        fall = max(1 - wealth[i] / max(wealth[: i + 1]) for i in range(len(wealth)))
        assert trial["constraints"]["drawdown"] == pytest.approx(fall - 0.3, abs=1e-8)
        assert trial["constraints"]["trades"] == 5 - trial["attrs"]["figures"]["trades"]


def test_the_money_of_a_trial_is_that_of_the_backtrader_run(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(searched)
    values = load_optimize(Path("small.toml"))
    study, options = search_from(values)
    (series,) = load_search(study, options.space)
    lines = {line["key"]: line["daily_returns"] for line in trials(Path("runs/ledger.jsonl"))}
    for trial in journal(searched)[:3]:
        own = study_at(study, trial["params"])
        table = pd.read_parquet(model_cell(own, series, Path("runs")).paths.validation_table)
        wanted = run_backtest(
            series.bars(own), from_table(table), own.trading, own.broker, context=12, span=series.span
        )
        figures = trial["attrs"]["figures"]
        np.testing.assert_allclose(lines[figures["key"]], daily_returns(wanted.equity), atol=1e-9)
        assert figures["trades"] == len(wanted.trades) > 0


def test_the_ledger_counts_trials_and_neighbours_once_with_validation_days_only(searched: Path) -> None:
    lines = trials(searched / "runs/ledger.jsonl")
    result = read_json(searched / RUN / "optimize.json")
    known = {row["key"] for row in result["rows"]}
    assert len(lines) == len({line["key"] for line in lines}) >= len(known)
    assert known <= {line["key"] for line in lines}
    for line in lines:
        assert (line["kind"], line["study"], line["unique_id"], line["seed"]) == ("search", "small", "EURUSD-D1", 7)
        assert len(line["days"]) == len(line["daily_returns"]) > 50
        assert "2019-01-01" <= min(line["days"]) <= max(line["days"]) < TEST_START
    own = next(line for line in lines if line["key"] == result["rows"][result["winner"]]["key"])
    returns = {tuple(line["daily_returns"]) for line in lines}
    ratios = [moments(np.array(values)).sharpe for values in returns]
    wanted = deflated_sharpe(moments(np.array(own["daily_returns"])), len(returns), float(np.var(ratios, ddof=1)))
    assert result["deflated"]["trials"] == len(returns)
    assert result["deflated"]["probability"] == pytest.approx(wanted)
    assert any("Not significant" in warning for warning in result["warnings"])


def test_the_winner_its_neighbours_and_its_file(searched: Path) -> None:
    result = read_json(searched / RUN / "optimize.json")
    winner = result["rows"][result["winner"]]
    assert winner["front"]
    assert winner["feasible"]
    final, study = load_study(searched / RUN / "optimized.toml"), load_study(searched / "small.toml")
    assert final.name == "small-optimized"
    assert final.options_of("full").learning_rate == winner["settings"]["method.full.learning_rate"]
    assert final.trading.signal == winner["settings"]["trading.signal"]
    assert (final.split, final.windows, final.seeds, final.broker) == (
        study.split, study.windows, study.seeds, study.broker,
    )  # fmt: skip
    for row in result["robustness"]:
        assert row["value"] != winner["settings"][row["key"]]
    assert {row["key"] for row in result["robustness"]} == set(result["space"])
    rows = list(csv.DictReader((searched / RUN / "optimize.csv").open()))
    assert [float(row["sharpe"]) for row in rows] == [row["sharpe"] for row in result["rows"]]
    page = (searched / RUN / "optimize.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (searched / RUN / "optimize.png").read_bytes()[:4] == b"\x89PNG"
    assert "Do not trade it" in (searched / RUN / "optimize.md").read_text()
    for shares in result["importance"].values():
        assert sum(shares.values()) == pytest.approx(1)


def contents(runs: Path) -> dict[str, Any]:
    """All that a search leaves, without the clock's and the machine's figures."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in runs.rglob("*") if path.is_file() and "locks" not in path.parts):
        name = file.relative_to(runs).as_posix()
        if set(file.parts) & set(VOLATILE_FOLDERS) or file.name == "journal.log" or "/." in f"/{name}":
            continue
        if file.suffix == ".json":
            left_out = {*VOLATILE.get(file.name, ()), "git"}
            found[name] = {key: value for key, value in read_json(file).items() if key not in left_out}
        else:
            found[name] = file.read_bytes()
    return found


def test_the_test_part_changes_no_byte(searched: Path, tmp_path: Path, tiny_base: Path) -> None:
    write_case(tmp_path, tiny_base, changed_from=TEST_START)
    assert (tmp_path / "EURUSD_D1.csv").read_bytes() != (searched / "EURUSD_D1.csv").read_bytes()
    assert optimize(tmp_path)[0] == 0
    assert journal(tmp_path) == journal(searched)
    assert contents(tmp_path / "runs") == contents(searched / "runs")


def test_a_file_with_its_keys_in_another_order_is_the_same_search(
    searched: Path, tmp_path: Path, tiny_base: Path
) -> None:
    text = (searched / "small.toml").read_text()
    head, space = text.split("[optimize.space]\n")
    assert sorted(space.splitlines()) not in (space.splitlines(), space.splitlines()[::-1])
    write_case(tmp_path, tiny_base)
    shutil.copytree(searched / RUN / "optimize/EURUSD-D1", tmp_path / RUN / "optimize/EURUSD-D1")
    (tmp_path / "small.toml").write_text("\n".join([f"{head}[optimize.space]", *space.splitlines()[::-1]]))
    assert optimize(tmp_path)[0] == 0
    assert journal(tmp_path) == journal(searched)
    assert (tmp_path / RUN / "optimize.json").read_bytes() == (searched / RUN / "optimize.json").read_bytes()
    (tmp_path / "small.toml").write_text(text)
    assert optimize(tmp_path)[0] == 0, "it joins the search of the other file"


def write_waves(folder: Path, base: Path) -> None:
    """Daily closes that drift up for 20 days, then down: to follow the trend earns."""
    write_case(folder, base)
    lines = (folder / "EURUSD_D1.csv").read_text().splitlines()
    rng = np.random.default_rng(5)
    returns = np.where(np.arange(len(lines) - 1) // 20 % 2, -0.003, 0.003) + rng.normal(0, 0.002, len(lines) - 1)
    closes = 1.1 * np.exp(np.cumsum(returns))
    days = [line.split(",")[0] for line in lines[1:]]
    text = "".join(f"{day},{close:.5f}\n" for day, close in zip(days, closes, strict=True))
    (folder / "EURUSD_D1.csv").write_text(f"time,close\n{text}")
    values = (folder / "small.toml").read_text().replace('["full"]', '["untuned"]')
    space = '[optimize.space]\n"trading.signal" = ["mean-vs-last", "threshold", "mean-vs-context"]\n'
    space += '"trading.threshold_k" = [0.0, 1.0, 2.0, 4.0]\n"trading.lots" = [0.05, 0.1]\n'
    (folder / "small.toml").write_text(values.split("[optimize.space]")[0] + space)


def test_a_planted_edge_is_found(tmp_path: Path, tiny_base: Path) -> None:
    write_waves(tmp_path, tiny_base)
    _, result = optimize(tmp_path)
    winner = result["rows"][result["winner"]]
    assert winner["settings"]["trading.signal"] == "mean-vs-context"
    assert winner["sharpe"] > 3
    assert all(row["sharpe"] < 0 for row in result["rows"] if row["settings"]["trading.signal"] == "mean-vs-last")


def test_deflation_counts_who_looked_at_the_same_days(tmp_path: Path) -> None:
    """A strong winner among weak trials passes; other series, other days, benchmarks and twins do not count."""
    rng = np.random.default_rng(6)
    days = [str(day)[:10] for day in pd.bdate_range("2019-01-01", periods=500)]

    def line(key: str, mean: float, **changed: Any) -> dict[str, Any]:
        returns = list(rng.normal(mean, 0.01, 500))
        own = {"key": key, "kind": "search", "unique_id": "A-D1+B-D1", "days": days, "daily_returns": returns}
        return own | changed

    later = [day.replace("2019", "2023").replace("2020", "2024") for day in days]
    lines = [line("w", 0.004), *(line(f"n{i}", 0.0) for i in range(20)), line("t", 0.0, kind="trial", unique_id="A-D1")]
    left_out = [
        line("a", 0.0, kind="benchmark"), line("b", 0.0, unique_id="C-D1"), line("c", 0.0, days=later),
        {"key": "d", "kind": "search", "unique_id": "A-D1", "failed": "out of memory"}, {**lines[3], "key": "twin"},
    ]  # fmt: skip
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(each) + "\n" for each in [*left_out, *lines]))
    found = deflation(tmp_path / "ledger.jsonl", "w", ["A-D1"])
    ratios = [np.mean(each["daily_returns"]) / np.std(each["daily_returns"], ddof=1) for each in lines]
    assert found["trials"] == 22
    assert found["sharpe"] == pytest.approx(ratios[0] * np.sqrt(260.9), rel=0.01)
    assert found["significant"]
    weak = deflation(tmp_path / "ledger.jsonl", "n3", ["A-D1"])
    assert not weak["significant"]
    assert weak["expected_of_luck"] == found["expected_of_luck"] > 0


def test_the_final_run_is_the_winner_on_the_test_part_once(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tunetrade.study.run_cells", in_this_process)
            status, outcome = optimize(tmp_path, "--final")
        assert status == 0
    assert (outcome["done"], outcome["skipped"]) == ([], ["EURUSD-D1/full/7"])
    assert journal(tmp_path) == journal(searched)
    tested = [line for line in trials(tmp_path / "runs/ledger.jsonl") if line["kind"] == "method"]
    assert [(line["study"], min(line["days"]) >= TEST_START) for line in tested] == [("small-optimized", True)]
    assert (tmp_path / "reports/small-optimized/index.html").is_file()
    assert len(read_json(tmp_path / RUN / "optimize/final.json")["looked"]) == 1


def test_a_portfolio_of_equal_deposits_by_hand() -> None:
    days = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"])
    one = Money(pd.Series([0.02, -0.04, 0.01], days), 3)
    two = Money(pd.Series([0.04, np.nan], days[1:]), 2)
    found = portfolio([one, two])
    np.testing.assert_allclose(found.returns, [0.01, 0.0, 0.005])
    assert found.days == ("2020-01-01", "2020-01-02", "2020-01-03")
    assert found.trades == 5
    assert found.max_drawdown == 0
    assert found.total_return == pytest.approx(1.01 * 1.005 - 1)
    assert found.sharpe == pytest.approx(0.005 / 0.005 * np.sqrt(365.25))
    assert portfolio([one]).max_drawdown == pytest.approx(0.04)
    assert portfolio([Money(pd.Series([0.0, 0.0], days[:2]), 0)]).sharpe == 0


def test_the_front_and_the_winner_against_a_plain_loop() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        rows = [
            {
                "number": n, "skill": float(rng.integers(-3, 3)), "sharpe": float(rng.integers(0, 4)),
                "feasible": bool(rng.random() < 0.8),
            } for n in range(12)
        ]  # fmt: skip
        able, front, met = [row for row in rows if row["feasible"]], [], set()
        for row in able:
            beaten = any(
                other["skill"] >= row["skill"] and other["sharpe"] >= row["sharpe"]
                and (other["skill"] > row["skill"] or other["sharpe"] > row["sharpe"]) for other in able
            )  # fmt: skip
            if not beaten and (row["skill"], row["sharpe"]) not in met:
                front.append(row["number"])
                met.add((row["skill"], row["sharpe"]))
        assert pareto_front(rows) == front
        for row in rows:
            row["front"] = row["number"] in front
        skilled = [row for row in rows if row["front"] and row["skill"] >= 0] or [row for row in rows if row["front"]]
        best = max((row["sharpe"] for row in skilled), default=None)
        winner = chosen(rows)
        assert winner is None if best is None else rows[winner]["sharpe"] == best


@pytest.fixture
def values(tiny_base: Path, tmp_path: Path) -> dict[str, Any]:
    return tomllib.loads(write_case(tmp_path, tiny_base).read_text())


def test_keys_of_other_methods_are_carried_unread(values: dict[str, Any]) -> None:
    values["methods"] = ["full", "lora"]
    values["optimize"]["trials"] = 4
    values["optimize"]["space"] = {
        "method": {"lora": {"rank": [2, 4]}},
        "windows": {"context": {"low": 8, "high": 12, "step": 2}},
    }
    study = study_from(values)
    space = optimize_options(values["optimize"], study).space
    assert list(space) == ["method", "method.lora.rank", "windows.context"]
    assert space["windows.context"] == Dimension("windows.context", (), 8, 12, 2, whole=True)
    point = {"method": "full", "method.lora.rank": 4, "windows.context": 10}
    assert used(point) == {"method": "full", "windows.context": 10}
    assert (study_at(study, point).methods, study_at(study, point).windows.context) == (("full",), 10)
    assert study_at(study, {**point, "method": "lora"}).options_of("lora").rank == 4
    assert [key for key, _ in neighbours(study, space, point)] == ["method", "windows.context", "windows.context"]
    assert own_point(study, space) == {"method": "full", "method.lora.rank": 2, "windows.context": 12}
    values["optimize"]["space"]["windows"]["context"] = [8, 10]
    assert own_point(study, optimize_options(values["optimize"], study).space) is None


RULES = {
    "method": ["untuned", "full"], "method.full.learning_rate": [0.001, 0.01], "training.steps": [2, 4, 6],
    "trading.signal": ["mean-vs-last", "threshold", "probability", "quantile"], "trading.stop": ["atr:1.0", "atr:2.0"],
    "trading.threshold_k": [0.0, 1.0, 2.0], "trading.probability_margin": [0.0, 0.1],
    "trading.quantile_level": [0.1, 0.25],
    "trading.sizing": ["fixed", "risk", "volatility", "kelly"], "trading.lots": [0.1, 0.2, 0.3],
    "trading.risk_percent": [1.0, 2.0], "trading.target_volatility": [0.1, 0.2], "trading.kelly_fraction": [0.1, 0.5],
    "trading.max_leverage": [1.0, 5.0],
}  # fmt: skip


def test_points_that_read_the_same_are_one_study_and_the_size_counts_them_once(values: dict[str, Any]) -> None:
    """Against a plain loop: what is read where is written out here, and counted point by point."""
    values["methods"] = ["untuned", "full"]
    values["optimize"]["space"] = RULES
    study = study_from(values)
    space = optimize_options(values["optimize"], study).space
    assert size_of(space) == (1 + 2 * 3) * (1 + 3 + 2 + 2) * 2 * (3 + 3 * 2 * 2)
    rng = np.random.default_rng(0)
    for _ in range(40):
        point = {key: dimension.drawn(rng) for key, dimension in space.items()}
        read = used(point)
        unread = set(point) - set(read)
        other = {key: space[key].drawn(rng) if key in unread else value for key, value in point.items()}
        assert study_at(study, other) == study_at(study, point) == study_at(study, read)
        for key in set(read) - {"method"}:
            changed = next(value for value in space[key].choices if value != point[key])
            assert study_at(study, {**point, key: changed}) != study_at(study, point)
        for key in ("threshold_k", "probability_margin", "quantile_level"):
            assert (f"trading.{key}" in read) == key.startswith(point["trading.signal"])
        sizing = point["trading.sizing"]
        assert {key for key in read if key in READ_WITH and READ_WITH[key][0] != SIGNAL} == {
            "fixed": {"trading.lots"},
            "risk": {"trading.risk_percent", "trading.max_leverage"},
            "volatility": {"trading.target_volatility", "trading.max_leverage"},
            "kelly": {"trading.kelly_fraction", "trading.max_leverage"},
        }[sizing]
        assert ("training.steps" in read) == ("method.full.learning_rate" in read) == (point["method"] == "full")


def test_a_signal_of_the_users_own_may_read_the_keys_of_every_signal() -> None:
    point = {"trading.signal": "mine.py:moves", "trading.quantile_level": 0.1, "trading.threshold_k": 1.0}
    assert used(point) == point


@pytest.mark.parametrize(
    ("dimension", "value", "wanted"),
    [
        (Dimension("a", (4.0, 1.0, 2.0)), 2.0, (1.0, 4.0)),
        (Dimension("a", ("x", "y", "z")), "x", ("y",)),
        (Dimension("a", (), 1, 5, 2, whole=True), 3, (1, 5)),
        (Dimension("a", (), 0.0, 1.0), 0.05, (0.15,)),
        (Dimension("a", (), 0.001, 10.0, log=True), 0.001, (0.002512,)),
        (Dimension("a", (), 1, 4, whole=True), 2, (1, 3)),
        (Dimension("a", (), 1, 8, log=True, whole=True), 2, (1, 3)),
        (Dimension("a", (), 1, 64, log=True, whole=True), 20, (13, 30)),
    ],
)
def test_neighbours_are_a_step_away(dimension: Dimension, value: Any, wanted: tuple[Any, ...]) -> None:
    assert dimension.beside(value) == wanted


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"split.test_start": ["2019-06-01", "2019-07-01"]}, "where the parts begin is no setting to search"),
        ({"broker.spread_points": [0, 10]}, "what a broker costs or grants is no choice"),
        ({"seeds": [1, 2]}, "optimize.space.seeds cannot be searched"),
        ({"trading.signl": ["threshold"]}, "did you mean 'optimize.space.trading.signal'"),
        ({"method.lora.rank": [2, 4]}, "lora is none of the methods searched, full"),
        ({"trading.signal": ["threshold", "magic"]}, "holds 'magic', which cannot be: unknown signal"),
        ({"windows.context": [12, 4000]}, "holds 4000, which cannot be"),
        ({"windows.context": [12, 20], "windows.horizon": [3, 40]}, "windows.horizon holds 40, which cannot be"),
        ({"windows.context": {"low": 12}}, "has no high"),
        ({"windows.context": {"low": 12, "high": 12}}, "low 12 is not below high 12"),
        ({"windows.context": {"low": 8, "high": 12.5}}, "takes whole numbers"),
        ({"trading.threshold_k": {"low": 0, "high": 1, "log": True}}, "a range by logarithm begins above 0"),
        ({"trading.signal": {"low": 1, "high": 2}}, "give a list of values"),
        ({"trading.threshold_k": [1, 1.0]}, "names a value twice"),
        ({"trading.threshold_k": []}, "is empty"),
        ({"trading.threshold_k": [[1]]}, "give numbers, texts, or true and false"),
        ({"trading.threshold_k": 1}, "give a list of values"),
        ({"trading.threshold_k": [0, 1, 2]}, "is read only where trading.signal is threshold, and here it is mean-vs"),
        ({"trading.signal": ["quantile"], "trading.threshold_k": [1]}, "threshold, and here it is quantile; leave it"),
        ({"trading.expiry_bars": [0, 9]}, "holds 9, which cannot be: trading.expiry_bars is 9, beyond"),
        ({"trading.max_leverage": [5, 10]}, "trading.sizing is risk or volatility or kelly, and here it is fixed"),
        ({}, "[optimize.space] is empty"),
    ],
)
def test_a_space_that_cannot_be_is_refused_with_its_cure(
    space: dict[str, Any], words: str, values: dict[str, Any]
) -> None:
    values["optimize"]["space"] = space
    with pytest.raises(ConfigError) as refused:
        optimize_options(values["optimize"], study_from(values))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optimize.population=1", "at least 2 trials"),
        ("optimize.trials=0", "at least 1"),
        ("optimize.max_drawdown=0", "share above 0"),
        ("optimize.trails=3", "did you mean 'optimize.trials'"),
        ('optimize.space."windows.horizon"=[1, 3]', "horizon 1 cannot be traded on a close-only series"),
        ("optimize.space={'windows.horizon'=[1]}", "horizon 1 cannot be traded on a close-only series"),
        (
            "optimize.space={'windows.horizon'=[2, 3]}",
            "holds 2 points that differ in what they read, fewer than optimize.t",
        ),
        ("windows.context=400", "windows.context is 400"),
        ('optimize.seed="x"', "it must be a whole number"),
    ],
)
def test_bad_settings_end_in_one_line_before_any_work(
    change: str, words: str, tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_case(tmp_path, tiny_base)
    if change.startswith("optimize.space."):
        file.write_text(file.read_text() + '"windows.horizon" = [1, 3]\n')
        change = "optimize.seed=2"
    with at(tmp_path):
        assert main(["optimize", "small.toml", "--set", change]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "runs/small/optimize/EURUSD-D1").exists()


def test_a_space_in_which_no_point_can_be_is_refused(values: dict[str, Any]) -> None:
    """Each value fits the study's other settings, but none fits the others of the space."""
    longest = find_base(values["base"]).positions - 5
    values["optimize"] |= {"trials": 1, "space": {"windows.context": [longest], "windows.horizon": [12]}}
    with pytest.raises(ConfigError, match=r"of 500 points of \[optimize.space\] none can be; such as: windows.context"):
        optimize_options(values["optimize"], study_from(values))


def test_a_lost_ledger_is_counted_anew(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    (tmp_path / "runs/ledger.jsonl").unlink()
    assert optimize(tmp_path)[0] == 0
    keys = [{line["key"] for line in trials(folder / "runs/ledger.jsonl")} for folder in (tmp_path, searched)]
    assert keys[0] == keys[1]
    assert (tmp_path / RUN / "optimize.json").read_bytes() == (searched / RUN / "optimize.json").read_bytes()


def test_a_search_is_another_once_a_signal_of_the_users_has_changed(values: dict[str, Any], tmp_path: Path) -> None:
    values["optimize"]["space"]["trading.signal"] = ["threshold", "own.py:moves"]
    with at(tmp_path):
        for sign in ("", "-"):
            Path("own.py").write_text(f"def moves(forecasts, market, rules):\n    return {sign}market.last_close\n")
            place = workplace(values, Path("runs"), 1, 1, Board(1))
            if not sign:
                open_search(place, values)
        with pytest.raises(ConfigError, match=r"holds a search with another signals.own.py:moves"):
            open_search(place, values)


@pytest.mark.parametrize(("profile", "yardstick"), [(True, "seasonal-ewma-t"), (False, "ewma-t")])
def test_the_yardstick_has_the_hours_that_the_series_has(
    profile: bool, yardstick: str, values: dict[str, Any], tmp_path: Path
) -> None:
    """Without a profile there is no seasonal baseline to measure by."""
    hours = pd.bdate_range("2018-01-01", "2019-08-01", tz="UTC").repeat(20)
    times = hours + pd.to_timedelta(np.arange(len(hours)) % 20, "h")
    closes = 1.1 + 0.001 * np.sin(np.arange(len(times)))
    rows = (f"{time:%Y-%m-%d %H:%M},{close:.5f}\n" for time, close in zip(times, closes, strict=True))
    (tmp_path / "EURUSD_H1.csv").write_text("time,close\n" + "".join(rows))
    values |= {"series": [str(tmp_path / "EURUSD_H1.csv")]}
    values["codec"]["hour_of_week"] = profile
    study = study_from(values)
    (series,) = load_search(study, optimize_options(values["optimize"], study).space)
    assert series.yardstick == yardstick


def test_constraints_nobody_meets_leave_no_winner(searched: Path, tmp_path: Path, tiny_base: Path) -> None:
    write_case(tmp_path, tiny_base)
    shutil.copytree(searched / RUN / "optimize/EURUSD-D1", tmp_path / RUN / "optimize/EURUSD-D1")
    status, result = optimize(tmp_path, "--set", "optimize.min_trades=1000", "--set", "optimize.trials=4")
    assert (status, result["winner"], result["front"], result["file"]) == (1, None, [], None)
    most = max(row["trades"] for row in result["rows"])
    assert f"at most {most} trades (1000 asked for)" in result["warnings"][-1]


def test_a_search_with_other_settings_is_not_joined(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with at(searched):
        assert main(["optimize", "small.toml", "--set", "optimize.seed=9"]) == 2
        assert "holds a search with another optimize.seed" in capsys.readouterr().err
        assert main(["optimize", "small.toml", "--set", "training.steps=3"]) == 2
        assert "holds a search with another training.steps" in capsys.readouterr().err
