"""Forecast paths a second: the decode engine beside transformers' `generate`, same model, same windows, same run.

    python -m benchmarks.decode [--quick] [--json]

The model is frozen: GPT-2 of 4 layers x 128, 255 tokens, float32, random weights (speed does not depend on them);
context 64, horizon 20, 64 paths a window. Both sides use two threads, the engine as two tiles of windows side by side,
`generate` inside its matrix products. Rounds alternate and the median ratio is kept, because machines are shared and
noisy. `generate` only draws tokens; the engine's time also holds its exact means, probabilities and prices.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.claims import Claim, show
from forecasting.codecs import BinsCodec
from forecasting.decoder import weights_of
from forecasting.sampler import SamplingOptions, gpt2_decoders, sample
from forecasting.windows import Contexts

CONTEXT, HORIZON, PATHS, THREADS = 64, 20, 64, 2


def bench_model() -> GPT2LMHeadModel:
    """The frozen bench model with random weights."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=255, n_positions=256, n_embd=128, n_layer=4, n_head=4, bos_token_id=None, eos_token_id=None
    )
    return GPT2LMHeadModel(config).eval()


def windows(count: int, codec: BinsCodec) -> Contexts:
    """Contexts of a simulated series, one a day."""
    length = codec.warm_up + CONTEXT
    moves = np.random.default_rng(0).standard_t(5, size=length + count) * 0.005
    closes = np.exp(np.cumsum(moves))
    day = np.timedelta64(1, "D").astype("timedelta64[ns]")
    times = np.datetime64("2010-01-01", "ns") + np.arange(length + count) * day
    first = np.arange(count)
    at = first[:, None] + np.arange(length)
    cutoffs = times[first + length - 1]
    return Contexts("BENCH-D1", cutoffs, closes[at], times[at], cutoffs[:, None] + np.arange(1, HORIZON + 1) * day)


def seconds(job: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def measure(quick: bool = False) -> dict[str, Claim]:
    """Paths a second of the engine over those of `generate`, median over alternating rounds."""
    torch.set_num_threads(THREADS)
    model, codec = bench_model(), BinsCodec()
    count, rounds = (16, 3) if quick else (48, 5)
    contexts = windows(count, codec)
    ids = torch.from_numpy(codec.encode(contexts.closes, contexts.times, CONTEXT)[0])
    engine = gpt2_decoders(weights_of(model), PATHS, HORIZON)
    options = SamplingOptions(paths=PATHS, threads=THREADS)
    drawing = {
        "do_sample": True,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": HORIZON,
        "min_new_tokens": HORIZON,
        "pad_token_id": 0,
    }

    def ours() -> None:
        sample(contexts, codec, engine, CONTEXT, options)

    def per_window() -> None:
        for row in ids[: max(2, count // 8)]:
            model.generate(row[None], attention_mask=torch.ones(1, CONTEXT), num_return_sequences=PATHS, **drawing)

    def per_path() -> None:
        for _ in range(4):
            model.generate(ids[:1], attention_mask=torch.ones(1, CONTEXT), **drawing)

    jobs = {
        "ours": (ours, count * PATHS),
        "per_window": (per_window, max(2, count // 8) * PATHS),
        "per_path": (per_path, 4),
    }
    with torch.inference_mode():
        for job, _ in jobs.values():
            job()
        speeds = [{name: paths / seconds(job) for name, (job, paths) in jobs.items()} for _ in range(rounds)]

    def median(name: str) -> float:
        return statistics.median(speed[name] for speed in speeds)

    def ratio(name: str) -> float:
        return statistics.median(speed["ours"] / speed[name] for speed in speeds)

    return {
        "paths/s over one generate call per window and path": Claim(ratio("per_path"), "x", 10.0),
        "paths/s over one generate call per window (64 return sequences)": Claim(ratio("per_window"), "x", 10.0),
        "engine": Claim(median("ours"), "paths/s"),
        "one generate call per window (64 return sequences)": Claim(median("per_window"), "paths/s"),
        "one generate call per window and path": Claim(median("per_path"), "paths/s"),
    }


def main() -> int:
    """Print the table, or JSON; exit status 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under 50 s")
    parser.add_argument("--json", action="store_true", help="print name -> {value, target, unit, holds}")
    asked = parser.parse_args()
    claims = measure(asked.quick)
    print(
        json.dumps({name: claim.as_dict() for name, claim in claims.items()}, indent=2) if asked.json else show(claims)
    )
    return 0 if all(claim.holds for claim in claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
