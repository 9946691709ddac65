"""Backtrader's broker with a spread, a commission per lot and a margin check on both sides; and a feed it reads from.

Money is in the quote currency. Backtrader's own slippage silently skips market orders and its short sales are never
refused, so the fill and the check are ours; cash and equity stay Backtrader's, which makes them a second account of
what the ledger here says. There is no swap, margin call or stop-out yet. docs/EXECUTION.md says it for traders.
"""

from array import array
from dataclasses import dataclass
from typing import Any

import backtrader as bt
import numpy as np

_NS_A_DAY = 86_400_000_000_000
_EPOCH_ORDINAL = 719_163  # 1970-01-01 in days since 0001-01-01, the origin of Backtrader's clock


@dataclass(frozen=True)
class Fill:
    """An executed order: index of its bar in the feed, signed units, the price shown, the price paid, costs in money.

    at_close tells the closing fill at the end of the data from the others, which happen at the bar's open.
    """

    bar: int
    units: float
    quote: float
    price: float
    spread_cost: float
    commission: float
    reason: str
    at_close: bool


def fill_price(quote: float, spread: float, is_buy: bool, close_only: bool) -> float:
    """Price paid or received where `quote` is shown; all in quote currency per unit.

    Bars hold bids: a sale gets the bid and a purchase pays bid + spread, as in MetaTrader. Fixings of a close-only
    source are mids: each side pays half. A round trip costs one spread either way.
    """
    if close_only:
        return quote + spread / 2 if is_buy else quote - spread / 2
    return quote + spread if is_buy else quote


class BarFeed(bt.feed.DataBase):
    """Bars as arrays: each line is filled at once instead of value by value. `spread` is in price units."""

    lines = ("spread",)
    params = (("columns", None),)  # name of line -> float64 [T]

    def preload(self) -> None:
        """Fill every line and rewind to the start."""
        columns: dict[str, np.ndarray] = self.p.columns
        length = len(columns["close"])
        for name in self.getlinealiases():
            values = columns.get(name, np.zeros(length))
            getattr(self.lines, name).array = array("d", np.ascontiguousarray(values, np.float64).tobytes())
        self.home()

    def _tick_nullify(self) -> None:
        """Backtrader copies each bar to tick_* attributes for replayed bars; there are none here."""

    def _tick_fill(self, force: bool = False) -> None:
        """As `_tick_nullify`."""


def feed_times(times: np.ndarray) -> np.ndarray:
    """Backtrader's clock, days since 0001-01-01 plus one, of datetime64[ns] UTC [T]."""
    return times.astype("datetime64[ns]").astype(np.int64) / _NS_A_DAY + _EPOCH_ORDINAL


class LotCommission(bt.CommInfoBase):
    """Commission per unit of base currency and side; a leveraged purchase ties up value / leverage."""

    params = (("stocklike", True), ("commtype", bt.CommInfoBase.COMM_FIXED), ("mult", 1.0))


class SpreadBroker(bt.brokers.BackBroker):
    """Fills market orders at the next bar's open with the spread known when they were decided, and keeps the ledger.

    `fills` holds every executed order; `refused` counts orders that opened a position without enough margin.
    """

    params = (("close_only", False), ("checksubmit", False))

    def __init__(self, **_: Any) -> None:  # params never arrive: Backtrader takes them out
        super().__init__()
        self.fills: list[Fill] = []
        self.refused = 0

    def settle(self, order: Any) -> None:
        """Fill an order of the last bar at that bar's close: the end of the data is known to be the end."""
        self.pending.remove(order)
        self._fill(order, order.data.close[0], order.data.spread[0], at_close=True)
        self._get_value()

    def notify(self, order: Any) -> None:
        """Tell nobody: the strategy does not listen, and Backtrader's copies of orders take 40 % of the run."""

    def _try_exec(self, order: Any) -> None:
        data = order.data
        if data.datetime[0] > order.created.dt:
            self._fill(order, data.open[0], data.spread[-1], at_close=False)

    def _fill(self, order: Any, quote: float, spread: float, at_close: bool) -> None:
        units = order.executed.remsize
        price = fill_price(quote, spread, order.isbuy(), self.p.close_only)
        commission = self.getcommissioninfo(order.data).getcommission(units, price)
        if not self.positions[order.data].size and not self._affordable(order, price, commission):
            self.refused += 1
            order.margin()
            self.notify(order)
            return
        self._execute(order, ago=0, price=price)
        bar = len(order.data) - 1
        cost = abs(price - quote) * abs(units)
        self.fills.append(Fill(bar, units, quote, price, cost, commission, str(order.info["reason"]), at_close))

    def _affordable(self, order: Any, price: float, commission: float) -> bool:
        """Whether cash covers margin and commission of a position opened from flat, when cash is all of the equity."""
        margin = abs(order.executed.remsize) * price / self.getcommissioninfo(order.data).get_leverage()
        return bool(self.cash - margin - commission >= 0.0)
