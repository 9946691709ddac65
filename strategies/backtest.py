"""Bars and forecasts -> trades, equity and figures.

Three steps, each of its own: a plan lays the targets of the pure signal along the bars (`strategies.plans`); Backtrader
executes the plan; trades and equity become figures. docs/EXECUTION.md states every assumption.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from forecasting.bars import Bars
from forecasting.errors import ConfigError, UserError, unknown
from forecasting.forecasts import Forecasts
from strategies.broker import run_plan
from strategies.contract import BrokerRules
from strategies.market import (
    Market,
    account_currency,
    bar_starts,
    check_hours,
    entries_allowed,
    market_of,
    weekend_ahead,
)
from strategies.metrics import figures
from strategies.numbers import EXACT
from strategies.plan import Plan, plain_plan, restricted
from strategies.plans import plan_of
from strategies.rules import TradingRules
from strategies.run import Run, equity_frame, trades_frame, with_fills
from strategies.sizing import capped, check_lots, lot_steps

STANDARD = BrokerRules()
"""The account that is traded where none is named."""

POLICIES = ("signal", "buy-and-hold", "always-flat")

Engine = Callable[[Market, Plan, BrokerRules], Run]
"""Runs an account along a market under a plan."""

Span = tuple[np.datetime64, np.datetime64]
"""Close times, UTC, of the first and the last bar traded."""


@dataclass(frozen=True)
class BacktestResult:
    """What a backtest leaves; money is in `currency`, the account's.

    trades, equity: `strategies.run.TRADE_COLUMNS` with FILL_COLUMNS, and EQUITY_COLUMNS. figures: those of
    `strategies.metrics`, and deals, orders_refused and margin_calls of the run. illustrative: nobody could fill so, the
    source has closes only.
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
    broker: BrokerRules = STANDARD,
    *,
    context: int,
    policy: str = "signal",
    span: Span | None = None,
    conversion: Bars | None = None,
    finer: Bars | None = None,
    engine: Engine = run_plan,
) -> BacktestResult:
    """Trade a policy over a span of bars.

    `context` is C, the closes in a signal's context mean. `span` defaults to the forecasts' own (`span_of`); a
    benchmark without forecasts needs it. Give every method that is compared the same one. `conversion`, `finer`: bars
    of broker.conversion and broker.finer. engine: what runs the account, Backtrader or `strategies.twin.simulate`.
    """
    if policy not in POLICIES:
        raise ConfigError(unknown("policy", policy, POLICIES))
    broker = capped(broker, rules.max_lots)
    if policy == "buy-and-hold" or (policy == "signal" and rules.sizing == "fixed"):
        check_lots(rules.lots, broker)
    check_hours(bars, broker)
    traded = bars_between(bars, _span(bars, forecasts, span))
    market = market_of(traded, broker, conversion, finer)
    if policy == "signal":
        if forecasts is None:
            raise UserError("policy 'signal' needs forecasts; make them: `tunetrade forecast`, or trade a benchmark")
        plan = plan_of(bars, traded, forecasts, rules, broker, market, context)
    else:
        plan = _held(len(traded), policy, rules.lots)
        plan = restricted(plan, entries_allowed(traded, broker), weekend_ahead(traded, broker))
    check_deposit(bars, market, plan, broker)
    run = engine(market, plan, broker)
    trades, equity = trades_frame(run, market, broker.lot_units, plan.reasons), equity_frame(run, market)
    trades = with_fills(trades, traded.times, bar_starts(traded))
    counts = {"deals": run.deals, "orders_refused": run.refused, "margin_calls": run.margin_calls}
    return BacktestResult(
        trades=trades,
        equity=equity,
        figures=figures(trades, equity, broker.deposit) | {name: float(count) for name, count in counts.items()},
        illustrative=bars.instrument.close_only,
        currency=account_currency(bars.instrument, broker),
    )


def span_of(bars: Bars, forecasts: Forecasts) -> Span:
    """From the first cutoff to the end of the last cutoff's horizon, or to the last bar where that comes first."""
    return forecasts.cutoff[0], min(forecasts.ds[-1, -1], bars.times[-1])


def _held(count: int, policy: str, lots: float) -> Plan:
    """The plan of a benchmark: decided once, at the first close."""
    side = np.full(count, policy == "buy-and-hold", np.int8)
    return replace(plain_plan(side, lots, (policy,) * count), decided=np.zeros(count, np.int64))


def _span(bars: Bars, forecasts: Forecasts | None, span: Span | None) -> Span:
    if span is not None:
        return span
    if forecasts is None:
        raise UserError("a benchmark has no span of its own; pass the span of the methods it stands beside")
    return span_of(bars, forecasts)


def bars_between(bars: Bars, span: Span) -> Bars:
    """The bars of a span."""
    first, last = np.array(span, "datetime64[ns]")
    inside = (bars.times >= first) & (bars.times <= last)
    if inside.sum() < 2:
        raise UserError(
            f"{bars.instrument.unique_id} has {inside.sum()} bars from {first} to {last}; a backtest needs 2, one to "
            f"decide and one to fill: choose a span within {bars.times[0]} to {bars.times[-1]}"
        )
    return replace(bars, frame=bars.frame[inside])


def check_deposit(bars: Bars, market: Market, plan: Plan, broker: BrokerRules) -> None:
    """Refuse a deposit that cannot carry any position a plan would enter: nothing would be traded.

    Until something is, equity is the deposit. Costs apart, so that none is refused that could be carried.
    """
    asked = np.flatnonzero((plan.side != 0) & plan.entry)
    asked = asked[asked < len(plan) - 1]  # the last close has no open after it
    if not len(asked):
        return
    wanted = plan.lots[asked] + plan.lots_per_money[asked] * broker.deposit
    steps = np.maximum(np.floor(wanted / broker.lot_step + EXACT), broker.least_steps)
    lots = np.minimum(steps, lot_steps(broker.lot_max, broker)) * broker.lot_step
    margin = lots * broker.lot_units * market.open[asked + 1] * market.conversion[asked] / broker.leverage
    least = int(np.argmin(margin))
    if margin[least] > broker.deposit:
        raise ConfigError(
            f"broker.deposit {broker.deposit:g} is below the margin of {lots[least]:g} lot {bars.instrument.symbol}, "
            f"{margin[least]:.2f} at leverage {broker.leverage:g}; both are in "
            f"{account_currency(bars.instrument, broker)}: raise deposit or lower lots"
        )
