"""A study: the grid series x (methods x seeds, baselines, benchmarks) worked off into run folders.

Each cell runs in a process of its own, so its peak memory is its own and a crash takes nothing else along. What is
done is skipped, what was killed goes on, and a cell that fails is recorded as a row while the others go on.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pandas as pd

from forecasting.bars import Bars, load_bars
from forecasting.base import find_base
from forecasting.errors import ConfigError
from forecasting.files import read_json, write_json
from forecasting.methods import method
from strategies.metrics import daily_returns
from tunetrade import ledger
from tunetrade.cell import Cell, fingerprints
from tunetrade.config import StudyConfig, as_plain
from tunetrade.layout import CellPaths, cell_folder, update
from tunetrade.prepared import prepare
from tunetrade.progress import Board

LEDGER = "ledger.jsonl"
PACKAGES = (
    "tunetrade", "torch", "transformers", "peft", "accelerate", "numpy", "pandas", "scipy", "backtrader", "pyzmq", "pyarrow",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a study's cells: names of those done now, skipped because nothing changed, and failed with why."""

    folder: Path
    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]


def cells(study: StudyConfig, runs: Path, loaded: dict[str, Bars]) -> list[Cell]:
    """Every cell of the grid, the longest first."""
    found = []
    for name in study.methods:
        seeds = study.seeds if method(name).trains else (0,)
        found += [("method", name, source, seed) for seed in seeds for source in study.series]
    found += [("baseline", name, source, 0) for name in study.baselines for source in study.series]
    found += [("benchmark", name, source, 0) for name in study.benchmarks for source in study.series]
    found.sort(key=lambda cell: cell[0] != "method" or not method(cell[1]).trains)

    def folder(source: str, name: str, seed: int) -> Path:
        return cell_folder(runs, study.name, loaded[source].instrument.unique_id, name, seed)

    return [
        Cell(CellPaths(folder(source, name, seed)), study, source, kind, name, seed)
        for kind, name, source, seed in found
    ]


def load_series(study: StudyConfig) -> dict[str, Bars]:
    """Bars of every series, after checking that each can be split and that the base has not seen the answers."""
    loaded: dict[str, Bars] = {}
    for source in study.series:
        bars = load_bars(source, study.source)
        prepare(study, bars)
        twin = next((name for name, other in loaded.items() if _same_id(other, bars)), None)
        if twin:
            raise ConfigError(
                f"series {twin} and {source} are both {bars.instrument.unique_id}; give one a study of its own"
            )
        loaded[source] = bars
    return loaded


def run_study(study: StudyConfig, runs: Path, jobs: int = 0) -> Outcome:
    """Work off every cell that is not done; `jobs` processes at once, 0 for one per core.

    Results do not depend on `jobs`.
    """
    loaded = load_series(study)
    base_sha = find_base(study.base).sha
    todo, skipped = [], []
    for cell in cells(study, runs, loaded):
        bars = loaded[cell.source]
        wanted = fingerprints(cell, bars.instrument.sha256, base_sha)
        if _is_done(cell.paths, wanted):
            skipped.append(cell)
        else:
            _open(cell, bars)
            todo.append(cell)
    cores = os.cpu_count() or 1
    slots = max(1, min(jobs or cores, len(todo)))
    board = Board(slots)
    failed: dict[str, str] = {}
    try:
        with _workers(todo, slots, max(1, cores // slots), board) as finished:
            for cell, failure in finished:
                update(cell.paths, status="failed" if failure else "done", failure=failure)
                if failure:
                    failed[_name(cell)] = failure
                    board.say(f"{_name(cell)} failed: {failure}")
                else:
                    board.say(f"{_name(cell)} done")
    finally:
        board.close()
    _count_trials(runs / LEDGER, [cell for cell in (*skipped, *todo) if _name(cell) not in failed])
    done = tuple(_name(cell) for cell in todo if _name(cell) not in failed)
    return Outcome(runs / study.name, done, tuple(map(_name, skipped)), failed)


def _same_id(one: Bars, other: Bars) -> bool:
    return one.instrument.unique_id == other.instrument.unique_id


def _name(cell: Cell) -> str:
    return "/".join(cell.paths.folder.parts[-3:])


def _is_done(paths: CellPaths, wanted: dict[str, str]) -> bool:
    if not paths.run.is_file():
        return False
    run = read_json(paths.run)
    return bool(run["status"] == "done" and run["stages"] == wanted)


def _open(cell: Cell, bars: Bars) -> None:
    """Write run.json as it stands before the work; finished stages of an earlier run are kept."""
    stages = read_json(cell.paths.run)["stages"] if cell.paths.run.is_file() else {}
    write_json(
        cell.paths.run,
        {
            "study": cell.study.name,
            "source": cell.source,
            "unique_id": bars.instrument.unique_id,
            "kind": cell.kind,
            "method": cell.method,
            "seed": cell.seed,
            "status": "pending",
            "failure": None,
            "config": as_plain(cell.study),
            "versions": {name: _version(name) for name in PACKAGES} | {"python": sys.version.split()[0]},
            "data_sha": bars.instrument.sha256,
            "data_range": [str(bars.times[0]), str(bars.times[-1])],
            "bars": len(bars),
            "base": find_base(cell.study.base).card,
            "git": git_state(),
            "instrument": asdict(bars.instrument),
            "stages": stages,
        },
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout this code runs from, None outside one."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


Finished = tuple[Cell, str | None]


@contextmanager
def _workers(todo: list[Cell], slots: int, threads: int, board: Board) -> Iterator[Iterator[Finished]]:
    """Run cells in processes, `slots` at a time; yields (cell, failure or None) as they end, and ends all on the way out."""
    queue: SimpleQueue[Cell] = SimpleQueue()
    results: SimpleQueue[Finished] = SimpleQueue()
    running: dict[int, subprocess.Popen[str]] = {}
    stopping = threading.Event()
    for cell in todo:
        queue.put(cell)

    def work(slot: int) -> None:
        while not stopping.is_set():
            try:
                cell = queue.get_nowait()
            except Empty:
                return
            try:
                failure = _run_process(cell, threads, partial(running.__setitem__, slot), _teller(board, slot, cell))
            except Exception as error:  # whatever it is, the study must hear of it rather than wait for ever
                failure = f"{type(error).__name__}: {error}"
            results.put((cell, failure))

    def finished() -> Iterator[Finished]:
        for _ in todo:
            yield results.get()

    for slot in range(slots):
        threading.Thread(target=work, args=(slot,), daemon=True).start()
    try:
        yield finished()
    finally:
        stopping.set()
        for child in running.values():
            if child.poll() is None:
                child.terminate()
                child.wait(10)


def _teller(board: Board, slot: int, cell: Cell) -> Callable[[dict[str, Any]], None]:
    """Turns a cell's messages into progress."""
    stage = "start"

    def tell(message: dict[str, Any]) -> None:
        nonlocal stage
        stage = message.get("stage", stage)
        what = f"{_name(cell)} {stage}"
        if "step" in message:
            board.show(slot, what, message["step"], message["of"], f"loss {message['loss']:.4f}")
        elif "windows" in message:
            board.show(slot, what, message["windows"], message["of"])

    return tell


def _run_process(
    cell: Cell,
    threads: int,
    started: Callable[["subprocess.Popen[str]"], None],
    tell: Callable[[dict[str, Any]], None],
) -> str | None:
    """Run one cell to its end; gives why it failed, or None."""
    log = cell.paths.folder / "stderr.log"
    environment = {
        **os.environ,
        "PYTHONUTF8": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore::FutureWarning",
        "OMP_NUM_THREADS": str(threads),
        "TUNETRADE_THREADS": str(threads),
    }
    failure = None
    with log.open("w", encoding="utf-8") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "tunetrade.cell", str(cell.paths.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        started(child)
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("{"):
                message = json.loads(line)
                failure = message.get("failed", failure)
                tell(message)
        code = child.wait()
    if code == 0:
        log.unlink(missing_ok=True)
        return None
    return failure or f"its process ended with code {code} (killed, or out of memory?); see {log}"


def _count_trials(file: Path, done: list[Cell]) -> None:
    """Append to the ledger the trials it does not hold yet."""
    known = ledger.keys(file)
    for cell in done:
        run = read_json(cell.paths.run)
        key = run["stages"]["backtest"]
        if key in known:
            continue
        forecast = read_json(cell.paths.forecast) if cell.kind != "benchmark" else {}
        returns = daily_returns(pd.read_parquet(cell.paths.equity))
        settings = {name: run["config"][name] for name in ("windows", "split", "training", "sampling", "trading")}
        ledger.append(
            file,
            {
                "key": key,
                "study": cell.study.name,
                "unique_id": run["unique_id"],
                "kind": cell.kind,
                "method": cell.method,
                "seed": cell.seed,
                "data_sha": run["data_sha"],
                "settings": settings | {"method": run["config"]["method"].get(cell.method)},
                "validation": forecast.get("validation"),
                "days": [str(day)[:10] for day in returns.index],
                "daily_returns": [round(float(value), 10) for value in returns],
            },
        )
