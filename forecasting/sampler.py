"""The decode engine: one context, many paths, and the exact arithmetic of what they imply.

Step 1 is exact: the softmax is the predictive distribution. Later steps average, over paths, conditional distributions
rather than draws. The mean of step h is the anchor plus the sum over steps of each path's expected *move*: a path's own
drift away from the anchor is noise with mean zero and is never averaged, so the Monte Carlo error is that of the
predictable part alone.

Uniforms are counter-based and shared by all methods (`uniforms`); windows go in tiles that change no byte (`tiles`).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from forecasting.codecs import BinsCodec
from forecasting.codecs.bins import LEAST_RATIO, BinState
from forecasting.decoder import Decoder, DecoderWeights
from forecasting.errors import CheckpointError, ConfigError
from forecasting.scale import Scale, Volatility
from forecasting.tiles import Tiling, in_tiles, rows_of
from forecasting.uniforms import over_groups, uniforms
from forecasting.windows import Contexts

TILE_ROWS = 256
"""Most paths in a tile: enough to make calls into torch cheap, few enough for a core's own cache."""

FIRST_STEP_ROWS = 1024
"""Most tokens in a tile of contexts."""

CUDA_ROWS = 16_384
"""Rows of a tile, either kind, on a CUDA device, which wants many."""

REGISTERS = 16
"""Float64 numbers in two of the widest vector registers."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Encoded = tuple[np.ndarray, BinState]
"""What `BinsCodec.encode` gives: tokens, and the state after them."""


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample.

    paths: per window, a multiple of 2. seed: of the uniforms, apart from any training seed. threads: tiles at once
    (0: one per core). chunk: windows whose paths an evaluation holds at once. Results depend on neither of the latter.
    device: `cpu` or `cuda`. precision: of the model, `float32` or `bfloat16`; probabilities are float64 either way.
    """

    paths: int = 64
    seed: int = 1
    threads: int = 0
    chunk: int = 256
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not 4 <= self.paths <= 65_536 or self.paths % 2:
            raise ConfigError(f"sampling.paths is {self.paths}; give an even number from 4 to 65536")
        if self.threads < 0:
            raise ConfigError(f"sampling.threads is {self.threads}; give 0 (one per core) or a positive number")
        if not 1 <= self.chunk <= 1_000_000:
            raise ConfigError(f"sampling.chunk is {self.chunk}; give a number of windows from 1 to 1000000")
        if self.device not in ("cpu", "cuda"):
            raise ConfigError(f"sampling.device is {self.device!r}; give 'cpu' or 'cuda'")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"sampling.precision is {self.precision!r}; give one of {', '.join(PRECISIONS)}")

    def tiling(self, rows: int, each: int) -> Tiling:
        """Tiles of about `rows` rows, a window having `each`; a CUDA device takes larger ones, one at a time."""
        if self.device == "cuda":
            return Tiling(max(1, CUDA_ROWS // each), 1, whole=True)
        return Tiling(max(1, rows // each), self.workers)

    def check_device(self) -> None:
        """ConfigError where this machine lacks the device."""
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("sampling.device is 'cuda', and torch finds no CUDA device here; give 'cpu'")

    def place(self, weights: DecoderWeights) -> DecoderWeights:
        """The weights where and as precise as asked; ConfigError where this machine lacks the device."""
        self.check_device()
        return weights.to(torch.device(self.device), PRECISIONS[self.precision])

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

    @staticmethod
    def empty(windows: int, paths: int, steps: int, codec: BinsCodec) -> "Samples":
        """Room for so many windows."""
        shapes: dict[str, tuple[int, ...]] = {"paths": (windows, paths, steps), "sigma": (windows,)}
        shapes |= dict.fromkeys(("mean", "mean_se", "p_up", "p_up_se"), (windows, steps))
        shapes |= {"first_knots": (windows, len(codec.knots)), "first_weights": (windows, len(codec.segment_share))}
        return Samples(**{name: np.empty(shape) for name, shape in shapes.items()})

    def put(self, tile: range, part: "Samples") -> None:
        """Write a part in its place, as far as there is one."""
        for field in fields(self):
            room = getattr(self, field.name)[tile.start : tile.stop]
            room[:] = getattr(part, field.name)[: len(room)]

    def same_bytes(self, other: "Samples") -> bool:
        """Whether all figures are the same to the last bit."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return all(one.tobytes() == two.tobytes() for one, two in pairs)


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


def sample(
    contexts: Contexts,
    codec: BinsCodec,
    make_model: Callable[[], TokenModel],
    context: int,
    options: SamplingOptions,
    progress: Callable[[int], None] | None = None,
    encoded: Encoded | None = None,
) -> Samples:
    """Draw paths for every window.

    `context` closes (C) become tokens; `encoded` holds them where the caller has them already. `progress(n)` is called
    as windows finish, with their number. The bytes of each window's result depend on its own context and the options'
    seed and paths only.
    """
    steps = contexts.ahead.shape[1]
    ids, state = encoded or codec.encode(contexts.closes, contexts.times, context)
    factors = codec.factors(contexts.ahead)
    result = Samples.empty(len(contexts), options.paths, steps, codec)

    def roll(model: TokenModel, tile: range) -> Samples:
        at = rows_of(tile, len(contexts))
        draws = [uniforms(options.seed, contexts.unique_id, contexts.cutoffs[i], options.paths, steps) for i in at]
        volatility = Volatility(state.volatility.totals[:, at], state.volatility.count)
        return _roll(model, ids[at], volatility, state.close[at], factors[at], np.stack(draws, axis=1), codec)

    def work(model: TokenModel, tile: range) -> None:
        result.put(tile, roll(model, tile))

    def alike(model: TokenModel, tile: range) -> bool:
        alone = Samples.empty(len(tile), options.paths, steps, codec)
        for i in tile:
            alone.put(range(i, i + 1), roll(model, range(i, i + 1)))
        return alone.same_bytes(roll(model, tile))

    tiling = options.tiling(TILE_ROWS, options.paths)
    in_tiles(len(contexts), tiling, make_model, work, alike, (options.paths, context, steps), progress)
    return result


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
    """The distribution of step 1 alone: one pass over the contexts and no paths.

    On a CPU it is byte for byte that of `sample`. It is for those who score densities, as benchmarks/decode.py does;
    forecasters need every step, the first included, and take them all from `sample`.
    """
    ids, state = codec.encode(contexts.closes, contexts.times, context)
    sigma = _sigma(codec.scale, torch.from_numpy(state.volatility.totals), state.volatility.count).numpy()
    sigma = sigma * codec.factors(contexts.ahead[:, :1])[:, 0]
    result = FirstStep(np.empty((len(contexts), len(codec.knots))), np.empty((len(contexts), len(codec.segment_share))))

    def chances(model: TokenModel, tile: range) -> Tensor:
        return chances_of(model.start(torch.from_numpy(ids[rows_of(tile, len(contexts))]))).cpu()

    def work(model: TokenModel, tile: range) -> None:
        at = slice(tile.start, tile.stop)
        result.knots[at] = _knots(codec, state.close[at, None], sigma[at, None])
        result.weights[at] = _weights(codec, chances(model, tile).numpy())[: len(result.weights[at])]

    def alike(model: TokenModel, tile: range) -> bool:
        alone = torch.cat([chances(model, range(i, i + 1)) for i in tile])
        return torch.equal(alone, chances(model, tile))

    tiling = options.tiling(FIRST_STEP_ROWS, context)
    in_tiles(len(contexts), tiling, make_model, work, alike, (0, context, 1), progress)
    return result


def chances_of(logits: Tensor) -> Tensor:
    """Probabilities of tokens, float64 [..., V].

    CheckpointError where the model says nothing of them: NaN, or infinities that leave no probability. Either makes all
    of a softmax NaN, so that its first entry tells.
    """
    found = torch.softmax(logits.double(), dim=-1)
    if torch.isnan(found[..., 0]).any():
        raise CheckpointError("the model's logits are NaN or infinite, so no token can be drawn; train it anew")
    return found


def _sigma(scale: Scale, totals: Tensor, count: int) -> Tensor:
    """`Volatility.sigma` in torch's arithmetic, [R]; totals [K, R] after `count` returns."""
    mean = sum(share * total for share, total in zip(scale.shares(count).tolist(), totals, strict=True))
    return (scale.unit * _power(mean, 1 / scale.power)).clamp_min_(scale.floor)


def _power(base: Tensor, exponent: float) -> Tensor:
    """A power, [R], of the same bytes wherever an element of `base` [R] stands.

    On a CPU torch takes two vector registers at a time and works out what is left of the last two in another way.
    """
    full: Tensor = F.pad(base, (0, -len(base) % REGISTERS)) ** exponent
    return full[: len(base)]


def _knots(codec: BinsCodec, close: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Bounds of the segments as prices, [..., K + 1]; close, sigma [..., 1]."""
    return np.asarray(close * np.maximum(1 + sigma * codec.knots, LEAST_RATIO))


def _weights(codec: BinsCodec, chance: np.ndarray) -> np.ndarray:
    """Probabilities of the segments, [..., K]; chance [..., V]."""
    return np.asarray(chance[..., codec.segment_token] * codec.segment_share)


@dataclass(frozen=True)
class _Tables:
    """The codec's constants as tensors, and its density inside a token.

    Returns are counted in sigma. `ladder` [K + 1] runs through all tokens: token k spans k to k + 1, and a segment of
    it the part that is its share, so `k + v` is the point below which a part v of token k's probability lies.
    """

    codec: BinsCodec
    knots: Tensor
    centres: Tensor
    ladder: Tensor

    @staticmethod
    def of(codec: BinsCodec, device: torch.device) -> "_Tables":
        ladder = np.concatenate([[0.0], np.cumsum(codec.segment_share)])
        return _Tables(codec, *(torch.from_numpy(values).to(device) for values in (codec.knots, codec.centres, ladder)))

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


def _roll(
    model: TokenModel,
    ids: np.ndarray,
    volatility: Volatility,
    anchors: np.ndarray,
    factors: np.ndarray,
    uniform: np.ndarray,
    codec: BinsCodec,
) -> Samples:
    """A tile of W windows: ids [W, C], volatility of W points, anchors [W], factors [W, H], uniform [H, W, S].

    Each path carries its own close and volatility; the paths of all windows are rows R = W S of one table, which lies
    where the model's logits do.
    """
    steps, count, size = uniform.shape
    scale = codec.scale
    logits = model.start(torch.from_numpy(ids))[:, None].expand(-1, size, -1)
    device = logits.device
    tables = _Tables.of(codec, device)

    def on_paths(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.repeat(values, size, axis=-1)).to(device)

    drawn, factor = torch.from_numpy(uniform.reshape(steps, -1)).to(device), on_paths(factors.T)
    totals, decays = on_paths(volatility.totals), torch.from_numpy(scale.decays).to(device)[:, None]
    anchor = close = on_paths(anchors)
    paths, moves, ups = (torch.empty((steps, count * size), dtype=torch.float64, device=device) for _ in range(3))
    for h in range(steps):
        sigma = _sigma(scale, totals, volatility.count + h) * factor[h]
        chance = chances_of(logits.reshape(count * size, -1))
        below = torch.cumsum(chance, dim=1)
        moves[h] = _expected_moves(tables, chance, close, sigma)
        ups[h] = 1 - _chance_below(tables, chance, below, (anchor / close - 1) / sigma)
        if h == 0:
            first_chance, first_sigma = (values[::size].cpu().numpy().copy() for values in (chance, sigma))
        token, part = _draw(chance, below, drawn[h])
        new = close * (1 + sigma * tables.value(token, part)).clamp_min_(LEAST_RATIO)
        scaled = (new / close - 1) / factor[h]
        totals, close = decays * totals + _power(scaled.abs(), scale.power), new
        paths[h] = new
        if h + 1 < steps:
            logits = model.advance(token.view(count, size))
    mean, mean_se = over_groups(torch.cumsum(moves, 0).view(steps, count, size))
    p_up, p_up_se = over_groups(ups.view(steps, count, size))
    mean_se[:, 0] = p_up_se[:, 0] = 0.0
    return Samples(
        paths=paths.view(steps, count, size).permute(1, 2, 0).cpu().numpy(),
        mean=anchors[:, None] + mean,
        mean_se=mean_se,
        p_up=p_up,
        p_up_se=p_up_se,
        first_knots=_knots(codec, anchors[:, None], first_sigma[:, None]),
        first_weights=_weights(codec, first_chance),
        sigma=first_sigma,
    )


def _expected_moves(tables: _Tables, chance: Tensor, close: Tensor, sigma: Tensor) -> Tensor:
    """Expected change of price on each path, [S]: where the far tail reaches the least price, that of what is left."""
    moves = close * sigma * (chance @ tables.centres)
    cut = 1 + sigma * tables.knots[0] < LEAST_RATIO
    if cut.any():
        before = close[cut, None].cpu().numpy()
        change = _knots(tables.codec, before, sigma[cut, None].cpu().numpy()) - before
        weights = _weights(tables.codec, chance[cut].cpu().numpy())
        moves[cut] = torch.from_numpy((weights * (change[:, :-1] + change[:, 1:]) / 2).sum(axis=1)).to(moves)
    return moves


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
