"""How a long job shows itself: bars on a terminal, a plain line now and then elsewhere."""

import sys
import threading
import time
from typing import TextIO

from tqdm import tqdm

EVERY_SECONDS = 10.0


class Board:
    """Progress of jobs that run side by side; safe to call from several threads.

    On a terminal each slot has a bar; elsewhere a line is written when a stage begins and every ten seconds within it.
    """

    def __init__(self, slots: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._lock = threading.Lock()
        self._said: dict[int, tuple[str, float]] = {}
        self._bars = [self._bar(slot) for slot in range(slots)] if self._live else []

    def _bar(self, slot: int) -> "tqdm[None]":
        form = "{desc:<44} {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt} {rate_fmt}"
        return tqdm(total=1, position=slot, leave=False, bar_format=form, file=self._stream)

    def show(self, slot: int, what: str, done: int, total: int, note: str = "") -> None:
        """Job `what` in `slot` has done so many of a total."""
        with self._lock:
            if self._live:
                bar = self._bars[slot]
                if bar.desc != what:
                    bar.reset(total=total)
                    bar.set_description_str(what, refresh=False)
                bar.update(done - bar.n)
                return
            last, at = self._said.get(slot, ("", 0.0))
            if last != what or time.monotonic() - at > EVERY_SECONDS:
                self._said[slot] = (what, time.monotonic())
                self._stream.write(f"{what}: {done}/{total}{note and ' ' + note}\n")
                self._stream.flush()

    def say(self, line: str) -> None:
        """A line that stays."""
        with self._lock:
            if self._live:
                tqdm.write(line, file=self._stream)
            else:
                self._stream.write(line + "\n")
                self._stream.flush()

    def close(self) -> None:
        """Clear the bars."""
        for bar in self._bars:
            bar.close()
