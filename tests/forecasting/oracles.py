"""What the decode engine is held against: a plain loop over a library's own forward, with NumPy arithmetic."""

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import nn

from forecasting.codecs.bins import returns_of
from forecasting.uniforms import uniforms


def slow_sigma(returns, codec):
    """Of rows of returns, from the definition of the power mean."""
    mean, ages = 0.0, np.arange(returns.shape[1])[::-1]
    for half_life, share in zip(codec.half_lives, codec.weights, strict=True):
        mean += share * np.average(np.abs(returns) ** codec.power, axis=1, weights=0.5 ** (ages / half_life))
    unit = np.sqrt((codec.dof - 2) / codec.dof)
    moment = stats.t.expect(lambda x: np.abs(x * unit) ** codec.power, args=(codec.dof,))
    return np.maximum((mean / moment) ** (1 / codec.power), codec.floor)


def slow_draws(logits, codec, inputs, context, paths, seed):
    """All paths of all windows, no cache: tokens and closes, [N, S, H] each; logits is the oracle's forward."""
    count, horizon = inputs.ahead.shape
    ids = np.repeat(codec.encode(inputs.closes, inputs.times, context)[0], paths, axis=0)
    closes = np.repeat(inputs.closes, paths, axis=0)
    uniform = [uniforms(seed, inputs.unique_id, cutoff, paths, horizon) for cutoff in inputs.cutoffs]
    uniform = np.concatenate(uniform, axis=1)
    for h in range(horizon):
        last = logits(torch.from_numpy(ids))[:, -1].double().numpy()
        chance = np.exp(last - last.max(axis=1, keepdims=True))
        segments = (chance / chance.sum(axis=1, keepdims=True))[:, codec.segment_token] * codec.segment_share
        sigma = slow_sigma(returns_of(closes), codec)
        drawn = []
        for row in range(count * paths):
            below = np.concatenate([[0], np.cumsum(segments[row])])
            wanted = uniform[h, row] * below[-1]
            token = codec.segment_token[np.searchsorted(below, wanted, side="right") - 1]
            drawn.append((token, closes[row, -1] * (1 + sigma[row] * np.interp(wanted, below, codec.knots))))
        tokens, new = zip(*drawn, strict=True)
        ids = np.column_stack([ids, np.array(tokens)])
        closes = np.column_stack([closes, np.array(new)])
    return tuple(values[:, -horizon:].reshape(count, paths, horizon) for values in (ids, closes))


def forward_of(model: nn.Module, before: int = 0) -> Callable[[torch.Tensor], torch.Tensor]:
    """Logits at the tokens given; a model that embeds a prompt has `before` places of its own in front of them."""

    def logits(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found = model(input_ids=ids).logits[:, before:]
        assert found.shape[:2] == ids.shape
        return found

    return logits


def assert_same_bytes_alone(together, at, alone):
    """Row `at` of a prediction of several windows is that of the window by itself, to the last byte."""
    assert together.paths[at].tobytes() == alone.paths[0].tobytes()
    row, single = together.forecasts.row(at), alone.forecasts.row(0)
    for field in ("mean", "mean_se", "quantiles", "p_up", "p_up_se", "sigma"):
        assert np.asarray(getattr(row, field)).tobytes() == np.asarray(getattr(single, field)).tobytes(), field
    assert row.input_sha == single.input_sha
