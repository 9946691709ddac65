"""The account of docs/EXECUTION.md in compiled code, one bar after the other.

Scalars travel in one-element records and tickets in an array of records, so that a run allocates nothing but its
results and threads share nothing. No fast mathematics: sums are done in the order of the formulas, as the Backtrader
engine does them, so that prices agree to the bit. Compiled on first use and cached on disk.
"""

from typing import Any

import numpy as np
from numba import njit

from strategies.numbers import EXACT
from strategies.run import CLOSED
from strategies.twin_records import MarketArrays, PlanArrays

Record = Any
"""A record of one of the layouts of `strategies.twin_records`."""

SIGNAL, STOP, PROFIT, STOP_OUT, END = range(5)
"""Rows of `strategies.run.REASONS`."""


@njit(cache=True, error_model="numpy")
def entry_spread(side: float, spread: float, close_only: bool) -> float:
    """What opening loses against the price shown: a purchase a spread, a sale nothing; at mids each half."""
    return spread / 2 if close_only else spread if side > 0 else 0.0


@njit(cache=True, error_model="numpy")
def exit_spread(side: float, spread: float, close_only: bool) -> float:
    """What closing loses against the price shown."""
    return spread / 2 if close_only else 0.0 if side > 0 else spread


@njit(cache=True, error_model="numpy")
def leaving(shown: float, side: float, spread: float, close_only: bool) -> float:
    """Price at which a position closes where `shown` is shown, slippage apart."""
    return float(shown - side * exit_spread(side, spread, close_only))


@njit(cache=True, error_model="numpy")
def on_grid(price: float, scale: float) -> float:
    """A stop's level in whole points, `scale` of which are a price of 1."""
    return float(np.floor(price * scale + 0.5) / scale)


@njit(cache=True, error_model="numpy")
def steps_of(lots: float, account: Record) -> int:
    """Whole lot steps in `lots`, at most lot_max."""
    return int(min(np.floor(lots / account.lot_step + EXACT), np.floor(account.lot_max / account.lot_step + EXACT)))


@njit(cache=True, error_model="numpy")
def open_result(ticket: Record, price: float, conversion: float) -> float:
    """Result of a ticket that would close at `price`, before the commission of that."""
    return float(ticket.units * (price - ticket.entry_price) * conversion - ticket.commission + ticket.swap)


@njit(cache=True, error_model="numpy")
def stop_out_price(account: Record, tickets: np.ndarray, conversion: float) -> float:
    """Exit price at which equity is stop_out x margin."""
    margins = charges = units = value = 0.0
    for i in range(account.open):
        ticket = tickets[i]
        margins += ticket.margin
        charges += ticket.commission - ticket.swap
        units += ticket.units
        value += ticket.units * ticket.entry_price
    lacking = account.stop_out * margins - account.balance + charges
    return float((lacking + conversion * value) / (conversion * units))


@njit(cache=True, error_model="numpy")
def book(account: Record, tickets: np.ndarray, i: int, steps: int, fill: Record, trades: np.ndarray) -> None:
    """Close `steps` of ticket i at a fill: balance, the row of `trades` and what remains open."""
    ticket, side = tickets[i], account.side
    units = side * (steps * account.step_units)
    whole = steps == ticket.steps
    share = 1.0 if whole else steps / ticket.steps
    size, conversion = abs(units), fill.conversion
    best, worst = ticket.best, ticket.worst
    if side * (fill.price - best) > 0:
        best = fill.price
    if side * (fill.price - worst) < 0:
        worst = fill.price
    lost = exit_spread(side, fill.spread, account.close_only)
    result = units * conversion * (fill.price - ticket.entry_price)
    entry_commission, swap = ticket.commission * share, ticket.swap * share
    commission = entry_commission + size * account.commission
    spread_cost = size * conversion * (ticket.spread + lost)
    slippage_cost = size * conversion * (ticket.slippage + fill.slippage)
    account.balance += result - commission + swap
    account.paid += spread_cost + slippage_cost + commission - swap
    row = trades[account.trades]
    row.entry_bar, row.exit_bar, row.decided_bar = ticket.entry_bar, fill.bar, ticket.entry_bar - 1
    row.why, row.units, row.entry_price, row.exit_price = fill.why, units, ticket.entry_price, fill.price
    row.quote_in = ticket.entry_price - side * (ticket.spread + ticket.slippage)
    row.quote_out = fill.price + side * (lost + fill.slippage)
    row.result, row.commission, row.swap = result, commission, swap
    row.spread_cost, row.slippage_cost = spread_cost, slippage_cost
    row.mfe = units * conversion * (best - ticket.entry_price)
    row.mae = units * conversion * (worst - ticket.entry_price)
    account.trades += 1
    account.deals += 1
    account.steps -= steps
    account.changed = True
    if fill.why in (STOP, PROFIT, STOP_OUT):
        account.stopped = fill.bar
    if whole:
        for later in range(i, account.open - 1):
            tickets[later] = tickets[later + 1]
        account.open -= 1
        return
    ticket.steps -= steps
    ticket.units = side * (ticket.steps * account.step_units)
    ticket.commission -= entry_commission
    ticket.swap -= swap
    ticket.margin -= ticket.margin * share


@njit(cache=True, error_model="numpy")
def charge(account: Record, tickets: np.ndarray, nights: int, conversion: float) -> None:
    """Swap of positions held over nights."""
    if nights == 0:
        return
    for i in range(account.open):
        ticket = tickets[i]
        points = account.swap_long if ticket.units > 0 else account.swap_short
        ticket.swap += abs(ticket.units) * nights * points * account.point * conversion
        account.changed = True


@njit(cache=True, error_model="numpy")
def leave(account: Record, tickets: np.ndarray, steps: int, fill: Record, shown: float, trades: np.ndarray) -> None:
    """Close `steps`, oldest ticket first, by order at the open."""
    side = account.side
    fill.why = SIGNAL
    fill.price = leaving(shown, side, fill.spread, account.close_only) - side * fill.slippage
    while steps > 0:
        part = min(steps, tickets[0].steps)
        book(account, tickets, 0, part, fill, trades)
        steps -= part


@njit(cache=True, error_model="numpy")
def enter(account: Record, tickets: np.ndarray, order: Record, fill: Record, shown: float) -> bool:
    """Open or enlarge at the open; False where that is refused."""
    side, steps = order.side, order.steps
    conversion, close_only = fill.conversion, account.close_only
    exit_price = leaving(shown, side, fill.spread, close_only)
    spread = entry_spread(side, fill.spread, close_only)
    price = shown + side * (spread + fill.slippage)
    units = side * (steps * account.step_units)
    commission = abs(units) * account.commission
    margin = abs(units) * price * conversion / account.leverage
    enlarges = account.open > 0 and not account.hedging
    stop, profit = order.stop, order.profit
    if enlarges:
        stop, profit = tickets[0].stop, tickets[0].profit
    elif np.isnan(stop) and not np.isnan(order.trailing):
        stop = on_grid(exit_price - side * order.trailing, account.scale)
    if side * (exit_price - stop) <= 0 or side * (exit_price - profit) >= 0:
        return False
    results = margins = 0.0
    for i in range(account.open):
        results += open_result(tickets[i], exit_price, conversion)
        margins += tickets[i].margin
    if account.balance + results - margins - commission - margin < 0:
        return False
    account.deals += 1
    account.steps += steps
    account.side, account.changed = side, True
    if enlarges:
        ticket = tickets[0]
        old, new = abs(ticket.units), abs(units)
        ticket.steps += steps
        ticket.units = side * (ticket.steps * account.step_units)
        total = old + new
        ticket.entry_price = (old * ticket.entry_price + new * price) / total
        ticket.spread = (old * ticket.spread + new * spread) / total
        ticket.slippage = (old * ticket.slippage + new * fill.slippage) / total
        ticket.margin += margin
        ticket.commission += commission
        if side * (ticket.entry_price - ticket.best) > 0:
            ticket.best = ticket.entry_price
        if side * (ticket.entry_price - ticket.worst) < 0:
            ticket.worst = ticket.entry_price
        return True
    ticket = tickets[account.open]
    account.open += 1
    ticket.steps, ticket.units = steps, units
    ticket.entry_price, ticket.spread, ticket.slippage = price, spread, fill.slippage
    ticket.margin, ticket.commission, ticket.swap = margin, commission, 0.0
    ticket.stop, ticket.profit, ticket.trailing = stop, profit, order.trailing
    ticket.best = ticket.worst = price
    ticket.entry_bar = fill.bar
    return True


@njit(cache=True, error_model="numpy")
def set_levels(account: Record, tickets: np.ndarray, conversion: float) -> None:
    """Nearest exit prices at which something acts: of stops and stop-out against the position, of profits for it."""
    side = account.side
    account.level, account.profit, account.trails = stop_out_price(account, tickets, conversion), np.nan, False
    for i in range(account.open):
        ticket = tickets[i]
        if side * (ticket.stop - account.level) > 0:
            account.level = ticket.stop
        if np.isnan(account.profit) or side * (ticket.profit - account.profit) < 0:
            account.profit = ticket.profit
        account.trails |= not np.isnan(ticket.trailing)
    account.conversion, account.changed = conversion, False


@njit(cache=True, error_model="numpy")
def execute(
    account: Record, tickets: np.ndarray, order: Record, fill: Record, nights: int, shown: float, trades: np.ndarray
) -> None:
    """A bar's swap, and the order decided at the close before, at the open: closing before opening."""
    charge(account, tickets, nights, fill.conversion)
    if account.open > 0:
        gap(account, tickets, order, fill, shown, trades)
    if order.leave > 0:
        leave(account, tickets, order.leave, fill, shown, trades)
    if order.steps > 0:
        if not enter(account, tickets, order, fill, shown):
            account.refused += 1
        elif order.leave > 0 and not account.hedging:
            account.deals -= 1  # a reversal is one deal
    if account.open > 0 and (account.changed or account.conversion != fill.conversion):
        set_levels(account, tickets, fill.conversion)


@njit(cache=True, error_model="numpy")
def pass_price(account: Record, tickets: np.ndarray, price: float) -> None:
    """Let open positions meet an exit price."""
    side = account.side
    for i in range(account.open):
        ticket = tickets[i]
        if side * (price - ticket.best) > 0:
            ticket.best = price
        if side * (price - ticket.worst) < 0:
            ticket.worst = price


@njit(cache=True, error_model="numpy")
def pass_bar(account: Record, tickets: np.ndarray, first: float, against: float, favourable: float) -> None:
    """Let open positions meet the exit prices of a bar in which nothing acts."""
    side = account.side
    for i in range(account.open):
        ticket = tickets[i]
        for price in (first, against, favourable):
            if side * (price - ticket.best) > 0:
                ticket.best = price
            if side * (price - ticket.worst) < 0:
                ticket.worst = price


@njit(cache=True, error_model="numpy")
def largest_loss(account: Record, tickets: np.ndarray, price: float, conversion: float) -> int:
    """Ticket that has lost most at an exit price, the oldest of equals."""
    worst = 0
    for i in range(1, account.open):
        if open_result(tickets[i], price, conversion) < open_result(tickets[worst], price, conversion):
            worst = i
    return worst


@njit(cache=True, error_model="numpy")
def go_against(
    account: Record, tickets: np.ndarray, fill: Record, first: float, extreme: float, trades: np.ndarray
) -> None:
    """Stops and stop-outs on the way from a finer bar's open to its adverse extreme, nearest level first."""
    side = account.side
    while account.open > 0:
        level, hit = stop_out_price(account, tickets, fill.conversion), -1
        for i in range(account.open):
            if side * (tickets[i].stop - level) > 0 or (hit < 0 and tickets[i].stop == level):
                level, hit = tickets[i].stop, i
        if side * (extreme - level) > 0:
            return
        reached = level if side * (first - level) > 0 else first
        fill.why = STOP if hit >= 0 else STOP_OUT
        if hit < 0:
            hit = largest_loss(account, tickets, reached, fill.conversion)
        fill.price = reached - side * fill.slippage
        book(account, tickets, hit, tickets[hit].steps, fill, trades)


@njit(cache=True, error_model="numpy")
def go_for(account: Record, tickets: np.ndarray, fill: Record, extreme: float, trades: np.ndarray) -> None:
    """Profits taken on the way to a finer bar's open or favourable extreme, nearest level first."""
    side = account.side
    while account.open > 0:
        hit = -1
        for i in range(account.open):
            level = tickets[i].profit
            if side * (extreme - level) >= 0 and (hit < 0 or side * (level - tickets[hit].profit) < 0):
                hit = i
        if hit < 0:
            return
        slippage, fill.slippage = fill.slippage, 0.0
        fill.price, fill.why = tickets[hit].profit, PROFIT
        book(account, tickets, hit, tickets[hit].steps, fill, trades)
        fill.slippage = slippage


@njit(cache=True, error_model="numpy")
def visit(
    account: Record,
    tickets: np.ndarray,
    fill: Record,
    first: float,
    against: float,
    favourable: float,
    trades: np.ndarray,
) -> None:
    """Go through a bar within the bar, given as exit prices: its open, adverse and favourable extreme."""
    go_for(account, tickets, fill, first, trades)
    pass_price(account, tickets, first)
    go_against(account, tickets, fill, first, against, trades)
    pass_price(account, tickets, against)
    go_for(account, tickets, fill, favourable, trades)
    pass_price(account, tickets, favourable)
    if account.changed and account.open > 0:
        set_levels(account, tickets, fill.conversion)


@njit(cache=True, error_model="numpy")
def gap(account: Record, tickets: np.ndarray, order: Record, fill: Record, shown: float, trades: np.ndarray) -> None:
    """What the open lies beyond acts before an order there, of which the same side's entry is dropped then."""
    if order.leave == 0 and order.steps == 0:
        return
    if account.changed or account.conversion != fill.conversion:
        set_levels(account, tickets, fill.conversion)
    side, held = account.side, account.steps
    first = leaving(shown, side, fill.spread, account.close_only)
    if side * (first - account.level) > 0 and not side * (first - account.profit) >= 0:
        return
    visit(account, tickets, fill, first, first, first, trades)
    gone = held - account.steps
    if gone == 0:
        return
    left = max(order.leave - gone, 0)
    order.leave = left if order.leave == held or left >= account.least_steps else 0
    if order.side == side:
        order.steps = 0


@njit(cache=True, error_model="numpy")
def trail(account: Record, tickets: np.ndarray, price: float) -> None:
    """Move trailing stops to their distance from a close where that is nearer."""
    side = account.side
    for i in range(account.open):
        ticket = tickets[i]
        if np.isnan(ticket.trailing):
            continue
        level = on_grid(price - side * ticket.trailing, account.scale)
        if side * (level - ticket.stop) > 0:
            account.changed = True
            ticket.stop = level


@njit(cache=True, error_model="numpy")
def decide(account: Record, order: Record, side: float, may_enter: bool, resize: bool, lots: float) -> None:
    """What to execute at the next open where `side` and `lots` are wanted."""
    held = account.steps
    same = held > 0 and side == account.side
    order.leave, order.steps, order.side = (0 if same else held), 0, side
    if side == 0 or (same and not resize) or not (same or may_enter):
        return
    wanted = steps_of(lots, account)
    if same:
        if wanted < account.least_steps or abs(wanted - held) < account.least_steps:
            return
        order.leave = max(held - wanted, 0)
        wanted -= held
        if wanted > 0 and may_enter:
            order.steps = wanted
    elif wanted < account.least_steps:
        account.refused += 1
    else:
        order.steps = wanted


@njit(cache=True, error_model="numpy")
def mark(account: Record, tickets: np.ndarray, shown: float, spread: float, conversion: float, row: Record) -> None:
    """Open positions into the row of a close, which holds the account's balance and costs; move trailing stops."""
    price = leaving(shown, account.side, spread, account.close_only)
    if account.trails:
        trail(account, tickets, price)
    results = margin = position = costs = 0.0
    for i in range(account.open):
        ticket = tickets[i]
        results += open_result(ticket, price, conversion)
        margin += ticket.margin
        position += ticket.units
        lost = abs(ticket.units) * conversion * (ticket.spread + ticket.slippage)
        costs += lost + ticket.commission - ticket.swap
    row.equity, row.position, row.margin, row.paid = account.balance + results, position, margin, account.paid + costs
    if row.equity < account.margin_call * margin:
        account.margin_calls += 1


@njit(cache=True, error_model="numpy")
def finish(
    account: Record,
    tickets: np.ndarray,
    fill: Record,
    shown: float,
    spread: float,
    conversion: float,
    trades: np.ndarray,
) -> None:
    """Close all at the last close, at its own spread and conversion, after the nights within the bar."""
    charge(account, tickets, account.nights_end, fill.conversion)
    fill.spread, fill.slippage, fill.conversion = spread, 0.0, conversion
    fill.price, fill.why = leaving(shown, account.side, spread, account.close_only), END
    while account.open > 0:
        book(account, tickets, 0, tickets[0].steps, fill, trades)


@njit(cache=True, error_model="numpy")
def grown(trades: np.ndarray, count: int) -> np.ndarray:
    """A larger array of trades with those kept so far."""
    larger = np.empty(max(count, 2 * len(trades)), CLOSED)
    larger[: len(trades)] = trades
    return larger


@njit(cache=True, error_model="numpy", nogil=True)
def run(
    account: Record,
    tickets: np.ndarray,
    order: Record,
    fill: Record,
    market: MarketArrays,
    plan: PlanArrays,
    curves: np.ndarray,
    trades: np.ndarray,
) -> np.ndarray:
    """An account along a market; fills `curves` and returns the trades, which may have outgrown the array given.

    account, order, fill: one record each. tickets: as many as can be open at once. curves: a row a bar.
    """
    opens, closes, spread, slippage, nights, conversions, finer, begin = market
    sides, lots, lots_per_money, stops, profits, trailing, entry, decided, resize = plan
    last = len(closes) - 1
    for t in range(last + 1):
        if account.open > 0 or order.leave > 0 or order.steps > 0:
            fill.bar, fill.spread, fill.slippage, fill.conversion = t, spread[t - 1], slippage[t], conversions[t - 1]
            if account.trades + 2 * account.open + 2 > len(trades):
                trades = grown(trades, account.trades + 2 * account.open + 2)
            execute(account, tickets, order, fill, nights[t], opens[t], trades)
            for j in range(begin[t], begin[t + 1]):
                if account.open == 0:
                    break
                side = account.side
                first = leaving(finer[0, j], side, fill.spread, account.close_only)
                high = leaving(finer[1, j], side, fill.spread, account.close_only)
                low = leaving(finer[2, j], side, fill.spread, account.close_only)
                against, favourable = (low, high) if side > 0 else (high, low)
                acts = side * (against - account.level) <= 0 or side * (favourable - account.profit) >= 0
                if acts:
                    visit(account, tickets, fill, first, against, favourable, trades)
                else:
                    pass_bar(account, tickets, first, against, favourable)
        if t == last and account.open > 0:
            finish(account, tickets, fill, closes[t], spread[t], conversions[t], trades)
        row = curves[t]
        row.equity = row.balance = account.balance
        row.position, row.margin, row.paid = 0.0, 0.0, account.paid
        if account.open > 0:
            mark(account, tickets, closes[t], spread[t], conversions[t], row)
        if t < last:
            may_enter = entry[t] and decided[t] >= account.stopped
            wanted = lots[t] + lots_per_money[t] * row.equity
            decide(account, order, sides[t], may_enter, resize, wanted)
            order.stop, order.profit, order.trailing = stops[t], profits[t], trailing[t]
    return trades
