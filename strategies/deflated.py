"""Is a Sharpe ratio more than luck, and more than the best of many lucky ones? Pure figures of daily returns.

Everything is per observation (a day), not annualised, and kurtosis is raw: 3 for normal returns. Feeding excess
kurtosis into these formulas, as some libraries do, makes every result look surer than it is.

Sources: Bailey and Lopez de Prado, "The Sharpe Ratio Efficient Frontier", Journal of Risk 15 (2012), for the
probabilistic Sharpe ratio; "The Deflated Sharpe Ratio", Journal of Portfolio Management 40 (2014), for its deflation.

All trials count as one each. Trials of a search resemble one another, and the 2014 paper offers a smaller effective
number, linear in their average correlation, but derives no error for it: counting all only makes the verdict harder.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

EULER = 0.5772156649015329
"""The Euler-Mascheroni constant."""

SIGNIFICANT = 0.95
"""Least probability at which a Sharpe ratio is called significant."""

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Moments:
    """Daily returns in four figures: sharpe (mean / standard deviation, n - 1), skewness, raw kurtosis, their count."""

    sharpe: float
    skewness: float
    kurtosis: float
    observations: int


def moments(returns: np.ndarray) -> Moments:
    """Moments of returns [D]; NaN where they do not vary or are fewer than two."""
    count = len(returns)
    deviation = float(np.std(returns, ddof=1)) if count > 1 else 0.0
    if not deviation > 0:
        return Moments(math.nan, math.nan, math.nan, count)
    centred = returns - returns.mean()
    scaled = centred / math.sqrt(float(np.mean(centred**2)))
    return Moments(float(returns.mean()) / deviation, float(np.mean(scaled**3)), float(np.mean(scaled**4)), count)


def probabilistic_sharpe(found: Moments, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio lies above `benchmark`, both a day; NaN where the moments are.

    Phi((S - S*) sqrt(n - 1) / sqrt(1 - g3 S + (g4 - 1) / 4 S^2)), equation 2 of the 2014 paper.
    """
    variance = 1 - found.skewness * found.sharpe + (found.kurtosis - 1) / 4 * found.sharpe**2
    if not variance > 0 or found.observations < 2:
        return math.nan
    return _NORMAL.cdf((found.sharpe - benchmark) * math.sqrt((found.observations - 1) / variance))


def expected_maximum(trials: int, variance: float) -> float:
    """Sharpe ratio that the best of `trials` without any skill shows on average, given the variance between trials.

    sqrt(V) ((1 - g) Z(1 - 1 / N) + g Z(1 - 1 / (N e))), g being Euler's constant: equation 1 of the 2014 paper. One
    trial is the best of nothing: 0.

    >>> round(expected_maximum(100, 0.5 / 250), 4)
    0.1132
    """
    if trials < 2:
        return 0.0
    first, second = _NORMAL.inv_cdf(1 - 1 / trials), _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - EULER) * first + EULER * second)


def deflated_sharpe(found: Moments, trials: int, variance: float) -> float:
    """Probability that the true Sharpe ratio lies above what luck alone gives the best of `trials`.

    trials: how many were looked at, the chosen one among them. variance: of their daily Sharpe ratios.
    """
    return probabilistic_sharpe(found, expected_maximum(trials, variance))
