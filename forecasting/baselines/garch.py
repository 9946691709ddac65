"""GARCH(1,1) with Student-t innovations (Bollerslev 1987), fitted by `arch` on the past, filtered over each window.

The mean is zero, not a constant: the mean return of a bar is within a few standard errors of nothing, and estimating it
would make a density forecaster take a direction that `drift` exists to show. So its mean is the last close exactly.

Returns are divided by their root mean square before the fit, and the parameters put back. A fit that does not converge
gives way to the newest one before it that did; where there is none, the parameters are those of the EWMA, which is
GARCH with omega 0, alpha 1 - decay and beta decay, and 5 degrees of freedom.
"""

from typing import Any

import numpy as np

from forecasting.baselines.asked import Asked
from forecasting.baselines.cache import Values
from forecasting.baselines.ewma import DOF
from forecasting.baselines.innovations import student_t
from forecasting.baselines.refit import Refits
from forecasting.baselines.simulate import Dynamics
from forecasting.baselines.simulated import Simulated
from forecasting.baselines.volatility import FLOOR, GarchVolatility
from forecasting.files import sha256_of
from forecasting.forecaster import Forecaster

LEAST = 250
"""Closes below which four parameters are not to be had."""

MOST_PERSISTENCE = 0.9999
"""Where alpha + beta is above it there is no unconditional variance; that of the data takes its place."""

LEAST_DOF, MOST_DOF = 2.1, 200.0


def garch_t(asked: Asked) -> Forecaster:
    """On plain returns."""
    return _garch("garch-t", asked, seasonal=False)


def seasonal_garch_t(asked: Asked) -> Forecaster:
    """On returns divided by the hour-of-week profile."""
    asked.need_hours("seasonal-garch-t")
    return _garch("seasonal-garch-t", asked, seasonal=True)


def fit_garch(closes: np.ndarray, factors: np.ndarray) -> Values:
    """omega, alpha, beta, dof and the variance to start from; closes [T], factors [T] the weekly pattern.

    Nothing where the optimiser did not converge or the result is no stationary process.
    """
    from arch.univariate import GARCH, StudentsT, ZeroMean

    returns = scaled_returns(closes, factors)
    square = float(np.mean(returns**2))
    if square <= FLOOR**2:
        return {}
    model = ZeroMean(returns / np.sqrt(square), volatility=GARCH(1, 0, 1), distribution=StudentsT(), rescale=False)
    try:
        with np.errstate(all="ignore"):
            found = model.fit(disp="off", show_warning=False)
    except (ValueError, np.linalg.LinAlgError):
        return {}
    return _sound(found, square)


def scaled_returns(closes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Simple returns divided by the weekly pattern, [T - 1]; closes, factors [T]."""
    return np.asarray(np.diff(closes) / closes[:-1] / factors[1:])


def _sound(found: Any, square: float) -> Values:
    omega, alpha, beta, dof = (float(value) for value in np.asarray(found.params))
    persistence = alpha + beta
    finite = bool(np.isfinite([omega, alpha, beta, dof]).all())
    if found.convergence_flag != 0 or not finite or min(omega, alpha, beta) < 0 or persistence > 1 + 1e-6:
        return {}
    start = omega / (1 - persistence) if persistence < MOST_PERSISTENCE else 1.0
    return {
        "omega": omega * square,
        "alpha": alpha,
        "beta": beta,
        "dof": min(max(dof, LEAST_DOF), MOST_DOF),
        "start": start * square,
    }


def _garch(name: str, asked: Asked, seasonal: bool) -> Forecaster:
    decay = 0.5 ** (1 / asked.ewma_half_life)

    def as_ewma(closes: np.ndarray, factors: np.ndarray) -> Values:
        square = float(np.mean(scaled_returns(closes, factors) ** 2))
        return {"omega": 0.0, "alpha": 1 - decay, "beta": decay, "dof": DOF, "start": square}

    refits = Refits(name, asked, fit_garch, LEAST, ("arch",), seasonal, fallback=as_ewma)

    def dynamics(cutoffs: np.ndarray) -> list[Dynamics]:
        dates = refits.of(cutoffs)
        of_date = {date: _dynamics(refits.at(date)) for date in set(dates)}
        return [of_date[date] for date in dates]

    return Simulated(asked, dynamics, sha256_of(refits.sha, f"{asked.ewma_half_life}"), seasonal)


def _dynamics(values: Values) -> Dynamics:
    omega, alpha, beta, start, dof = (float(values[name]) for name in ("omega", "alpha", "beta", "start", "dof"))
    return Dynamics(GarchVolatility(omega, alpha, beta, start), student_t(dof))
