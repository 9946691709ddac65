"""Tables as CSV: full precision, one file for each leaderboard, for those who draw their own conclusions."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

from tunetrade.report.columns import COLUMNS
from tunetrade.report.leaderboard import Row, by_step, cell_values, references
from tunetrade.report.load import Study

Line = Sequence[object]


def sheets(
    study: Study, rows: Mapping[str, Sequence[Row]], overall: Sequence[Row], slugs: Mapping[str, str]
) -> dict[str, str]:
    """Content of each file by its name without suffix."""
    files = {"leaderboard_overall": _leaderboard(overall)}
    for series in study.series:
        files[f"leaderboard_{slugs[series]}"] = _leaderboard(rows[series])
        files[f"steps_{slugs[series]}"] = _steps(study, series)
    return files | {"cells": _cells(study)}


def _leaderboard(rows: Sequence[Row]) -> str:
    heads = ["method", "kind", "series", "seeds"]
    heads += [name for column in COLUMNS for name in (column.key, f"{column.key}_sd")] + ["failures"]
    lines = [
        [row.method, row.kind, row.series, len(row.seeds)]
        + [
            text
            for column in COLUMNS
            for text in (as_text(row.values.get(column.key)), as_text(row.spread.get(column.key)))
        ]
        + ["; ".join(row.failures)]
        for row in rows
    ]
    return as_csv(heads, lines)


def _cells(study: Study) -> str:
    """Every cell by itself, so that means over seeds can be checked."""
    heads = ["series", "method", "kind", "seed", "status", "failure", *(column.key for column in COLUMNS)]
    lines = []
    for cell in study.cells:
        values = cell_values(cell, references(study, cell.series)) if cell.done else {}
        known = [as_text(values.get(column.key)) for column in COLUMNS]
        lines.append([cell.series, cell.method, cell.kind, cell.seed, cell.status, cell.failure, *known])
    return as_csv(heads, lines)


def _steps(study: Study, series: str) -> str:
    keys = ("mse", "mse_ratio", "crps", "crps_ratio")
    lines = [
        [method, step, *(as_text(values[key]) for key in keys)]
        for method, steps in by_step(study, series).items()
        for step, values in steps.items()
    ]
    return as_csv(["method", "h", *keys], lines)


def as_csv(heads: Sequence[str], lines: Iterable[Line]) -> str:
    """A file of lines below their heads."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([inert(item) for item in line] for line in lines)
    return sink.getvalue()


def inert(item: object) -> object:
    """A name or message that a spreadsheet would take for a formula gets a quote before it; numbers stay numbers."""
    if isinstance(item, str) and item[:1] in ("=", "+", "-", "@", "\t", "\r"):
        try:
            float(item)
        except ValueError:
            return f"'{item}"
    return item


def as_text(value: float | None) -> str:
    """The shortest text that reads back as the same number; empty where there is none."""
    return "" if value is None or not math.isfinite(value) else repr(float(value))
