"""The dry run without MetaTrader that bridge/terminal/README.md describes, as a new user would do it."""

import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_live import RUNS, serving

from bridge.terminal.build import BuildError, compiler
from forecasting.bars import load_bars
from tunetrade.dry_run import main

RUN = f"{RUNS}/full/1"
BARS = 6


def asked(journal: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(journal)) as base:
        return base.execute(query).fetchall()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C of another process")
def test_serve_terminal_ctrl_c_serve_again_and_nothing_is_lost_or_doubled(finished: Path, tmp_path: Path) -> None:
    try:
        compiler()
    except BuildError as error:
        pytest.skip(str(error))
    journal, decided = tmp_path / "journal.sqlite", "SELECT bar_time_ms, code FROM acks WHERE code != 'DUP'"
    command = [sys.executable, "-m", "tunetrade.dry_run", RUN, "--bars", str(BARS), "--folder", str(tmp_path / "dry")]
    with serving(finished, journal) as (port, _):
        terminal = subprocess.Popen([*command, "--port", str(port)], cwd=finished, stdout=subprocess.PIPE, text=True)
        while len(asked(journal, decided)) < 2:
            assert terminal.poll() is None
            time.sleep(0.01)
    with serving(finished, journal, "--port", str(port)):
        said, _ = terminal.communicate(timeout=300)
    assert terminal.returncode == 0 and "link: live, model full/1" in said
    closes = (load_bars("ecb:EURUSD").times.astype(np.int64) // 1_000_000).tolist()
    kept = [time_ms for (time_ms,) in asked(journal, "SELECT time_ms FROM bars ORDER BY time_ms")]
    assert kept == closes[-1 - len(kept) : -1] and len(kept) > BARS
    counts = Counter(bar for bar, _ in asked(journal, decided))
    # What was said to a server in the moment it was stopped may be missing: an ack is told once.
    assert set(counts.values()) == {1} and len(counts) >= BARS - 1 and kept[-1] in counts
    assert {code for _, code in asked(journal, decided)} <= {"TAKEN", "NOOP"}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["runs/none"], "no run folder"),
        ([RUN, "--bars", "0"], "above 0"),
        ([RUN, "--folder", "of-other-bars"], "name another --folder"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_line(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    monkeypatch.chdir(finished)
    Path("of-other-bars").mkdir(exist_ok=True)
    Path("of-other-bars/market").write_text("other bars")
    assert main(words) == 2
    assert error in capsys.readouterr().err
