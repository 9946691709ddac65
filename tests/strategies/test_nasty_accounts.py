"""Both engines at the edge of what rules allow: they agree, and what they leave adds up."""

import numpy as np
import pytest
from nasty import equity_of_one_position, equity_of_tickets, nasty_account, passed_through
from test_twin import differences

from strategies import account, twin_kernel
from strategies.broker import run_plan
from strategies.run import REASONS
from strategies.twin import simulate
from strategies.twin_records import ACCOUNT, TICKET


def check(seeds):
    """Compare and add up; how often each way of closing, and each kind of account, was met."""
    met = dict.fromkeys((*REASONS, "refused", "netting resized", "hedging resized", "one bar"), 0)
    for seed in seeds:
        market, plan, broker = nasty_account(seed)
        run = run_plan(market, plan, broker)
        assert differences(simulate(market, plan, broker), run, broker.deposit) == [], f"case {seed}"
        near = 1e-8 * passed_through(market, broker, run)
        netting = broker.account == "netting"
        ledger = equity_of_one_position if netting else equity_of_tickets
        np.testing.assert_allclose(run.equity, ledger(market, broker, run), rtol=0, atol=near, err_msg=f"case {seed}")
        trades = run.trades
        net = trades["result"] - trades["commission"] + trades["swap"]
        paid = trades["spread_cost"] + trades["slippage_cost"] + trades["commission"] - trades["swap"]
        assert abs(run.balance[-1] - broker.deposit - net.sum()) <= near, f"case {seed}"
        assert abs(run.paid[-1] - paid.sum()) <= near, f"case {seed}"
        assert run.equity[-1] == run.balance[-1], f"case {seed}"
        within = (trades["mae"] <= trades["result"] + near) & (trades["result"] <= trades["mfe"] + near)
        assert (within & (trades["mae"] <= near) & (trades["mfe"] >= -near)).all(), f"case {seed}"
        for why in trades["why"]:
            met[REASONS[why]] += 1
        met["refused"] += run.refused
        met["one bar"] += len(market) == 1
        met[f"{broker.account} resized"] += bool(plan.resize and len(trades))
    return met


def test_both_engines_agree_and_add_up_on_nasty_accounts():
    met = check(range(600))
    assert min(met.values()) >= 40, met


@pytest.mark.slow
def test_both_engines_agree_and_add_up_on_many_nasty_accounts():
    check(range(1_000, 9_000))


def compensated(values):
    """What sum() does with floats from Python 3.12 on (Neumaier)."""
    total = lost = 0.0
    for value in values:
        new = total + value
        lost += (total - new) + value if abs(total) >= abs(value) else (value - new) + total
        total = new
    return total + lost


def test_agreement_does_not_hang_on_how_python_sums(monkeypatch):
    """The price of a stop-out over several tickets, to the bit, with the sum() of later Pythons."""
    monkeypatch.setattr(account, "sum", compensated, raising=False)
    rng = np.random.default_rng(1)
    for _ in range(200):
        count = int(rng.integers(3, 9))
        units, margin, price = rng.uniform(1e3, 1e5, (3, count)) * [[1], [1e-2], [1e-5]]
        commission, swap = rng.uniform(-9, 9, (2, count))
        none = [np.nan] * 3
        ours = [
            account.Ticket(1, 1, *row[:2], 0.0, 0.0, *row[2:], *none, row[1], row[1], 0)
            for row in np.transpose([units, price, margin, commission, swap]).tolist()
        ]
        theirs, record = np.zeros(count, TICKET), np.zeros(1, ACCOUNT)
        for name, values in (("units", units), ("entry_price", price), ("margin", margin)):
            theirs[name] = values
        theirs["commission"], theirs["swap"] = commission, swap
        record["open"], record["stop_out"], record["balance"] = count, 0.5, 1e4
        assert account.stop_out_price(ours, 1e4, 0.5, 0.9) == twin_kernel.stop_out_price(record[0], theirs, 0.9)
