"""Which windows a step takes and at what rate: functions of the step alone, so that a resumed run needs no memory."""

import functools
import math

import numpy as np

from forecasting.training.options import TrainingOptions


def rows_of_step(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Indices of the windows of one step, int64 [batch_size]: successive slices of a fresh shuffle per epoch."""
    first = step * batch_size
    epochs = range(first // count, (first + batch_size - 1) // count + 1)
    order = np.concatenate([_shuffled(count, seed, epoch) for epoch in epochs])
    begin = first - epochs[0] * count
    return order[begin : begin + batch_size]


@functools.lru_cache(maxsize=2)
def _shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def epochs_done(count: int, batch_size: int, steps: int) -> int:
    """Whole passes over `count` windows after so many steps."""
    return steps * batch_size // count


def learning_rate_at(step: int, peak: float, options: TrainingOptions) -> float:
    """Linear warm-up; then constant, or linear or half a cosine down to zero one step after the last."""
    warm = max(1, round(options.warm_up * options.steps))
    if step < warm:
        return peak * (step + 1) / warm
    if options.schedule == "constant":
        return peak
    left = (options.steps - step) / max(1, options.steps - warm)
    return peak * left if options.schedule == "linear" else peak * (1 - math.cos(math.pi * left)) / 2
