"""The Tester's report as one CSV: sections in the Tester's order, each with a title and headings, numbers bare.

Its Deals section is laid out as MetaTrader's, so `tunetrade reconcile` reads it like an export.
"""

import csv
import io
import math
import re
from collections.abc import Iterable

import pandas as pd

from strategies.tester_fields import FIELDS
from tunetrade.report.tester_tables import PERIOD_HEADS, PERIODS, TesterTables

_THOUSANDS = re.compile(r"(?<=\d) (?=\d)")

DEAL_HEADS = {
    "time": "Time", "deal": "Deal", "symbol": "Symbol", "type": "Type", "direction": "Direction", "volume": "Volume",
    "price": "Price", "order": "Order", "commission": "Commission", "swap": "Swap", "profit": "Profit",
    "balance": "Balance", "comment": "Comment", "position": "Position", "utc": "Time UTC",
}  # fmt: skip
TRADE_COLUMNS = (
    "trade", "direction", "lots", "entry_time", "entry_utc", "entry_price", "exit_time", "exit_utc", "exit_price",
    "profit_before_costs", "spread_cost", "slippage_cost", "commission", "swap", "net_profit", "mfe", "mae",
    "bars_held", "reason", "exit_reason",
)  # fmt: skip


def tester_csv(tables: TesterTables) -> str:
    """The whole file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for title, rows in (
        ("Settings", tables.settings),
        ("Results", [(field.label, _THOUSANDS.sub("", field.text(tables.figures))) for field in FIELDS]),
        ("Figures", tables.figures.items()),
        ("Costs", tables.costs),
        ("Long and short", _sides(tables)),
        *((f"By {name}", _period(tables, name)) for name in PERIODS),
        ("Deals", _frame(tables.deals[list(DEAL_HEADS)].rename(columns=DEAL_HEADS))),
        ("Trades", _frame(tables.trades[list(TRADE_COLUMNS)])),
    ):
        writer.writerow([title])
        writer.writerows([[bare(value) for value in row] for row in rows])
        writer.writerow([])
    return out.getvalue()


def bare(value: object) -> str:
    """A value for another program: no thousands, no needless zeros, times as MetaTrader writes them.

    >>> bare(1.10), bare(-0.0), bare(0.000123), bare(float("nan"))
    ('1.1', '0', '0.000123', '')
    """
    if isinstance(value, pd.Timestamp):
        return str(value.strftime("%Y.%m.%d %H:%M:%S"))
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        text = f"{value:.10f}".rstrip("0").rstrip(".")
        return "0" if text in ("-0", "") else text
    return str(value)


def _sides(tables: TesterTables) -> Iterable[tuple[object, ...]]:
    names = list(tables.sides)
    yield ("", *names)
    for key in tables.sides[names[0]]:
        yield (key, *(tables.sides[name][key] for name in names))


def _period(tables: TesterTables, name: str) -> Iterable[tuple[object, ...]]:
    yield (name, *PERIOD_HEADS)
    for row in tables.periods[name].itertuples():
        yield tuple(row)


def _frame(frame: pd.DataFrame) -> Iterable[tuple[object, ...]]:
    yield tuple(frame.columns)
    yield from frame.itertuples(index=False, name=None)
