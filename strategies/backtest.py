"""Bars and forecasts -> trades, equity and figures.

Three steps, each of its own: `targets` asks the pure signal at every cutoff; a plan lays the targets along the bars;
Backtrader executes the plan. What a bar decides depends on nothing after it. docs/EXECUTION.md states every assumption.
"""

from dataclasses import dataclass, replace

import backtrader as bt
import numpy as np
import pandas as pd

from forecasting.bars import Bars
from forecasting.errors import ConfigError, DataError, UserError, unknown
from forecasting.forecasts import Forecasts
from strategies.account import equity_frame, trades_frame
from strategies.broker import BarFeed, LotCommission, SpreadBroker, feed_times
from strategies.metrics import figures
from strategies.rules import FROM_DATA, TradingRules
from strategies.signals import MarketState, Target, check_horizon, target_position
from strategies.strategy import FollowPlan, Plan

POLICIES = ("signal", "buy-and-hold", "always-flat")

Span = tuple[np.datetime64, np.datetime64]
"""Close times, UTC, of the first and the last bar traded."""


@dataclass(frozen=True)
class BacktestResult:
    """What a backtest leaves; money is in `currency`, the quote currency of the instrument.

    trades, equity: `strategies.account.TRADE_COLUMNS` and EQUITY_COLUMNS. figures: those of `strategies.metrics`, and
    orders_refused for want of margin. illustrative: nobody could fill so, the source has closes only.
    """

    trades: pd.DataFrame
    equity: pd.DataFrame
    figures: dict[str, float]
    illustrative: bool
    currency: str


def run_backtest(
    bars: Bars,
    forecasts: Forecasts | None,
    rules: TradingRules,
    *,
    context: int,
    policy: str = "signal",
    span: Span | None = None,
) -> BacktestResult:
    """Trade a policy over a span of bars.

    `context` is C, the closes in a signal's context mean. `span` defaults to the forecasts' own (`span_of`); a
    benchmark without forecasts needs it. Give every method that is compared the same one.
    """
    if policy not in POLICIES:
        raise ConfigError(unknown("policy", policy, POLICIES))
    traded = _between(bars, _span(bars, forecasts, span))
    spread = _known(spreads(traded, rules), traded)
    if policy == "signal":
        if forecasts is None:
            raise UserError("policy 'signal' needs forecasts; make them: `tunetrade forecast`, or trade a benchmark")
        plan = _plan(traded.times, forecasts.cutoff, targets(bars, forecasts, rules, context), rules)
    else:
        plan = Plan(np.full(len(traded), rules.units * (policy == "buy-and-hold")), [policy] * len(traded))
    if plan.units.any():
        _check_deposit(traded, rules)
    strategy, broker = _execute(traded, spread, plan, rules)
    trades = trades_frame(broker.fills, traded.times, rules, bars.instrument.close_only)
    equity = equity_frame(
        traded,
        broker.fills,
        trades,
        rules.deposit,
        equity=np.array(strategy.equity),
        position=np.array(strategy.held, np.float64),
    )
    return BacktestResult(
        trades=trades,
        equity=equity,
        figures=figures(trades, equity, rules.deposit) | {"orders_refused": float(broker.refused)},
        illustrative=bars.instrument.close_only,
        currency=bars.instrument.quote,
    )


def targets(bars: Bars, forecasts: Forecasts, rules: TradingRules, context: int) -> list[Target]:
    """The signal's target at each of the N cutoffs, from closes and spreads up to that cutoff only."""
    check_horizon(forecasts.horizon, bars.instrument.close_only)
    where = _positions(bars, forecasts)
    if where[0] + 1 < context:
        raise UserError(
            f"the first forecast, at {forecasts.cutoff[0]}, has {where[0] + 1} closes behind it and the context mean "
            f"needs {context}; load earlier bars or lower windows.context"
        )
    closes = bars.closes
    if not np.allclose(forecasts.anchor, closes[where], rtol=1e-9, atol=0):
        raise UserError(
            f"forecasts of {forecasts.unique_id} were made from other closes than these bars hold; "
            "make them anew: `tunetrade forecast`"
        )
    at_cutoffs = replace(bars, frame=bars.frame.iloc[where])
    cost = _known(spreads(at_cutoffs, rules), at_cutoffs) + 2 * rules.commission_per_unit
    return [
        target_position(
            forecasts.row(row),
            MarketState(
                context_mean=float(closes[bar - context + 1 : bar + 1].mean()),
                last_close=float(closes[bar]),
                round_trip_cost=float(cost[row]),
                point=bars.instrument.point,
                close_only=bars.instrument.close_only,
            ),
            rules.signal_rules,
        )
        for row, bar in enumerate(where)
    ]


def span_of(bars: Bars, forecasts: Forecasts) -> Span:
    """From the first cutoff to the end of the last cutoff's horizon, or to the last bar where that comes first."""
    return forecasts.cutoff[0], min(forecasts.ds[-1, -1], bars.times[-1])


def spreads(bars: Bars, rules: TradingRules) -> np.ndarray:
    """Spread of each bar in price units, float64 [T]; NaN where the data do not tell."""
    if rules.spread_points == FROM_DATA:
        return np.asarray(bars.frame["spread"], np.float64) * bars.instrument.point
    return np.full(len(bars), float(rules.spread_points) * bars.instrument.point)


def _plan(times: np.ndarray, cutoffs: np.ndarray, wanted: list[Target], rules: TradingRules) -> Plan:
    """Lay targets along bars [T]: the newest target at or before a close holds until its expiry, then flat."""
    units, reasons = np.zeros(len(times)), ["no forecast"] * len(times)
    for bar, row in enumerate(np.searchsorted(cutoffs, times, side="right") - 1):
        if row < 0:
            continue
        target = wanted[row]
        if times[bar] < target.expiry:
            units[bar], reasons[bar] = target.position * target.size * rules.lot_units, target.reason
        else:
            reasons[bar] = "forecast expired"
    return Plan(units, reasons)


def _execute(bars: Bars, spread: np.ndarray, plan: Plan, rules: TradingRules) -> tuple[FollowPlan, SpreadBroker]:
    columns = {name: bars.frame[name].to_numpy(np.float64) for name in ("open", "high", "low", "close")}
    columns |= {"spread": spread, "datetime": feed_times(bars.times)}
    broker = SpreadBroker(cash=rules.deposit, close_only=bars.instrument.close_only)
    broker.addcommissioninfo(LotCommission(commission=rules.commission_per_unit, leverage=rules.leverage))
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(broker)
    cerebro.adddata(BarFeed(columns=columns))
    cerebro.addstrategy(FollowPlan, plan=plan)
    return cerebro.run()[0], broker


def _positions(bars: Bars, forecasts: Forecasts) -> np.ndarray:
    """Index of the bar that closes at each cutoff, int64 [N]."""
    times, cutoffs = bars.times, forecasts.cutoff
    where = np.minimum(np.searchsorted(times, cutoffs), len(times) - 1)
    strange = cutoffs[times[where] != cutoffs]
    if len(strange):
        raise UserError(
            f"no bar of {bars.instrument.unique_id} closes at the cutoff {strange[0]}; "
            "use the bars that the forecasts were made from"
        )
    return where


def _span(bars: Bars, forecasts: Forecasts | None, span: Span | None) -> Span:
    if span is not None:
        return span
    if forecasts is None:
        raise UserError("a benchmark has no span of its own; pass the span of the methods it stands beside")
    return span_of(bars, forecasts)


def _between(bars: Bars, span: Span) -> Bars:
    """The bars of a span."""
    first, last = np.array(span, "datetime64[ns]")
    inside = (bars.times >= first) & (bars.times <= last)
    if inside.sum() < 2:
        raise UserError(
            f"{bars.instrument.unique_id} has {inside.sum()} bars from {first} to {last}; a backtest needs 2, one to "
            f"decide and one to fill: choose a span within {bars.times[0]} to {bars.times[-1]}"
        )
    return replace(bars, frame=bars.frame[inside])


def _known(spread: np.ndarray, bars: Bars) -> np.ndarray:
    if np.isnan(spread).any():
        raise DataError(
            f"{bars.instrument.unique_id}: the bar of {bars.times[np.isnan(spread)][0]} has no spread, and "
            f'trading.spread_points is "{FROM_DATA}"; set trading.spread_points to a number of points, such as 10'
        )
    return spread


def _check_deposit(bars: Bars, rules: TradingRules) -> None:
    """Refuse a deposit that cannot carry a position at the first bar: the run would pass without a trade."""
    instrument, margin = bars.instrument, rules.units * float(bars.closes[0]) / rules.leverage
    if margin > rules.deposit:
        raise ConfigError(
            f"trading.deposit {rules.deposit:g} is below the margin of {rules.lots:g} lot {instrument.symbol}, "
            f"{margin:.2f} at leverage {rules.leverage:g}; both are in {instrument.quote}: raise deposit or lower lots"
        )
