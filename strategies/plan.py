"""What a strategy wants along a span of bars, as arrays, before any account exists.

Sizes are linear in equity (`lots + lots_per_money * equity`), so that a plan can be laid without knowing the account
that will follow it: fixed lots, a share at risk, a volatility target and a Kelly fraction all are.
"""

from dataclasses import dataclass, replace

import numpy as np

NEVER = -1
"""Row of `Plan.decided` of a bar that no target governs."""


@dataclass(frozen=True)
class Plan:
    """Wanted at the close of each of T bars, executed within the next; [T] each.

    side: int8, 1 long, -1 short, 0 flat. lots: float64, wanted whatever the equity; lots_per_money: added for each unit
    of account currency of equity at that close. stop, take_profit: prices of the side they close on (bid for longs, ask
    for shorts), NaN for none. trailing: distance in price at which a stop follows the closes, NaN for none. entry:
    bool, whether a position may be opened or enlarged. decided: int64, bar whose forecast this target is from, NEVER
    for none; a target whose position was stopped opens no other one. resize: whether a position follows changes of the
    size wanted. reasons: for people.
    """

    side: np.ndarray
    lots: np.ndarray
    lots_per_money: np.ndarray
    stop: np.ndarray
    take_profit: np.ndarray
    trailing: np.ndarray
    entry: np.ndarray
    decided: np.ndarray
    resize: bool
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.side)


def plain_plan(side: np.ndarray, lots: float, reasons: tuple[str, ...] | None = None) -> Plan:
    """A plan of fixed lots without stops, decided anew at every bar; side [T]."""
    count = len(side)
    none = np.full(count, np.nan)
    return Plan(
        side=np.asarray(side, np.int8),
        lots=np.full(count, float(lots)),
        lots_per_money=np.zeros(count),
        stop=none,
        take_profit=none,
        trailing=none,
        entry=np.ones(count, bool),
        decided=np.arange(count),
        resize=False,
        reasons=reasons or ("",) * count,
    )


def restricted(plan: Plan, entry: np.ndarray, flat: np.ndarray) -> Plan:
    """The plan within trading hours: no entries where not `entry` [T], all closed where `flat` [T]."""
    return replace(
        plan,
        side=np.where(flat, 0, plan.side).astype(np.int8),
        entry=plan.entry & entry & ~flat,
        reasons=tuple("weekend ahead" if f else r for f, r in zip(flat.tolist(), plan.reasons, strict=True)),
    )
