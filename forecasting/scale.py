"""Causal volatility: the one-bar scale by which returns are divided before they become tokens.

An exponentially weighted mean of squared returns, with weights normalised over exactly the returns seen, so that sigma
is a function of the closes in a window and of nothing before it. Intraday, returns are first divided by an hour-of-week
profile, fitted on the training part, in the market's local time: daylight saving moves the pattern against UTC.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

HOURS_PER_WEEK = 168
WARM_UP_HALF_LIVES = 8
"""After eight half-lives the returns left out of a window would have carried 0.4 % of the weight."""


@dataclass(frozen=True)
class Ewma:
    """State of the recursion at N points: `total` / `weight` is the mean square, both float64 [N]."""

    total: np.ndarray
    weight: np.ndarray

    def sigma(self, floor: float) -> np.ndarray:
        """Root mean square, at least `floor`, [N]."""
        return np.asarray(np.maximum(np.sqrt(self.total / np.maximum(self.weight, 1e-300)), floor))

    def after(self, scaled_return: np.ndarray, decay: float) -> "Ewma":
        """State after one more return, [N]."""
        return Ewma(decay * self.total + scaled_return * scaled_return, decay * self.weight + 1.0)


def decay_of(half_life: float) -> float:
    """Weight lost per bar: 0.5 ** (1 / half_life)."""
    return float(0.5 ** (1.0 / half_life))


def warm_up_bars(half_life: float) -> int:
    """Closes that go before a context so that sigma hardly depends on where the window begins."""
    return int(np.ceil(WARM_UP_HALF_LIVES * half_life))


def causal_sigma(returns: np.ndarray, decay: float, floor: float) -> tuple[np.ndarray, Ewma]:
    """Sigma in force at each return, from the returns before it.

    returns: [N, T]. Gives (sigma [N, T], state after the last return). The first sigma is the floor.
    """
    count, length = returns.shape
    state = Ewma(np.zeros(count), np.zeros(count))
    sigma = np.empty((length, count))
    columns = np.ascontiguousarray(returns.T)
    for t in range(length):
        sigma[t] = state.sigma(floor)
        state = state.after(columns[t], decay)
    return sigma.T, state


def hour_of_week(close_times: np.ndarray, timezone: str, bar_seconds: int) -> np.ndarray:
    """Hour of the local week in which each bar opened, 0 = Monday 00:00; int [...] of the shape of `close_times`.

    close_times: datetime64[ns] UTC.
    """
    flat, inverse = np.unique(close_times.reshape(-1), return_inverse=True)
    opened = pd.DatetimeIndex(flat - np.timedelta64(bar_seconds, "s")).tz_localize("UTC").tz_convert(timezone)
    hours = opened.day_of_week.to_numpy() * 24 + opened.hour.to_numpy()
    return np.asarray(hours[inverse].reshape(close_times.shape))


def fit_profile(returns: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Relative volatility of each hour of the week, [168], mean square 1 over the bars given.

    returns [T], hours [T], both of the training part only. An hour seen fewer than 20 times takes 1; hours are shrunk
    towards 1 by 20 pseudo-bars, so a rare hour cannot blow up its returns.
    """
    mean_square = float(np.mean(returns**2))
    count = np.bincount(hours, minlength=HOURS_PER_WEEK).astype(np.float64)
    total = np.bincount(hours, weights=returns**2, minlength=HOURS_PER_WEEK)
    prior = 20.0
    variance = (total / mean_square + prior) / (count + prior)
    variance[count < prior] = 1.0
    used = variance[hours]
    return np.asarray(np.sqrt(variance / used.mean()))
