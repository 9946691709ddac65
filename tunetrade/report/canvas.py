"""Blank figures, shared finishing touches, and rendering to PNG bytes and to SVG that takes its colours from the page.

Figures are one phone-readable width and stand side by side on a wide screen: one drawing serves both. Matplotlib is
imported here and in `plots` only, and both are imported when a report is written.
"""

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tunetrade.report.formats import MINUS, power_of_ten
from tunetrade.report.palette import GRID, INK, MUTED, Style, colours, variable

WIDTH = 480.0
LEFT, RIGHT = 50.0, 10.0
TITLE, LEGEND_ROW, PANEL_TITLE, AXIS, GAP = 26.0, 16.0, 22.0, 22.0, 6.0
POINTS_PER_INCH = 72.0
PNG_DPI = 144
LEGEND_COLUMNS = 4

RC: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 11,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.5,
    "path.simplify_threshold": 0.4,
    "axes.formatter.useoffset": False,
    # A name is text, whatever dollar signs it has.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Drawing:
    """A finished plot: the same picture as PNG bytes and as inline SVG (perhaps ""), and what it shows in words."""

    name: str
    png: bytes
    svg: str
    alt: str
    caption: str


@contextmanager
def look(name: str) -> Iterator[None]:
    """Our settings of matplotlib, whatever the user's own; `name` makes identifiers in the SVG reproducible."""
    with mpl.rc_context({**mpl.rcParamsDefault, **RC, "svg.hashsalt": name, "backend": "agg"}):
        yield


def panels(
    title: str, heights: Sequence[float], legend: int, right: float = RIGHT, axis: float = AXIS, left: float = LEFT
) -> tuple[Figure, list[Axes]]:
    """A figure with panels of given heights (points) one below the other and room for a legend of `legend` entries."""
    legend_height = math.ceil(legend / LEGEND_COLUMNS) * LEGEND_ROW
    gaps = PANEL_TITLE * len(heights) + axis
    total = TITLE + legend_height + sum(heights) + gaps + GAP * (len(heights) - 1)
    figure = Figure(figsize=(WIDTH / POINTS_PER_INCH, total / POINTS_PER_INCH), dpi=POINTS_PER_INCH)
    figure.text(4 / WIDTH, 1 - 16 / total, title, fontsize=12, fontweight="bold")
    axes: list[Axes] = []
    top = total - TITLE - legend_height
    for height in heights:
        top -= PANEL_TITLE + height
        box = (left / WIDTH, top / total, (WIDTH - left - right) / WIDTH, height / total)
        axes.append(figure.add_axes(box, sharex=axes[0] if axes else None))
        top -= GAP
    for above in axes[:-1]:
        above.tick_params(labelbottom=False)
    return figure, axes


def panel_title(axis: Axes, text: str) -> None:
    """What the vertical axis measures, written above it where a phone has room for it."""
    axis.annotate(text, (0, 1), (4 - LEFT, 9), "axes fraction", "offset points", fontsize=11, color=MUTED)


def legend(figure: Figure, entries: Sequence[tuple[str, Any]]) -> None:
    """A legend under the title, in columns."""
    height = figure.get_figheight() * POINTS_PER_INCH
    columns = min(LEGEND_COLUMNS, max(1, len(entries)))
    figure.legend(
        [handle for _, handle in entries],
        [plain(label) for label, _ in entries],
        loc="upper left",
        bbox_to_anchor=(0, 1 - (TITLE - 4) / height),
        ncols=columns,
        frameon=False,
        borderpad=0.2,
        borderaxespad=0,
        handlelength=2.0,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.25,
    )


def handle(style: Style, marker: bool = True, line: bool = True) -> Line2D:
    """Legend entry of a method."""
    return Line2D(
        [],
        [],
        color=style.light,
        linestyle=style.dash if line else "none",
        marker=style.marker if marker else None,
        markersize=5,
    )


def label_ends(axis: Axes, labels: Sequence[tuple[str, float, str]], room: float) -> None:
    """Name each line at its right end: (text, y in data, colour), moved apart so that no two overlap."""
    height = axis.get_position().height * axis.figure.figure.get_figheight() * POINTS_PER_INCH
    low, high = axis.get_ylim()
    ordered = sorted(labels, key=lambda label: (label[1], label[0]))
    wanted = [(value - low) / (high - low) * height for _, value, _ in ordered]
    placed = spread_out(wanted, min(12.5, height / max(1, len(ordered))), height)
    for (text, _, colour), aim, point in zip(ordered, wanted, placed, strict=True):
        axis.annotate(
            plain(text),
            (1, aim / height),
            (14, point - aim),
            "axes fraction",
            "offset points",
            color=colour,
            va="center",
            fontsize=10.5,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )


def spread_out(wanted: Sequence[float], gap: float, height: float) -> list[float]:
    """Places at least `gap` apart, in the same order, near the wanted ones and within the height where they fit.

    >>> spread_out([10, 11, 50], gap=10, height=100)
    [10, 20, 50]
    """
    placed: list[float] = []
    for place in wanted:
        placed.append(max(place, placed[-1] + gap) if placed else place)
    ceiling = height
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed


def log_text(value: float, _: Any = None) -> str:
    """Label of a tick on a logarithmic axis: powers of ten, and plain numbers near one."""
    exponent = round(math.log10(value)) if value > 0 else 0
    return f"{value:g}" if -2 <= exponent <= 3 else power_of_ten(exponent)


def minus(text: str) -> str:
    """Text of a tick with a true minus sign."""
    return text.replace("-", MINUS)


def plain(label: str) -> str:
    """A label that matplotlib will not hide for its leading underscore."""
    return f" {label}" if label.startswith("_") else label


def draw(name: str, alt: str, caption: str, make: Callable[[], Figure | None], vector: bool = True) -> Drawing | None:
    """Make a figure and render it as PNG and, if `vector`, as SVG; None where there was nothing to draw."""
    with look(name):
        figure = make()
        if figure is None:
            return None
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", dpi=PNG_DPI, metadata={"Software": None})
        if vector:
            figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Drawing(name, png.getvalue(), inline_svg(svg.getvalue(), name) if vector else "", alt, caption)


def inline_svg(document: str, name: str) -> str:
    """An SVG document as an element of a page: colours by theme, identifiers of its own, nothing external."""
    svg = document[document.index("<svg") :]
    view = re.search(r'viewBox="([^"]*)"', svg)
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'xlink:href="#([^"]*)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"font-family: [^;\"]*;?", "", body)
    body = re.sub(r"font: ([\w. ]*?)([\d.]+px) [^;\"]*", r"font-size: \2; font-weight: \1", body)
    body = body.replace("font-weight: ;", "").replace('font-weight: "', '"')
    themed = colours()
    body = re.sub(
        r"#[0-9a-f]{6}\b", lambda found: f"var(--{variable(found[0])})" if found[0] in themed else found[0], body
    )
    # A tenth of a point is finer than any screen shows.
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{2,}", _tenth, tag[0]), body)
    body = re.sub(r"\n\s*", "\n", body)
    return f'<svg viewBox="{view[1] if view else ""}" aria-hidden="true" focusable="false">{body.strip()}'


def _tenth(found: re.Match[str]) -> str:
    return f"{float(found[0]):.1f}".removesuffix(".0")
