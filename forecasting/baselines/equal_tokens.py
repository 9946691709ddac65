"""The codec without its model: every token equally likely, so sigma and the shape of the bins are all that is believed.

What a GPT-2 has learnt is its distance from this line, not from a weaker baseline's.
"""

from forecasting.baselines.asked import Asked
from forecasting.codecs import BinsCodec
from forecasting.errors import ConfigError
from forecasting.files import sha256_of
from forecasting.forecaster import Forecaster, PathForecaster
from forecasting.sampler import UniformTokens


def equal_tokens(asked: Asked) -> Forecaster:
    """The study's own codec, equally likely bins; ConfigError with a codec that has no bins."""
    codec = asked.hours
    if not isinstance(codec, BinsCodec):
        raise ConfigError("equal-tokens is the bins codec without its model, and this base has another; leave it out")
    return PathForecaster(
        model_sha=sha256_of("equal-tokens"),
        codec=codec,
        context=asked.spec.context,
        options=asked.options,
        make_model=lambda: UniformTokens(codec.bins, asked.options.paths),
    )
