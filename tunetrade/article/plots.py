"""The page's plots: the articles' line plot as published and put right, errors side by side, and the repaired test."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tunetrade.article.published import GENERATED, INPUTS, TRUTH
from tunetrade.report import canvas
from tunetrade.report.canvas import Drawing, draw
from tunetrade.report.palette import MUTED, assign
from tunetrade.report.palette import TRUTH as TRUE_COLOUR

STYLES = assign((*GENERATED, "random-walk"))
LAST = STYLES["random-walk"]


def drawings(record: Mapping[str, Any], compared: Mapping[str, Any]) -> list[Drawing]:
    """All plots of the page."""
    return [lists(), squares(compared), repaired(record)]


def lists() -> Drawing:
    """True and generated prices as the articles lay them, and each price at the bar it stands for."""

    def make() -> Figure:
        entries = [("truth", Line2D([], [], color=TRUE_COLOUR, linewidth=2))]
        entries += [(name, canvas.handle(STYLES[name])) for name in GENERATED]
        entries += [("last price", canvas.handle(LAST, marker=False))]
        figure, (top, bottom) = canvas.panels("NZDUSD, the printed prices", (150, 150), len(entries))
        for axis, first in ((top, 0), (bottom, len(INPUTS) + 2)):
            axis.plot(np.arange(first, first + len(TRUTH)), TRUTH, color=TRUE_COLOUR, linewidth=2)
        bottom.plot(np.arange(1, len(INPUTS) + 1), INPUTS, color=TRUE_COLOUR, linewidth=1, linestyle=(0, (1, 1)))
        begin = len(INPUTS) + 1
        for name, written in GENERATED.items():
            look: dict[str, Any] = {"color": STYLES[name].light, "marker": STYLES[name].marker, "markersize": 3}
            top.plot(np.arange(40), [*INPUTS, *written], linewidth=0.8, **look)
            bottom.plot(np.arange(begin, begin + len(written)), written, linewidth=0.8, **look)
        bottom.hlines(INPUTS[-1], begin, begin + 20, color=LAST.light, linestyle=LAST.dash, linewidth=1.2)
        canvas.panel_title(top, "As compared: the prompt's echo under prices 20 bars later")
        canvas.panel_title(bottom, "Each price at its own bar of the window")
        for axis in (top, bottom):
            axis.yaxis.set_major_locator(MaxNLocator(5))
        bottom.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        canvas.legend(figure, entries)
        return figure

    caption = (
        "Above, the lists as the articles compare them; below, the same numbers at the bars they stand for, with the "
        "last known price held (dashed) and the prompt (dotted)."
    )
    return _drawn("article_lists", "Printed true and generated prices, as compared and as they belong.", caption, make)


def squares(compared: Mapping[str, Any]) -> Drawing:
    """MSE of the printed sequences, misaligned and aligned, with the last price as a line."""
    last = compared["last price"]

    def make() -> Figure:
        figure, axes = canvas.panels("MSE of the printed sequences, square points", (90, 90), 0)
        for axis, way, title in zip(
            axes, ("misaligned", "aligned"), ("Misaligned, 30 printed truths", "Aligned, 20 pairs"), strict=True
        ):
            for place, name in enumerate(GENERATED):
                axis.bar(place, compared[name][way]["mse"] * 1e10, 0.6, color=STYLES[name].light)
            axis.axhline(last[way]["mse"] * 1e10, color=LAST.light, linestyle=LAST.dash, linewidth=1.2)
            canvas.panel_title(axis, f"{title}; dashed: the last price held")
        axes[-1].set_xticks(range(len(GENERATED)), list(GENERATED))
        return figure

    caption = "Below the dashed line a model is better than repeating the last price. One window, so no more than that."
    return _drawn(
        "article_errors", "MSE of the three models, misaligned and aligned, and of the last price.", caption, make
    )


def repaired(record: Mapping[str, Any]) -> Drawing:
    """Aligned MSE of mean forecasts in the repaired test as a ratio to the last price's, with two standard errors."""
    last = record["last_price"]["windows"]["aligned"]

    def make() -> Figure:
        figure, (axis,) = canvas.panels(f"{record['data']['source']}, repaired test", (130,), 0)
        axis.axhline(1, color=MUTED, linewidth=1)
        for place, name in enumerate(GENERATED):
            row = record["clean"][name]["windows"]
            error = 2 * row["error"] / last if row["error"] is not None else 0
            axis.errorbar(
                place, row["mean_aligned"] / last, yerr=error, color=STYLES[name].light, marker=STYLES[name].marker,
                capsize=4, linestyle="none",
            )  # fmt: skip
        canvas.panel_title(axis, "MSE ÷ the last price's (below 1 is better), ± 2 standard errors of the difference")
        axis.set_xticks(range(len(GENERATED)), list(GENERATED))
        axis.set_xlim(-0.5, len(GENERATED) - 0.5)
        axis.yaxis.set_major_formatter(canvas.log_text)
        return figure

    caption = f"{record['data']['windows']} windows after the last trained close, whose targets do not overlap."
    return _drawn(
        "article_repaired", "Error ratio of each method to the last price in the repaired test.", caption, make
    )


def _drawn(name: str, alt: str, caption: str, make: Any) -> Drawing:
    drawing = draw(name, alt, caption, make)
    assert drawing is not None
    return drawing
