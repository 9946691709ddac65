"""Run folders become one frozen record, so that the rest of the report never touches a disk.

Only small JSON is read eagerly; the tables of a cell are read when a plot asks for them. A damaged or half-finished
cell is a row with a message, never a reason to have no report: the cost is that every figure downstream may be missing.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from forecasting.errors import UserError
from forecasting.files import PARTIAL

KINDS = ("method", "baseline", "benchmark")
RANDOM_WALK = "random-walk"
BUY_AND_HOLD = "buy-and-hold"
ALWAYS_FLAT = "always-flat"
DENSITY_BASELINES = ("seasonal-ewma-t", "ewma-t")
FORECAST_COLUMNS = ["cutoff", "ds", "h", "y", "mean", "q10", "q90", "anchor"]

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run folder: a method on a series with a seed. An absent JSON file is an empty mapping."""

    series: str
    method: str
    kind: str
    seed: int
    status: str
    failure: str
    folder: Path
    run: Json
    train: Json
    forecast: Json
    backtest: Json

    @property
    def done(self) -> bool:
        """Whether the cell ran to its end."""
        return self.status == "done"

    @property
    def figures(self) -> Json:
        """Money figures of the backtest."""
        return _mapping(self.backtest.get("figures"))

    @property
    def errors(self) -> Json:
        """Error figures over all steps."""
        return _mapping(_mapping(self.forecast.get("metrics")).get("overall"))

    @property
    def errors_by_step(self) -> dict[int, Json]:
        """Error figures of each step ahead, 1..H."""
        steps = _mapping(_mapping(self.forecast.get("metrics")).get("by_step"))
        return {int(step): _mapping(steps[step]) for step in sorted(steps, key=int)}


@dataclass(frozen=True)
class Study:
    """All cells of a study, ordered by series, kind, method and seed."""

    name: str
    cells: tuple[Cell, ...]

    @property
    def series(self) -> list[str]:
        """Names of the series, sorted."""
        return sorted({cell.series for cell in self.cells})

    @property
    def methods(self) -> list[str]:
        """Names of all methods, baselines and benchmarks, in that order."""
        return list(dict.fromkeys(cell.method for cell in sorted(self.cells, key=_order)))

    def kind(self, method: str) -> str:
        """Kind of a method: one of KINDS."""
        return next(cell.kind for cell in self.cells if cell.method == method)

    def of(self, series: str | None = None, method: str | None = None, done: bool = True) -> list[Cell]:
        """Cells of a series and a method (None: any), by default those that ran to their end."""
        return [
            cell
            for cell in self.cells
            if series in (None, cell.series) and method in (None, cell.method) and (cell.done or not done)
        ]


def read_study(folder: Path) -> Study:
    """Read every run folder `<folder>/<series>/<method>/<seed>/`; only those study.json names, where there is one.

    Raises UserError where there is no run to report on.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such study folder; run `tunetrade study FILE.toml` first, or give another folder"
        )
    runs = sorted(path for path in folder.glob("*/*/*/run.json") if PARTIAL not in str(path.relative_to(folder)))
    listed = _read_mapping(folder / "study.json")[0].get("cells")
    if isinstance(listed, list):
        runs = [path for path in runs if path.parent.relative_to(folder).as_posix() in listed]
    if not runs:
        raise UserError(
            f"{folder}: no finished run in it; run `tunetrade study FILE.toml` first, or give another folder"
        )
    cells = [_read_cell(path.parent) for path in runs]
    names = sorted({str(cell.run["study"]) for cell in cells if cell.run.get("study")})
    return Study(name=names[0] if len(names) == 1 else folder.resolve().name, cells=tuple(sorted(cells, key=_order)))


def read_run(folder: Path) -> Cell:
    """The cell of one run folder."""
    return _read_cell(folder)


def read_columns(cell: Cell, name: str, columns: list[str]) -> pd.DataFrame | None:
    """Those of the columns that a table of a cell has; None where the cell has no such table."""
    return _read_table(cell.folder / name, columns)


def number(values: Json, key: str) -> float:
    """A figure as a float; NaN where it is missing, null or not a number."""
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return float(value)


def _read_table(path: Path, columns: list[str]) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        # pandas opens a data set for what is one file, which takes longer than to read it.
        with pq.ParquetFile(path) as file:
            present = set(file.schema_arrow.names)
            table = file.read([name for name in columns if name in present], use_threads=False).to_pandas()
    except (OSError, ValueError) as fault:
        raise UserError(f"{path}: cannot be read ({fault}); remove this run folder and run the study again") from fault
    return table.reset_index(drop=True)


def _read_cell(folder: Path) -> Cell:
    """A cell from its folder; the folder's names stand in for what run.json does not say."""
    parts: dict[str, Json] = {}
    faults = []
    for name in ("run", "train", "forecast", "backtest"):
        parts[name], fault = _read_mapping(folder / f"{name}.json")
        faults += [fault] if fault else []
    run = parts["run"]
    status = "failed" if faults else str(run.get("status") or "unfinished")
    return Cell(
        series=str(run.get("unique_id") or folder.parent.parent.name),
        method=str(run.get("method") or folder.parent.name),
        kind=str(run.get("kind")) if run.get("kind") in KINDS else "method",
        seed=_seed(run.get("seed"), folder.name),
        status=status,
        failure="; ".join(faults) or _failure(run.get("failure")),
        folder=folder,
        run=run,
        train=parts["train"],
        forecast=parts["forecast"],
        backtest=parts["backtest"],
    )


def _read_mapping(path: Path) -> tuple[Json, str]:
    """A JSON object and no fault, or nothing and the fault."""
    if not path.is_file():
        return {}, ""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        return {}, f"{path.name} cannot be read ({fault})"
    return (value, "") if isinstance(value, dict) else ({}, f"{path.name} is not a JSON object")


def _failure(value: Any) -> str:
    """The message of a failure, whether kept as text or as an object with its type and message."""
    if isinstance(value, dict):
        return str(value.get("message") or json.dumps(value, sort_keys=True))
    return "" if value is None else str(value)


def _seed(value: Any, folder: str) -> int:
    for candidate in (value, folder):
        try:
            return int(candidate)
        except (TypeError, ValueError):
            continue
    return 0


def _mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _order(cell: Cell) -> tuple[str, int, str, int]:
    return cell.series, KINDS.index(cell.kind), cell.method, cell.seed
