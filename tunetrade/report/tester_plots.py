"""Plots of the Tester's page: balance and equity, excursions against results, entries and results by time."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from strategies.metrics import falls
from tunetrade.report import canvas
from tunetrade.report.canvas import Drawing, draw
from tunetrade.report.palette import KNOWN, MUTED
from tunetrade.report.tester_run import TradedRun
from tunetrade.report.tester_tables import TesterTables

BLUE, RED, GREEN, PURPLE = (KNOWN[name].light for name in ("full", "lora", "adapter", "untuned"))
DATES = ["%Y", "%b %Y", "%d %b", "%d %b %H:%M", "%H:%M", "%H:%M:%S"]
BUCKETS = 1200
"""Stretches of a curve of which only the lowest and the highest point are drawn: more than a screen has columns."""

DOTS = 2000
"""Trades beyond which the dots of a scatter are drawn as a picture."""


def tester_drawings(run: TradedRun, tables: TesterTables) -> dict[str, list[Drawing]]:
    """Drawings by section of the page."""
    return {
        "curves": _made([curves(run)]),
        "excursions": _made([excursion(tables.trades, "mfe"), excursion(tables.trades, "mae")]),
        "times": _made([period(name, table) for name, table in tables.periods.items()]) if len(tables.trades) else [],
    }


def curves(run: TradedRun) -> Drawing | None:
    """Balance, equity and equity before costs; fall of equity from its peak; margin in use."""
    equity, currency = run.equity, run.account.currency
    times = run.local(equity["time"]).to_numpy("datetime64[ns]")
    money = {name: equity[name].to_numpy(np.float64) for name in ("balance", "equity", "equity_before_costs")}
    _, below = falls(money["equity"], run.account.deposit)
    load = 100 * equity["margin"].to_numpy(np.float64) / np.where(money["equity"] > 0, money["equity"], np.nan)

    def make() -> Figure:
        lines = (("equity_before_costs", PURPLE, 0.9), ("balance", BLUE, 1.6), ("equity", GREEN, 1.0))
        entries = [(name.replace("_", " "), Line2D([], [], color=colour)) for name, colour, _ in lines]
        figure, (top, middle, bottom) = canvas.panels("Balance and equity", (190, 80, 70), len(entries), right=26)
        for name, colour, width in lines:
            x, y = envelope(times, money[name])
            top.plot(x, y, color=colour, linewidth=width, drawstyle="steps-post" if name == "balance" else "default")
        top.axhline(run.account.deposit, color=MUTED, linewidth=0.8, zorder=1)
        middle.fill_between(*envelope(times, -100 * below), 0, color=RED, alpha=0.35, linewidth=0)
        bottom.fill_between(*envelope(times, load), 0, color=BLUE, alpha=0.35, linewidth=0, step="post")
        canvas.panel_title(top, f"Money, {currency}".rstrip(", "))
        canvas.panel_title(middle, "Equity below its last peak")
        canvas.panel_title(bottom, "Deposit load: margin / equity")
        top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: canvas.minus(f"{value:,.0f}")))
        for axis in (middle, bottom):
            axis.yaxis.set_major_locator(MaxNLocator(3))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: canvas.minus(f"{value:.3g} %")))
        locator = AutoDateLocator(minticks=3, maxticks=7)
        bottom.xaxis.set_major_locator(locator)
        bottom.xaxis.set_major_formatter(
            ConciseDateFormatter(locator, formats=DATES, zero_formats=DATES, show_offset=False)
        )
        canvas.legend(figure, entries)
        return figure

    caption = (
        "At the closes of bars, server's clock. Balance moves where trades close; the line is the deposit. Falls "
        "within a bar are not seen."
    )
    return draw("curves", f"Balance, equity, drawdown and deposit load of {run.name}.", caption, make)


def excursion(trades: pd.DataFrame, which: str) -> Drawing | None:
    """Results against the best (mfe) or worst (mae) open result, with the least-squares line MetaTrader draws."""
    if not len(trades):
        return None
    x, y = trades[which].to_numpy(np.float64), trades["net_profit"].to_numpy(np.float64)
    long = trades["direction"].to_numpy() > 0
    best = which == "mfe"

    def make() -> Figure:
        entries = [
            (name, Line2D([], [], color=colour, marker="o", linestyle="none", markersize=4))
            for name, colour in (("long", BLUE), ("short", RED))
        ]
        figure, (axis,) = canvas.panels("MFE and result" if best else "MAE and result", (200,), len(entries), axis=40)
        for mask, colour in ((long, BLUE), (~long, RED)):
            axis.plot(
                x[mask], y[mask], color=colour, marker="o", linestyle="none", markersize=3, alpha=0.7,
                rasterized=len(x) > DOTS,
            )  # fmt: skip
        if len(x) > 1 and float(np.ptp(x)) > 0:
            slope, offset = np.polyfit(x, y, 1)
            ends = np.array([x.min(), x.max()])
            axis.plot(ends, slope * ends + offset, color=MUTED, linewidth=1.2)
        axis.axhline(0, color=MUTED, linewidth=0.8, zorder=1)
        axis.set_xlabel("best open result" if best else "worst open result", color=MUTED)
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.yaxis.set_major_locator(MaxNLocator(6))
        for each in (axis.xaxis, axis.yaxis):
            each.set_major_formatter(FuncFormatter(lambda value, _: canvas.minus(f"{value:g}")))
        canvas.panel_title(axis, "Net result of a trade")
        canvas.legend(figure, entries)
        return figure

    word = "best" if best else "worst"
    caption = (
        f"Each dot a trade: its net result over its {word} open result (before commission and swap, at exit prices)."
        " The line is least squares."
    )
    return draw(which, f"Net results of trades over their {word} open results.", caption, make)


def period(name: str, table: pd.DataFrame) -> Drawing | None:
    """Entries, and profit and loss of exits, by hour, weekday or month."""

    def make() -> Figure:
        places = np.arange(len(table))
        entries = [(label, Patch(color=colour)) for label, colour in (("profit", BLUE), ("loss", RED))]
        figure, (top, bottom) = canvas.panels(f"By {name}", (80, 120), len(entries))
        top.bar(places, table["entries"], color=GREEN, width=0.7)
        bottom.bar(places, table["profit_of_exits"], color=BLUE, width=0.7)
        bottom.bar(places, table["loss_of_exits"], color=RED, width=0.7)
        bottom.axhline(0, color=MUTED, linewidth=0.8)
        top.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        bottom.yaxis.set_major_locator(MaxNLocator(4))
        bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: canvas.minus(f"{value:g}")))
        _names(bottom, name, table)
        canvas.panel_title(top, "Entries")
        canvas.panel_title(bottom, "Profit and loss of exits")
        canvas.legend(figure, entries)
        return figure

    caption = f"{name.capitalize()} of the server's clock: of entry above, of exit below, as in MetaTrader."
    return draw(f"by-{name}", f"Entries and results by {name}.", caption, make)


def envelope(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve [T] with at most two points a stretch, its lowest and its highest, in order; the ends are kept."""
    if len(values) <= 2 * BUCKETS:
        return times, values
    edges = np.linspace(0, len(values), BUCKETS + 1).astype(np.int64)
    keep = {0, len(values) - 1}
    for a, b in pairwise(edges.tolist()):
        keep |= {int(a + np.argmin(values[a:b])), int(a + np.argmax(values[a:b]))}
    chosen = np.array(sorted(keep))
    return times[chosen], values[chosen]


def _names(axis: Axes, name: str, table: pd.DataFrame) -> None:
    step = 3 if name == "hour" else 1
    labels = [str(label) if name == "hour" else str(label)[:3] for label in table.index]
    axis.set_xticks(range(0, len(labels), step), labels[::step])
    axis.tick_params(axis="x", length=0)


def _made(drawings: Sequence[Drawing | None]) -> list[Drawing]:
    return [drawing for drawing in drawings if drawing is not None]
