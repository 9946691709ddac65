"""The report as one page that opens offline: nothing is fetched from anywhere.

The page has routes: an overview, each series, each method, what is behind them. Without script all of them stand below
each other, with every table; plots are then a link to their PNG away.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from tunetrade.report import directions
from tunetrade.report.attachments import checks_summary
from tunetrade.report.charts import Chart, Store
from tunetrade.report.charts_method import closes, training
from tunetrade.report.charts_study import calibrations, costs, equity, error_and_money, skill_map, steps
from tunetrade.report.columns import COLUMNS, COMBINED, COST, ERROR, KEY_COLUMNS, MONEY, Column, of_group
from tunetrade.report.evidence_view import OVERALL, part
from tunetrade.report.facts import Fact
from tunetrade.report.formats import DASH, column_text, column_unit, column_values, visible
from tunetrade.report.html_evidence import model_set_table, money_table, trials_note, verdict_table
from tunetrade.report.html_method import method_section
from tunetrade.report.interactive import script, theme_button
from tunetrade.report.leaderboard import Row, best
from tunetrade.report.load import number
from tunetrade.report.markup import box, definitions, figure, listing, section, style
from tunetrade.report.palette import Style, variable
from tunetrade.report.record import Report

__all__ = ["box", "definitions", "listing", "page", "section", "style", "table"]

KIND_WORDS = {"method": "", "baseline": "baseline", "benchmark": "benchmark"}


def page(report: Report) -> str:
    """The whole page."""
    title = f"{report.name} · TuneTrade report"
    store = Store()
    routes = [_overview(report, store)]
    if len(report.series) > 1:
        for name in report.series:
            body = f"<h2>{escape(name)}</h2>{_series(report, name, store)}"
            routes.append(_route(f"series-{report.slugs[name]}", name, body))
    routes += [method_section(report, method, store) for method in report.method_slugs]
    routes += [_route("background", "Configuration", _glossary() + _background(report))]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style()}</style>\n</head>\n<body>\n<main>\n"
        f"{_head(report)}\n" + "\n".join(routes) + f"\n</main>\n{script(store)}\n</body>\n</html>\n"
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
    return box(caption, f'<table class="sortable">{title}', f'<th scope="col">Method</th>{heads}', lines)


def _head(report: Report) -> str:
    lines = [
        f'<tr><th scope="row">{escape(fact.series)}</th><td class="date">{escape(fact.data or DASH)}</td>'
        f'<td class="date">{_count(fact.bars)}</td><td class="date">{escape(fact.test or DASH)}</td>'
        f'<td class="date">{_count(fact.origins)}</td>'
        f"<td>{escape(fact.source)}</td><td>{escape(fact.notes)}</td></tr>"
        for fact in report.series_facts
    ]
    links = [("overview", "Overview")]
    links += [(f"series-{report.slugs[name]}", name) for name in report.series] if len(report.series) > 1 else []
    links += [("background", "Columns and configuration")]
    methods = [(f"method-{slug}", method) for method, slug in report.method_slugs.items()]
    return (
        f'<header><div class="bar"><h1>{escape(report.name)}</h1>{theme_button()}</div>\n'
        '<p class="lead">TuneTrade report: GPT-2 tuning methods by forecast error and by money, beside baselines that'
        f" need no training.</p>\n<nav>{_links(links)}</nav>\n"
        f'<nav class="methods"><b>Methods</b>{_links(methods)}</nav>\n'
        f"<details><summary>What was run</summary>{definitions(report.header)}\n"
        f"{listing('Series', ('Series', 'Data', 'Bars', 'Test part', 'Origins', 'Source', 'Notes'), lines)}</details>"
        "</header>"
    )


def _links(entries: Iterable[tuple[str, str]]) -> str:
    return "".join(f'<a href="#{escape(target)}">{escape(text)}</a>' for target, text in entries)


def _route(anchor: str, title: str, body: str) -> str:
    return f'<section class="route" id="{escape(anchor)}" data-title="{escape(title)}">{body}</section>'


def _overview(report: Report, store: Store) -> str:
    """What a reader sees first: the sentences, the verdicts, skill, and with one series all of it."""
    study, evidence = report.study, report.evidence
    several = len(report.series) > 1
    chart = skill_map(study, evidence, study.methods)
    if chart:
        store.add(chart)
    body = [_says(report)]
    if several:
        body += [
            verdict_table(study, evidence, OVERALL, _namer(report)),
            figure(chart),
            _overall(report),
            model_set_table(study, evidence, OVERALL, _namer(report)),
        ]
    else:
        body += [_series(report, name, store, chart) for name in report.series]
    body += [_directions(report), checks_summary(study, report.folder), _failures(report)]
    return _route("overview", "Overview", "\n".join(filter(None, body)))


def _charts(report: Report, series: str, store: Store) -> list[Chart | None]:
    """Charts of a series, kept in the page's store."""
    study, evidence, slug, styles = report.study, report.evidence, report.slugs[series], report.styles
    tables = report.tables[series]
    firsts = [min(found, key=lambda cell: cell.seed) for m in study.methods if (found := study.of(series, m))]
    banded = next((row.method for row in report.rows[series] if row.kind == "method" and row.values), "")
    trained = {cell.method: [cell] for cell in firsts}
    charts = [
        equity(series, slug, styles, tables, store),
        error_and_money(study, series, slug, styles, evidence),
        steps(study, series, slug, styles, evidence),
        calibrations(series, slug, styles, tables, evidence),
        costs(report.rows[series], series, slug, styles, evidence),
        closes(tables, series, slug, styles, banded or next((cell.method for cell in firsts), "")),
        training(trained, slug, styles),
    ]
    for chart in charts:
        if chart:
            store.add(chart)
    return charts


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


def _series(report: Report, series: str, store: Store, chart: Chart | None = None) -> str:
    """Verdicts, charts, leaderboards and money of one series."""
    study, evidence, rows = report.study, report.evidence, report.rows[series]
    name = _namer(report)
    boxes = "".join(
        table(group, rows, of_group(group), currency=report.currencies.get(series, ""), styles=report.styles, series=1)
        for group in (ERROR, MONEY, COST)
    )
    drawn = "".join(map(figure, [chart, *_charts(report, series, store)]))
    anchor = f"leaderboard-{report.slugs[series]}"
    return (
        verdict_table(study, evidence, series, name)
        + (f'<div class="plots">{drawn}</div>' if drawn else "")
        + section(anchor, f"Leaderboard, {series}", (_reading(report) + boxes) if boxes else "<p>No figures.</p>")
        + money_table(study, evidence, series, name)
        + trials_note(evidence, series)
        + model_set_table(study, evidence, series, name)
    )


def _namer(report: Report) -> Callable[[str], str]:
    """A method's name as a table shows it: its colour, and a link to its page."""

    def name(method: str) -> str:
        swatch = f'<span class="swatch" style="background:var(--{variable(report.styles[method].light)})"></span>'
        return f'{swatch}<a href="#method-{escape(report.method_slugs[method])}">{escape(method)}</a>'

    return name


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
    made = [*report.provenance, *_effort(report)]
    return section(
        "provenance",
        "Configuration and provenance",
        f"<details><summary>Versions, code and data</summary>{definitions(made)}</details>\n"
        f"<details><summary>Full configuration</summary>{definitions(report.configuration)}</details>",
    )


def _effort(report: Report) -> list[Fact]:
    """Time that all cells took, and how many trials the ledger counts."""
    cells = report.study.of()
    facts = []
    for title, key in (("Training, all cells", "train"), ("Forecasting, all cells", "forecast")):
        seconds = [value for cell in cells if math.isfinite(value := number(getattr(cell, key), "seconds"))]
        facts += [(title, f"{math.fsum(seconds) / 60:,.1f} minutes of {len(seconds)} cells")] if seconds else []
    for series in report.series:
        count = number(part(report.evidence, "series", series, "trials"), "trials")
        facts += [(f"Trials on {series}", f"{count:,.0f}")] if math.isfinite(count) else []
    return facts


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
    value = f' data-v="{row.values[column.key]:.9g}"' if column.key in row.values else ""
    return f"<td{mark}{value}>{escape(text)}{small}</td>"


def _count(number: int) -> str:
    return f"{number:,}" if number else DASH
