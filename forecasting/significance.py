"""Is a difference between two forecasters more than chance? Plain arrays in, a statistic and its p-value out."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from forecasting.long_run import LEAST, long_run_variance, resolution


@dataclass(frozen=True)
class DieboldMariano:
    """Outcome of a test: mean loss difference, its statistic, and the chance of one as low if none is better.

    error: standard error of the difference. degrees: of freedom of the statistic's Student t.
    """

    difference: float
    statistic: float
    p_value: float
    error: float = math.nan
    degrees: float = 0

    @property
    def p_worse(self) -> float:
        """The chance of a statistic as high if none is worse."""
        return 1 - self.p_value

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval of the difference; NaN where there is no statistic."""
        if not self.degrees:
            return math.nan, math.nan
        reach = float(stdtrit(self.degrees, 0.5 + level / 2)) * self.error
        return self.difference - reach, self.difference + reach


def diebold_mariano(losses: np.ndarray, others: np.ndarray, horizon: int, lags: int = -1) -> DieboldMariano:
    """Whether `losses` are lower than `others`, one-sided; both [T], of the same origins in time order.

    Diebold and Mariano (1995) with the long-run variance and the Student t of `forecasting.long_run`, whose size holds
    for overlapping forecasts. A negative statistic favours `losses`. NaN where they never differ, or where T is too
    small for the horizon.

    With `lags` >= 0 the classical form: a Bartlett-weighted long-run variance (Newey and West 1987), the small-sample
    factor of Harvey, Leybourne and Newbold (1997), Student's t with T - 1 degrees of freedom.
    """
    difference = np.asarray(losses, dtype=np.float64) - others
    if lags >= 0:
        return _classical(difference, horizon, lags)
    return mean_test(without_rounding(difference, others), horizon)


def without_rounding(differences: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Differences to losses, of any shape; 0 where equal losses, or means of them over seeds, leave only rounding."""
    return np.where(np.abs(differences) <= 1e-14 * np.abs(losses), 0.0, differences)


def mean_test(values: np.ndarray, horizon: int, variances: np.ndarray | None = None) -> DieboldMariano:
    """Whether the mean of dependent values [T] of overlap `horizon` lies below 0, one-sided; see `diebold_mariano`.

    variances [T]: see `long_run.resolution`.
    """
    count = len(values)
    used, degrees = resolution(count, horizon, variances)
    mean = float(values.mean()) if count else math.nan
    if used < LEAST or not values.any():
        return DieboldMariano(mean, math.nan, math.nan)
    if np.ptp(values) <= 1e-12 * np.abs(values).max():  # the same at every origin: sure
        return DieboldMariano(mean, math.copysign(math.inf, mean), float(mean > 0), 0.0, degrees)
    error = math.sqrt(float(long_run_variance(values, used, horizon)) / count)
    if not error > 0:
        return DieboldMariano(mean, math.nan, math.nan)
    return DieboldMariano(mean, mean / error, float(stdtr(degrees, mean / error)), error, degrees)


def clark_west(truth: np.ndarray, nested: np.ndarray, forecasts: np.ndarray, horizon: int) -> DieboldMariano:
    """Whether `forecasts` add to those of a model they nest, such as the random walk's; all [T], one-sided.

    Clark and West ("Approximately normal tests for equal predictive accuracy in nested models", Journal of
    Econometrics 138, 2007): the squared error of the larger model less that of the smaller one, less the squared
    distance of the two forecasts, which is what estimating parameters that are truly zero costs. Signs as in
    `diebold_mariano`: negative favours `forecasts`. Its long-run variance is that of `forecasting.long_run`.
    """
    return mean_test(clark_west_differences(truth, nested, forecasts), horizon)


def clark_west_differences(truth: np.ndarray, nested: np.ndarray, forecasts: np.ndarray) -> np.ndarray:
    """(y - forecast)^2 - (forecast - nested)^2 - (y - nested)^2, of any shape."""
    return np.asarray((truth - forecasts) ** 2 - (forecasts - nested) ** 2 - (truth - nested) ** 2)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values adjusted for their number by Holm (1979), [K]; NaN stays NaN and does not count."""
    p_values = np.asarray(p_values, np.float64)
    known = np.flatnonzero(np.isfinite(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    adjusted = np.full(len(p_values), np.nan)
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def origins_needed(found: DieboldMariano, count: int, size: float = 0.05, power: float = 0.8) -> float:
    """Origins at which a one-sided test finds the estimated difference with the given power; `count` gave `found`.

    T (z(1 - size) + z(power))^2 / statistic^2: the long-run variance and the difference are taken to stay what they
    were estimated as. The difference is itself uncertain, and a small one may be zero: then no number suffices.
    Infinite where the difference is 0, NaN where there is no statistic.
    """
    if not math.isfinite(found.statistic):
        return math.nan
    wanted = (float(ndtri(1 - size)) + float(ndtri(power))) ** 2
    return count * wanted / found.statistic**2 if found.statistic else math.inf


def _classical(difference: np.ndarray, horizon: int, lags: int) -> DieboldMariano:
    count = len(difference)
    centred = difference - difference.mean()
    variance = centred @ centred / count
    for lag in range(1, min(lags, count - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag]) / count
    if not variance > 0:
        return DieboldMariano(float(difference.mean()), math.nan, math.nan)
    factor = np.sqrt((count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count)
    error = float(np.sqrt(variance / count) / factor)
    statistic = float(difference.mean()) / error
    return DieboldMariano(float(difference.mean()), statistic, float(stdtr(count - 1, statistic)), error, count - 1)
