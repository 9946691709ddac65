"""Forecast errors, from plain arrays; nothing internal is imported.

Point errors of squares use the predictive mean, of absolute values the median, each the optimal answer to its own loss
(Gneiting 2011). Rows whose truth is not yet known are left out.
"""

import numpy as np

POINT = ("mse", "rmse", "nrmse", "mae", "mase", "rmae")


def errors(
    y: np.ndarray,
    mean: np.ndarray,
    median: np.ndarray,
    anchor: np.ndarray,
    crps: np.ndarray,
    quantiles: dict[float, np.ndarray],
    naive_scale: float,
) -> dict[str, float]:
    """All errors over rows [T] of one series, in price units where not a ratio.

    mse, rmse (of the mean); nrmse = rmse / (max y - min y); mae (of the median); mase = mae / `naive_scale`, the mean
    absolute one-bar change of the training part (Hyndman and Koehler 2006, m = 1); rmae = mae / mean |y - anchor|,
    the random walk's; crps; coverage50, 80, 90: share of y inside the central interval, ends included;
    directional_accuracy: share of right signs of mean - anchor where neither move is zero; rows: those used. NaN where
    undefined.
    """
    known = np.isfinite(y)
    y, mean, median, anchor, crps = (values[known] for values in (y, mean, median, anchor, crps))
    quantiles = {level: values[known] for level, values in quantiles.items()}
    if len(y) == 0:
        return dict.fromkeys(
            (*POINT, "crps", "coverage50", "coverage80", "coverage90", "directional_accuracy"), np.nan
        ) | {"rows": 0.0}
    mse = float(np.mean((y - mean) ** 2))
    mae = float(np.mean(np.abs(y - median)))
    result = {
        "mse": mse,
        "rmse": mse**0.5,
        "nrmse": _ratio(mse**0.5, float(y.max() - y.min())),
        "mae": mae,
        "mase": _ratio(mae, naive_scale),
        "rmae": _ratio(mae, float(np.mean(np.abs(y - anchor)))),
        "crps": float(np.mean(crps)),
        "directional_accuracy": directional_accuracy(y - anchor, mean - anchor),
        "rows": float(len(y)),
    }
    for percent in (50, 80, 90):
        low, high = round(0.5 - percent / 200, 4), round(0.5 + percent / 200, 4)
        result[f"coverage{percent}"] = float(np.mean((quantiles[low] <= y) & (y <= quantiles[high])))
    return result


def directional_accuracy(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Share of equal signs among rows where both moves differ from zero; NaN where there is none."""
    moved = (actual != 0) & (predicted != 0)
    return float(np.mean(np.sign(actual[moved]) == np.sign(predicted[moved]))) if moved.any() else float("nan")


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0 else float("nan")
