"""Many trading rules on the same forecasts: what a search pays for once, and the fast twin for each rule.

`prepared` finds what all rules share, `traded` gives the figures that `strategies.backtest.run_backtest` gives, without
the frames and texts that a report needs. Rules run in threads; each is independent of the others, so results do not
depend on how many threads there are.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from forecasting.bars import Bars
from forecasting.forecasts import Forecasts
from strategies.backtest import Span, bars_between, check_deposit, span_of
from strategies.contract import BrokerRules
from strategies.market import Market, check_hours, market_of
from strategies.metrics import day_ends, drawdowns, return_figures, returns_between, years_between
from strategies.plans import Layout, lay_out, plan_on
from strategies.rules import TradingRules
from strategies.sizing import capped, check_lots
from strategies.twin import simulate


@dataclass(frozen=True)
class Prepared:
    """Forecasts laid along the T bars of a span; days [D]: those with a return, ends [D + 1]: rows that bound them."""

    bars: Bars
    broker: BrokerRules
    market: Market
    layout: Layout
    days: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Figures:
    """Of S rules, [S], defined as in `strategies.metrics`; NaN where undefined.

    net_profit, costs: money. max_drawdown: share of the running peak. sharpe: yearly, of daily returns. trades,
    refused: int64. daily: returns [S, D] of `days` [D], UTC, where asked for.
    """

    net_profit: np.ndarray
    costs: np.ndarray
    max_drawdown: np.ndarray
    sharpe: np.ndarray
    trades: np.ndarray
    refused: np.ndarray
    days: np.ndarray
    daily: np.ndarray | None


def prepared(
    bars: Bars,
    forecasts: Forecasts,
    broker: BrokerRules,
    *,
    context: int,
    span: Span | None = None,
    conversion: Bars | None = None,
    finer: Bars | None = None,
) -> Prepared:
    """What rules on these forecasts share; arguments as those of `strategies.backtest.run_backtest`."""
    check_hours(bars, broker)
    inside = bars_between(bars, span or span_of(bars, forecasts))
    market = market_of(inside, broker, conversion, finer)
    layout = lay_out(bars, inside, forecasts, broker, market, context)
    return Prepared(inside, broker, market, layout, *day_ends(market.times))


def traded(
    ready: Prepared, rules: Sequence[TradingRules], *, daily: bool = False, threads: int | None = None
) -> Figures:
    """Figures of every rule, in order; `daily` keeps the returns, 8 bytes for each rule and day.

    UserError of the first rule that cannot be traded. Memory: some 20 MB a thread and 100,000 bars beside `ready`.
    """
    market, years = ready.market, years_between(ready.market.times)
    rows = np.full((len(rules), 6), np.nan)
    returns = np.full((len(rules), len(ready.days)), np.nan) if daily else None

    def trade(number: int) -> None:
        broker = capped(ready.broker, rules[number].max_lots)
        if rules[number].sizing == "fixed":
            check_lots(rules[number].lots, broker)
        plan = plan_on(ready.layout, rules[number], reasons=False)
        check_deposit(ready.bars, market, plan, broker)
        run = simulate(market, plan, broker)
        own = returns_between(run.equity, ready.ends)
        if returns is not None:
            returns[number] = own
        rows[number] = (
            run.equity[-1] - broker.deposit,
            run.paid[-1],
            drawdowns(market.times, run.equity, broker.deposit)["max_drawdown"],
            return_figures(own, years)["sharpe"],
            len(run.trades),
            run.refused,
        )

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        list(pool.map(trade, range(len(rules))))
    net_profit, costs, max_drawdown, sharpe, trades, refused = rows.T
    counts = trades.astype(np.int64), refused.astype(np.int64)
    return Figures(net_profit, costs, max_drawdown, sharpe, *counts, days=ready.days, daily=returns)
