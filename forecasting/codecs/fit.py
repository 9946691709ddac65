"""The codec of a series: the base's, with settings that fit the series' timeframe, decimals and training part."""

from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

from forecasting.bars import Bars
from forecasting.calendars import MINUTES
from forecasting.codecs import AnyCodec, BinsCodec, DigitsCodec, TextCodec
from forecasting.codecs.text import MOST_DIGITS
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


@overload
def scale_codec(template: BinsCodec, bars: Bars, options: CodecOptions, closes: int = 0) -> BinsCodec: ...
@overload
def scale_codec(template: AnyCodec, bars: Bars, options: CodecOptions, closes: int = 0) -> AnyCodec: ...
def scale_codec(template: AnyCodec, bars: Bars, options: CodecOptions, closes: int = 0) -> AnyCodec:
    """The template with the volatility for these bars; what is taken from the training part is still to be fitted.

    closes: of a window, context and horizon together; the range of `digits` grows with them where the base's is
    shorter, and keeps to the base's, whose digits the model knows, where it is not.
    """
    default = INTRADAY if bar_seconds(bars) < DAY else DAILY
    asked = {"half_lives": options.half_lives, "weights": options.weights} if options.half_lives else {}
    volatility = default | asked
    match template:
        case BinsCodec():
            zone, seconds = bars.calendar.timezone, bar_seconds(bars)
            return replace(template, **volatility, timezone=zone, bar_seconds=seconds, profile=())
        case DigitsCodec():
            return replace(template, **volatility, length=max(template.length, closes))
        case TextCodec():
            decimals = bars.instrument.digits
            whole = min(template.integer_digits, MOST_DIGITS - decimals)
            return replace(template, **volatility, digits=decimals, integer_digits=whole)


@overload
def fit_codec(codec: BinsCodec, bars: Bars, options: CodecOptions, first: int, last: int) -> BinsCodec: ...
@overload
def fit_codec(codec: AnyCodec, bars: Bars, options: CodecOptions, first: int, last: int) -> AnyCodec: ...
def fit_codec(codec: AnyCodec, bars: Bars, options: CodecOptions, first: int, last: int) -> AnyCodec:
    """The codec with what it takes from bars first..last, the training part.

    The hour-of-week profile of intraday `bins`, room before the point for `text`, nothing for `digits`.
    """
    part = slice(max(first, 0), last + 1)
    match codec:
        case BinsCodec():
            if bar_seconds(bars) >= DAY or not options.hour_of_week:
                return codec
            return codec.with_profile(np.asarray(bars.closes[part]), bars.times[part])
        case DigitsCodec():
            return codec
        case TextCodec():
            return codec.with_closes(np.asarray(bars.closes[part]))
