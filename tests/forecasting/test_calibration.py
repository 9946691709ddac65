"""Closes drawn from a model by a plain loop over transformers are what the engine, given the same model, predicts.

The probability integral transform of such closes is uniform, and that of an engine with a fault in it is not.
"""

import numpy as np
import pytest
from oracles import forward_of, slow_draws
from scipy import stats

from forecasting import sampler
from forecasting.base import find_base, load_model
from forecasting.decoder import weights_of
from forecasting.sampler import SamplingOptions, gpt2_decoders, sample
from forecasting.windows import WindowSpec, contexts

SPEC = WindowSpec(context=12, horizon=2)
BASE, PATHS = find_base("embedded"), 64


@pytest.fixture(scope="module")
def model():
    return load_model(BASE).eval()


@pytest.fixture(scope="module")
def inputs(eurusd):
    return contexts(eurusd, SPEC, BASE.codec.warm_up, np.arange(1000, 1400))


@pytest.fixture(scope="module")
def truth(model, inputs):
    """One path a window, [N, H], its uniforms not those of the engine."""
    return slow_draws(forward_of(model), BASE.codec, inputs, SPEC.context, 2, 77)[1][:, 0]


def uniformity(model, inputs, truth):
    """Kolmogorov-Smirnov p-values: of step 1 by its exact distribution and by rank among paths, of step 2 by rank."""
    make = gpt2_decoders(weights_of(model), PATHS, SPEC.horizon)
    drawn = sample(inputs, BASE.codec, make, SPEC.context, SamplingOptions(PATHS, seed=5, threads=1))
    below = np.concatenate([np.zeros((len(truth), 1)), np.cumsum(drawn.first_weights, axis=1)], axis=1)
    exact = [np.interp(*row) for row in zip(truth[:, 0], drawn.first_knots, below, strict=True)]
    ranks = (drawn.paths < truth[:, None]).mean(axis=1) + 0.5 / PATHS
    return [stats.kstest(values, "uniform").pvalue for values in (exact, *ranks.T)]


def test_what_is_drawn_from_the_model_is_uniform_under_the_engine(model, inputs, truth):
    assert min(uniformity(model, inputs, truth)) > 0.01


def returns(change):
    """Every return drawn becomes another."""
    value = sampler._Tables.value
    return "_Tables.value", lambda tables, token, part: change(value(tables, token, part))


def sigmas(change):
    """The exact distribution of step 1 is made of another sigma than the paths."""
    knots = sampler._knots
    return "_knots", lambda codec, close, sigma: knots(codec, close, change(sigma))


@pytest.mark.parametrize(
    ("fault", "found_by"),
    [
        (returns(lambda r: 3 * r + 0.2), [1, 2]),
        (returns(lambda r: 2 * r), [1, 2]),
        (returns(lambda r: r + 0.4), [1, 2]),
        (sigmas(lambda sigma: 2 * sigma), [0]),
    ],
)
def test_a_fault_of_the_engine_is_found(model, inputs, truth, monkeypatch, fault, found_by):
    monkeypatch.setattr(f"forecasting.sampler.{fault[0]}", fault[1])
    found = uniformity(model, inputs, truth)
    for i, value in enumerate(found):
        assert value < 1e-4 if i in found_by else value > 0.01
