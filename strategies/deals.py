"""Deals and trades, MetaTrader's two ways to tell what an account did: either from the other.

A deal is an order executed; a trade is what it closed. MetaTrader's exports list deals without saying which entry an
exit belongs to, so trades are rebuilt by the rules of the account: on netting accounts one position a symbol at an
average price, on hedging accounts the oldest ticket of the same volume, else the oldest. Imports nothing of strategies.
"""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from forecasting.errors import DataError

DEAL_COLUMNS = (
    "time", "deal", "symbol", "type", "direction", "volume", "price", "order", "commission", "swap", "profit",
    "balance", "comment",
)  # fmt: skip
"""As in a Strategy Tester report. type: buy, sell, or balance and other bookings. direction: in, out, in/out, out by.
commission, fees included, is negative; profit is of prices alone."""

CLOSED_COLUMNS = (
    "ticket", "direction", "lots", "entry_time", "entry_price", "exit_time", "exit_price", "commission", "swap",
    "profit", "net", "comment",
)  # fmt: skip
"""Trades rebuilt: ticket is the number of the first deal; direction 1 or -1; commission negative, of entry and exit;
net = profit + commission + swap; comment of the closing deal, which says whether a stop closed it."""

OPEN_COLUMNS = CLOSED_COLUMNS[:5]
"""What is known of a ticket, or the rest of one, that was not closed."""

COMMENTS = {"stop loss": "sl", "take profit": "tp", "stop out": "so", "end of data": "end of test"}
"""How MetaTrader's comments name our reasons of exit."""

Event = dict[str, Any]

_LEAST = 1e-8


@dataclass(frozen=True)
class _Ticket:
    number: str
    side: int
    lots: float
    price: float
    time: pd.Timestamp
    commission: float


def deals_of(trades: pd.DataFrame, symbol: str, deposit: float, netting: bool) -> pd.DataFrame:
    """The deals that leave these trades (TRADE_COLUMNS, with entry and exit times as filled), DEAL_COLUMNS.

    An entry pays half its trades' commission. On a netting account an exit by order and the opposite entry at the same
    moment are one reversal, in/out. Enlargements are within their position's first deal, at its average price.
    """
    events = [*_entries(trades), *_exits(trades)]
    events.sort(key=lambda event: (event["time"], event["direction"] == "in"))
    if netting:
        events = _reversals(events)
    balance = deposit
    rows = [_deposit_row(trades, deposit)]
    for number, event in enumerate(events, start=2):
        balance += event["commission"] + event["swap"] + event["profit"]
        rows.append({**event, "deal": number, "order": number, "symbol": symbol, "balance": balance})
    frame = pd.DataFrame(rows, columns=list(DEAL_COLUMNS))
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    return frame


def _deposit_row(trades: pd.DataFrame, deposit: float) -> Event:
    first = trades["entry_time"].min() if len(trades) else pd.NaT
    return {
        "time": first, "deal": 1, "symbol": "", "type": "balance", "direction": "", "volume": 0.0, "price": 0.0,
        "order": 0, "commission": 0.0, "swap": 0.0, "profit": deposit, "balance": deposit, "comment": "",
    }  # fmt: skip


def _entries(trades: pd.DataFrame) -> list[Event]:
    found = []
    for (time, side), part in trades.groupby(["entry_time", "direction"], sort=False):
        lots = part["lots"].sum()
        found.append(
            {
                "time": time, "type": "buy" if side > 0 else "sell", "direction": "in", "volume": lots,
                "price": (part["entry_price"] * part["lots"]).sum() / lots,
                "commission": -part["commission"].sum() / 2, "swap": 0.0, "profit": 0.0, "comment": "",
            }
        )  # fmt: skip
    return found


def _exits(trades: pd.DataFrame) -> list[Event]:
    found = []
    for row in trades.to_dict("records"):
        comment = COMMENTS.get(row["exit_reason"], "")
        if comment in ("sl", "tp"):
            comment += f" {row['exit_price']:g}"
        found.append(
            {
                "time": row["exit_time"], "type": "sell" if row["direction"] > 0 else "buy", "direction": "out",
                "volume": row["lots"], "price": row["exit_price"], "commission": -row["commission"] / 2,
                "swap": row["swap"], "comment": comment,
                "profit": row["profit_before_costs"] - row["spread_cost"] - row["slippage_cost"],
            }
        )  # fmt: skip
    return found


def _reversals(events: list[Event]) -> list[Event]:
    """Events with an uncommented exit and an entry of the same type at the same moment made one."""
    merged: list[Event] = []
    for event in events:
        last = merged[-1] if merged else None
        if (
            last is not None
            and (last["direction"], event["direction"]) == ("out", "in")
            and (last["time"], last["type"]) == (event["time"], event["type"])
            and not last["comment"]
        ):
            added = {name: float(last[name]) + float(event[name]) for name in ("volume", "commission")}
            merged[-1] = {**last, **added, "direction": "in/out"}
        else:
            merged.append(event)
    return merged


def closed_trades(deals: pd.DataFrame, netting: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trades (CLOSED_COLUMNS, in order of closing) rebuilt from deals of one symbol, and what stays open: OPEN_COLUMNS.

    deals: DEAL_COLUMNS in order of execution. DataError where an exit closes more than is open, as when an export
    begins in the middle of a position.
    """
    tickets: list[_Ticket] = []
    rows: list[Event] = []
    for deal in deals.to_dict("records"):
        side = 1 if deal["type"] == "buy" else -1
        volume, paid = float(deal["volume"]), float(deal["commission"])
        if deal["direction"] == "in":
            tickets = _opened(tickets, _ticket(deal, side, volume, paid), netting)
            continue
        closing = sum(ticket.lots for ticket in tickets) if deal["direction"] == "in/out" else volume
        share = closing / volume
        tickets, parts = _taken(tickets, -side, closing, deal)
        for part in parts:
            rows.append(_closed(part, deal, paid * share, part.lots / closing))
        if deal["direction"] == "in/out" and volume - closing > _LEAST:
            tickets.append(_ticket(deal, side, volume - closing, paid * (1 - share)))
    frame = pd.DataFrame(rows, columns=list(CLOSED_COLUMNS))
    still = [(ticket.number, ticket.side, ticket.lots, ticket.time, ticket.price) for ticket in tickets]
    open_now = pd.DataFrame(still, columns=list(OPEN_COLUMNS))
    for table, name in ((frame, "entry_time"), (frame, "exit_time"), (open_now, "entry_time")):
        table[name] = pd.to_datetime(table[name])
    return frame, open_now


def hedging_deals(deals: pd.DataFrame) -> bool:
    """Whether deals of one symbol can only be of a hedging account: both sides held at once, or close by."""
    held = {"buy": 0.0, "sell": 0.0}
    if (deals["direction"] == "in/out").any():
        return False
    for kind, direction, volume in zip(deals["type"], deals["direction"], deals["volume"], strict=True):
        if direction == "out by":
            return True
        other = "sell" if kind == "buy" else "buy"
        if direction == "in":
            if held[other] > _LEAST:
                return True
            held[kind] += volume
        else:
            held[other] -= volume
    return False


def _ticket(deal: Event, side: int, lots: float, commission: float) -> _Ticket:
    return _Ticket(str(deal["deal"]), side, lots, float(deal["price"]), deal["time"], commission)


def _opened(tickets: list[_Ticket], new: _Ticket, netting: bool) -> list[_Ticket]:
    if not (netting and tickets):
        return [*tickets, new]
    (old,) = tickets
    lots = old.lots + new.lots
    price = (old.price * old.lots + new.price * new.lots) / lots
    return [replace(old, lots=lots, price=price, commission=old.commission + new.commission)]


def _taken(tickets: list[_Ticket], side: int, volume: float, deal: Event) -> tuple[list[_Ticket], list[_Ticket]]:
    """Tickets left, and the closed ones or parts of them, once `volume` lots of a side are closed."""
    left, parts = list(tickets), []
    while volume > _LEAST:
        fitting = [ticket for ticket in left if ticket.side == side]
        if not fitting:
            raise DataError(
                f"deal {deal['deal']} of {deal['time']} closes {volume:g} lots more than the deals before it opened; "
                "export the whole history, from before the first position on"
            )
        equal = [ticket for ticket in fitting if abs(ticket.lots - volume) < _LEAST]
        ticket = (equal or fitting)[0]
        lots = min(ticket.lots, volume)
        share = lots / ticket.lots
        parts.append(replace(ticket, lots=lots, commission=ticket.commission * share))
        place = left.index(ticket)
        rest = replace(ticket, lots=ticket.lots - lots, commission=ticket.commission * (1 - share))
        left[place : place + 1] = [rest] if rest.lots > _LEAST else []
        volume -= lots
    return left, parts


def _closed(part: _Ticket, deal: Event, paid: float, share: float) -> Event:
    commission = part.commission + paid * share
    swap, profit = float(deal["swap"]) * share, float(deal["profit"]) * share
    return {
        "ticket": part.number, "direction": part.side, "lots": part.lots, "entry_time": part.time,
        "entry_price": part.price, "exit_time": deal["time"], "exit_price": deal["price"], "commission": commission,
        "swap": swap, "profit": profit, "net": profit + commission + swap, "comment": deal["comment"],
    }  # fmt: skip
