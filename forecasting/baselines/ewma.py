"""EWMA volatility round the last close, with Student-t or normal innovations; nothing is fitted.

The density to beat: `ewma-t` on daily bars, `seasonal-ewma-t` on intraday ones.
"""

from forecasting.baselines.asked import Asked
from forecasting.baselines.innovations import Innovations, gauss, student_t
from forecasting.baselines.simulate import Dynamics
from forecasting.baselines.simulated import Simulated
from forecasting.baselines.volatility import EwmaVolatility
from forecasting.files import sha256_of
from forecasting.forecaster import Forecaster

DOF = 5.0
"""Degrees of freedom of returns divided by their EWMA volatility, about right for currencies and not fitted."""


def ewma_t(asked: Asked) -> Forecaster:
    """Innovations t with 5 degrees of freedom."""
    return _ewma("ewma-t", asked, student_t(DOF))


def seasonal_ewma_t(asked: Asked) -> Forecaster:
    """The same on returns divided by the hour-of-week profile."""
    asked.need_hours("seasonal-ewma-t")
    return _ewma("seasonal-ewma-t", asked, student_t(DOF), seasonal=True)


def ewma_gauss(asked: Asked) -> Forecaster:
    """Normal innovations."""
    return _ewma("ewma-gauss", asked, gauss())


def _ewma(name: str, asked: Asked, innovations: Innovations, seasonal: bool = False) -> Forecaster:
    dynamics = Dynamics(EwmaVolatility(asked.ewma_half_life), innovations)
    identity = sha256_of(name, f"{asked.ewma_half_life}|{DOF}")
    return Simulated(asked, lambda cutoffs: [dynamics] * len(cutoffs), identity, seasonal)
