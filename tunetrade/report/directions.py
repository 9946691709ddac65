"""How well direction heads tell down, flat and up: a table apart, since no other method is asked that question."""

import math
from collections.abc import Sequence
from statistics import fmean

from tunetrade.report.formats import DASH, percent, significant
from tunetrade.report.load import Cell, Json, Study, number

TITLE = "Direction: down, flat or up"
CLASSES = ("down", "flat", "up")
HEADS = (
    "Method", "Accuracy", "No skill", "Log loss", "No skill", "p", "Macro precision", "Macro recall", "Macro F1",
    *(f"{name.capitalize()}: precision, recall, F1" for name in CLASSES),
)  # fmt: skip
NOTE = (
    "Over all steps of the test part, means over seeds. A move is flat inside a band of its volatility as known at the"
    " cutoff. No skill is a forecast that always repeats the class shares of the training part; p is the chance of a"
    " log loss so much below its own where there is no skill (Diebold-Mariano, the largest over seeds; among many cells"
    " some are small by chance). Other tables show these methods with the density of the untuned base, which the head"
    " leaves as it is."
)

Line = tuple[str, ...]


def direction_lines(study: Study, series: str) -> list[Line]:
    """Texts of a row for each method with a direction head, in the order of HEADS; none where there is none."""
    lines = []
    for method in study.methods:
        found = [figures for cell in study.of(series, method) if (figures := _figures(cell))]
        if found:
            lines.append((method, *_texts(found)))
    return lines


def _figures(cell: Cell) -> Json:
    test = _mapping(_mapping(cell.forecast.get("classification")).get("test"))
    return _mapping(test.get("overall"))


def _texts(cells: Sequence[Json]) -> list[str]:
    def mean(key: str) -> float:
        return fmean(number(cell, key) for cell in cells)

    def of_class(name: str, key: str) -> float:
        return fmean(number(_mapping(_mapping(cell.get("by_class")).get(name)), key) for cell in cells)

    chances = [number(cell, "p_value") for cell in cells]
    return [
        *(_share(mean(key)) for key in ("accuracy", "no_skill_accuracy")),
        *(significant(mean(key), 5) for key in ("log_loss", "no_skill_log_loss")),
        significant(max(chances), 2),
        *(_share(mean(key)) for key in ("macro_precision", "macro_recall", "macro_f1")),
        *(", ".join(_share(of_class(name, key)) for key in ("precision", "recall", "f1")) for name in CLASSES),
    ]


def _share(value: float) -> str:
    return DASH if math.isnan(value) else percent(value, 1)


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}
