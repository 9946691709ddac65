"""The Tester's report of one run as a page: MetaTrader's fields in MetaTrader's order, offline, no script."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources

import pandas as pd

from strategies.tester_fields import DASH, FIELDS, LAYOUT, money_text, number_text, share_text
from tunetrade.report.canvas import Drawing
from tunetrade.report.formats import MINUS
from tunetrade.report.html import box, definitions, section, style
from tunetrade.report.tester_run import TradedRun
from tunetrade.report.tester_tables import PERIODS, TesterTables

MOST_ROWS = 1000
"""Deals and trades beyond which the page shows the last ones and leaves the rest to the CSV."""

SIDE_ROWS = {
    "total_trades": ("Trades", lambda value: number_text(value, 0)),
    "profit_share": ("Won", share_text),
    "profit_before_costs": ("Profit before costs", money_text),
    "costs": ("Costs", money_text),
    "total_net_profit": ("Net profit", money_text),
    "gross_profit": ("Gross profit", money_text),
    "gross_loss": ("Gross loss", money_text),
    "profit_factor": ("Profit factor", number_text),
    "expected_payoff": ("Expected payoff", money_text),
    "average_profit": ("Average profit trade", money_text),
    "average_loss": ("Average loss trade", money_text),
    "bars_held": ("Bars held, mean", lambda value: number_text(value, 1)),
}


def tester_page(run: TradedRun, tables: TesterTables, drawings: Mapping[str, Sequence[Drawing]]) -> str:
    """The whole page."""
    body = "\n".join(
        [
            _head(run, tables),
            section("results", "Results", _results(tables)),
            _plots("curves", "Balance and equity", drawings),
            section("costs", "From gross to net", _costs(tables)),
            section("sides", "Long and short", _sides(tables)),
            _plots("times", "Entries and results by time", drawings, _periods(tables)),
            _plots("excursions", "Excursions", drawings),
            section("deals", "Deals", _deals(run, tables)),
            section("trades", "Trades", _trades(run, tables)),
            section("definitions", "What the fields mean", _definitions()),
        ]
    )
    sheet = resources.files("tunetrade.report").joinpath("tester.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(run.name)} · Strategy Tester report</title>\n<style>\n{style()}{sheet}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(run: TradedRun, tables: TesterTables) -> str:
    links = (
        ("results", "Results"), ("curves", "Curves"), ("costs", "Costs"), ("sides", "Long and short"),
        ("times", "Times"),
        ("excursions", "MFE and MAE"), ("deals", "Deals"), ("trades", "Trades"), ("definitions", "Definitions"),
    )  # fmt: skip
    navigation = "".join(f'<a href="#{target}">{escape(text)}</a>' for target, text in links)
    notes = ["Fills are computed from bars: equity within a bar, and with it the deepest drawdown, is not known."]
    if run.record.get("illustrative"):
        notes.insert(
            0, "Illustrative: fixings are published, not traded; fills are at the next fixing, the spread assumed."
        )
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f'<header><h1>{escape(run.name)}</h1>\n<p class="lead">Strategy Tester report of a TuneTrade run.</p>\n'
        f'<div class="says"><ul>{listed}</ul></div>\n{definitions(tables.settings)}\n<nav>{navigation}</nav></header>'
    )


def _results(tables: TesterTables) -> str:
    cells = []
    for row in LAYOUT:
        for field in (*row, None, None)[:3]:
            if field is None:
                cells.append('<div class="blank"></div>')
            else:
                text = escape(field.text(tables.figures)).replace("-", MINUS, 1)
                label = f'<div title="{escape(field.definition)}"><span>{escape(field.label)}</span>'
                cells.append(f"{label}<span>{text}</span></div>")
    return '<div class="results">' + "\n".join(cells) + "</div>"


def _costs(tables: TesterTables) -> str:
    gross, trades = tables.costs[0][1], tables.figures["total_trades"]
    lines = []
    for label, value in tables.costs:
        each = money_text(value / trades) if trades else DASH
        share = share_text(value / abs(gross)) if gross else DASH
        lines.append(_row(label, (money_text(value), each, share)))
    return box("Costs", "<table>", _heads("", "Money", "A trade", "Of profit before costs"), lines)


def _sides(tables: TesterTables) -> str:
    lines = [
        _row(label, [write(part[key]) for part in tables.sides.values()]) for key, (label, write) in SIDE_ROWS.items()
    ]
    return box("Long and short", "<table>", _heads("", *tables.sides), lines)


def _periods(tables: TesterTables) -> str:
    heads = _heads("", "Entries", "Won", "Net of these", "Profit of exits", "Loss of exits")
    parts = []
    for name in PERIODS:
        lines = [
            _row(
                str(row.Index),
                (
                    f"{row.entries}",
                    share_text(row.won / row.entries if row.entries else float("nan")),
                    *(money_text(value) for value in (row.net_of_entries, row.profit_of_exits, row.loss_of_exits)),
                ),
            )
            for row in tables.periods[name].itertuples()
            if row.entries or row.profit_of_exits or row.loss_of_exits
        ]
        table = box(f"By {name}", "<table>", heads, lines)
        parts.append(f"<details><summary>By {name}, in figures</summary>{table}</details>")
    return "".join(parts)


def _deals(run: TradedRun, tables: TesterTables) -> str:
    heads = _heads(
        "Time", "Deal", "Type", "Direction", "Volume", "Price", "Commission", "Swap", "Profit", "Balance", "Comment"
    )
    shown = tables.deals.tail(MOST_ROWS)
    lines = []
    for deal in shown.to_dict("records"):
        trading = deal["direction"] != ""
        words = (f"{deal['deal']}", deal["type"], deal["direction"])
        numbers = (_lots(deal["volume"]), _price(deal["price"], run)) if trading else ("", "")
        money = [money_text(deal[name]) for name in ("commission", "swap", "profit", "balance")]
        lines.append(_row(_time(deal["time"]), (*words, *numbers, *money, deal["comment"]), _utc(deal["utc"])))
    return _listed("Deals", heads, lines, len(tables.deals), booked=1)


def _trades(run: TradedRun, tables: TesterTables) -> str:
    heads = _heads(
        "Entered", "Side", "Lots", "Price", "Left", "Price", "Before costs", "Spread", "Slippage", "Commission", "Swap",
        "Net", "MFE", "MAE", "Bars", "Closed by",
    )  # fmt: skip
    lines = []
    for trade in tables.trades.tail(MOST_ROWS).to_dict("records"):
        costs = [-trade[name] for name in ("spread_cost", "slippage_cost", "commission")]
        money = [trade["profit_before_costs"], *costs, *(trade[name] for name in ("swap", "net_profit", "mfe", "mae"))]
        cells = (
            "long" if trade["direction"] > 0 else "short", _lots(trade["lots"]), _price(trade["entry_price"], run),
            _time(trade["exit_time"]), _price(trade["exit_price"], run), *map(money_text, money),
            str(trade["bars_held"]), trade["exit_reason"],
        )  # fmt: skip
        lines.append(_row(_time(trade["entry_time"]), cells, _utc(trade["entry_utc"])))
    return _listed("Trades", heads, lines, len(tables.trades))


def _listed(label: str, heads: str, lines: Sequence[str], count: int, booked: int = 0) -> str:
    """A table behind its number of rows, those booked without an order not counted."""
    if not lines:
        return "<p>None.</p>"
    cut = f'<p class="note">The last {len(lines):,} of {count:,}; tester.csv has all.</p>' if count > len(lines) else ""
    summary = f"<summary>{count - booked:,} {label.lower()}</summary>"
    return f"<details>{summary}{cut}{box(label, '<table>', heads, lines)}</details>"


def _definitions() -> str:
    listed = definitions((field.label, field.definition) for field in FIELDS)
    return f"<details><summary>Definitions</summary>{listed}</details>"


def _plots(anchor: str, title: str, drawings: Mapping[str, Sequence[Drawing]], after: str = "") -> str:
    figures = "\n".join(
        f'<figure><div role="img" aria-label="{escape(drawing.alt)}">{drawing.svg}</div>'
        f"<figcaption>{escape(drawing.caption)}</figcaption></figure>"
        for drawing in drawings[anchor]
    )
    return section(anchor, title, f'<div class="plots">{figures}</div>{after}' if figures else "<p>No trades.</p>")


def _heads(*names: str) -> str:
    return "".join(f'<th scope="col">{escape(name)}</th>' for name in names)


def _row(head: str, cells: Iterable[str], small: str = "") -> str:
    under = f"<small>{escape(small)}</small>" if small else ""
    rest = "".join(f"<td>{escape(_true_minus(str(cell)))}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(head)}{under}</th>{rest}</tr>'


def _true_minus(text: str) -> str:
    return MINUS + text[1:] if text.startswith("-") else text


def _price(value: float, run: TradedRun) -> str:
    return f"{value:.{run.account.digits}f}"


def _lots(value: float) -> str:
    """Lots with the two decimals of most brokers, more where there are more."""
    return f"{value:.2f}" if abs(value - round(value, 2)) < 1e-9 else f"{value:g}"


def _time(stamp: pd.Timestamp) -> str:
    return "" if pd.isna(stamp) else f"{stamp:%Y.%m.%d %H:%M}"


def _utc(stamp: pd.Timestamp) -> str:
    return "" if pd.isna(stamp) else f"{stamp:%H:%M} UTC"
