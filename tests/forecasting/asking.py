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
