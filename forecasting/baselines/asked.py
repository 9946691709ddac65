"""What a baseline may use: bars to fit on, the shape of the windows, the market's weekly pattern, when to refit."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from forecasting.bars import Bars
from forecasting.calendars import MINUTES
from forecasting.errors import ConfigError, unknown
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec

REFITS = ("yearly", "never")
"""At the end of the training part and every 1 January (UTC); at the end of the training part only."""

DAY = 86_400
DAILY_HALF_LIFE, INTRADAY_HALF_LIFE = 20.0, 48.0


class HourOfWeek(Protocol):
    """Relative volatility of the hours of the local week, fitted on the training part; every codec is one.

    `profile` is empty where there is no pattern, as on daily bars.
    """

    @property
    def profile(self) -> tuple[float, ...]:
        """Relative volatility of 168 hours, or nothing."""
        ...

    @property
    def timezone(self) -> str:
        """IANA name of the local time."""
        ...

    @property
    def bar_seconds(self) -> int:
        """Length of a bar."""
        ...

    def factors(self, times: np.ndarray) -> np.ndarray:
        """Relative volatility at each bar, of the shape of `times` (datetime64[ns] UTC close times)."""
        ...


def none_planned() -> np.ndarray:
    """No cutoffs."""
    return np.empty(0, dtype="datetime64[ns]")


@dataclass(frozen=True, eq=False)
class Asked:
    """What a baseline is made of.

    bars: the series; a fit uses only what closed before its date. spec: lengths of context and horizon. options:
    paths and seed of sampled steps. hours: the weekly volatility pattern. warm_up: closes before a context, M, the
    models' own so that all share the same windows. train: positions of the first and the last bar of the training
    part, targets included. refit: one of `REFITS`. planned: cutoffs that will be asked for, whose fits are then made
    together; changes no result. half_life: of EWMA volatility in bars, 0 for 20 daily and 48 intraday.
    """

    bars: Bars
    spec: WindowSpec
    options: SamplingOptions
    hours: HourOfWeek
    warm_up: int
    train: tuple[int, int]
    refit: str = "yearly"
    planned: np.ndarray = field(default_factory=none_planned)
    half_life: float = 0.0

    def __post_init__(self) -> None:
        check_refit(self.refit)
        if self.half_life < 0:
            raise ConfigError(f"half_life is {self.half_life}; give a positive number of bars, or 0 for automatic")
        first, last = self.train
        if not 0 <= first <= last < len(self.bars):
            raise ConfigError(f"train is {self.train}; give positions of two bars, the earlier first")

    @property
    def ewma_half_life(self) -> float:
        """Half-life in bars."""
        intraday = MINUTES[self.bars.instrument.timeframe] * 60 < DAY
        return self.half_life or (INTRADAY_HALF_LIFE if intraday else DAILY_HALF_LIFE)

    @property
    def window(self) -> int:
        """Closes in a window, M + C."""
        return self.warm_up + self.spec.context

    @property
    def pattern(self) -> str:
        """All that factors depend on, to be hashed."""
        return f"{self.hours.profile}|{self.hours.timezone}|{self.hours.bar_seconds}"

    def need_hours(self, name: str) -> HourOfWeek:
        """The weekly pattern; ConfigError where there is none."""
        check_hours(name, self.hours, self.bars.instrument.unique_id)
        return self.hours


def check_hours(name: str, hours: HourOfWeek, unique_id: str) -> None:
    """ConfigError where a seasonal baseline of that name finds no weekly pattern in the series."""
    if not hours.profile:
        raise ConfigError(
            f"{name} needs an hour-of-week profile, which {unique_id} has not; use {name.removeprefix('seasonal-')}, "
            f"or on intraday bars set codec.hour_of_week = true"
        )


def check_refit(refit: str) -> None:
    """ConfigError unless it is one of `REFITS`."""
    if refit not in REFITS:
        raise ConfigError(unknown("refit", refit, REFITS))
