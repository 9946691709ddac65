"""Layouts of what the fast twin's compiled code works on."""

from typing import NamedTuple

import numpy as np

from strategies.market import Market
from strategies.plan import Plan


def _layout(**fields: str) -> np.dtype:
    return np.dtype([(name, kind) for kind, names in fields.items() for name in names.split()], align=True)


TICKET = _layout(
    f8="units entry_price spread slippage margin commission swap stop profit trailing best worst",
    i8="steps entry_bar",
)
"""An open position. units: signed. spread, slippage: what entering lost, in price. margin,
commission, swap: money. best, worst: exit prices met."""

ACCOUNT = _layout(
    f8="balance paid commission swap_long swap_short point scale leverage margin_call stop_out lot_step lot_max"
    " step_units side level profit conversion",
    i8="least_steps nights_end steps open trades deals refused margin_calls stopped",
    b1="hedging close_only changed trails",
)
"""What an account holds and by which rules. commission: of a unit and side. side, steps: of what is open;
open, trades: tickets open, trades closed.
stopped: bar of the last stop, profit or stop-out. scale: points in a price of 1.
level, profit: nearest exit prices at which something acts, trails: whether a stop follows, all as of `conversion` and
to be found anew once `changed`."""

ORDER = _layout(f8="side stop profit trailing", i8="leave steps")
"""Decided at a close: lot steps to close, then lot steps to open on `side`."""

FILL = _layout(f8="spread slippage conversion price", i8="bar why")
"""Where something executes: what holds within the bar, and the price paid."""

CURVES = _layout(f8="equity balance position margin paid")
"""An account at a close."""


class MarketArrays(NamedTuple):
    """The arrays of a `Market` that compiled code reads."""

    open: np.ndarray
    close: np.ndarray
    spread: np.ndarray
    slippage: np.ndarray
    nights: np.ndarray
    conversion: np.ndarray
    finer: np.ndarray
    begin: np.ndarray


class PlanArrays(NamedTuple):
    """The arrays of a `Plan` that compiled code reads."""

    side: np.ndarray
    lots: np.ndarray
    lots_per_money: np.ndarray
    stop: np.ndarray
    take_profit: np.ndarray
    trailing: np.ndarray
    entry: np.ndarray
    decided: np.ndarray
    resize: bool


_KINDS = {"nights": np.int64, "begin": np.int64, "decided": np.int64, "side": np.int8, "entry": np.bool_}


def market_arrays(market: Market) -> MarketArrays:
    """Arrays of a market in the types that were compiled for."""
    return MarketArrays(*(_array(market, name) for name in MarketArrays._fields))


def plan_arrays(plan: Plan) -> PlanArrays:
    """Arrays of a plan in the types that were compiled for."""
    return PlanArrays(
        **{name: _array(plan, name) for name in PlanArrays._fields if name != "resize"}, resize=plan.resize
    )


def _array(owner: Market | Plan, name: str) -> np.ndarray:
    return np.ascontiguousarray(getattr(owner, name), _KINDS.get(name, np.float64))
