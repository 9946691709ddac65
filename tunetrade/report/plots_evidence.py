"""Plots of evidence for papers: skill by series and method, error against money, where in the cone the truth fell."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tunetrade.report import canvas
from tunetrade.report.canvas import Drawing, draw
from tunetrade.report.cells import EDGES, Tables
from tunetrade.report.charts_study import ErrorAndMoney, pareto
from tunetrade.report.evidence_view import BEATS, ERRORS, LOSES, OVERALL, Outcome, outcomes
from tunetrade.report.load import Json, Study
from tunetrade.report.palette import INK, MUTED, Style

WORSE, EVEN, BETTER = "#c2571a", "#ffffff", "#1f7a4d"
ROW = 17.0
"""Points of a method's row in the map."""
COLUMNS = 4
"""Histograms beside each other."""
MARK = {BEATS: " ▲", LOSES: " ▼"}

Styles = Mapping[str, Style]


def skill(study: Study, evidence: Json) -> Drawing | None:
    """Skill of every method on every series, by CRPS and by squared error, as colours and figures."""
    levels = [*study.series, *([OVERALL] if len(study.series) > 1 else [])]
    found = {level: outcomes(evidence, level) for level in levels}
    names = [name for name in study.methods if any(found[level].get(name) for level in levels)]
    shown = [each for each in ERRORS[:2] if any(each.key in of for level in found.values() for of in level.values())]
    if not shown or not names:
        return None
    judged = [name for name in names if study.kind(name) == "method"] or names

    def make() -> Figure:
        figure, axes = canvas.panels("Skill by series and method, %", (ROW * len(names),) * len(shown), 0, left=112)
        for axis, each in zip(axes, shown, strict=True):
            cells = [[found[level].get(name, {}).get(each.key) for level in levels] for name in names]
            values = np.array([[100 * cell.value if cell else math.nan for cell in row] for row in cells])
            reach = np.nanmax(np.abs(values[[names.index(name) for name in judged]]), initial=0.0) or 1.0
            shades = LinearSegmentedColormap.from_list("skill", [WORSE, EVEN, BETTER])
            axis.imshow(values, cmap=shades, norm=TwoSlopeNorm(0, -reach, reach), aspect="auto", alpha=0.8)
            for row, line in enumerate(cells):
                for column, cell in enumerate(line):
                    axis.text(column, row, _cell(cell), ha="center", va="center", fontsize=8.5)
            axis.set_yticks(range(len(names)), [canvas.plain(name) for name in names], fontsize=8.5)
            axis.set_xticks(range(len(levels)), levels, fontsize=8.5)
            axis.grid(visible=False)
            canvas.panel_title(axis, f"{each.label} {each.meaning}")
        return figure

    caption = "▲ BEATS and ▼ LOSES after Holm's correction; without a mark nothing is shown."
    alt = f"Heat map of skill, {len(names)} methods by {', '.join(levels)}."
    return draw("skill", alt, caption, make, vector=False)


def _cell(outcome: Outcome | None) -> str:
    return "" if outcome is None else canvas.minus(f"{100 * outcome.value:.2f}{MARK.get(outcome.verdict, '')}")


def error_and_money(series: str, styles: Styles, slug: str, points: ErrorAndMoney) -> Drawing | None:
    """CRPS ratio against return with intervals of both, and the front of methods that none betters in both."""
    if len(points) < 2:
        return None
    front = pareto({name: (error[0], money[0]) for name, (error, money) in points.items()})

    def make() -> Figure:
        figure, (axis,) = canvas.panels(series, (260,), len(points), axis=40)
        axis.axhline(0, color=MUTED, linewidth=0.8)
        axis.axvline(1, color=MUTED, linewidth=0.8)
        axis.step(*np.array([[points[name][0][0], points[name][1][0]] for name in front]).T, where="post",
                  color=INK, linewidth=0.8, linestyle=(0, (2, 2)))  # fmt: skip
        for name, (error, money) in points.items():
            style = styles[name]
            axis.errorbar(error[0], money[0], xerr=_reach(error), yerr=_reach(money), color=style.light, alpha=0.35,
                          linewidth=0.8)  # fmt: skip
            axis.plot(error[0], money[0], color=style.light, marker=style.marker, markersize=6, linestyle="none")
        canvas.panel_title(axis, "Net return, %, by CRPS ÷ EWMA-t's (left is better)")
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.yaxis.set_major_locator(MaxNLocator(6))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: canvas.minus(f"{value:g}")))
        canvas.legend(figure, [(name, canvas.handle(styles[name], line=False)) for name in points])
        return figure

    caption = "Bars are 95 % intervals; the dotted front joins methods that no other betters in both estimates."
    alt = f"{series}: CRPS ratio against net return; on the front: {', '.join(front)}."
    return draw(f"{slug}_money", alt, caption, make, vector=False)


def _reach(ends: Sequence[float]) -> Any:
    """Distances of both ends of an interval as matplotlib wants them; None where one is not known."""
    value, low, high = ends
    return [[max(0.0, value - low)], [max(0.0, high - value)]] if math.isfinite(low) and math.isfinite(high) else None


def calibration(series: str, styles: Styles, slug: str, tables: Mapping[str, Tables]) -> Drawing | None:
    """A histogram for each method of where in its cone the truth fell (PIT); of those that predict a cone."""
    found = {name: table.calibration for name, table in tables.items() if table.calibration}
    found = {name: each for name, each in found.items() if min(each.density[1:-1]) > 0}
    if not found:
        return None
    widths = np.diff(EDGES)
    centres = np.array([(low + high) / 2 for low, high in pairwise(EDGES)])

    def make() -> Figure:
        rows = math.ceil(len(found) / COLUMNS)
        figure, axes = canvas.panels(f"{series}: observed over right, by place in the cone", (66,) * rows, 0)
        top = max(2.0, *(value for each in found.values() for value in each.density))
        for index, (name, each) in enumerate(found.items()):
            row = axes[index // COLUMNS]
            row.set_axis_off()
            axis = row.inset_axes((index % COLUMNS / COLUMNS, 0.0, 0.94 / COLUMNS, 1.0))
            axis.bar(centres, each.density, widths * 0.94, color=styles[name].light, alpha=0.75)
            reach = [_reach(ends) for ends in zip(each.density, each.low, each.high, strict=True)]
            if all(part is not None for part in reach):
                axis.errorbar(centres, each.density, yerr=np.array(reach)[:, :, 0].T, fmt="none", ecolor=INK,
                              linewidth=0.7)  # fmt: skip
            axis.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
            axis.set(xlim=(0, 1), ylim=(0, 1.1 * top), xticks=[])
            axis.tick_params(labelleft=index % COLUMNS == 0, labelsize=8)
            axis.set_title(canvas.plain(name), fontsize=8.5, pad=2, loc="left")
        return figure

    caption = (
        "Each bar is as wide as the share of closes it should hold, as high as the share it held over that; 1 is right."
        " High at both ends: the cone is too narrow. All steps together; bars are 95 % intervals."
    )
    return draw(f"{slug}_calibration", f"{series}: PIT histograms of {', '.join(found)}.", caption, make, vector=False)
