"""What a classifier of moves adds to a forecaster: its chances as p_up, its labels, and how good it was.

Whose head it is, and how that was trained, is the method's (`methods/direction.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forecasting.bars import Bars
from forecasting.classification import CLASSES, FLAT, UP, class_shares, classes_of, classification_figures
from forecasting.codecs import BinsCodec
from forecasting.codecs.bins import BinState
from forecasting.errors import ConfigError
from forecasting.forecaster import PathForecaster, Prediction, Progress
from forecasting.sampler import FIRST_STEP_ROWS, Encoded, TokenModel
from forecasting.tiles import in_tiles, rows_of
from forecasting.windows import Contexts, Split, WindowSpec, contexts, targets

CHUNK = 1024
"""Windows classified at a time; bounds memory, changes no result."""


def true_classes(inputs: Contexts, truth: np.ndarray, codec: BinsCodec, state: BinState, band: float) -> np.ndarray:
    """Classes that came, int64 [N, H], of closes truth [N, H]; the band is of what was known at the cutoffs only."""
    sigma = state.volatility.sigma(codec.scale)[:, None]
    spread = sigma * np.sqrt(np.cumsum(codec.factors(inputs.ahead) ** 2, axis=1))
    return classes_of(truth / inputs.closes[:, -1:] - 1, band * spread)


@dataclass(frozen=True)
class DirectionForecaster:
    """A density, and p_up from a head beside it that knows classes of `horizon` steps, flat within `band`."""

    density: PathForecaster
    horizon: int
    band: float
    make_classifier: Callable[[], TokenModel]

    @property
    def sha(self) -> str:
        """That of the density's forecaster, whose model is the whole checkpoint, head included."""
        return self.density.sha

    @property
    def warm_up(self) -> int:
        """Closes from which only the scale is taken."""
        return self.density.warm_up

    def predict(self, contexts: Contexts, progress: Progress | None = None) -> Prediction:
        """The density's prediction, with p_up from the head; exact, since nothing is sampled for it."""
        encoded = self.density.codec.encode(contexts.closes, contexts.times, self.density.context)
        prediction, chance = self.density.predict(contexts, progress, encoded), self.chances(contexts, encoded)
        p_up = chance[..., UP] + chance[..., FLAT] / 2
        forecasts = replace(prediction.forecasts, p_up=p_up, p_up_se=np.zeros_like(p_up))
        return replace(prediction, forecasts=forecasts)

    def chances(self, contexts: Contexts, encoded: Encoded) -> np.ndarray:
        """Probability of each class at each step, float64 [N, H, 3]; that of one window depends on no other."""
        density, asked = self.density, contexts.ahead.shape[1]
        if asked != self.horizon:
            raise ConfigError(f"the head was trained for {self.horizon} steps, {asked} are asked; ask for as many")
        ids, _ = encoded
        result = np.empty((len(contexts), asked, len(CLASSES)))

        def classified(model: TokenModel, tile: range) -> Tensor:
            logits = model.start(torch.from_numpy(ids[rows_of(tile, len(ids))])).double()
            return torch.softmax(logits.unflatten(1, (-1, len(CLASSES))), dim=-1).cpu()

        def work(model: TokenModel, tile: range) -> None:
            room = result[tile.start : tile.stop]
            room[:] = classified(model, tile).numpy()[: len(room)]

        def alike(model: TokenModel, tile: range) -> bool:
            alone = torch.cat([classified(model, range(i, i + 1)) for i in tile])
            return torch.equal(alone, classified(model, tile))

        tiling = density.options.tiling(FIRST_STEP_ROWS, density.context)
        in_tiles(len(contexts), tiling, self.make_classifier, work, alike, (0, density.context, asked))
        return result


def scores(forecaster: DirectionForecaster, bars: Bars, spec: WindowSpec, split: Split) -> dict[str, Any]:
    """`classification` of forecast.json: figures of the test part and of validation cutoffs a horizon apart.

    No skill is the class shares of the training part.
    """
    density, band = forecaster.density, forecaster.band

    def of(positions: np.ndarray, classify: bool) -> tuple[np.ndarray, np.ndarray]:
        chances, classes = [], []
        for first in range(0, len(positions), CHUNK):
            held = positions[first : first + CHUNK]
            inputs = contexts(bars, spec, density.warm_up, held)
            truth = targets(bars, spec, held)
            encoded = density.codec.encode(inputs.closes, inputs.times, density.context)
            classes.append(true_classes(inputs, truth, density.codec, encoded[1], band))
            if classify:
                chances.append(forecaster.chances(inputs, encoded))
        return np.concatenate(chances or [np.empty(0)]), np.concatenate(classes)

    shares = class_shares(of(split.train, classify=False)[1])
    parts = {"test": (split.test, 1), "validation": (split.validation[:: spec.horizon], spec.horizon)}
    figures = {
        name: classification_figures(*of(part, classify=True), shares, spacing)
        for name, (part, spacing) in parts.items()
    }
    return {"classification": {"classes": CLASSES, "band": band, "training_shares": shares.tolist(), **figures}}
