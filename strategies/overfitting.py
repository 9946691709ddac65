"""How likely is it that the best of many trials is below average on other days? Daily returns in, a probability out.

Combinatorially symmetric cross-validation: Bailey, Borwein, Lopez de Prado and Zhu, "The probability of backtest
overfitting", Journal of Computational Finance 20 (2017). Days are cut into an even number of blocks; each half in turn
chooses the trial with the highest Sharpe ratio, the other half ranks it. 0.5 is what choosing at random gives; above,
the choice does harm. Where trials are alike but for chance, it is 0.5 by nature and not a fault of theirs.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

BLOCKS = 16
"""12,870 halves."""

_ROWS = 2_000_000


@dataclass(frozen=True)
class Overfitting:
    """probability: share of halves whose choice ranks in the lower half on the other days.

    loss: share of halves whose choice loses money there. slope: of the Sharpe ratio there on that where it was chosen,
    by least squares. splits: halves looked at; trials: of different returns.
    """

    probability: float
    loss: float
    slope: float
    splits: int
    trials: int


def probability_of_overfitting(returns: np.ndarray, blocks: int = BLOCKS) -> Overfitting | None:
    """From daily returns [D, N] of N trials on the same days; None where fewer than 2 trials differ or days do not do.

    Days beyond a multiple of `blocks` are left out at the start. A tie in rank counts half. A trial that never moved
    has a Sharpe ratio of 0.
    """
    returns = np.unique(np.asarray(returns, np.float64), axis=1)
    days, trials = returns.shape
    size = days // blocks
    if trials < 2 or size < 2:
        return None
    parts = returns[days - size * blocks :].reshape(blocks, size, trials)
    sums, squares = parts.sum(axis=1), (parts**2).sum(axis=1)
    halves = np.zeros((len(list(combinations(range(blocks), blocks // 2))), blocks))
    for row, chosen in enumerate(combinations(range(blocks), blocks // 2)):
        halves[row, chosen] = 1
    below, lost, inside, outside = [], [], [], []
    count = size * blocks // 2
    step = max(1, _ROWS // trials)
    for first in range(0, len(halves), step):
        part = halves[first : first + step]
        own = _sharpe(part @ sums, part @ squares, count)
        other = _sharpe((1 - part) @ sums, (1 - part) @ squares, count)
        rows, best = np.arange(len(part)), own.argmax(axis=1)
        reached = other[rows, best][:, None]
        rank = (other < reached).sum(axis=1) + ((other == reached).sum(axis=1) + 1) / 2
        relative = rank / (trials + 1)
        below.append((relative < 0.5) + 0.5 * (relative == 0.5))
        lost.append(reached[:, 0] < 0)
        inside.append(own[rows, best])
        outside.append(reached[:, 0])
    x, y = np.concatenate(inside), np.concatenate(outside)
    spread = float(((x - x.mean()) ** 2).sum())
    return Overfitting(
        probability=float(np.concatenate(below).mean()),
        loss=float(np.concatenate(lost).mean()),
        slope=float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread > 0 else float("nan"),
        splits=len(halves),
        trials=trials,
    )


def _sharpe(sums: np.ndarray, squares: np.ndarray, count: int) -> np.ndarray:
    mean = sums / count
    variance = (squares / count - mean**2) * count / (count - 1)
    moving = variance > 1e-18 * squares / count
    return np.asarray(np.where(moving, mean / np.sqrt(np.where(moving, variance, 1.0)), 0.0))
