"""What bars must satisfy before anything is computed from them; every failure names file, line and cure."""

from dataclasses import replace

import numpy as np

from forecasting.calendars import FxWeek, SessionCalendar
from forecasting.errors import DataError
from forecasting.sources.table import PRICES, Table
from forecasting.zones import US_DST, stamps_to_utc

OFF_CALENDAR = 0.005
"""Share of bars outside trading hours above which the clock of the stamps must be wrong: an hour off shows as 1/120."""

CLOCKS = (US_DST, "UTC", "Europe/Helsinki", "+02:00", "+03:00", "-05:00", "America/New_York", "Europe/London", "+01:00")


def check_prices(table: Table) -> None:
    """Every price is a finite number above zero, and high and low enclose open and close."""
    for name in PRICES:
        values = table.columns[name].to_numpy()
        _refuse(table, ~np.isfinite(values), f"{name} is infinite")
        _refuse(table, values <= 0, f"{name} is not above zero")
    opened, high, low, close = (table.columns[name].to_numpy() for name in PRICES)
    _refuse(table, high < np.maximum(opened, close), "high is below open or close")
    _refuse(table, low > np.minimum(opened, close), "low is above open or close")
    _refuse(table, table.columns["spread"].to_numpy() < 0, "spread is negative")


def check_order(table: Table, times: np.ndarray) -> None:
    """Stamps rise from line to line: datetime64[ns] UTC [T]."""
    steps = np.diff(times)
    back = np.flatnonzero(steps <= np.timedelta64(0, "ns"))
    if not len(back):
        return
    row = int(back[0]) + 1
    before = f"{table.unit} {table.lines[row - 1]}"
    if steps[row - 1] == np.timedelta64(0, "ns"):
        problem = f"repeats the stamp of {before} ({table.stamps[row].astype('datetime64[s]')}); delete one of them"
    elif (steps < np.timedelta64(0, "ns")).all():
        problem = f"is earlier than {before}: the newest bar comes first; sort the file by time"
    else:
        problem = f"is earlier than {before}; sort the file by time"
    raise DataError(f"{table.path.name}, {table.unit} {table.lines[row]} {problem}")


def check_exists(table: Table, opens: np.ndarray, zone: str) -> None:
    """Every stamp exists on the server's clock, which skips an hour when summer time begins (NaT marks those)."""
    skipped = np.flatnonzero(np.isnat(opens))
    if len(skipped):
        stamp = table.stamps[skipped[0]].astype("datetime64[s]")
        raise table.error(int(skipped[0]), f"{stamp} does not exist on the clock {zone}; give the right --server-tz")


def check_hours(table: Table, closes: np.ndarray, calendar: SessionCalendar, zone: str) -> None:
    """Few bars lie outside the market's hours; many mean that stamps were read on the wrong clock."""
    # Some brokers quote on holidays: that says nothing of the clock.
    hours = replace(calendar, holidays=False) if isinstance(calendar, FxWeek) else calendar
    off = off_calendar(closes, hours)
    if off.sum() <= max(OFF_CALENDAR * len(off), 2):
        return
    row = int(np.flatnonzero(off)[0])
    stamp = table.stamps[row].astype("datetime64[s]")
    problem = f"{stamp} read on the clock {zone} is outside the market's hours, as are {off.mean():.1%} of the bars"
    raise table.error(row, f"{problem}; {_cure(table, calendar, zone)}")


def off_calendar(closes: np.ndarray, calendar: SessionCalendar) -> np.ndarray:
    """Which closes the calendar does not have: datetime64[ns] [T] -> bool [T]."""
    return ~np.isin(closes, calendar.between(closes.min(), closes.max()))


def _cure(table: Table, calendar: SessionCalendar, zone: str) -> str:
    """The clock on which (nearly) all stamps fall into the market's week, if one does."""
    if not isinstance(calendar, FxWeek):
        return "give another --calendar"
    if not table.zoned:
        share = {clock: _outside_week(stamps_to_utc(table.stamps, clock)) for clock in CLOCKS if clock != zone}
        best = min(share, key=lambda clock: share[clock])
        if share[best] <= OFF_CALENDAR:
            return f"--server-tz {best} fits"
    weekday = (table.stamps.astype("datetime64[D]").astype(np.int64) + 3) % 7
    if (weekday == 5).mean() > 0.1:
        return "for a market that trades at weekends give --calendar round-the-clock"
    return "give the right --server-tz, --timeframe or --calendar"


def _outside_week(opens: np.ndarray) -> float:
    """Share of instants at which foreign exchange is closed."""
    opens = opens[~np.isnat(opens)]
    if not len(opens):
        return 1.0
    closes = FxWeek("H1", "UTC").between(opens.min(), opens.max() + np.timedelta64(1, "h"))
    hours = opens.astype("datetime64[h]").astype("datetime64[ns]") + np.timedelta64(1, "h")
    return float(1 - np.isin(hours, closes).mean())


def _refuse(table: Table, bad: np.ndarray, problem: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        count = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise table.error(int(rows[0]), f"{problem}{count}; correct or delete that {table.unit}")
