"""How a long job shows itself: bars on a terminal, a plain line now and then elsewhere."""

import sys
import threading
import time
from typing import TextIO

from tqdm import tqdm

EVERY_SECONDS = 10.0
FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {remaining}{postfix}"


class Board:
    """Progress of jobs that run side by side; safe to call from several threads.

    On a terminal each slot has a bar as wide as the terminal is; elsewhere a line is written when a stage begins and
    every ten seconds within it.
    """

    def __init__(self, slots: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._slots = slots
        self._lock = threading.Lock()
        self._said: dict[int, tuple[str, float]] = {}
        self._bars: dict[int, tqdm[None]] = {}
        self._names: dict[int, str] = {}

    def show(self, slot: int, what: str, done: int, total: int, note: str = "") -> None:
        """Job `what` in `slot` has done so many of a total."""
        with self._lock:
            if self._live:
                self._draw(slot, what, done, total, note)
                return
            last, at = self._said.get(slot, ("", 0.0))
            if last != what or time.monotonic() - at > EVERY_SECONDS:
                self._said[slot] = (what, time.monotonic())
                self._stream.write(f"{what}: {done}/{total}{note and ' ' + note}\n")
                self._stream.flush()

    def _draw(self, slot: int, what: str, done: int, total: int, note: str) -> None:
        if slot not in self._bars:
            self._bars[slot] = tqdm(
                total=total, position=slot, leave=False, bar_format=FORMAT, file=self._stream, dynamic_ncols=True
            )
        bar = self._bars[slot]
        if self._names.get(slot) != what:
            self._names[slot] = what
            bar.reset(total=total)
        bar.set_description_str(fitted(what, (bar.ncols or 80) // 2), refresh=False)
        bar.set_postfix_str(note, refresh=False)
        bar.update(done - bar.n)

    def rest(self, slot: int) -> None:
        """Nothing runs in `slot` now."""
        with self._lock:
            self._names.pop(slot, None)
            bar = self._bars.pop(slot, None)
            if bar is not None:
                bar.close()

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
        for slot in list(self._bars):
            self.rest(slot)


def fitted(text: str, width: int) -> str:
    """`text` in exactly `width` columns; of a longer one the end is kept, which tells more.

    >>> fitted("lora/1 train", 14), fitted("EURUSD-D1/lora/1 train", 14)
    ('lora/1 train  ', '...ora/1 train')
    """
    if len(text) <= width:
        return text.ljust(width)
    return "..." + text[3 - width :] if width > 3 else text[:width]
