"""The report's plots: each takes the study and a series and returns a drawing, or None where nothing exists yet.

Where a plot can show only one seed (a fan, a marker a bar) it takes the lowest; equity shows the others faintly.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tunetrade.report import canvas
from tunetrade.report.canvas import Drawing, draw
from tunetrade.report.cells import Curve, Tables
from tunetrade.report.charts_study import ErrorAndMoney
from tunetrade.report.formats import significant
from tunetrade.report.leaderboard import Row, by_step, series_rows
from tunetrade.report.load import Cell, Study, number
from tunetrade.report.palette import INK, MUTED, TRUTH, Style
from tunetrade.report.plots_evidence import calibration, error_and_money

ORIGINS_SHOWN = 60
DATES = ["%Y", "%b %Y", "%d %b", "%d %b %H:%M", "%H:%M", "%H:%M:%S"]
LABEL_ROOM = 96.0
LABELS_IN_A_LOW_PANEL = 10
EFFORT = (
    ("train_seconds", "train\ntime, s", 1.0),
    ("forecast_seconds", "inference\ntime, s", 1.0),
    ("peak_memory_bytes", "peak\nmemory, GB", 1e9),
    ("mse", "MSE,\nprice²", 1.0),
    ("rmse", "RMSE,\nprice", 1.0),
    ("nrmse", "NRMSE,\nshare", 1.0),
)

Styles = Mapping[str, Style]


def series_drawings(
    study: Study, series: str, styles: Styles, slug: str, tables: Mapping[str, Tables], points: ErrorAndMoney
) -> dict[str, Drawing | None]:
    """All plots of one series by topic."""
    rows = series_rows(study, series)
    return {
        "closes": closes(study, series, styles, slug, rows, tables),
        "steps": steps(study, series, styles, slug),
        "calibration": calibration(series, styles, slug, tables),
        "equity": equity(series, styles, slug, tables),
        "money": error_and_money(series, styles, slug, points),
        "effort": effort(series, styles, slug, rows),
        "training": training(study, series, styles, slug),
    }


def closes(
    study: Study, series: str, styles: Styles, slug: str, rows: Sequence[Row], tables: Mapping[str, Tables]
) -> Drawing | None:
    """True closes against each method's predicted closes, and the predicted moves alone, on the last origins."""
    shown = {name: each.last.tail(ORIGINS_SHOWN) for name, each in tables.items() if each.last is not None}
    shown = {method: table for method, table in shown.items() if len(table)}
    if not shown:
        return None
    horizon = int(next(iter(shown.values()))["h"].iloc[0])
    banded = next((row.method for row in rows if row.kind == "method" and row.method in shown), next(iter(shown)))
    truth, band = next(iter(shown.values())), shown[banded]

    def make() -> Figure:
        entries = [
            ("truth", Line2D([], [], color=TRUTH, linewidth=2)),
            (f"10–90 %, {banded}", Patch(color=styles[banded].light, alpha=0.2, linewidth=0)),
            *((method, canvas.handle(styles[method])) for method in shown),
        ]
        figure, (top, bottom) = canvas.panels(series, (200, 110), len(entries))
        top.fill_between(band["ds"], band["q10"], band["q90"], color=styles[banded].light, alpha=0.2, linewidth=0)
        top.plot(truth["ds"], truth["y"], color=TRUTH, linewidth=2)
        for method, table in shown.items():
            look: dict[str, Any] = {
                "color": styles[method].light,
                "marker": styles[method].marker,
                "linestyle": styles[method].dash,
            }
            look["zorder"] = 3 if study.kind(method) == "method" else 2.5
            top.plot(table["ds"], table["mean"], markersize=3.2, linewidth=0.7, alpha=0.9, **look)
            moves = 1e4 * (table["mean"] / table["anchor"] - 1)
            bottom.plot(table["ds"], moves, markersize=2.6, linewidth=0.8, **look)
        canvas.panel_title(top, f"Close, true and predicted {horizon} bars before")
        canvas.panel_title(bottom, "Predicted move from the last known close, 1/100 of a percent")
        bottom.yaxis.set_major_locator(MaxNLocator(4))
        _dates(bottom)
        canvas.legend(figure, entries)
        return figure

    caption = _closes_caption(truth, shown, horizon)
    alt = f"{series}: true closes and closes predicted {horizon} bars before by {', '.join(shown)}."
    return draw(f"{slug}_closes", alt, caption, make, vector=False)


def steps(study: Study, series: str, styles: Styles, slug: str) -> Drawing | None:
    """MSE against the random walk and CRPS against EWMA-t at each step ahead."""
    table = {method: by for method, by in by_step(study, series).items() if by}
    wanted = (("mse_ratio", "MSE ÷ random walk's"), ("crps_ratio", "CRPS ÷ EWMA-t's"))
    if not any(np.isfinite(values[key]) for by in table.values() for values in by.values() for key, _ in wanted):
        return None

    def make() -> Figure:
        figure, axes = canvas.panels(series, (120, 120), len(table))
        for axis, (key, title) in zip(axes, wanted, strict=True):
            axis.axhline(1, color=MUTED, linewidth=1)
            for method, by in table.items():
                style = styles[method]
                axis.plot(
                    list(by),
                    [values[key] for values in by.values()],
                    color=style.light,
                    linestyle=style.dash,
                    marker=style.marker,
                    markersize=4 if len(by) <= 12 else 0,
                )
            canvas.panel_title(axis, f"{title} (below 1 is better)")
            axis.yaxis.set_major_locator(MaxNLocator(5))
        axes[-1].xaxis.set_major_locator(
            MaxNLocator(min(8, len(next(iter(table.values())))), integer=True, min_n_ticks=1)
        )
        axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"step {value:g}"))
        canvas.legend(figure, [(method, canvas.handle(styles[method])) for method in table])
        return figure

    caption = (
        "Error at each step ahead as a ratio; mean over seeds. Mind the scale: the distance from 1 is all there is."
    )
    return draw(
        f"{slug}_steps", f"{series}: error ratios by step ahead for {', '.join(table)}.", caption, make, vector=False
    )


def effort(series: str, styles: Styles, slug: str, rows: Sequence[Row]) -> Drawing | None:
    """Train time, inference time, memory, MSE, RMSE and NRMSE of each method, grouped bars on a logarithmic axis."""
    groups = [
        (label, {row.method: row.values[key] / scale for row in rows if row.values.get(key, 0) > 0})
        for key, label, scale in EFFORT
    ]
    names = [method for method in styles if any(method in values for _, values in groups)]
    if not names:
        return None

    def make() -> Figure:
        figure, (axis,) = canvas.panels(series, (250,), len(names), axis=36)
        width = 0.84 / len(names)
        everything = [value for _, values in groups for value in values.values()]
        # A bar on a logarithmic axis has no natural foot: one decade below the smallest shows them all.
        axis.set_yscale("log")
        axis.set_ylim(min(everything) / 10, max(everything) * 10)
        for place, (_, values) in enumerate(groups):
            shifts = {name: (index - (len(names) - 1) / 2) * width for index, name in enumerate(names)}
            for name, value in values.items():
                axis.bar(place + shifts[name], value, 0.88 * width, color=styles[name].light)
            if values:
                axis.annotate(
                    _extent(list(values.values())),
                    (place, max(values.values())),
                    (0, 4),
                    "data",
                    "offset points",
                    ha="center",
                    fontsize=9,
                    color=MUTED,
                )
        axis.yaxis.set_major_locator(LogLocator(numticks=9))
        axis.yaxis.set_major_formatter(FuncFormatter(canvas.log_text))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set_xticks(range(len(groups)), [label for label, _ in groups])
        axis.tick_params(axis="x", length=0, labelcolor=INK)
        canvas.panel_title(axis, "Logarithmic; above each group its smallest and largest figure")
        canvas.legend(figure, [(name, Patch(color=styles[name].light, linewidth=0)) for name in names])
        return figure

    caption = (
        "What each method costs and how far off it is; mean over seeds. What was not trained has no bar for training."
        " Equal heights on this axis can still differ by several per cent: the tables have the digits."
    )
    alt = f"{series}: grouped bars of train time, inference time, memory, MSE, RMSE and NRMSE for {', '.join(names)}."
    return draw(f"{slug}_effort", alt, caption, make, vector=False)


def equity(series: str, styles: Styles, slug: str, tables: Mapping[str, Tables]) -> Drawing | None:
    """Profit net and before costs, and the drawdown of the net curve."""
    traded = {method: each.curves for method, each in tables.items() if each.curves}
    if not traded:
        return None
    currency = next((tables[method].currency for method in traded if tables[method].currency), "")

    def make() -> Figure:
        figure, axes = canvas.panels(series, (190, 130, 100), 0, right=LABEL_ROOM)
        net, gross, under = axes
        for method, curves in traded.items():
            for place, curve in enumerate(curves):
                times, style = np.array(curve.times, "datetime64[m]"), styles[method]
                look: dict[str, Any] = {
                    "color": style.light,
                    "linestyle": style.dash,
                    "linewidth": 0.6 if place else 1.3,
                    "alpha": 0.45 if place else 1,
                }
                net.plot(times, curve.net, **look)
                if not place:
                    under.plot(times, curve.under, **look)
                    if curve.before:
                        gross.plot(times, curve.before, **look)
        net.sharey(gross)
        net.autoscale_view()
        for axis, values in ((net, _net), (gross, _before)):
            axis.axhline(0, color=MUTED, linewidth=0.8, zorder=1)
            axis.yaxis.set_major_locator(MaxNLocator(5))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _money_tick(value)))
            ends = [(name, values(of[0])[-1], styles[name].light) for name, of in traded.items() if values(of[0])]
            if axis is net or len(ends) <= LABELS_IN_A_LOW_PANEL:
                canvas.label_ends(axis, ends, LABEL_ROOM)
        under.yaxis.set_major_locator(MaxNLocator(4))
        under.yaxis.set_major_formatter(FuncFormatter(lambda value, _: canvas.minus(f"{value:.3g} %")))
        canvas.panel_title(net, f"Net profit after costs, {currency}".rstrip(", "))
        canvas.panel_title(gross, f"The same before costs, {currency}".rstrip(", "))
        canvas.panel_title(under, "Net equity below its last peak")
        _dates(under)
        return figure

    several = " Faint lines are further seeds." if any(len(curves) > 1 for curves in traded.values()) else ""
    caption = (
        f"Every curve but buy-and-hold and always-flat trades by the same signal.{several} One history, one path of"
        " trades: the distance between curves has no interval here."
    )
    alt = f"{series}: net profit, profit before costs and drawdown of {', '.join(traded)}."
    return draw(f"{slug}_equity", alt, caption, make, vector=False)


def _net(curve: Curve) -> Sequence[float]:
    return curve.net


def _before(curve: Curve) -> Sequence[float]:
    return curve.before


def training(study: Study, series: str, styles: Styles, slug: str) -> Drawing | None:
    """Training and validation loss of each trained method."""
    histories = {cell.method: _history(cell) for cell in _first_seeds(study, series)}
    shown = {method: history for method, history in histories.items() if len(history)}
    if not shown:
        return None
    best = {cell.method: number(cell.train, "best_step") for cell in _first_seeds(study, series)}

    def make() -> Figure:
        figure, axes = canvas.panels(series, (120, 150), len(shown))
        for axis, key, title in zip(
            axes,
            ("train_loss", "validation_loss"),
            ("Training loss, nats a token", "Validation loss, nats a token (dot: step kept)"),
            strict=True,
        ):
            for method, history in shown.items():
                style = styles[method]
                known = history.dropna(subset=[key])
                if len(known) == 1 and known["step"].iloc[0] == 0:
                    axis.axhline(known[key].iloc[0], color=style.light, linestyle=(0, (2, 2)), linewidth=1.1)
                    continue
                axis.plot(known["step"], known[key], color=style.light, linewidth=1.3)
                kept = known[known["step"] == best[method]]
                if key == "validation_loss":
                    axis.plot(kept["step"], kept[key], color=style.light, marker="o", markersize=6, linestyle="none")
            canvas.panel_title(axis, title)
            axis.yaxis.set_major_locator(MaxNLocator(5))
        axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"step {value:g}" if value else "0"))
        canvas.legend(figure, [(method, canvas.handle(styles[method], marker=False)) for method in shown])
        return figure

    caption = (
        "Lowest seed. A dashed level is a model that was not trained. Losses compare only between methods of one codec."
    )
    return draw(
        f"{slug}_training",
        f"{series}: training and validation loss of {', '.join(shown)}.",
        caption,
        make,
        vector=False,
    )


def _first_seeds(study: Study, series: str) -> list[Cell]:
    """The lowest seed's cell of each method, methods first, then baselines and benchmarks."""
    cells = (study.of(series, method) for method in study.methods)
    return [min(found, key=lambda cell: cell.seed) for found in cells if found]


def _closes_caption(truth: pd.DataFrame, shown: Mapping[str, pd.DataFrame], horizon: int) -> str:
    """What is drawn, and how large the predicted moves are beside the true ones."""
    true_move = 1e4 * float(np.sqrt(np.nanmean((truth["y"] / truth["anchor"] - 1) ** 2)))
    moves = {method: 1e4 * (table["mean"] / table["anchor"] - 1) for method, table in shown.items()}
    largest = max(float(np.nanmax(np.abs(values))) for values in moves.values())
    repeats = " In the upper panel every method therefore all but repeats the last known close, late."
    return (
        f"Last {len(truth)} origins, to {truth['ds'].iloc[-1]:%Y-%m-%d}, step {horizon}, lowest seed. The lower panel"
        f" is the forecast itself, as a move from the last known close: the largest is {significant(largest)}"
        f" hundredths of a percent, where a typical true move is {significant(true_move)}."
        + (repeats if largest < true_move / 5 else "")
    )


def _history(cell: Cell) -> pd.DataFrame:
    """Losses by step, with NaN where one was not measured; empty where nothing was trained."""
    entries = cell.train.get("history") or []
    table = pd.DataFrame([entry for entry in entries if isinstance(entry, dict)])
    if table.empty or "step" not in table:
        return pd.DataFrame(columns=["step", "train_loss", "validation_loss"])
    for name in ("train_loss", "validation_loss"):
        table[name] = pd.to_numeric(table[name], errors="coerce") if name in table else np.nan
    return table


def _dates(axis: Axes) -> None:
    locator = AutoDateLocator(minticks=3, maxticks=7)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator, formats=DATES, zero_formats=DATES, show_offset=False))


def _extent(values: list[float]) -> str:
    low, high = significant(min(values), 2), significant(max(values), 2)
    return low if low == high else f"{low}\n–{high}"


def _money_tick(value: float) -> str:
    return canvas.minus(f"{value / 1000:g} k" if abs(value) >= 1000 else f"{value:g}")
