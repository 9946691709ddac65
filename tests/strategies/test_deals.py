"""Deals and trades of the same account, either made from the other."""

import numpy as np
import pandas as pd
import pytest
from made import random_account
from traded import equity_of, trade_row, trades_of

from strategies.broker import run_plan
from strategies.deals import closed_trades, deals_of, enlargements
from strategies.run import equity_frame, trades_frame
from strategies.tester import AT_OPEN, fill_times


def timed(frame, minutes, close_only):
    """Enlargements at the opens at which they filled."""
    orders = frame.assign(entry_time=frame["time"], exit_time=frame["time"], exit_reason=AT_OPEN)
    return frame.assign(time=fill_times(orders, minutes, close_only)[0])


def test_a_netting_position_worked_by_hand():
    """A sale turned at 1.20 into 0.10 bought, 0.10 more at 1.21, 0.05 out, 0.05 more at 1.225, and out."""
    rows = [
        trade_row(1, -1, 0.05, "2021-03-03 10:00", 1.23, "2021-03-03 11:00", 1.20, commission=0.5),
        trade_row(2, 1, 0.05, "2021-03-03 11:00", 1.205, "2021-03-03 13:00", 1.22, commission=0.5),
        trade_row(3, 1, 0.20, "2021-03-03 11:00", 1.21, "2021-03-03 15:00", 1.23, commission=2.0),
    ]
    trades = trades_of(rows)
    hours = pd.date_range("2021-03-03 10:00", periods=6, freq="h")
    held = 1e5 * np.array([-0.05, 0.10, 0.20, 0.15, 0.20, 0.0])
    opened = enlargements(trades, equity_of(hours, [10_000.0] * 6, position=held))
    assert opened["lots"].tolist() == pytest.approx([0.05, 0.10, 0.10, 0.05])
    deals = deals_of(trades, "EURUSD", 10_000.0, True, opened).iloc[1:]
    assert deals["direction"].tolist() == ["in", "in/out", "in", "out", "in", "out"]
    assert deals["volume"].tolist() == pytest.approx([0.05, 0.15, 0.10, 0.05, 0.05, 0.20])
    assert deals["price"].tolist() == pytest.approx([1.23, 1.20, 1.21, 1.22, 1.225, 1.23])
    assert deals["commission"].tolist() == pytest.approx([-0.25, -0.25 - 0.5, -0.5, -0.25, -0.25, -1.0])
    assert deals["position"].tolist() == [2, 3, 3, 3, 3, 3]
    assert deals["balance"].iloc[-1] == pytest.approx(10_000 + trades["net_profit"].sum())


@pytest.mark.parametrize("account", ["netting", "hedging"])
def test_random_accounts_come_back_from_their_deals(account):
    """Sizes that follow equity, reversals, stops, stop-outs: each deal is there, and each trade again."""
    enlarged = 0
    for seed in range(24):
        market, plan, broker = random_account(seed, account=account)
        run = run_plan(market, plan, broker)
        trades, equity = trades_frame(run, market, broker.lot_units, plan.reasons), equity_frame(run, market)
        if not len(trades):
            continue
        opened = None if account == "hedging" else timed(enlargements(trades, equity), 240.0, market.close_only)
        entered, left = fill_times(trades, 240.0, market.close_only)
        filled = trades.assign(entry_time=entered, exit_time=left)
        deals = deals_of(filled, "EURUSD", broker.deposit, account == "netting", opened)
        assert len(deals) - 1 == run.deals, seed
        back, still_open = closed_trades(deals.iloc[1:], account == "netting")
        assert len(still_open) == 0
        order = ["exit_time", "entry_time", "direction", "lots", "net"]
        ours = filled.rename(columns={"net_profit": "net"}).sort_values(order, ignore_index=True)
        back = back.sort_values(order, ignore_index=True)
        for name in ("direction", "lots", "entry_price", "exit_price"):
            np.testing.assert_allclose(back[name], ours[name], rtol=1e-7, err_msg=f"{name} {seed}")
        assert back["net"].sum() == pytest.approx(run.equity[-1] - broker.deposit, abs=0.01)
        enlarged += (
            0 if opened is None else len(opened) - filled[["entry_time", "direction"]].drop_duplicates().shape[0]
        )
    assert account == "hedging" or enlarged > 20


def hedged(*exits):
    """Two tickets of 0.3 lots at 1.10 and 1.11, once a lone one has told what a move is worth; exits by price, lots."""
    rows = [
        ("buy", "in", 0.1, 1.10, 0.0), ("sell", "out", 0.1, 1.12, 200.0),
        ("buy", "in", 0.3, 1.10, 0.0), ("buy", "in", 0.3, 1.11, 0.0),
        *(("sell", "out", lots, price, profit) for lots, price, profit in exits),
    ]  # fmt: skip
    names = ("type", "direction", "volume", "price", "profit")
    frame = pd.DataFrame(rows, columns=names).assign(commission=0.0, swap=0.0, comment="")
    return frame.assign(deal=range(2, len(frame) + 2), time=pd.date_range("2021-03-01", periods=len(frame), freq="h"))


def test_the_profit_of_a_deal_tells_which_ticket_it_closes():
    """0.1 lots at 1.13 gain 200 from 1.11 and 300 from 1.10: the younger ticket is reduced first."""
    deals = hedged((0.1, 1.13, 200.0), (0.3, 1.13, 900.0), (0.2, 1.13, 400.0))
    trades, still_open = closed_trades(deals, netting=False)
    assert trades["entry_price"].tolist() == [1.10, 1.11, 1.10, 1.11]
    assert len(still_open) == 0
    named, _ = closed_trades(deals.assign(position=["a", "a", "b", "c", "b", "b", "c"]).iloc[:5], netting=False)
    assert named["entry_price"].tolist() == [1.10, 1.10]  # what a deal names goes before what its profit tells
