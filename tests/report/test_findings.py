"""Sentences follow the numbers: opposite numbers, opposite sentences."""

import math

import pytest
from synthetic import edit_json, write_study

from tunetrade.report.findings import cautions, findings
from tunetrade.report.leaderboard import overall_rows
from tunetrade.report.load import read_study

METHODS = ("lora", "full", "random-walk", "ewma-t", "buy-and-hold", "always-flat")


def study_with(tmp_path, mse=(1.0, 1.0), crps=(1.0, 1.0), net=(0.0, 0.0), walk=0.0, hold=0.0, **changes):
    """A study of one series whose figures are set by hand: (lora, full), errors as ratios."""
    folder = write_study(tmp_path, series=("EURUSD-D1",), methods=METHODS, seeds=(0,), origins=30)
    values = {
        "lora": (mse[0], crps[0], net[0]), "full": (mse[1], crps[1], net[1]), "random-walk": (1.0, 1.0, walk),
        "ewma-t": (1.0, 1.0, 0.0), "buy-and-hold": (None, None, hold), "always-flat": (None, None, 0.0),
    }  # fmt: skip
    for method, (mse_ratio, crps_ratio, profit) in values.items():
        cell = folder / "EURUSD-D1" / method / "0"
        if mse_ratio is not None:
            edit_json(
                cell / "forecast.json",
                lambda forecast, m=mse_ratio, c=crps_ratio, name=method: forecast["metrics"]["overall"].update(
                    mse=2e-5 * m,
                    crps=3e-3 * c,
                    crps_mc_se=3e-3 * changes.get("noise", 0.0),
                    mse_mc_error=2e-5 * changes.get("mse_noise", 0.0) * (name != "random-walk"),
                ),
            )
            edit_json(cell / "forecast.json", lambda forecast: forecast.update(changes.get("forecast", {})))
        edit_json(
            cell / "backtest.json",
            lambda backtest, p=profit: (
                backtest.update(illustrative=changes.get("illustrative", True)),
                backtest["figures"].update(
                    net_profit=p, total_return=p / 10_000, profit_before_costs=p + changes.get("costs", 10.0), trades=7
                ),
            ),
        )
    return read_study(folder)


def test_when_nothing_beats_the_baselines_then_it_says_none_and_how_far(tmp_path):
    errors, _ = findings(study_with(tmp_path, mse=(1.002, 1.01), crps=(1.03, 1.004)))
    assert (
        "none has a lower mean squared error than the random walk (the nearest is 0.20 % above: lora on EURUSD-D1)"
        in errors
    )
    assert "none has a lower CRPS than EWMA-t (the nearest is 0.40 % above: full on EURUSD-D1)" in errors
    assert "at most" not in errors


def test_when_all_beat_the_baselines_then_it_says_all_and_by_how_much_at_most(tmp_path):
    errors, _ = findings(study_with(tmp_path, mse=(0.99, 0.998), crps=(0.97, 0.996)))
    assert "all have a lower mean squared error than the random walk (by at most 1.0 %: lora on EURUSD-D1)" in errors
    assert "all have a lower CRPS than EWMA-t (by at most 3.0 %: lora on EURUSD-D1)" in errors
    assert "none has" not in errors


def test_when_one_beats_them_then_it_says_one(tmp_path):
    errors, _ = findings(study_with(tmp_path, mse=(0.999, 1.1), crps=(1.2, 0.9995)))
    assert "1 has a lower mean squared error than the random walk (by at most 0.10 %: lora on EURUSD-D1)" in errors
    assert "1 has a lower CRPS than EWMA-t (by at most 0.050 %: full on EURUSD-D1)" in errors


def test_when_a_lower_crps_is_within_sampling_noise_then_it_is_not_called_lower(tmp_path):
    """Errors of 0.0001 each make 0.00028 of the difference: 0.9998 is within it, 0.9996 is not."""
    errors, _ = findings(study_with(tmp_path / "one", crps=(0.9998, 0.9996), noise=1e-4))
    assert (
        "all have a lower CRPS than EWMA-t, 1 of them beyond sampling noise (by at most 0.040 %, give or take"
        " 0.028 % of sampling noise: full on EURUSD-D1); 1 of 2 lies within sampling noise of it, either way (two Monte"
        " Carlo errors" in errors
    )
    assert "of the difference, up to 0.028 %)" in errors
    errors, _ = findings(study_with(tmp_path / "none", crps=(0.9998, 1.0002), noise=1e-4))
    assert "1 has a lower CRPS than EWMA-t, none beyond sampling noise; 2 of 2 lie within" in errors
    assert "lora" not in errors.split("CRPS")[1]
    errors, _ = findings(study_with(tmp_path / "above", crps=(1.01, 1.02), noise=1e-4))
    assert (
        "none has a lower CRPS than EWMA-t (the nearest is 1.0 % above, give or take 0.028 % of sampling noise: lora"
        in errors
    )
    assert "either way" not in errors
    errors, _ = findings(study_with(tmp_path / "unknown", crps=(0.9, 0.9), noise=math.nan))
    assert "all have a lower CRPS than EWMA-t, none of them beyond sampling noise" in errors


def test_when_sampled_means_differ_by_less_than_their_noise_then_no_mean_squared_error_is_called_lower(tmp_path):
    """An error of 0.2 % on the side of the method alone makes 0.4 % of noise: 0.3 % is within it, 0.5 % is not."""
    errors, _ = findings(study_with(tmp_path / "one", mse=(0.997, 0.995), mse_noise=2e-3))
    assert (
        "all have a lower mean squared error than the random walk, 1 of them beyond sampling noise (by at most 0.50 %,"
        " give or take 0.40 % of sampling noise: full on EURUSD-D1); 1 of 2 lies within" in errors
    )
    errors, _ = findings(study_with(tmp_path / "near", mse=(1.003, 1.002), mse_noise=2e-3))
    assert "none has a lower mean squared error than the random walk; 2 of 2 lie within sampling noise" in errors
    assert "up to 0.40 %" in errors
    assert "above" not in errors.split("CRPS")[0]
    errors, _ = findings(study_with(tmp_path / "unknown", mse=(0.9, 1.1), mse_noise=math.nan))
    assert "1 has a lower mean squared error than the random walk, none beyond sampling noise" in errors
    assert "not known of all" in errors


def test_when_equal_then_neither_better_nor_above(tmp_path):
    errors, _ = findings(study_with(tmp_path))
    assert "none has a lower mean squared error than the random walk (the nearest equals it" in errors


@pytest.mark.parametrize("better", [0.9, 1.1])
def test_whatever_the_errors_significance_is_not_claimed(tmp_path, better):
    errors, _ = findings(study_with(tmp_path, mse=(better, better), crps=(better, better)))
    assert (
        "these are estimates from one test period of 30 origins a series whose windows overlap and one seed: only a"
        " verdict says that a difference is more than chance" in errors
    )


def test_when_the_horizon_is_one_then_windows_do_not_overlap(tmp_path):
    errors, _ = findings(study_with(tmp_path, forecast={"horizon": 1}))
    assert "overlap" not in errors


def test_when_everything_loses_then_money_says_so(tmp_path):
    _, money = findings(study_with(tmp_path, net=(-50.0, -20.0), walk=5.0, hold=100.0))
    assert "of 2 pairs none ends with a profit, none earns more than the random walk through the same signal" in money
    assert "none more than buy-and-hold" in money and "never trades" not in money
    assert "the best, full on EURUSD-D1, loses 20.0 USD (0.20 %)" in money


def test_when_everything_wins_then_money_says_so(tmp_path):
    _, money = findings(study_with(tmp_path, net=(50.0, 20.0), walk=5.0, hold=-100.0))
    assert "of 2 pairs all end with a profit, all earn more than the random walk" in money
    assert "all more than buy-and-hold" in money and "the best, lora on EURUSD-D1, gains 50.0 USD (0.50 %)" in money


def test_when_the_random_walk_never_trades_then_that_is_said(tmp_path):
    study = study_with(tmp_path, net=(50.0, -20.0))
    idle = study.of(method="random-walk")[0].folder
    edit_json(idle / "backtest.json", lambda backtest: backtest["figures"].update(trades=0))
    _, money = findings(read_study(idle.parents[2]))
    assert "1 earns more than the random walk through the same signal (the random walk never trades" in money
    assert "a test against no profit), " in money or "a test against no profit) and " in money


def test_when_costs_take_the_gain_then_money_says_so(tmp_path):
    _, money = findings(study_with(tmp_path, net=(-50.0, -20.0), costs=60.0))
    assert "loses 20.0 USD (0.20 %) after 40.0 of gains before costs" in money


def test_when_nothing_was_gained_or_lost_then_no_verb_of_either(tmp_path):
    _, money = findings(study_with(tmp_path, net=(0.0, 0.0), costs=0.0))
    assert "ends where it began" in money and " gains " not in money and " loses " not in money


@pytest.mark.parametrize(("illustrative", "said"), [(True, "all of it is illustrative"), (False, "one path of trades")])
def test_money_is_called_illustrative_only_where_it_is(tmp_path, illustrative, said):
    _, money = findings(study_with(tmp_path, illustrative=illustrative))
    assert said in money and ("illustrative" in money) == illustrative


def test_when_there_are_no_methods_then_no_sentences(tmp_path):
    folder = write_study(
        tmp_path, series=("EURUSD-D1",), methods=("random-walk", "always-flat"), seeds=(0,), origins=30
    )
    assert findings(read_study(folder)) == []


def test_cautions_only_where_there_is_cause(tmp_path):
    assert cautions(study_with(tmp_path)) == []


def test_when_the_base_has_seen_the_test_then_a_caution(tmp_path):
    found = cautions(study_with(tmp_path, forecast={"base_has_seen_it": True}))
    assert len(found) == 1 and "may have seen" in found[0] and "2014-12-31" in found[0]


def test_when_origins_differ_or_the_walk_is_missing_then_a_caution(tmp_path):
    folder = write_study(tmp_path, series=("EURUSD-D1",), methods=("lora", "full"), seeds=(0,), origins=30)
    edit_json(folder / "EURUSD-D1" / "lora" / "0" / "forecast.json", lambda forecast: forecast.update(origins=29))
    text = " ".join(cautions(read_study(folder)))
    assert "full 30, lora 29" in text and "no finished random walk" in text


def test_when_a_cell_failed_then_a_caution_counts_it(study_folder):
    assert cautions(read_study(study_folder))[0].startswith("1 of 24 cells did not finish and is missing")


def test_when_currencies_differ_then_the_best_is_by_return_and_no_money_is_added(tmp_path):
    folder = write_study(tmp_path, series=("EURUSD-D1", "USDJPY-D1"), methods=("lora",), seeds=(0,), origins=30)
    for series, currency, net, share in (("EURUSD-D1", "USD", 100.0, 0.01), ("USDJPY-D1", "JPY", 5000.0, 0.005)):
        edit_json(
            folder / series / "lora" / "0" / "backtest.json",
            lambda backtest, c=currency, n=net, s=share: (
                backtest.update(currency=c),
                backtest["figures"].update(net_profit=n, total_return=s),
            ),
        )
    study = read_study(folder)
    assert "the best, lora on EURUSD-D1, gains 100 USD (1.00 %)" in findings(study)[-1]
    (row,) = overall_rows(study)
    assert "net_profit" not in row.values and row.values["total_return"] == pytest.approx(0.0075)
