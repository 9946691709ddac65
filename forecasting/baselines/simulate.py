"""Returns with a linear mean and a moving volatility, rolled forward along many paths of many windows at once.

The return of a bar, x, divided by the market's weekly pattern where one is used, is c + phi x_before + sigma z. Moves
are counted in units of the anchor and added, close = anchor (1 + sum of moves), not compounded: compounding simple
returns turns a symmetric density into one whose median lies below its mean from the second step on, a direction out of
nothing. Added moves of symmetric innovations have mean and median at the anchor exactly; over H bars the two differ by
products of returns, 1e-4 of the price where a bar moves by 1 %. No path falls below LEAST_RATIO of its anchor.

What has a closed form is not sampled: the mean at every step, the whole distribution of step 1, and, where the mean is
zero, the chance of a rise. Elsewhere that chance averages conditional probabilities over paths. Uniforms are the
project's own, shared with every model.
"""

from dataclasses import dataclass

import numpy as np
import torch

from forecasting import distributions
from forecasting.baselines.innovations import Innovations
from forecasting.baselines.volatility import FLOOR, Volatility, after, filtered
from forecasting.codecs.bins import LEAST_RATIO
from forecasting.forecaster import Prediction
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from forecasting.sampler import SamplingOptions
from forecasting.uniforms import group_size, over_groups, uniforms
from forecasting.windows import Contexts


@dataclass(frozen=True)
class Dynamics:
    """What drives the returns of a series: x_t = constant + slope x_(t-1) + sigma_t z_t."""

    volatility: Volatility
    innovations: Innovations
    constant: float = 0.0
    slope: float = 0.0

    @property
    def directed(self) -> bool:
        """Whether returns have a predictable mean."""
        return self.constant != 0.0 or self.slope != 0.0

    @property
    def usual(self) -> float:
        """Unconditional mean return."""
        return self.constant / (1 - self.slope)


def simulate(
    contexts: Contexts, dynamics: Dynamics, seen: np.ndarray, ahead: np.ndarray, options: SamplingOptions
) -> Prediction:
    """Forecast every window; seen [N, T] and ahead [N, H] are the weekly pattern at its returns and at the bars ahead.

    The bytes of each window's result depend on its own context only.
    """
    closes = contexts.closes
    anchor = np.ascontiguousarray(closes[:, -1])
    returns = np.diff(closes, axis=1) / closes[:, :-1] / seen
    before = np.concatenate([np.full((len(returns), 1), dynamics.usual), returns[:, :-1]], axis=1)
    residuals = returns - (dynamics.constant + dynamics.slope * before)
    variance = filtered(dynamics.volatility, residuals)
    expected = _expected(dynamics, returns[:, -1], ahead.shape[1])
    drawn = _draws(contexts, options)
    moves, rises = _roll(dynamics, returns[:, -1], returns.shape[1], variance, ahead, drawn)

    paths = anchor[:, None, None] * np.maximum(1 + moves, LEAST_RATIO)
    sigma = np.maximum(np.sqrt(variance), FLOOR) * ahead[:, 0]
    table = dynamics.innovations
    first = anchor[:, None] * np.maximum(
        1 + (expected[:, 0] * ahead[:, 0])[:, None] + sigma[:, None] * table.knots, LEAST_RATIO
    )
    weights = np.broadcast_to(table.weights, (len(first), len(table.weights)))
    levels = np.asarray(QUANTILE_LEVELS)
    quantiles = np.quantile(paths, levels, axis=1, method="weibull").transpose(1, 0, 2)
    quantiles[:, :, 0] = distributions.quantiles(first, weights, levels)
    p_up, p_up_se = np.full(ahead.shape, 0.5), np.zeros(ahead.shape)
    if dynamics.directed:
        p_up, p_up_se = over_groups(torch.from_numpy(rises).permute(2, 0, 1))
    p_up_se[:, 0] = 0.0
    forecasts = Forecasts(
        unique_id=contexts.unique_id,
        cutoff=contexts.cutoffs,
        ds=contexts.ahead,
        anchor=anchor,
        sigma=sigma,
        mean=anchor[:, None] * (1 + np.cumsum(expected * ahead, axis=1)),
        mean_se=np.zeros(ahead.shape),
        quantiles=quantiles,
        p_up=p_up,
        p_up_se=p_up_se,
        input_sha=contexts.hashes(),
    )
    group = group_size(options.paths)

    def crps(y: np.ndarray) -> np.ndarray:
        score = distributions.fair_crps(paths, y, group)
        score[:, 0] = distributions.crps(first, weights, y[:, 0])
        return score

    def crps_noise(y: np.ndarray) -> np.ndarray:
        noise = distributions.crps_noise(paths, y, group)
        noise[:, 0] = np.where(np.isnan(y[:, 0]), np.nan, 0.0)
        return noise

    return Prediction(forecasts, crps, crps_noise, paths)


def _expected(dynamics: Dynamics, last: np.ndarray, steps: int) -> np.ndarray:
    """Mean of each return to come given the last, [N, H]."""
    expected = np.empty((len(last), steps))
    for h in range(steps):
        last = dynamics.constant + dynamics.slope * last
        expected[:, h] = last
    return expected


def _draws(contexts: Contexts, options: SamplingOptions) -> np.ndarray:
    """Uniforms of every window, [H, N, S]."""
    steps = contexts.ahead.shape[1]
    of_window = [
        uniforms(options.seed, contexts.unique_id, cutoff, options.paths, steps) for cutoff in contexts.cutoffs
    ]
    return np.stack(of_window, axis=1)


def _roll(
    dynamics: Dynamics, last: np.ndarray, seen: int, variance: np.ndarray, ahead: np.ndarray, drawn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Moves from the anchor, in units of it, and each path's conditional chance to be above the anchor: [N, S, H].

    last [N]: the return of the last bar; seen: residuals behind `variance` [N].
    """
    steps, count, size = drawn.shape
    moves, rises = np.empty((count, size, steps)), np.empty((count, size, steps))
    move = np.zeros((count, size))
    spread = np.repeat(variance[:, None], size, axis=1)
    before = np.repeat(last[:, None], size, axis=1)
    for h in range(steps):
        factor = ahead[:, h, None]
        sigma = np.maximum(np.sqrt(spread), FLOOR)
        mean = dynamics.constant + dynamics.slope * before
        rises[:, :, h] = 1 - dynamics.innovations.below((-move / factor - mean) / sigma)
        residual = sigma * dynamics.innovations.value(drawn[h])
        before = mean + residual
        move = move + factor * before
        moves[:, :, h] = move
        spread = after(dynamics.volatility, spread, residual, seen + h)
    return moves, rises
