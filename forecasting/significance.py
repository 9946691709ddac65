"""Is a difference between two forecasters more than chance? Plain arrays in, a statistic and its p-value out."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class DieboldMariano:
    """Outcome of a test: mean loss difference, its statistic, and the chance of one as low if none is better."""

    difference: float
    statistic: float
    p_value: float


def diebold_mariano(losses: np.ndarray, others: np.ndarray, horizon: int, lags: int = -1) -> DieboldMariano:
    """Whether `losses` are lower than `others`, one-sided; both [T], of the same origins in time order.

    Diebold and Mariano (1995) with a Bartlett-weighted long-run variance (Newey and West 1987) over `lags` (-1: the
    larger of horizon - 1 and 4 (T / 100)^(2/9)), the small-sample factor of Harvey, Leybourne and Newbold (1997), and
    Student's t with T - 1 degrees of freedom. A negative statistic favours `losses`. NaN where they never differ.
    """
    difference = np.asarray(losses, dtype=np.float64) - others
    count = len(difference)
    if lags < 0:
        lags = max(horizon - 1, int(4 * (count / 100) ** (2 / 9)))
    centred = difference - difference.mean()
    variance = centred @ centred / count
    for lag in range(1, min(lags, count - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag]) / count
    if not variance > 0:
        return DieboldMariano(float(difference.mean()), float("nan"), float("nan"))
    factor = np.sqrt((count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count)
    statistic = float(factor * difference.mean() / np.sqrt(variance / count))
    return DieboldMariano(float(difference.mean()), statistic, float(stats.t.cdf(statistic, count - 1)))
