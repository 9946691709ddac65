"""The Expert Advisor's orders in the simulated terminal against Backtrader's account, trade for trade.

The plan goes through the file of the Strategy Tester. Markets jump over stops, margin is short, some bars are fixings;
sizes follow equity, stops follow closes at distances of their own, entries wait for hours (accounts.py).
"""

import numpy as np
import pytest
from accounts import backtest_rows, compared, expert_trades, random_broker, random_market, row_of

from strategies.broker import run_plan
from strategies.plan import plain_plan


def agree(seed, folder):
    got, wanted, journal, run = compared(seed, folder)
    assert [row[:2] for row in got] == [row[:2] for row in wanted], seed
    if got:
        apart = np.abs(np.array(got) - np.array(wanted)).max(0)
        assert (apart < [1, 1, 1e-9, 1e-10, 1e-10, 1e-6]).all(), seed
    assert journal.end["balance"] == pytest.approx(float(run.balance[-1]), abs=1e-6), seed
    return {int(why) for why in run.trades["why"]}, len(got)


def test_orders_of_the_expert_are_those_of_the_backtest(tmp_path):
    met, trades = set(), 0
    for seed in range(12):
        reasons, count = agree(seed, tmp_path / str(seed))
        met, trades = met | reasons, trades + count
    assert met == {0, 1, 2, 3, 4} and trades > 500


@pytest.mark.slow
def test_orders_of_the_expert_are_those_of_the_backtest_on_many_accounts(tmp_path):
    for seed in range(1_000, 1_500):
        agree(seed, tmp_path / str(seed))


def test_another_plan_would_be_noticed(tmp_path):
    rng = np.random.default_rng(1)
    market, broker = random_market(rng, 60), random_broker(rng)
    side = np.where(np.arange(60) % 7 < 4, 1, -1)
    run = run_plan(market, plain_plan(side, 0.1), broker)
    trades, _ = expert_trades(tmp_path, market, plain_plan(np.roll(side, 1), 0.1), broker)
    assert sorted(map(row_of, trades)) != backtest_rows(run, broker)
