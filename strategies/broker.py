"""Backtrader's half of a backtest: a feed that loads at once, a broker that keeps an `Account`, and a run of both.

Backtrader drives the loop, carries the orders and tells the broker the bars one by one, so nothing later can be seen;
what an order or a bar does to the account is in `strategies.account`. The broker is written on Backtrader's interface
for brokers, not on its own simulation: that one keeps the cash of a stock account, refuses no short sale, and knows
neither tickets nor stop-outs. docs/EXECUTION.md says for traders what happens when.
"""

from array import array
from typing import Any

import backtrader as bt
import numpy as np

from strategies.account import END_OF_DATA, SIGNAL, Account, Terms
from strategies.contract import BrokerRules
from strategies.market import Market
from strategies.plan import Plan, check_plan
from strategies.run import CLOSED, Run
from strategies.strategy import FollowPlan

_NS_A_DAY = 86_400_000_000_000
_EPOCH_ORDINAL = 719_163  # 1970-01-01 in days since 0001-01-01, the origin of Backtrader's clock


class BarFeed(bt.feed.DataBase):
    """Bars as arrays: each line is filled at once instead of value by value. Lines beside the usual: see `Market`."""

    lines = ("spread", "slippage", "nights", "conversion")
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


def feed_of(market: Market) -> BarFeed:
    """A market as a feed; finer bars, which have a clock of their own, reach the broker beside it."""
    names = ("open", "high", "low", "close", "spread", "slippage", "nights", "conversion")
    return BarFeed(columns={"datetime": feed_times(market.times)} | {name: getattr(market, name) for name in names})


def feed_times(times: np.ndarray) -> np.ndarray:
    """Backtrader's clock, days since 0001-01-01 plus one, of datetime64[ns] UTC [T]."""
    return times.astype("datetime64[ns]").astype(np.int64) / _NS_A_DAY + _EPOCH_ORDINAL


class AccountBroker(bt.BrokerBase):
    """Fills orders, watches stops and margin, marks the account at each close, and closes it with the data.

    An order closes what is held on the other side and opens the rest: `closing` and `opening` among its infos are lot
    steps. Nobody is notified: Backtrader's copies of orders take 40 % of a run, and the strategy reads the account.
    """

    params = (("market", None), ("rules", None))

    def __init__(self, **_: Any) -> None:  # params never arrive: Backtrader takes them out
        super().__init__()
        market: Market = self.p.market
        self.account = Account(self.p.rules, market.point, market.close_only)
        self.startingcash = self.cash = self.p.rules.deposit
        self.orders: list[Any] = []
        self.equity: list[float] = []
        self.balance: list[float] = []
        self.position: list[float] = []
        self.margin: list[float] = []
        self.paid: list[float] = []
        self.margin_calls = 0
        self._begin, self._finer = market.begin.tolist(), market.finer.T.tolist()
        self._last = len(market) - 1

    def start(self) -> None:
        """Find the lines of the feed."""
        super().start()
        self._data = self.cerebro.datas[0]
        lines = self._data.lines
        self._open, self._close = lines.open, lines.close
        self._spread, self._slippage, self._nights = lines.spread, lines.slippage, lines.nights
        self._conversion = lines.conversion

    def next(self) -> None:
        """Live through a bar: swap, orders at the open, stops, the close."""
        bar = len(self._data) - 1
        if self.orders or self.account.tickets:
            self._live(bar)
        self._mark(bar)

    def _live(self, bar: int) -> None:
        """Swap, orders and stops of a bar that has another before it."""
        account, close_only = self.account, self.p.market.close_only
        within = Terms(self._spread[-1], self._slippage[0], self._conversion[-1], close_only)
        if self._nights[0]:
            account.pay_swap(int(self._nights[0]), within.conversion)
        if self.orders:
            orders, self.orders = self.orders, []
            held, side = account.steps, account.side
            gone = account.gap(bar, self._open[0], within) if held else 0
            for order in orders:
                if gone:
                    self._after_gap(order, held, gone, side)
                self._fill(order, bar, within)
        for opened, high, low in self._finer[self._begin[bar] : self._begin[bar + 1]]:
            if not account.tickets:
                break
            account.stops(bar, opened, high, low, within)
        if bar == self._last and account.tickets:
            account.pay_swap(self.p.market.nights_end, within.conversion)
            at_close = Terms(self._spread[0], 0.0, self._conversion[0], close_only)
            account.reduce(bar, account.steps, self._close[0], at_close, END_OF_DATA)

    def _after_gap(self, order: Any, held: int, gone: int, side: int) -> None:
        """What is left of an order where the open closed `gone` of the lot steps held: nothing more of that side."""
        info, least = order.info, self.account.rules.least_steps
        left = max(info.closing - gone, 0)
        info.closing = left if info.closing == held or left >= least else 0
        if order.isbuy() == (side > 0):
            info.opening = 0

    def _fill(self, order: Any, bar: int, terms: Terms) -> None:
        """Execute an order at the open: what it closes always, what it opens where margin and stops allow."""
        account, info, shown = self.account, order.info, self._open[0]
        before, entered = account.deals, True
        account.reduce(bar, info.closing, shown, terms, SIGNAL)
        if info.opening:
            side = 1 if order.isbuy() else -1
            entered = account.enter(
                bar, side, info.opening, shown, terms, info.stop, info.take_profit, info.trailing
            )  # fmt: skip
        if account.netting:
            account.deals = min(account.deals, before + 1)
        if entered:
            order.completed()
        else:
            order.margin()

    def _mark(self, bar: int) -> None:
        """Mark the account at a close and move its trailing stops."""
        account = self.account
        terms = Terms(self._spread[0], 0.0, self._conversion[0], self.p.market.close_only)
        equity, margin = account.balance, 0.0
        if account.tickets:
            shown = self._close[0]
            equity, margin = account.equity(shown, terms), account.margin
            account.trail(shown, terms)
            self.margin_calls += equity < self.p.rules.margin_call * margin
        self.equity.append(equity)
        self.balance.append(account.balance)
        self.position.append(account.position)
        self.margin.append(margin)
        self.paid.append(account.costs(terms.conversion))

    def submit(self, order: Any) -> Any:
        """Take an order; it fills at the next bar's open."""
        order.submit(self)
        order.accept(self)
        self.orders.append(order)
        return order

    def cancel(self, order: Any) -> bool:
        """Take an order back before it fills."""
        if order not in self.orders:
            return False
        self.orders.remove(order)
        order.cancel()
        return True

    def buy(self, owner: Any, data: Any, size: float, **settings: Any) -> Any:
        """An order to buy `size` units at the market; see the class for its infos."""
        return self._market_order(bt.BuyOrder, owner, data, size, settings)

    def sell(self, owner: Any, data: Any, size: float, **settings: Any) -> Any:
        """As `buy`, the other way."""
        return self._market_order(bt.SellOrder, owner, data, size, settings)

    def _market_order(self, kind: Any, owner: Any, data: Any, size: float, settings: dict[str, Any]) -> Any:
        order = kind(owner=owner, data=data, size=size, exectype=bt.Order.Market)
        order.addinfo(**{name: settings[name] for name in ("closing", "opening", "stop", "take_profit", "trailing")})
        return self.submit(order)

    def get_notification(self) -> None:
        """Nothing to tell; see the class."""
        return

    def getcash(self) -> float:
        """Equity that is not tied up."""
        return self.getvalue() - (self.margin[-1] if self.margin else 0.0)

    get_cash = getcash

    def getvalue(self, datas: Any = None) -> float:
        """Equity at the last close."""
        return self.equity[-1] if self.equity else self.startingcash

    get_value = getvalue

    def getposition(self, data: Any) -> bt.Position:
        """What is held, at its average price."""
        units = self.account.position
        worth = sum(t.side * t.units * t.price for t in self.account.tickets)
        return bt.Position(units, worth / units if units else 0.0)


def run_plan(market: Market, plan: Plan, broker: BrokerRules) -> Run:
    """Follow a plan through a market in Backtrader; UserError where plan and market do not fit together."""
    check_plan(plan, len(market))
    kept = AccountBroker(market=market, rules=broker)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(kept)
    cerebro.adddata(feed_of(market))
    cerebro.addstrategy(FollowPlan, plan=plan)
    cerebro.run()
    return Run(
        trades=np.array(kept.account.trades, CLOSED).view(np.recarray),
        equity=np.array(kept.equity),
        balance=np.array(kept.balance),
        position=np.array(kept.position, np.float64),
        margin=np.array(kept.margin),
        paid=np.array(kept.paid),
        deals=kept.account.deals,
        refused=kept.account.refused,
        margin_calls=kept.margin_calls,
    )
