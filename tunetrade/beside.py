"""The series that a study's broker calls for beside those it trades: a conversion rate, finer bars."""

from functools import lru_cache

import numpy as np

from forecasting.bars import Bars, load_bars
from forecasting.files import sha256_of
from forecasting.sources.options import SourceOptions
from tunetrade.config import StudyConfig


def series_beside(study: StudyConfig) -> tuple[Bars | None, Bars | None]:
    """Bars of broker.conversion and of broker.finer, read on the study's server clock; None where there is none."""
    clock = SourceOptions(server_tz=study.source.server_tz)
    conversion, finer = study.broker.conversion, study.broker.finer
    return _series(conversion, clock) if conversion else None, _series(finer, clock) if finer else None


def sha_until(bars: Bars, end: str) -> str:
    """Hash of a series' bars before the day `end` (UTC), of all where it is empty."""
    if not end:
        return bars.instrument.sha256
    frame = bars.frame[bars.times < np.datetime64(end, "ns")]
    return sha256_of(frame.index.asi8, *(frame[name].to_numpy(np.float64) for name in frame.columns))


@lru_cache(maxsize=4)
def _series(source: str, options: SourceOptions) -> Bars:
    """Bars of a source, read once a process: every cell of a study asks for their hash."""
    return load_bars(source, options)
