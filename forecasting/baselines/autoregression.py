"""Means fitted on returns, on top of the density of `ewma-t`: what their CRPS differs from it is due to the mean.

drift: x_t = c + e_t, c the mean return. ar1: x_t = c + phi x_(t-1) + e_t by least squares. The volatility is that of
the residuals e.
"""

import numpy as np

from forecasting.baselines.asked import Asked
from forecasting.baselines.cache import Values
from forecasting.baselines.ewma import DOF
from forecasting.baselines.innovations import student_t
from forecasting.baselines.refit import Fit, Refits
from forecasting.baselines.simulate import Dynamics
from forecasting.baselines.simulated import Simulated
from forecasting.baselines.volatility import EwmaVolatility
from forecasting.files import sha256_of
from forecasting.forecaster import Forecaster

LEAST = 30
"""Closes below which a mean return is noise."""

MOST_SLOPE = 0.99
"""Returns are stationary: a slope fitted beyond this is cut to it."""


def drift(asked: Asked) -> Forecaster:
    """The mean return of the past, for ever."""
    return _directed("drift", asked, fit_drift)


def ar1(asked: Asked) -> Forecaster:
    """A first-order autoregression of returns."""
    return _directed("ar1", asked, fit_ar1)


def fit_drift(closes: np.ndarray, factors: np.ndarray) -> Values:
    """Mean of simple returns; closes [T], factors unused."""
    return {"constant": float(np.mean(np.diff(closes) / closes[:-1])), "slope": 0.0}


def fit_ar1(closes: np.ndarray, factors: np.ndarray) -> Values:
    """Least squares of each simple return on the one before; closes [T], factors unused.

    Returns that do not vary have no slope.
    """
    returns = np.diff(closes) / closes[:-1]
    before, now = returns[:-1], returns[1:]
    centred = before - before.mean()
    square = float(centred @ centred)
    slope = float(centred @ now) / square if square > 0 else 0.0
    slope = float(np.clip(slope, -MOST_SLOPE, MOST_SLOPE))
    return {"constant": float(now.mean() - slope * before.mean()), "slope": slope}


def _directed(name: str, asked: Asked, fit: Fit) -> Forecaster:
    refits = Refits(name, asked, fit, LEAST, kept=False)
    volatility, innovations = EwmaVolatility(asked.ewma_half_life), student_t(DOF)

    def dynamics(cutoffs: np.ndarray) -> list[Dynamics]:
        dates = refits.of(cutoffs)
        of_date = {
            date: Dynamics(volatility, innovations, float(values["constant"]), float(values["slope"]))
            for date in set(dates)
            for values in (refits.at(date),)
        }
        return [of_date[date] for date in dates]

    return Simulated(asked, dynamics, sha256_of(refits.sha, f"{asked.ewma_half_life}|{DOF}"))
