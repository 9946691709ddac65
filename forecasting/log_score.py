"""Log density of the closes that came, in one unit for all codecs: per simple return close / previous close - 1.

Losses in nats per token cannot be compared: codecs cut prices into different numbers of tokens, and the tokens into
cells of different width. A cell's probability divided by its width in return is a density, and densities compare across
codecs, instruments and bar lengths. All is teacher-forced: the model reads the true closes before each one it scores.

A close outside a codec's range has density 0, so its log score is -inf; `summary` never hides it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from forecasting.codecs import AnyCodec, BinsCodec, DigitsCodec, TextCodec
from forecasting.codecs.bins import returns_of
from forecasting.codecs.digits import slope_of
from forecasting.errors import ConfigError
from forecasting.scale import causal_sigma
from forecasting.tiles import single_threaded_products
from forecasting.windows import Contexts

AllLogits = Callable[[Tensor], Tensor]
"""Logits of the next token at every position, [L, V], of ids int64 [L]: `lambda ids: model(ids[None]).logits[0]`."""


@dataclass(frozen=True)
class LogScore:
    """Mean over closes within range, nats per close, higher is better; share of closes outside it; number of closes."""

    mean: float
    outside: float
    closes: int


def summary(scores: np.ndarray) -> LogScore:
    """Mean and share of log scores [N, H]; NaN, a close not yet known, does not count."""
    known = scores[~np.isnan(scores)]
    within = known[known > -np.inf]
    return LogScore(
        mean=float(within.mean()) if len(within) else float("nan"),
        outside=float(1 - len(within) / len(known)) if len(known) else float("nan"),
        closes=len(known),
    )


def log_scores(
    model: AllLogits, codec: AnyCodec, contexts: Contexts, y: np.ndarray, context: int, positions: int = 0
) -> np.ndarray:
    """Log density of each close that came, [N, H], in nats per unit of simple return; y [N, H], all known.

    positions: those of the model, to which the contexts of `text` are cut as in a forecast; 0 does not cut.
    """
    if not np.isfinite(y).all():
        raise ConfigError("a log score was asked for closes not yet known; leave out windows whose targets are missing")
    closes = np.concatenate([contexts.closes, y], axis=1)
    times = np.concatenate([contexts.times, contexts.ahead], axis=1)
    horizon = y.shape[1]
    with single_threaded_products(), torch.inference_mode():
        if isinstance(codec, BinsCodec):
            return bins_log_density(model, codec, closes, times, context, horizon)
        if isinstance(codec, DigitsCodec):
            return digits_log_density(model, codec, closes, context, horizon)
        return text_log_density(model, codec, closes, context, horizon, positions)


def bins_log_density(
    model: AllLogits, codec: BinsCodec, closes: np.ndarray, times: np.ndarray, context: int, horizon: int
) -> np.ndarray:
    """Bins: log p(token) + log(segment's share of it) - log(segment's width * sigma * factor), [N, H].

    closes, times [N, M + C + H]. An inner bin is one segment, an outer bin the pieces of its tail.
    """
    ids, _ = codec.encode(closes, times, context + horizon)
    factors = codec.factors(times[:, 1:])
    scaled = returns_of(np.ascontiguousarray(closes)) / factors
    sigma, _ = causal_sigma(scaled, codec.scale)
    unit, scaled = (sigma * factors)[:, -horizon:], (scaled / sigma)[:, -horizon:]
    segment = np.searchsorted(codec.knots, scaled, side="right") - 1
    outside = (segment < 0) | (segment >= len(codec.segment_share))
    segment = np.clip(segment, 0, len(codec.segment_share) - 1)
    inner = np.log(codec.segment_share / np.diff(codec.knots))[segment] - np.log(unit)
    chosen = np.stack([_chosen(model(torch.from_numpy(row[:-1]))[context - 1 :], row[context:]) for row in ids])
    return np.where(outside, -np.inf, chosen + inner)


def digits_log_density(
    model: AllLogits, codec: DigitsCodec, closes: np.ndarray, context: int, horizon: int
) -> np.ndarray:
    """Digits: sum of log p(digit) - log(cell * slope * anchor / previous close), [N, H]; closes [N, M + C + H].

    `cell` is the change of one unit of the last digit since the anchor, 2 reach sigma sqrt(length) / 10^D; `slope` what
    a change moves the price there, 1 down to half the anchor (`codecs.digits.ratio_of`).
    """
    past, state = codec.encode(closes[:, :-horizon], np.empty(0), context)
    wanted, outside = codec.write(closes[:, -horizon:], state)
    first, names = past.shape[1], codec.grammar.ids
    chosen = np.stack(
        [
            _chosen(model(torch.from_numpy(row[:-1]))[first - 1 :, names], row[first:])
            for row in np.concatenate([past, wanted], axis=1)
        ]
    )
    slope = slope_of(closes[:, -horizon:] / state.anchor[:, None])
    width = state.cell[:, None] * slope * state.anchor[:, None] / closes[:, -horizon - 1 : -1]
    score = chosen.reshape(len(closes), horizon, codec.digits).sum(axis=2) - np.log(width)
    return np.where(outside, -np.inf, score)


def text_log_density(
    model: AllLogits, codec: TextCodec, closes: np.ndarray, context: int, horizon: int, positions: int = 0
) -> np.ndarray:
    """Text: sum of log p(token) over a close's tokens - log(point / previous close), [N, H]; closes [N, M + C + H].

    p is the softmax over what the grammar allows. Only the tokenizer's own way of writing a close counts; the mass on
    other cuts of the same text (` 1.` `0` `8` for ` 1.08`) is lost, so the density is a lower bound of what sampling
    draws. Without decimals a close ends where a space follows, and the chance of that space belongs to it.
    """
    grammar, start = codec.grammar, 0
    column = {name: i for i, name in enumerate(grammar.ids.tolist())}
    allowed = torch.from_numpy(grammar.needs <= 1)
    scores = np.empty((len(closes), horizon))
    for n, row in enumerate(closes[:, -context - horizon :]):
        words = [codec.tokenize(text) for text in codec.write(row)]
        past = np.array([i for word in words[:context] for i in word])
        if positions:
            past = codec.fit(past, positions - codec.most_tokens(horizon) + 1)
        ids = torch.tensor([*past.tolist(), *(i for word in words[context:] for i in word)])
        logits = model(ids if codec.digits == 0 else ids[:-1])[:, grammar.ids].double()
        place = len(past) - 1
        for h, word in enumerate(words[context:]):
            total, state = 0.0, start
            for name in word:
                ways = torch.where(allowed[state], logits[place], -torch.inf)
                total += float(ways[column[name]] - torch.logsumexp(ways, 0))
                state, place = int(grammar.following[state, column[name]]), place + 1
            if codec.digits == 0:
                ending = [torch.where(allowed[s], logits[place], -torch.inf) for s in (start, state)]
                total += float(torch.logsumexp(ending[0], 0) - torch.logsumexp(ending[1], 0))
            scores[n, h] = total
    return scores - np.log(codec.point / closes[:, -horizon - 1 : -1])


def _chosen(logits: Tensor, ids: np.ndarray) -> np.ndarray:
    """Log probability of each token, [L]; logits [L, V], ids [L]."""
    return np.asarray(torch.log_softmax(logits.double(), dim=1)[torch.arange(len(ids)), torch.from_numpy(ids)])
