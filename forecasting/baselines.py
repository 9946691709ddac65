"""Forecasters that need no training; every table shows them beside GPT-2.

`random-walk`: the last close, as a point. It is the denominator of every point error; its CRPS is its absolute error.
`ewma-t`: the same centre with exponentially weighted volatility and Student-t innovations, volatility carried along
each path: the density to beat. It is the codec with all tokens equally likely.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from forecasting.codecs import BinsCodec
from forecasting.errors import ConfigError, unknown
from forecasting.files import sha256_of
from forecasting.forecaster import Forecaster, PathForecaster, Prediction, Progress
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from forecasting.sampler import SamplingOptions, UniformTokens
from forecasting.windows import Contexts, WindowSpec


@dataclass(frozen=True)
class RandomWalk:
    """Tomorrow is today: mean, median and every quantile are the last close."""

    codec: BinsCodec
    context: int

    @property
    def sha(self) -> str:
        """Constant: nothing is fitted."""
        return sha256_of("random-walk")

    @property
    def warm_up(self) -> int:
        """The models' own, so that all share the same windows."""
        return self.codec.warm_up

    def predict(self, contexts: Contexts, progress: Progress | None = None) -> Prediction:
        """Repeat the anchor."""
        shape = contexts.ahead.shape
        anchor = np.ascontiguousarray(contexts.closes[:, -1])
        flat = np.repeat(anchor[:, None], shape[1], axis=1)
        _, state = self.codec.encode(contexts.closes, contexts.times, self.context)
        forecasts = Forecasts(
            unique_id=contexts.unique_id,
            cutoff=contexts.cutoffs,
            ds=contexts.ahead,
            anchor=anchor,
            sigma=state.ewma.sigma(self.codec.floor) * self.codec.factors(contexts.ahead)[:, 0],
            mean=flat,
            mean_se=np.zeros(shape),
            quantiles=np.repeat(flat[:, None], len(QUANTILE_LEVELS), axis=1),
            p_up=np.full(shape, 0.5),
            p_up_se=np.zeros(shape),
            input_sha=contexts.hashes(),
        )
        if progress:
            progress(len(contexts))
        return Prediction(forecasts, lambda y: np.abs(y - flat), lambda y: np.where(np.isnan(y), np.nan, 0.0), None)


def ewma_t(codec: BinsCodec, spec: WindowSpec, options: SamplingOptions) -> Forecaster:
    """EWMA volatility with t innovations; codec settings are half-life and degrees of freedom."""
    return PathForecaster(
        model_sha=sha256_of("ewma-t"),
        codec=codec,
        context=spec.context,
        options=options,
        make_model=lambda: UniformTokens(codec.bins, options.paths),
    )


def random_walk(codec: BinsCodec, spec: WindowSpec, options: SamplingOptions) -> Forecaster:
    """The last close."""
    return RandomWalk(codec, spec.context)


BASELINES: dict[str, Callable[[BinsCodec, WindowSpec, SamplingOptions], Forecaster]] = {
    "random-walk": random_walk,
    "ewma-t": ewma_t,
}


def baseline(name: str, codec: BinsCodec, spec: WindowSpec, options: SamplingOptions) -> Forecaster:
    """The baseline of that name; ConfigError says which exist."""
    if name not in BASELINES:
        raise ConfigError(unknown("baseline", name, BASELINES))
    return BASELINES[name](codec, spec, options)
