"""Sizes, stops and profits against figures worked by hand; every formula is in docs/EXECUTION.md."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from forecasting.errors import ConfigError, UserError
from forecasting.forecasts import QUANTILE_LEVELS, Forecast
from strategies.contract import BrokerRules
from strategies.signals import MarketState, SignalRules, target_position
from strategies.sizing import capped, deviation_of, steps_of
from strategies.stops import average_true_range

CUTOFF = np.datetime64("2021-03-01T10:00", "ns")
ECN = BrokerRules(commission_per_lot=5.0)


def forecast(mean, deviation=0.0, sigma=1e-3):
    """Normal forecasts of the given means [H] and deviations."""
    mean = np.asarray(mean, np.float64)
    zero = np.zeros_like(mean)
    return Forecast(
        unique_id="EURUSD-H1",
        cutoff=CUTOFF,
        ds=CUTOFF + np.timedelta64(1, "h") * np.arange(1, len(mean) + 1),
        anchor=1.2,
        sigma=sigma,
        mean=mean,
        mean_se=zero,
        quantiles=mean + norm.ppf(QUANTILE_LEVELS)[:, None] * np.broadcast_to(deviation, mean.shape),
        p_up=zero + 0.5,
        p_up_se=zero,
        input_sha="0",
    )


def market(close_only=False, **known):
    return MarketState(1.2, 1.2, 0.0003, 1e-5, close_only, **{"spread": 0.0002, "equity": 10_000.0, **known})


def target(mean, deviation=0.0, state=None, sigma=1e-3, **rules):
    asked = SignalRules(**{"signal": "mean-vs-last", "threshold_k": 1.0, "lots": 0.3, "broker": ECN, **rules})
    return target_position(forecast(mean, deviation, sigma), state or market(), asked)


UP, DOWN = [1.204, 1.206], [1.196, 1.194]


def test_points_are_measured_from_the_price_of_the_side_that_closes():
    long, short = (target(mean, stop="points:150", take_profit="points:300") for mean in (UP, DOWN))
    assert (long.stop, long.take_profit) == pytest.approx((1.2 - 0.0015, 1.2 + 0.003), abs=1e-12)
    assert (short.stop, short.take_profit) == pytest.approx((1.2002 + 0.0015, 1.2002 - 0.003), abs=1e-12)
    assert long.trailing is None
    fixing = market(close_only=True)
    assert target([1.2, 1.206], state=fixing, stop="points:150").stop == pytest.approx(1.1999 - 0.0015, abs=1e-12)
    assert target([1.2, 1.194], state=fixing, stop="points:150").stop == pytest.approx(1.2001 + 0.0015, abs=1e-12)


def test_atr_is_so_many_true_ranges():
    state = market(atr=0.0011)
    wanted = target(UP, state=state, stop="atr:2.0", trailing="atr:1.5", take_profit="atr:3")
    assert (wanted.stop, wanted.trailing, wanted.take_profit) == pytest.approx((1.1978, 0.00165, 1.2033), abs=1e-12)
    with pytest.raises(UserError, match="need 15 bars up to each cutoff"):
        target(UP, stop="atr:2.0")


def test_quantiles_are_those_of_the_last_step_and_mirrored_for_shorts():
    far = norm.ppf(0.95) * 0.01
    asked = {"deviation": [0.001, 0.01], "stop": "quantile:0.05", "take_profit": "quantile:0.95"}
    long, short = target(UP, **asked), target(DOWN, **asked)
    assert (long.stop, long.take_profit) == (round(1.206 - far, 5), round(1.206 + far, 5))
    assert (short.stop, short.take_profit) == (round(1.1942 + far, 5), round(1.1942 - far, 5))


@pytest.mark.parametrize(
    ("mean", "deviation", "rules", "why"),
    [
        (UP, 0.001, {"stop": "quantile:0.05"}, "its stop would not lie beyond the price"),
        (DOWN, 0.001, {"stop": "quantile:0.05"}, "its stop would not lie beyond the price"),
        ([1.25, 1.19], 0.001, {"take_profit": "quantile:0.95"}, "its take profit would not lie beyond the price"),
        (UP, 0.0, {"trailing": "atr:1"}, "its stop would not lie beyond the price"),
        ([1.20002, 1.20012], 0.01, {"sizing": "kelly"}, "no gain is expected after costs"),
    ],
)
def test_a_level_on_the_wrong_side_means_no_entry_and_says_so(mean, deviation, rules, why):
    wanted = target(mean, deviation, market(atr=0.0), **rules)
    assert (wanted.position, wanted.size, wanted.stop, wanted.take_profit) == (0, 0, None, None)
    assert wanted.reason.startswith("flat: mean-vs-last ")
    assert wanted.reason.endswith(f", but {why}")


def test_fixed_lots_do_not_depend_on_the_account():
    assert [target(UP, state=market(equity=money)).size for money in (1.0, np.nan, 1e9)] == [0.3] * 3
    assert target(UP, max_lots=0.25).size == 0.25


def test_risk_loses_its_share_at_the_stop():
    """150 points of stop and 20 of spread on 100,000 units cost 170 USD, and 10 of commissions: 180 for a lot."""
    for mean in (UP, DOWN):
        asked = {"sizing": "risk", "risk_percent": 1.0, "stop": "points:150"}
        assert target(mean, **asked).size == 0.55  # 100 / 180 = 0.556
        assert target(mean, state=market(equity=36_000.0), **asked).size == 2.0
    # In a EUR account at 0.8 EUR for a dollar: 136 + 10 for a lot.
    assert target(UP, state=market(conversion=0.8), **asked).size == 0.68
    assert target(UP, sizing="risk", trailing="points:150").size == 0.55
    assert target(UP, sizing="risk", stop="points:150", max_lots=0.4).size == 0.4


def test_max_leverage_bounds_what_follows_equity():
    """One point of stop asks for 3.2 lots; exposure of a lot is 120,020 USD, so 2 x 10,000 carry 0.166."""
    asked = {"sizing": "risk", "stop": "points:1"}
    assert target(UP, **asked, max_leverage=100.0).size == 3.22  # 100 / 31
    assert target(UP, **asked, max_leverage=2.0).size == 0.16
    assert target(UP, sigma=0.0, sizing="volatility", bars_per_year=250.0, max_leverage=2.0).size == 0.16


def test_a_volatility_target_is_of_a_year():
    """A lot moves 120,020 x 0.005 x sqrt(256) = 9,601.6 USD a year; 10 % of 10,000 is 0.104 of it."""
    asked = {"sizing": "volatility", "target_volatility": 0.1, "sigma": 0.005, "bars_per_year": 256.0}
    assert target(UP, **asked).size == 0.1
    assert target(UP, state=market(equity=96_100.0), **asked).size == 1.0
    with pytest.raises(UserError, match=r"needs SignalRules\.bars_per_year"):
        target(UP, sizing="volatility")


def test_kelly_is_mean_over_variance_of_the_return_earned():
    """Move 0.006 less cost 0.0003, deviation 0.05, price 1.2002: share 0.0057 x 1.2002 / 0.0025 = 2.736."""
    asked = {"deviation": [0.01, 0.05], "sizing": "kelly"}
    lots = 0.0057 * 1.2002 / 0.0025 * 10_000 / 120_020  # 0.228
    assert target(UP, kelly_fraction=1.0, **asked).size == pytest.approx(np.floor(lots * 100) / 100)
    assert target(UP, kelly_fraction=0.5, **asked).size == pytest.approx(np.floor(lots * 50) / 100)
    # Expiring after the first bar it earns 0.004 - 0.0003 at a deviation of 0.01, which only max_leverage bounds.
    assert target(UP, kelly_fraction=1.0, expiry_bars=1, max_leverage=50.0, **asked).size == 3.7
    # On fixings one of two bars is earned, from the predicted fill on, and half the variance.
    fixed = target([1.202, 1.206], state=market(close_only=True), kelly_fraction=1.0, **asked)
    assert fixed.size == pytest.approx(np.floor(0.0037 * 10_000 / 0.00125 / 1e5 * 100) / 100)


def test_deviation_of_quantiles_is_exact_for_normals_and_not_moved_by_their_mean():
    z = norm.ppf(QUANTILE_LEVELS)
    assert deviation_of(np.array([1.2 + 0.01 * z, -3 + 2 * z])) == pytest.approx([0.01, 2.0])


@pytest.mark.parametrize("sizing", ["risk", "volatility", "kelly"])
def test_sizes_are_linear_in_equity(sizing):
    tiny = BrokerRules(lot_step=1e-7, lot_min=1e-7)
    asked = {"sizing": sizing, "stop": "points:500", "bars_per_year": 250.0, "deviation": 0.05, "broker": tiny}
    small, large = (target(UP, state=market(equity=money), **asked).size for money in (10_000.0, 30_000.0))
    assert large == pytest.approx(3 * small, abs=3e-7)
    assert small > 0.01


def test_equity_that_is_not_known_or_spent():
    with pytest.raises(UserError, match="needs the equity of the account"):
        target(UP, state=market(equity=np.nan), sizing="risk", stop="points:150")
    for money in (100.0, -5.0):
        wanted = target(UP, state=market(equity=money), sizing="risk", stop="points:150")
        assert (wanted.position, wanted.size) == (1.0, 0.0)
        assert wanted.reason.endswith("lots are below the least, 0.01")


def test_lots_are_cut_down_to_steps():
    broker = BrokerRules(lot_min=0.1, lot_step=0.05, lot_max=2.02)
    cases = {0.149999: 2, 0.15: 3, 0.3: 6, 0.09: 0, 0.1: 2, -1.0: 0, 7.0: 40, float("inf"): 40}
    assert {lots: steps_of(lots, broker) for lots in cases} == cases
    assert steps_of(0.1 * 3, replace(broker, lot_step=0.1)) == 3  # 0.30000000000000004
    assert steps_of(0.7 - 0.1, replace(broker, lot_step=0.1)) == 6  # 0.6 less one in the last place


def test_max_lots_is_the_less_of_two():
    assert capped(BrokerRules(), 0.5).lot_max == 0.5
    assert capped(BrokerRules(lot_max=0.4), 0.5).lot_max == 0.4
    with pytest.raises(ConfigError, match=r"trading\.max_lots 0\.001 is below broker\.lot_min 0\.01"):
        capped(BrokerRules(), 0.001)


def test_the_average_true_range_is_metatraders():
    rng = np.random.default_rng(3)
    close = 1.2 + np.cumsum(rng.normal(0, 0.001, 60))
    high, low = close + rng.uniform(0, 0.002, 60), close - rng.uniform(0, 0.002, 60)
    found = average_true_range(high, low, close)
    assert np.isnan(found[:14]).all()
    for bar in range(14, 60):
        ranges = [
            max(high[t] - low[t], abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1]))
            for t in range(bar - 13, bar + 1)
        ]
        assert found[bar] == pytest.approx(sum(ranges) / 14, abs=1e-15)
    assert average_true_range(high[20:35], low[20:35], close[20:35])[-1] == found[34]
    assert np.isnan(average_true_range(high[:5], low[:5], close[:5])).all()
