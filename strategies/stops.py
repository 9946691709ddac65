"""Stop loss, take profit and trailing stop from one text each: "" none, "points:150", "atr:2.0", "quantile:0.05".

A level is a price of the side that closes the position: bid for longs, ask for shorts; a broker keeps it in points.
"""

from dataclasses import dataclass

import numpy as np

from forecasting.errors import OptionError
from forecasting.forecasts import QUANTILE_LEVELS
from strategies.numbers import finite, points_of_one

ATR_BARS = 14
"""Bars of the average true range, MetaTrader's default."""

_EXAMPLES = {"stop": 0.05, "take_profit": 0.95}
"""Settings that may be a quantile, and the level named in messages. Both speak of a long position."""


@dataclass(frozen=True)
class Level:
    """How far a level lies: `kind` is points, atr or quantile, `value` the number after the colon."""

    kind: str
    value: float


def level_of(text: str, name: str) -> Level | None:
    """The level that a setting's text asks for, None for ""; OptionError names the setting and the cure."""
    if not text:
        return None
    kind, _, number = text.partition(":")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    kinds = ("points", "atr", "quantile") if name in _EXAMPLES else ("points", "atr")
    if kind not in kinds or not finite(value) or value <= 0:
        also = f', "quantile:{_EXAMPLES[name]}"' if name in _EXAMPLES else ""
        raise OptionError(f'{name} is {text!r}; it must be "points:150", "atr:2.0"{also} or "" for none')
    if kind == "quantile":
        half = [level for level in QUANTILE_LEVELS if (level < 0.5 if name == "stop" else level > 0.5)]
        if value not in half:
            known = ", ".join(f"{level:g}" for level in half)
            raise OptionError(f"{name} is {text!r}; quantiles for it are {known}, those of a long position")
    return Level(kind, value)


def distance_of(level: Level, point: float, atr: np.ndarray) -> np.ndarray:
    """Distance in price of a level in points or ATR, [N]; atr [N]: in price."""
    return np.full(len(atr), level.value * point) if level.kind == "points" else level.value * atr


def quantile_price(level: Level, side: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Price of a level's quantile, [N]; for a short (side -1) it is mirrored, 0.05 becoming 0.95. quantiles [N, Q]."""
    at = QUANTILE_LEVELS.index(level.value)
    return np.where(side > 0, quantiles[:, at], quantiles[:, len(QUANTILE_LEVELS) - 1 - at])


def on_grid(price: np.ndarray, point: float) -> np.ndarray:
    """Prices to the nearest whole point, a half upwards: what MetaTrader's NormalizeDouble makes of them, to the bit.

    >>> on_grid(np.array([1.234565, 1.23456499]), 1e-5).tolist()
    [1.23457, 1.23456]
    """
    scale = points_of_one(point)
    return np.asarray(np.floor(price * scale + 0.5) / scale)


def average_true_range(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    """Mean of the last 14 true ranges at each of T bars, NaN at the first 14: MetaTrader's iATR.

    A true range is max(high, close before) - min(low, close before) (Wilder 1978); the first bar has none.
    """
    ranges = np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])
    found = np.full(len(close), np.nan)
    whole = len(ranges) - ATR_BARS + 1
    if whole > 0:
        total = np.zeros(whole)
        for first in range(ATR_BARS):  # in this order for every bar, however many there are
            total = total + ranges[first : first + whole]
        found[ATR_BARS:] = total / ATR_BARS
    return found
