"""The verb `walk`: how each fold of a walk-forward run went."""

import argparse
from pathlib import Path
from typing import Any

from forecasting.errors import UserError
from forecasting.files import read_json
from tunetrade.cli import emit_json

Arguments = argparse.Namespace

HEADS = (
    "fold",
    "test from",
    "to",
    "train windows",
    "best step",
    "valid. loss",
    "CRPS",
    "MSE skill",
    "CRPS skill",
    "net profit",
)


def walk(asked: Arguments) -> int:
    """The table of a run's folds."""
    file = Path(asked.run) / "walk.json"
    if not file.is_file():
        raise UserError(
            f"{file} is missing; give a run folder of a study with a [walk] section, such as walk.refit = 250"
        )
    record = read_json(file)
    if asked.json:
        emit_json(record)
        return 0
    print("\n".join(table(record)))
    return 0


def table(record: dict[str, Any]) -> list[str]:
    """Lines of a plain table, a fold each, and one of how the skills spread."""
    rows = [_row(fold) for fold in record["folds"]]
    widths = [max(map(len, column)) for column in zip(HEADS, *rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in (HEADS, *rows)]
    told = record["spread"]["crps_skill"], record["spread"]["net_profit"]
    lines.append(
        f"CRPS skill above zero in {_share(told[0]['positive'])} of {len(rows)} folds, net profit in "
        f"{_share(told[1]['positive'])}"
    )
    return lines


def _row(fold: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(fold["fold"]),
        fold["test_start"][:10],
        fold["test_end"][:10],
        f"{fold['train_windows']:,}",
        *(
            _number(fold[name], form)
            for name, form in (("best_step", "d"), ("validation_loss", ".4f"), ("crps", ".4g"))
        ),
        *(_number(fold[name], "+.2%") for name in ("mse_skill", "crps_skill")),
        _number(fold["net_profit"], ",.2f"),
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
