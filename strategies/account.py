"""Fills -> ledger of trades and equity curve: the account as a trader keeps it."""

import numpy as np
import pandas as pd

from forecasting.bars import Bars
from strategies.broker import Fill
from strategies.rules import TradingRules

TRADE_COLUMNS = (
    "trade", "direction", "lots", "units", "entry_time", "entry_price", "exit_time", "exit_price",
    "profit_before_costs", "spread_cost", "commission", "net_profit", "bars_held", "reason",
)  # fmt: skip
"""direction: 1 or -1. lots, units of base currency: without sign. Prices as paid. Times: UTC closes of the bars in
which the orders filled (at the open, where bars have one). reason: why the trade was entered, or `end of data`."""

EQUITY_COLUMNS = ("time", "equity", "balance", "position", "price", "costs", "equity_before_costs")
"""At each bar's close. balance: deposit and closed trades. position: signed units. costs: cumulative, as paid."""


def trades_frame(fills: list[Fill], times: np.ndarray, rules: TradingRules, close_only: bool) -> pd.DataFrame:
    """Closed trades, TRADE_COLUMNS; `times` [T] are the closes of the bars that `Fill.bar` counts.

    Fills come in pairs, since a position is opened from flat and closed whole. bars_held counts the bars through which
    a position stood: from open to open, or from fixing to fixing.
    """
    rows = []
    for number, (entry, leave) in enumerate(zip(fills[::2], fills[1::2], strict=True), start=1):
        units, direction = abs(entry.units), 1 if entry.units > 0 else -1
        gross = direction * units * (leave.quote - entry.quote)
        spread, commission = entry.spread_cost + leave.spread_cost, entry.commission + leave.commission
        whole_last_bar = leave.at_close and not close_only
        rows.append(
            (
                number, direction, units / rules.lot_units, units,
                times[entry.bar], entry.price, times[leave.bar], leave.price,
                gross, spread, commission, gross - spread - commission,
                leave.bar - entry.bar + whole_last_bar, leave.reason if leave.at_close else entry.reason,
            )
        )  # fmt: skip
    integers = dict.fromkeys(("trade", "direction", "bars_held"), "int64")
    stamps = dict.fromkeys(("entry_time", "exit_time"), "datetime64[ns, UTC]")
    others = dict.fromkeys(TRADE_COLUMNS, "float64") | {"reason": "object"}
    frame = pd.DataFrame(rows, columns=list(TRADE_COLUMNS))
    for name in stamps:
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame.astype(others | integers | stamps)


def equity_frame(
    bars: Bars, fills: list[Fill], trades: pd.DataFrame, deposit: float, *, equity: np.ndarray, position: np.ndarray
) -> pd.DataFrame:
    """Equity curve, EQUITY_COLUMNS, of the T bars traded; `equity` and `position` [T] are the broker's."""
    paid = np.cumsum(np.bincount([f.bar for f in fills], [f.spread_cost + f.commission for f in fills], len(bars)))
    closed = np.cumsum(np.bincount([f.bar for f in fills[1::2]], trades["net_profit"], len(bars)))
    columns = {
        "time": pd.DatetimeIndex(bars.times).tz_localize("UTC"),
        "equity": equity,
        "balance": deposit + closed,
        "position": position,
        "price": bars.closes,
        "costs": paid,
        "equity_before_costs": equity + paid,
    }
    return pd.DataFrame({name: columns[name] for name in EQUITY_COLUMNS})
