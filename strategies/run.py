"""What a run of an account leaves behind, whichever engine ran it: closed trades, a row a bar, and frames of both."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from strategies.market import Market

REASONS = ("signal", "stop loss", "take profit", "stop out", "end of data")
"""Why a trade was closed, in the order of `Closed.why`. `signal` is all that a plan asks for: the other side, flat,
expiry, the weekend, a smaller size."""


class Closed(NamedTuple):
    """A closed trade, or the closed part of one.

    entry_bar, exit_bar: rows of the market. decided_bar: the bar at whose close its entry was decided. units: of base
    currency, signed. entry_price, exit_price: as paid. quote_in, quote_out: as shown at those moments, bid or mid.
    result: of prices paid, account currency. spread_cost, slippage_cost, commission: of both sides, positive. swap:
    signed, as booked. mfe, mae: best and worst open result at exit prices in money, mae at most 0. why: of `REASONS`.
    """

    entry_bar: int
    exit_bar: int
    decided_bar: int
    units: float
    entry_price: float
    exit_price: float
    quote_in: float
    quote_out: float
    result: float
    spread_cost: float
    slippage_cost: float
    commission: float
    swap: float
    mfe: float
    mae: float
    why: int


CLOSED = np.dtype([(name, "i8" if kind is int else "f8") for name, kind in Closed.__annotations__.items()])
"""`Closed` as a row of an array."""


@dataclass(frozen=True)
class Run:
    """An account along T bars.

    trades: a record array of CLOSED, in order of closing. equity, balance, position (signed units), margin: at each
    close, float64 [T]. paid: cumulative spread, slippage and commission less swap, as booked, those of open positions
    at that close's conversion, [T]. deals: orders executed, a netting reversal being one. refused: entries not made,
    for want of margin, a stop on the wrong side or a size below the least. margin_calls: closes with a margin level
    below the broker's margin_call.
    """

    trades: np.ndarray
    equity: np.ndarray
    balance: np.ndarray
    position: np.ndarray
    margin: np.ndarray
    paid: np.ndarray
    deals: int
    refused: int
    margin_calls: int


TRADE_COLUMNS = (
    "trade", "direction", "lots", "units", "entry_time", "entry_price", "exit_time", "exit_price",
    "profit_before_costs", "spread_cost", "slippage_cost", "commission", "swap", "net_profit", "mfe", "mae",
    "bars_held", "reason", "exit_reason",
)  # fmt: skip
"""direction: 1 or -1. lots, units of base currency: without sign. Prices as paid. Times: UTC closes of the bars in
which the orders filled. Money in account currency: net_profit = profit_before_costs - spread_cost - slippage_cost -
commission + swap. mfe, mae: best and worst open result, before commission and swap. reason: why it was entered."""

EQUITY_COLUMNS = ("time", "equity", "balance", "position", "price", "margin", "costs", "equity_before_costs")
"""At each bar's close. balance: deposit and closed trades. position: signed units. costs: cumulative spread, slippage,
commission less swap, as booked. equity_before_costs: equity + costs, and the spread that open shorts still have to
pay."""


FILL_COLUMNS = ("entry_filled", "exit_filled")
"""UTC at which a trade was entered and left, as nearly as bars tell: orders fill where the trading of a bar begins, all
else within the bar or at its close, which stands for it."""


def with_fills(trades: pd.DataFrame, times: np.ndarray, starts: np.ndarray) -> pd.DataFrame:
    """Trades with FILL_COLUMNS; times, starts: closes of the bars traded and when their trading begins, UTC [T]."""
    begun = pd.Series(pd.DatetimeIndex(starts).tz_localize("UTC"), pd.DatetimeIndex(times).tz_localize("UTC"))
    left = trades["exit_time"].where(~left_at_open(trades), trades["exit_time"].map(begun))
    return trades.assign(entry_filled=trades["entry_time"].map(begun), exit_filled=left)


def left_at_open(trades: pd.DataFrame) -> pd.Series:
    """Whether each trade (TRADE_COLUMNS) was left at a bar's open for sure, bool [n].

    By order, or by a stop in a bar that went on to open the other side: only a stop that the open lies beyond comes
    before an order.
    """
    entered = set(zip(trades["entry_time"], trades["direction"], strict=True))
    turned = [end in entered for end in zip(trades["exit_time"], -trades["direction"], strict=True)]
    return (trades["exit_reason"] == REASONS[0]) | (
        np.array(turned, bool) & (trades["entry_time"] < trades["exit_time"])
    )


def trades_frame(run: Run, market: Market, lot_units: float, reasons: tuple[str, ...]) -> pd.DataFrame:
    """Closed trades, TRADE_COLUMNS, in order of entry and then of exit; `reasons` [T] are the plan's.

    bars_held counts the bars through which a position stood: from open to open, or from fixing to fixing.
    """
    t = run.trades[np.lexsort((run.trades["exit_bar"], run.trades["entry_bar"]))]
    at_open = (t["why"] == REASONS.index("signal")) | market.close_only
    columns = {
        "trade": np.arange(1, len(t) + 1),
        "direction": np.where(t["units"] > 0, 1, -1),
        "lots": np.abs(t["units"]) / lot_units,
        "units": np.abs(t["units"]),
        "entry_time": pd.DatetimeIndex(market.times[t["entry_bar"]]).tz_localize("UTC"),
        "entry_price": t["entry_price"],
        "exit_time": pd.DatetimeIndex(market.times[t["exit_bar"]]).tz_localize("UTC"),
        "exit_price": t["exit_price"],
        "profit_before_costs": t["result"] + t["spread_cost"] + t["slippage_cost"],
        **{name: t[name] for name in ("spread_cost", "slippage_cost", "commission", "swap")},
        "net_profit": t["result"] - t["commission"] + t["swap"],
        "mfe": t["mfe"],
        "mae": t["mae"],
        "bars_held": t["exit_bar"] - t["entry_bar"] + ~at_open,
        "reason": pd.Series([reasons[bar] for bar in t["decided_bar"].tolist()], dtype=object),
        "exit_reason": pd.Series([REASONS[why] for why in t["why"].tolist()], dtype=object),
    }
    return pd.DataFrame({name: columns[name] for name in TRADE_COLUMNS})


def equity_frame(run: Run, market: Market) -> pd.DataFrame:
    """Equity curve, EQUITY_COLUMNS, of the T bars traded."""
    owed = 0.5 * np.abs(run.position) if market.close_only else np.maximum(-run.position, 0.0)
    unpaid = owed * market.spread * market.conversion
    columns = {
        "time": pd.DatetimeIndex(market.times).tz_localize("UTC"),
        "equity": run.equity,
        "balance": run.balance,
        "position": run.position,
        "price": market.close,
        "margin": run.margin,
        "costs": run.paid,
        "equity_before_costs": run.equity + run.paid + unpaid,
    }
    return pd.DataFrame({name: columns[name] for name in EQUITY_COLUMNS})
