"""Percentile intervals of a block bootstrap, made as wide as dependence asks for.

Blocks that must span overlapping forecasts are few, and percentiles of their means too narrow: of 250 origins 20 steps
ahead, 95 % intervals hold the truth in 77 % of studies. A long-run standard error (`forecasting.long_run`) of what each
row adds to the figure says how far off they are; the shape stays that of the bootstrap.
"""

import numpy as np
from scipy.special import ndtri, stdtrit

from forecasting.long_run import LEAST


def widened(
    value: np.ndarray, replicates: np.ndarray, errors: np.ndarray, degrees: np.ndarray, level: float = 0.95
) -> np.ndarray:
    """Replicates [R, K] as far from the value [K] as Student's t asks for with these errors [K] and degrees [K].

    Never narrower than they are. NaN where there are fewer degrees of freedom than `long_run.LEAST`.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        usual = replicates.std(axis=0) * ndtri(0.5 + level / 2)
        asked = np.asarray(errors) * stdtrit(np.maximum(degrees, 1), 0.5 + level / 2)
        factor = np.where((usual > 0) & np.isfinite(asked), np.maximum(1.0, asked / usual), 1.0)
    factor = np.where(np.asarray(degrees) >= LEAST, factor, np.nan)
    return np.asarray(value + factor * (replicates - value))
