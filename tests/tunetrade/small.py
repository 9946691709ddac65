"""Small studies, and how two sets of run folders are compared."""

import contextlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunetrade.cell import Cell, run_cell
from tunetrade.faults import told
from tunetrade.layout import VOLATILE, VOLATILE_FOLDERS
from tunetrade.workers import Finished

STUDY = """
name = "small"
series = ["ecb:EURUSD"]
base = "BASE"
methods = ["full", "adapter"]
baselines = ["random-walk"]
benchmarks = ["buy-and-hold"]
[windows]
context = 12
horizon = 3
[codec]
half_lives = [3.0]
weights = [1.0]
[split]
train_start = 2018-01-01
validation_start = 2019-01-01
test_start = 2019-06-01
test_end = 2019-07-15  # no quotes: a TOML date
[training]
steps = 4
evaluate_every = 2
min_steps = 4
[sampling]
paths = 8
[audit]
in_study = false
[method.adapter]
bottleneck = 10_000_000_000_000
"""


def study_values(base: Path) -> dict[str, Any]:
    """The small study as what its file holds."""
    return tomllib.loads(STUDY.replace("BASE", base.as_posix()))


def write_study(folder: Path, base: Path) -> Path:
    """The small study, whose adapter fails: no machine has memory for it."""
    file = folder / "small.toml"
    file.write_text(STUDY.replace("BASE", base.as_posix()), encoding="utf-8")
    return file


def contents(runs: Path) -> dict[str, Any]:
    """Every file of the run folders below `runs`, without the volatile fields and folders.

    The commit a run came from is left out too: someone may commit between two runs.
    """
    found: dict[str, Any] = {}
    for file in sorted(path for path in runs.glob("*/*/*/*/**/*") if path.is_file()):
        name = file.relative_to(runs).as_posix()
        if set(file.relative_to(runs).parts) & set(VOLATILE_FOLDERS):
            continue
        if file.suffix == ".json":
            left_out = (*VOLATILE.get(file.name, ()), "git")
            value = json.loads(file.read_text(encoding="utf-8"))
            found[name] = {key: item for key, item in value.items() if key not in left_out}
        else:
            found[name] = file.read_bytes()
    return found


def partials(folder: Path) -> list[Path]:
    """What was left half-written."""
    return [*folder.rglob(".partial-*"), *folder.rglob("train-state-*"), *folder.rglob("stderr.log")]


def in_this_process(todo: list[Cell], *_: object) -> Iterator[Finished]:
    """What `run_cells` does, without processes: imports cost more than such small cells."""
    for cell in todo:
        try:
            run_cell(cell.paths.folder, lambda _: None)
        except Exception as error:
            failure = told(error)
            assert failure, error
            yield cell, failure
        else:
            yield cell, None


@contextlib.contextmanager
def inside(folder: Path, run_cells: str) -> Iterator[None]:
    """In that folder, what is called `run_cells` works in this process, with a cache of the folder's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TUNETRADE_CACHE", str(folder / "cache"))
        patch.setattr(run_cells, in_this_process)
        yield
