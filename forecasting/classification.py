"""Down, flat or up: what a move is called, and how good a classifier of moves is.

Accuracy says little where one class is frequent, so every figure stands beside that of no skill: the class shares of
the training part, always the same forecast. Pure functions on arrays; classes are counted in the order of CLASSES.
"""

import math
from typing import Any

import numpy as np

from forecasting.codecs.rows import PADDING
from forecasting.significance import diebold_mariano

CLASSES = ("down", "flat", "up")
DOWN, FLAT, UP = range(3)

LEAST_CHANCE = 1e-15
"""A class that came though its probability was said to be less costs no more than this one's logarithm."""


def classes_of(moves: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Class of each move, int64 of their shape: flat where |move| <= band; PADDING where the move is NaN."""
    named = np.where(moves > band, UP, np.where(moves < -band, DOWN, FLAT))
    return np.where(np.isnan(moves), PADDING, named).astype(np.int64)


def class_shares(truth: np.ndarray) -> np.ndarray:
    """Share of each class at each step, [H, 3], of classes [N, H]; one more of each is counted, so none is 0."""
    counts = np.stack([(truth == k).sum(axis=0) for k in range(len(CLASSES))], axis=1) + 1.0
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts int64 [3, 3], a row for each true class and a column for each predicted one; truth, predicted [n]."""
    count = len(CLASSES)
    counts = np.bincount(truth * count + predicted, minlength=count * count)
    return counts.reshape(count, count)


def class_figures(counts: np.ndarray) -> dict[str, Any]:
    """Accuracy; precision, recall and F1 of each class and their plain (macro) means, of a confusion matrix.

    Precision tp / (tp + fp), recall tp / (tp + fn), F1 2 tp / (2 tp + fp + fn); 0 where nothing was predicted or
    nothing came, as scikit-learn has it.
    """
    hits, truly, said = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    figures = {
        "precision": _share(hits, said),
        "recall": _share(hits, truly),
        "f1": _share(2 * hits, truly + said),
    }
    by_class = {
        name: {figure: float(values[k]) for figure, values in figures.items()} | {"rows": int(truly[k])}
        for k, name in enumerate(CLASSES)
    }
    return {
        "rows": int(counts.sum()),
        "accuracy": float(hits.sum() / max(1, counts.sum())),
        **{f"macro_{figure}": float(values.mean()) for figure, values in figures.items()},
        "by_class": by_class,
        "confusion": counts.tolist(),
    }


def log_losses(chance: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the probability of the class that came, nats, [N, H]; NaN where none is known.

    chance [N, H, 3]; truth [N, H].
    """
    came = np.take_along_axis(chance, np.maximum(truth, 0)[..., None], axis=-1)[..., 0]
    return np.asarray(np.where(truth == PADDING, np.nan, -np.log(np.maximum(came, LEAST_CHANCE))))


def classification_figures(
    chance: np.ndarray, truth: np.ndarray, shares: np.ndarray, spacing: int = 1
) -> dict[str, Any]:
    """`class_figures` of the likeliest classes, and the log loss, beside no skill: {"overall": ..., "by_step": ...}.

    chance [N, H, 3] in time order, truth [N, H], shares [H, 3] of the training part. no_skill_accuracy is that of
    always saying the likeliest class of `shares`, no_skill_log_loss that of always saying `shares`; p_value is the
    chance of a log loss so much lower, if it is no better (`diebold_mariano`, for as many steps as rows overlap that
    lie `spacing` bars apart). Overall is over all steps.
    """
    constant = np.broadcast_to(shares, chance.shape)

    def of(steps: slice) -> dict[str, Any]:
        said, same, came = chance[:, steps], constant[:, steps], truth[:, steps]
        known = came != PADDING
        if not known.any():
            return class_figures(np.zeros((3, 3), dtype=np.int64))
        losses, others = log_losses(said, came), log_losses(same, came)
        whole = known.all(axis=1)
        own, other = losses[whole].mean(axis=1), others[whole].mean(axis=1)
        overlap = math.ceil(steps.stop / spacing)
        return class_figures(confusion(came[known], said.argmax(axis=-1)[known])) | {
            "no_skill_accuracy": float((same.argmax(axis=-1) == came)[known].mean()),
            "log_loss": float(losses[known].mean()),
            "no_skill_log_loss": float(others[known].mean()),
            "p_value": diebold_mariano(own, other, overlap).p_value if whole.any() else math.nan,
        }

    horizon = truth.shape[1]
    return {"overall": of(slice(0, horizon)), "by_step": {str(h): of(slice(h - 1, h)) for h in range(1, horizon + 1)}}


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(part / np.maximum(whole, 1))
