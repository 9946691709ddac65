"""Stationary block bootstrap (Politis and Romano 1994) of means, for many columns and replications at once.

The mean of a resampled column is a weighted mean of the column, the weight of a row being how often it was drawn. So
resampling is one matrix of counts, drawn once for all columns, and the replications of every mean are one matrix
product. Whatever is a function of means (a ratio, a Sharpe ratio, a skill) costs nothing more. What belongs together is
drawn together, so differences between columns are paired by construction.

What this trades away: figures that depend on the order of rows (a drawdown) need `indices` and a pass of their own.
"""

import math
from collections.abc import Sequence

import numpy as np

CHUNK = 4_000_000
"""Indices held at a time, which bounds memory whatever the replications."""

Rng = np.random.Generator


def indices(rng: Rng, rows: int, block: float, replications: int) -> np.ndarray:
    """Row numbers [R, T] of replications: blocks of geometric length, `block` rows on average, wrapped at the end."""
    fresh = rng.random((replications, rows)) < 1 / max(block, 1.0)
    fresh[:, 0] = True
    starts = rng.integers(0, rows, size=(replications, rows))
    at = np.arange(rows)
    last = np.maximum.accumulate(np.where(fresh, at, 0), axis=1)
    return np.asarray((np.take_along_axis(starts, last, axis=1) + at - last) % rows)


def counts(drawn: np.ndarray, rows: int) -> np.ndarray:
    """How often each of `rows` rows was drawn in each replication, [R, T] float32, from indices [R, T]."""
    flat = (drawn + rows * np.arange(len(drawn))[:, None]).ravel()
    return np.bincount(flat, minlength=len(drawn) * rows).reshape(len(drawn), rows).astype(np.float32)


def weights(rows: int, block: float, replications: int, seed: int) -> np.ndarray:
    """Counts [R, T] of a seeded stationary bootstrap; each row sums to T."""
    rng, size = np.random.default_rng(seed), max(1, CHUNK // rows)
    parts = [min(size, replications - first) for first in range(0, replications, size)]
    return np.concatenate([counts(indices(rng, rows, block, part), rows) for part in parts])


def weights_within(stretches: Sequence[int], block: float, replications: int, seed: int) -> np.ndarray:
    """Counts [R, T] drawn within each of consecutive stretches of so many rows, T in all; each sums to its length."""
    return np.concatenate([weights(rows, block, replications, seed) for rows in stretches], axis=1)


def means(drawn: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Means [R, K] of columns [T, K] under counts [R, T].

    In single precision, of columns centred and scaled beforehand: right to a millionth of their spread.
    """
    centre = columns.mean(axis=0, dtype=np.float64)
    centred = columns - centre
    scale = np.maximum(np.abs(centred).max(axis=0), np.finfo(np.float32).tiny)
    product = drawn.astype(np.float32, copy=False) @ (centred / scale).astype(np.float32)
    return np.asarray(centre + product.astype(np.float64) * (scale / len(columns)))


def interval(replicates: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Ends [K] of the percentile interval of replicates [R, K]; NaN where a replicate is not finite."""
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(replicates, (tail, 100 - tail), axis=0)
    return low, high


def block_length(columns: np.ndarray) -> np.ndarray:
    """Mean block length [K] for columns [T, K] by Politis and White (2004), as corrected by Patton et al. (2009).

    Checked against `arch.bootstrap.optimal_block_length`, which does one column at a time. 1 for a constant column.
    """
    columns = np.asarray(columns, np.float64)
    rows = len(columns)
    centred = columns - columns.mean(axis=0)
    longest = math.ceil(min(3 * math.sqrt(rows), rows / 3))
    run = max(5, int(math.log10(rows)))
    last = min(math.ceil(math.sqrt(rows)) + run, rows - 2)
    products = np.stack([(centred[lag:] * centred[: rows - lag]).sum(axis=0) for lag in range(last + 1)])
    squares = centred**2
    total, head = squares.sum(axis=0), np.cumsum(squares[: last + 1], axis=0)
    tail = np.cumsum(squares[::-1][: last + 1], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = np.abs(products) / np.sqrt((total - head) * (total - tail))
        small = correlations < 2 * math.sqrt(math.log10(rows) / rows)
    quiet = np.stack([small[first : first + run].all(axis=0) for first in range(last - run + 1)])
    bandwidth = np.where(quiet.any(axis=0), 2 * np.maximum(quiet.argmax(axis=0), 1), last)
    bandwidth = np.minimum(bandwidth, last)
    lags = np.arange(1, last + 1)[:, None]
    taper = np.where(lags <= bandwidth, np.where(2 * lags <= bandwidth, 1.0, 2 * (1 - lags / bandwidth)), 0.0)
    covariances = products / rows
    slope = 2 * (taper * lags * covariances[1:]).sum(axis=0)
    spread = covariances[0] + 2 * (taper * covariances[1:]).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (slope**2 / spread**2 * rows) ** (1 / 3)
    return np.asarray(np.clip(np.nan_to_num(found, nan=1.0), 1.0, longest))
