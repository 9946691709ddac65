"""What forecasts of the validation part earn: the one place where a search meets an engine of accounts.

Several series are one portfolio, made equal parts again every day: its daily return is the mean of theirs, a day on
which one has no bar counting as 0 there.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from strategies.metrics import return_figures, years_of
from strategies.rules import TradingRules

if TYPE_CHECKING:
    from strategies.search import Prepared

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Money:
    """Daily returns, indexed by UTC day, and the number of closed trades."""

    returns: pd.Series
    trades: int


@dataclass(frozen=True)
class Judged:
    """What all trials that trade the same forecasts share: their mean CRPS, the yardstick's, and what is traded."""

    crps: float
    yardstick: float
    ready: "Prepared"


@dataclass(frozen=True)
class Portfolio:
    """Days, daily returns [D], their yearly Sharpe ratio (0 where nothing moved), trades, largest fall from a peak."""

    days: tuple[str, ...]
    returns: np.ndarray
    sharpe: float
    trades: int
    max_drawdown: float
    total_return: float


def money(ready: "Prepared", rules: TradingRules) -> Money:
    """Trade forecasts of one series by the fast twin."""
    from strategies.search import traded

    found = traded(ready, [rules], daily=True, threads=1)
    assert found.daily is not None
    index = pd.DatetimeIndex(found.days.astype("datetime64[ns]"), name="day").tz_localize("UTC")
    return Money(pd.Series(found.daily[0], index, name="return"), int(found.trades[0]))


def once(shelf: dict[Key, Found], key: Key, room: int, make: Callable[[], Found]) -> Found:
    """What `make` gave for a key when it was last asked for; `shelf` keeps the newest `room` of them."""
    found = shelf[key] = shelf.pop(key) if key in shelf else make()
    while len(shelf) > room:
        del shelf[next(iter(shelf))]
    return found


def portfolio(parts: Sequence[Money]) -> Portfolio:
    """Equal parts every day; a return after ruin counts as nothing more to lose."""
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
    found = return_figures(returns, years_of(days.to_numpy("datetime64[ns]")))["sharpe"]
    return found if np.isfinite(found) else 0.0
