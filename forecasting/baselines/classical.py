"""AutoARIMA, AutoETS and Theta of `statsforecast`, on log-prices: fitted at refit dates, then applied to each window.

Models see y = log(close / last close of the fit), so that a move counts alike at any price; a predicted move of y is
read as a simple return of the anchor. Densities are normal with the standard deviations of the model's own intervals.
Applying a model never refits it: it runs with the fit's parameters over the window's closes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from forecasting.baselines.asked import Asked
from forecasting.baselines.cache import Values
from forecasting.baselines.groups import by_group
from forecasting.baselines.normal import normal_prediction
from forecasting.baselines.refit import Fit, Refits
from forecasting.errors import ConfigError
from forecasting.files import sha256_of
from forecasting.forecaster import Forecaster, Prediction, Progress
from forecasting.windows import Contexts

LEAST = 60
"""Closes below which orders are not to be selected."""

MOST = 40_000
"""Newest closes a fit uses, seven years of hourly bars: AutoARIMA took 4 s and Theta 16 s on as many, on one core."""

Apply = Callable[[Values, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""Mean and standard deviation of y at steps 1..H, [N, H] each, from values, y [N, T] of the windows and H."""


@dataclass(frozen=True, eq=False)
class Classical:
    """A model fitted on log-prices and applied to windows."""

    asked: Asked
    refits: Refits
    apply: Apply

    @property
    def sha(self) -> str:
        """All that fits depend on, and the window."""
        return sha256_of(self.refits.sha, f"{self.asked.window}")

    @property
    def warm_up(self) -> int:
        """The models' own, so that all share the same windows."""
        return self.asked.warm_up

    def predict(self, contexts: Contexts, progress: Progress | None = None) -> Prediction:
        """Apply the newest fit to every window."""

        def predict(some: Contexts, date: np.datetime64) -> Prediction:
            values = self.refits.at(date)
            y = np.log(some.closes / float(values["scale"]))
            mean, spread = self.apply(values, y, some.ahead.shape[1])
            anchor = some.closes[:, -1:]
            return normal_prediction(some, anchor * (1 + mean - y[:, -1:]), anchor * spread)

        return by_group(contexts, self.refits.of(contexts.cutoffs), predict, progress)


def auto_arima(asked: Asked) -> Forecaster:
    """ARIMA with orders by AICc (Hyndman and Khandakar 2008)."""
    return _classical("auto-arima", asked, fit_arima, apply_arima)


def auto_ets(asked: Asked) -> Forecaster:
    """Exponential smoothing with additive errors, trend by AICc: none, additive or damped."""
    return _classical("auto-ets", asked, fit_ets, apply_ets)


def theta(asked: Asked) -> Forecaster:
    """The standard Theta method (Assimakopoulos and Nikolopoulos 2000)."""
    return _classical("theta", asked, fit_theta, apply_theta)


def statsforecast(module: str) -> ModuleType:
    """A module of statsforecast; ConfigError names the cure where it is not installed."""
    import importlib

    try:
        return importlib.import_module(f"statsforecast.{module}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'auto-arima, auto-ets and theta need {error.name}; run pip install "tunetrade[classical]"'
        ) from None


def _classical(name: str, asked: Asked, fit: Fit, apply: Apply) -> Forecaster:
    statsforecast("models")
    refits = Refits(name, asked, fit, LEAST, ("statsforecast",), most=MOST)
    return Classical(asked, refits, apply)


def fit_arima(closes: np.ndarray, factors: np.ndarray) -> Values:
    """Orders p, d, q, coefficients and variance; closes [T], factors unused."""
    y, scale = _logs(closes)
    found = statsforecast("models").AutoARIMA(season_length=1).fit(y).model_
    p, q, *_, d, _ = found["arma"]
    coefficients = {f"coef {name}": float(value) for name, value in found["coef"].items()}
    return {"scale": scale, "p": int(p), "d": int(d), "q": int(q), "sigma2": float(found["sigma2"]), **coefficients}


def apply_arima(values: Values, y: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The Kalman filter of statsforecast with fixed coefficients, a window at a time; see `Apply`."""
    results = [arima_window(values, row, steps) for row in y]
    return np.array([mean for mean, _ in results]), np.array([spread for _, spread in results])


def arima_window(values: Values, y: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of y [T] at steps 1..H, [H] each."""
    arima = statsforecast("arima")
    p, d, q = (int(values[name]) for name in "pdq")
    names = [*(f"ar{i + 1}" for i in range(p)), *(f"ma{i + 1}" for i in range(q)), "intercept", "drift"]
    coefficients = [float(values[f"coef {name}"]) for name in names if f"coef {name}" in values]
    trend = np.arange(1, len(y) + steps + 1, dtype=np.float64)[:, None] if "coef drift" in values else None
    fixed = {"fixed": np.array(coefficients)} if coefficients else {}
    model = arima.Arima(
        x=np.ascontiguousarray(y),
        order=(p, d, q),
        include_mean="coef intercept" in values,
        xreg=None if trend is None else trend[: len(y)],
        method="CSS-ML",
        **fixed,
    )
    model["sigma2"] = float(values["sigma2"])
    mean, spread = arima.predict_arima(model, n_ahead=steps, newxreg=None if trend is None else trend[len(y) :])
    return np.asarray(mean, dtype=np.float64), np.asarray(spread, dtype=np.float64)


def fit_ets(closes: np.ndarray, factors: np.ndarray) -> Values:
    """Smoothing parameters, the trend at the end of the fit and the variance; closes [T], factors unused."""
    y, scale = _logs(closes)
    found: dict[str, Any] = statsforecast("models").AutoETS(season_length=1, model="AZN").fit(y).model_
    alpha, beta, _, damping = (float(value) for value in found["par"][:4])
    trended = found["components"][1] == "A"
    return {
        "scale": scale,
        "alpha": alpha,
        "beta": beta if trended else 0.0,
        "damping": damping if found["components"][3] != "N" else 1.0,
        "trend": float(found["states"][-1][1]) if trended else 0.0,
        "sigma2": float(found["sigma2"]),
    }


def apply_ets(values: Values, y: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth each window from its first close and the fit's last trend; see `Apply`.

    Variances as in Hyndman et al. (2008), class 1: sigma^2 times 1 + the sum of (alpha + beta (phi + ... + phi^j))^2.
    """
    alpha, beta, damping = (float(values[name]) for name in ("alpha", "beta", "damping"))
    level, trend = y[:, 0].copy(), np.full(len(y), float(values["trend"]))
    for now in np.ascontiguousarray(y.T)[1:]:
        error = now - level - damping * trend
        level = level + damping * trend + alpha * error
        trend = damping * trend + beta * error
    damped = np.cumsum(damping ** np.arange(1, steps + 1))
    grown = np.cumsum(np.concatenate([[1.0], (alpha + beta * damped[:-1]) ** 2]))
    spread = np.sqrt(float(values["sigma2"]) * grown)
    return level[:, None] + damped * trend[:, None], np.broadcast_to(spread, (len(y), steps))


def fit_theta(closes: np.ndarray, factors: np.ndarray) -> Values:
    """The smoothing parameter and the variance of errors; closes [T], factors unused."""
    y, scale = _logs(closes)
    found: dict[str, Any] = statsforecast("models").AutoTheta(season_length=1, model="STM").fit(y).model_
    return {
        "scale": scale,
        "alpha": float(found["par"]["alpha"]),
        "sigma2": float(np.var(found["residuals"][3:], ddof=1)),
    }


def apply_theta(values: Values, y: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Exponential smoothing plus half the slope of the window's line; see `Apply`.

    Hyndman and Billah (2003), whose standard deviation, sigma^2 (1 + (h - 1) alpha^2), stands in for the 200 random
    draws of statsforecast. The line is fitted through the window, as its `forward` does.
    """
    alpha, length = float(values["alpha"]), y.shape[1]
    start = y[:, :1]
    moved = np.ascontiguousarray(y - start)
    level = np.zeros(len(y))
    for now in moved.T:
        level = alpha * now + (1 - alpha) * level
    time = np.arange(length) - (length - 1) / 2
    slope = (moved * time).sum(axis=1) / (time @ time)
    intercept = moved.mean(axis=1) - slope * (length + 1) / 2
    fading = (1 - alpha) ** length
    first = level + (intercept * fading + slope * (1 - (1 - alpha) * fading) / alpha) / 2
    ahead = np.arange(steps)
    spread = np.sqrt(float(values["sigma2"]) * (1 + ahead * alpha**2))
    mean = start + first[:, None] + slope[:, None] / 2 * ahead
    return mean, np.broadcast_to(spread, mean.shape)


def _logs(closes: np.ndarray) -> tuple[np.ndarray, float]:
    """Log-prices from the last close, and that close."""
    scale = float(closes[-1])
    return np.log(closes / scale), scale
