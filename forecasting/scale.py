"""Causal volatility: the one-bar scale by which returns are divided before they become tokens.

A power mean of absolute returns over several exponential windows at once: a short one follows the day's news, a long
one remembers the level to which volatility reverts, and a power of 1.5 instead of 2 keeps one jump from ruling the
weeks that follow (docs/LOG.md has the comparison). Weights are normalised over exactly the returns seen, so sigma is a
function of the closes in a window and of nothing before it. Intraday, returns are first divided by an hour-of-week
profile, fitted on the training part, in the market's local time: daylight saving moves the pattern against UTC.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import gammaln

from forecasting.errors import ConfigError

HOURS_PER_WEEK = 168
WARM_UP_HALF_LIVES = 4
"""Of the slowest window: the returns left out would have carried 6 % of its weight, and it is one part of several."""


@dataclass(frozen=True)
class Scale:
    """How sigma follows returns.

    half_lives: of the exponential windows, in bars. weights: of each, adding up to 1. power: of absolute returns.
    dof: sigma is the standard deviation of a Student t of so many degrees of freedom with that power mean.
    floor: least sigma.
    """

    half_lives: tuple[float, ...]
    weights: tuple[float, ...]
    power: float = 1.5
    dof: float = 7.0
    floor: float = 1e-6

    def __post_init__(self) -> None:
        if not self.half_lives or not all(0 < half_life < np.inf for half_life in self.half_lives):
            raise ConfigError(f"half_lives is {list(self.half_lives)}; give one or more positive numbers of bars")
        sound = len(self.weights) == len(self.half_lives) and all(weight >= 0 for weight in self.weights)
        if not sound or not abs(sum(self.weights) - 1) <= 1e-9:
            raise ConfigError(
                f"weights is {list(self.weights)}; give one for each of the {len(self.half_lives)} half_lives, "
                f"none negative, adding up to 1"
            )
        if not 0.5 <= self.power <= 2:
            raise ConfigError(f"power is {self.power}; give a number from 0.5 to 2")
        if not self.dof > 2:
            raise ConfigError(f"dof is {self.dof}; it must exceed 2, a t distribution of less has no variance")
        if not self.floor > 0:
            raise ConfigError(f"floor is {self.floor}; give a small positive number such as 1e-6")

    @property
    def warm_up(self) -> int:
        """Closes that go before a context so that sigma hardly depends on where the window begins."""
        return int(np.ceil(WARM_UP_HALF_LIVES * max(self.half_lives)))

    @cached_property
    def decays(self) -> np.ndarray:
        """Weight a return keeps from bar to bar in each window, [K]."""
        return np.asarray(0.5 ** (1.0 / np.asarray(self.half_lives, dtype=np.float64)))

    @cached_property
    def unit(self) -> float:
        """Standard deviation over power mean of the t distribution: E|T|^p of a unit-variance t, to the -1 / p."""
        p, nu = self.power, self.dof
        log = p / 2 * np.log(nu - 2) + gammaln((p + 1) / 2) + gammaln((nu - p) / 2)
        return float(np.exp(-(log - np.log(np.pi) / 2 - gammaln(nu / 2)) / p))

    def shares(self, count: int) -> np.ndarray:
        """What each window's total adds to the power mean after `count` returns, [K]."""
        return np.asarray(np.asarray(self.weights) * (1 - self.decays) / np.maximum(1 - self.decays**count, 1e-300))


@dataclass(frozen=True)
class Volatility:
    """State of the recursion at N points: `totals` [K, N] of each exponential window after `count` returns."""

    totals: np.ndarray
    count: int

    @staticmethod
    def before_any(scale: Scale, points: int) -> "Volatility":
        """No return seen yet."""
        return Volatility(np.zeros((len(scale.half_lives), points)), 0)

    def sigma(self, scale: Scale) -> np.ndarray:
        """Standard deviation of the next return, at least the floor, [N]."""
        mean = scale.shares(self.count)[0] * self.totals[0]
        for share, total in zip(scale.shares(self.count)[1:], self.totals[1:], strict=True):
            mean = mean + share * total
        return np.asarray(np.maximum(scale.unit * mean ** (1 / scale.power), scale.floor))

    def after(self, scaled_return: np.ndarray, scale: Scale) -> "Volatility":
        """State after one more return, [N]."""
        return Volatility(scale.decays[:, None] * self.totals + np.abs(scaled_return) ** scale.power, self.count + 1)


def causal_sigma(returns: np.ndarray, scale: Scale) -> tuple[np.ndarray, Volatility]:
    """Sigma in force at each return, from the returns before it.

    returns: [N, T]. Gives (sigma [N, T], state after the last return). The first sigma is the floor.
    """
    count, length = returns.shape
    state = Volatility.before_any(scale, count)
    sigma = np.empty((length, count))
    columns = np.ascontiguousarray(returns.T)
    for t in range(length):
        sigma[t] = state.sigma(scale)
        state = state.after(columns[t], scale)
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
    towards 1 by 20 pseudo-bars, so a rare hour cannot blow up its returns. Where nothing moves, no hour differs.
    """
    mean_square = float(np.mean(returns**2))
    if mean_square == 0:
        return np.ones(HOURS_PER_WEEK)
    count = np.bincount(hours, minlength=HOURS_PER_WEEK).astype(np.float64)
    total = np.bincount(hours, weights=returns**2, minlength=HOURS_PER_WEEK)
    prior = 20.0
    variance = (total / mean_square + prior) / (count + prior)
    variance[count < prior] = 1.0
    used = variance[hours]
    return np.asarray(np.sqrt(variance / used.mean()))
