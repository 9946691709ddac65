"""The account as a trader keeps it: tickets, what they earn, cost and tie up, and what closes them.

Plain numbers and no Backtrader, so that every formula of docs/EXECUTION.md ("Exact terms") stands in one place and can
be worked by hand. A price is either shown (the bid of a bar, or a close-only source's mid) or paid; `side` is 1 for
long, -1 for short.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from strategies.contract import BrokerRules
from strategies.numbers import points_of_one
from strategies.run import REASONS, Closed

SIGNAL, STOP_LOSS, TAKE_PROFIT, STOP_OUT, END_OF_DATA = range(len(REASONS))
"""Why a trade was closed: rows of `strategies.run.REASONS`."""


class Terms(NamedTuple):
    """What dealing costs at a moment: spread and slippage in price, account currency for one of the quote currency."""

    spread: float
    slippage: float
    conversion: float
    close_only: bool

    def entry_spread(self, side: int) -> float:
        """What opening a position loses against the price shown, per unit in quote currency."""
        return self.spread / 2 if self.close_only else self.spread if side > 0 else 0.0

    def exit_spread(self, side: int) -> float:
        """What closing a position loses against the price shown, per unit in quote currency."""
        return self.spread / 2 if self.close_only else 0.0 if side > 0 else self.spread

    def exit_price(self, shown: float, side: int) -> float:
        """Price at which a position closes, slippage apart."""
        return shown - side * self.exit_spread(side)


@dataclass(slots=True)
class Ticket:
    """A position that stands: one a symbol when netting, one an entry when hedging.

    steps: lot steps held; units: the same in base currency; price: as paid; spread, slippage: what entering lost, in
    price; of a position entered more than once these are averages. margin, commission (of the entry), swap: money.
    stop, take_profit, trailing: NaN for none. best, worst: exit prices met so far, and the entry's own.
    """

    side: int
    steps: int
    units: float
    price: float
    spread: float
    slippage: float
    margin: float
    commission: float
    swap: float
    stop: float
    take_profit: float
    trailing: float
    best: float
    worst: float
    entry_bar: int

    def passes(self, price: float) -> None:
        """Note an exit price that was met."""
        self.best = self.side * max(self.side * self.best, self.side * price)
        self.worst = self.side * min(self.side * self.worst, self.side * price)

    def result(self, price: float, conversion: float) -> float:
        """Open result where the position would close at `price`: commission of the entry and swap included."""
        return self.side * self.units * (price - self.price) * conversion - self.commission + self.swap


def added(values: Iterable[float]) -> float:
    """Sum from left to right. sum() compensates from Python 3.12 on; the fast twin does not, and must agree to the bit.

    >>> added([1e16, 1.0, -1e16])
    0.0
    """
    total = 0.0
    for value in values:
        total += value
    return total


def stop_out_price(tickets: list[Ticket], balance: float, level: float, conversion: float) -> float:
    """Exit price at which equity is `level` times margin; the tickets are of one side."""
    signed = added(t.side * t.units for t in tickets)
    worth = added(t.side * t.units * t.price for t in tickets)
    owed = level * added(t.margin for t in tickets) - balance + added(t.commission - t.swap for t in tickets)
    return (owed + conversion * worth) / (conversion * signed)


def reached(price: float, level: float, side: int) -> bool:
    """Whether a price is at a level or beyond it against the position; never where there is no level (NaN)."""
    return side * (price - level) <= 0


class Account:
    """Deposit, tickets and ledger. Tickets are all on one side, since a strategy wants one position."""

    def __init__(self, rules: BrokerRules, point: float, close_only: bool) -> None:
        self.rules, self.point, self.close_only = rules, point, close_only
        self.scale = points_of_one(point)
        self.netting = rules.account == "netting"
        self.step_units = rules.lot_step * rules.lot_units
        self.balance = rules.deposit
        self.tickets: list[Ticket] = []
        self.trades: list[Closed] = []
        self.paid = 0.0
        self.deals = self.refused = 0
        self.stopped = -1  # bar of the last stop, profit or stop-out

    @property
    def side(self) -> int:
        """Side of what is held, 0 when flat."""
        return self.tickets[0].side if self.tickets else 0

    @property
    def steps(self) -> int:
        """Lot steps held, without sign."""
        return sum(t.steps for t in self.tickets)

    @property
    def position(self) -> float:
        """Units held, signed."""
        return added(t.side * t.units for t in self.tickets)

    @property
    def margin(self) -> float:
        """Money that positions tie up."""
        return added(t.margin for t in self.tickets)

    def equity(self, shown: float, terms: Terms) -> float:
        """Balance and open results where `shown` is quoted."""
        price = terms.exit_price(shown, self.side)
        return self.balance + added(t.result(price, terms.conversion) for t in self.tickets)

    def costs(self, conversion: float) -> float:
        """Spread, slippage and commission less swap so far: as closed trades booked them, and of open positions."""
        open_costs = (t.units * conversion * (t.spread + t.slippage) + t.commission - t.swap for t in self.tickets)
        return self.paid + added(open_costs)

    def on_grid(self, price: float) -> float:
        """A stop's level in whole points, as `strategies.stops.on_grid`; NaN stays."""
        return price if math.isnan(price) else math.floor(price * self.scale + 0.5) / self.scale

    def pay_swap(self, nights: int, conversion: float) -> None:
        """Charge or credit positions for nights held."""
        for ticket in self.tickets:
            points = self.rules.swap_long if ticket.side > 0 else self.rules.swap_short
            ticket.swap += ticket.units * nights * points * self.point * conversion

    def reduce(self, bar: int, steps: int, shown: float, terms: Terms, why: int) -> None:
        """Close so many lot steps at the price shown, the oldest ticket first."""
        while steps > 0:
            ticket = self.tickets[0]
            part = min(steps, ticket.steps)
            price = terms.exit_price(shown, ticket.side) - ticket.side * terms.slippage
            self._close(ticket, part, bar, price, terms, why)
            steps -= part

    def enter(
        self,
        bar: int,
        side: int,
        steps: int,
        shown: float,
        terms: Terms,
        stop: float,
        take_profit: float,
        trailing: float,
    ) -> bool:
        """Open or enlarge where `shown` is quoted; False, and counted, where margin or a stop forbids it.

        Whatever is held is on this side. Enlarging a netted position keeps its stop and profit.
        """
        units = steps * self.step_units
        spread = terms.entry_spread(side)
        price = shown + side * (spread + terms.slippage)
        at = terms.exit_price(shown, side)
        margin = units * price * terms.conversion / self.rules.leverage
        commission = units * self.rules.commission_per_unit
        held = self.tickets[0] if self.netting and self.tickets else None
        if held:
            stop, take_profit = held.stop, held.take_profit
        elif math.isnan(stop):
            stop = self.on_grid(at - side * trailing)
        short_of_margin = self.equity(shown, terms) - self.margin - commission - margin < 0
        if short_of_margin or reached(at, stop, side) or reached(at, take_profit, -side):
            self.refused += 1
            return False
        if held:
            self._enlarge(held, steps, units, price, spread, terms.slippage, margin, commission)
        else:
            ticket = Ticket(
                side, steps, units, price, spread, terms.slippage, margin, commission, 0.0,
                stop, take_profit, trailing, price, price, bar,
            )  # fmt: skip
            self.tickets.append(ticket)
        self.deals += 1
        return True

    def gap(self, bar: int, opened: float, terms: Terms) -> int:
        """Stops, profits and stop-outs that a bar's open lies beyond act before any order there; lot steps closed."""
        side, held = self.side, self.steps
        first = terms.exit_price(opened, side)
        at_stop = any(reached(first, t.stop, side) or reached(first, t.take_profit, -side) for t in self.tickets)
        if at_stop or reached(first, self._stop_out(terms), side):
            self.stops(bar, opened, opened, opened, terms)
        return held - self.steps

    def stops(self, bar: int, opened: float, high: float, low: float, terms: Terms) -> None:
        """Go through a bar, or a finer bar within it: profits it opens beyond, what is against, what is for."""
        side = self.side
        against, favour = (low, high) if side > 0 else (high, low)
        first, worst, best = (terms.exit_price(shown, side) for shown in (opened, against, favour))
        self._profits(bar, side, first, terms)
        for ticket in self.tickets:
            ticket.passes(first)
        self._stops_against(bar, side, first, worst, terms)
        for ticket in self.tickets:
            ticket.passes(worst)
        self._profits(bar, side, best, terms)
        for ticket in self.tickets:
            ticket.passes(best)

    def _profits(self, bar: int, side: int, best: float, terms: Terms) -> None:
        """Profits taken on the way to an exit price, nearest level first."""
        won = [t for t in self.tickets if reached(best, t.take_profit, -side)]
        for ticket in sorted(won, key=lambda t: side * t.take_profit):
            self._close(ticket, ticket.steps, bar, ticket.take_profit, terms._replace(slippage=0.0), TAKE_PROFIT)

    def _stops_against(self, bar: int, side: int, first: float, worst: float, terms: Terms) -> None:
        """Stop losses and stop-out between the exit prices `first` and `worst`, nearest level first."""
        while self.tickets:
            stop_out = self._stop_out(terms)
            stops = [t for t in self.tickets if not math.isnan(t.stop)]
            nearest = max(stops, key=lambda t: side * t.stop, default=None)
            if nearest is not None and side * nearest.stop >= side * stop_out:
                ticket, level, why = nearest, nearest.stop, STOP_LOSS
            else:
                level, why = stop_out, STOP_OUT
            if not reached(worst, level, side):
                return
            fill = side * min(side * first, side * level)
            if why == STOP_OUT:
                ticket = min(self.tickets, key=lambda t: t.result(fill, terms.conversion))
            self._close(ticket, ticket.steps, bar, fill - side * terms.slippage, terms, why)

    def _stop_out(self, terms: Terms) -> float:
        return stop_out_price(self.tickets, self.balance, self.rules.stop_out, terms.conversion)

    def trail(self, shown: float, terms: Terms) -> None:
        """Move trailing stops to their distance from a close, never away from it."""
        for t in self.tickets:
            if not math.isnan(t.trailing):
                level = self.on_grid(terms.exit_price(shown, t.side) - t.side * t.trailing)
                t.stop = t.side * max(t.side * t.stop, t.side * level)

    def _enlarge(
        self, t: Ticket, steps: int, units: float, price: float, spread: float, slippage: float, margin: float,
        commission: float,
    ) -> None:  # fmt: skip
        """Average a netted position with what is added to it."""
        both = t.units + units
        t.price = (t.units * t.price + units * price) / both
        t.spread = (t.units * t.spread + units * spread) / both
        t.slippage = (t.units * t.slippage + units * slippage) / both
        t.steps += steps
        t.units = t.steps * self.step_units
        t.margin += margin
        t.commission += commission
        t.passes(t.price)

    def _close(self, t: Ticket, steps: int, bar: int, price: float, terms: Terms, why: int) -> None:
        """Close so many steps of a ticket at a price paid, and book the trade."""
        share, units, conversion = steps / t.steps, steps * self.step_units, terms.conversion
        exit_spread = terms.exit_spread(t.side)
        own, entry_commission, swap = t.side * units * conversion, t.commission * share, t.swap * share
        best, worst = max(t.side * t.best, t.side * price), min(t.side * t.worst, t.side * price)
        trade = Closed(
            entry_bar=t.entry_bar,
            exit_bar=bar,
            decided_bar=t.entry_bar - 1,
            units=t.side * units,
            entry_price=t.price,
            exit_price=price,
            quote_in=t.price - t.side * (t.spread + t.slippage),
            quote_out=price + t.side * (exit_spread + terms.slippage),
            result=own * (price - t.price),
            spread_cost=units * conversion * (t.spread + exit_spread),
            slippage_cost=units * conversion * (t.slippage + terms.slippage),
            commission=entry_commission + units * self.rules.commission_per_unit,
            swap=swap,
            mfe=units * conversion * (best - t.side * t.price),
            mae=units * conversion * (worst - t.side * t.price),
            why=why,
        )
        self.trades.append(trade)
        self.balance += trade.result - trade.commission + trade.swap
        self.paid += trade.spread_cost + trade.slippage_cost + trade.commission - trade.swap
        self.deals += 1
        if why in (STOP_LOSS, TAKE_PROFIT, STOP_OUT):
            self.stopped = bar
        if steps == t.steps:
            self.tickets = [other for other in self.tickets if other is not t]
            return
        t.steps -= steps
        t.units = t.steps * self.step_units
        t.margin -= t.margin * share
        t.commission -= entry_commission
        t.swap -= swap
