"""Forecasters that need no GPT-2; every table shows them beside it. Formulas and densities: docs/BASELINES.md.

They own their volatility: none depends on how the codec of a model scales its returns. A name is one line of
`BASELINES`, from the name to what makes it of what was asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forecasting.baselines.asked import Asked, HourOfWeek
from forecasting.baselines.autoregression import ar1, drift
from forecasting.baselines.classical import auto_arima, auto_ets, theta
from forecasting.baselines.ewma import ewma_gauss, ewma_t, seasonal_ewma_t
from forecasting.baselines.garch import garch_t, seasonal_garch_t
from forecasting.baselines.naive import random_walk, seasonal_naive
from forecasting.errors import ConfigError, unknown
from forecasting.forecaster import Forecaster

__all__ = ["BASELINES", "Asked", "Baseline", "HourOfWeek", "baseline"]


@dataclass(frozen=True)
class Baseline:
    """What makes it, and the packages beside NumPy and SciPy its numbers depend on."""

    make: Callable[[Asked], Forecaster]
    packages: tuple[str, ...] = ()
    samples: bool = False
    """Whether its later steps are drawn: paths and sampling seed matter."""


BASELINES: Mapping[str, Baseline] = {
    "random-walk": Baseline(random_walk),
    "drift": Baseline(drift, samples=True),
    "seasonal-naive": Baseline(seasonal_naive),
    "ar1": Baseline(ar1, samples=True),
    "ewma-gauss": Baseline(ewma_gauss, samples=True),
    "ewma-t": Baseline(ewma_t, samples=True),
    "seasonal-ewma-t": Baseline(seasonal_ewma_t, samples=True),
    "garch-t": Baseline(garch_t, ("arch",), samples=True),
    "seasonal-garch-t": Baseline(seasonal_garch_t, ("arch",), samples=True),
    "auto-arima": Baseline(auto_arima, ("statsforecast",)),
    "auto-ets": Baseline(auto_ets, ("statsforecast",)),
    "theta": Baseline(theta, ("statsforecast",)),
}


def baseline(name: str, asked: Asked) -> Forecaster:
    """The baseline of that name; ConfigError says which exist, or why this one cannot be had on these bars."""
    if name not in BASELINES:
        raise ConfigError(unknown("baseline", name, BASELINES))
    return BASELINES[name].make(asked)
