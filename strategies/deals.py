"""Deals and trades, MetaTrader's two ways to tell what an account did: either from the other.

A deal is an order executed; a trade is what it closed. MetaTrader's exports list deals without saying which entry an
exit belongs to, so trades are rebuilt by the rules of the account: on netting accounts one position a symbol at an
average price, on hedging accounts the ticket that a deal names, else that whose price makes the deal's profit, else the
oldest of the same volume, else the oldest. Imports nothing of strategies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from forecasting.errors import DataError

DEAL_COLUMNS = (
    "time", "deal", "symbol", "type", "direction", "volume", "price", "order", "commission", "swap", "profit",
    "balance", "comment", "position",
)  # fmt: skip
"""As in a Strategy Tester report, but for position, which it does not tell: "" where unknown.

type: buy, sell, or balance and other bookings. direction: in, out, in/out, out by. commission, fees included, is
negative; profit is of prices alone.
"""

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

CENT = 0.01
"""To which an export's money is rounded."""


@dataclass(frozen=True)
class _Ticket:
    number: str
    position: str
    side: int
    lots: float
    price: float
    time: pd.Timestamp
    commission: float


def enlargements(trades: pd.DataFrame, equity: pd.DataFrame) -> pd.DataFrame:
    """Bars in which a netting account opened or enlarged a position: time, direction, lots.

    trades, equity: TRADE_COLUMNS and EQUITY_COLUMNS, stamped with closes. What a bar opened is what its close holds
    more than the close before, and what was closed within the bar.
    """
    signed = (trades["direction"] * trades["units"]).groupby(trades["exit_time"]).sum()
    held = equity["position"].to_numpy(np.float64)
    opened = np.diff(held, prepend=0.0) + signed.reindex(equity["time"], fill_value=0.0).to_numpy(np.float64)
    lot = float((trades["units"] / trades["lots"]).median()) if len(trades) else 1.0
    lots = np.round(np.abs(opened) / lot, 8)
    found = pd.DataFrame({"time": equity["time"], "direction": np.sign(opened).astype(np.int64), "lots": lots})
    return found[lots > 0].reset_index(drop=True)


def deals_of(
    trades: pd.DataFrame, symbol: str, deposit: float, netting: bool, opened: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The deals that leave these trades (TRADE_COLUMNS, with entry and exit times as filled), DEAL_COLUMNS.

    An entry pays half its trades' commission. On a netting account an exit by order and the opposite entry at the same
    moment are one reversal, in/out. opened: `enlargements`, timed as filled; without them all of a position is within
    its first deal. Prices of entries follow from the average prices of what was closed; several between two closings
    have one price, their mean.
    """
    added = {} if opened is None else dict(list(opened.groupby("direction")))
    events = [*_entries(trades, added), *_exits(trades)]
    events.sort(key=lambda event: (event["time"], _rank(event)))
    if netting:
        events = _reversals(events)
    balance = deposit
    rows = [_deposit_row(trades, deposit)]
    positions: dict[Any, int] = {}
    for number, event in enumerate(events, start=2):
        balance += event["commission"] + event["swap"] + event["profit"]
        position = positions.setdefault(event["position"], number)
        row = {"deal": number, "order": number, "position": position, "symbol": symbol, "balance": balance}
        rows.append({**event, **row})
    frame = pd.DataFrame(rows, columns=list(DEAL_COLUMNS))
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    return frame


def _rank(event: Event) -> int:
    """Order of what happens at one moment: exits, entries, exits of what was entered just then."""
    return 1 if event["direction"] == "in" else 2 if event["position"][0] == event["time"] else 0


def _deposit_row(trades: pd.DataFrame, deposit: float) -> Event:
    first = trades["entry_time"].min() if len(trades) else pd.NaT
    return {
        "time": first, "deal": 1, "symbol": "", "type": "balance", "direction": "", "volume": 0.0, "price": 0.0,
        "order": 0, "commission": 0.0, "swap": 0.0, "profit": deposit, "balance": deposit, "comment": "",
        "position": "",
    }  # fmt: skip


def _entries(trades: pd.DataFrame, opened: Mapping[int, pd.DataFrame]) -> list[Event]:
    found = []
    turned = trades[~trades["exit_reason"].isin(list(COMMENTS))]
    reversals = dict(
        zip(zip(turned["exit_time"], -turned["direction"], strict=True), turned["exit_price"], strict=True)
    )
    for (time, side), parts in trades.groupby(["entry_time", "direction"], sort=False):
        lots = parts["lots"].sum()
        added = opened.get(side)
        if added is None:
            later = []
        else:
            within = (added["time"] > time) & (added["time"] < parts["exit_time"].max())
            later = list(added.loc[within, ["time", "lots"]].itertuples(index=False, name=None))
        first = lots - sum(more for _, more in later)
        for at, volume, price in _priced([(time, first), *later], parts, reversals.get((time, side))):
            found.append(
                {
                    "time": at, "type": "buy" if side > 0 else "sell", "direction": "in", "volume": volume,
                    "price": price, "commission": -parts["commission"].sum() / 2 * volume / lots, "swap": 0.0,
                    "profit": 0.0, "comment": "", "position": (time, side),
                }
            )  # fmt: skip
    return found


def _priced(
    entries: list[tuple[Any, float]], parts: pd.DataFrame, reversed_at: float | None
) -> list[tuple[Any, float, float]]:
    """Entries (time, lots) of a position with the prices that make the averages at which its parts were entered.

    Each closing tells the average until then; what was entered since the one before made the difference. reversed_at:
    the price of the order that closed the opposite position and opened this one.
    """
    found: list[tuple[Any, float, float]] = []
    held, average = 0.0, 0.0
    if len(entries) > 1 and reversed_at is not None:
        found, held, average = [(*entries[0], reversed_at)], entries[0][1], reversed_at
    closings = parts.sort_values("exit_time", kind="stable")
    for until, price, lots in zip(closings["exit_time"], closings["entry_price"], closings["lots"], strict=True):
        done = len(found)
        new = [entry for n, entry in enumerate(entries[done:], start=done) if n == 0 or entry[0] < until]
        more = sum(volume for _, volume in new)
        if more > _LEAST:
            each = (price * (held + more) - average * held) / more
            found += [(time, volume, each) for time, volume in new]
        held, average = held + more - lots, price
    return found


def _exits(trades: pd.DataFrame) -> list[Event]:
    found = []
    for row in trades.to_dict("records"):
        comment = COMMENTS.get(row["exit_reason"], "")
        if comment in ("sl", "tp"):
            comment += f" {round(row['exit_price'], 5):.12g}"
        found.append(
            {
                "time": row["exit_time"], "type": "sell" if row["direction"] > 0 else "buy", "direction": "out",
                "volume": row["lots"], "price": row["exit_price"], "commission": -row["commission"] / 2,
                "swap": row["swap"], "comment": comment,
                "profit": row["profit_before_costs"] - row["spread_cost"] - row["slippage_cost"],
                "position": (row["entry_time"], row["direction"]),
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
            merged[-1] = {**last, **added, "direction": "in/out", "position": event["position"]}
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
    worth: float | None = None
    for deal in deals.to_dict("records"):
        side = 1 if deal["type"] == "buy" else -1
        volume, paid = float(deal["volume"]), float(deal["commission"])
        if deal["direction"] == "in":
            tickets = _opened(tickets, _ticket(deal, side, volume, paid), netting)
            continue
        closing = sum(ticket.lots for ticket in tickets) if deal["direction"] == "in/out" else volume
        share = closing / volume
        alone = sum(ticket.side == -side for ticket in tickets) == 1
        tickets, parts = _taken(tickets, -side, closing, deal, worth)
        if len(parts) == 1:
            worth = _worth(deal, parts[0], alone, worth)
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
    position = str(deal.get("position", ""))
    return _Ticket(str(deal["deal"]), position, side, lots, float(deal["price"]), deal["time"], commission)


def _opened(tickets: list[_Ticket], new: _Ticket, netting: bool) -> list[_Ticket]:
    if not (netting and tickets):
        return [*tickets, new]
    (old,) = tickets
    lots = old.lots + new.lots
    price = (old.price * old.lots + new.price * new.lots) / lots
    return [replace(old, lots=lots, price=price, commission=old.commission + new.commission)]


def _taken(
    tickets: list[_Ticket], side: int, volume: float, deal: Event, worth: float | None
) -> tuple[list[_Ticket], list[_Ticket]]:
    """Tickets left, and the closed ones or parts of them, once `volume` lots of a side are closed."""
    left, parts = list(tickets), []
    while volume > _LEAST:
        fitting = [ticket for ticket in left if ticket.side == side]
        if not fitting:
            raise DataError(
                f"deal {deal['deal']} of {deal['time']} closes {volume:g} lots more than the deals before it opened; "
                "export the whole history, from before the first position on"
            )
        ticket = _meant(fitting, volume, deal, worth)
        lots = min(ticket.lots, volume)
        share = lots / ticket.lots
        parts.append(replace(ticket, lots=lots, commission=ticket.commission * share))
        place = left.index(ticket)
        rest = replace(ticket, lots=ticket.lots - lots, commission=ticket.commission * (1 - share))
        left[place : place + 1] = [rest] if rest.lots > _LEAST else []
        volume -= lots
    return left, parts


def _meant(fitting: list[_Ticket], volume: float, deal: Event, worth: float | None) -> _Ticket:
    """The ticket that a deal closes: the one it names, else that whose price makes its profit, by volume, by age."""
    named = [ticket for ticket in fitting if deal.get("position") and ticket.position == str(deal["position"])]
    large = [ticket for ticket in fitting if ticket.lots > volume - _LEAST]
    if not named and len(large) > 1 and worth is not None and deal["direction"] == "out":
        profit, price = float(deal["profit"]), float(deal["price"])
        errors = [abs(profit - worth * ticket.side * volume * (price - ticket.price)) for ticket in large]
        named = [ticket for ticket, error in zip(large, errors, strict=True) if error < min(errors) + CENT]
    equal = [ticket for ticket in named or fitting if abs(ticket.lots - volume) < _LEAST]
    return (equal or named or fitting)[0]


def _worth(deal: Event, part: _Ticket, alone: bool, known: float | None) -> float | None:
    """Money of one lot for a whole unit of price, learnt where there is no doubt what was closed; else as known."""
    profit, move = float(deal["profit"]), part.side * part.lots * (float(deal["price"]) - part.price)
    if abs(profit) < 100 * CENT or not move:
        return known
    found = profit / move
    return found if alone or (known is not None and abs(found / known - 1) < 0.02) else known


def _closed(part: _Ticket, deal: Event, paid: float, share: float) -> Event:
    commission = part.commission + paid * share
    swap, profit = float(deal["swap"]) * share, float(deal["profit"]) * share
    return {
        "ticket": part.number, "direction": part.side, "lots": part.lots, "entry_time": part.time,
        "entry_price": part.price, "exit_time": deal["time"], "exit_price": deal["price"], "commission": commission,
        "swap": swap, "profit": profit, "net": profit + commission + swap, "comment": deal["comment"],
    }  # fmt: skip
