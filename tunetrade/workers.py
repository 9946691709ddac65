"""Cells in processes of their own, several at a time, none of which outlives this one.

A process a cell costs two seconds of imports; it buys a peak memory that is the cell's own, and a crash that takes
nothing else along.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from forecasting.files import remove_partials
from tunetrade.cell import Cell
from tunetrade.progress import Board

Finished = tuple[Cell, str | None]

POLL_SECONDS = 0.2
"""A wait without end could not be interrupted by Ctrl-C on Windows."""

GRACE_SECONDS = 5.0

ENDED = "its process was ended by"
"""How a failure begins that is no verdict on the cell: somebody, or the system for want of memory, killed it."""


def run_cells(todo: list[Cell], slots: int, jobs: int, board: Board) -> Generator[Finished, None, None]:
    """Run cells, `slots` at a time; yields (cell, why it failed or None) as they end.

    Each has the threads of one of `jobs` shares of the machine, also where fewer cells are left than that: what a cell
    takes must not depend on what else was to do.

    Use with `contextlib.closing`: closing ends every process and removes what it left half-written.
    """
    queue: SimpleQueue[Cell] = SimpleQueue()
    results: SimpleQueue[Finished] = SimpleQueue()
    children = _Children()
    for cell in todo:
        queue.put(cell)

    def work(slot: int) -> None:
        while not children.stopping:
            try:
                cell = queue.get_nowait()
            except Empty:
                return
            try:
                failure = _run(cell, jobs, children, _teller(board, slot, cell))
            except Exception as error:  # whatever it is, the study must hear of it rather than wait for ever
                failure = f"{type(error).__name__}: {error}"
            board.rest(slot)
            results.put((cell, failure))

    workers = [threading.Thread(target=work, args=(slot,), daemon=True) for slot in range(slots)]
    try:
        for worker in workers:
            worker.start()
        for _ in todo:
            yield _next(results)
    finally:
        children.stop()
        for cell in todo:
            remove_partials(cell.paths.folder)


def _next(results: "SimpleQueue[Finished]") -> Finished:
    while True:
        try:
            return results.get(timeout=POLL_SECONDS)
        except Empty:
            continue


class _Children:
    """The running processes; once stopped, none starts any more."""

    def __init__(self) -> None:
        self.stopping = False
        self._lock = threading.Lock()
        self._running: list[tuple[subprocess.Popen[str], Path]] = []

    def start(self, folder: Path, log: Path, environment: dict[str, str]) -> "subprocess.Popen[str] | None":
        with self._lock:
            if self.stopping:
                return None
            with log.open("w", encoding="utf-8") as errors:
                child = subprocess.Popen(
                    [sys.executable, "-m", "tunetrade.child", str(folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    encoding="utf-8",
                    env=environment,
                )
            self._running = [(other, file) for other, file in self._running if other.poll() is None]
            self._running.append((child, log))
            return child

    def stop(self) -> None:
        with self._lock:
            self.stopping = True
            alive = [(child, log) for child, log in self._running if child.poll() is None]
        for child, _ in alive:
            child.terminate()
        for child, log in alive:
            try:
                child.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(GRACE_SECONDS)
            log.unlink(missing_ok=True)


def _teller(board: Board, slot: int, cell: Cell) -> Callable[[dict[str, Any]], None]:
    """Turns a cell's messages into progress."""
    stage = "start"

    def tell(message: dict[str, Any]) -> None:
        nonlocal stage
        stage = message.get("stage", stage)
        if "of" in message:
            show(board, slot, f"{cell.name} {stage}", message)

    return tell


def show(board: Board, slot: int, what: str, message: dict[str, Any]) -> None:
    """Progress of a training (steps and loss) or of a forecast (windows and paths a second)."""
    if "step" in message:
        board.show(slot, what, message["step"], message["of"], f"loss {message['loss']:.4f}")
    else:
        rate = message["paths_per_second"]
        board.show(slot, what, message["windows"], message["of"], f"{rate:,.0f} paths/s" if rate else "")


def _run(cell: Cell, jobs: int, children: _Children, tell: Callable[[dict[str, Any]], None]) -> str | None:
    """Run one cell to its end; gives why it failed, or None. Its stderr is kept only where it tells more."""
    log = cell.paths.folder / "stderr.log"
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = {
        **os.environ,
        "PYTHONUTF8": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore::FutureWarning",
        "OMP_NUM_THREADS": str(threads),
        "TUNETRADE_THREADS": str(threads),
        "TUNETRADE_JOBS": str(jobs),
    }
    child = children.start(cell.paths.folder, log, environment)
    if child is None:
        return "interrupted"
    assert child.stdout is not None
    failure, defect = None, True
    for line in child.stdout:
        message = _message(line)
        failure, defect = message.get("failed", failure), message.get("defect", defect)
        tell(message)
    code = child.wait()
    if code and (failure is None or defect):
        return f"{failure or _death(code, log)}; see {log}"
    log.unlink(missing_ok=True)
    return failure if code else None


def _message(line: str) -> dict[str, Any]:
    """A line of the child; empty for what is none of ours, or was torn by its death."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _death(code: int, log: Path) -> str:
    """Why a process ended that said nothing itself."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = " (out of memory? try --jobs 1)" if name == "SIGKILL" else ""
        return f"{ENDED} {name}{hint}"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"its process ended with code {code}{last and ': ' + last}"
