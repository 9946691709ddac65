"""How the embedded digits base comes to be: the recipe of `pretrain`, closes spelled as digits.

Corpus, simulated series, schedule and averaging are those of the bins base. A row is a window as a forecast has it:
warm-up closes give anchor and unit, the closes after them become tokens. Half the rows are reflected about their
anchor, so the base cannot learn that rates rise. Targets are not smeared: digits that are neighbours in price need not
share a single digit.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from forecasting.base import EMBEDDED_DIGITS, save_base
from forecasting.base.pretrain import (
    FIRST_DAY,
    SIMULATIONS,
    Card,
    Corpus,
    PretrainOptions,
    Report,
    crosses,
    day_after,
    fit,
    new_gpt2,
    next_token_loss,
    outcome,
    simulations,
    spans_of,
)
from forecasting.codecs.digits import DigitsCodec
from forecasting.errors import ConfigError
from forecasting.files import sha256_of

RECIPE = PretrainOptions(steps=1500, synthetic=0.5, learning_rate=1e-3, average=0.995)
"""The committed base's. It must first learn what a number is, so it takes more and larger steps than the bins base."""

WINDOWS = 6
"""Windows that fit into a simulated series, end to end."""


@dataclass(frozen=True)
class Histories:
    """Closes of many series end to end, float64 [T], each with the warm-up before it; spans as in `pretrain.Corpus`."""

    closes: np.ndarray
    spans: np.ndarray
    symbols: tuple[str, ...] = ()


def histories(codec: DigitsCodec, first: str, last: str) -> Histories:
    """Every cross of the ECB rates between two dates and the warm-up before them; see `pretrain.crosses`."""
    parts = {
        cross.symbol: cross.closes[cross.begin - codec.warm_up :]
        for cross in crosses(first, last, codec.warm_up, codec.warm_up + codec.length)
    }
    return Histories(np.concatenate(list(parts.values())), spans_of(list(parts.values())), tuple(parts))


def simulated(codec: DigitsCodec, options: PretrainOptions) -> Histories:
    """Simulated series, each with room for several windows."""
    made = simulations(codec.warm_up + WINDOWS * codec.length, options.seed)
    return Histories(made.reshape(-1), spans_of(list(made)))


def rows_at(codec: DigitsCodec, data: Histories, starts: np.ndarray, reflected: np.ndarray) -> np.ndarray:
    """Tokens of the windows that begin at `starts` [N], int64 [N, length * D]; those `reflected` [N] about the anchor.

    A reflection that would reach a price of zero or below is left as it is.
    """
    closes = data.closes[starts[:, None] + np.arange(codec.warm_up + codec.length)]
    mirror = 2 * closes[:, codec.warm_up - 1 : codec.warm_up] - closes
    turned = reflected & (mirror > 0).all(axis=1)
    ids, _ = codec.encode(np.where(turned[:, None], mirror, closes), np.empty(0), codec.length)
    return ids


def batch(codec: DigitsCodec, real: Histories, made: Histories, options: PretrainOptions, step: int) -> torch.Tensor:
    """Rows of a step, int64 [batch, length * D], a function of seed and step: random windows, half reflected."""
    draw = np.random.default_rng([options.seed, step])
    of_made = round(options.synthetic * options.batch)
    rows = []
    for data, count in ((real, options.batch - of_made), (made, of_made)):
        begin, end = data.spans[draw.integers(len(data.spans), size=count)].T
        room = end - begin - codec.warm_up - codec.length + 1
        starts = begin + (draw.random(count) * room).astype(np.int64)
        rows.append(rows_at(codec, data, starts, draw.random(count) < 0.5))
    return torch.from_numpy(np.concatenate(rows))


def held_out(codec: DigitsCodec, options: PretrainOptions) -> Corpus:
    """Tokens of validation windows laid end to end, a span each."""
    data = histories(codec, day_after(options.cutoff), options.validation_end)
    whole = codec.warm_up + codec.length
    starts = np.concatenate([np.arange(a, b - whole + 1, codec.length) for a, b in data.spans])
    rows = rows_at(codec, data, starts, np.zeros(len(starts), dtype=bool))
    return Corpus(rows.reshape(-1), spans_of(list(rows)), data.symbols, codec.vocabulary)


def pretrain_digits(
    options: PretrainOptions,
    out: Path = EMBEDDED_DIGITS,
    report: Report | None = None,
    codec: DigitsCodec | None = None,
) -> Card:
    """Train the digits base and write its checkpoint and card to `out`; gives the card. Losses are nats per digit.

    `options.length` is in tokens and must be the codec's length times its digits; `options.smear` plays no part.
    """
    codec = codec or DigitsCodec()
    if options.length != codec.length * codec.digits:
        raise ConfigError(
            f"pretrain.length is {options.length}; {codec.length} closes of {codec.digits} digits are "
            f"{codec.length * codec.digits} tokens"
        )
    started = time.perf_counter()
    data, validation = histories(codec, FIRST_DAY, options.cutoff), held_out(codec, options)
    made = simulated(codec, options)
    model = new_gpt2(codec.vocabulary, options)
    smooth = fit(
        model,
        lambda step: batch(codec, data, made, options, step),
        lambda rows: next_token_loss(model, rows),
        options,
        report,
    )
    card: Card = {
        "name": "embedded-digits",
        "cutoff": options.cutoff,
        "corpus": f"{len(data.symbols)} cross rates of the ECB euro reference rates, 1999-01-04 to {options.cutoff}, "
        f"and their reflections; {options.synthetic:.0%} of rows from {SIMULATIONS} simulated series",
        "corpus_closes": len(data.closes),
        "corpus_sha": sha256_of(data.closes),
        "options": {name: value for name, value in asdict(options).items() if name != "smear"},
        "command": "tunetrade pretrain --codec digits",
    }
    card |= outcome(model, validation, options, smooth, started)
    save_base(out, model, codec, card)
    return card
