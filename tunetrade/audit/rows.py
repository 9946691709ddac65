"""What a model was trained on, in a few values that a later audit can hold against the data."""

from typing import TYPE_CHECKING, Any

from forecasting.files import sha256_of

if TYPE_CHECKING:
    from forecasting.bars import Bars
    from forecasting.train import TrainingData
    from tunetrade.config import StudyConfig
    from tunetrade.prepared import Prepared


def rows_record(bars: "Bars", study: "StudyConfig", prepared: "Prepared", data: "TrainingData") -> dict[str, Any]:
    """Windows, first and last cutoff, last target (UTC) and hash of the tokens of `train` and `validation`."""
    parts = {"train": (prepared.split.train, data.train), "validation": (prepared.split.validation, data.validation)}

    def time(position: int) -> str:
        return str(bars.times[position].astype("datetime64[s]"))

    return {
        name: {
            "windows": len(rows),
            "first_cutoff": time(int(cutoffs[0])),
            "last_cutoff": time(int(cutoffs[-1])),
            "last_target": time(int(cutoffs[-1]) + study.windows.horizon),
            "sha": sha256_of(rows),
        }
        for name, (cutoffs, rows) in parts.items()
    }
