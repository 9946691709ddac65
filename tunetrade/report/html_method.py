"""The page of one method: its verdicts, errors, calibration, money, months, trades, cost, checks."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd

from tunetrade.report.attachments import checks_tables, walk_table
from tunetrade.report.cells import TRADES_SHOWN, Months
from tunetrade.report.charts import Chart, Store, of_series
from tunetrade.report.charts_method import method_calibration, method_steps, training
from tunetrade.report.charts_study import equity
from tunetrade.report.columns import COST, ERROR, Column, of_group
from tunetrade.report.evidence_view import figure_of
from tunetrade.report.formats import DASH, column_text, column_unit, column_values, signed
from tunetrade.report.html_evidence import POWER, READING, comparison_items
from tunetrade.report.load import Study
from tunetrade.report.markup import Item, figure, grid, note, number_item
from tunetrade.report.record import Report

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
EVIDENCE_KEYS = ("mse_ratio", "crps_ratio", "mse", "rmse", "nrmse", "mae", "mase", "rmae", "crps", "coverage50",
                 "coverage80", "coverage90", "directional_accuracy")  # fmt: skip


def method_section(report: Report, method: str, store: Store) -> str:
    """All of one method, a route of the page."""
    study, evidence, slug = report.study, report.evidence, report.method_slugs[method]
    tables = {series: found[method] for series, found in report.tables.items() if method in found}
    charts = [
        method_steps(study, method, slug, evidence),
        method_calibration(method, slug, tables),
        *(
            equity(series, report.slugs[series], report.styles, report.tables[series], store, method)
            for series in study.series
            if tables.get(series) and tables[series].curves
        ),
        _training(report, method),
    ]
    for chart in charts:
        if chart:
            store.add(chart)
    heads, rows = comparison_items(evidence, study.series, method)
    body = [
        note(_what(report, method)),
        grid(f"Verdicts of {method}", heads, rows) + (note(READING) + note(POWER) if rows else ""),
        _errors(report, method),
        f'<div class="plots">{"".join(map(figure, charts))}</div>',
        *(months_table(series, each.months) for series, each in tables.items() if each.months),
        _costs(report, method),
        *(_trades(series, each.trades, report) for series, each in tables.items() if each.trades is not None),
        _beside(study, method),
    ]
    return (
        f'<section class="route" id="method-{escape(slug)}" data-title="{escape(method)}">'
        f"<h2>{escape(method)}</h2>\n{''.join(body)}</section>"
    )


def months_table(series: str, months: Months) -> str:
    """Net return of each month in a grid of years."""
    years = sorted(months.years)
    rows = []
    for year in years:
        items = [_month(months.returns.get((year, month), math.nan)) for month in range(1, 13)]
        rows.append((str(year), [*items, _month(months.years[year])]))
    return grid(f"Net return by month, {series}, %", ["Year", *MONTHS, "Year"], rows, "months")


def _what(report: Report, method: str) -> str:
    seeds = sorted({cell.seed for cell in report.study.of(method=method)})
    kind = {"method": "A GPT-2 method", "baseline": "A baseline without training", "benchmark": "A benchmark of money"}
    finished = (
        f"{len(report.study.of(method=method))} of {len(report.study.of(method=method, done=False))} runs finished"
    )
    words = kind[report.study.kind(method)]
    return f"{words}, seeds {', '.join(map(str, seeds)) or DASH}, {finished}."


def _training(report: Report, method: str) -> Chart | None:
    cells = {series: report.study.of(series, method) for series in report.study.series}
    styles = {series: of_series(position) for position, series in enumerate(report.study.series)}
    return training(
        {series: found for series, found in cells.items() if found}, f"of-{report.method_slugs[method]}", styles
    )


def _errors(report: Report, method: str) -> str:
    columns = {column.key: column for column in of_group(ERROR)}
    series = [each for each in report.study.series if math.isfinite(figure_of(report.evidence, each, method, "mse")[0])]
    rows = []
    for key in EVIDENCE_KEYS if series else ():
        found = {each: figure_of(report.evidence, each, method, key) for each in series}
        column = columns.get(key) or _coverage(key)
        items = [_figure(column, found[each]) for each in series]
        rows.append((f'<span title="{escape(column.definition)}">{escape(column.label)}</span>', items))
    return grid(f"Errors of {method} with 95 % intervals", ["Figure", *series], rows, "narrow")


def _coverage(key: str) -> Column:
    share = key.removeprefix("coverage")
    return Column(key, f"Coverage {share}", ERROR, "percent1", "nominal", "mean", f"Share of closes inside the {share}"
                  " % band.")  # fmt: skip


def _figure(column: Column, found: Sequence[float]) -> Item:
    known = [value for value in found if math.isfinite(value)]
    unit = column_unit(column, known)
    texts = [column_text(column, value, known) for value in found]
    small = f"[{texts[1]}, {texts[2]}]" if len(known) == 3 else ""
    text = f"{texts[0]} {unit}".strip() if math.isfinite(found[0]) else DASH
    return number_item(text, found[0], small)


def _month(value: float) -> Item:
    if not math.isfinite(value):
        return Item("")
    shade = min(5, math.ceil(abs(value))) if abs(value) >= 0.005 else 0
    return Item(signed(f"{value:.2f}"), value, classes=f"{'up' if value > 0 else 'down'}{shade}" if shade else "")


def _costs(report: Report, method: str) -> str:
    rows = []
    columns = of_group(COST)
    found = {
        series: row
        for series in report.study.series
        for row in report.rows[series]
        if row.method == method and row.values
    }
    present = [column for column in columns if any(column.key in row.values for row in found.values())]
    known = {column.key: column_values(column, [row.values for row in found.values()]) for column in present}
    for series, row in found.items():
        items = [
            number_item(column_text(column, row.values.get(column.key), known[column.key]),
                        row.values.get(column.key, math.nan))
            for column in present
        ]  # fmt: skip
        rows.append((escape(series), items))
    heads: list[str | Item] = ["Series"]
    heads += [Item(c.label, small=column_unit(c, known[c.key]), title=c.definition) for c in present]
    return grid(f"What {method} costs", heads, rows) if present else ""


def _trades(series: str, trades: pd.DataFrame | None, report: Report) -> str:
    if trades is None or "net_profit" not in trades:
        return ""
    shown = trades.tail(TRADES_SHOWN)
    rows = [
        (str(number), _trade(trade)) for number, trade in zip(shown.index + 1, shown.to_dict("records"), strict=True)
    ]
    heads = ["#", "Side", "Lots", "Opened", "at", "Closed", "at", "Bars", "Net", "Why closed"]
    total = f"all {len(trades):,}" if len(trades) <= TRADES_SHOWN else f"the last {TRADES_SHOWN} of {len(trades):,}"
    file = f"tables/trades_{report.slugs[series]}.csv"
    link = f'<p class="note">Lowest seed; all trades of all methods: <a href="{escape(file)}" download>CSV</a></p>'
    return (
        f"<details><summary>Trades on {escape(series)}: {total}</summary>{grid('Trades', heads, rows)}{link}</details>"
    )


def _trade(trade: Mapping[object, object]) -> list[Item | str]:
    def amount(key: str, digits: int) -> Item:
        value = trade.get(key)
        known = float(value) if isinstance(value, (int, float)) else math.nan
        return number_item(signed(f"{known:,.{digits}f}"), known)

    side = trade.get("direction")
    net = amount("net_profit", 2)
    return [
        "buy" if isinstance(side, (int, float)) and side > 0 else "sell" if isinstance(side, (int, float)) else DASH,
        amount("lots", 2),
        str(trade.get("entry_time") or DASH)[:16],
        amount("entry_price", 5),
        str(trade.get("exit_time") or DASH)[:16],
        amount("exit_price", 5),
        amount("bars_held", 0),
        Item(net.text, net.value, classes="up1" if net.value > 0 else "down1" if net.value < 0 else ""),
        str(trade.get("exit_reason") or ""),
    ]


def _beside(study: Study, method: str) -> str:
    """Audits, robustness cases and folds of the method's runs, the lowest seed of each series."""
    parts = []
    for series in study.series:
        for cell in sorted(study.of(series, method), key=lambda each: each.seed)[:1]:
            name = f"{series}, seed {cell.seed}"
            parts.append(walk_table(cell.folder, name) + checks_tables(cell.folder, name))
    return "".join(parts)
