"""What the page says follows the evidence; what it draws follows the tables; both against plain loops."""

import json
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from synthetic import edit_json, write_study

from forecasting.files import write_json
from forecasting.forecasts import QUANTILE_COLUMNS
from tunetrade import evidence
from tunetrade.report import write_report
from tunetrade.report.attachments import checks_of
from tunetrade.report.cells import EDGES, calibrate, months_of, read_tables, thin
from tunetrade.report.charts import Store, of_series
from tunetrade.report.charts_study import skill_map
from tunetrade.report.evidence_view import evidence_for, outcomes
from tunetrade.report.html_evidence import money_table, trials_note
from tunetrade.report.interactive import as_json
from tunetrade.report.load import read_study
from tunetrade.report.verdicts import thin_money, verdicts


def made(verdict, value=0.01):
    """Evidence of one series: lora and full with a verdict by CRPS."""
    test = {"reference": "ewma-t", "difference": -value, "low": -0.02, "high": 0.0, "statistic": -2.0, "degrees": 30,
            "p_value": 0.01, "p_worse": 0.99, "p_holm": 0.02, "p_worse_holm": 1.0, "verdict": verdict,
            "observations": 900, "needed": 1400.0, "more": 500}  # fmt: skip
    ratio = {"value": 1 - value, "low": 0.98, "high": 1.01}
    block = {"figures": {"crps_ratio": ratio}, "by_step": {}, "tests": {"density": test}}
    return {
        "series": {"EURUSD-D1": {"errors": {"methods": {"lora": block, "full": block}}, "money": {"reason": "none"}}},
        "overall": {},
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    return read_study(write_study(folder, ("EURUSD-D1",), ("lora", "full", "random-walk", "ewma-t"), (1,), 60))


@pytest.mark.parametrize(
    ("verdict", "said", "unsaid"),
    [
        ("BEATS", "lora and full beat it", "no difference"),
        ("LOSES", "none beats it, lora and full lose to it", "beat it,"),
        ("NOT SHOWN", "no difference is shown for any of 2 methods", "beat"),
    ],
)
def test_sentences_say_the_verdict_and_no_more(study, verdict, said, unsaid):
    text = " ".join(verdicts(study, made(verdict)))
    assert said in text.replace("full and lora", "lora and full") and unsaid not in text
    assert ("500 origins beyond" in text) == (verdict == "NOT SHOWN")


def test_skill_is_one_less_the_ratio_and_its_ends_change_places():
    found = outcomes(made("BEATS"), "EURUSD-D1")["lora"]["density"]
    assert (found.value, found.low, found.high) == pytest.approx((0.01, -0.01, 0.02))


def test_the_map_marks_only_what_is_shown(study):
    shown, open_ = (skill_map(study, made(verdict), study.methods) for verdict in ("BEATS", "NOT SHOWN"))
    text = [cell for row in shown.traces[0]["text"] for cell in row if cell]
    assert text == ["1.00 % ▲"] * 2
    assert [cell for row in open_.traces[0]["text"] for cell in row if cell] == ["1.00 %"] * 2
    pale, full = (max(value for row in chart.traces[0]["z"] for value in row if value) for chart in (open_, shown))
    assert 0 < pale < full


def test_when_evidence_has_only_reasons_then_the_report_says_why(tmp_path):
    folder = write_study(tmp_path, ("EURUSD-D1",), ("lora", "random-walk", "ewma-t"), (1,), 20)
    text = write_report(folder, tmp_path / "out").read_text()
    assert "20 origins are too few to resample" in text


def test_stored_evidence_is_read_and_stale_evidence_is_made_anew(tmp_path, monkeypatch):
    folder = write_study(tmp_path, ("EURUSD-D1",), ("lora", "random-walk"), (1,), 20)
    evidence.write_evidence(folder)
    edit_json(folder / "evidence.json", lambda found: found.update(marker=1))
    assert evidence_for(folder)["marker"] == 1
    edit_json(folder / "EURUSD-D1/lora/1/run.json", lambda run: run.update(bars=1))
    assert "marker" not in evidence_for(folder)


def equity_of(values, start="2021-01-30 15:00", step="1D"):
    times = pd.date_range(start, periods=len(values), freq=step, tz="UTC")
    return pd.DataFrame({"time": times, "equity": values, "equity_before_costs": np.asarray(values) + 1.0})


def test_months_against_a_plain_loop():
    values = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, 400)))
    table = equity_of(values)
    found = months_of(table)
    before, expected = values[0], {}
    for stamp, value, following in zip(table["time"], values, [*table["time"][1:], None], strict=True):
        if following is None or following.month != stamp.month:
            expected[stamp.year, stamp.month] = 100 * (value / before - 1)
            before = value
    assert found.returns == pytest.approx(expected)
    whole = np.prod([1 + value / 100 for (year, _), value in expected.items() if year == 2021])
    assert found.years[2021] == pytest.approx(100 * (whole - 1))


@pytest.mark.parametrize("count", [1, 2, 7, 299, 1000])
def test_a_thinned_curve_keeps_its_end_and_its_deepest_fall(count):
    values = 1000 + np.cumsum(np.random.default_rng(2).normal(size=count))
    curve = thin(equity_of(values), points=50)
    assert len(curve.times) == len(curve.net) == len(curve.under) == len(curve.before) == min(50, count)
    assert curve.net[-1] == pytest.approx(values[-1] - values[0], rel=1e-5, abs=1e-5)
    assert min(curve.under) == pytest.approx(100 * min(values / np.maximum.accumulate(values) - 1), rel=1e-5, abs=1e-9)


def test_calibration_against_a_plain_loop_and_right_where_the_cone_is_right():
    rng = np.random.default_rng(3)
    level = np.array([0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95])
    place = rng.random((2000, 2))
    cutoffs = pd.date_range("2021-01-01", periods=2000, freq="1D", tz="UTC")
    table = pd.DataFrame({"cutoff": np.repeat(cutoffs, 2), "y": place.ravel()})
    table[list(QUANTILE_COLUMNS)] = level
    table.loc[7, "y"] = np.nan
    found = calibrate([table], block=1.0)
    counts = [0] * 8
    for y in table["y"]:
        if not math.isnan(y):
            counts[sum(y > edge for edge in level)] += 1
    assert found.count == 3999
    assert found.density == pytest.approx(
        [c / 3999 / (b - a) for c, (a, b) in zip(counts, pairwise(EDGES), strict=True)], rel=1e-5
    )
    right = np.diff(EDGES)
    expected = 2 * 1.96 * np.sqrt(right * (1 - right) / 3999) / right
    wider = (np.array(found.high) - found.low) / expected
    assert (
        wider.min() > 0.9 and wider.max() < 1.35
    )  # never narrower; the long-run error that may widen it is itself a guess
    assert all(low < value < high for low, value, high in zip(found.low, found.density, found.high, strict=True))
    assert found.below[3] == pytest.approx(0.5, abs=0.03)
    assert calibrate([table.assign(y=np.nan)], 2.0) is None


def test_methods_that_trade_alike_are_one_result(tmp_path):
    folder = write_study(tmp_path, ("EURUSD-D1",), ("lora", "full", "random-walk"), (1,), 60)
    for name in ("equity", "trades"):
        file = f"1/{name}.parquet"
        (folder / "EURUSD-D1/full" / file).write_bytes((folder / "EURUSD-D1/lora" / file).read_bytes())
    study = read_study(folder)
    said = " ".join(thin_money(study, read_tables(study, {})))
    assert "full and lora made the same trades: one result, not 2" in said
    assert "made fewer than 30 trades" in said


def test_methods_that_traded_as_a_benchmark_are_said_to_have_made_its_trades(tmp_path):
    folder = write_study(tmp_path, ("EURUSD-D1",), ("lora", "full", "buy-and-hold"), (1,), 60)
    for method in ("lora", "full"):
        for name in ("equity", "trades"):
            held = folder / f"EURUSD-D1/buy-and-hold/1/{name}.parquet"
            (folder / f"EURUSD-D1/{method}/1/{name}.parquet").write_bytes(held.read_bytes())
    study = read_study(folder)
    said = " ".join(thin_money(study, read_tables(study, {})))
    assert "full and lora made buy-and-hold's one trade: one result, not 3" in said


def test_money_shows_all_seeds_dependent_returns_and_why_a_figure_is_withheld(tmp_path):
    folder = write_study(tmp_path, ("EURUSD-D1",), ("lora", "random-walk"), (1, 2), 60)
    study, found = read_study(folder), evidence.evidence_of(folder, 50)
    block = found["series"]["EURUSD-D1"]["money"]["methods"]["lora"]
    for seed, (ratio, chance) in {"1": (0.5, 0.8), "2": (1.5, 0.6)}.items():
        block["sharpe"]["by_seed"][seed] |= {"value": ratio, "probabilistic": 0.99, "probabilistic_dependent": chance}
    block["figures"]["sharpe"] = {"value": 1.0, "low": -1.0, "high": 3.0}
    block["break_even"] = {"reason": "9 trades are too few; at least 10 are needed"}
    text = money_table(study, found, "EURUSD-D1", str)
    assert ">1.00<small>[-1.00, 3.00]\n0.50 to 1.50<" in text.replace("\N{MINUS SIGN}", "-")
    assert ">60 %<" in text and "99 %" not in text and "9 trades are too few" in text
    said = trials_note(found, "EURUSD-D1") + " ".join(verdicts(study, found))
    assert said.count("not deflated: fewer trials in the ledger (0) than accounts in the study (") == 2
    assert "as the best" not in said and "NaN" not in said and "nan" not in said


def test_the_sentence_on_ranks_has_its_p_value_and_counts_accounts(study):
    block = {"value": 0.4, "low": -0.2, "high": 0.9, "shown": False, "p_value": 0.0712, "across_halves": 0.1,
             "methods": list("abcdef"), "accounts": 4}  # fmt: skip
    said = " ".join(verdicts(study, made("BEATS") | {"overall": {"rank_agreement": {"density": block}}}))
    assert "permutation p 0.071" in said and "over 6 methods with 4 different accounts" in said


def test_every_trade_of_every_seed_is_in_the_csv(study_folder, report):
    rows = pd.read_csv(report / "tables" / "trades_EURUSD-D1.csv")
    files = sorted((study_folder / "EURUSD-D1").glob("*/*/trades.parquet"))
    assert len(rows) == sum(len(pd.read_parquet(file)) for file in files) > 50
    own = rows[(rows["method"] == "lora") & (rows["seed"] == 1)]["net_profit"].to_numpy()
    stored = pd.read_parquet(study_folder / "EURUSD-D1/lora/1/trades.parquet")["net_profit"].to_numpy()
    assert own == pytest.approx(stored, rel=1e-9)


def test_what_other_commands_left_beside_runs_is_shown(tmp_path):
    folder = write_study(tmp_path, ("EURUSD-D1",), ("lora", "random-walk"), (1,), 20)
    cell = folder / "EURUSD-D1/lora/1"
    checks = [{"name": "truncation", "status": "PASS", "said": "all <b>equal</b>"}, {"name": "fills", "status": "FAIL",
              "said": "row 7 is off by one"}]  # fmt: skip
    write_json(cell / "audit.json", {"layout": 1, "checks": checks})
    write_json(cell / "robustness.json", {"cases": {"flash crash": {"passed": True, "detail": "stopped out"}}})
    write_json(cell / "walk.json", {"folds": [{"start": "2021-01-01", "crps_skill": 0.0123, "net_profit": -4.5}]})
    text = write_report(folder, tmp_path / "out").read_text()
    for said in ("all &lt;b&gt;equal&lt;/b&gt;", "row 7 is off by one", "flash crash", "stopped out", "Walk-forward"):
        assert said in text
    assert "1 of 2" in text and "0.01230" in text


@pytest.mark.parametrize("record", [{}, {"checks": 3}, {"checks": [1, {"name": "a"}]}, {"other": {"a": {"b": 1}}}])
def test_records_of_another_shape_are_left_out(record):
    assert checks_of(record) == []


def test_json_in_a_page_cannot_end_its_element():
    value = {"name": "</script><script>alert(1)</script>\u2028", "x": [1.5, None]}
    assert "<" not in as_json(value) and json.loads(as_json(value)) == value


def test_arrays_are_shared_not_repeated():
    store = Store()
    assert store.share("a", [1, 2]) == store.share("b", [1, 2]) == "$a" and list(store.arrays) == ["a"]
    assert of_series(0) != of_series(1)
