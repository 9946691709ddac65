"""Trades follow: what was decided at a close fills within the next bar, at that bar's prices, never within its own.

Everything is read from trades.parquet and equity.parquet and held against targets laid anew and the bars themselves,
not against the engine that made them.
"""

from typing import Any

import numpy as np

from strategies.market import Market
from strategies.plan import Plan
from strategies.run import REASONS
from tunetrade.audit.result import Check, Offence, judged, skipped
from tunetrade.audit.subject import Subject, stamp

NAME = "fills"

PRECISE = 1e-9
"""Relative difference of a price from the one it must be; prices are sums of a few floats."""


def trades_follow(subject: Subject) -> Check:
    """Every trade and every change of position against the targets of the bars before them."""
    market, plan = subject.laid.market, subject.laid.plan
    bars = subject.bars.frame.loc[
        np.isin(subject.bars.times, market.times), ["open", "high", "low", "close"]
    ]  # the source's own prices, whatever the engine took them for
    if len(subject.equity) != len(market):
        rows = [Offence(stamp(market.times[0]), "equity rows", len(subject.equity), len(market))]
        return judged(NAME, rows, "", "equity.parquet has not a row for each bar traded")
    prices = {name: bars[name].to_numpy(np.float64) for name in bars}
    found = _positions(subject, market, plan) + _ledger(subject, market, plan, prices)
    if not len(subject.trades) and not found:
        return skipped(NAME, "the run made no trade")
    return judged(
        NAME,
        found,
        f"{len(subject.trades)} trades fill in the bar after the close they were decided at, at its prices",
        "a fill is not where or when the decision before it puts it",
        trades=len(subject.trades),
    )


def _positions(subject: Subject, market: Market, plan: Plan) -> list[Offence]:
    """Positions that change to a side which was not wanted at the close before."""
    held = np.sign(subject.equity["position"].to_numpy(np.float64))
    before = np.concatenate([[0.0], held[:-1]])
    wanted = np.concatenate([[0], plan.side[:-1]])
    wrong = (held != 0) & (held != before) & (held != wanted)
    found = [Offence(stamp(market.times[at]), "position", held[at], float(wanted[at])) for at in np.flatnonzero(wrong)]
    shown = subject.equity["price"].to_numpy(np.float64)
    off = np.flatnonzero(shown != market.close)
    return found + [Offence(stamp(market.times[at]), "price", shown[at], market.close[at]) for at in off]


def _ledger(subject: Subject, market: Market, plan: Plan, prices: dict[str, np.ndarray]) -> list[Offence]:
    """Trades of the ledger that no decision explains."""
    where = {time: bar for bar, time in enumerate(subject.equity["time"])}
    found: list[Offence] = []
    for trade in subject.trades.itertuples():
        entered, left = where.get(trade.entry_time, -1), where.get(trade.exit_time, -1)
        time = f"{stamp(trade.entry_time)} trade {trade.trade}"
        if entered < 1 or left < entered:
            found.append(Offence(time, "entry_time", stamp(trade.entry_time), "a bar after its decision"))
            continue
        found += _entry(trade, entered, market, plan, prices, time) + _exit(trade, left, market, plan, prices, time)
    return found


def _entry(trade: Any, bar: int, market: Market, plan: Plan, prices: dict[str, np.ndarray], time: str) -> list[Offence]:
    side, found = int(trade.direction), []
    if plan.side[bar - 1] != side:
        found.append(Offence(time, "direction", side, int(plan.side[bar - 1])))
    if trade.entry_filled.to_datetime64() < market.times[bar - 1]:
        found.append(Offence(time, "entry_filled", stamp(trade.entry_filled), stamp(market.times[bar - 1])))
    spread = market.spread[bar - 1] * (0.5 if market.close_only else float(side > 0))
    price = prices["open"][bar] + side * (spread + market.slippage[bar])
    if not plan.resize and not _near(trade.entry_price, price):
        found.append(Offence(time, "entry_price", trade.entry_price, float(price)))
    return found


def _exit(trade: Any, bar: int, market: Market, plan: Plan, prices: dict[str, np.ndarray], time: str) -> list[Offence]:
    side, why = int(trade.direction), trade.exit_reason
    last, lost = bar == len(plan) - 1, 0.5 if market.close_only else float(side < 0)
    if why == REASONS[0]:
        price = prices["open"][bar] - side * (market.spread[bar - 1] * lost + market.slippage[bar])
        if plan.side[bar - 1] == side and not plan.resize:
            return [Offence(time, "exit_time", stamp(trade.exit_time), "its side was still wanted at the close before")]
        return [] if _near(trade.exit_price, price) else [Offence(time, "exit_price", trade.exit_price, float(price))]
    if why == "end of data":
        price = prices["close"][bar] - side * market.spread[bar] * lost
        fits = last and _near(trade.exit_price, price)
        return [] if fits else [Offence(time, "exit_price", trade.exit_price, float(price))]
    low, high = prices["low"][bar], prices["high"][bar]
    margin = market.spread[bar - 1] * lost + market.slippage[bar]
    if low - margin * (1 + PRECISE) <= trade.exit_price <= high + margin * (1 + PRECISE):
        return []
    return [Offence(time, "exit_price", trade.exit_price, f"{low:.8g} to {high:.8g}")]


def _near(price: float, other: float) -> bool:
    return abs(price - other) <= PRECISE * abs(other)
