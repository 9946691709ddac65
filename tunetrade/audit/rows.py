"""What a model was trained on, in a few values that a later audit can hold against the data."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from forecasting.files import sha256_of

if TYPE_CHECKING:
    from forecasting.bars import Bars
    from forecasting.train import TrainingData
    from tunetrade.config import StudyConfig
    from tunetrade.prepared import Prepared


SAMPLED = 4096
"""Rows, spread evenly, that are hashed apart, so that an audit of many windows has to make no more again."""


def rows_record(bars: "Bars", study: "StudyConfig", prepared: "Prepared", data: "TrainingData") -> dict[str, Any]:
    """Windows, first and last cutoff, last target (UTC) and hash of the tokens of `train` and `validation`.

    sample_sha: hash of the tokens of `sample_of` the rows.
    """
    parts = {"train": (prepared.split.train, data.train), "validation": (prepared.split.validation, data.validation)}
    return {
        name: {
            **_stamps(bars, study, cutoffs),
            "windows": len(rows),
            "sha": sha256_of(rows),
            "sample_sha": _hash(rows[sample_of(len(rows))]),
        }
        for name, (cutoffs, rows) in parts.items()
    }


def sampled_record(bars: "Bars", study: "StudyConfig", prepared: "Prepared", method: str) -> dict[str, Any]:
    """What `rows_record` says of `train`, of which only a sample is made; all but `sha`."""
    cutoffs = prepared.split.train
    fewer = replace(prepared, split=replace(prepared.split, train=cutoffs[sample_of(len(cutoffs))]))
    rows = fewer.training_data(bars, study, method).train
    return {**_stamps(bars, study, cutoffs), "windows": len(cutoffs), "sample_sha": _hash(rows)}


def sample_of(count: int) -> np.ndarray:
    """Numbers of at most SAMPLED rows, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).astype(np.int64))


def _stamps(bars: "Bars", study: "StudyConfig", cutoffs: np.ndarray) -> dict[str, str]:
    def time(position: int) -> str:
        return str(bars.times[position].astype("datetime64[s]"))

    return {
        "first_cutoff": time(int(cutoffs[0])),
        "last_cutoff": time(int(cutoffs[-1])),
        "last_target": time(int(cutoffs[-1]) + study.windows.horizon),
    }


def _hash(rows: np.ndarray) -> str:
    """Of rows without the columns that are filled up in all of them: how long the longest of all is, says nothing."""
    from forecasting.codecs.rows import PADDING

    return sha256_of(np.ascontiguousarray(rows[:, (rows != PADDING).any(axis=0)]))
