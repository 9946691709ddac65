"""How tiles are shared out among threads, and what becomes of them when one fails."""

import signal
import threading
import time

import pytest

from forecasting.tiles import Tiling, in_tiles

TILES = 200


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_every_window_is_done_once_and_reported(workers):
    done, reports = [], []
    in_tiles(TILES, Tiling(1, workers), object, lambda _model, tile: done.extend(tile), progress=reports.append)
    assert sorted(done) == list(range(TILES))
    assert sum(reports) == TILES


@pytest.mark.parametrize("failing", ["work", "progress", "make_model"])
def test_after_an_error_no_tile_is_begun(failing):
    done, makers, told = [], [], []

    def make_model():
        makers.append(1)
        if failing == "make_model" and len(makers) == 2:
            raise ValueError("a bad window")
        return object()

    def work(_model, tile):
        if failing == "work" and tile.start == 0:
            raise ValueError("a bad window")
        time.sleep(0.005)
        done.append(tile.start)

    def progress(windows):
        told.append(windows)
        if failing == "progress" and len(told) == 1:
            raise ValueError("a bad window")

    with pytest.raises(ValueError, match="a bad window"):
        in_tiles(TILES, Tiling(1, 2), make_model, work, progress=progress)
    assert len(done) < TILES / 10


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signal can be sent to a thread here")
def test_after_an_interrupt_no_tile_is_begun():
    done = []

    def work(_model, tile):
        if tile.start == 20:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.005)
        done.append(tile.start)

    with pytest.raises(KeyboardInterrupt):
        in_tiles(TILES, Tiling(1, 2), object, work)
    assert len(done) < TILES / 2
