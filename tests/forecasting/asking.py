"""What tests ask baselines for, in short."""

from dataclasses import replace

import numpy as np
import pandas as pd

from forecasting.bars import Bars
from forecasting.baselines import Asked
from forecasting.codecs import BinsCodec
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec

CODEC = BinsCodec(half_lives=(40.0,), weights=(1.0,))


SEASONAL = ("seasonal-ewma-t", "seasonal-garch-t")
"""Baselines that need a weekly pattern, which hourly bars have."""


def weekly(codec, like, closes) -> BinsCodec:
    """The codec with the weekly pattern of closes that go on like these, repeated, for as many hours as `like` has."""
    codec = replace(codec, timezone=like.calendar.timezone, bar_seconds=3600)
    return codec.with_profile(np.resize(closes, len(like)), like.times)


def restamped(bars, first) -> Bars:
    """The closes of `bars` at the stamps of its calendar from a day on."""
    begin = np.datetime64(first, "ns")
    times = bars.calendar.between(begin, begin + np.timedelta64(365, "D"))[: len(bars)]
    return replace(bars, frame=bars.frame.set_axis(pd.DatetimeIndex(times, name="time").tz_localize("UTC")))


def asked_for(bars, spec=None, train=(0, 420), paths=8, codec=CODEC, **changes) -> Asked:
    """A record with small windows; `changes` are fields of it."""
    spec = spec or WindowSpec(context=10, horizon=3)
    options = SamplingOptions(paths=paths, threads=1)
    return replace(Asked(bars, spec, options, codec, codec.warm_up, train), **changes)


def bars_of(closes, like) -> Bars:
    """`like`'s stamps and calendar with other closes."""
    frame = pd.DataFrame(
        dict.fromkeys(("open", "high", "low", "close"), closes) | {"volume": 0.0, "spread": np.nan},
        index=like.frame.index[: len(closes)],
    )
    return Bars(frame, like.instrument, like.calendar)
