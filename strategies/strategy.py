"""The thin Backtrader strategy: at each close, order what a plan wants beyond what is held."""

import backtrader as bt

from strategies.account import Account
from strategies.plan import Plan
from strategies.sizing import lot_steps


class FollowPlan(bt.Strategy):
    """Follows a plan on the account of an `AccountBroker`; a reversal is one order, whose closing half always fills."""

    params = (("plan", None),)

    def __init__(self) -> None:
        plan: Plan = self.p.plan
        self.account: Account = self.broker.account
        self.wanted: list[int] = plan.side.tolist()
        self.entry: list[bool] = plan.entry.tolist()
        self.decided: list[int] = plan.decided.tolist()
        self.least = self.account.rules.least_steps
        self.last = len(plan) - 1

    def next(self) -> None:
        """Decide at the close of this bar; at the last close nothing can fill any more."""
        bar = len(self) - 1
        held, wanted = self.account.side, self.wanted[bar]
        if bar == self.last or held == wanted == 0:
            return
        if held != wanted:
            self._change_side(bar, wanted)
        elif self.p.plan.resize:
            self._resize(bar, wanted)

    def _change_side(self, bar: int, wanted: int) -> None:
        """Close all that is held, and open the side wanted where that may be."""
        opening = 0
        if wanted and self._may_open(bar):
            opening = self._steps(bar)
            if opening < self.least:
                self.account.refused += 1
                opening = 0
        self._order(bar, wanted or -self.account.side, self.account.steps, opening)

    def _resize(self, bar: int, side: int) -> None:
        """Bring what is held to the size wanted, where neither that nor the deal is below the least size."""
        steps = self._steps(bar)
        more = steps - self.account.steps
        if steps < self.least or abs(more) < self.least:
            return
        if more < 0:
            self._order(bar, -side, -more, 0)
        elif more > 0 and self._may_open(bar):
            self._order(bar, side, 0, more)

    def _may_open(self, bar: int) -> bool:
        """Whether the hour allows an entry, and nothing was stopped since the forecast was made."""
        return self.entry[bar] and self.decided[bar] >= self.account.stopped

    def _steps(self, bar: int) -> int:
        """Lot steps that the plan wants at this close."""
        plan: Plan = self.p.plan
        lots = float(plan.lots[bar]) + float(plan.lots_per_money[bar]) * self.broker.getvalue()
        return lot_steps(lots, self.account.rules)

    def _order(self, bar: int, side: int, closing: int, opening: int) -> None:
        """Order at the market; stop, profit and trailing distance go with what it opens."""
        plan: Plan = self.p.plan
        if closing + opening:
            (self.buy if side > 0 else self.sell)(
                size=(closing + opening) * self.account.step_units,
                closing=closing,
                opening=opening,
                stop=float(plan.stop[bar]),
                take_profit=float(plan.take_profit[bar]),
                trailing=float(plan.trailing[bar]),
            )
