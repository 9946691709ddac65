"""How the embedded base came to be, and what the digits base shares with it.

A small GPT-2 is trained on the returns of ECB exchange rates before a cut-off. Each row of a batch is a stretch of one
series, as a stranger to its name and level: only volatility-scaled returns are seen, and each row comes with its
mirror, which is the inverse rate to within a bin or two: drawn by chance instead, mirrors left the base a small drift
to one side. So the base learns how returns cluster, not where EURUSD went. A
quarter of the rows are crosses of much traded currencies, the others simulated (`synthetic`): all crosses of the ECB
together taught habits of managed and coarsely quoted rates, to the harm of the others (docs/LOG.md).

Neighbouring bins mean nearly the same return, which a plain cross-entropy does not know: with a few million tokens for
255 bins it fits noise, and did worse than equal tokens on the years after (docs/LOG.md). So targets are smeared over
neighbouring bins, embeddings start as smooth functions of the bin, and weights are averaged over the last steps. The
cut-off is a promise that `tunetrade` checks when it evaluates.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from forecasting.bars import load_bars
from forecasting.base import EMBEDDED, save_base
from forecasting.base.synthetic import closes
from forecasting.codecs import BinsCodec
from forecasting.errors import ConfigError
from forecasting.files import sha256_of
from forecasting.sources.ecb import EURO, rates

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

Card = dict[str, Any]

Report = Callable[[int, float], None]
"""Called after each step with the step and its loss in nats per token."""

FIRST_DAY = "1999-01-01"
"""Before the first fixing."""

LICENCE = "GPL-3.0-or-later; source data: European Central Bank, euro foreign exchange reference rates"

CURRENCIES = ("AUD", "CAD", "CHF", "GBP", "JPY", "NOK", "NZD", "SEK", "USD", "ZAR")
"""Currencies of the corpus beside the euro: freely traded and quoted finely all along."""

PEGGED = 0.2
"""A rate unchanged on more than this share of days is held by a central bank; it would teach silence."""


SIMULATIONS = 1500
"""Simulated series."""

WAVES = 8
"""Cosines of which initial embeddings are made."""


@dataclass(frozen=True)
class PretrainOptions:
    """Settings of the base; the defaults are the committed recipe.

    cutoff: last day used for training. validation_end: last day of validation; empty for two years after the cutoff,
    resolved at once. length: tokens a row. synthetic: share of simulated rows. smear: standard deviation, in bins, by
    which a target is spread. average: decay of the running mean of weights.
    """

    cutoff: str = "2014-12-31"
    validation_end: str = ""
    layers: int = 4
    width: int = 128
    heads: int = 4
    length: int = 256
    batch: int = 16
    steps: int = 500
    synthetic: float = 0.75
    smear: float = 6.0
    learning_rate: float = 3e-4
    weight_decay: float = 0.1
    average: float = 0.99
    seed: int = 1

    def __post_init__(self) -> None:
        cutoff = _day("cutoff", self.cutoff)
        end = _day("validation_end", self.validation_end) if self.validation_end else cutoff + pd.DateOffset(years=2)
        if end <= cutoff:
            raise ConfigError(f"pretrain.validation_end {end:%Y-%m-%d} is not after pretrain.cutoff {cutoff:%Y-%m-%d}")
        object.__setattr__(self, "cutoff", f"{cutoff:%Y-%m-%d}")
        object.__setattr__(self, "validation_end", f"{end:%Y-%m-%d}")
        if not 0 <= self.synthetic <= 1:
            raise ConfigError(f"pretrain.synthetic is {self.synthetic}; give a share of rows from 0 to 1")
        if not 0 < self.smear <= 64:
            raise ConfigError(f"pretrain.smear is {self.smear}; give a number of bins above 0 and up to 64")
        if self.width % self.heads:
            raise ConfigError(f"pretrain.width {self.width} is not a multiple of pretrain.heads {self.heads}")
        for name in ("layers", "width", "heads", "length", "batch", "steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"pretrain.{name} is {getattr(self, name)}; give a positive whole number")
        if self.batch % 2:
            raise ConfigError(f"pretrain.batch is {self.batch}; give an even number: each row comes with its mirror")


def _day(name: str, text: str) -> pd.Timestamp:
    try:
        return pd.Timestamp(date.fromisoformat(text))
    except ValueError:
        raise ConfigError(f"pretrain.{name} is {text!r}; give a date such as 2014-12-31") from None


RECIPE = PretrainOptions()
"""The committed base's."""


@dataclass(frozen=True)
class Corpus:
    """Tokens of all crosses end to end.

    tokens: int64 [T], each below `bins`. spans: int64 [P, 2], first and one-past-last index of each series.
    """

    tokens: np.ndarray
    spans: np.ndarray
    symbols: tuple[str, ...]
    bins: int


def corpus(codec: BinsCodec, first: str, last: str, least: int) -> Corpus:
    """Every cross of `CURRENCIES` between two dates (inclusive), tokenised.

    Rates that hardly move and series of fewer than `least` tokens are left out; ConfigError where none is left.
    Volatility at `first` is carried in from what came before it, so that validation does not begin blind.
    """
    parts = {
        cross.symbol: codec.encode(cross.closes[None], cross.times[None], len(cross.closes) - cross.begin)[0][0]
        for cross in crosses(first, last, codec.warm_up, least)
    }
    return Corpus(np.concatenate(list(parts.values())), spans_of(list(parts.values())), tuple(parts), codec.bins)


@dataclass(frozen=True)
class Cross:
    """Closes and times of a cross rate from its first fixing on, [T]; those from `begin` on are in the span asked."""

    symbol: str
    closes: np.ndarray
    times: np.ndarray
    begin: int


def crosses(first: str, last: str, warm_up: int, least: int) -> Iterator[Cross]:
    """Every cross of `CURRENCIES` that moves and has `least` closes between two dates, `warm_up` closes before them.

    ConfigError where there is none.
    """
    found = False
    for base, quote in combinations((EURO, *(name for name in rates().columns if name in CURRENCIES)), 2):
        bars = load_bars(f"ecb:{base}{quote}")
        times = bars.times
        stop = int(np.searchsorted(times, np.datetime64(last, "ns") + np.timedelta64(1, "D")))
        begin = max(int(np.searchsorted(times, np.datetime64(first, "ns"))), warm_up)
        seen = bars.closes[:stop]
        if stop - begin >= max(2, least) and np.mean(np.diff(seen) == 0) <= PEGGED:
            found = True
            yield Cross(f"{base}{quote}", seen, times[:stop], begin)
    if not found:
        raise ConfigError(f"pretrain: no cross rate has {least} tokens from {first} to {last}; move the dates apart")


def spans_of(parts: list[np.ndarray]) -> np.ndarray:
    """First and one-past-last index of each part when all are laid end to end, int64 [P, 2]."""
    lengths = np.array([len(part) for part in parts])
    ends = np.cumsum(lengths)
    return np.stack([ends - lengths, ends], axis=1)


def simulated(codec: BinsCodec, options: PretrainOptions) -> Corpus:
    """Simulated series, tokenised: as many as rows are drawn from, within reason, each with room for several rows."""
    length = 6 * options.length
    made = simulations(codec.warm_up + 1 + length, options.seed)
    stamps = np.broadcast_to(np.arange(made.shape[1]).astype("datetime64[D]").astype("datetime64[ns]"), made.shape)
    ids, _ = codec.encode(made, stamps, length)
    ends = np.arange(1, SIMULATIONS + 1) * length
    return Corpus(ids.reshape(-1), np.stack([ends - length, ends], axis=1), (), codec.bins)


def simulations(length: int, seed: int) -> np.ndarray:
    """Simulated closes, [SIMULATIONS, length]."""
    return np.asarray(closes(SIMULATIONS, length, np.random.default_rng([seed, SIMULATIONS])))


def batch(real: Corpus, made: Corpus, options: PretrainOptions, step: int) -> torch.Tensor:
    """Rows of a step, int64 [batch, length], a function of seed and step: random stretches, each with its mirror."""
    draw = np.random.default_rng([options.seed, step])
    count = options.batch // 2
    of_made = round(options.synthetic * count)
    parts = ((real, count - of_made), (made, of_made))
    rows = np.concatenate([_stretches(data, rows, options.length, draw) for data, rows in parts])
    return torch.from_numpy(np.concatenate([rows, real.bins - 1 - rows]))


def _stretches(data: Corpus, rows: int, length: int, draw: np.random.Generator) -> np.ndarray:
    begin, end = data.spans[draw.integers(len(data.spans), size=rows)].T
    offset = begin + (draw.random(rows) * (end - begin - length + 1)).astype(np.int64)
    return np.asarray(data.tokens[offset[:, None] + np.arange(length)])


def smeared(bins: int, width: float) -> torch.Tensor:
    """Targets for each true bin, [bins, bins]: a Gaussian over bins, reflected at both ends.

    Reflection makes it doubly stochastic to rounding, so equal tokens stay the best answer to equally frequent bins.
    """
    reach = int(np.ceil(6 * width))
    around = np.arange(-reach, bins + reach)
    inside = np.where(around < 0, -1 - around, np.where(around >= bins, 2 * bins - 1 - around, around))
    weight = np.exp(-0.5 * ((np.arange(bins)[:, None] - around) / width) ** 2)
    result = np.zeros((bins, bins))
    np.add.at(result.T, inside, weight.T)
    return torch.from_numpy(result / result.sum(axis=1, keepdims=True)).float()


def smooth_embeddings(bins: int, width: int) -> torch.Tensor:
    """Initial embeddings [bins, width]: random sums of the first cosines over the bins, higher ones weaker.

    Draws from torch's generator, which the caller seeds.
    """
    order = torch.arange(WAVES + 1)
    waves = torch.cos(torch.pi * order * (torch.arange(bins)[:, None] + 0.5) / bins)
    values = waves @ (torch.randn(WAVES + 1, width) / order.clamp_min(1)[:, None])
    return 0.04 * values / values.std()


def learning_rate_at(step: int, options: PretrainOptions) -> float:
    """Linear warm-up over 5 % of the steps, then a cosine to a tenth of the peak."""
    warm = max(1, options.steps // 20)
    if step < warm:
        return options.learning_rate * (step + 1) / warm
    progress = (step - warm) / max(1, options.steps - warm)
    return options.learning_rate * (0.1 + 0.45 * (1 + float(np.cos(np.pi * progress))))


def pretrain(options: PretrainOptions, out: Path = EMBEDDED, report: Report | None = None) -> Card:
    """Train the base and write its checkpoint and card to `out`; gives the card."""
    started = time.perf_counter()
    codec = BinsCodec()
    data = corpus(codec, FIRST_DAY, options.cutoff, options.length)
    after = day_after(options.cutoff)
    held_out = corpus(codec, after, options.validation_end, options.length)
    made = simulated(codec, options)
    targets = smeared(codec.bins, options.smear)
    model = new_gpt2(codec.bins, options)
    model.transformer.wte.weight.data = smooth_embeddings(codec.bins, options.width)
    smooth = fit(
        model,
        lambda step: batch(data, made, options, step),
        lambda rows: smeared_loss(model, rows, targets),
        options,
        report,
    )
    card: Card = {
        "name": "embedded",
        "cutoff": options.cutoff,
        "corpus": f"{len(data.symbols)} cross rates of the ECB euro reference rates, 1999-01-04 to {options.cutoff}, "
        f"and inverses; {options.synthetic:.0%} of rows from {SIMULATIONS} simulated series",
        "corpus_tokens": len(data.tokens),
        "corpus_sha": sha256_of(data.tokens),
        "options": asdict(options),
        "command": "tunetrade pretrain",
    }
    card |= outcome(model, held_out, options, smooth, started)
    save_base(out, model, codec, card)
    return card


def outcome(
    model: torch.nn.Module, held_out: Corpus, options: PretrainOptions, train_loss: float, started: float
) -> Card:
    """What every card says of a training that began at `started` (of `time.perf_counter`): losses, size, cost."""
    return {
        "validation": f"{len(held_out.symbols)} cross rates, {day_after(options.cutoff)} to {options.validation_end}",
        "validation_loss": evaluate_loss(model, held_out, options.length),
        "uniform_loss": float(np.log(held_out.bins)),
        "train_loss": train_loss,
        "parameters": sum(value.numel() for value in model.parameters()),
        "seconds": round(time.perf_counter() - started),
        "threads": torch.get_num_threads(),
        "licence": LICENCE,
    }


def day_after(day: str) -> str:
    """The next day, ISO."""
    return str(np.datetime64(day) + np.timedelta64(1, "D"))


def new_gpt2(vocabulary: int, options: PretrainOptions) -> "GPT2LMHeadModel":
    """A GPT-2 with fresh weights, drawn from torch's generator, which is seeded here."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(options.seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary, n_positions=options.length, n_embd=options.width, n_layer=options.layers,
            n_head=options.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip


def fit(
    model: torch.nn.Module,
    batch_of: Callable[[int], torch.Tensor],
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    options: PretrainOptions,
    report: Report | None = None,
) -> float:
    """Train a model, which is left with its averaged weights; gives the loss smoothed over the last steps.

    batch_of: rows of a step, int64 [N, L]. loss_of: mean loss of rows, nats per token.
    """
    averaged = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=options.weight_decay)
    smooth = float("nan")
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, options)
        loss = loss_of(batch_of(step))
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
    return smooth


@torch.no_grad()
def evaluate_loss(model: torch.nn.Module, data: Corpus, length: int) -> float:
    """Mean nats per token over stretches of `length` tokens laid end to end in each series."""
    offsets = np.concatenate([np.arange(a, b - length + 1, length) for a, b in data.spans])
    rows = torch.from_numpy(data.tokens[offsets[:, None] + np.arange(length)])
    losses = [next_token_loss(model, chunk).item() * len(chunk) for chunk in rows.split(32)]
    return sum(losses) / len(rows)


def next_token_loss(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each token given those before it, nats; ids [N, L]."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def smeared_loss(model: torch.nn.Module, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each smeared token given those before it, nats; ids [N, L], targets [V, V]."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets[ids[:, 1:].reshape(-1)])


@torch.no_grad()
def _average(averaged: dict[str, torch.Tensor], model: torch.nn.Module, decay: float) -> None:
    for name, value in model.named_parameters():
        averaged[name].lerp_(value, 1 - decay)
