"""Long-run variance of dependent columns by equal-weighted cosines, and the Student t that belongs to it.

The mean of T dependent values has variance omega / T, omega being their long-run variance. Estimated by B cosine
coefficients of equal weight, omega has B degrees of freedom, so that mean / sqrt(omega / T) is a Student t with B
(Mueller 2007; Lazarus, Lewis, Stock and Watson, "HAR Inference: Recommendations for Practice", Journal of Business and
Economic Statistics 36, 2018). Coroneo and Iacone ("Comparing predictive accuracy in small samples using fixed-smoothing
asymptotics", Journal of Applied Econometrics 35, 2020) show that it mends the size of Diebold and Mariano's test.
Bartlett weights with t(T - 1) values reject 8 to 10 % at the 5 % level for overlapping forecasts 20 steps ahead; this
rejects 5 to 6 % (docs/EVIDENCE.md). The price is power where origins are few.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

LEAST = 4
"""Fewest cosines with which a test is made: below, a verdict hangs on next to no degrees of freedom."""


def cosines(rows: int, horizon: int = 1) -> int:
    """Number of cosines B for `rows` values of overlap `horizon`; below `LEAST` there are too few values.

    0.41 T^(2/3), as Lazarus et al. recommend, but at most T / (1.5 horizon): cosines faster than the overlap see
    nothing of the long run.
    """
    return min(int(0.41 * rows ** (2 / 3)), int(rows / (1.5 * horizon)))


def resolution(rows: int, horizon: int, variances: np.ndarray | None = None) -> tuple[int, float]:
    """Number of cosines and their degrees of freedom for values of overlap `horizon`; below `LEAST` of the first, none.

    variances [T]: of each value, where it is known to change, as where one of several averaged series ends before the
    others. Then `rows` values count as (sum v)^2 / sum v^2 for the number of cosines, which are as many more as the
    rest is longer; they are correlated, and degrees of freedom are those of Satterthwaite (1946). With 60 degrees in
    place of the 12 that there are, two series of 130 days beside two of 1,800 reject at 9 % where 5 % is said.
    """
    if variances is None or np.ptp(variances) <= 1e-9 * variances.max():
        return cosines(rows, horizon), cosines(rows, horizon)
    length = variances.sum() ** 2 / (variances**2).sum()
    if cosines(round(length), horizon) < LEAST:
        return 0, 0
    count = int(cosines(round(length), horizon) * rows / length)
    products = basis(rows, count).T @ (variances[:, None] * basis(rows, count))
    return count, float(np.trace(products) ** 2 / (products**2).sum())


@lru_cache(maxsize=64)
def basis(rows: int, count: int) -> np.ndarray:
    """The first `count` cosines [T, B], orthonormal and orthogonal to a constant; read-only, since it is kept."""
    at = (np.arange(rows) + 0.5) / rows
    cosine = np.asarray(math.sqrt(2 / rows) * np.cos(np.pi * np.outer(at, np.arange(1, count + 1))))
    cosine.flags.writeable = False
    return cosine


def coefficients(columns: np.ndarray, count: int, horizon: int = 1) -> np.ndarray:
    """Cosine coefficients [B, K] of columns [T, K], or [B] of one [T], scaled to an unbiased mean square for overlap.

    Cosines see a spectrum that an overlap has bent down already. They are divided by the root of what they see of
    a moving average of `horizon` equal terms, as h steps ahead have at most: a small-sample factor for overlap, in
    place of Harvey, Leybourne and Newbold's.
    """
    columns = np.asarray(columns, np.float64)
    seen = basis(len(columns), count).T @ (columns - columns.mean(axis=0))
    return np.asarray(seen / math.sqrt(share_seen(len(columns), count, horizon)))


@lru_cache(maxsize=256)
def share_seen(rows: int, count: int, horizon: int) -> float:
    """Share of the long-run variance of a moving average of `horizon` equal terms that `count` cosines show."""
    half = np.pi * np.arange(1, count + 1) / (2 * rows)
    return float(np.mean((np.sin(horizon * half) / (horizon * np.sin(half))) ** 2))


def long_run_variance(columns: np.ndarray, count: int, horizon: int = 1) -> np.ndarray:
    """Long-run variance [K] of columns [T, K] of overlap `horizon`, or of one [T], by `count` cosines."""
    return np.asarray((coefficients(columns, count, horizon) ** 2).mean(axis=0))


def standard_errors(columns: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Standard errors [K] of the means of columns [T, K], column k by `counts[k]` cosines; no factor for overlap."""
    most = max(1, *counts)
    sums = np.cumsum((basis(len(columns), most).T @ (columns - columns.mean(axis=0))) ** 2, axis=0)
    used = np.maximum(counts, 1)
    return np.asarray(np.sqrt(sums[used - 1, np.arange(columns.shape[1])] / used / len(columns)))
