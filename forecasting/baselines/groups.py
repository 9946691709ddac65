"""Windows that share fitted parameters are forecast together, and put back in the order they came in."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields
from typing import TypeVar

import numpy as np

from forecasting.forecaster import Prediction, Progress
from forecasting.forecasts import Forecasts, concatenate
from forecasting.windows import Contexts

Key = TypeVar("Key", bound=Hashable)


def by_group(
    contexts: Contexts,
    keys: Sequence[Key],
    predict: Callable[[Contexts, Key], Prediction],
    progress: Progress | None = None,
) -> Prediction:
    """One prediction of all windows, `predict` being asked once for each of the `keys` [N] of the windows."""
    rows: dict[Key, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    parts = []
    for key, own in rows.items():
        parts.append(predict(_some(contexts, own), key))
        if progress:
            progress(len(own))
    return _joined(parts, [np.array(own) for own in rows.values()])


def _some(contexts: Contexts, rows: list[int]) -> Contexts:
    return Contexts(
        unique_id=contexts.unique_id,
        cutoffs=contexts.cutoffs[rows],
        closes=np.ascontiguousarray(contexts.closes[rows]),
        times=contexts.times[rows],
        ahead=contexts.ahead[rows],
    )


def _joined(parts: list[Prediction], rows: list[np.ndarray]) -> Prediction:
    """Predictions of some rows each become one of all; crps and crps_noise ask each part about its own."""
    order = np.argsort(np.concatenate(rows))
    together = concatenate([part.forecasts for part in parts])
    arrays = {item.name: getattr(together, item.name)[order] for item in fields(Forecasts) if item.name != "unique_id"}
    drawn = [part.paths for part in parts if part.paths is not None]

    def score(y: np.ndarray) -> np.ndarray:
        return np.concatenate([part.crps(y[own]) for part, own in zip(parts, rows, strict=True)])[order]

    def noise(y: np.ndarray) -> np.ndarray:
        return np.concatenate([part.crps_noise(y[own]) for part, own in zip(parts, rows, strict=True)])[order]

    paths = np.concatenate(drawn)[order] if drawn else None
    return Prediction(Forecasts(unique_id=together.unique_id, **arrays), score, noise, paths)
