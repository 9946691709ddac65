"""Counter-based uniform numbers: a function of seed, series, cutoff, path and step, and of nothing else that was drawn.

All methods share them, and paths come in stratified groups; groups are independent of each other, so their spread is
the error of what is averaged over paths.
"""

import numpy as np
from torch import Tensor

from forecasting.files import sha256_of

GROUPS = 4
"""Fewest independent groups of paths: their spread is the Monte Carlo error."""


def group_size(paths: int) -> int:
    """Paths drawn together: the most of 16, 8, 4 that leaves GROUPS independent groups, else an antithetic pair."""
    return next((size for size in (16, 8, 4) if paths % size == 0 and paths >= GROUPS * size), 2)


def uniforms(seed: int, unique_id: str, cutoff: np.datetime64, paths: int, horizon: int) -> np.ndarray:
    """Uniform numbers in (0, 1), float64 [H, S]; a step's do not depend on how many steps are asked for.

    Philox (Salmon 2011) keyed by a hash of seed, series and cutoff, counter = step. Groups of `group_size` paths are
    independent of each other. Within a group each step is stratified (a Latin hypercube, McKay 1979): every stratum is
    drawn from once, in pairs u and 1 - u, in an order of the step's own, so each path by itself is uniform and
    independent from step to step.
    """
    key = int(sha256_of(f"{seed}|{unique_id}|{cutoff.astype('datetime64[ns]').astype(np.int64)}")[:32], 16)
    size = group_size(paths)
    groups, pairs = paths // size, size // 2
    draws = np.empty((horizon, groups, pairs, 2))
    for step in range(horizon):
        words = np.random.Philox(key=key, counter=step << 128).random_raw(groups * 3 * pairs).reshape(groups, 3, pairs)
        within = ((words[:, 0] >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        lower = (np.argsort(words[:, 1], axis=1) + within) / size
        mirrored = (words[:, 2] >> np.uint64(63)).astype(bool)
        draws[step, :, :, 0] = np.where(mirrored, 1 - lower, lower)
    draws[..., 1] = 1 - draws[..., 0]
    return draws.reshape(horizon, paths)


def over_groups(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean over paths and its standard error from independent groups, [N, H] each; values [H, N, S]."""
    groups = values.contiguous().unflatten(2, (-1, group_size(values.shape[2]))).mean(3)
    error = groups.std(dim=2) / groups.shape[2] ** 0.5
    return groups.mean(2).T.cpu().numpy().copy(), error.T.cpu().numpy().copy()
