"""Searches: the figures of a whole backtest for every rule, and a planted edge found with its profit predicted."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made import make_bars, make_forecasts, random_case

from forecasting.errors import ConfigError
from forecasting.forecasts import QUANTILE_LEVELS
from strategies.backtest import run_backtest
from strategies.contract import BrokerRules
from strategies.metrics import daily_returns
from strategies.rules import TradingRules
from strategies.search import prepared, traded

CONTEXT = 8
BROKER = BrokerRules(
    spread_points="data", commission_per_lot=4.0, slippage_points=2.0, swap_long=-6.0, swap_short=2.0, currency="EUR",
    hours="02:00-22:00", friday_close="20:00", account="hedging",
)  # fmt: skip
RULES = [
    TradingRules("mean-vs-last", stop="points:300", take_profit="atr:2.0", lots=0.3),
    TradingRules("threshold", threshold_k=2.5, trailing="atr:1.5", max_lots=0.05, lots=0.05),
    TradingRules("mean-vs-context", sizing="risk", stop="quantile:0.05", expiry_bars=2, resize=True, max_lots=0.2),
    TradingRules("probability", sizing="kelly", take_profit="quantile:0.95", resize=True),
    TradingRules("quantile", sizing="volatility"),
    TradingRules("threshold", threshold_k=1e6),
]


def case(close_only=False):
    """Random bars, and forecasts at every third of them with a cone around their mean."""
    bars, forecasts = random_case(5, length=400, close_only=close_only)
    rng, kept = np.random.default_rng(5), np.arange(8, len(forecasts), 3)
    arrays = {name: getattr(forecasts, name)[kept] for name in vars(forecasts) if name != "unique_id"}
    cone = np.sort(rng.normal(0, 0.002, (len(kept), len(QUANTILE_LEVELS), forecasts.horizon)), axis=1)
    return bars, replace(forecasts, **{**arrays, "quantiles": arrays["mean"][:, None] + cone})


@pytest.mark.parametrize("close_only", [False, True])
def test_every_rule_has_the_figures_of_its_backtest(close_only):
    bars, forecasts = case(close_only)
    span = (bars.times[35], bars.times[-20])
    ready = prepared(bars, forecasts, BROKER, context=CONTEXT, span=span)
    found = traded(ready, RULES, daily=True, threads=3)
    for number, rules in enumerate(RULES):
        wanted = run_backtest(bars, forecasts, rules, BROKER, context=CONTEXT, span=span)
        for name in ("net_profit", "costs", "max_drawdown", "sharpe", "trades"):
            one = getattr(found, name)[number]
            assert one == pytest.approx(wanted.figures[name], rel=1e-9, abs=1e-9, nan_ok=True), (rules, name)
        assert found.refused[number] == wanted.figures["orders_refused"]
        returns = daily_returns(wanted.equity)
        np.testing.assert_allclose(found.daily[number], returns, rtol=0, atol=1e-9)
        assert returns.index.tz_localize(None).to_numpy("datetime64[D]").tolist() == found.days.tolist()
    assert found.trades[:-1].min() > 10 and found.trades[-1] == 0
    alone = traded(ready, RULES[1:2], threads=1)
    assert (alone.sharpe[0], alone.net_profit[0], alone.daily) == (found.sharpe[1], found.net_profit[1], None)


def test_a_rule_that_the_account_cannot_carry_is_refused():
    bars, forecasts = case()
    ready = prepared(bars, forecasts, replace(BROKER, deposit=100.0), context=CONTEXT)
    with pytest.raises(ConfigError, match=r"below the margin of 0\.3 lot"):
        traded(ready, RULES[:1])


def test_what_a_backtest_refuses_a_search_refuses_too():
    bars, forecasts = case()
    few = TradingRules("mean-vs-last", lots=0.001)
    with pytest.raises(ConfigError, match=r"lots 0\.001 is below the least size"):
        traded(prepared(bars, forecasts, BROKER, context=CONTEXT), [few])
    with pytest.raises(ConfigError, match="hold the close of no bar"):
        prepared(bars, forecasts, replace(BROKER, hours="02:01-02:02"), context=CONTEXT)


def test_a_planted_edge_is_found_and_its_profit_predicted():
    # The drift of every other bar is known at the close before; a threshold of one round-trip cost is best.
    count, thresholds = 4_000, (0.0, 0.5, 1.0, 1.5, 2.0)
    broker = BrokerRules(deposit=1e6, spread_points=20.0, commission_per_lot=5.0, swap_long=0.0, swap_short=0.0)
    cost, point = 2e-4 + 2 * broker.commission_per_unit, 1e-5
    asked = [TradingRules("threshold", threshold_k=k, lots=1.0) for k in thresholds]
    earned, surprise = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        known = rng.normal(0, 3e-4, count // 2)
        changes = rng.normal(0, 4e-4, count + 1)
        changes[2::2] += known  # earned in the bar after a cutoff
        closes = 1.2 + np.cumsum(changes)
        bars = make_bars(closes, np.concatenate([closes[:1], closes[:-1]]))
        where = np.arange(1, count, 2)
        forecasts = make_forecasts(bars, where, (closes[where] + known)[:, None])
        found = traded(prepared(bars, forecasts, broker, context=2), asked)
        moves = np.abs(known)
        predicted = [1e5 * np.sum((moves - cost)[moves > max(k * cost, point)]) for k in thresholds]
        earned.append(found.net_profit)
        surprise.append(found.net_profit - predicted)
    for k, column in zip(thresholds, np.transpose(surprise), strict=True):
        assert abs(np.mean(column)) < 3 * np.std(column, ddof=1) / math.sqrt(len(column)), f"threshold {k}"
    assert np.argmax(np.mean(earned, axis=0)) == 2
    best = np.array(earned)[:, 2]
    assert np.mean(best) > 6 * np.std(best, ddof=1) / math.sqrt(len(best))
