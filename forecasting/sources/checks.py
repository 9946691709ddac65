"""What bars must satisfy before anything is computed from them; every failure names file, line and cure."""

from dataclasses import replace

import numpy as np

from forecasting.calendars import FxWeek, SessionCalendar, close_times
from forecasting.errors import DataError
from forecasting.sources.table import PRICES, Table
from forecasting.zones import US_DST, stamps_to_utc

OFF_CALENDAR = 0.005
"""Share of bars outside trading hours above which the clock of the stamps must be wrong: an hour off shows as 1/120."""

FEW = 3
"""Fewer bars outside trading hours than this prove nothing."""

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
    for name in ("volume", "spread"):
        values = table.columns[name].to_numpy()
        _refuse(table, values < 0, f"{name} is negative")
        _refuse(table, np.isinf(values), f"{name} is infinite")


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
    """Hardly any bar lies outside the market's hours, and no other clock would fit the stamps much better."""
    # Some brokers quote on holidays: that says nothing of the clock.
    hours = replace(calendar, holidays=False) if isinstance(calendar, FxWeek) else calendar
    off = off_calendar(closes, hours)
    if off.sum() < FEW:
        return
    others = _other_clocks(table, calendar, zone) if isinstance(calendar, FxWeek) and not table.zoned else {}
    best = min(others, key=lambda clock: others[clock], default=zone)
    fits = best != zone and others[best] <= off.mean() / 4 and others[best] <= OFF_CALENDAR
    if off.mean() <= OFF_CALENDAR and not fits:
        return
    row = int(np.flatnonzero(off)[0])
    stamp = table.stamps[row].astype("datetime64[s]")
    problem = f"{stamp} read on the clock {zone} is outside the market's hours, as are {off.mean():.2%} of the bars"
    raise table.error(row, f"{problem}; {f'--server-tz {best} fits' if fits else _cure(table, off)}")


def off_calendar(closes: np.ndarray, calendar: SessionCalendar) -> np.ndarray:
    """Which closes the calendar does not have: datetime64[ns] [T] -> bool [T]."""
    return ~np.isin(closes, calendar.between(closes.min(), closes.max()))


def _other_clocks(table: Table, calendar: FxWeek, zone: str) -> dict[str, float]:
    """Share of bars outside the week of foreign exchange if the stamps were opens on each of the usual clocks."""
    shares: dict[str, float] = {}
    for clock in CLOCKS:
        opens = stamps_to_utc(table.stamps, clock)
        if clock != zone and not np.isnat(opens).any():
            closes = close_times(opens, calendar.timeframe, clock)
            shares[clock] = float(off_calendar(closes, FxWeek(calendar.timeframe, clock, holidays=False)).mean())
    return shares


def _cure(table: Table, off: np.ndarray) -> str:
    """What to do about bars outside the market's hours that no usual clock explains."""
    bars = table.columns[off]
    if (bars["high"] == bars["low"]).all() and (bars["volume"] == 0).all() and not table.close_only:
        return "these are flat fillers without volume: export again without them (Dukascopy: filter flats)"
    weekday = (table.stamps.astype("datetime64[D]").astype(np.int64) + 3) % 7
    if (weekday == 5).mean() > 0.1:
        return "for a market that trades at weekends give --calendar round-the-clock"
    return "give the right --server-tz, --timeframe or --calendar"


def _refuse(table: Table, bad: np.ndarray, problem: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        count = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise table.error(int(rows[0]), f"{problem}{count}; correct or delete that {table.unit}")
