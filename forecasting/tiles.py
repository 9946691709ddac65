"""Windows worked on several at a time, on several threads, without changing a byte of any.

A tile means more arithmetic for each call into torch, which matters most where threads share one interpreter lock.
Whether a window's bytes are the same in a tile as alone is up to the libraries beneath, so before the first tile it is
tried out; where they differ, windows go one by one.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch

Model = TypeVar("Model")

_AGREED: WeakKeyDictionary[Callable[[], object], dict[tuple[int, int, int], bool]] = WeakKeyDictionary()
"""For each maker of models and (paths, context, steps): does a tile give the bytes of its windows alone?"""


@dataclass(frozen=True)
class Tiling:
    """How windows are shared out: `size` a tile, `workers` tiles at once.

    whole: every tile is full, the last one beyond the last window, and none is tried out. A window's bytes then depend
    on no other where a product of one shape sums each row the same way, as on a CUDA device.
    """

    size: int
    workers: int
    whole: bool = False


def in_tiles(
    count: int,
    tiling: Tiling,
    make_model: Callable[[], Model],
    work: Callable[[Model, range], None],
    alike: Callable[[Model, range], bool] | None = None,
    shape: tuple[int, int, int] = (0, 0, 0),
    progress: Callable[[int], None] | None = None,
) -> None:
    """Have `work(model, tile)` do all windows, in tiles where `alike(model, tile)` finds bytes as alone.

    Each of the workers makes a model of its own; `progress(n)` is told the windows of a tile when it is done, one call
    at a time. What `alike` found is remembered for the maker of models and `shape`; tiles of one window need neither.
    After an error, or Ctrl-C, no tile is begun: those under way are finished, and it is raised.
    """
    reporting, stopped = threading.Lock(), threading.Event()
    size, workers = tiling.size, min(tiling.workers, max(1, count))

    def run(tiles: Iterator[range]) -> None:
        model = make_model()
        for tile in tiles:
            if stopped.is_set():
                return
            work(model, tile)
            if progress:
                with reporting:
                    progress(min(tile.stop, count) - tile.start)

    with single_threaded_products(), torch.inference_mode():
        if alike and not tiling.whole and size > 1 and count >= size * workers:
            known = _AGREED.setdefault(make_model, {})
            if shape not in known:
                known[shape] = alike(make_model(), range(size))
            size = size if known[shape] else 1
        pending = iter(_full_tiles(count, size) if tiling.whole else _tiles(count, size, workers))
        if workers == 1:
            run(pending)
        else:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                runs = [pool.submit(torch.inference_mode()(run), pending) for _ in range(workers)]
                try:
                    wait(runs, return_when=FIRST_EXCEPTION)
                finally:
                    stopped.set()
                for done in runs:
                    done.result()


def rows_of(tile: range, count: int) -> np.ndarray:
    """Indices of a tile's windows out of `count`; what lies beyond the last is the last again."""
    return np.minimum(np.arange(tile.start, tile.stop), count - 1)


def _tiles(count: int, size: int, workers: int) -> list[range]:
    """Whole tiles, as many for each worker, then single windows; workers take the next as they become free."""
    whole = count // (size * workers) * size * workers
    return _full_tiles(whole, size) + [range(i, i + 1) for i in range(whole, count)]


def _full_tiles(count: int, size: int) -> list[range]:
    """Tiles of one size, the last beyond the last window where `count` is not a multiple."""
    return [range(first, first + size) for first in range(0, count, size)]


@contextmanager
def single_threaded_products() -> Iterator[None]:
    """One thread for each matrix product; of several the sums would differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
