"""Series that never were: volatility that clusters, drifts, switches and jumps, each series in its own way.

Real crosses are few and share one history; a base that sees nothing else learns that history. Most of its rows come
from here instead, where every series draws its own parameters: GARCH(1,1) (Bollerslev 1986) with Student t innovations,
on a level that wanders (an AR(1) of log volatility), now and then takes another value (a regime), and takes jumps.
"""

import numpy as np

LONGEST_MOVE = 0.6
"""No bar moves further, up or down: a price stays positive."""


def closes(count: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Simulated closes, float64 [count, length], each series from 1."""
    sometimes = lambda chance, values: np.where(rng.random(count) < chance, values, 0.0)  # noqa: E731
    alpha = rng.uniform(0.02, 0.09, count)
    persistence = 1 - 10 ** rng.uniform(-3, -1.3, count)
    beta = np.clip(persistence - alpha, 0, 0.985)
    dof = 1 / rng.uniform(0.08, 0.27, count)
    level = 10 ** rng.uniform(-3.5, -1.7, count)
    reversion = 10 ** rng.uniform(-3, -2, count)
    unrest = rng.uniform(0, 0.35, count) * np.sqrt(1 - (1 - reversion) ** 2)
    switching = sometimes(0.5, 10 ** rng.uniform(-3.3, -2.3, count))
    jumping, jump = sometimes(0.5, 10 ** rng.uniform(-4, -2.7, count)), rng.uniform(3, 9, count)
    variance, wander, regime = np.ones(count), np.zeros(count), np.zeros(count)
    returns = np.empty((length - 1, count))
    for t in range(length - 1):
        wander = (1 - reversion) * wander + unrest * rng.normal(size=count)
        regime = np.where(rng.random(count) < switching, rng.normal(0, 0.25, count), regime)
        shock = rng.standard_t(dof) * np.sqrt((dof - 2) / dof)
        shock = np.where(rng.random(count) < jumping, jump * rng.choice([-1, 1], count), shock)
        move = np.sqrt(variance) * shock
        variance = np.minimum(1 - alpha - beta + alpha * move**2 + beta * variance, 50)
        returns[t] = level * np.exp(wander + regime) * move
    grown = np.cumprod(1 + np.clip(returns, -LONGEST_MOVE, LONGEST_MOVE), axis=0)
    return np.concatenate([np.ones((count, 1)), grown.T], axis=1)
