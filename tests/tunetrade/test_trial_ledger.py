"""The ledger counts each trial once, whoever writes and whenever they are killed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunetrade import ledger
from tunetrade.ledger import Ledger, trials


def trial(key: str) -> dict[str, Any]:
    return {"key": key, "daily_returns": [0.5] * 3000}


def keys(file: Path) -> list[str]:
    return [found["key"] for found in trials(file)]


def test_a_trial_is_counted_once(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "ledger.jsonl"
    assert trials(file) == []
    book = Ledger(file)
    assert book.add(trial("a"))
    assert not book.add(trial("a"))
    assert "a" not in Ledger(tmp_path / "other.jsonl")
    assert "a" in Ledger(file)
    assert not Ledger(file).add(trial("a"))
    assert keys(file) == ["a"]


def test_a_torn_line_is_skipped_and_its_trial_written_again(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    Ledger(file).add(trial("a"))
    whole = json.dumps(trial("b"))
    with file.open("a") as torn:
        torn.write(whole[: len(whole) // 2])
    book = Ledger(file)
    assert "b" not in book
    assert book.add(trial("b"))
    assert keys(file) == ["a", "b"]
    assert Ledger(file).add(trial("c"))
    assert keys(file) == ["a", "b", "c"]


def test_another_process_trials_are_seen_before_adding(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path / "l.jsonl"), Ledger(tmp_path / "l.jsonl")
    assert one.add(trial("a"))
    assert not other.add(trial("a"))


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "l.jsonl"
    Ledger(file).add(trial("a"))
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        Ledger(file).add(trial("b"))
    assert file.read_bytes() == before


def test_concurrent_writers_neither_tear_nor_repeat(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tunetrade.ledger import Ledger\n"
        "book = Ledger(Path(sys.argv[1]))\n"
        "for i in range(40): book.add({'key': str(i), 'who': sys.argv[2], 'daily_returns': [0.25] * 5000})"
    )
    file = tmp_path / "l.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(file), str(who)]) for who in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert sorted(keys(file), key=int) == [str(i) for i in range(40)]
    assert len(file.read_bytes().splitlines()) == 40
