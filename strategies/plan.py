"""What a strategy wants along a span of bars, as arrays, before any account exists.

Sizes are linear in equity (`lots + lots_per_money * equity`), so that a plan can be laid without knowing the account
that will follow it: fixed lots, a share at risk, a volatility target and a Kelly fraction all are.
"""

from dataclasses import dataclass, replace

import numpy as np

from forecasting.errors import UserError

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


def check_plan(plan: Plan, count: int) -> None:
    """UserError where a plan is not of `count` bars, or holds what no account could follow."""
    for name in ("side", "lots", "lots_per_money", "stop", "take_profit", "trailing", "entry", "decided", "reasons"):
        if len(getattr(plan, name)) != count:
            raise UserError(f"the plan's {name} has {len(getattr(plan, name))} rows for {count} bars; give one a bar")
    rules = {
        "side": (np.isin(plan.side, (-1, 0, 1)), "1, -1 or 0"),
        "lots": (np.isfinite(plan.lots) & (plan.lots >= 0), "a number of 0 or more"),
        "lots_per_money": (np.isfinite(plan.lots_per_money) & (plan.lots_per_money >= 0), "a number of 0 or more"),
        "stop": (~np.isinf(plan.stop), "a price, or NaN for none"),
        "take_profit": (~np.isinf(plan.take_profit), "a price, or NaN for none"),
        "trailing": (np.isnan(plan.trailing) | ((plan.trailing > 0) & np.isfinite(plan.trailing)), "above 0, or NaN"),
        "decided": ((plan.decided >= NEVER) & (plan.decided <= np.arange(count)), "a bar no later than its own"),
    }
    for name, (good, what) in rules.items():
        if not good.all():
            bar = int(np.flatnonzero(~good)[0])
            raise UserError(f"the plan's {name} of bar {bar} is {getattr(plan, name)[bar]}; it must be {what}")
