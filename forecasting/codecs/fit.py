"""The codec of a series: the base's bins, with scale settings that fit its timeframe and its training part."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from forecasting.bars import Bars
from forecasting.calendars import MINUTES
from forecasting.codecs.bins import BinsCodec
from forecasting.errors import ConfigError

DAY = 86_400
DAILY: Any = {"half_lives": (10.0, 80.0), "weights": (0.7, 0.3), "dof": 7.0}
INTRADAY: Any = {"half_lives": (6.0, 48.0, 240.0), "weights": (0.35, 0.4, 0.25), "dof": 5.0}
"""Windows of the volatility in bars, and tails of the bins, chosen before any model was trained, on ECB fixings of 2003
to 2014 and hourly bars of 2007 to 2015 (docs/LOG.md). Bins that fit a timeframe keep tokens about equally likely."""


@dataclass(frozen=True)
class CodecOptions:
    """What a study may set of the codec.

    half_lives, weights: of the volatility's exponential windows, in bars; empty for `DAILY` or `INTRADAY`.
    hour_of_week: divide intraday returns by their weekly volatility pattern.
    """

    half_lives: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    hour_of_week: bool = True

    def __post_init__(self) -> None:
        if any(not 0 < half_life <= 1000 for half_life in self.half_lives):
            raise ConfigError(
                f"codec.half_lives is {list(self.half_lives)}; give numbers of bars above 0 and up to 1000"
            )
        if self.half_lives or self.weights:
            BinsCodec(half_lives=self.half_lives, weights=self.weights)


def bar_seconds(bars: Bars) -> int:
    """Length of a bar."""
    return MINUTES[bars.instrument.timeframe] * 60


def scale_codec(template: BinsCodec, bars: Bars, options: CodecOptions) -> BinsCodec:
    """The template with the half-lives for these bars; the profile is still to be fitted."""
    default = INTRADAY if bar_seconds(bars) < DAY else DAILY
    asked = {"half_lives": options.half_lives, "weights": options.weights} if options.half_lives else {}
    return replace(
        template,
        **default | asked,
        timezone=bars.calendar.timezone,
        bar_seconds=bar_seconds(bars),
        profile=(),
    )


def fit_codec(codec: BinsCodec, bars: Bars, options: CodecOptions, first: int, last: int) -> BinsCodec:
    """The codec with its hour-of-week profile, where there is one.

    Fitted on bars first..last only, the training part.
    """
    if bar_seconds(bars) >= DAY or not options.hour_of_week:
        return codec
    part = slice(max(first, 0), last + 1)
    return codec.with_profile(np.asarray(bars.closes[part]), bars.times[part])
