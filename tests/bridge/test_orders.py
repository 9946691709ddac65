"""The Expert Advisor's orders in the simulated terminal against Backtrader's account, trade for trade."""

import numpy as np
import pytest
from scripted import HOUR, TRADING, market_file
from simulated import built, ran

from bridge.terminal.build import EXPERT
from strategies.broker import run_plan
from strategies.contract import BrokerRules
from strategies.market import Market
from strategies.plan import Plan

COUNT = 600
START = 1_704_067_200
INPUTS = {
    **TRADING, "InpStopAlways": False, "InpFridayClose": "", "InpMaxAge": 0, "InpMaxSpread": 0, "InpDailyLoss": 0,
    "InpMaxLots": 0, "InpMaxPositions": 0,
}  # fmt: skip


def random_market(rng):
    """Bars whose opens jump now and then, with a spread of their own."""
    point = 1e-5
    closes = 110_000 + np.cumsum(rng.integers(-60, 61, COUNT))
    opens = np.r_[110_000, closes[:-1]] + rng.integers(-15, 16, COUNT) * (rng.random(COUNT) < 0.3)
    highs, lows = (
        np.maximum(opens, closes) + rng.integers(0, 30, COUNT),
        np.minimum(opens, closes) - rng.integers(0, 30, COUNT),
    )
    open_, high, low, close = (np.round(values * point, 5) for values in (opens, highs, lows, closes))
    none = np.zeros(COUNT)
    times = (START + HOUR * np.arange(1, COUNT + 1)).astype("datetime64[s]").astype("datetime64[ns]")
    return Market(
        times=times, open=open_, high=high, low=low, close=close, spread=rng.integers(2, 20, COUNT) * point,
        slippage=rng.integers(0, 4, COUNT) * point, nights=none.astype(np.int64), nights_end=0,
        conversion=np.ones(COUNT),
        finer=np.array([open_, high, low]), begin=np.arange(COUNT + 1), point=point, close_only=False,
    )  # fmt: skip


def random_plan(rng, market, resize, distance):
    side = np.repeat(rng.integers(-1, 2, COUNT), rng.integers(1, 6, COUNT))[:COUNT].astype(np.int8)
    away = rng.integers(20, 200, COUNT) * market.point
    leaves = np.where(side > 0, market.close, market.close + market.spread)
    stop = np.where(rng.random(COUNT) < 0.6, np.round(leaves - side * away, 5), np.nan)
    profit = np.where(rng.random(COUNT) < 0.4, np.round(leaves + side * 2 * away, 5), np.nan)
    trailing = np.full(COUNT, distance)
    lots = np.round(rng.integers(1, 40, COUNT) * 0.01, 2)
    return Plan(
        side=side, lots=lots, lots_per_money=np.zeros(COUNT), stop=stop, take_profit=profit, trailing=trailing,
        entry=np.ones(COUNT, bool), decided=np.arange(COUNT), resize=resize, reasons=("",) * COUNT,
    )  # fmt: skip


def targets(market, plan):
    lines = ["tunetrade-targets 1 EURUSD-H1", "bar,close,position,lots,stop,take_profit,trailing,resize,expiry,reason"]
    for t in range(COUNT):
        levels = [
            0.0 if np.isnan(values[t]) else float(values[t]) for values in (plan.stop, plan.take_profit, plan.trailing)
        ]
        row = [
            START + HOUR * t,
            float(market.close[t]),
            int(plan.side[t]),
            float(plan.lots[t]),
            *levels,
            int(plan.resize),
        ]
        lines.append(",".join(map(repr, [*row, START + HOUR * (t + 100)])) + ",")
    return "\n".join(lines) + "\n"


def trades_of(deals):
    """Entry bar, exit bar, signed lots and both prices of every closed part, from deals in order."""
    held, trades = {}, []
    for deal in deals:
        key, bar, side, lots, price = (deal[name] for name in ("position", "bar", "side", "lots", "price"))
        if deal["entry"] == 0 and key in held:
            before, had, average = held[key]
            held[key] = [before, had + side * lots, (average * abs(had) + price * lots) / (abs(had) + lots)]
        elif deal["entry"] == 0:
            held[key] = [bar, side * lots, price]
        else:
            before, had, average = held.pop(key)
            closing = min(lots, abs(had))
            trades.append([float(before), float(bar), -side * closing, average, price])
            if abs(had) - closing > 1e-9:
                held[key] = [before, had + side * closing, average]
            elif deal["entry"] == 2:
                held[key] = [bar, side * (lots - closing), price]
    assert not held
    return sorted(trades)


@pytest.mark.parametrize("account", ["hedging", "netting"])
@pytest.mark.parametrize(("resize", "distance"), [(False, np.nan), (True, 0.0008)])
def test_orders_of_the_expert_are_those_of_the_backtest(tmp_path, account, resize, distance):
    rng = np.random.default_rng([len(account), resize])
    market = random_market(rng)
    plan = random_plan(rng, market, resize, distance)
    broker = BrokerRules(account=account, deposit=100_000.0, commission_per_lot=3.5)
    wanted = run_plan(market, plan, broker)
    (tmp_path / "common" / "TuneTrade").mkdir(parents=True)
    (tmp_path / "common" / "TuneTrade" / "EURUSD-H1.csv").write_text(targets(market, plan))
    columns = (market.open, market.high, market.low, market.close, market.spread / market.point)
    rows = [
        (START + HOUR * t, *(float(c[t]) for c in columns), 1, float(market.slippage[t] / market.point))
        for t in range(COUNT)
    ]
    settings = {"hedging": int(account == "hedging"), "balance": 100_000, "commission": 3.5}
    path = market_file(tmp_path / "market", rows, 1, **settings)
    journal = ran(built(EXPERT), INPUTS, {"MARKET": path, "FILES": tmp_path, "IN_TESTER": 1})
    got = trades_of(journal.deals)
    names = ("entry_bar", "exit_bar", "units", "entry_price", "exit_price")
    expected = sorted([*map(float, row[:2]), row[2] / 1e5, *row[3:]] for row in wanted.trades[list(names)].tolist())
    assert len(got) > 100
    assert [row[:2] for row in got] == [row[:2] for row in expected]
    assert np.abs(np.array(got) - np.array(expected)).max() < 1e-9
    assert journal.end["balance"] == pytest.approx(float(wanted.balance[-1]), abs=0.01)
