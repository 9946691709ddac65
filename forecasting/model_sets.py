"""Which of many forecasters are not shown to be worse, and is any better than a benchmark? Losses in, p-values out.

Both tests compare the largest of many standardised means with what chance makes of it. Two sources of chance:

- `cosine_chance`, which evidence rests on: normal means and cosine coefficients with the long-run covariance found,
  each draw standardised by a variance of its own (`forecasting.long_run`). For two models it is the Diebold-Mariano
  test.
- `bootstrap_chance`: a stationary bootstrap, as Hansen, Lunde and Nason and `arch` have it. It is exact as origins
  grow, but blocks that must span 20 overlapping steps are few: of 250 origins it leaves a model out of a set of equals
  in 7 of 10 studies (docs/EVIDENCE.md). A test holds it to `arch` on the same draws.

Hansen's statistic divides each mean by its standard error before the largest is taken; arch 8.0's SPA does not.
"""

import math
from dataclasses import dataclass

import numpy as np

from forecasting.long_run import LEAST, coefficients, resolution


@dataclass(frozen=True)
class Chance:
    """Mean losses [M], their pairwise standard errors [M, M], and what chance alone makes of both.

    moved [R, M]: means less the true ones in each replication; scale [R, M, M] or [M, M]: standard errors there. Where
    two models never differ the error is infinite.
    """

    means: np.ndarray
    errors: np.ndarray
    moved: np.ndarray
    scale: np.ndarray


def cosine_chance(
    losses: np.ndarray, horizon: int, replications: int, seed: int, variances: np.ndarray | None = None
) -> Chance | None:
    """Chance for losses [T, M] of overlap `horizon`; None where T is too small for it.

    variances [T]: see `long_run.resolution`.
    """
    rows = len(losses)
    count, degrees = resolution(rows, horizon, variances)
    if count < LEAST:
        return None
    seen = coefficients(losses, count, horizon) / math.sqrt(rows)
    covariance, used = seen.T @ seen / count, max(1, round(degrees))
    values, vectors = np.linalg.eigh(_less_alike(covariance, used))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rng, own = np.random.default_rng(seed), _pairwise(covariance)
    moved = rng.standard_normal((replications, len(root))) @ root.T
    step = max(1, 2_000_000 // (max(used, len(root)) * len(root)))
    parts = [min(step, replications - first) for first in range(0, replications, step)]
    scale = np.concatenate([_pairwise(root @ wishart(rng, len(root), used, part) @ root.T) for part in parts])
    scale[:, ~np.isfinite(own)] = np.inf
    return Chance(losses.mean(axis=0), own, moved, scale)


def _less_alike(covariance: np.ndarray, used: int) -> np.ndarray:
    """Covariance [M, M] of what models do not share, with correlations shrunk by M / (M + B).

    Found from few coefficients, correlations look larger than they are, as if there were fewer models than there are,
    and the largest of many statistics would be taken for less likely than it is.
    """
    models = len(covariance)
    centre = np.eye(models) - 1 / models
    own = centre @ covariance @ centre
    share = models / (models + used)
    return np.asarray((1 - share) * own + share * np.diag(np.diag(own)))


def wishart(rng: np.random.Generator, size: int, degrees: int, replications: int) -> np.ndarray:
    """Mean products [R, M, M] of `degrees` draws of M independent standard normals (Bartlett 1933 where they do)."""
    if degrees < size:
        drawn = rng.standard_normal((replications, degrees, size))
    else:
        drawn = np.triu(rng.standard_normal((replications, size, size)), 1)
        drawn[:, range(size), range(size)] = np.sqrt(rng.chisquare(degrees - np.arange(size), (replications, size)))
    return np.asarray(drawn.transpose(0, 2, 1) @ drawn / degrees)


def _pairwise(products: np.ndarray) -> np.ndarray:
    """Standard deviations [..., M, M] of differences, from covariances; infinite where there is none."""
    own = np.diagonal(products, axis1=-2, axis2=-1)
    squares = own[..., :, None] + own[..., None, :] - 2 * products
    least = 1e-12 * own.max(axis=-1)[..., None, None]
    return np.asarray(np.sqrt(np.where(squares > least, squares, np.inf)))


def bootstrap_chance(means: np.ndarray, replicates: np.ndarray) -> Chance:
    """Chance from means [M] and bootstrap replicates [R, M] of them; one standard error for all replications."""
    moved = replicates - means
    errors = _pairwise(moved.T @ moved / len(moved))
    return Chance(means, errors, moved, errors)


@dataclass(frozen=True)
class ModelSet:
    """p_values [M]: the smallest size at which each model leaves the set; the best has 1."""

    p_values: np.ndarray
    size: float

    @property
    def included(self) -> np.ndarray:
        """Whether each model is in the confidence set, bool [M]."""
        return np.asarray(self.p_values > self.size)


def model_confidence_set(chance: Chance, size: float = 0.05) -> ModelSet:
    """Model confidence set of Hansen, Lunde and Nason (Econometrica 79, 2011), range statistic."""
    statistics = (chance.means[:, None] - chance.means[None, :]) / chance.errors
    simulated = np.abs(chance.moved[:, :, None] - chance.moved[:, None, :]) / chance.scale
    inside = np.arange(len(chance.means))
    p_values, so_far = np.ones(len(inside)), 0.0
    while len(inside) > 1:
        block = statistics[np.ix_(inside, inside)]
        worst = np.unravel_index(np.argmax(block), block.shape)[0]
        largest = simulated[:, inside[:, None], inside].max(axis=(1, 2))
        so_far = max(so_far, float((largest > block.max()).mean()) if block.max() > 0 else 1.0)
        p_values[inside[worst]] = so_far
        inside = np.delete(inside, worst)
    return ModelSet(p_values, size)


@dataclass(frozen=True)
class SuperiorAbility:
    """Hansen's three p-values, of which `consistent` is the test's; best: index of the model that comes closest."""

    statistic: float
    lower: float
    consistent: float
    upper: float
    best: int


def superior_ability(chance: Chance, benchmark: int, rows: int) -> SuperiorAbility:
    """Whether any model is better than the benchmark: Hansen (Journal of Business and Economic Statistics 23, 2005).

    Models that are clearly worse do not count (`consistent`), all do (`upper`), all that are worse do not (`lower`). A
    model that equals the benchmark everywhere cannot beat it and is left out. NaN where none is left.
    """
    moving = np.flatnonzero(np.isfinite(chance.errors[benchmark]))
    if not len(moving):
        return SuperiorAbility(math.nan, math.nan, math.nan, math.nan, -1)
    gains = chance.means[benchmark] - chance.means[moving]
    errors = chance.errors[benchmark, moving]
    moved = chance.moved[:, [benchmark]] - chance.moved[:, moving]
    threshold = -errors * math.sqrt(2 * math.log(math.log(rows)))
    kept = {"lower": np.minimum(gains, 0.0), "consistent": np.where(gains < threshold, gains, 0.0), "upper": 0 * gains}
    statistic, scale = float((gains / errors).max()), chance.scale[..., benchmark, moving]
    found = {name: float((((moved + below) / scale).max(axis=1) > statistic).mean()) for name, below in kept.items()}
    return SuperiorAbility(statistic, best=int(moving[np.argmax(gains / errors)]), **found)
