"""The thin Backtrader strategy: at each close, order the difference between position wanted and position held."""

from dataclasses import dataclass

import backtrader as bt
import numpy as np


@dataclass(frozen=True)
class Plan:
    """Position wanted at each bar's close, in signed units of base currency, [T], and why."""

    units: np.ndarray
    reasons: list[str]


class FollowPlan(bt.Strategy):
    """Follows a plan; a reversal is two orders, so that its closing half is never refused for want of margin."""

    params = (("plan", None),)

    def __init__(self) -> None:
        self.wanted: list[float] = self.p.plan.units.tolist()
        self.equity: list[float] = []
        self.held: list[float] = []

    def next(self) -> None:
        """Decide at the close of this bar and record the account as it stands."""
        bar = len(self) - 1
        held, wanted = self.position.size, self.wanted[bar]
        if bar == len(self.wanted) - 1:
            if held:
                self.broker.settle(self.close(reason="end of data"))
        elif held != wanted:
            self._order(held, wanted, self.p.plan.reasons[bar])
        self.equity.append(self.broker.getvalue())
        self.held.append(self.position.size)

    def _order(self, held: float, wanted: float, reason: str) -> None:
        if held:
            self.close(reason=reason)
        if wanted:
            (self.buy if wanted > 0 else self.sell)(size=abs(wanted), reason=reason)
