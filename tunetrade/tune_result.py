"""From the folders of tuning trials to what they show: a pure function of files.

Over several series an error is the geometric mean of theirs, so that no series counts for its price level. Trials are
ranked by it, then by the best validation loss, then by number: the loss decides only where it must, as for a method
that leaves the base's density alone and so cannot move its CRPS.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from forecasting.files import read_json
from forecasting.significance import diebold_mariano
from tunetrade.cell import Cell
from tunetrade.layout import CellPaths, read_run
from tunetrade.spaces import Settings

Json = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """Settings of a method, numbered from 1, its defaults; and a cell for each series."""

    method: str
    number: int
    settings: Settings
    cells: list[Cell]


def of_method(trials: list[Trial]) -> Json:
    """What the trials of one method show; `chosen` is None and `settings` are the defaults where all failed."""
    first = trials[0]
    rows = [_row(trial, first) for trial in trials]
    done = [row for row in rows if row["status"] == "done"]
    best = min(done, key=_rank, default=None)
    moved = len({row["crps"] for row in done}) > 1
    return {
        "chosen": best and best["number"],
        "chosen_by": "crps" if moved or len(done) < 2 else "validation_loss",
        "settings": best["settings"] if best else {},
        "failed": len(rows) - len(done),
        "seconds": sum(row["seconds"] for row in done),
        "rows": rows,
    }


def short_of_budget(result: Json) -> list[str]:
    """Methods of a tune.json some of whose trials failed: their best is of fewer than the others'."""
    return [name for name, own in result["methods"].items() if own["failed"]]


def shortfall(result: Json) -> str:
    """A line that names the methods short of their budget, and the cure; empty where there are none."""
    short = short_of_budget(result)
    if not short:
        return ""
    counts = [
        f"{name} ({result['methods'][name]['failed']} of {len(result['methods'][name]['rows'])})" for name in short
    ]
    return (
        f"trials failed: {', '.join(counts)}; tuned.toml leaves these methods out and --final does not begin: run tune "
        f"again for what failed, give {short[0]} a smaller [tune.space.{short[0]}], or leave it out of methods"
    )


def _rank(row: Json) -> tuple[float, float, int]:
    return row["crps"], row["validation_loss"], row["number"]


def _row(trial: Trial, first: Trial) -> Json:
    """One trial: its errors, and what it cost. Memory and size are the largest over series, seconds their sum."""
    paths = [cell.paths for cell in trial.cells]
    head = {"number": trial.number, "settings": dict(trial.settings)}
    failures = [failure for each in paths if (failure := _failure(each))]
    if failures:
        return head | {"status": "failed", "failure": failures[0]}
    errors = [read_json(each.validation)["metrics"]["overall"] for each in paths]
    costs = [read_json(each.train) for each in paths]
    return head | {
        "status": "done",
        "crps": _geometric_mean([error["crps"] for error in errors]),
        "crps_by_series": {cell.source: error["crps"] for cell, error in zip(trial.cells, errors, strict=True)},
        **_gain(paths, [cell.paths for cell in first.cells]),
        "validation_loss": float(np.mean([_best_loss(cost["history"]) for cost in costs])),
        "trained_parameters": max(cost["trained_parameters"] for cost in costs),
        "stored_bytes": max(cost["stored_bytes"] for cost in costs),
        "peak_memory_bytes": max(cost["peak_memory_bytes"] for cost in costs),
        "seconds": sum(cost["seconds"] for cost in costs),
    }


def _failure(paths: CellPaths) -> str | None:
    run = read_run(paths)
    if run is None:
        return f"{paths.run} is missing or damaged"
    return None if run["status"] == "done" else str(run["failure"])


def _best_loss(history: list[Json]) -> float:
    return min(math.inf if row["validation_loss"] is None else row["validation_loss"] for row in history)


def _geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _gain(paths: list[CellPaths], defaults: list[CellPaths]) -> Json:
    """By what share the CRPS lies below that of the defaults, and the standard error of that share.

    Cutoffs are paired and their overlap counted (the long-run variance of `diebold_mariano`); series count as
    independent, which flatters the error of pairs that move together.
    """
    if any(_failure(each) for each in defaults):
        return {"gain": None, "gain_se": None}
    shares, variances = [], []
    for own, default in zip(paths, defaults, strict=True):
        losses, others = _by_cutoff(own), _by_cutoff(default)
        found = diebold_mariano(losses, others, read_json(own.validation)["horizon"])
        shares.append(-found.difference / others.mean())
        noise = found.difference / found.statistic / others.mean() if found.statistic else 0.0
        variances.append(0.0 if math.isnan(noise) else noise**2)
    return {"gain": float(np.mean(shares)), "gain_se": math.sqrt(sum(variances)) / len(shares)}


def _by_cutoff(paths: CellPaths) -> np.ndarray:
    """Mean CRPS over the steps of each cutoff, [N]."""
    table = pd.read_parquet(paths.validation_table, columns=["cutoff", "crps"])
    return np.asarray(table.groupby("cutoff")["crps"].mean().to_numpy(np.float64))
