"""Sources of prices become checked bars: a table indexed by UTC close time, with the instrument's facts beside it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from forecasting.calendars import SessionCalendar

COLUMNS = ("open", "high", "low", "close", "volume", "spread")


@dataclass(frozen=True)
class Instrument:
    """Facts about a series that do not change from bar to bar.

    `point` is the price of one point (10 ** -digits); `timeframe` is MetaTrader's name of the bar length ("H1", "D1");
    a `close_only` source has open = high = low = close, so an order can only fill at the *next* close.
    """

    symbol: str
    base: str
    quote: str
    digits: int
    timeframe: str
    source: str
    sha256: str
    close_only: bool

    @property
    def point(self) -> float:
        """Price of one point."""
        return float(10.0**-self.digits)

    @property
    def unique_id(self) -> str:
        """Name of the series in tables and folders, such as `EURUSD-D1`."""
        return f"{self.symbol}-{self.timeframe}"


@dataclass(frozen=True)
class Bars:
    """Checked bars.

    `frame` is indexed by UTC close time (`DatetimeIndex`, nanoseconds, strictly increasing, named `time`) with float64 columns
    open, high, low, close (prices), volume (ticks) and spread (points; NaN where unknown).
    """

    frame: pd.DataFrame
    instrument: Instrument
    calendar: SessionCalendar

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def closes(self) -> np.ndarray:
        """Closing prices, float64 [T]."""
        return self.frame["close"].to_numpy(np.float64)

    @property
    def times(self) -> np.ndarray:
        """Close times, datetime64[ns] in UTC, [T]."""
        return self.frame.index.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[ns]")
