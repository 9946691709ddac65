"""How the embedded digits base comes to be: the recipe of `pretrain`, closes spelled as digits.

Corpus, schedule and averaging are those of the bins base. A row is a window as a forecast has it: warm-up closes give
anchor and unit, the closes after them become tokens. Half the rows are reflected about their anchor, so the base cannot
learn that rates rise.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import torch

from forecasting.base import EMBEDDED, save_base
from forecasting.base.pretrain import (
    Card,
    Corpus,
    PretrainOptions,
    _average,
    corpus,
    evaluate_loss,
    learning_rate_at,
    next_token_loss,
)
from forecasting.codecs import BinsCodec
from forecasting.codecs.digits import DigitsCodec
from forecasting.errors import ConfigError
from forecasting.files import sha256_of

EMBEDDED_DIGITS = EMBEDDED.with_name("embedded_digits")


class _Closes:
    """In the codec's place, makes `corpus` gather closes instead of tokens, each series with its warm-up before it."""

    bins = 0

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up

    def encode(self, closes: np.ndarray, times: np.ndarray, tokens: int) -> tuple[np.ndarray, None]:
        """The last `tokens` closes and the warm-up before them, [1, M + tokens]."""
        return closes[:, -tokens - self.warm_up :], None


def histories(codec: DigitsCodec, first: str, last: str) -> Corpus:
    """Closes of every cross of the ECB rates between two dates; `tokens` are float64 closes, see `pretrain.corpus`."""
    gather = cast(BinsCodec, _Closes(codec.warm_up))
    return corpus(gather, first, last, codec.warm_up + codec.length)


def rows_at(codec: DigitsCodec, data: Corpus, starts: np.ndarray, reflected: np.ndarray) -> np.ndarray:
    """Tokens of the windows that begin at `starts` [N], int64 [N, length * D]; those `reflected` [N] about the anchor.

    A reflection that would reach a price of zero or below is left as it is.
    """
    closes = data.tokens[starts[:, None] + np.arange(codec.warm_up + codec.length)]
    mirror = 2 * closes[:, codec.warm_up - 1 : codec.warm_up] - closes
    turned = reflected & (mirror > 0).all(axis=1)
    ids, _ = codec.encode(closes, np.empty(0), codec.length)
    opposite, _ = codec.encode(np.where(turned[:, None], mirror, closes), np.empty(0), codec.length)
    return np.where(turned[:, None], opposite, ids)


def batch(codec: DigitsCodec, data: Corpus, options: PretrainOptions, step: int) -> torch.Tensor:
    """Rows of a step, int64 [batch, length * D], a function of seed and step: random windows, half reflected."""
    draw = np.random.default_rng([options.seed, step])
    begin, end = data.spans[draw.integers(len(data.spans), size=options.batch)].T
    room = end - begin - codec.warm_up - codec.length + 1
    starts = begin + (draw.random(options.batch) * room).astype(np.int64)
    return torch.from_numpy(rows_at(codec, data, starts, draw.random(options.batch) < 0.5))


def held_out(codec: DigitsCodec, options: PretrainOptions) -> Corpus:
    """Tokens of validation windows laid end to end, a span each."""
    after = str(np.datetime64(options.cutoff) + np.timedelta64(1, "D"))
    data = histories(codec, after, options.validation_end)
    whole = codec.warm_up + codec.length
    starts = np.concatenate([np.arange(a, b - whole + 1, codec.length) for a, b in data.spans])
    rows = rows_at(codec, data, starts, np.zeros(len(starts), dtype=bool))
    ends = np.arange(1, len(rows) + 1) * rows.shape[1]
    return Corpus(rows.reshape(-1), np.stack([ends - rows.shape[1], ends], axis=1), data.symbols, codec.vocabulary)


def pretrain_digits(
    options: PretrainOptions,
    out: Path = EMBEDDED_DIGITS,
    report: Callable[[int, float], None] | None = None,
    codec: DigitsCodec | None = None,
) -> Card:
    """Train the digits base and write its checkpoint and card to `out`; gives the card.

    `options.length` is in tokens and must be the codec's length times its digits. `report(step, loss)` is called after
    each step with the loss in nats per digit.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    codec = codec or DigitsCodec()
    if options.length != codec.length * codec.digits:
        raise ConfigError(
            f"pretrain.length is {options.length}; {codec.length} closes of {codec.digits} digits are "
            f"{codec.length * codec.digits} tokens"
        )
    started = time.perf_counter()
    data, validation = histories(codec, "1999-01-01", options.cutoff), held_out(codec, options)
    torch.manual_seed(options.seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=codec.vocabulary, n_positions=options.length, n_embd=options.width, n_layer=options.layers,
            n_head=options.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip
    averaged = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=options.weight_decay)
    smooth = float("nan")
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, options)
        loss = next_token_loss(model, batch(codec, data, options, step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _average(averaged, model, min(options.average, (1 + step) / (10 + step)))
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        if report:
            report(step, loss.item())
    for name, value in model.named_parameters():
        value.data.copy_(averaged[name])
    after = str(np.datetime64(options.cutoff) + np.timedelta64(1, "D"))
    card = {
        "name": "embedded_digits",
        "cutoff": options.cutoff,
        "corpus": f"{len(data.symbols)} cross rates of the ECB euro reference rates, 1999-01-04 to {options.cutoff}, "
        f"and their reflections",
        "corpus_closes": len(data.tokens),
        "corpus_sha": sha256_of(data.tokens),
        "validation": f"{len(validation.symbols)} cross rates, {after} to {options.validation_end}",
        "validation_loss": evaluate_loss(model, validation, options.length),
        "uniform_loss": float(np.log(codec.vocabulary)),
        "train_loss": smooth,
        "parameters": sum(value.numel() for value in model.parameters()),
        "options": asdict(options),
        "command": "forecasting.base.pretrain_digits.pretrain_digits(PretrainOptions())",
        "seconds": round(time.perf_counter() - started),
        "threads": torch.get_num_threads(),
        "licence": "GPL-3.0-or-later; source data: European Central Bank, euro foreign exchange reference rates",
    }
    save_base(out, model, cast(BinsCodec, codec), card)
    return card
