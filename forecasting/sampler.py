"""The decode engine: one context, many paths, and the exact arithmetic of what they imply.

Step 1 is exact: the softmax is the predictive distribution. Later steps average, over paths, conditional distributions
rather than draws. The mean of step h is the anchor plus the sum over steps of each path's expected *move*: a path's own
drift away from the anchor is noise with mean zero and is never averaged, so the Monte Carlo error is that of the
predictable part alone.

Uniforms are counter-based, keyed by (sampling seed, series, cutoff, path, step), so a forecast depends on nothing else that
was sampled, and all methods share them. Paths come in antithetic pairs (u, 1 - u); pairs are independent of each other.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from forecasting.codecs import BinsCodec
from forecasting.decoder import Decoder, DecoderWeights
from forecasting.errors import ConfigError
from forecasting.files import sha256_of
from forecasting.scale import Ewma
from forecasting.windows import Contexts

GROUP = 2
"""Paths drawn together: an antithetic pair."""


@dataclass(frozen=True)
class SamplingOptions:
    """paths: per window, a multiple of 2. seed: of the uniforms, apart from any training seed. threads: windows at once
    (0: one per core); results do not depend on it.
    """

    paths: int = 64
    seed: int = 1
    threads: int = 0

    def __post_init__(self) -> None:
        if not 4 <= self.paths <= 65_536 or self.paths % GROUP:
            raise ConfigError(f"sampling.paths is {self.paths}; give an even number from 4 to 65536")
        if self.threads < 0:
            raise ConfigError(f"sampling.threads is {self.threads}; give 0 (one per core) or a positive number")

    @property
    def workers(self) -> int:
        """Threads to use."""
        return self.threads or int(os.environ.get("TUNETRADE_THREADS", "0")) or os.cpu_count() or 1


@dataclass(frozen=True)
class Samples:
    """What was drawn and what it implies, for N windows, S paths, H steps and K segments; prices float64.

    paths [N, S, H]; mean, mean_se, p_up, p_up_se [N, H]; first_knots [N, K + 1] and first_weights [N, K], the exact distribution of
    step 1; sigma [N] at step 1.
    """

    paths: np.ndarray
    mean: np.ndarray
    mean_se: np.ndarray
    p_up: np.ndarray
    p_up_se: np.ndarray
    first_knots: np.ndarray
    first_weights: np.ndarray
    sigma: np.ndarray


class TokenModel(Protocol):
    """What the sampler asks of a model, one window at a time."""

    def start(self, ids: Tensor) -> Tensor:
        """Logits [V] after the context, ids int64 [C]."""
        ...

    def advance(self, ids: Tensor) -> Tensor:
        """Logits [S, V] after one more token on each path, ids int64 [S]."""
        ...


class UniformTokens:
    """The model that has learnt nothing: every quantile bin equally likely, which is EWMA volatility with t innovations."""

    def __init__(self, vocabulary: int, paths: int) -> None:
        self._first = torch.zeros(vocabulary)
        self._later = torch.zeros(paths, vocabulary)

    def start(self, ids: Tensor) -> Tensor:
        """Equal logits, [V]."""
        return self._first

    def advance(self, ids: Tensor) -> Tensor:
        """Equal logits, [S, V]."""
        return self._later


def gpt2_decoders(weights: DecoderWeights, paths: int, horizon: int) -> Callable[[], TokenModel]:
    """Maker of decoders for one thread each."""
    return lambda: Decoder(weights, paths, horizon - 1)


def uniforms(seed: int, unique_id: str, cutoff: np.datetime64, paths: int, horizon: int) -> np.ndarray:
    """Uniform numbers in (0, 1), float64 [H, S]; entry (h, s) does not depend on how many paths or steps are asked for.

    Philox (Salmon 2011) keyed by a hash of seed, series and cutoff, counter = step; each pair of paths is u, 1 - u.
    """
    key = int(sha256_of(f"{seed}|{unique_id}|{np.datetime64(cutoff, 'ns').astype(np.int64)}")[:32], 16)
    draws = np.empty((horizon, paths // GROUP))
    for step in range(horizon):
        raw = np.random.Philox(key=key, counter=step << 128).random_raw(paths // GROUP)
        draws[step] = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.stack([draws, 1 - draws], axis=2).reshape(horizon, paths)


def sample(
    contexts: Contexts,
    codec: BinsCodec,
    make_model: Callable[[], TokenModel],
    context: int,
    options: SamplingOptions,
    progress: Callable[[int], None] | None = None,
) -> Samples:
    """Draw paths for every window.

    `context` closes (C) become tokens. `progress(n)` is called as windows finish, with their number. The bytes of each
    window's result depend on its own context and the options' seed and paths only.
    """
    steps = contexts.ahead.shape[1]
    ids, state = codec.encode(contexts.closes, contexts.times, context)
    factors = codec.factors(contexts.ahead)
    tables = _CodecTables.of(codec)
    reporting = threading.Lock()

    def run(indices: range) -> list[_Window]:
        model, done = make_model(), []
        with torch.inference_mode():
            for i in indices:
                uniform = uniforms(options.seed, contexts.unique_id, contexts.cutoffs[i], options.paths, steps)
                ewma = Ewma(state.ewma.total[i : i + 1], state.ewma.weight[i : i + 1])
                done.append(_roll(model, ids[i], ewma, float(state.close[i]), factors[i], uniform, tables))
                if progress:
                    with reporting:
                        progress(1)
        return done

    workers = min(options.workers, max(1, len(contexts)))
    bounds = np.linspace(0, len(contexts), workers + 1).astype(int)
    with _single_threaded_products():
        if workers == 1:
            windows = run(range(len(contexts)))
        else:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                parts = pool.map(run, (range(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)))
                windows = [window for part in parts for window in part]
    return _gather(windows)


@contextmanager
def _single_threaded_products() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _CodecTables:
    """The codec's constants as tensors."""

    codec: BinsCodec
    knots: Tensor
    segment_token: Tensor
    segment_share: Tensor

    @staticmethod
    def of(codec: BinsCodec) -> "_CodecTables":
        return _CodecTables(
            codec,
            torch.from_numpy(codec.knots),
            torch.from_numpy(codec.segment_token),
            torch.from_numpy(codec.segment_share),
        )


@dataclass(frozen=True)
class _Window:
    paths: np.ndarray
    mean: np.ndarray
    mean_se: np.ndarray
    p_up: np.ndarray
    p_up_se: np.ndarray
    first_knots: np.ndarray
    first_weights: np.ndarray
    sigma: float


def _roll(
    model: TokenModel,
    ids: np.ndarray,
    ewma: Ewma,
    anchor: float,
    factors: np.ndarray,
    uniform: np.ndarray,
    tables: _CodecTables,
) -> _Window:
    """One window: factors [H], uniform [H, S]. Each path carries its own close and volatility."""
    steps, size = uniform.shape
    decay, floor = tables.codec.decay, tables.codec.floor
    total = torch.full((size,), float(ewma.total[0]), dtype=torch.float64)
    weight = float(ewma.weight[0])
    close = torch.full((size,), anchor, dtype=torch.float64)
    paths, moves, ups = np.empty((size, steps)), torch.empty((steps, size)), torch.empty((steps, size))
    moves, ups = moves.double(), ups.double()
    logits = model.start(torch.from_numpy(ids)).expand(size, -1)
    for h in range(steps):
        sigma = torch.clamp_min(torch.sqrt(total / max(weight, 1e-300)), floor)
        weights = torch.softmax(logits.double(), dim=1)[:, tables.segment_token] * tables.segment_share
        knots = close[:, None] * torch.exp((sigma * float(factors[h]))[:, None] * tables.knots)
        below = torch.cumsum(weights, dim=1)
        moves[h] = (weights * (knots[:, :-1] + knots[:, 1:])).sum(1) / (2 * below[:, -1]) - close
        ups[h] = 1 - _fraction_below(knots, weights, below, anchor)
        if h == 0:
            first = (knots[0].numpy().copy(), weights[0].numpy().copy(), float(sigma[0]) * float(factors[0]))
        drawn = torch.from_numpy(uniform[h])[:, None] * below[:, -1:]
        segment = torch.searchsorted(below, drawn, right=True).clamp_max_(weights.shape[1] - 1)
        inside = weights.gather(1, segment)
        part = ((drawn - (below.gather(1, segment) - inside)) / inside.clamp_min(1e-300)).clamp(0, 1)
        low = knots.gather(1, segment)
        new = (low + part * (knots.gather(1, segment + 1) - low))[:, 0]
        scaled = torch.log(new / close) / float(factors[h])
        total, weight, close = decay * total + scaled * scaled, decay * weight + 1.0, new
        paths[:, h] = new.numpy()
        if h + 1 < steps:
            logits = model.advance(tables.segment_token[segment[:, 0]])
    mean, mean_se = _over_pairs(torch.cumsum(moves, 0))
    p_up, p_up_se = _over_pairs(ups)
    mean_se[0] = p_up_se[0] = 0.0
    return _Window(paths, anchor + mean, mean_se, p_up, p_up_se, *first)


def _fraction_below(knots: Tensor, weights: Tensor, below: Tensor, price: float) -> Tensor:
    """P(close < price) on each path, [S]."""
    wanted = torch.full((len(knots), 1), price, dtype=torch.float64)
    segment = (torch.searchsorted(knots, wanted, right=True) - 1).clamp_(0, weights.shape[1] - 1)
    low, high = knots.gather(1, segment), knots.gather(1, segment + 1)
    part = ((wanted - low) / (high - low)).clamp(0, 1)
    inside = weights.gather(1, segment)
    return ((below.gather(1, segment) - inside + part * inside) / below[:, -1:])[:, 0]


def _over_pairs(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean over paths and its standard error from independent pairs, [H] each; values [H, S]."""
    pairs = values.reshape(len(values), -1, GROUP).mean(2)
    error = pairs.std(dim=1) / pairs.shape[1] ** 0.5
    return pairs.mean(1).numpy().copy(), error.numpy().copy()


def _gather(windows: list[_Window]) -> Samples:
    def stack(name: str) -> np.ndarray:
        return np.stack([np.asarray(getattr(window, name)) for window in windows])

    return Samples(
        paths=stack("paths"),
        mean=stack("mean"),
        mean_se=stack("mean_se"),
        p_up=stack("p_up"),
        p_up_se=stack("p_up_se"),
        first_knots=stack("first_knots"),
        first_weights=stack("first_weights"),
        sigma=stack("sigma"),
    )
