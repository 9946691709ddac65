"""The frozen bench model, its windows, and fair timing: jobs take turns, so that a busy machine is busy for all."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from forecasting.codecs import BinsCodec
from forecasting.decoder import DecoderWeights, weights_of
from forecasting.windows import Contexts

CONTEXT, HORIZON, THREADS = 64, 20, 2
TOKENS = 256


def bench_model() -> GPT2LMHeadModel:
    """GPT-2 of 4 layers x 128, 256 tokens, float32, random weights: speed does not depend on them."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=TOKENS, n_positions=256, n_embd=128, n_layer=4, n_head=4, bos_token_id=None, eos_token_id=None
    )
    return GPT2LMHeadModel(config).eval()


def engine_weights(model: GPT2LMHeadModel, codec: BinsCodec) -> DecoderWeights:
    """What the engine runs: the token rows that are bins; a codec has an odd number of them, here one row less."""
    rows = model.transformer.wte.weight[: codec.bins]
    return weights_of(model, state=model.state_dict() | {"transformer.wte.weight": rows, "lm_head.weight": rows})


def windows(count: int, codec: BinsCodec, horizon: int = HORIZON) -> Contexts:
    """Contexts of a simulated series, one a day."""
    length = codec.warm_up + CONTEXT
    moves = np.random.default_rng(0).standard_t(5, size=length + count) * 0.005
    closes = np.exp(np.cumsum(moves))
    day = np.timedelta64(1, "D").astype("timedelta64[ns]")
    times = np.datetime64("2010-01-01", "ns") + np.arange(length + count) * day
    first = np.arange(count)
    at = first[:, None] + np.arange(length)
    cutoffs = times[first + length - 1]
    return Contexts("BENCH-D1", cutoffs, closes[at], times[at], cutoffs[:, None] + np.arange(1, horizon + 1) * day)


@dataclass(frozen=True)
class Job:
    """Something to time, and how many units of work (paths, windows) a call does."""

    call: Callable[[], object]
    units: float = 1.0


class Rates:
    """Units a second of each job in each round."""

    def __init__(self, rounds: list[dict[str, float]]) -> None:
        self._rounds = rounds

    def ratio(self, one: str, other: str) -> float:
        """Median over rounds of the rate of `one` over that of `other`."""
        return statistics.median(rates[one] / rates[other] for rates in self._rounds)

    def median(self, name: str) -> float:
        """Median rate of a job."""
        return statistics.median(rates[name] for rates in self._rounds)


def race(jobs: Mapping[str, Job], rounds: int) -> Rates:
    """Each job once to warm up, then in turns."""
    torch.set_num_threads(THREADS)
    with torch.inference_mode():
        for job in jobs.values():
            job.call()
        return Rates([{name: job.units / seconds(job.call) for name, job in jobs.items()} for _ in range(rounds)])


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
