"""Evidence as CSV, in full precision: verdicts, errors by step, money, calibration, months and every trade."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import pandas as pd

from tunetrade.report.cells import EDGES, Tables
from tunetrade.report.charts_study import ErrorAndMoney, pareto, points_of
from tunetrade.report.evidence_view import ERRORS, MONEY, OVERALL, outcomes, part, steps_of
from tunetrade.report.load import Json, number
from tunetrade.report.record import Report
from tunetrade.report.sheets import as_csv, as_text, inert

STEP_KEYS = ("mse", "mae", "crps", "coverage80", "directional_accuracy", "mse_ratio", "crps_ratio")
ENDS = ("value", "low", "high")


def evidence_sheets(report: Report) -> dict[str, str]:
    """Content of each file by its name without suffix."""
    series = report.study.series
    levels = [*series, *([OVERALL] if len(series) > 1 else [])]
    files = {
        "verdicts": _verdicts(report.evidence, levels),
        "skill": _skill(report.evidence, levels, report.study.methods),
        "money": _money(report.evidence, series),
    }
    for name in series:
        slug, tables = report.slugs[name], report.tables[name]
        files |= {
            f"errors_by_step_{slug}": _by_step(report.evidence, name, list(tables)),
            f"calibration_{slug}": _calibration(tables),
            f"error_and_money_{slug}": _error_and_money(points_of(report.study, name, report.evidence)),
            f"months_{slug}": _months(tables),
            f"trades_{slug}": _trades(tables),
        }
    return files


def _verdicts(evidence: Json, levels: Sequence[str]) -> str:
    heads = ["series", "method", "comparison", "reference", *ENDS, "p_value", "p_holm", "p_worse_holm", "verdict",
             "observations", "more"]  # fmt: skip
    lines = []
    for level in levels:
        for method, of in outcomes(evidence, level).items():
            for each in (*ERRORS, *MONEY):
                if each.key in of:
                    o = of[each.key]
                    figures = [as_text(value) for value in (o.value, o.low, o.high, o.p_value, o.p_holm, o.worse_holm)]
                    lines.append(
                        [level, method, each.key, o.reference, *figures, o.verdict, o.observations, as_text(o.more)]
                    )
    return as_csv(heads, lines)


def _skill(evidence: Json, levels: Sequence[str], methods: Sequence[str]) -> str:
    """The map of skill: a row a method and measure, a column a series, shares (0.01 is 1 %)."""
    found = {level: outcomes(evidence, level) for level in levels}
    lines = []
    for each in ERRORS[:2]:
        for method in methods:
            row = [found[level].get(method, {}).get(each.key) for level in levels]
            if any(row):
                lines.append([method, each.key, *(as_text(outcome.value if outcome else None) for outcome in row)])
    return as_csv(["method", "comparison", *levels], lines)


def _error_and_money(points: ErrorAndMoney) -> str:
    front = pareto({name: (error[0], money[0]) for name, (error, money) in points.items()})
    heads = [f"{figure}{end}" for figure in ("crps_ratio", "return_percent") for end in ("", "_low", "_high")]
    lines = [
        [method, *map(as_text, error), *map(as_text, money), str(method in front).lower()]
        for method, (error, money) in points.items()
    ]
    return as_csv(["method", *heads, "on_front"], lines)


def _money(evidence: Json, series: Iterable[str]) -> str:
    lines = []
    for name in series:
        for method, block in part(evidence, "series", name, "money", "methods").items():
            for key, figure in part(block, "figures").items():
                lines.append([name, method, key, *(as_text(number(figure, end)) for end in ENDS)])
    return as_csv(["series", "method", "figure", *ENDS], lines)


def _by_step(evidence: Json, series: str, methods: Sequence[str]) -> str:
    lines = [
        [method, key, step, *map(as_text, ends)]
        for method in methods
        for key in STEP_KEYS
        for step, *ends in steps_of(evidence, series, method, key)
    ]
    return as_csv(["method", "figure", "h", *ENDS], lines)


def _calibration(tables: Mapping[str, Tables]) -> str:
    lines = []
    for method, table in tables.items():
        found = table.calibration
        if found is None:
            continue
        for index, (a, b) in enumerate(pairwise(EDGES)):
            ends = (found.density[index], found.low[index], found.high[index])
            lines.append([method, a, b, *map(as_text, ends), found.count])
    return as_csv(["method", "from", "to", "observed_over_nominal", "low", "high", "closes"], lines)


def _months(tables: Mapping[str, Tables]) -> str:
    lines = [
        [method, f"{year}-{month:02d}", as_text(value)]
        for method, table in tables.items()
        if table.months
        for (year, month), value in table.months.returns.items()
        if math.isfinite(value)
    ]
    return as_csv(["method", "month", "return_percent"], lines)


def _trades(tables: Mapping[str, Tables]) -> str:
    """All closed trades of all seeds; prices and money to 10 digits."""
    known = [
        table.all_trades.assign(method=inert(method))
        for method, table in tables.items()
        if table.all_trades is not None
    ]
    if not known:
        return as_csv(["method", "seed"], [])
    every = pd.concat(known, ignore_index=True)
    for name in every.select_dtypes(exclude=["number", "datetime", "datetimetz"]):
        every[name] = every[name].map(inert)
    names = ["method", "seed", *(name for name in every if name not in ("method", "seed"))]
    return str(every[names].to_csv(index=False, float_format="%.10g", lineterminator="\n"))
