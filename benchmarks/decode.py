"""The decode engine beside transformers' `generate`, and beside its own matrix products; same model, same windows.

    python -m benchmarks.decode [--quick] [--json]

Both sides use two threads, the engine as two tiles of windows side by side, `generate` inside its matrix products.
`generate` only draws tokens; the engine's time also holds its exact means, probabilities and prices. The products are
those the engine executes, recorded once with their operands and replayed alone on one thread, beside the decode on one
thread: all linear layers, and attention's products with keys and values of context and own steps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.bench import CONTEXT, HORIZON, THREADS, Job, bench_model, engine_weights, race, windows
from benchmarks.claims import Claim, main
from forecasting import decoder
from forecasting.codecs import BinsCodec
from forecasting.sampler import SamplingOptions, TokenModel, first_step, gpt2_decoders, sample
from forecasting.windows import Contexts

DRAWING = {"do_sample": True, "top_k": 0, "top_p": 1.0, "pad_token_id": 0}
SEQUENCES, BATCH, LIVE_PATHS = 32, 8, 64


def measure(quick: bool = False) -> dict[str, Claim]:
    """All claims about speed."""
    model, codec = bench_model(), BinsCodec()
    weights = engine_weights(model, codec)
    contexts = windows(16 if quick else 64, codec)
    ids = torch.from_numpy(codec.encode(contexts.closes, contexts.times, CONTEXT)[0])
    rounds = 3 if quick else 5

    def generate(rows: torch.Tensor, paths: int, steps: int) -> Callable[[], object]:
        options = {**DRAWING, "num_return_sequences": paths, "max_new_tokens": steps, "min_new_tokens": steps}
        return lambda: model.generate(rows, attention_mask=torch.ones_like(rows), **options)

    def engine(count: int, paths: int, threads: int = THREADS) -> Callable[[], object]:
        some, options = first(contexts, count), SamplingOptions(paths=paths, threads=threads)
        make = gpt2_decoders(weights, paths, HORIZON)
        return lambda: sample(some, codec, make, CONTEXT, options)

    bulk = race(
        {
            "engine": Job(engine(len(contexts), SEQUENCES), len(contexts) * SEQUENCES),
            "batched": Job(generate(ids[:BATCH], SEQUENCES, HORIZON), BATCH * SEQUENCES),
            "single": Job(generate(ids[:1], 1, HORIZON), 1),
        },
        rounds,
    )
    live = race({"engine": Job(engine(1, LIVE_PATHS)), "generate": Job(generate(ids[:1], LIVE_PATHS, HORIZON))}, 15)
    dense = step_one(model, weights, codec, 512 if quick else 10_000, rounds)
    replayed = race(products(weights, codec, contexts), rounds)
    return {
        "paths/s over one generate call per window and path": Claim(bulk.ratio("engine", "single"), "x", 50),
        f"paths/s over generate in batches ({BATCH} windows x {SEQUENCES})": Claim(
            bulk.ratio("engine", "batched"), "x", 8
        ),
        "time of a decode over that of its matrix products": Claim(
            replayed.ratio("products", "decode"), "x", 1.8, at_most=True
        ),
        "step-1 densities/s over one-token generate in batches of 8": Claim(dense, "x", 5),
        f"time of a live forecast ({LIVE_PATHS} paths) over generate's": Claim(
            live.ratio("generate", "engine"), "x", 0.3333, at_most=True
        ),
        "engine": Claim(bulk.median("engine"), "paths/s"),
        "generate in batches": Claim(bulk.median("batched"), "paths/s"),
        "generate per window and path": Claim(bulk.median("single"), "paths/s"),
        "live forecast, p50": Claim(1000 / live.median("engine"), "ms"),
        "products on context and in linear layers only, over those with own steps": Claim(
            replayed.ratio("products", "without own steps"), "x"
        ),
    }


def first(contexts: Contexts, count: int) -> Contexts:
    """The first `count` windows."""
    parts = (values[:count] for values in (contexts.cutoffs, contexts.closes, contexts.times, contexts.ahead))
    return Contexts(contexts.unique_id, *parts)


def step_one(model: Any, weights: decoder.DecoderWeights, codec: BinsCodec, count: int, rounds: int) -> float:
    """Exact densities of the next close, `count` strict contexts, over tokens that `generate` draws, as a ratio.

    Some of `generate`'s batches stand for all: it does each apart.
    """
    contexts = windows(count, codec, horizon=1)
    ids = torch.from_numpy(codec.encode(contexts.closes, contexts.times, CONTEXT)[0])
    options, make = SamplingOptions(threads=THREADS), gpt2_decoders(weights, 4, 1)
    batches = ids[: min(count, 256)].split(BATCH)

    def one_token() -> None:
        for rows in batches:
            model.generate(rows, attention_mask=torch.ones_like(rows), max_new_tokens=1, min_new_tokens=1, **DRAWING)

    rates = race(
        {
            "engine": Job(lambda: first_step(contexts, codec, make, CONTEXT, options), count),
            "generate": Job(one_token, len(batches) * BATCH),
        },
        rounds,
    )
    return rates.ratio("engine", "generate")


def products(weights: decoder.DecoderWeights, codec: BinsCodec, contexts: Contexts) -> dict[str, Job]:
    """Jobs on one thread: a tile's decode, its recorded products, and these without those with a path's own steps."""
    tile, options = first(contexts, 8), SamplingOptions(paths=SEQUENCES, threads=1)
    make: Callable[[], TokenModel] = gpt2_decoders(weights, SEQUENCES, HORIZON)

    def decode() -> None:
        sample(tile, codec, make, CONTEXT, options)

    decode()  # tiles are checked here, once, so that only the decode itself is recorded
    with recorded() as calls:
        decode()

    def replay(own: bool) -> Callable[[], None]:
        chosen = [call for call, of_own_steps in calls if own or not of_own_steps]

        def run() -> None:
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            for call in chosen:
                call()
            torch.set_num_threads(before)

        return run

    return {"decode": Job(decode), "products": Job(replay(True)), "without own steps": Job(replay(False))}


@contextmanager
def recorded() -> Iterator[list[tuple[Callable[[], object], bool]]]:
    """Every matrix product of the decodes inside: a call on copies of its operands, and if of own steps."""
    calls: list[tuple[Callable[[], object], bool]] = []
    linear, matmul, attention, own = decoder.Product.__call__, torch.matmul, F.scaled_dot_product_attention, decoder.dot

    def recording(function: Callable[..., Any], of_own_steps: bool) -> Callable[..., Any]:
        def record(*operands: Any, **options: Any) -> Any:
            kept = [value.clone() if isinstance(value, torch.Tensor) else value for value in operands]
            calls.append((lambda: function(*kept, **options), of_own_steps))
            return function(*operands, **options)

        return record

    decoder.Product.__call__ = recording(linear, False)  # type: ignore[method-assign]
    torch.matmul = recording(matmul, False)
    F.scaled_dot_product_attention = recording(attention, False)
    decoder.dot = recording(own, True)
    try:
        yield calls
    finally:
        decoder.Product.__call__ = linear  # type: ignore[method-assign]
        torch.matmul, F.scaled_dot_product_attention, decoder.dot = matmul, attention, own


if __name__ == "__main__":
    main(measure, __doc__)
