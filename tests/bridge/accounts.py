"""Random accounts for both the Expert Advisor and Backtrader: markets in whole points, plans, brokers."""

import numpy as np
import pandas as pd
from simulated import built, ran

from bridge.terminal.build import EXPERT
from forecasting.bars import Bars, Instrument
from forecasting.calendars import RoundTheClock
from strategies.broker import run_plan
from strategies.contract import BrokerRules
from strategies.market import Market
from strategies.plan import Plan
from strategies.targets import targets_text
from tunetrade.replay_market import Clock, market_text, trades_of_deals

HOUR = 3600
START = 1_704_067_200
POINT = 1e-5
PARITY = {
    "InpDryRun": False, "InpClock": 2, "InpStopAlways": False, "InpFridayClose": "", "InpMaxAge": 0, "InpMaxSpread": 0,
    "InpDailyLoss": 0, "InpMaxLots": 0, "InpMaxPositions": 0,
}  # fmt: skip


def in_points(values):
    return np.round(values) / 1e5


def random_market(rng, count):
    """Bars whose opens jump now and then, some of several finer ones, with a spread of their own; some are fixings."""
    close_only, pieces = rng.random() < 0.15, int(rng.choice([1, 1, 3]))
    path = 110_000 + np.cumsum(rng.integers(-40, 41, (count, pieces * 3)).ravel()).reshape(count, pieces, 3)
    path = path + (np.cumsum(rng.integers(-300, 301, count) * (rng.random(count) < 0.15)))[:, None, None]
    close = path[:, -1, 2]
    open_, high, low = path[:, 0, 0], path.max((1, 2)), path.min((1, 2))
    finer = path[:, :, 0].ravel(), path.max(2).ravel(), path.min(2).ravel()
    if close_only:
        open_ = high = low = close
        finer, pieces = (close,) * 3, 1
    times = (START + HOUR * np.arange(1, count + 1)).astype("datetime64[s]").astype("datetime64[ns]")
    prices = {
        name: in_points(values) for name, values in (("open", open_), ("high", high), ("low", low), ("close", close))
    }
    conversion = np.ones(count) if rng.random() < 0.5 else 0.9 * np.exp(np.cumsum(rng.normal(0, 0.002, count)))
    return Market(
        times=times, **prices, spread=rng.integers(0, 20, count) * POINT * (rng.random() < 0.9),
        slippage=rng.uniform(0, 4, count) * POINT * (rng.random() < 0.5),
        nights=rng.choice([0, 0, 0, 1, 3], count) * (np.arange(count) > 0), nights_end=int(rng.integers(0, 2)),
        conversion=conversion, finer=np.array([in_points(values) for values in finer]),
        begin=np.arange(count + 1) * pieces, point=POINT, close_only=bool(close_only),
    )  # fmt: skip


def random_broker(rng):
    """From ample deposits to ones that margin and stop-out bind."""
    return BrokerRules(
        account=str(rng.choice(["hedging", "netting"])),
        deposit=float(np.round(10 ** rng.uniform(2.5, 5.0), 2)),
        commission_per_lot=float(rng.choice([0, 3.5])),
        leverage=float(rng.choice([30, 100, 500])),
        stop_out=float(rng.choice([0.2, 0.5, 0.9])),
        swap_long=float(rng.choice([0, -7.5])),
        swap_short=float(rng.choice([0, 2.5])),
        lot_min=float(rng.choice([0.01, 0.03])),
        lot_max=float(rng.choice([100, 0.6])),
    )


def random_plan(rng, market, broker):
    """Sides that last, stops and profits near and far, some on the wrong side, trailing distances of their own."""
    count = len(market)
    side = np.repeat(rng.integers(-1, 2, count), rng.integers(1, 6, count))[:count].astype(np.int8)
    away = rng.integers(5, 200, (2, count)) * POINT * np.where(rng.random((2, count)) < 0.05, -1, 1)
    leaves = np.where(side > 0, market.close, market.close + market.spread)
    some = rng.random((3, count)) < rng.choice([0.0, 0.6], (3, 1))
    stop = np.where(some[0], in_points((leaves - side * away[0]) * 1e5), np.nan)
    profit = np.where(some[1], in_points((leaves + side * 2 * away[1]) * 1e5), np.nan)
    trailing = np.where(some[2], in_points(rng.integers(20, 150, count)), np.nan)
    follows = rng.random() < 0.4
    every = int(rng.choice([1, 1, 1, 4]))
    return Plan(
        side=side,
        lots=np.zeros(count) if follows else np.round(rng.integers(1, 60, count) * 0.01, 2),
        lots_per_money=rng.uniform(0, 3, count) / broker.deposit * 0.2 if follows else np.zeros(count),
        stop=stop, take_profit=profit, trailing=trailing,
        entry=rng.random(count) < rng.choice([0.8, 1.0]), decided=np.arange(count) // every * every,
        resize=bool(rng.random() < 0.6), reasons=("",) * count,
    )  # fmt: skip


def bars_of(market):
    columns = {name: getattr(market, name) for name in ("open", "high", "low", "close")}
    frame = pd.DataFrame({**columns, "volume": 0.0, "spread": 0.0}, index=pd.DatetimeIndex(market.times, tz="UTC"))
    facts = Instrument("EURUSD", "EUR", "USD", 5, "H1", "made", "0" * 64, market.close_only)
    return Bars(frame, facts, RoundTheClock("H1"))


def expert_trades(folder, market, plan, broker, inputs=None):
    """Trades of the Expert Advisor in the tester that reads the plan as a file, and its journal."""
    opens = START + HOUR * np.arange(len(market))
    clock = Clock(opens, ((START, 0),), 2)
    (folder / "common" / "TuneTrade").mkdir(parents=True)
    text = targets_text("EURUSD-H1", opens, market.close, plan, opens + 100 * HOUR, broker.lot_max)
    (folder / "common" / "TuneTrade" / "EURUSD-H1.csv").write_text(text)
    (folder / "market").write_text(market_text(bars_of(market), market, clock, broker, "USD"))
    terminal = {"MARKET": folder / "market", "FILES": folder, "IN_TESTER": 1}
    journal = ran(built(EXPERT), {**PARITY, **(inputs or {})}, terminal)
    return trades_of_deals(journal.deals), journal


def row_of(trade):
    return [trade.entry_bar, trade.exit_bar, trade.lots, trade.entry_price, trade.exit_price, trade.net]


def backtest_rows(run, broker):
    rows = [
        [int(t.entry_bar), int(t.exit_bar), t.units / broker.lot_units, t.entry_price, t.exit_price,
         t.result - t.commission + t.swap]
        for t in run.trades
    ]  # fmt: skip
    return sorted(rows)


def compared(seed, folder, count=300):
    """The rows of both, of one random account."""
    rng = np.random.default_rng(seed)
    market, broker = random_market(rng, count), random_broker(rng)
    plan = random_plan(rng, market, broker)
    run = run_plan(market, plan, broker)
    trades, journal = expert_trades(folder, market, plan, broker)
    return sorted(map(row_of, trades)), backtest_rows(run, broker), journal, run
