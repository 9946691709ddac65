"""Memory of a big decode, and how its cost grows with windows and paths.

    python -m benchmarks.growth [--quick] [--json] [--plot FILE]

Memory is the most by which a process grows over what it held with model and contexts in place.
Growth runs windows through the engine a chunk at a time, as an evaluation does, and keeps their means.
"""

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.bench import CONTEXT, THREADS, bench_model, engine_weights, seconds, windows
from benchmarks.claims import Claim, main
from forecasting.codecs import BinsCodec
from forecasting.sampler import SamplingOptions, gpt2_decoders, sample
from forecasting.windows import Contexts

MEBIBYTE = 2**20
WINDOWS, PATHS = (100, 1_000, 10_000, 100_000), (16, 64, 256, 1_024)


def part(contexts: Contexts, first: int, count: int) -> Contexts:
    """Some windows in a row."""
    at = slice(first, first + count)
    return Contexts(
        contexts.unique_id, contexts.cutoffs[at], contexts.closes[at], contexts.times[at], contexts.ahead[at]
    )


def timed(count: int, paths: int, horizon: int) -> float:
    """Seconds for `count` windows, in chunks; contexts are made before."""
    codec = BinsCodec()
    make = gpt2_decoders(engine_weights(bench_model(), codec), paths, horizon)
    options = SamplingOptions(paths=paths, threads=THREADS)
    chunk = min(count, options.chunk)
    contexts, means = windows(chunk, codec, horizon), np.empty((count, horizon))

    def run() -> None:
        for first in range(0, count, chunk):
            size = min(chunk, count - first)
            means[first : first + size] = sample(part(contexts, 0, size), codec, make, CONTEXT, options).mean

    sample(part(contexts, 0, min(chunk, 32)), codec, make, CONTEXT, options)
    return seconds(run)


def grown(count: int, paths: int, horizon: int) -> float:
    """MiB by which resident memory rises, at most, while all windows are decoded at once."""
    codec = BinsCodec()
    make = gpt2_decoders(engine_weights(bench_model(), codec), paths, horizon)
    contexts, options = windows(count, codec, horizon), SamplingOptions(paths=paths, threads=THREADS)
    sample(part(contexts, 0, 1), codec, make, CONTEXT, options)  # the libraries' own workspaces
    with highest_memory() as seen:
        sample(contexts, codec, make, CONTEXT, options)
    return (max(seen) - seen[0]) / MEBIBYTE


@contextmanager
def highest_memory() -> Iterator[list[int]]:
    """Resident bytes of this process, looked at every few milliseconds; the first is that before the block.

    Not the system's own high-water mark, which importing the libraries may have set already.
    """
    process, done = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(0.005):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()
        seen.append(process.memory_info().rss)


def apart(count: int, paths: int, horizon: int) -> float:
    """`grown` in a process of its own."""
    call = f"from benchmarks.growth import grown; print(grown({count}, {paths}, {horizon}))"
    return float(subprocess.run([sys.executable, "-c", call], check=True, capture_output=True, text=True).stdout)


def measure(quick: bool = False) -> dict[str, Claim]:
    """Memory, and cost per window and per path at both ends of a range."""
    torch.set_num_threads(THREADS)
    few, many = (100, 2_000) if quick else (WINDOWS[0], WINDOWS[-1])
    small, large = (PATHS[1], PATHS[2]) if quick else (PATHS[1], PATHS[-1])
    per_window = [timed(count, 16, 5) / count for count in (few, many)]
    per_path = [timed(64, paths, 20) / paths for paths in (small, large)]
    return {
        "memory of 1,000 windows x 100 paths x 40 steps": Claim(apart(1_000, 100, 40), "MiB", 1_024, at_most=True),
        f"time per window, {many:,} over {few:,} windows": Claim(per_window[1] / per_window[0], "x", 1.25, True),
        f"time per path, {large:,} over {small:,} paths": Claim(per_path[1] / per_path[0], "x", 1.25, True),
    }


def plot(file: Path) -> None:
    """Seconds against windows and against paths, on logarithmic axes with the line of equal cost."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    cases = (
        ("windows", WINDOWS, [timed(count, 16, 5) for count in WINDOWS], "16 paths x 5 steps"),
        ("paths a window", PATHS, [timed(64, paths, 20) for paths in PATHS], "64 windows x 20 steps"),
    )
    for axis, (name, sizes, taken, what) in zip(axes, cases, strict=True):
        axis.loglog(sizes, taken, "o-", label=f"measured, {what}")
        axis.loglog(sizes, [taken[-1] * size / sizes[-1] for size in sizes], "--", label="equal cost for each")
        axis.set_xlabel(name)
        axis.set_ylabel("seconds")
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
        print(json.dumps({name: dict(zip(map(str, sizes), taken, strict=True))}))
    figure.suptitle("Cost of a decode, 4 x 128 model, context 64, two threads")
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    if "--plot" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--plot", type=Path)
        plot(parser.parse_args().plot)
    else:
        main(measure, __doc__)
