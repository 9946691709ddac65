"""The report in a terminal: what the numbers show, and the overall leaderboard in a width of 100 characters."""

import textwrap
from pathlib import Path

from tunetrade.report.columns import COLUMNS, Column
from tunetrade.report.evidence_view import evidence_for
from tunetrade.report.findings import cautions, findings
from tunetrade.report.formats import column_text, column_unit, column_values
from tunetrade.report.leaderboard import currencies, overall_rows
from tunetrade.report.load import read_study
from tunetrade.report.verdicts import verdicts

WIDTH = 100
PLAIN = str.maketrans(
    {"\N{DIVISION SIGN}": "/", "\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{NON-BREAKING HYPHEN}": "-"}
)
"""Signs that not every console can write."""
SHOWN = ("mse_ratio", "crps_ratio", "net_profit", "sharpe", "trained_parameters", "train_seconds", "latency_p50_ms")


def summary(study_folder: Path) -> str:
    """Leaderboard over all series, then what was tested and found, as text that ends in a newline."""
    study = read_study(study_folder)
    rows = overall_rows(study)
    of_key = {column.key: column for column in COLUMNS}
    columns = [of_key[key] for key in SHOWN if column_values(of_key[key], [row.values for row in rows])]
    money = currencies(study)
    currency = money.pop() if len(money) == 1 else ""
    grid = [["method"], *([row.method] for row in rows)]
    for column in columns:
        values = column_values(column, [row.values for row in rows])
        grid[0].append(_head(column, column_unit(column, values, currency)))
        for line, row in zip(grid[1:], rows, strict=True):
            line.append(column_text(column, row.values.get(column.key), values))
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    table = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in grid]
    tested = verdicts(study, evidence_for(study_folder))
    said = [textwrap.fill(sentence, WIDTH) for sentence in (*tested, *findings(study), *cautions(study))]
    return ("\n".join([*table, "", *said]) + "\n").translate(PLAIN)


def _head(column: Column, unit: str) -> str:
    return f"{column.label} {unit}" if unit else column.label
