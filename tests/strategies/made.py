"""Small bars and forecasts, built by rule or by hand."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from forecasting.bars import Bars, Instrument
from forecasting.calendars import MINUTES
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from strategies.contract import BrokerRules
from strategies.market import market_of
from strategies.plan import Plan

HOUR = np.timedelta64(3_600_000_000_000, "ns")
START = np.datetime64("2021-03-01T00:00", "ns")


@dataclass(frozen=True)
class EveryHour:
    """A market that never closes."""

    timezone: str = "UTC"
    timeframe: str = "H1"

    def following(self, cutoff, count):
        return cutoff + HOUR * np.arange(1, count + 1)

    def following_many(self, cutoffs, count):
        return cutoffs[:, None] + HOUR * np.arange(1, count + 1)

    def between(self, first, last):
        return np.arange(first, last + HOUR, HOUR)

    def starts(self, closes):
        return closes - np.timedelta64(MINUTES[self.timeframe] * 60_000_000_000, "ns")


def make_bars(
    closes, opens=None, spread=10.0, *, close_only=False, digits=5, symbol="EURUSD", highs=None, lows=None,
    start=START, timeframe="H1",
):  # fmt: skip
    """Bars from `start` on; without opens, a close-only series. `spread` in points, one for all or one a bar."""
    closes = np.asarray(closes, np.float64)
    close_only = close_only or opens is None
    opens = closes if close_only else np.asarray(opens, np.float64)
    times = start + np.timedelta64(MINUTES[timeframe] * 60_000_000_000, "ns") * np.arange(1, len(closes) + 1)
    frame = pd.DataFrame(
        {
            "open": opens,
            "high": np.maximum(opens, closes) if highs is None else np.asarray(highs, np.float64),
            "low": np.minimum(opens, closes) if lows is None else np.asarray(lows, np.float64),
            "close": closes,
            "volume": 0.0,
            "spread": spread,
        },
        index=pd.DatetimeIndex(times, name="time").tz_localize("UTC"),
    )
    instrument = Instrument(symbol, symbol[:3], symbol[3:], digits, timeframe, "made", "0" * 64, close_only)
    return Bars(frame, instrument, EveryHour(timeframe=timeframe))


def make_forecasts(bars, where, mean, mean_se=None):
    """Forecasts at bars `where` [N] with the given mean [N, H]; standard errors are 0 unless given."""
    where, mean = np.asarray(where), np.asarray(mean, np.float64)
    count, horizon = mean.shape
    return Forecasts(
        unique_id=bars.instrument.unique_id,
        cutoff=bars.times[where],
        ds=bars.calendar.following_many(bars.times[where], horizon),
        anchor=bars.closes[where],
        sigma=np.full(count, 1e-3),
        mean=mean,
        mean_se=np.zeros_like(mean) if mean_se is None else np.asarray(mean_se, np.float64),
        quantiles=np.repeat(mean[:, None, :], len(QUANTILE_LEVELS), axis=1),
        p_up=0.5 + 0.4 * np.tanh(200 * (mean / bars.closes[where, None] - 1)),
        p_up_se=np.zeros_like(mean),
        input_sha=np.full(count, "0"),
    )


def random_case(seed, length=60, horizon=3, *, close_only=False, price=1.1, digits=5):
    """Random bars with random spreads, and a forecast at every bar that has its context and its horizon."""
    rng = np.random.default_rng(seed)
    closes = price * np.exp(np.cumsum(rng.normal(0, 0.003, length)))
    opens = None if close_only else closes * np.exp(rng.normal(0, 0.001, length))
    bars = make_bars(
        closes, opens, rng.uniform(0, 30, length), digits=digits, symbol="USDJPY" if digits == 3 else "EURUSD"
    )
    where = np.arange(9, length - horizon)
    mean = closes[where, None] * np.exp(rng.normal(0, 0.003, (len(where), horizon)))
    error = price * rng.uniform(0, 0.002, mean.shape)
    error[:, 0] = 0
    return bars, make_forecasts(bars, where, mean, error)


def random_account(seed, length=80, **changes):
    """A market, a plan and a broker at random: gaps, finer bars, swaps, slippage, stops, sizes that follow equity.

    `changes` are given to BrokerRules; deposits are small enough for refusals and stop-outs to happen.
    """
    rng = np.random.default_rng(seed)
    close_only = rng.random() < 0.2
    finer = 1 if close_only else int(rng.integers(1, 5))
    walk = 1.1 * np.exp(np.cumsum(rng.normal(0, 0.003, length * finer)))
    opens = walk * np.exp(rng.normal(0, 0.0005, len(walk)))
    wick = np.abs(rng.normal(0, 0.001, (2, len(walk))))
    highs, lows = np.maximum(opens, walk) * (1 + wick[0]), np.minimum(opens, walk) * (1 - wick[1])
    rows = np.arange(0, len(walk), finer)
    closes = walk[finer - 1 :: finer]
    bars = make_bars(closes, None if close_only else opens[rows], rng.uniform(0, 40, length), timeframe="H4", **(
        {} if close_only else {"highs": np.maximum.reduceat(highs, rows), "lows": np.minimum.reduceat(lows, rows)}
    ))  # fmt: skip
    rates = make_bars(1.25 * np.exp(np.cumsum(rng.normal(0, 0.003, length))), symbol="GBPUSD", timeframe="H4")
    currency = str(rng.choice(["", "EUR", "GBP"]))
    broker = BrokerRules(**{
        "deposit": float(rng.choice([500.0, 5_000.0, 1e6])), "currency": currency, "spread_points": "data",
        "account": str(rng.choice(["netting", "hedging"])), "leverage": float(rng.choice([10.0, 30.0, 200.0])),
        "commission_per_lot": 3.5, "slippage_points": float(rng.choice([0.0, 3.0])), "swap_long": -7.0,
        "swap_short": 2.5, "margin_call": 2.0, "stop_out": float(rng.choice([0.2, 0.5])),
        "lot_step": float(rng.choice([0.01, 0.1])),
    } | changes)  # fmt: skip
    market = market_of(bars, broker, rates)
    if finer > 1:
        segments = np.stack([opens, highs, lows])
        market = replace(market, finer=segments, begin=np.arange(0, len(walk) + 1, finer))
    return market, random_plan(rng, market.close), broker


def random_plan(rng, closes):
    """Sides that last some bars, with sizes, stops, profits and trailing distances on some of them."""
    count = len(closes)
    starts = rng.random(count) < 0.3
    starts[0] = True
    decided = np.maximum.accumulate(np.where(starts, np.arange(count), 0))
    side = rng.integers(-1, 2, count)[decided]

    def distance(share):
        return (np.where(rng.random(count) < share, rng.uniform(0.002, 0.02, count), np.nan))[decided]

    return Plan(
        side=side.astype(np.int8),
        lots=rng.uniform(0, 0.3, count),
        lots_per_money=rng.uniform(0, 3e-5, count),
        stop=closes - side * distance(0.6),
        take_profit=closes + side * distance(0.6),
        trailing=distance(0.3),
        entry=rng.random(count) < 0.9,
        decided=decided,
        resize=bool(rng.random() < 0.5),
        reasons=("",) * count,
    )
