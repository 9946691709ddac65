"""Closes that repeat: the last one, or that of a week ago. Nothing is fitted.

The random walk is a point, the denominator of every point error; its CRPS is its absolute error.
"""

from dataclasses import dataclass

import numpy as np

from forecasting.baselines.asked import Asked
from forecasting.baselines.normal import normal_prediction
from forecasting.baselines.volatility import FLOOR, EwmaVolatility, filtered
from forecasting.calendars import SessionCalendar
from forecasting.errors import ConfigError
from forecasting.files import sha256_of
from forecasting.forecaster import Forecaster, Prediction, Progress
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from forecasting.windows import Contexts

_YEAR = np.timedelta64(364, "D")


@dataclass(frozen=True, eq=False)
class RandomWalk:
    """Tomorrow is today: mean, median and every quantile are the last close.

    Its `sigma` is that of `ewma-t`, by the hour of the week where there is a profile; it sizes trades only.
    """

    asked: Asked

    @property
    def sha(self) -> str:
        """All that `sigma` depends on."""
        return sha256_of("random-walk", self.asked.pattern, f"{self.asked.ewma_half_life}|{self.asked.window}")

    @property
    def warm_up(self) -> int:
        """The models' own, so that all share the same windows."""
        return self.asked.warm_up

    def predict(self, contexts: Contexts, progress: Progress | None = None) -> Prediction:
        """Repeat the anchor."""
        shape, factors = contexts.ahead.shape, self.asked.hours.factors
        closes = contexts.closes
        anchor = np.ascontiguousarray(closes[:, -1])
        flat = np.repeat(anchor[:, None], shape[1], axis=1)
        returns = np.diff(closes, axis=1) / closes[:, :-1] / factors(contexts.times[:, 1:])
        variance = filtered(EwmaVolatility(self.asked.ewma_half_life), returns)
        forecasts = Forecasts(
            unique_id=contexts.unique_id,
            cutoff=contexts.cutoffs,
            ds=contexts.ahead,
            anchor=anchor,
            sigma=np.maximum(np.sqrt(variance), FLOOR) * factors(contexts.ahead)[:, 0],
            mean=flat,
            mean_se=np.zeros(shape),
            quantiles=np.repeat(flat[:, None], len(QUANTILE_LEVELS), axis=1),
            p_up=np.full(shape, 0.5),
            p_up_se=np.zeros(shape),
            input_sha=contexts.hashes(),
        )
        if progress:
            progress(len(contexts))
        return Prediction(forecasts, lambda y: np.abs(y - flat), lambda y: np.where(np.isnan(y), np.nan, 0.0), None)


def random_walk(asked: Asked) -> Forecaster:
    """The last close."""
    return RandomWalk(asked)


@dataclass(frozen=True, eq=False)
class SeasonalNaive:
    """The close of the same bar of the season before; normal errors.

    Their standard deviation is the root mean square of the relative seasonal differences in the window, growing with
    the root of the seasons ahead (Hyndman and Athanasopoulos, Forecasting: Principles and Practice, table 5.2).
    """

    asked: Asked
    season: int

    @property
    def sha(self) -> str:
        """Season and window."""
        return sha256_of("seasonal-naive", f"{self.season}|{self.asked.window}")

    @property
    def warm_up(self) -> int:
        """The models' own, so that all share the same windows."""
        return self.asked.warm_up

    def predict(self, contexts: Contexts, progress: Progress | None = None) -> Prediction:
        """Repeat the last season."""
        closes, season = contexts.closes, self.season
        step = np.arange(contexts.ahead.shape[1])
        differences = np.ascontiguousarray(closes[:, season:] / closes[:, :-season] - 1)
        spread = np.sqrt(np.mean(differences * differences, axis=1)) * closes[:, -1]
        mean = closes[:, closes.shape[1] - season + step % season]
        if progress:
            progress(len(contexts))
        return normal_prediction(contexts, mean, spread[:, None] * np.sqrt(step // season + 1))


def seasonal_naive(asked: Asked) -> Forecaster:
    """The close a week ago."""
    season = bars_a_week(asked.bars.calendar, asked.bars.times[0])
    if season >= asked.window:
        raise ConfigError(
            f"seasonal-naive needs a week of {season} bars and one more in each window, which holds {asked.window}; "
            f"raise windows.context, or leave it out"
        )
    return SeasonalNaive(asked, season)


def bars_a_week(calendar: SessionCalendar, start: np.datetime64) -> int:
    """Bars of a usual week by the calendar's rules: 5 or 7 daily, 120 hourly ones of foreign exchange, at least 1."""
    return max(1, round(len(calendar.between(start, start + _YEAR)) / 52))
