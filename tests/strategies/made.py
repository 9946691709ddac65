"""Small bars and forecasts, built by rule or by hand."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from forecasting.bars import Bars, Instrument
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts

HOUR = np.timedelta64(3_600_000_000_000, "ns")
START = np.datetime64("2021-03-01T00:00", "ns")


@dataclass(frozen=True)
class EveryHour:
    """A market that never closes."""

    timezone: str = "UTC"

    def following(self, cutoff, count):
        return cutoff + HOUR * np.arange(1, count + 1)

    def following_many(self, cutoffs, count):
        return cutoffs[:, None] + HOUR * np.arange(1, count + 1)

    def between(self, first, last):
        return np.arange(first, last + HOUR, HOUR)


def make_bars(closes, opens=None, spread=10.0, *, close_only=False, digits=5, symbol="EURUSD"):
    """Hourly bars; without opens, a close-only series. `spread` in points, one for all or one a bar."""
    closes = np.asarray(closes, np.float64)
    close_only = close_only or opens is None
    opens = closes if close_only else np.asarray(opens, np.float64)
    times = START + HOUR * np.arange(1, len(closes) + 1)
    frame = pd.DataFrame(
        {
            "open": opens,
            "high": np.maximum(opens, closes),
            "low": np.minimum(opens, closes),
            "close": closes,
            "volume": 0.0,
            "spread": spread,
        },
        index=pd.DatetimeIndex(times, name="time").tz_localize("UTC"),
    )
    instrument = Instrument(symbol, symbol[:3], symbol[3:], digits, "H1", "made", "0" * 64, close_only)
    return Bars(frame, instrument, EveryHour())


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
