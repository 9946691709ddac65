"""Which of many forecasters are not shown to be worse, and is any better than a benchmark? Losses in, p-values out.

Both tests take the means of all columns under a stationary bootstrap (`forecasting.bootstrap`), made once. `arch` has
both; here they are matrix products, held to `arch` on the same draws by a test, since thousands of simulated studies
are to show that they reject as often as they say. One difference is on purpose: Hansen's statistic divides each mean by
its standard error before the largest is taken, arch 8.0's SPA does not.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ModelSet:
    """p_values [M]: the smallest size at which each model leaves the set; the best has 1. included at `size`."""

    p_values: np.ndarray
    size: float

    @property
    def included(self) -> np.ndarray:
        """Whether each model is in the confidence set, bool [M]."""
        return np.asarray(self.p_values > self.size)


def model_confidence_set(means: np.ndarray, replicates: np.ndarray, size: float = 0.05) -> ModelSet:
    """Model confidence set of Hansen, Lunde and Nason (Econometrica 79, 2011), range statistic.

    means [M] of losses and replicates [R, M] of them. Models whose losses never differ leave or stay together.
    """
    gaps = means[:, None] - means[None, :]
    centred = replicates - means
    second = centred.T @ centred / len(centred)
    variances = np.diag(second)[:, None] + np.diag(second)[None, :] - 2 * second
    scale = np.sqrt(np.where(variances > 1e-12 * second.diagonal().max(initial=0.0), variances, np.inf))
    statistics = gaps / scale
    inside = np.arange(len(means))
    p_values, so_far = np.ones(len(means)), 0.0
    while len(inside) > 1:
        block = statistics[np.ix_(inside, inside)]
        worst = np.unravel_index(np.argmax(block), block.shape)[0]
        largest = _largest_range(centred[:, inside], scale[np.ix_(inside, inside)])
        so_far = max(so_far, float((largest > block.max()).mean()) if block.max() > 0 else 1.0)
        p_values[inside[worst]] = so_far
        inside = np.delete(inside, worst)
    return ModelSet(p_values, size)


def _largest_range(centred: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Largest standardised difference of two models in each replication, [R]; a model at a time, to save memory."""
    largest = np.zeros(len(centred))
    for one in range(centred.shape[1]):
        np.maximum(largest, np.abs((centred - centred[:, [one]]) / scale[one]).max(axis=1), out=largest)
    return largest


@dataclass(frozen=True)
class SuperiorAbility:
    """Hansen's three p-values, of which `consistent` is the test's; best: index of the model that comes closest."""

    statistic: float
    lower: float
    consistent: float
    upper: float
    best: int


def superior_ability(
    gains: np.ndarray, replicates: np.ndarray, variances: np.ndarray, rows: int, studentised: bool = True
) -> SuperiorAbility:
    """Whether any model is better than the benchmark: Hansen (Journal of Business and Economic Statistics 23, 2005).

    gains [M]: mean loss of the benchmark less that of each model, over `rows` origins; replicates [R, M] of them;
    variances [M]: long-run (`bootstrap_variance`). Not `studentised`: as arch 8.0 has it. A model that equals the
    benchmark everywhere cannot beat it and is left out.
    """
    moving = np.flatnonzero(variances > 0)
    if not len(moving):
        return SuperiorAbility(math.nan, math.nan, math.nan, math.nan, -1)
    gains, replicates, variances = gains[moving], replicates[:, moving], variances[moving]
    threshold = -np.sqrt(variances / rows * 2 * math.log(math.log(rows)))
    recentred = {
        "lower": np.maximum(gains, 0.0), "consistent": np.where(gains >= threshold, gains, 0.0), "upper": gains,
    }  # fmt: skip
    scale = np.sqrt(variances / rows) if studentised else np.ones(len(gains))
    statistic = float((gains / scale).max())
    found = {
        name: float((((replicates - mean) / scale).max(axis=1) > statistic).mean()) for name, mean in recentred.items()
    }
    return SuperiorAbility(statistic, best=int(moving[np.argmax(gains / scale)]), **found)


def bootstrap_variance(columns: np.ndarray, block: float) -> np.ndarray:
    """Long-run variance [K] of columns [T, K] as a stationary bootstrap of mean block length `block` has it.

    Politis and Romano (1994), lemma 1: autocovariances weighted (1 - i/T)(1 - 1/b)^i + (i/T)(1 - 1/b)^(T - i); summed
    over all lags by a Fourier transform.
    """
    rows = len(columns)
    centred = columns - columns.mean(axis=0)
    power = np.abs(np.fft.rfft(centred, n=2 * rows, axis=0)) ** 2
    covariances = np.fft.irfft(power, n=2 * rows, axis=0)[:rows] / rows
    lags, keep = np.arange(rows), 1 - 1 / max(block, 1.0)
    kernel = (1 - lags / rows) * keep**lags + lags / rows * keep ** (rows - lags)
    kernel[0] = 1.0
    return np.asarray(covariances[0] + 2 * (kernel[1:, None] * covariances[1:]).sum(axis=0))
