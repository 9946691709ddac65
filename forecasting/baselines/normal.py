"""Normal predictive densities: every figure of them, CRPS too, in closed form."""

import numpy as np
from scipy import special

from forecasting.baselines.volatility import FLOOR
from forecasting.forecaster import Prediction
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from forecasting.windows import Contexts


def normal_prediction(contexts: Contexts, mean: np.ndarray, spread: np.ndarray) -> Prediction:
    """Closes normal with mean and standard deviation `spread` [N, H], in price units; a spread has a floor."""
    anchor = np.ascontiguousarray(contexts.closes[:, -1])
    spread = np.maximum(spread, FLOOR * anchor[:, None])
    levels = special.ndtri(np.asarray(QUANTILE_LEVELS))
    forecasts = Forecasts(
        unique_id=contexts.unique_id,
        cutoff=contexts.cutoffs,
        ds=contexts.ahead,
        anchor=anchor,
        sigma=spread[:, 0] / anchor,
        mean=mean,
        mean_se=np.zeros(mean.shape),
        quantiles=mean[:, None] + spread[:, None] * levels[None, :, None],
        p_up=special.ndtr((mean - anchor[:, None]) / spread),
        p_up_se=np.zeros(mean.shape),
        input_sha=contexts.hashes(),
    )
    return Prediction(
        forecasts, lambda y: normal_crps(mean, spread, y), lambda y: np.where(np.isnan(y), np.nan, 0.0), None
    )


def normal_crps(mean: np.ndarray, spread: np.ndarray, y: np.ndarray) -> np.ndarray:
    """CRPS of a normal, elementwise, in units of y (Gneiting and Raftery 2007, equation 21)."""
    z = (y - mean) / spread
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return np.asarray(spread * (z * (2 * special.ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi)))
