"""Every trial, whatever became of it, counts against the result: one JSON line each in runs/ledger.jsonl.

A trial is one backtest of one fitted model on one stretch of data, under its study's rules or others that somebody
tried on it; or an attempt at one that failed. Lines are appended whole, one writer at a time; a
line torn by a kill is ended by the next append and skipped by readers, and its trial is written again because its key
was never read.
"""

import json
import os
from pathlib import Path
from typing import Any

from tunetrade.locks import in_turn

Trial = dict[str, Any]


class Ledger:
    """The ledger as one process sees it: reads each line once, however many trials it adds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0
        self._known: set[str] = set()
        self._catch_up()

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def add(self, trial: Trial) -> bool:
        """Put a trial on disk; False where one of its key is there already, perhaps another process's."""
        with in_turn(self._file.with_name(".ledger.lock")):
            self._catch_up()
            if trial["key"] in self._known:
                return False
            append_line(self._file, json.dumps(trial, sort_keys=True))
        return True

    def _catch_up(self) -> None:
        if not self._file.is_file():
            return
        with self._file.open("rb") as lines:
            lines.seek(self._read)
            for line in lines:
                if line.endswith(b"\n"):
                    self._read += len(line)
                trial = _trial(line)
                if trial:
                    self._known.add(str(trial["key"]))


def trials(file: Path) -> list[Trial]:
    """All whole lines, in order."""
    if not file.is_file():
        return []
    with file.open("rb") as lines:
        return [trial for trial in map(_trial, lines) if trial]


def _trial(line: bytes) -> Trial | None:
    try:
        trial = json.loads(line)
    except ValueError:
        return None
    return trial if isinstance(trial, dict) and "key" in trial else None


def append_line(file: Path, line: str) -> None:
    """Add a line at the end, after ending a torn one; on failure (a full disk) the file is as it was."""
    with file.open("ab+", buffering=0) as ledger:
        size = ledger.seek(0, os.SEEK_END)
        torn = False
        if size:
            ledger.seek(-1, os.SEEK_END)
            torn = ledger.read(1) != b"\n"
        rest = ("\n" * torn + line + "\n").encode()
        try:
            while rest:
                rest = rest[ledger.write(rest) :]
            os.fsync(ledger.fileno())
        except OSError:
            ledger.truncate(size)
            raise
