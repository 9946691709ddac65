"""Predictive distributions of one close: a cumulative distribution that is linear between given prices.

Quantiles and the continuous ranked probability score are then exact, with no sampling error.
All arrays are float64; `knots` [N, K + 1] are increasing prices, `weights` [N, K] the probability between them.
"""

import numpy as np


def cumulative(weights: np.ndarray) -> np.ndarray:
    """Probability below each knot, [N, K + 1], ending in exactly 1."""
    below = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)
    return np.asarray(below / below[:, -1:])


def quantiles(knots: np.ndarray, weights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Prices below which the given probabilities lie, [N, Q]; levels [Q] in (0, 1)."""
    below = cumulative(weights)
    return np.array([np.interp(levels, b, k) for k, b in zip(knots, below, strict=True)])


def crps(knots: np.ndarray, weights: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score, [N], in price units: the integral of (F(x) - 1[x >= y])^2 over x.

    Gneiting and Raftery (2007), equation 20; on a segment of width w where F runs from a to b the integral of F^2 is
    w (a^2 + ab + b^2) / 3. The segment that holds y is split there. NaN where y is NaN.
    """
    below = cumulative(weights)
    truth = y[:, None]
    low, high = knots[:, :-1], knots[:, 1:]
    a, b = below[:, :-1], below[:, 1:]
    split = np.clip(truth, low, high)
    width = np.maximum(high - low, np.finfo(np.float64).tiny)
    at_split = a + (b - a) * (split - low) / width
    left = (split - low) * (a * a + a * at_split + at_split * at_split) / 3
    right = (high - split) * ((1 - at_split) ** 2 + (1 - at_split) * (1 - b) + (1 - b) ** 2) / 3
    outside = np.maximum(knots[:, 0] - y, 0) + np.maximum(y - knots[:, -1], 0)
    return np.asarray((left + right).sum(axis=1) + outside)


def fair_crps(paths: np.ndarray, y: np.ndarray, group: int = 1) -> np.ndarray:
    """Unbiased CRPS of sampled closes, [N, H].

    paths [N, S, H], y [N, H]. The fair estimator (Ferro 2014) is mean |x - y| minus half the mean |x - x'| over pairs
    of independent draws. Paths come in `group`s that were drawn together (antithetic), so only pairs of different
    groups count: those are independent, which keeps the estimator unbiased.
    """
    size = paths.shape[1]
    error = np.abs(paths - y[:, None, :]).mean(axis=1)
    ordered = np.sort(paths, axis=1)
    rank = np.arange(size, dtype=np.float64)
    all_pairs = np.einsum("s,nsh->nh", 4 * rank - 2 * (size - 1), ordered)
    members = paths.reshape(len(paths), size // group, group, -1)
    within = np.zeros_like(all_pairs)
    for i in range(group):
        for j in range(i):
            within += 2 * np.abs(members[:, :, i] - members[:, :, j]).sum(axis=1)
    independent = size * (size - group)
    return np.asarray(error - (all_pairs - within) / independent / 2)


def crps_noise(paths: np.ndarray, y: np.ndarray, group: int = 1) -> np.ndarray:
    """Half the difference of the fair CRPS of two halves of the groups, [N, H]: one draw of its sampling noise.

    The halves are independent, so its square is, in the mean, the Monte Carlo variance of the score of all groups
    (slightly more, as a half's score varies a little more than twice as much); sums over origins, and over the steps
    of an origin, carry over: see `noise_of_mean`. NaN with fewer than two groups a half, where no half has a score.
    """
    groups = paths.shape[1] // group
    if groups < 4:
        return np.full_like(y, np.nan)
    middle = groups // 2 * group
    return np.asarray((fair_crps(paths[:, :middle], y, group) - fair_crps(paths[:, middle:], y, group)) / 2)


def noise_of_mean(noise: np.ndarray, origin: np.ndarray) -> float:
    """Monte Carlo standard error of a mean score over rows [T], from `crps_noise` of each.

    origin [T] int: rows of one origin share their paths, so they are summed before they are squared; origins have
    paths of their own. NaN where there is no row.
    """
    if not len(noise):
        return float("nan")
    _, index = np.unique(origin, return_inverse=True)
    return float(np.sqrt(np.sum(np.bincount(index, weights=noise) ** 2)) / len(noise))


def noise_of_mse(error: np.ndarray, standard_error: np.ndarray, origin: np.ndarray) -> float:
    """Root mean square Monte Carlo error of the mean squared error over rows [T] of sampled means.

    error [T]: y minus the sampled mean, whose standard error over paths is `standard_error` [T]; origin as in
    `noise_of_mean`. A sampled mean off by e, normal with standard deviation s, makes of the square d^2 a
    (d - e)^2 = d^2 - 2 d e + e^2: too much by s^2 in the mean, and of variance 4 d^2 s^2 + 2 s^4. The square of what is
    seen has the mean d^2 + s^2, which leaves 4 error^2 s^2 - 2 s^4 for the variance. Steps of one origin share paths:
    their deviations are added as if they went together, which errs on the large side. NaN where there is no row.
    """
    if not len(error):
        return float("nan")
    excess = standard_error**2
    spread = np.sqrt(np.maximum(4 * error**2 * excess - 2 * excess**2, 2 * excess**2))
    return float(np.hypot(noise_of_mean(spread, origin), excess.mean()))
