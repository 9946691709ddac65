"""Every trial, whatever became of it, counts against the result: one JSON line each in runs/ledger.jsonl.

A trial is one backtest of one fitted model on one stretch of data. Lines are appended whole; a line torn by a kill is
ended by the next append and skipped by readers, and its trial is written again because its key was never read.
"""

import json
import os
from pathlib import Path
from typing import Any


def keys(file: Path) -> set[str]:
    """Keys of the trials already counted."""
    return {str(trial["key"]) for trial in trials(file)}


def trials(file: Path) -> list[dict[str, Any]]:
    """All whole lines, in order."""
    if not file.is_file():
        return []
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            trial = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(trial, dict) and "key" in trial:
            found.append(trial)
    return found


def append(file: Path, trial: dict[str, Any]) -> None:
    """Add one trial and put it on disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(trial, sort_keys=True) + "\n"
    with file.open("ab+") as ledger:
        if ledger.tell():
            ledger.seek(-1, os.SEEK_END)
            line = line if ledger.read(1) == b"\n" else "\n" + line
        ledger.write(line.encode())
        ledger.flush()
        os.fsync(ledger.fileno())
