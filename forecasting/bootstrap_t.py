"""Means of dependent columns under a stationary bootstrap, each standardised by a long-run error of its own.

Percentiles of a bootstrapped mean are too narrow where values depend on each other, since blocks are few and their
variance is off. A bootstrap of mean / error, the error found anew in each replication, is not (Goncalves and Vogelsang,
"Block bootstrap HAC robust tests", Econometric Theory 27, 2011). Errors are those of `forecasting.long_run`; how many
cosines they have follows from the dependence found in the values themselves.

Cosine coefficients are linear, so those of a difference of two columns are differences: every pair of columns costs no
pass of its own over the replications.
"""

import math
from dataclasses import dataclass

import numpy as np

from forecasting.bootstrap import block_length
from forecasting.long_run import LEAST, basis, cosines

_HELD = 8_000_000
ROUNDING = 1e-6
"""Of the largest daily gain: what single precision, or the mean of a method's seeds, leaves between equal accounts."""


@dataclass(frozen=True)
class Projected:
    """Means [M] and cosine coefficients [B, M] of columns [T, M], and of their replicates [R, M], [R, B, M]."""

    columns: np.ndarray
    coefficients: np.ndarray
    means: np.ndarray
    resampled: np.ndarray


@dataclass(frozen=True)
class Mean:
    """A mean of dependent values, its error, the centred statistics of replicates [R], and how many cosines it used."""

    value: float
    error: float
    statistics: np.ndarray
    used: int

    @property
    def statistic(self) -> float:
        """Mean over its error."""
        return self.value / self.error

    @property
    def p_above(self) -> float:
        """The chance of a statistic as high if the true mean is not above 0."""
        return float((1 + (self.statistics >= self.statistic).sum()) / (len(self.statistics) + 1))

    @property
    def p_below(self) -> float:
        """The chance of a statistic as low if the true mean is not below 0."""
        return float((1 + (self.statistics <= self.statistic).sum()) / (len(self.statistics) + 1))

    @property
    def p_both(self) -> float:
        """Twice the smaller of the two, at most 1: below 0.05 just where `interval` at 95 % leaves out 0."""
        return min(1.0, 2 * min(self.p_above, self.p_below))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval with tails of equal chance."""
        low, high = np.percentile(self.statistics, (50 * (1 - level), 50 * (1 + level)))
        return self.value - float(high) * self.error, self.value - float(low) * self.error


def project(columns: np.ndarray, order: np.ndarray) -> Projected:
    """Columns [T, M] under the rows drawn, order [R, T]."""
    columns = np.asarray(columns, np.float64)
    rows, models = columns.shape
    cosine = basis(rows, max(LEAST, cosines(rows)))
    centre, scale = columns.mean(axis=0), np.abs(columns).max(initial=0.0) or 1.0
    centred = ((columns - centre) / scale).astype(np.float32)
    tested = np.column_stack([np.full(rows, 1 / rows), cosine]).T.astype(np.float32)
    found = np.empty((len(order), len(tested), models), np.float32)
    step = max(1, _HELD // (rows * models))
    for first in range(0, len(order), step):
        found[first : first + step] = tested @ centred[order[first : first + step]]
    found *= np.float32(scale)
    return Projected(columns, cosine.T @ (columns - centre), found[:, 0], found[:, 1:])


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """One - other [T]; 0 everywhere where no value is further off than ROUNDING of the largest of both."""
    gap = np.asarray(one - other)
    largest = max(np.abs(one).max(initial=0.0), np.abs(other).max(initial=0.0))
    return np.where(np.abs(gap).max(initial=0.0) > ROUNDING * largest, gap, 0.0)


def mean_of(found: Projected, one: int, other: int | None = None) -> Mean | None:
    """The mean of a column, or of its difference to another; None where it never varies or is too short."""
    values = apart(found.columns[:, one], found.columns[:, other]) if other is not None else found.columns[:, one]
    rows = len(values)
    used = cosines(rows, max(1, math.ceil(float(block_length(values[:, None])[0]) - 0.5)))
    if np.ptp(values) <= 1e-12 * np.abs(values).max() or cosines(rows) < LEAST:
        return None
    used = max(LEAST, used)

    def of(parts: np.ndarray) -> np.ndarray:
        return np.asarray(parts[..., one] - (0 if other is None else parts[..., other]), np.float64)

    error = math.sqrt(float((of(found.coefficients[:used]) ** 2).mean()) / rows)
    errors = np.sqrt((of(found.resampled[:, :used]) ** 2).mean(axis=1) / rows)
    if not error > 0:
        return None
    return Mean(float(values.mean()), error, of(found.means) / np.where(errors > 0, errors, np.inf), used)
