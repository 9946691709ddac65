"""The codec of a series: the base's bins, with scale settings that fit its timeframe and its training part."""

from dataclasses import dataclass, replace

import numpy as np

from forecasting.bars import Bars
from forecasting.calendars import MINUTES
from forecasting.codecs.bins import BinsCodec
from forecasting.errors import ConfigError

DAY = 86_400
DAILY_HALF_LIFE, INTRADAY_HALF_LIFE = 20.0, 48.0


@dataclass(frozen=True)
class CodecOptions:
    """What a study may set of the codec.

    half_life: of volatility in bars, 0 for 20 daily and 48 intraday. hour_of_week: divide intraday returns by their
    weekly volatility pattern.
    """

    half_life: float = 0.0
    hour_of_week: bool = True

    def __post_init__(self) -> None:
        if self.half_life < 0 or self.half_life > 1000:
            raise ConfigError(f"codec.half_life is {self.half_life}; give 0 (automatic) to 1000 bars")


def bar_seconds(bars: Bars) -> int:
    """Length of a bar."""
    return MINUTES[bars.instrument.timeframe] * 60


def scale_codec(template: BinsCodec, bars: Bars, options: CodecOptions) -> BinsCodec:
    """The template with the half-life for these bars; the profile is still to be fitted."""
    intraday = bar_seconds(bars) < DAY
    half_life = options.half_life or (INTRADAY_HALF_LIFE if intraday else DAILY_HALF_LIFE)
    return replace(
        template, half_life=half_life, timezone=bars.calendar.timezone, bar_seconds=bar_seconds(bars), profile=()
    )


def fit_codec(codec: BinsCodec, bars: Bars, options: CodecOptions, first: int, last: int) -> BinsCodec:
    """The codec with its hour-of-week profile, where there is one.

    Fitted on bars first..last only, the training part.
    """
    if bar_seconds(bars) >= DAY or not options.hour_of_week:
        return codec
    part = slice(max(first, 0), last + 1)
    return codec.with_profile(np.asarray(bars.closes[part]), bars.times[part])
