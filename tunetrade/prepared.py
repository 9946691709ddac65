"""What every stage of a cell derives from its series first: codec, split, and whether the base has seen it."""

from dataclasses import dataclass

import numpy as np

from forecasting.bars import Bars
from forecasting.base import check_length, find_base
from forecasting.codecs import AnyCodec, BinsCodec
from forecasting.codecs.fit import fit_codec, scale_codec
from forecasting.codecs.rows import padded, rows_of
from forecasting.evaluate import forbid_seen
from forecasting.methods import method
from forecasting.train import TrainingData
from forecasting.windows import Split, contexts, split, targets
from tunetrade.config import StudyConfig

CHUNK = 4096
"""Windows tokenised at a time; bounds memory, changes no result."""


@dataclass(frozen=True)
class Prepared:
    """What a series becomes under a study.

    codec: the base's, fitted on the training part. hours: the weekly volatility pattern for baselines, fitted there
    too. split: cutoff positions. seen: whether evaluation meets what the base saw. positions: of the base
    that no method needs for itself.
    """

    codec: AnyCodec
    hours: BinsCodec
    split: Split
    seen: bool
    positions: int

    def training_data(self, bars: Bars, study: StudyConfig, name: str = "") -> TrainingData:
        """Tokens of C + H closes: each training cutoff; validation cutoffs a horizon apart, so each bar counts once.

        name: of a method; one that learns something else than the next token has rows of its own.
        """
        train, _ = self._rows(bars, study, self.split.train, name)
        validation, given = self._rows(bars, study, self.split.validation[:: study.windows.horizon], name)
        return TrainingData(padded(train), padded(validation), np.array(given))

    def test_span(self, bars: Bars) -> tuple[np.datetime64, np.datetime64]:
        """Close times of the first and the last bar that is traded."""
        return bars.times[self.split.test[0]], bars.times[self.split.test[-1]]

    def _rows(
        self, bars: Bars, study: StudyConfig, cutoffs: np.ndarray, name: str
    ) -> tuple[list[np.ndarray], list[int]]:
        """Tokens of each window and how many of them are context."""
        spec, objective = study.windows, method(name).objective if name else None
        rows: list[np.ndarray] = []
        given: list[int] = []
        for first in range(0, len(cutoffs), CHUNK):
            chunk = cutoffs[first : first + CHUNK]
            seen = contexts(bars, spec, self.codec.warm_up, chunk)
            if objective:
                truth, options = targets(bars, spec, chunk), study.options_of(name)
                rows += list(objective.rows(seen, truth, self.codec, spec.context, options))
                given += [spec.context] * len(chunk)
                continue
            closes = np.concatenate([seen.closes, targets(bars, spec, chunk)], axis=1)
            times = np.concatenate([seen.times, bars.times[chunk[:, None] + np.arange(1, spec.horizon + 1)]], axis=1)
            tokens, of_context = rows_of(self.codec, closes, times, spec.context, spec.horizon, self.positions)
            rows += tokens
            given += of_context
        return rows, given


def prepare(study: StudyConfig, bars: Bars) -> Prepared:
    """Fit the codec and split the series; raises where the series is too short or the base has seen the answers."""
    return prepare_split(study, bars, None)


def prepare_split(study: StudyConfig, bars: Bars, parts: Split | None) -> Prepared:
    """The same for parts that are given, such as a fold's; None for the study's own."""
    base, spec = find_base(study.base), study.windows
    taken = max((method(name).taken(study.options_of(name)) for name in study.methods), default=0)
    check_length(base, spec, taken)
    codec = scale_codec(base.codec, bars, study.codec, spec.context + spec.horizon)
    parts = parts or split(bars, spec, study.split, codec.warm_up)
    seen = forbid_seen(base.cutoff, bars.times[parts.validation[0]], study.allow_seen)
    part = int(parts.train[0]) - codec.warm_up - spec.context + 1, int(parts.train[-1]) + spec.horizon
    fitted = fit_codec(codec, bars, study.codec, *part)
    if isinstance(fitted, BinsCodec):
        return Prepared(fitted, fitted, parts, seen, base.positions - taken)
    hours = fit_codec(scale_codec(BinsCodec(), bars, study.codec), bars, study.codec, *part)
    return Prepared(fitted, hours, parts, seen, base.positions - taken)
