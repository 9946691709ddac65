"""The decode engine: one context, many paths, and the exact arithmetic of what they imply.

Step 1 is exact: the softmax is the predictive distribution. Later steps average, over paths, conditional distributions
rather than draws. The mean of step h is the anchor plus the sum over steps of each path's expected *move*: a path's own
drift away from the anchor is noise with mean zero and is never averaged, so the Monte Carlo error is that of the
predictable part alone.

Uniforms are counter-based, keyed by (sampling seed, series, cutoff, path, step), so a forecast depends on nothing else
that was sampled, and all methods share them. Paths come in stratified groups; groups are independent.

Big jobs roll windows in tiles of four: more arithmetic for each call into torch, which matters most where threads share
one interpreter lock. A tile must not change a byte: before the first, one is compared with its windows rolled alone,
and where the libraries of a machine make them differ, windows go one by one.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from forecasting.codecs import BinsCodec
from forecasting.codecs.bins import LEAST_RATIO
from forecasting.decoder import Decoder, DecoderWeights
from forecasting.errors import ConfigError
from forecasting.files import sha256_of
from forecasting.scale import Volatility
from forecasting.windows import Contexts

GROUPS = 4
"""Fewest independent groups of paths: their spread is the Monte Carlo error."""

TILE_ROWS = 256
"""Most paths in a tile: enough to make calls into torch cheap, few enough for a core's own cache."""

FIRST_STEP_ROWS = 1024
"""Most tokens in a tile of contexts."""


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample.

    paths: per window, a multiple of 2. seed: of the uniforms, apart from any training seed. threads: tiles at once
    (0: one per core). chunk: windows whose paths an evaluation holds at once. Results depend on neither of the latter.
    """

    paths: int = 64
    seed: int = 1
    threads: int = 0
    chunk: int = 256

    def __post_init__(self) -> None:
        if not 4 <= self.paths <= 65_536 or self.paths % 2:
            raise ConfigError(f"sampling.paths is {self.paths}; give an even number from 4 to 65536")
        if self.threads < 0:
            raise ConfigError(f"sampling.threads is {self.threads}; give 0 (one per core) or a positive number")
        if not 1 <= self.chunk <= 1_000_000:
            raise ConfigError(f"sampling.chunk is {self.chunk}; give a number of windows from 1 to 1000000")

    @property
    def workers(self) -> int:
        """Threads to use."""
        asked = os.environ.get("TUNETRADE_THREADS", "0")
        if not asked.isdecimal():
            raise ConfigError(f"TUNETRADE_THREADS is {asked!r}; give 0 (one per core) or a positive number")
        return self.threads or int(asked) or os.cpu_count() or 1


@dataclass(frozen=True)
class Samples:
    """What was drawn and what it implies, for N windows, S paths, H steps and K segments; prices float64.

    paths [N, S, H]; mean, mean_se, p_up, p_up_se [N, H]; first_knots [N, K + 1] and first_weights [N, K], the exact
    distribution of step 1; sigma [N] at step 1.
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
    """What the sampler asks of a model, a tile of windows at a time."""

    def start(self, ids: Tensor) -> Tensor:
        """Logits [windows, V] after the contexts, ids int64 [windows, C]."""
        ...

    def advance(self, ids: Tensor) -> Tensor:
        """Logits [windows, S, V] after one more token on each path, ids int64 [windows, S]."""
        ...


class UniformTokens:
    """The model that has learnt nothing: quantile bins equally likely, which is EWMA volatility with t innovations."""

    def __init__(self, vocabulary: int, paths: int) -> None:
        self._first = torch.zeros(vocabulary)
        self._later = torch.zeros(paths, vocabulary)

    def start(self, ids: Tensor) -> Tensor:
        """Equal logits, [windows, V]."""
        return self._first.expand(len(ids), -1)

    def advance(self, ids: Tensor) -> Tensor:
        """Equal logits, [windows, S, V]."""
        return self._later.expand(len(ids), -1, -1)


def gpt2_decoders(weights: DecoderWeights, paths: int, horizon: int) -> Callable[[], TokenModel]:
    """Maker of decoders for one thread each."""
    return lambda: Decoder(weights, paths, horizon - 1)


def group_size(paths: int) -> int:
    """Paths drawn together: the most of 16, 8, 4 that leaves GROUPS independent groups, else an antithetic pair."""
    return next((size for size in (16, 8, 4) if paths % size == 0 and paths >= GROUPS * size), 2)


def uniforms(seed: int, unique_id: str, cutoff: np.datetime64, paths: int, horizon: int) -> np.ndarray:
    """Uniform numbers in (0, 1), float64 [H, S]; a step's do not depend on how many steps are asked for.

    Philox (Salmon 2011) keyed by a hash of seed, series and cutoff, counter = step. Groups of `group_size` paths are
    independent of each other. Within a group each step is stratified (a Latin hypercube, McKay 1979): every stratum is
    drawn from once, in pairs u and 1 - u, in an order of the step's own, so each path by itself is uniform and
    independent from step to step.
    """
    key = int(sha256_of(f"{seed}|{unique_id}|{cutoff.astype('datetime64[ns]').astype(np.int64)}")[:32], 16)
    size = group_size(paths)
    groups, pairs = paths // size, size // 2
    draws = np.empty((horizon, groups, pairs, 2))
    for step in range(horizon):
        words = np.random.Philox(key=key, counter=step << 128).random_raw(groups * 3 * pairs).reshape(groups, 3, pairs)
        within = ((words[:, 0] >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        lower = (np.argsort(words[:, 1], axis=1) + within) / size
        mirrored = (words[:, 2] >> np.uint64(63)).astype(bool)
        draws[step, :, :, 0] = np.where(mirrored, 1 - lower, lower)
    draws[..., 1] = 1 - draws[..., 0]
    return draws.reshape(horizon, paths)


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
    tables = _Tables.of(codec)
    windows: list[_Window | None] = [None] * len(contexts)
    reporting = threading.Lock()

    def roll(model: TokenModel, tile: range) -> list[_Window]:
        at = slice(tile.start, tile.stop)
        draws = [uniforms(options.seed, contexts.unique_id, contexts.cutoffs[i], options.paths, steps) for i in tile]
        volatility = Volatility(state.volatility.totals[:, at], state.volatility.count)
        return _roll(model, ids[at], volatility, state.close[at], factors[at], np.stack(draws, axis=1), tables)

    def work(tiles: Iterator[range]) -> None:
        model = make_model()
        for tile in tiles:
            windows[tile.start : tile.stop] = roll(model, tile)
            if progress:
                with reporting:
                    progress(len(tile))

    def alike(tile: range) -> bool:
        model = make_model()
        alone = [roll(model, range(i, i + 1))[0] for i in tile]
        return all(one.same_bytes(other) for one, other in zip(alone, roll(model, tile), strict=True))

    size = max(1, TILE_ROWS // options.paths)
    _in_tiles(len(contexts), size, options.workers, work, alike, (make_model, (options.paths, context, steps)))
    return _gather([window for window in windows if window is not None])


@dataclass(frozen=True)
class FirstStep:
    """Exact distributions of the next close, for N windows and K segments: knots [N, K + 1], weights [N, K]."""

    knots: np.ndarray
    weights: np.ndarray


def first_step(
    contexts: Contexts,
    codec: BinsCodec,
    make_model: Callable[[], TokenModel],
    context: int,
    options: SamplingOptions,
    progress: Callable[[int], None] | None = None,
) -> FirstStep:
    """The distribution of step 1 alone, byte for byte that of `sample`: one pass over the contexts and no paths."""
    ids, state = codec.encode(contexts.closes, contexts.times, context)
    sigma = state.volatility.sigma(codec.scale) * codec.factors(contexts.ahead[:, :1])[:, 0]
    result = FirstStep(np.empty((len(contexts), len(codec.knots))), np.empty((len(contexts), len(codec.segment_share))))
    reporting = threading.Lock()

    def chances(model: TokenModel, tile: range) -> Tensor:
        return _chances(model.start(torch.from_numpy(ids[tile.start : tile.stop])))

    def work(tiles: Iterator[range]) -> None:
        model = make_model()
        for tile in tiles:
            at = slice(tile.start, tile.stop)
            result.knots[at] = _knots(codec, state.close[at, None], sigma[at, None])
            result.weights[at] = _weights(codec, chances(model, tile).numpy())
            if progress:
                with reporting:
                    progress(len(tile))

    def alike(tile: range) -> bool:
        model = make_model()
        alone = torch.cat([chances(model, range(i, i + 1)) for i in tile])
        return torch.equal(alone, chances(model, tile))

    size = max(1, FIRST_STEP_ROWS // context)
    _in_tiles(len(contexts), size, options.workers, work, alike, (make_model, (0, context, 1)))
    return result


def _chances(logits: Tensor) -> Tensor:
    """Probabilities of tokens, float64."""
    return torch.softmax(logits.double(), dim=-1)


def _knots(codec: BinsCodec, close: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Bounds of the segments as prices, [..., K + 1]; close, sigma [..., 1]."""
    return np.asarray(close * np.maximum(1 + sigma * codec.knots, LEAST_RATIO))


def _weights(codec: BinsCodec, chance: np.ndarray) -> np.ndarray:
    """Probabilities of the segments, [..., K]; chance [..., V]."""
    return np.asarray(chance[..., codec.segment_token] * codec.segment_share)


def _in_tiles(
    count: int,
    size: int,
    workers: int,
    work: Callable[[Iterator[range]], None],
    alike: Callable[[range], bool],
    known_as: tuple[Callable[[], TokenModel], tuple[int, int, int]],
) -> None:
    """Have all windows worked on, in tiles of `size` where `alike(tile)` finds the bytes of its windows alone.

    `work` takes tiles from an iterator that all threads share. What `alike` found is remembered for the maker of models
    and shape of `known_as`.
    """
    workers = min(workers, max(1, count))
    with single_threaded_products(), torch.inference_mode():
        if size > 1 and count >= size * workers:
            maker, shape = known_as
            known = _AGREED.setdefault(maker, {})
            if shape not in known:
                known[shape] = alike(range(size))
            size = size if known[shape] else 1
        pending = iter(_tiles(count, size, workers))
        if workers == 1:
            work(pending)
        else:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                for done in [pool.submit(torch.inference_mode()(work), pending) for _ in range(workers)]:
                    done.result()


_AGREED: WeakKeyDictionary[Callable[[], TokenModel], dict[tuple[int, int, int], bool]] = WeakKeyDictionary()
"""For each maker of models and (paths, context, steps): does a tile give the bytes of its windows alone?"""


def _tiles(count: int, size: int, workers: int) -> list[range]:
    """Whole tiles, as many for each worker, then single windows; workers take the next as they become free."""
    whole = count // (size * workers) * size * workers
    tiles = [range(first, first + size) for first in range(0, whole, size)]
    return tiles + [range(i, i + 1) for i in range(whole, count)]


@contextmanager
def single_threaded_products() -> Iterator[None]:
    """One thread for each matrix product; of several the sums would differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Tables:
    """The codec's constants as tensors, and its density inside a token.

    Returns are counted in sigma. `ladder` [K + 1] runs through all tokens: token k spans k to k + 1, and a segment of
    it the part that is its share, so `k + v` is the point below which a part v of token k's probability lies.
    """

    codec: BinsCodec
    knots: Tensor
    centres: Tensor
    segment_token: Tensor
    ladder: Tensor

    @staticmethod
    def of(codec: BinsCodec) -> "_Tables":
        ladder = np.concatenate([[0.0], np.cumsum(codec.segment_share)])
        return _Tables(
            codec,
            torch.from_numpy(codec.knots),
            torch.from_numpy(codec.centres),
            torch.from_numpy(codec.segment_token),
            torch.from_numpy(ladder),
        )

    def value(self, token: Tensor, part: Tensor) -> Tensor:
        """Return in sigma below which `part` of the token's probability lies, [S]."""
        return _interpolate(token + part, self.ladder, self.knots)

    def part(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of `value`: the token that holds a return, and the part of its probability below, [S] each."""
        rung = _interpolate(value, self.knots, self.ladder)
        token = rung.floor().clamp_max(self.codec.bins - 1)
        return token.long(), rung - token


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Piecewise linear through (xs, ys), constant outside, [S]."""
    i = (torch.searchsorted(xs, x, right=True) - 1).clamp_(0, len(xs) - 2)
    part = ((x - xs[i]) / (xs[i + 1] - xs[i])).clamp_(0, 1)
    return ys[i] + part * (ys[i + 1] - ys[i])


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

    def same_bytes(self, other: "_Window") -> bool:
        """Whether all figures are the same to the last bit."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return all(np.asarray(one).tobytes() == np.asarray(two).tobytes() for one, two in pairs)


def _roll(
    model: TokenModel,
    ids: np.ndarray,
    volatility: Volatility,
    anchors: np.ndarray,
    factors: np.ndarray,
    uniform: np.ndarray,
    tables: _Tables,
) -> list[_Window]:
    """A tile of W windows: ids [W, C], volatility of W points, anchors [W], factors [W, H], uniform [H, W, S].

    Each path carries its own close and volatility; the paths of all windows are rows R = W S of one table.
    """
    steps, count, size = uniform.shape
    codec, scale = tables.codec, tables.codec.scale

    def on_paths(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.repeat(values, size, axis=-1))

    drawn, factor = torch.from_numpy(uniform.reshape(steps, -1)), on_paths(factors.T)
    totals, decays = on_paths(volatility.totals), torch.from_numpy(scale.decays)[:, None]
    anchor = close = on_paths(anchors)
    paths, moves, ups = (torch.empty((steps, count * size), dtype=torch.float64) for _ in range(3))
    logits = model.start(torch.from_numpy(ids))[:, None].expand(-1, size, -1)
    for h in range(steps):
        mean = sum(
            share * total for share, total in zip(scale.shares(volatility.count + h).tolist(), totals, strict=True)
        )
        sigma = (scale.unit * mean ** (1 / scale.power)).clamp_min_(codec.floor) * factor[h]
        chance = _chances(logits.reshape(count * size, -1))
        below = torch.cumsum(chance, dim=1)
        moves[h] = close * sigma * (chance @ tables.centres)
        ups[h] = 1 - _chance_below(tables, chance, below, (anchor / close - 1) / sigma)
        if h == 0:
            first_chance, first_sigma = chance[::size].numpy().copy(), sigma[::size].tolist()
        token, part = _draw(chance, below, drawn[h])
        new = close * (1 + sigma * tables.value(token, part)).clamp_min_(LEAST_RATIO)
        scaled = (new / close - 1) / factor[h]
        totals, close = decays * totals + scaled.abs() ** scale.power, new
        paths[h] = new
        if h + 1 < steps:
            logits = model.advance(token.view(count, size))
    windows = []
    for i, start in enumerate(anchors.tolist()):
        own = slice(i * size, (i + 1) * size)
        mean, mean_se = _over_groups(torch.cumsum(moves[:, own], 0))
        p_up, p_up_se = _over_groups(ups[:, own])
        mean_se[0] = p_up_se[0] = 0.0
        windows.append(
            _Window(
                paths=paths[:, own].T.numpy().copy(),
                mean=start + mean,
                mean_se=mean_se,
                p_up=p_up,
                p_up_se=p_up_se,
                first_knots=_knots(codec, np.array([start]), np.array([first_sigma[i]])),
                first_weights=_weights(codec, first_chance[i]),
                sigma=first_sigma[i],
            )
        )
    return windows


def _draw(chance: Tensor, below: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse CDF: the token each path takes, how far into it the uniform reaches, [S] each; chance, below [S, V]."""
    wanted = uniform * below[:, -1]
    token = torch.searchsorted(below, wanted[:, None], right=True).clamp_max_(chance.shape[1] - 1)
    inside = chance.gather(1, token)[:, 0]
    part = (wanted - below.gather(1, token)[:, 0] + inside) / inside.clamp_min(1e-300)
    return token[:, 0], part.clamp_(0, 1)


def _chance_below(tables: _Tables, chance: Tensor, below: Tensor, value: Tensor) -> Tensor:
    """P(return < value) on each path, [S]; value [S] in sigma."""
    token, part = tables.part(value)
    inside = chance.gather(1, token[:, None])[:, 0]
    return (below.gather(1, token[:, None])[:, 0] - (1 - part) * inside) / below[:, -1]


def _over_groups(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean over paths and its standard error from independent groups, [H] each; values [H, S]."""
    groups = values.reshape(len(values), -1, group_size(values.shape[1])).mean(2)
    error = groups.std(dim=1) / groups.shape[1] ** 0.5
    return groups.mean(1).numpy().copy(), error.numpy().copy()


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
