"""Long tables of a series become arrays of losses on the origins that all its methods share, seeds averaged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from forecasting.errors import UserError
from forecasting.forecasts import QUANTILE_COLUMNS
from forecasting.significance import clark_west_differences
from tunetrade.evidence.tables import read_table
from tunetrade.report.load import Cell, number

COLUMNS = ["cutoff", "h", "y", "mean", *QUANTILE_COLUMNS, "crps", "anchor"]
LOSSES = ("squared", "absolute", "crps", "clark_west", "covered50", "covered80", "covered90", "right", "moved")
_CENTRAL = {"covered50": ("q25", "q75"), "covered80": ("q10", "q90"), "covered90": ("q05", "q95")}


@dataclass(frozen=True)
class Losses:
    """Of M methods at N shared origins and H steps.

    cutoffs [N] UTC. y, anchor [N, H]; known [N, H]: whether the truth is. values: each of LOSSES [M, N, H], the mean
    over seeds, 0 where not known. by_seed: mean of squared error and CRPS of every seed, by method. naive: the
    denominator of MASE, mean absolute one-bar change of the training part.
    """

    methods: tuple[str, ...]
    cutoffs: np.ndarray
    y: np.ndarray
    anchor: np.ndarray
    known: np.ndarray
    values: dict[str, np.ndarray]
    by_seed: dict[str, dict[int, dict[str, float]]]
    naive: float
    dropped: int

    @property
    def complete(self) -> np.ndarray:
        """Whether the truth of all steps is known, bool [N]."""
        return np.asarray(self.known.all(axis=1))

    @property
    def horizon(self) -> int:
        """Number of steps, H."""
        return int(self.known.shape[1])

    def of(self, name: str, method: str) -> np.ndarray:
        """One loss of one method, [N, H]."""
        return np.asarray(self.values[name][self.methods.index(method)])


def read_losses(cells: Sequence[Cell]) -> Losses | None:
    """Losses of a series' finished cells that have forecasts; None where there are none."""
    with_table = [cell for cell in cells if (cell.folder / "forecasts.parquet").is_file()]
    if not with_table:
        return None
    tables = [_read(cell) for cell in with_table]
    steps = min(int(table["h"].iloc[-1]) for table in tables)
    shared = _shared([table["cutoff"].to_numpy("datetime64[ns]") for table in tables])
    if not len(shared):
        return None
    methods = tuple(dict.fromkeys(cell.method for cell in with_table))
    seeds = {name: sum(cell.method == name for cell in with_table) for name in methods}
    values = {
        name: np.zeros(
            (len(methods), len(shared), steps), np.float64 if name in ("squared", "absolute", "crps") else np.float32
        )
        for name in LOSSES
    }
    by_seed: dict[str, dict[int, dict[str, float]]] = {name: {} for name in methods}
    dropped, y, anchor, known = 0, np.empty(0), np.empty(0), np.empty(0)
    for position, cell in enumerate(with_table):
        table, tables[position] = tables[position], pd.DataFrame()
        grid = _grid(table, shared, steps)
        dropped = max(dropped, len(table["cutoff"].unique()) - len(shared))
        if position == 0:
            y, anchor = grid["y"], grid["anchor"]
            known = np.isfinite(y)
        found = _losses(grid, known)
        row = methods.index(cell.method)
        for name in LOSSES:
            values[name][row] += found[name] / seeds[cell.method]
        count = max(1, int(known.sum()))
        by_seed[cell.method][cell.seed] = {name: float(found[name].sum()) / count for name in ("squared", "crps")}
    naive = next((scale for cell in with_table if np.isfinite(scale := _naive(cell))), float("nan"))
    return Losses(methods, shared, y, anchor, known, values, by_seed, naive, dropped)


def _read(cell: Cell) -> pd.DataFrame:
    table = read_table(cell.folder / "forecasts.parquet", COLUMNS)
    assert table is not None
    return table.sort_values(["cutoff", "h"], kind="stable", ignore_index=True)


def _shared(cutoffs: Sequence[np.ndarray]) -> np.ndarray:
    """Cutoffs that all have, in time order."""
    shared = np.unique(cutoffs[0])
    for other in cutoffs[1:]:
        if len(other) and not (len(shared) == len(np.unique(other)) and (shared == np.unique(other)).all()):
            shared = np.intersect1d(shared, other)
    return shared


def _grid(table: pd.DataFrame, shared: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """Columns as arrays [N, H] on the shared cutoffs."""
    cutoffs = table["cutoff"].to_numpy("datetime64[ns]")
    kept = np.isin(cutoffs, shared) & (table["h"].to_numpy() <= steps)
    part = table if kept.all() else table[kept]
    if len(part) != len(shared) * steps:
        raise UserError(
            f"a table of forecasts has {len(part)} rows for {len(shared)} origins of {steps} steps; remove its run "
            "folder and run the study again"
        )
    names = (name for name in COLUMNS if name not in ("cutoff", "h"))
    return {name: part[name].to_numpy(np.float64).reshape(len(shared), steps) for name in names}


def _losses(grid: dict[str, np.ndarray], known: np.ndarray) -> dict[str, np.ndarray]:
    y, mean, anchor = grid["y"], grid["mean"], grid["anchor"]
    move, guess = np.sign(y - anchor), np.sign(mean - anchor)
    moved = (move != 0) & (guess != 0)
    found = {
        "squared": (y - mean) ** 2,
        "absolute": np.abs(y - grid["q50"]),
        "crps": grid["crps"],
        "clark_west": clark_west_differences(y, anchor, mean),
        **{name: (grid[low] <= y) & (y <= grid[high]) for name, (low, high) in _CENTRAL.items()},
        "right": moved & (move == guess),
        "moved": moved,
    }
    return {name: np.where(known, values, 0.0) for name, values in found.items()}


def _naive(cell: Cell) -> float:
    mase = number(cell.errors, "mase")
    return number(cell.errors, "mae") / mase if mase > 0 else float("nan")
