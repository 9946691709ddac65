"""Sampling closes that take several tokens each, and the forecaster that does it.

Every path walks the codec's grammar (`codecs.grammar`): forbidden tokens are masked before each draw, so every sample
is exactly H closes. Where tokens in order are prices in order (digits), one uniform number draws a whole close, as in
arithmetic coding: it selects the first token by inverse CDF, where it fell within that token's share selects the next,
and what is left after the last one spreads the close within its cell. So a close is stratified and moves smoothly with
the model, and its uniforms are those of the one-token codecs. Where order means nothing (text), a last-bit difference
in a logit would grow from token to token until it wrote another price, so each token has a uniform of its own.

Nothing is exact here: the distribution of the first close is spread over as many forward passes as it has spellings.
Means, quantiles and probabilities are those of the paths, with the Monte Carlo error of plain draws.

Windows are run one by one, as their texts differ in length; so a forecast cannot depend on what else is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from forecasting import distributions
from forecasting.codecs.codec import Codec
from forecasting.codecs.grammar import Grammar
from forecasting.decoder import Decoder, DecoderWeights, Product
from forecasting.forecaster import Prediction, Progress, identity
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from forecasting.sampler import SamplingOptions, TokenModel, chances_of
from forecasting.scale import Volatility
from forecasting.tiles import Tiling, in_tiles
from forecasting.uniforms import group_size, over_groups, uniforms
from forecasting.windows import Contexts, WindowSpec


class SpellingState(Protocol):
    """What every spelling codec's state tells, [N]: last close and volatility state."""

    @property
    def close(self) -> np.ndarray:
        """The last close encoded."""
        ...

    @property
    def volatility(self) -> Volatility:
        """State of the volatility after it."""
        ...


class SpellingCodec(Codec, Protocol):
    """A codec of several tokens a close; `codecs.digits` and `codecs.text` say what each method does."""

    @property
    def grammar(self) -> Grammar:
        """Which token may come next."""
        ...

    @property
    def draws(self) -> int:
        """Uniform numbers for the tokens of a close; the tokens beyond go on with what is left of the last one."""
        ...

    def closes_of(self, ids: Any, parts: np.ndarray, state: Any) -> np.ndarray:
        """Closes of S paths of one window, [S, H]; ids of each path, parts [S, H], state of that window."""
        ...

    def fit(self, ids: np.ndarray, room: int) -> np.ndarray:
        """One window's ids, shortened to `room` where the codec allows it; else ConfigError."""
        ...


@dataclass(frozen=True)
class Spelled:
    """Paths of one window as tokens.

    tokens int64 [S, T]: model ids, of which the first `lengths` [S] count; parts float64 [S, H]: where in the last
    token's share each close's uniform fell.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    parts: np.ndarray

    def ids(self) -> list[np.ndarray]:
        """Tokens of each path."""
        return [row[:length] for row, length in zip(self.tokens, self.lengths.tolist(), strict=True)]


def narrow(weights: DecoderWeights, grammar: Grammar) -> DecoderWeights:
    """The same model with logits for the grammar's tokens only; a full head is a third of the smallest GPT-2."""
    everyone = torch.eye(weights.width).to(weights.tokens)
    head = weights.head(everyone)[:, torch.from_numpy(grammar.ids).to(everyone.device)]
    return replace(weights, head=Product(head))


def spelling_decoders(
    weights: DecoderWeights, codec: SpellingCodec, paths: int, horizon: int
) -> Callable[[], TokenModel]:
    """Maker of decoders for one thread each, whose logits are those of the codec's grammar."""
    narrowed, steps = narrow(weights, codec.grammar), codec.most_tokens(horizon) - 1
    return lambda: Decoder(narrowed, paths, steps)


def spelling_forecaster(
    model_sha: str, weights: DecoderWeights, codec: SpellingCodec, spec: WindowSpec, options: SamplingOptions
) -> "SpellingForecaster":
    """The forecaster of a model; what its prefix takes up is not open to the context."""
    make = spelling_decoders(weights, codec, options.paths, spec.horizon)
    return SpellingForecaster(model_sha, codec, spec.context, weights.room, options, make)


def masked_chances(logits: Tensor, allowed: Tensor) -> Tensor:
    """`sampler.chances_of` of allowed tokens only; logits and allowed [..., A]."""
    return chances_of(torch.where(allowed, logits, -torch.inf))


def draw(chances: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse CDF: token of positive probability and where in its share the uniform falls, [S] each; chances [S, A]."""
    below = torch.cumsum(chances, dim=1)
    total = below[:, -1]
    wanted = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    token = torch.searchsorted(below, wanted[:, None], right=True)
    inside = chances.gather(1, token)[:, 0]
    part = (wanted - below.gather(1, token)[:, 0] + inside) / inside
    return token[:, 0], part.clamp_(0, 1)


def spell(model: TokenModel, ids: np.ndarray, grammar: Grammar, uniform: np.ndarray, most: int) -> Spelled:
    """Paths of one window: ids [L], uniform [H, draws, S], at most `most` tokens a path.

    `model` gives logits of the grammar's tokens and takes ids of its own. Paths that are done step on with a token of
    no consequence until all are.
    """
    horizon, draws, size = uniform.shape
    needs, following, ends = grammar.tables
    names, fresh = torch.from_numpy(grammar.ids), torch.from_numpy(uniform)
    path = torch.arange(size)
    state, done = torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.int64)
    lengths, parts = torch.zeros(size, dtype=torch.int64), torch.full((horizon, size), 0.5, dtype=torch.float64)
    place, rest, steps = torch.zeros(size, dtype=torch.int64), fresh[0, 0], []
    logits = model.start(torch.from_numpy(ids)[None]).cpu()[:, None].expand(-1, size, -1)[0]
    while True:
        left = (horizon - done).clamp_min(1)
        token, rest = draw(masked_chances(logits, needs[state] <= left[:, None]), rest)
        writing = done < horizon
        ended = torch.where(writing, ends[state, token], 0)
        ending = ended > 0
        parts[done[ending], path[ending]] = rest[ending]
        steps.append(names[token])
        lengths += writing
        done, state = done + ended, following[state, token]
        if bool((done >= horizon).all()):
            break
        if len(steps) == most:
            raise AssertionError(f"a path of {horizon} closes took more than {most} tokens")
        place = torch.where(ending, 0, place + 1)
        own = fresh[done.clamp_max(horizon - 1), place.clamp_max(draws - 1), path]
        rest = torch.where(place < draws, own, rest)
        logits = model.advance(steps[-1][None]).cpu()[0]
    return Spelled(torch.stack(steps, dim=1).numpy(), lengths.numpy(), parts.T.numpy())


def at(state: Any, window: int) -> Any:
    """A codec's state of one window, each field [1]."""
    one = slice(window, window + 1)
    values = {name: getattr(state, name) for name in type(state).__dataclass_fields__}
    values["volatility"] = Volatility(state.volatility.totals[:, one], state.volatility.count)
    return type(state)(**{name: value if name == "volatility" else value[one] for name, value in values.items()})


@dataclass(frozen=True)
class SpellingForecaster:
    """A language model that spells closes, rolled forward; behind the `Forecaster` protocol.

    model_sha: hash of the model alone. context: closes that become tokens, C. positions: most tokens the model reads.
    make_model: see `spelling_decoders`.
    """

    model_sha: str
    codec: SpellingCodec
    context: int
    positions: int
    options: SamplingOptions
    make_model: Callable[[], TokenModel]

    @property
    def sha(self) -> str:
        """See `forecaster.identity`."""
        return identity(self.model_sha, self.codec, self.context, self.options)

    @property
    def warm_up(self) -> int:
        """Closes before the context."""
        return self.codec.warm_up

    def predict(self, contexts: Contexts, progress: Progress | None = None) -> Prediction:
        """Sample every context; all figures are those of the paths, quantiles at rank p (S + 1)."""
        paths, state = self._paths(contexts, progress)
        anchor = np.ascontiguousarray(contexts.closes[:, -1])
        group, by_step = group_size(self.options.paths), torch.from_numpy(paths).permute(2, 0, 1)
        mean, mean_se = over_groups(by_step)
        p_up, p_up_se = over_groups((torch.sign(by_step - torch.from_numpy(anchor)[:, None]) + 1) / 2)
        forecasts = Forecasts(
            unique_id=contexts.unique_id,
            cutoff=contexts.cutoffs,
            ds=contexts.ahead,
            anchor=anchor,
            sigma=state.volatility.sigma(self.codec.scale),
            mean=mean,
            mean_se=mean_se,
            quantiles=np.quantile(paths, np.asarray(QUANTILE_LEVELS), axis=1, method="weibull").transpose(1, 0, 2),
            p_up=p_up,
            p_up_se=p_up_se,
            input_sha=contexts.hashes(),
        )
        return Prediction(
            forecasts,
            crps=lambda y: distributions.fair_crps(paths, y, group),
            crps_noise=lambda y: distributions.crps_noise(paths, y, group),
            paths=paths,
        )

    def _paths(self, contexts: Contexts, progress: Progress | None) -> tuple[np.ndarray, SpellingState]:
        """Sampled closes [N, S, H] and the state of the N windows."""
        horizon = contexts.ahead.shape[1]
        self.codec.check_windows(self.context, horizon)
        most, draws = self.codec.most_tokens(horizon), self.codec.draws
        rows, state = self.codec.encode(contexts.closes, contexts.times, self.context)
        fitted = [self.codec.fit(row, self.positions - most + 1) for row in rows]
        paths = np.empty((len(fitted), self.options.paths, horizon))

        def work(model: TokenModel, tile: range) -> None:
            i, size = tile.start, self.options.paths
            uniform = uniforms(self.options.seed, contexts.unique_id, contexts.cutoffs[i], size, horizon * draws)
            drawn = spell(model, fitted[i], self.codec.grammar, uniform.reshape(horizon, draws, size), most)
            paths[i] = self.codec.closes_of(drawn.ids(), drawn.parts, at(state, i))

        in_tiles(len(fitted), Tiling(1, self.options.workers), self.make_model, work, progress=progress)
        return paths, state
