"""What a run of an account leaves behind, whichever engine ran it: closed trades, a row a bar, and frames of both."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from strategies.market import Market

REASONS = ("signal", "stop loss", "take profit", "stop out", "end of data")
"""Why a trade was closed, in the order of `Closed.why`. `signal` is all that a plan asks for: the other side, flat,
expiry, the weekend, a smaller size."""


@dataclass(frozen=True)
class Closed:
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


@dataclass(frozen=True)
class Run:
    """An account along T bars.

    trades: in order of closing. equity, balance, position (signed units), margin: at each close, float64 [T]. paid:
    cumulative spread, slippage and commission less swap, as booked, those of open positions at that close's conversion,
    [T]. deals: orders executed, a netting reversal
    being one. refused: entries not made, for want of margin, a stop on the wrong side or a size below the least.
    margin_calls: closes with a margin level below the broker's margin_call.
    """

    trades: list[Closed]
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


def trades_frame(run: Run, market: Market, lot_units: float, reasons: tuple[str, ...]) -> pd.DataFrame:
    """Closed trades, TRADE_COLUMNS, in order of entry and then of exit; `reasons` [T] are the plan's.

    bars_held counts the bars through which a position stood: from open to open, or from fixing to fixing.
    """
    rows = []
    for number, t in enumerate(sorted(run.trades, key=lambda trade: (trade.entry_bar, trade.exit_bar)), start=1):
        net = t.result - t.commission + t.swap
        at_open = REASONS[t.why] == "signal" or market.close_only
        rows.append(
            (
                number, 1 if t.units > 0 else -1, abs(t.units) / lot_units, abs(t.units),
                market.times[t.entry_bar], t.entry_price, market.times[t.exit_bar], t.exit_price,
                t.result + t.spread_cost + t.slippage_cost, t.spread_cost, t.slippage_cost, t.commission, t.swap, net,
                t.mfe, t.mae, t.exit_bar - t.entry_bar + (not at_open), reasons[t.decided_bar], REASONS[t.why],
            )
        )  # fmt: skip
    integers = dict.fromkeys(("trade", "direction", "bars_held"), "int64")
    stamps = dict.fromkeys(("entry_time", "exit_time"), "datetime64[ns, UTC]")
    others = dict.fromkeys(TRADE_COLUMNS, "float64") | dict.fromkeys(("reason", "exit_reason"), "object")
    frame = pd.DataFrame(rows, columns=list(TRADE_COLUMNS))
    for name in stamps:
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame.astype(others | integers | stamps)


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
