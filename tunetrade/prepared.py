"""What every stage of a cell derives from its series first: codec, split, and whether the base has seen it."""

from dataclasses import dataclass

import numpy as np

from forecasting.bars import Bars
from forecasting.base import check_length, find_base
from forecasting.codecs import BinsCodec
from forecasting.codecs.fit import fit_codec, scale_codec
from forecasting.evaluate import forbid_seen
from forecasting.train import TrainingData
from forecasting.windows import Split, contexts, split, targets
from tunetrade.config import StudyConfig

CHUNK = 4096
"""Windows tokenised at a time; bounds memory, changes no result."""


@dataclass(frozen=True)
class Prepared:
    """Codec (its profile fitted on the training part), cutoff positions, whether evaluation meets what the base saw."""

    codec: BinsCodec
    split: Split
    seen: bool

    def training_data(self, bars: Bars, study: StudyConfig) -> TrainingData:
        """Token windows of C + H: each training cutoff; validation cutoffs a horizon apart, so each bar counts once."""
        return TrainingData(
            train=self._tokens(bars, study, self.split.train),
            validation=self._tokens(bars, study, self.split.validation[:: study.windows.horizon]),
            context=study.windows.context,
        )

    def test_span(self, bars: Bars) -> tuple[np.datetime64, np.datetime64]:
        """Close times of the first and the last bar that is traded."""
        return bars.times[self.split.test[0]], bars.times[self.split.test[-1]]

    def _tokens(self, bars: Bars, study: StudyConfig, positions: np.ndarray) -> np.ndarray:
        spec = study.windows
        parts = []
        for first in range(0, len(positions), CHUNK):
            chunk = positions[first : first + CHUNK]
            seen = contexts(bars, spec, self.codec.warm_up, chunk)
            closes = np.concatenate([seen.closes, targets(bars, spec, chunk)], axis=1)
            times = np.concatenate([seen.times, bars.times[chunk[:, None] + np.arange(1, spec.horizon + 1)]], axis=1)
            parts.append(self.codec.encode(closes, times, spec.context + spec.horizon)[0])
        return np.concatenate(parts)


def prepare(study: StudyConfig, bars: Bars) -> Prepared:
    """Fit the codec and split the series; raises where the series is too short or the base has seen the answers."""
    base = find_base(study.base)
    check_length(base, study.windows)
    codec = scale_codec(base.codec, bars, study.codec)
    parts = split(bars, study.windows, study.split, codec.warm_up)
    last = int(parts.train[-1]) + study.windows.horizon
    seen = forbid_seen(base.cutoff, bars.times[parts.validation[0]], study.allow_seen)
    fitted = fit_codec(codec, bars, study.codec, int(parts.train[0]) - codec.warm_up - study.windows.context + 1, last)
    return Prepared(fitted, parts, seen)
