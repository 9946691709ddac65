"""One protocol for everything that forecasts: random walk, EWMA-t and every tuned GPT-2 are asked the same question."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forecasting import distributions
from forecasting.codecs import BinsCodec
from forecasting.files import sha256_of
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from forecasting.sampler import Encoded, SamplingOptions, TokenModel, sample
from forecasting.uniforms import group_size
from forecasting.windows import Contexts

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Prediction:
    """Forecasts, and how well each scores once the truth is known.

    `crps(y)` takes the closes that came, [N, H], and gives the score of each distribution in price units, [N, H], NaN
    where y is NaN. `crps_noise(y)` [N, H] is one draw of the sampling noise of each score
    (`distributions.crps_noise`), 0 where it is exact. `paths` [N, S, H] are the sampled closes, None where none were
    needed.
    """

    forecasts: Forecasts
    crps: Callable[[np.ndarray], np.ndarray]
    crps_noise: Callable[[np.ndarray], np.ndarray]
    paths: np.ndarray | None


class Forecaster(Protocol):
    """Closes in, predictive distribution out."""

    @property
    def sha(self) -> str:
        """Hash of everything that defines the forecaster: weights, codec, settings, sampling."""
        ...

    @property
    def warm_up(self) -> int:
        """Closes it needs before a context, M."""
        ...

    def predict(self, contexts: Contexts, progress: Progress | None = None) -> Prediction:
        """Forecast every context; the result for one does not depend on which others are asked for."""
        ...


def identity(model_sha: str, codec: object, context: int, options: SamplingOptions) -> str:
    """Hash of a sampled model: its weights, codec, context and what sampling depends on; threads change nothing."""
    sampled = f"{context}|{options.paths}|{options.seed}|{options.device}|{options.precision}"
    return sha256_of(model_sha, repr(codec), sampled)


@dataclass(frozen=True)
class PathForecaster:
    """A token model rolled forward by the sampler: GPT-2 however tuned, or the model of equal tokens (EWMA-t).

    `model_sha` is the hash of the model alone.
    """

    model_sha: str
    codec: BinsCodec
    context: int
    options: SamplingOptions
    make_model: Callable[[], TokenModel]

    @property
    def sha(self) -> str:
        """See `identity`."""
        return identity(self.model_sha, self.codec, self.context, self.options)

    @property
    def warm_up(self) -> int:
        """Closes from which only the scale is taken."""
        return self.codec.warm_up

    def predict(
        self, contexts: Contexts, progress: Progress | None = None, encoded: Encoded | None = None
    ) -> Prediction:
        """Sample every context; see `sampler.sample`.

        Quantiles of step 1 are exact. Later ones are order statistics at rank p (S + 1), which is right for independent
        paths; with antithetic pairs, which mirror each other, a central band of nominal coverage c holds
        c + (1 - c) / (S + 2) instead: with 64 paths 0.8, 0.3 and 0.2 percentage points too much at 50, 80 and 90 %. A
        model whose later steps depend on the path mirrors less and errs less, so no rank is right for all.
        """
        drawn = sample(contexts, self.codec, self.make_model, self.context, self.options, progress, encoded)
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
            score = distributions.fair_crps(drawn.paths, y, group_size(self.options.paths))
            score[:, 0] = distributions.crps(drawn.first_knots, drawn.first_weights, y[:, 0])
            return score

        def crps_noise(y: np.ndarray) -> np.ndarray:
            noise = distributions.crps_noise(drawn.paths, y, group_size(self.options.paths))
            noise[:, 0] = np.where(np.isnan(y[:, 0]), np.nan, 0.0)
            return noise

        return Prediction(forecasts, crps, crps_noise, drawn.paths)
