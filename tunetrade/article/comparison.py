"""The articles' comparison as their script computes it, and the same values compared with the bars they stand for.

A window has closes c1 ... c60. A model is given c1 ... c19 and writes 21 more, which are its forecasts of c20 ... c40.
The script puts the 19 it was given in front of them and compares these 40 values with c21 ... c60. All lists here are
arrays of closes; errors are squares in price units unless said otherwise.
"""

from dataclasses import dataclass

import numpy as np

Closes = np.ndarray | tuple[float, ...]


@dataclass(frozen=True)
class Errors:
    """MSE, RMSE, and NRMSE as the articles normalise it, of so many values."""

    mse: float
    rmse: float
    nrmse: float
    values: int


def errors(truth: Closes, generated: Closes) -> Errors:
    """Errors of as many values as both lists have; NRMSE is RMSE / (max of truth - min of generated)."""
    count = min(len(truth), len(generated))
    y, p = (np.asarray(values, dtype=np.float64)[:count] for values in (truth, generated))
    mse = float(np.mean((y - p) ** 2))
    width = float(y.max() - p.min())
    return Errors(mse, mse**0.5, mse**0.5 / width if width > 0 else float("nan"), count)


def misaligned(inputs: Closes, written: Closes, truth: Closes) -> Errors:
    """As published: the prompt's echo and what was written after it, against the truth from the 21st close on."""
    return errors(truth, np.concatenate([inputs, written]))


def aligned(written: Closes, truth: Closes) -> Errors:
    """Each written close against the true close it forecasts: the second written is of the 21st, the truth's first."""
    return errors(truth, np.asarray(written)[1:])


def last_price(inputs: Closes, count: int) -> np.ndarray:
    """The forecast that repeats the last close of the prompt."""
    return np.full(count, np.asarray(inputs, dtype=np.float64)[-1])


def echo_share(inputs: Closes, written: Closes, truth: Closes) -> float:
    """Share of the misaligned sum of squares that comes from the echo, which is the same whatever was forecast."""
    whole = misaligned(inputs, written, truth)
    echoed = errors(truth[: len(inputs)], inputs)
    return echoed.mse * echoed.values / (whole.mse * whole.values)
