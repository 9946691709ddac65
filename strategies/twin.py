"""The fast twin of the Backtrader engine: the same account in compiled code, for searches over many settings.

It follows docs/EXECUTION.md to the formula and is held to the trades of `strategies.backtest.run_plan` on thousands of
random cases, so that a search may trust it; what is finally reported still comes from Backtrader. Compiled code is
loaded inside the functions, since loading numba takes longer than all that `tunetrade --help` does.
"""

import numpy as np

from strategies.contract import BrokerRules
from strategies.market import Market
from strategies.numbers import points_of_one
from strategies.plan import Plan, check_plan
from strategies.run import CLOSED, Run
from strategies.twin_records import ACCOUNT, CURVES, FILL, ORDER, TICKET, market_arrays, plan_arrays


def simulate(market: Market, plan: Plan, broker: BrokerRules) -> Run:
    """The account of `broker` following `plan` along `market`: what `strategies.backtest.run_plan` gives."""
    from strategies import twin_kernel

    check_plan(plan, len(market))
    account = _account(market, broker)
    curves = np.zeros(len(market), CURVES)
    order, fill = np.zeros(1, ORDER), np.zeros(1, FILL)
    trades = twin_kernel.run(
        account[0],
        np.zeros(_most_tickets(market, broker, plan.resize), TICKET),
        order[0],
        fill[0],
        market_arrays(market),
        plan_arrays(plan),
        curves,
        np.empty(64, CLOSED),
    )
    end = account[0]
    return Run(
        trades=trades[: end["trades"]].view(np.recarray),
        **{name: np.ascontiguousarray(curves[name]) for name in CURVES.names or ()},
        deals=int(end["deals"]),
        refused=int(end["refused"]),
        margin_calls=int(end["margin_calls"]),
    )


def _account(market: Market, broker: BrokerRules) -> np.ndarray:
    """A fresh account, one record."""
    account = np.zeros(1, ACCOUNT)
    for name in (
        "swap_long",
        "swap_short",
        "leverage",
        "margin_call",
        "stop_out",
        "lot_step",
        "lot_max",
        "least_steps",
    ):
        account[name] = getattr(broker, name)
    account["balance"] = broker.deposit
    account["commission"] = broker.commission_per_unit
    account["point"], account["close_only"], account["nights_end"] = market.point, market.close_only, market.nights_end
    account["scale"] = points_of_one(market.point)
    account["step_units"] = broker.lot_step * broker.lot_units
    account["hedging"], account["stopped"] = broker.account == "hedging", -1
    return account


def _most_tickets(market: Market, broker: BrokerRules, resize: bool) -> int:
    """How many tickets can be open at once: more than one only where a hedging account enlarges."""
    if not resize or broker.account != "hedging":
        return 1
    return min(len(market), int(broker.lot_max / broker.lot_step + 1)) + 1
