"""Backtests: our Backtrader run, the fast twin, and other engines on the same orders and data.

    python -m benchmarks.backtest [--quick] [--json]

Random walks of hourly bars; a side that lasts 10 bars on average; fixed lots. (a) A bare Backtrader strategy that gives
the same orders, on PandasData with Backtrader's own broker, beside our feed, broker and account. (b) Loading alone:
both feeds are preloaded. (c) The twin on 1 M bars; Backtrader's rate, which does not depend on length, is measured on
fewer. (d) Trading rules of all signals, sizes, stops and profits on 100,000 bars with a forecast of 5 steps at each, by
`strategies.search` as `tunetrade optimize` trades them, in as many threads as there are cores; in a process of its own
for its memory; `--quick` runs 200 of them and scales. (e) backtesting.py and vectorbt on
the same orders, compared before anything is timed: every trade is equal in bars, units, prices and result, but those
still open at the end, which they close elsewhere. No spread and no commission there, since backtesting.py charges a
relative spread and neither knows lots.
"""

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from statistics import NormalDist
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from benchmarks.bench import Job, race, seconds
from benchmarks.claims import Claim, main
from forecasting.bars import Bars, Instrument
from forecasting.calendars import RoundTheClock
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from strategies.broker import feed_of, run_plan
from strategies.contract import BrokerRules
from strategies.market import Market
from strategies.plan import Plan, plain_plan
from strategies.rules import TradingRules
from strategies.search import prepared, traded
from strategies.signals import SIGNALS
from strategies.sizing import SIZINGS
from strategies.twin import simulate

MEBIBYTE, MILLION = 2**20, 1_000_000
HOUR = np.timedelta64(3_600_000_000_000, "ns")
LOTS, UNITS = 0.1, 10_000
CONTEXT, HORIZON = 64, 5
FREE = BrokerRules(deposit=1e6, spread_points=0.0, leverage=1_000.0)
COSTLY = BrokerRules(deposit=1e6, commission_per_lot=3.5)


def made_market(count: int, *, spread: float = 1e-4) -> Market:
    """Hourly bars of a random walk whose opens are near the closes before; seed 0."""
    rng = np.random.default_rng(0)
    closes = 1.2 * np.exp(np.cumsum(rng.normal(0, 2e-4, count)))
    opens = np.concatenate([closes[:1], closes[:-1]]) * np.exp(rng.normal(0, 2e-5, count))
    high = np.maximum(opens, closes) * np.exp(np.abs(rng.normal(0, 1e-4, count)))
    low = np.minimum(opens, closes) * np.exp(-np.abs(rng.normal(0, 1e-4, count)))
    return Market(
        times=np.datetime64("2000-01-01", "ns") + HOUR * np.arange(1, count + 1),
        open=opens,
        high=high,
        low=low,
        close=closes,
        spread=np.full(count, spread),
        slippage=np.zeros(count),
        nights=np.where(np.arange(count) % 24 == 22, 1, 0),
        nights_end=0,
        conversion=np.ones(count),
        finer=np.array([opens, high, low]),
        begin=np.arange(count + 1),
        point=1e-5,
        close_only=False,
    )


def made_plan(count: int) -> Plan:
    """Flat at first, then long, short or flat, each for about 10 bars; seed 1."""
    rng = np.random.default_rng(1)
    changes = rng.random(count) < 0.1
    sides = rng.integers(-1, 2, count)[np.maximum.accumulate(np.where(changes, np.arange(count), 0))]
    sides[0] = 0  # backtesting.py decides nothing at the first close
    return plain_plan(sides, LOTS)


def frame_of(market: Market) -> pd.DataFrame:
    """Bars as Backtrader and backtesting.py are given them."""
    columns = {name.capitalize(): getattr(market, name) for name in ("open", "high", "low", "close")}
    return pd.DataFrame(columns | {"Volume": 0.0}, index=pd.DatetimeIndex(market.times))


class Bare(bt.Strategy):
    """The same orders in Backtrader's own terms, as its documentation writes them."""

    params = (("sides", None),)

    def next(self) -> None:
        """Close and open where the side wanted changes."""
        wanted, held = self.p.sides[len(self) - 1], self.position.size
        if np.sign(held) == wanted:
            return
        if held:
            self.close()
        if wanted > 0:
            self.buy(size=UNITS)
        elif wanted < 0:
            self.sell(size=UNITS)


def run_bare(frame: pd.DataFrame, sides: list[int]) -> float:
    """Stock Backtrader; the value at the end."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker.setcash(1e6)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.addstrategy(Bare, sides=sides)
    cerebro.run()
    return float(cerebro.broker.getvalue())


def loaded(feed: Any) -> int:
    """Fill a feed's lines as Cerebro does; the bars in it."""
    bt.Cerebro().adddata(feed)
    feed.reset()
    feed._start()
    feed.preload()
    return len(feed.lines.close.array)


def engines(quick: bool) -> dict[str, Claim]:
    """(a) to (c)."""
    count, many = (5_000, 100_000) if quick else (50_000, MILLION)
    market, plan = made_market(count), made_plan(count)
    frame, sides = frame_of(market), plan.side.tolist()
    rates = race(
        {
            "ours": Job(lambda: run_plan(market, plan, COSTLY), count),
            "bare": Job(lambda: run_bare(frame, sides), count),
        },
        rounds=2 if quick else 3,
    )
    large = made_market(many)
    pandas_frame = frame_of(large)
    feeds = race(
        {
            "ours": Job(lambda: loaded(feed_of(large)), many),
            "pandas": Job(lambda: loaded(bt.feeds.PandasData(dataname=pandas_frame)), many),
        },
        rounds=1,
    )
    large, long_plan = made_market(MILLION), made_plan(MILLION)
    twin = race({"twin": Job(lambda: simulate(large, long_plan, COSTLY), MILLION)}, rounds=5).median("twin")
    ours, bare = rates.median("ours"), rates.median("bare")
    return {
        "bars/s of our Backtrader run over a bare one": Claim(rates.ratio("ours", "bare"), "x", 0.8),
        f"loading {many:,} bars, over PandasData": Claim(feeds.ratio("ours", "pandas"), "x", 5),
        "bars/s of the twin over our Backtrader run": Claim(twin / ours, "x", 200),
        "bars/s of the twin over a bare Backtrader run": Claim(twin / bare, "x"),
        "Backtrader, ours": Claim(ours, "bars/s"),
        "twin": Claim(twin, "bars/s"),
    }


def made_bars(count: int) -> Bars:
    """`made_market` as bars."""
    market = made_market(count)
    columns = {name: getattr(market, name) for name in ("open", "high", "low", "close")}
    times = pd.DatetimeIndex(market.times, name="time").tz_localize("UTC")
    frame = pd.DataFrame(columns | {"volume": 0.0, "spread": 10.0}, index=times)
    return Bars(frame, Instrument("EURUSD", "EUR", "USD", 5, "H1", "made", "0" * 64, False), RoundTheClock("H1"))


def made_forecasts(bars: Bars) -> Forecasts:
    """At every bar that has its context and its horizon: means that change slowly, in a cone; seed 2."""
    rng, where = np.random.default_rng(2), np.arange(CONTEXT - 1, len(bars) - HORIZON)
    count, steps = len(where), np.sqrt(np.arange(1, HORIZON + 1))
    moves = np.convolve(rng.normal(0, 4e-4, count + 9), np.full(10, 10**-0.5), "valid")[:, None]
    mean = bars.closes[where, None] * (1 + moves * steps)
    scores = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])
    return Forecasts(
        unique_id=bars.instrument.unique_id,
        cutoff=bars.times[where],
        ds=bars.times[where][:, None] + HOUR * np.arange(1, HORIZON + 1),
        anchor=bars.closes[where],
        sigma=np.full(count, 2e-4),
        mean=mean,
        mean_se=np.full(mean.shape, 1e-5),
        quantiles=mean[:, None] + scores[:, None] * 2.4e-4 * steps,
        p_up=0.5 + 0.4 * np.tanh(2e3 * moves / steps),
        p_up_se=np.full(mean.shape, 0.01),
        input_sha=np.full(count, "0"),
    )


def made_rules(count: int) -> list[TradingRules]:
    """Signals, thresholds, sizes, stops and profits at random; seed 3."""
    rng = np.random.default_rng(3)

    def exit_at(share: float, quantile: float) -> str:
        if rng.random() > share:
            return ""
        return str(
            rng.choice([f"atr:{rng.uniform(1, 8):.3f}", f"points:{rng.uniform(40, 200):.0f}", f"quantile:{quantile}"])
        )

    return [
        TradingRules(
            signal=str(rng.choice(list(SIGNALS))),
            threshold_k=rng.uniform(0, 5),
            probability_margin=rng.uniform(0, 0.3),
            sizing=str(rng.choice(SIZINGS)),
            lots=LOTS,
            risk_percent=rng.uniform(0.1, 2),
            stop=exit_at(1.0, 0.05),
            take_profit=exit_at(0.5, 0.95),
            trailing=str(rng.choice(["", "", "atr:2.5", "points:70"])),
            expiry_bars=int(rng.integers(0, HORIZON + 1)),
            resize=bool(rng.random() < 0.3),
        )
        for _ in range(count)
    ]


def searched(count: int, settings: int) -> tuple[float, float]:
    """Seconds of a search, what its rules share included, and MiB that the process holds at most."""
    from benchmarks.growth import highest_memory

    bars, few, rules = made_bars(count), made_bars(200), made_rules(settings)
    forecasts = made_forecasts(bars)
    traded(prepared(few, made_forecasts(few), COSTLY, context=CONTEXT), rules[:1])  # compiles
    with highest_memory() as seen:
        taken = seconds(lambda: traded(prepared(bars, forecasts, COSTLY, context=CONTEXT), rules))
    return taken, max(seen) / MEBIBYTE


def search(quick: bool) -> dict[str, Claim]:
    """(d)."""
    settings = 200 if quick else 10_000
    call = f"import json; from benchmarks.backtest import searched; print(json.dumps(searched(100_000, {settings})))"
    done = subprocess.run([sys.executable, "-c", call], check=True, capture_output=True, text=True).stdout
    taken, memory = json.loads(done)
    scaled = f", from {settings:,}" if quick else ""
    return {
        f"10,000 trading rules on 100,000 bars{scaled}": Claim(taken * 10_000 / settings / 60, "min", 5, at_most=True),
        "memory of the search, the libraries' included": Claim(memory, "MiB", 2_048, at_most=True),
    }


def run_backtesting(frame: pd.DataFrame, sides: np.ndarray) -> pd.DataFrame:
    """backtesting.py with the same orders; its trades."""
    from backtesting import Backtest, Strategy

    class Follow(Strategy):
        """Close and open where the side wanted changes."""

        def init(self) -> None:
            """Nothing to prepare."""

        def next(self) -> None:
            """Decide at this close."""
            wanted, held = sides[len(self.data) - 1], np.sign(self.position.size)
            if held == wanted:
                return
            self.position.close()
            if wanted > 0:
                self.buy(size=UNITS)
            elif wanted < 0:
                self.sell(size=UNITS)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that trades are open at the end
        found = Backtest(frame, Follow, cash=1e6, margin=1e-3).run()["_trades"]
    names = {"EntryBar": "entry_bar", "ExitBar": "exit_bar", "EntryPrice": "entry_price", "ExitPrice": "exit_price"}
    return found.rename(columns={**names, "Size": "units", "PnL": "result"}).sort_values("entry_bar")


def run_vectorbt(frame: pd.DataFrame, sides: np.ndarray) -> pd.DataFrame:
    """Trades of vectorbt: the units decided a bar ago are its target at each open."""
    import vectorbt as vbt

    wanted = np.concatenate([[0.0], sides[:-1] * float(UNITS)])
    run = vbt.Portfolio.from_orders(
        frame["Close"], size=wanted, size_type="targetamount", price=frame["Open"], init_cash=FREE.deposit, freq="1h"
    )
    found = run.trades.records
    signed = found["size"] * np.where(found["direction"], -1, 1)
    return found.assign(units=signed).rename(
        columns={"entry_idx": "entry_bar", "exit_idx": "exit_bar", "pnl": "result"}
    )


PEERS = {"backtesting.py": run_backtesting} | ({"vectorbt": run_vectorbt} if find_spec("vectorbt") else {})
"""Ways of others to run the orders; vectorbt where `pip install -e .[bench]` brought it."""


def compare(market: Market, plan: Plan) -> None:
    """AssertionError where others' trades differ from the twin's."""
    frame, run = frame_of(market), simulate(market, plan, FREE)
    whole = run.trades[run.trades.exit_bar < len(market) - 1]
    for way in PEERS.values():
        theirs = way(frame, plan.side)[: len(whole)]
        for name in ("units", "entry_bar", "exit_bar", "entry_price", "exit_price"):
            assert whole[name].tolist() == theirs[name].tolist(), name
        np.testing.assert_allclose(whole.result, theirs["result"], rtol=1e-9, atol=1e-6)


def peers(quick: bool) -> dict[str, Claim]:
    """(e)."""
    count = 5_000 if quick else 50_000
    market, plan = made_market(count), made_plan(count)
    frame, free = frame_of(market), replace(market, spread=np.zeros(count))
    compare(free, plan)
    rates = race(
        {
            "twin": Job(lambda: simulate(free, plan, FREE), count),
            "Backtrader": Job(lambda: run_plan(free, plan, FREE), count),
            **{name: Job(partial(way, frame, plan.side), count) for name, way in PEERS.items()},
        },
        rounds=3,
    )
    return {
        f"bars/s of {what} over {name}": Claim(rates.ratio(key, name), "x")
        for name in PEERS
        for key, what in (("twin", "the twin"), ("Backtrader", "our Backtrader run"))
    }


def measure(quick: bool = False) -> dict[str, Claim]:
    """All claims."""
    return engines(quick) | search(quick) | peers(quick)


if __name__ == "__main__":
    main(measure, __doc__)
