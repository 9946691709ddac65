"""What forecasts of the validation part earn: the one place where a search meets an engine of accounts.

Several series are one portfolio of equal deposits: its daily return is the mean of theirs, a day on which one has no
bar counting as 0 there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from forecasting.bars import Bars
from forecasting.forecasts import Forecasts
from strategies.contract import BrokerRules
from strategies.market import market_of
from strategies.metrics import DAYS_A_YEAR, daily_returns, return_figures
from strategies.rules import TradingRules
from strategies.run import equity_frame
from tunetrade.optimize_models import Span


@dataclass(frozen=True)
class Money:
    """Daily returns, indexed by UTC day, and the number of closed trades."""

    returns: pd.Series
    trades: int


@dataclass(frozen=True)
class Portfolio:
    """Days, daily returns [D], their yearly Sharpe ratio (0 where nothing moved), trades, largest fall from a peak."""

    days: tuple[str, ...]
    returns: np.ndarray
    sharpe: float
    trades: int
    max_drawdown: float
    total_return: float


def money(
    bars: Bars,
    forecasts: Forecasts,
    rules: TradingRules,
    broker: BrokerRules,
    context: int,
    span: Span,
    beside: tuple[Bars | None, Bars | None] = (None, None),
) -> Money:
    """Trade forecasts of one series over a span, by the twin: `strategies.backtest.run_backtest` gives the same, later.

    context: closes in a signal's context mean. beside: bars of broker.conversion and of broker.finer.
    """
    from strategies.plans import plan_of
    from strategies.sizing import capped
    from strategies.twin import simulate

    own = capped(broker, rules.max_lots)
    traded = replace(bars, frame=bars.frame[(bars.times >= span[0]) & (bars.times <= span[1])])
    market = market_of(traded, own, *beside)
    run = simulate(market, plan_of(bars, traded, forecasts, rules, own, market, context), own)
    return Money(daily_returns(equity_frame(run, market)), len(run.trades))


def portfolio(parts: Sequence[Money]) -> Portfolio:
    """Equal deposits in every part; a return after ruin counts as nothing more to lose."""
    table = pd.concat([part.returns for part in parts], axis=1).sort_index()
    returns = table.fillna(0.0).mean(axis=1)
    values = returns.to_numpy(np.float64)
    wealth = np.concatenate([[1.0], np.cumprod(1 + values)])
    return Portfolio(
        days=tuple(str(day)[:10] for day in returns.index),
        returns=values,
        sharpe=_sharpe(values, returns.index),
        trades=sum(part.trades for part in parts),
        max_drawdown=float(np.max(1 - wealth / np.maximum.accumulate(wealth))),
        total_return=float(wealth[-1] - 1),
    )


def _sharpe(returns: np.ndarray, days: pd.Index) -> float:
    """As in `strategies.metrics`; 0 where nothing moved."""
    found = return_figures(returns, years_of(days))["sharpe"]
    return found if np.isfinite(found) else 0.0


def years_of(days: pd.Index) -> float:
    """From the first day to the end of the last."""
    stamps = pd.DatetimeIndex(days)
    return float((stamps[-1] - stamps[0] + pd.Timedelta(days=1)) / pd.Timedelta(days=DAYS_A_YEAR)) if len(days) else 0.0
