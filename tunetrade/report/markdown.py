"""The report as Markdown, for a repository or a chat: header, sentences, leaderboards, links to the plots."""

from collections.abc import Sequence

from tunetrade.report import directions
from tunetrade.report.columns import COST, ERROR, KEY_COLUMNS, MONEY, Column, of_group
from tunetrade.report.formats import DASH, column_text, column_unit, column_values
from tunetrade.report.leaderboard import Row, best
from tunetrade.report.record import TOPICS, Report

ACTIVE = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>#|!$"} | {"\n": " ", "\r": " "})


def markdown(report: Report) -> str:
    """The whole document."""
    lines = [f"# {text(report.name)}", ""]
    lines += [f"- {text(label)}: {text(value)}" for label, value in report.header]
    lines += [
        f"- {text(fact.series)}: test {fact.test or DASH}, {fact.origins} origins, {text(fact.source)}"
        + (f" ({text(fact.notes)})" if fact.notes else "")
        for fact in report.series_facts
    ]
    lines += ["", "## What the numbers do and do not show", ""]
    lines += [part for sentence in report.findings for part in (text(sentence), "")]
    lines += [f"- {text(caution)}" for caution in report.cautions] + ([""] if report.cautions else [])
    if len(report.series) > 1:
        lines += ["## All series", "", *table(report.overall, KEY_COLUMNS, report.currency), ""]
    for series in report.series:
        lines += [f"## {text(series)}", ""]
        for group in (ERROR, MONEY, COST):
            lines += [*table(report.rows[series], of_group(group), report.currencies.get(series, "")), ""]
        lines += _directions(report, series)
        failures = [(row.method, message) for row in report.rows[series] for message in row.failures]
        lines += [f"- {text(method)} did not finish, {text(message)}" for method, message in failures]
        lines += [""] if failures else []
        for topic in TOPICS:
            drawing = report.drawings[series].get(topic.key)
            if drawing is not None:
                lines += [f"![{text(drawing.alt)}](plots/{drawing.name}.png)", ""]
    return "\n".join(lines).rstrip() + "\n"


def _directions(report: Report, series: str) -> list[str]:
    lines = [f"| {' | '.join(text(cell) for cell in line)} |" for line in report.directions[series]]
    heads = [f"| {' | '.join(directions.HEADS)} |", "|---" + "|---:" * (len(directions.HEADS) - 1) + "|"]
    return [f"{text(directions.TITLE)}. {text(directions.NOTE)}", "", *heads, *lines, ""] if lines else []


def table(rows: Sequence[Row], columns: Sequence[Column], currency: str) -> list[str]:
    """Lines of a pipe table, the best of each column in bold; none where there are no figures."""
    shown = [row for row in rows if any(column.key in row.values for column in columns)]
    known = {column.key: column_values(column, [row.values for row in shown]) for column in columns}
    present = [column for column in columns if known[column.key]]
    if not shown or not present:
        return []
    units = {column.key: column_unit(column, known[column.key], currency) for column in present}
    heads = [f"{column.label} ({units[column.key]})" if units[column.key] else column.label for column in present]
    best_of = {column.key: best(shown, column) for column in present}
    lines = [f"| method | {' | '.join(heads)} |", "|---" + "|---:" * len(present) + "|"]
    for row in shown:
        cells = [column_text(column, row.values.get(column.key), known[column.key]) for column in present]
        cells = [
            f"**{cell}**" if row.method in best_of[c.key] else cell for cell, c in zip(cells, present, strict=True)
        ]
        lines.append(f"| {text(row.method)} | {' | '.join(cells)} |")
    return lines


def text(value: str) -> str:
    """Text in which nothing is markup."""
    return value.translate(ACTIVE)
