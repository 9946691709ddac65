"""The report as one page that opens offline: inline style, inline plots, no script, nothing fetched from anywhere."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources

from tunetrade.report import directions
from tunetrade.report.canvas import Drawing
from tunetrade.report.columns import COLUMNS, COMBINED, COST, ERROR, KEY_COLUMNS, MONEY, Column, of_group
from tunetrade.report.facts import Fact
from tunetrade.report.formats import DASH, column_text, column_unit, column_values, visible
from tunetrade.report.leaderboard import Row, best
from tunetrade.report.palette import Style, css_variables, variable
from tunetrade.report.record import TOPICS, Report, Topic

KIND_WORDS = {"method": "", "baseline": "baseline", "benchmark": "benchmark"}


def page(report: Report) -> str:
    """The whole page."""
    title = f"{report.name} · TuneTrade report"
    body = "\n".join(
        [
            _head(report),
            _says(report),
            _overall(report),
            *(_series(report, series) for series in report.series),
            _directions(report),
            *(_topic(report, topic) for topic in TOPICS),
            _failures(report),
            _glossary(),
            _background(report),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style()}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def table(
    caption: str,
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    currency: str,
    styles: Mapping[str, Style],
    series: int,
) -> str:
    """A leaderboard in a box of its own that scrolls sideways, its first column staying in view."""
    shown = [row for row in rows if any(column.key in row.values for column in columns)]
    present = [column for column in columns if column_values(column, [row.values for row in shown])]
    if not shown or not present:
        return ""
    known = {column.key: column_values(column, [row.values for row in shown]) for column in present}
    best_of = {column.key: best(shown, column) for column in present}
    heads = "".join(
        f'<th scope="col" title="{escape(column.definition)}">{escape(column.label)}'
        f"<small>{escape(column_unit(column, known[column.key], currency))}</small></th>"
        for column in present
    )
    lines = []
    for row in shown:
        cells = "".join(
            _figure(row, column, known[column.key], row.method in best_of[column.key]) for column in present
        )
        yard = "" if row.kind == "method" else ' class="yard"'
        lines.append(f"<tr{yard}>{_name(row, styles, series)}{cells}</tr>")
    title = f"\n<caption>{escape(caption)}</caption>"
    return box(caption, f"<table>{title}", f'<th scope="col">Method</th>{heads}', lines)


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


def section(anchor: str, title: str, body: str) -> str:
    """A part of the page that links can reach."""
    return f'<section id="{escape(anchor)}"><h2>{escape(title)}</h2>\n{body}</section>'


def definitions(facts: Iterable[Fact]) -> str:
    """Labels and texts."""
    return "<dl>" + "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in facts) + "</dl>"


def style() -> str:
    """The sheet of every page: colours of both themes, then the rules."""
    sheet = resources.files("tunetrade.report").joinpath("page.css").read_text(encoding="utf-8")
    dark = "@media (prefers-color-scheme:dark){:root{" + css_variables(dark=True) + "}}"
    return f":root{{{css_variables(dark=False)}}}\n{dark}\n{sheet}"


def _head(report: Report) -> str:
    lines = [
        f'<tr><th scope="row">{escape(fact.series)}</th><td class="date">{escape(fact.data or DASH)}</td>'
        f'<td class="date">{_count(fact.bars)}</td><td class="date">{escape(fact.test or DASH)}</td>'
        f'<td class="date">{_count(fact.origins)}</td>'
        f"<td>{escape(fact.source)}</td><td>{escape(fact.notes)}</td></tr>"
        for fact in report.series_facts
    ]
    links = [("#overall", "Overall")] if len(report.series) > 1 else []
    links += [(f"#series-{report.slugs[series]}", series) for series in report.series]
    links += [("#direction", "Direction")] if any(report.directions.values()) else []
    links += [(f"#{topic.key}", topic.title) for topic in TOPICS if _drawn(report, topic.key)]
    links += [("#glossary", "Columns"), ("#background", "Configuration")]
    navigation = "".join(f'<a href="{escape(target)}">{escape(text)}</a>' for target, text in links)
    return (
        f'<header><h1>{escape(report.name)}</h1>\n<p class="lead">TuneTrade report: GPT-2 tuning methods by forecast'
        f" error and by money, beside baselines that need no training.</p>\n{definitions(report.header)}\n"
        f"{listing('Series', ('Series', 'Data', 'Bars', 'Test part', 'Origins', 'Source', 'Notes'), lines)}\n"
        f"<nav>{navigation}</nav></header>"
    )


def _says(report: Report) -> str:
    if not report.findings and not report.cautions:
        return ""
    sentences = "".join(f"<p>{escape(text)}</p>" for text in report.findings)
    notes = "".join(f"<li>{escape(text)}</li>" for text in report.cautions)
    listed = f"<ul>{notes}</ul>" if notes else ""
    return f'<section class="says"><h2>What the numbers do and do not show</h2>{sentences}{listed}</section>'


def _overall(report: Report) -> str:
    if len(report.series) < 2:
        return ""
    board = table(
        "All series",
        report.overall,
        KEY_COLUMNS,
        currency=report.currency,
        styles=report.styles,
        series=len(report.series),
    )
    return section("overall", "Leaderboard, all series", _reading(report) + board)


def _series(report: Report, series: str) -> str:
    rows = report.rows[series]
    boxes = "".join(
        table(group, rows, of_group(group), currency=report.currencies.get(series, ""), styles=report.styles, series=1)
        for group in (ERROR, MONEY, COST)
    )
    reading = _reading(report) if len(report.series) == 1 else ""
    anchor = f"series-{report.slugs[series]}"
    return section(anchor, f"Leaderboard, {series}", reading + (boxes or "<p>No figures.</p>"))


def _directions(report: Report) -> str:
    tables = []
    for series, lines in report.directions.items():
        rows = ["<tr>" + "".join(f"<td>{escape(text)}</td>" for text in line) + "</tr>" for line in lines]
        tables += (
            [f"<h3>{escape(series)}</h3>{listing(f'Direction, {series}', directions.HEADS, rows)}"] if rows else []
        )
    note = f'<p class="note">{escape(directions.NOTE)}</p>'
    return section("direction", directions.TITLE, note + "".join(tables)) if tables else ""


def _reading(report: Report) -> str:
    seeds = " Figures are means over seeds, ± their standard deviation." if report.several_seeds else ""
    return (
        '<p class="note">Sorted by CRPS ÷ EWMA-t, best first; baselines and benchmarks shaded. Green marks the best'
        f' of a column, not a significant one.{seeds} Every column is defined <a href="#glossary">below</a>.</p>'
    )


def _topic(report: Report, topic: Topic) -> str:
    drawings = _drawn(report, topic.key)
    if not drawings:
        return ""
    captions = list(dict.fromkeys(drawing.caption for drawing in drawings))
    shared = f'<p class="note">{escape(captions[0])}</p>' if len(captions) == 1 else ""
    figures = "\n".join(
        f'<figure><div role="img" aria-label="{escape(drawing.alt)}">{drawing.svg}</div>'
        + ("" if shared else f"<figcaption>{escape(drawing.caption)}</figcaption>")
        + "</figure>"
        for drawing in drawings
    )
    return section(topic.key, topic.title, f'{shared}<div class="plots">{figures}</div>')


def _failures(report: Report) -> str:
    lines = [
        f'<tr>{_name(row, report.styles, 1)}<td>{escape(series)}</td><td class="text">{escape(text)}</td></tr>'
        for series in report.series
        for row in report.rows[series]
        for text in row.failures
    ]
    if not lines:
        return ""
    body = listing("Cells that did not finish", ("Method", "Series", "What happened"), lines)
    return section("failed", "Cells that did not finish", body)


def _glossary() -> str:
    blocks = "".join(
        f"<h3>{group}</h3>"
        + definitions(
            (column.label, f"{column.definition} ({COMBINED[column.combine]})")
            for column in COLUMNS
            if column.group == group
        )
        for group in (ERROR, MONEY, COST)
    )
    return section("glossary", "What the columns mean", f"<details><summary>Definitions</summary>{blocks}</details>")


def _background(report: Report) -> str:
    return section(
        "background",
        "Configuration and provenance",
        f"<details><summary>Versions, code and data</summary>{definitions(report.provenance)}</details>\n"
        f"<details><summary>Full configuration</summary>{definitions(report.configuration)}</details>",
    )


def _drawn(report: Report, topic: str) -> list[Drawing]:
    drawings = (report.drawings[series].get(topic) for series in report.series)
    return [drawing for drawing in drawings if drawing is not None]


def _name(row: Row, styles: Mapping[str, Style], series: int) -> str:
    words = [KIND_WORDS[row.kind]] if KIND_WORDS[row.kind] else []
    words += [f"{row.series} of {series} series"] if row.values and row.series < series else []
    words += [f"{len(row.failures)} failed"] if row.failures and row.values else []
    swatch = f'<span class="swatch" style="background:var(--{variable(styles[row.method].light)})"></span>'
    small = f"<small>{escape(', '.join(words))}</small>" if words else ""
    return f'<th scope="row">{swatch}{escape(row.method)}{small}</th>'


def _figure(row: Row, column: Column, values: Sequence[float], is_best: bool) -> str:
    text = column_text(column, row.values.get(column.key), values)
    spread = row.spread.get(column.key, 0.0)
    small = f"<small>± {escape(visible(column_text(column, spread, values)))}</small>" if spread > 0 else ""
    mark = ' class="best"' if is_best else ""
    return f"<td{mark}>{escape(text)}{small}</td>"


def _count(number: int) -> str:
    return f"{number:,}" if number else DASH
