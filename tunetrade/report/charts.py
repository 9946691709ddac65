"""Charts of the page as plain data for plotly: everything is computed here, the page only draws.

Colours are written as `@name`, a CSS variable of the page (`@name/0.2` with an alpha), so that one chart serves the
light and the dark theme; `$key` stands for an array of the page's store, so that no curve is in the page twice.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from tunetrade.report.palette import SPARE, Style, variable

Trace = dict[str, Any]
Styles = Mapping[str, Style]

MARKERS = {
    "o": "circle", "^": "triangle-up", "s": "square", "D": "diamond", "x": "x", "+": "cross", "v": "triangle-down",
    "P": "cross", "*": "star", "h": "hexagon", "<": "triangle-left", ">": "triangle-right", "p": "pentagon", "X": "x",
    "d": "diamond-tall", "|": "line-ns-open", "_": "line-ew-open", "1": "y-down-open",
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A chart: traces and layout as plotly takes them, its height in pixels, and what it shows in words.

    png, csv: files of the report's folder with the same figures, "" where there is none.
    """

    name: str
    title: str
    height: int
    traces: list[Trace]
    layout: dict[str, Any]
    alt: str
    caption: str = ""
    png: str = ""
    csv: str = ""


@dataclass
class Store:
    """Charts of a page by name, and the arrays they share."""

    charts: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrays: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, chart: Chart) -> None:
        """Keep a chart for the page's script."""
        self.charts[chart.name] = {"h": chart.height, "d": chart.traces, "l": chart.layout}

    def share(self, key: str, values: list[Any]) -> str:
        """Keep an array once and give the text that stands for it."""
        for known, other in self.arrays.items():
            if other == values:
                return f"${known}"
        self.arrays[key] = values
        return f"${key}"


def label(text: str) -> str:
    """Text in which plotly finds no markup."""
    return escape(text)


def ink(style: Style, alpha: float = 1.0) -> str:
    """Colour of a method, of either theme."""
    return f"@{variable(style.light)}" + (f"/{alpha:g}" if alpha < 1 else "")


def of_series(position: int) -> Style:
    """How a series is drawn where series stand side by side."""
    return SPARE[position % len(SPARE)]


def dash(style: Style) -> str:
    """Matplotlib's dashes as plotly's."""
    return "solid" if isinstance(style.dash, str) else ",".join(f"{2 * length:g}px" for length in style.dash[1])


def line(name: str, style: Style, x: Any, y: Any, **more: Any) -> Trace:
    """A line of a method or series."""
    return {
        "type": "scatter", "mode": "lines", "name": label(name), "legendgroup": name, "x": x, "y": y,
        "line": {"color": ink(style), "width": 1.8, "dash": dash(style)}, **more,
    }  # fmt: skip


def marks(name: str, style: Style, x: Any, y: Any, **more: Any) -> Trace:
    """Points of a method."""
    return {
        "type": "scatter", "mode": "markers", "name": label(name), "legendgroup": name, "x": x, "y": y,
        "marker": {"color": ink(style), "size": 10, "symbol": MARKERS.get(style.marker, "circle")}, **more,
    }  # fmt: skip


def band(name: str, style: Style, x: Sequence[Any], low: Sequence[float], high: Sequence[float], **more: Any) -> Trace:
    """The area between two curves, faint."""
    return {
        "type": "scatter", "mode": "lines", "name": label(name), "legendgroup": name, "showlegend": False,
        "hoverinfo": "skip", "x": [*x, *reversed(x)], "y": plain([*high, *reversed(low)]), "fill": "toself",
        "fillcolor": ink(style, 0.16), "line": {"width": 0, "color": ink(style)}, **more,
    }  # fmt: skip


def error_bars(value: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str) -> dict[str, Any]:
    """Intervals round points; none where an end is not known."""
    return {
        "type": "data", "symmetric": False, "color": colour, "thickness": 1, "width": 3,
        "array": plain([b - v for v, b in zip(value, high, strict=True)]),
        "arrayminus": plain([v - a for v, a in zip(value, low, strict=True)]),
    }  # fmt: skip


def plain(values: Iterable[float], digits: int = 6) -> list[float | None]:
    """Numbers as JSON has them: short, and nothing where there is none."""
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values]


def zero(level: float, axis: str = "y") -> dict[str, Any]:
    """A line across the plot at a level of no difference."""
    along = "x" if axis.startswith("y") else "y"
    suffix = axis[1:]
    ends = {f"{along}0": 0, f"{along}1": 1, f"{along}ref": f"{along}{suffix} domain"}
    here = {f"{axis[0]}0": level, f"{axis[0]}1": level, f"{axis[0]}ref": axis}
    return {"type": "line", **ends, **here, "line": {"color": "@muted", "width": 1}, "layer": "below"}


def heading(text: str, y: float) -> dict[str, Any]:
    """What a panel shows, written above it."""
    return {"text": label(text), "x": 0, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left",
            "yanchor": "bottom", "showarrow": False, "font": {"size": 12, "color": "@muted"}}  # fmt: skip


def two_panels(upper: str, lower: str, share: float = 0.55) -> dict[str, Any]:
    """Layout of two panels above each other on one x axis."""
    split = 1 - share
    return {
        "yaxis": {"domain": [split + 0.05, 1], "anchor": "x"}, "yaxis2": {"domain": [0, split - 0.05], "anchor": "x"},
        "xaxis": {"anchor": "y2"}, "annotations": [heading(upper, 1), heading(lower, split - 0.05)],
    }  # fmt: skip
