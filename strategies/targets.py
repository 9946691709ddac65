"""A plan as the file that the Expert Advisor reads in the Strategy Tester, which has no sockets.

One row a bar, keyed on its open by the broker's clock: what the plan wants at its close. bridge/mt5/README.md specifies
the format. A row says the size as lots + lots_per_money x equity, so that sizes follow the account of the tester.
"""

import math

import numpy as np

from forecasting.errors import UserError
from strategies.plan import Plan

HEADER = "tunetrade-targets 2"
COLUMNS = (
    "bar", "close", "position", "lots", "lots_per_money", "max_lots", "stop", "take_profit", "trailing", "resize",
    "entry", "decided", "expiry", "reason",
)  # fmt: skip


def targets_text(
    unique_id: str, opens: np.ndarray, closes: np.ndarray, plan: Plan, expiry: np.ndarray, max_lots: float
) -> str:
    """The file's text.

    Parameters
    ----------
    unique_id
        Of the series, such as EURUSD-H1.
    opens
        Of the T bars, seconds since 1970 by the broker's clock, int64 [T].
    closes
        Of the same bars, float64 [T].
    plan
        What is wanted at each close.
    expiry
        When the target of each row ends, seconds since 1970 by the broker's clock, int64 [T].
    max_lots
        Of any position.

    Raises
    ------
    UserError
        Two bars open at the same time of the broker's clock, which was put back between them.
    """
    back = np.flatnonzero(np.diff(opens) <= 0)
    if len(back):
        raise UserError(
            f"{unique_id}: two bars open at {opens[back[0] + 1].astype('datetime64[s]')} of the broker's clock, which "
            "was put back between them; export with another --server-tz, such as +02:00"
        )
    decided = np.where(plan.decided < 0, 0, opens[plan.decided])
    columns = (
        opens, closes, plan.side, plan.lots, plan.lots_per_money, np.full(len(plan), max_lots), plan.stop,
        plan.take_profit, plan.trailing, np.full(len(plan), int(plan.resize)), plan.entry.astype(int), decided, expiry,
    )  # fmt: skip
    lines = [f"{HEADER} {unique_id}", ",".join(COLUMNS)]
    for *numbers, reason in zip(*(column.tolist() for column in columns), plan.reasons, strict=True):
        lines.append(",".join([*map(_shown, numbers), _plain(reason)]))
    return "\n".join(lines) + "\n"


def _shown(value: float) -> str:
    """A number in its shortest exact form; NaN, which is none, as 0."""
    return "0" if math.isnan(value) else repr(value)


def _plain(reason: str) -> str:
    return reason.replace(",", ";").replace("\n", " ")
