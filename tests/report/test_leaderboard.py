"""Marks of the best, number formats, colours and label places."""

import doctest
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from synthetic import write_study

from tunetrade.report import canvas, charts_study, compose, facts, formats, html_evidence, palette
from tunetrade.report.columns import BY_KEY, COLUMNS, COMBINED
from tunetrade.report.formats import column_text, column_unit, significant, size
from tunetrade.report.leaderboard import Row, best, overall_rows, series_rows
from tunetrade.report.load import read_study


def row(method, complete=True, **values):
    return Row(method=method, kind="method", seeds=(0,), series=1, values=values, complete=complete)


@pytest.mark.parametrize("module", [canvas, charts_study, compose, facts, formats, html_evidence, palette])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


def test_best_is_least_most_or_nearest_to_nominal():
    rows = [row("a", mae=1.0, net_profit=-3.0, coverage80=0.7), row("b", mae=2.0, net_profit=5.0, coverage80=0.84)]
    assert best(rows, BY_KEY["mae"]) == {"a"}
    assert best(rows, BY_KEY["net_profit"]) == {"b"}
    assert best(rows, BY_KEY["coverage80"]) == {"b"}
    assert best(rows, BY_KEY["trades"]) == set()


def test_when_all_are_equal_or_alone_then_none_is_best():
    assert best([row("a", mae=1.0), row("b", mae=1.0)], BY_KEY["mae"]) == set()
    assert best([row("a", mae=1.0)], BY_KEY["mae"]) == set()


@pytest.mark.parametrize(
    ("errors", "expected"), [((0.01, 0.01), {"a"}), ((0.04, 0.04), set()), ((0.0, 0.06), set()), ((0.01, None), set())]
)
@pytest.mark.parametrize("key", ["crps", "crps_ratio", "mse", "mse_ratio", "rmse", "nrmse"])
def test_when_the_next_error_lies_within_sampling_noise_then_none_is_best(key, errors, expected):
    rows = [
        replace(row(name, **{key: value}), noise={} if error is None else {key: error})
        for name, value, error in zip("abc", (1.0, 1.1, 9.0), (*errors, 0.0), strict=True)
    ]
    assert best(rows, BY_KEY[key]) == expected
    assert best(rows[::2], BY_KEY[key]) == {"a"}


def test_noise_over_series_is_that_of_the_geometric_mean_of_ratios(tmp_path):
    study = read_study(write_study(tmp_path, methods=("lora", "random-walk", "ewma-t"), seeds=(0,), origins=30))
    of_series = [next(r for r in series_rows(study, name) if r.method == "lora") for name in study.series]
    over = next(r for r in overall_rows(study) if r.method == "lora")
    rng = np.random.default_rng(0)
    draws = [np.log(r.values["crps_ratio"] + r.noise["crps_ratio"] * rng.normal(size=100_000)) for r in of_series]
    assert over.noise["crps_ratio"] == pytest.approx(np.exp(np.mean(draws, axis=0)).std(), rel=0.01)
    assert of_series[0].noise["crps"] == 1e-7
    assert of_series[0].noise["mse"] == 1e-12
    assert of_series[0].noise["mse_ratio"] == pytest.approx(
        1e-12 * of_series[0].values["mse_ratio"] / of_series[0].values["mse"]
    )
    mse, change = of_series[0].values["mse"], of_series[0].noise["mse"]
    for key in ("rmse", "nrmse"):
        moved = of_series[0].values[key] * (math.sqrt(1 + change / mse) - 1)
        assert of_series[0].noise[key] == pytest.approx(moved, rel=1e-6)


def test_what_did_nothing_is_best_in_nothing_but_money():
    flat = row("flat", net_profit=0.0, max_drawdown=0.0, trades=0.0)
    rows = [
        flat,
        row("a", net_profit=-9.0, max_drawdown=0.2, trades=5.0),
        row("b", net_profit=-5.0, max_drawdown=0.1, trades=5.0),
    ]
    assert best(rows, BY_KEY["max_drawdown"]) == {"b"}
    assert best(rows, BY_KEY["net_profit"]) == {"flat"}


def test_what_was_not_trained_did_not_train_fastest_nor_store_least():
    rows = [
        row("untuned", train_seconds=0.0, stored_bytes=600.0, trained_parameters=0.0),
        row("lora", train_seconds=9.0, stored_bytes=900.0, trained_parameters=4.0),
        row("full", train_seconds=8.0, stored_bytes=9000.0, trained_parameters=40.0),
    ]
    assert best(rows, BY_KEY["train_seconds"]) == {"full"}
    assert best(rows, BY_KEY["stored_bytes"]) == best(rows, BY_KEY["trained_parameters"]) == {"lora"}


def test_when_a_series_is_missing_then_a_row_is_best_in_nothing():
    rows = [
        row("a", complete=False, sharpe=3.0, trades=1.0),
        row("b", sharpe=1.0, trades=1.0),
        row("c", sharpe=0.5, trades=1.0),
    ]
    assert best(rows, BY_KEY["sharpe"]) == {"b"}


def test_errors_share_one_power_of_ten_and_four_digits():
    values = [7.4444e-5, 7.46e-5, 9.0e-6]
    assert column_unit(BY_KEY["mse"], values) == "× 10⁻⁶"
    assert [column_text(BY_KEY["mse"], value, values) for value in values] == ["74.44", "74.60", "9.00"]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("mse_ratio", 0.99981, "0.9998"), ("net_profit", -1234.5, "−1,234"), ("total_return", -0.0551, "−5.51"),
        ("coverage80", 0.8012, "80.1"), ("trained_parameters", 860160.0, "860 k"), ("stored_bytes", 65536.0, "65.5 kB"),
        ("train_seconds", 41.234, "41.2"), ("trades", 178.5, "178.5"), ("trades", 178.0, "178"), ("sharpe", None, "–"),
        ("sharpe", math.nan, "–"), ("sharpe", -0.001, "0.00"),
    ],
)  # fmt: skip
def test_formats(key, value, text):
    known = [] if value is None else [value]
    assert column_text(BY_KEY[key], value, known) == text


def test_significant_digits():
    assert [significant(value, 2) for value in (0.0, 0.05, 12.34, 1e-9, math.inf)] == [
        "0",
        "0.050",
        "12",
        "1.0·10⁻⁹",
        "–",
    ]
    assert size(999_700) == "1.00 MB"


def test_every_column_is_defined():
    assert len(BY_KEY) == len(COLUMNS)
    assert all(column.definition.endswith(".") and column.combine in COMBINED for column in COLUMNS)


def test_colours_differ_and_do_not_depend_on_company():
    names = [*palette.KNOWN, *(f"new-{index}" for index in range(8))]
    assert len({style.light for style in palette.assign(names).values()}) == len(names)
    assert palette.assign(["lora"])["lora"] == palette.assign(names)["lora"]
    assert palette.assign(["odd", "lora"])["odd"] == palette.assign(["odd"])["odd"]


def test_labels_keep_their_order_and_distance():
    placed = canvas.spread_out([5, 5, 5, 90, 99], gap=12, height=100)
    assert all(upper - lower >= 12 for lower, upper in pairwise(placed)) and placed[-1] <= 100
