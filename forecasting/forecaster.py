"""One protocol for everything that forecasts: random walk, EWMA-t and every tuned GPT-2 are asked the same question."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forecasting import distributions
from forecasting.codecs import BinsCodec
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from forecasting.sampler import GROUP, SamplingOptions, TokenModel, sample
from forecasting.windows import Contexts

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Prediction:
    """Forecasts, and how well each scores once the truth is known.

    `crps(y)` takes the closes that came, [N, H], and gives the score of each distribution in price units, [N, H], NaN
    where y is NaN. `paths` [N, S, H] are the sampled closes, None where none were needed.
    """

    forecasts: Forecasts
    crps: Callable[[np.ndarray], np.ndarray]
    paths: np.ndarray | None


class Forecaster(Protocol):
    """Closes in, predictive distribution out."""

    @property
    def sha(self) -> str:
        """Hash of everything that defines the forecaster: weights, codec, settings."""
        ...

    @property
    def warm_up(self) -> int:
        """Closes it needs before a context, M."""
        ...

    def predict(self, contexts: Contexts, progress: Progress | None = None) -> Prediction:
        """Forecast every context; the result for one does not depend on which others are asked for."""
        ...


@dataclass(frozen=True)
class PathForecaster:
    """A token model rolled forward by the sampler: GPT-2 however tuned, or the model of equal tokens (EWMA-t)."""

    sha: str
    codec: BinsCodec
    context: int
    options: SamplingOptions
    make_model: Callable[[], TokenModel]

    @property
    def warm_up(self) -> int:
        """Closes from which only the scale is taken."""
        return self.codec.warm_up

    def predict(self, contexts: Contexts, progress: Progress | None = None) -> Prediction:
        """Sample every context; see `sampler.sample`."""
        drawn = sample(contexts, self.codec, self.make_model, self.context, self.options, progress)
        levels = np.asarray(QUANTILE_LEVELS)
        quantiles = np.quantile(drawn.paths, levels, axis=1, method="weibull").transpose(1, 0, 2)
        quantiles[:, :, 0] = distributions.quantiles(drawn.first_knots, drawn.first_weights, levels)
        forecasts = Forecasts(
            unique_id=contexts.unique_id,
            cutoff=contexts.cutoffs,
            ds=contexts.ahead,
            anchor=np.ascontiguousarray(contexts.closes[:, -1]),
            sigma=drawn.sigma,
            mean=drawn.mean,
            mean_se=drawn.mean_se,
            quantiles=quantiles,
            p_up=drawn.p_up,
            p_up_se=drawn.p_up_se,
            input_sha=contexts.hashes(),
        )

        def crps(y: np.ndarray) -> np.ndarray:
            score = distributions.fair_crps(drawn.paths, y, GROUP)
            score[:, 0] = distributions.crps(drawn.first_knots, drawn.first_weights, y[:, 0])
            return score

        return Prediction(forecasts, crps, drawn.paths)
