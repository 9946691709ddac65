"""Forecasters that need no GPT-2; every table shows them beside it. Formulas and densities: docs/BASELINES.md.

They own their volatility: none but `equal-tokens` depends on how the codec of a model scales its returns. A name is one
line of `BASELINES`, from the name to what makes it of what was asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forecasting.baselines.asked import Asked, HourOfWeek
from forecasting.baselines.autoregression import ar1, drift
from forecasting.baselines.classical import auto_arima, auto_ets, theta
from forecasting.baselines.equal_tokens import equal_tokens
from forecasting.baselines.ewma import ewma_gauss, ewma_t, seasonal_ewma_t
from forecasting.baselines.garch import garch_t, seasonal_garch_t
from forecasting.baselines.naive import random_walk, seasonal_naive
from forecasting.errors import ConfigError, unknown
from forecasting.forecaster import Forecaster

__all__ = ["BASELINES", "Asked", "Baseline", "HourOfWeek", "baseline"]


@dataclass(frozen=True)
class Baseline:
    """How a baseline is made.

    fitted: whether parameters are fitted, so that when matters. packages: those its numbers depend on beside NumPy and
    SciPy. samples: whether later steps are drawn, so that paths and sampling seed matter. seasonal: whether it divides
    returns by the weekly pattern, which only intraday bars have.
    """

    make: Callable[[Asked], Forecaster]
    fitted: bool = False
    packages: tuple[str, ...] = ()
    samples: bool = False
    seasonal: bool = False


BASELINES: Mapping[str, Baseline] = {
    "random-walk": Baseline(random_walk),
    "drift": Baseline(drift, fitted=True, samples=True),
    "seasonal-naive": Baseline(seasonal_naive),
    "ar1": Baseline(ar1, fitted=True, samples=True),
    "ewma-gauss": Baseline(ewma_gauss, samples=True),
    "ewma-t": Baseline(ewma_t, samples=True),
    "seasonal-ewma-t": Baseline(seasonal_ewma_t, samples=True, seasonal=True),
    "equal-tokens": Baseline(equal_tokens, samples=True),
    "garch-t": Baseline(garch_t, True, ("arch",), samples=True),
    "seasonal-garch-t": Baseline(seasonal_garch_t, True, ("arch",), samples=True, seasonal=True),
    "auto-arima": Baseline(auto_arima, True, ("statsforecast",)),
    "auto-ets": Baseline(auto_ets, True, ("statsforecast",)),
    "theta": Baseline(theta, True, ("statsforecast",)),
}


def baseline(name: str, asked: Asked) -> Forecaster:
    """The baseline of that name; ConfigError says which exist, or why this one cannot be had on these bars."""
    if name not in BASELINES:
        raise ConfigError(unknown("baseline", name, BASELINES))
    return BASELINES[name].make(asked)
