"""The codec of a series: the base's bins, with scale settings that fit its timeframe and its training part."""

from dataclasses import dataclass, replace

import numpy as np

from forecasting.bars import Bars
from forecasting.calendars import MINUTES
from forecasting.codecs.bins import BinsCodec
from forecasting.errors import ConfigError

DAY = 86_400
DAILY = ((10.0, 80.0), (0.7, 0.3))
INTRADAY = ((6.0, 48.0, 240.0), (0.35, 0.4, 0.25))
"""Half-lives in bars and their weights, chosen on ECB fixings of 2003 to 2014 and hourly bars of 2007 to 2015."""


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
        if len(self.weights) != len(self.half_lives):
            raise ConfigError(
                f"codec.weights has {len(self.weights)} entries and codec.half_lives {len(self.half_lives)}; give as "
                f"many of both"
            )


def bar_seconds(bars: Bars) -> int:
    """Length of a bar."""
    return MINUTES[bars.instrument.timeframe] * 60


def scale_codec(template: BinsCodec, bars: Bars, options: CodecOptions) -> BinsCodec:
    """The template with the half-lives for these bars; the profile is still to be fitted."""
    default = INTRADAY if bar_seconds(bars) < DAY else DAILY
    half_lives, weights = (options.half_lives, options.weights) if options.half_lives else default
    return replace(
        template,
        half_lives=half_lives,
        weights=weights,
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
