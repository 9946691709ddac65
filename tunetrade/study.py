"""A study: the grid series x (methods and ensembles x seeds, baselines, benchmarks) worked off into run folders.

Each cell runs in a process of its own, so its peak memory is its own and a crash takes nothing else along. What is
done is skipped, what was killed goes on, and a cell that fails is recorded as a row while the others go on.
"""

import os
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.bars import Bars, load_bars
from forecasting.base import find_base
from forecasting.baselines import BASELINES
from forecasting.cache import limit_bytes
from forecasting.errors import ConfigError
from forecasting.files import read_json, write_json
from forecasting.methods import METHODS, method
from strategies.market import check_hours, market_of, spreads
from strategies.signals import check_horizon
from tunetrade.audit.run import is_audited, read_audit, summarise
from tunetrade.beside import series_beside
from tunetrade.cell import Cell, fingerprints, stages
from tunetrade.checks import check_baselines, check_machine, check_methods, has_baseline, warn
from tunetrade.config import StudyConfig, as_plain
from tunetrade.layout import CellPaths, cell_folder, done_stages, read_run, update
from tunetrade.ledger import Ledger
from tunetrade.locks import only_one
from tunetrade.prepared import Prepared, prepare
from tunetrade.progress import Board
from tunetrade.provenance import made_by
from tunetrade.trials import outcome, trial
from tunetrade.walk import folds
from tunetrade.workers import Finished, run_cells

LEDGER = "ledger.jsonl"
LOCK = ".lock"
STUDY = "study.json"
RUNS = "*/*/*/run.json"

Runner = Callable[[list[Cell], int, int, Board], Generator[Finished, None, None]]
"""What works off cells, as `workers.run_cells` does."""


@dataclass(frozen=True)
class Outcome:
    """What became of a study's cells: names of those done now, skipped because nothing changed, and failed with why.

    left_over: run folders that an earlier form of the study made and this one does not name; they are left alone.
    """

    folder: Path
    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]
    left_over: tuple[str, ...]


def cells(study: StudyConfig, runs: Path, loaded: dict[str, Bars]) -> list[Cell]:
    """Every cell of the grid, the longest first."""
    found = []
    baselines = {source: _baselines(study, loaded[source]) for source in study.series}
    for name in study.methods:
        seeds = study.seeds if method(name).trains else (0,)
        found += [("method", name, source, seed) for seed in seeds for source in study.series]
    found += [("baseline", name, source, 0) for source in study.series for name in baselines[source]]
    found += [("benchmark", name, source, 0) for name in study.benchmarks for source in study.series]
    found.sort(key=lambda cell: cell[0] != "method" or not method(cell[1]).trains)
    for name, options in study.ensemble.items():
        trained = any(member in METHODS and METHODS[member].trains for member in options.members)
        found += [
            ("ensemble", name, source, seed)
            for seed in (study.seeds if trained else (0,))
            for source in study.series
            if {*study.methods, *baselines[source]}.issuperset(options.members)
        ]

    def folder(source: str, name: str, seed: int) -> Path:
        return cell_folder(runs, study.name, loaded[source].instrument.unique_id, name, seed)

    return [
        Cell(CellPaths(folder(source, name, seed)), study, source, kind, name, seed)
        for kind, name, source, seed in found
    ]


def _baselines(study: StudyConfig, bars: Bars) -> list[str]:
    """Those that can be had on the series."""
    if not any(BASELINES[name].seasonal for name in study.baselines):
        return list(study.baselines)
    prepared = prepare(study, bars)
    return [name for name in study.baselines if has_baseline(name, prepared)]


def load_series(study: StudyConfig) -> dict[str, Bars]:
    """Bars of every series, after checking that methods and baselines can be, each series be split, answers unseen."""
    check_methods(study)
    limit_bytes()  # refuses a bound that is no number
    loaded: dict[str, Bars] = {}
    parts: dict[str, Prepared] = {}
    for source in study.series:
        bars = load_bars(source, study.source)
        parts[bars.instrument.unique_id] = prepared = prepare(study, bars)
        if study.walk.on:
            folds(prepared.split, study.walk)  # refuses a rolling window that is too long
        check_trading(study, bars, prepared.test_span(bars))
        twin = next((name for name, other in loaded.items() if _same_id(other, bars)), None)
        if twin:
            raise ConfigError(
                f"series {twin} and {source} are both {bars.instrument.unique_id}; give one a study of its own"
            )
        loaded[source] = bars
    check_baselines(study, parts)
    return loaded


def check_trading(study: StudyConfig, bars: Bars, span: tuple[np.datetime64, np.datetime64]) -> None:
    """Refuse before the work what a backtest of `span` would refuse after it.

    That is a horizon too short for a source of closes, spreads that are not there or cannot be, and an account that
    cannot be converted.
    """
    check_horizon(study.windows.horizon, bars.instrument.close_only, study.trading.expiry_bars)
    check_hours(bars, study.broker)
    traded = (bars.times >= span[0]) & (bars.times <= span[1])
    if not traded.any():
        return
    part = replace(bars, frame=bars.frame[traded])
    missing = np.isnan(spreads(part, study.broker))
    if missing.any():
        raise ConfigError(
            f'broker.spread_points is "data", but {missing.sum()} of {len(missing)} test bars of '
            f"{bars.instrument.source} have no spread; set it to a number of points, such as 10"
        )
    market_of(part, study.broker, *series_beside(study))


def run_study(
    study: StudyConfig, runs: Path, jobs: int = 0, whole: bool = True, runner: Runner | None = None
) -> Outcome:
    """Work off every cell that is not done; `jobs` processes at once, 0 for one per core.

    Not `whole`: the cells join those already in the study's folder rather than take their place in its report. Results
    do not depend on `jobs`. One process at a time may work in a study's folder.
    """
    folder = runs / study.name
    loaded = load_series(study)
    grid = cells(study, runs, loaded)
    check_machines(study, grid, loaded)
    with only_one(folder / LOCK, busy(folder)):
        _list(folder, grid, whole)
        return work_off(study, folder, grid, loaded, jobs, runner)


def check_machines(study: StudyConfig, grid: list[Cell], loaded: dict[str, Bars]) -> None:
    """ConfigError where this machine lacks a device that a cell still needs; what is done may be from another one."""
    base = find_base(study.base)
    for cell in grid:
        if cell.kind in ("method", "trial"):
            wanted = fingerprints(cell, loaded[cell.source].instrument.sha256, base)
            done = _stages(cell.paths, read_run(cell.paths) or {}, wanted)
            check_machine(cell.study, cell.method, wanted.keys() - set(done))


def busy(folder: Path) -> str:
    """What to say where another process works in a study's folder."""
    return f"another tunetrade is at work in {folder}; wait until it ends, or give another --runs"


def work_off(
    study: StudyConfig,
    folder: Path,
    grid: list[Cell],
    loaded: dict[str, Bars],
    jobs: int,
    runner: Runner | None = None,
) -> Outcome:
    """Do the cells of `grid` that are not done, on `loaded` bars by source; the caller holds the folder's lock."""
    for bars in loaded.values():
        warn(bars, study.source)
    ledger = Ledger(folder.parent / LEDGER)
    base = find_base(study.base)
    every = {cell.name: fingerprints(cell, loaded[cell.source].instrument.sha256, base) for cell in grid}
    todo: list[Cell] = []
    skipped: list[Cell] = []
    for cell in grid:
        (skipped if is_done(cell, every[cell.name]) else todo).append(cell)
    for cell in todo:
        open_cell(cell, loaded[cell.source], base.card)
    for cell in skipped:
        _count_trial(ledger, cell)
    jobs = jobs or os.cpu_count() or 1
    slots = max(1, min(jobs, len(todo)))
    board = Board(slots)
    done: list[str] = []
    failed: dict[str, str] = {}
    try:
        with closing(_in_order(runner or run_cells, todo, slots, jobs, board)) as finished:
            for cell, failure in finished:
                update(cell.paths, status="failed" if failure else "done", failure=failure)
                if failure:
                    failed[cell.name] = failure
                    _count_failure(ledger, cell, every[cell.name], failure)
                    board.say(f"{cell.name} failed: {failure}")
                else:
                    _count_trial(ledger, cell)
                    done.append(cell.name)
                    board.say(f"{cell.name} done{_audit_of(cell)}")
    finally:
        board.close()
    if study.audit.in_study:
        summarise(folder, [cell.paths.folder for cell in grid])
    return Outcome(folder, tuple(done), tuple(cell.name for cell in skipped), failed, _left_over(folder, grid))


def _audit_of(cell: Cell) -> str:
    """A word on a cell whose audit found something."""
    found = read_audit(cell.paths.folder) if cell.study.audit.in_study else None
    return f", its audit FAILS: see {cell.paths.folder / 'audit.txt'}" if found and found["verdict"] == "FAIL" else ""


def _in_order(runner: Runner, todo: list[Cell], slots: int, jobs: int, board: Board) -> Generator[Finished, None, None]:
    """Ensembles after all others, which are their members."""
    for wanted in (False, True):
        part = [cell for cell in todo if (cell.kind == "ensemble") == wanted]
        if part:
            with closing(runner(part, slots, jobs, board)) as finished:
                yield from finished


def _list(folder: Path, grid: list[Cell], whole: bool) -> None:
    """Name the cells of the study in study.json, by which the report tells them from folders of an earlier form."""
    file, names = folder / STUDY, {cell.paths.folder.relative_to(folder).as_posix() for cell in grid}
    try:
        listed = set(read_json(file)["cells"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        listed = {path.parent.relative_to(folder).as_posix() for path in folder.glob(RUNS)}
    wanted = names if whole else names | listed
    if wanted != listed or not file.is_file():
        write_json(file, {"cells": sorted(wanted)})


def _left_over(folder: Path, grid: list[Cell]) -> tuple[str, ...]:
    found = {file.parent for file in folder.glob(RUNS)} - {cell.paths.folder for cell in grid}
    return tuple(sorted(path.relative_to(folder).as_posix() for path in found))


def _same_id(one: Bars, other: Bars) -> bool:
    return one.instrument.unique_id == other.instrument.unique_id


def is_done(cell: Cell, wanted: dict[str, str]) -> bool:
    """Whether a cell's folder holds what was asked for, by the fingerprints `wanted` of its stages, and its audit."""
    run = read_run(cell.paths)
    if run is None or run.get("status") != "done" or _stages(cell.paths, run, wanted) != list(wanted):
        return False
    return is_audited(cell, run)


def _stages(paths: CellPaths, run: dict[str, Any], wanted: dict[str, str]) -> list[str]:
    return done_stages(paths, run.get("stages") or {}, wanted)


def open_cell(cell: Cell, bars: Bars, card: dict[str, Any]) -> None:
    """Write run.json as it stands before the work; finished stages, and what made them, are kept."""
    earlier = read_run(cell.paths) or {}
    made = earlier.get("stages") or {}
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
            "data_sha": bars.instrument.sha256,
            "data_range": [str(bars.times[0]), str(bars.times[-1])],
            "bars": len(bars),
            "instrument": asdict(bars.instrument),
            "base": card,
            "stages": made,
            **({name: earlier.get(name) for name in ("versions", "git")} if made else made_by()),
        },
    )


def _count_trial(ledger: Ledger, cell: Cell) -> None:
    """Append a cell's trial to the ledger unless it is there."""
    run = read_json(cell.paths.run)
    key = run["stages"][list(stages(cell))[-1]]
    if key not in ledger:
        ledger.add(trial(cell, run, key) | outcome(cell))


def _count_failure(ledger: Ledger, cell: Cell, wanted: dict[str, str], failure: str) -> None:
    """Append a trial that came to nothing; once, however often it is tried and fails."""
    key = f"{list(wanted.values())[-1]}-failed"
    if key not in ledger:
        ledger.add(trial(cell, read_json(cell.paths.run), key) | {"failed": failure})
