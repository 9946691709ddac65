"""Stability at a glance: what each fold of a walk earned in error and in money, one point a fold."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tunetrade.report import canvas
from tunetrade.report.canvas import Drawing, draw
from tunetrade.report.palette import INK, MUTED

PANELS = (
    ("mse_skill", "MSE skill against the last close, %", 100.0),
    ("crps_skill", "CRPS skill against EWMA-t, %", 100.0),
    ("net_profit", "Net profit of the fold, account currency", 1.0),
)


def stability(name: str, record: Mapping[str, Any]) -> Drawing:
    """The plot of a walk.json: above the grey line a fold was better than its yardstick; dashed is the folds' mean."""
    rows = record["folds"]
    numbers = [row["fold"] for row in rows]

    def make() -> Figure:
        figure, axes = canvas.panels(f"{name}: {len(rows)} folds", (90,) * len(PANELS), 0)
        for axis, (key, title, scale) in zip(axes, PANELS, strict=True):
            values = scale * np.array([np.nan if row[key] is None else row[key] for row in rows], dtype=np.float64)
            axis.axhline(0, color=MUTED, linewidth=1)
            if np.isfinite(values).any():
                axis.axhline(float(np.nanmean(values)), color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
            axis.vlines(numbers, 0, values, color=INK, linewidth=1)
            axis.plot(numbers, values, color=INK, marker="o", linestyle="none", markersize=4)
            canvas.panel_title(axis, title)
            axis.yaxis.set_major_locator(MaxNLocator(4))
        axes[-1].xaxis.set_major_locator(MaxNLocator(min(10, len(rows)), integer=True, min_n_ticks=1))
        axes[-1].xaxis.set_major_formatter(lambda value, _: f"fold {value:g}")
        return figure

    drawing = draw("walk", f"{name}: skill and net profit of each of {len(rows)} folds.", "", make)
    assert drawing is not None
    return drawing
