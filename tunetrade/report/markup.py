"""Pieces of HTML that every page is made of: boxes of tables, lists of facts, sections, the style sheet."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from tunetrade.report.charts import Chart
from tunetrade.report.facts import Fact
from tunetrade.report.formats import DASH
from tunetrade.report.palette import css_variables


@dataclass(frozen=True)
class Item:
    """A figure in a table: its text, what it is sorted by (NaN: last), a smaller second line, its classes and title."""

    text: str
    value: float = math.nan
    small: str = ""
    classes: str = ""
    title: str = ""


def box(label: str, opening: str, heads: str, lines: Sequence[str]) -> str:
    """A table that scrolls inside its own box, by keyboard too; `lines` are its rows."""
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{escape(label)}">{opening}\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"
    )


def listing(label: str, heads: Sequence[str], lines: Sequence[str]) -> str:
    """A table of words rather than figures."""
    titles = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    return box(label, '<table class="list">', titles, lines)


def grid(caption: str, heads: Sequence[str | Item], rows: Sequence[tuple[str, Sequence[Item | str]]],
         classes: str = "sortable") -> str:  # fmt: skip
    """A table of figures that can be sorted: a head is text or text with a small line and a title; rows by name.

    The name of a row is HTML already; all else is text. Nothing without rows.
    """
    if not rows:
        return ""
    titles = "".join(f'<th scope="col"{_title(head)}>{_head(head)}</th>' for head in heads)
    lines = [f'<tr><th scope="row">{name}</th>{"".join(map(_cell, items))}</tr>' for name, items in rows]
    return box(caption, f'<table class="{classes}"><caption>{escape(caption)}</caption>', titles, lines)


def section(anchor: str, title: str, body: str) -> str:
    """A part of the page that links can reach."""
    return f'<section id="{escape(anchor)}"><h2>{escape(title)}</h2>\n{body}</section>'


def definitions(facts: Iterable[Fact]) -> str:
    """Labels and texts."""
    return "<dl>" + "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in facts) + "</dl>"


def note(text: str) -> str:
    """A paragraph that says how to read what follows."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def figure(chart: Chart | None) -> str:
    """Where the script draws a chart, and what is said of it; without script its PNG and CSV are a link away."""
    if chart is None:
        return ""
    links = "".join(
        f' <a href="{escape(file)}" download>{kind}</a>'
        for kind, file in (("PNG", chart.png), ("CSV", chart.csv))
        if file
    )
    return (
        f'<figure class="chart"><h3>{escape(chart.title)}</h3><div class="plot" data-chart="{escape(chart.name)}"'
        f' role="img" aria-label="{escape(chart.alt)}" style="height:{chart.height}px"></div>'
        f"<figcaption>{escape(chart.caption)}{links}</figcaption></figure>"
    )


def style() -> str:
    """The sheet of every page: colours of both themes, then the rules.

    The theme is the system's unless the page's root says otherwise in `data-theme`.
    """
    sheet = resources.files("tunetrade.report").joinpath("page.css").read_text(encoding="utf-8")
    dark = css_variables(dark=True)
    return (
        f":root{{{css_variables(dark=False)}}}\n"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f":root[data-theme=dark]{{{dark}}}\n{sheet}"
    )


def number_item(text: str, value: float, small: str = "", classes: str = "", title: str = "") -> Item:
    """A figure, or a dash where there is none."""
    return Item(text if math.isfinite(value) else DASH, value, small if math.isfinite(value) else "", classes, title)


def _cell(item: Item | str) -> str:
    if isinstance(item, str):
        return f'<td class="words">{escape(item)}</td>'
    classes = f' class="{item.classes}"' if item.classes else ""
    value = f' data-v="{item.value:.9g}"' if math.isfinite(item.value) else ""
    title = f' title="{escape(item.title)}"' if item.title else ""
    small = f"<small>{escape(item.small)}</small>" if item.small else ""
    return f"<td{classes}{value}{title}>{escape(item.text)}{small}</td>"


def _head(head: str | Item) -> str:
    if isinstance(head, str):
        return escape(head)
    return escape(head.text) + (f"<small>{escape(head.small)}</small>" if head.small else "")


def _title(head: str | Item) -> str:
    return f' title="{escape(head.title)}"' if isinstance(head, Item) and head.title else ""
