"""Rule-based session calendars: which bars a market should have, from timeframe and trading hours alone.

A calendar never looks at the bars of a series, so the stamps it gives for bars to come are known at the cutoff. The
price is that it cannot know a broker's odd closing hours: such bars count as missing in the quality figure, no more.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forecasting.errors import ConfigError, unknown
from forecasting.zones import NEW_YORK, US_DST, check_zone, from_utc, rule_to_utc, zone_name

MINUTES = {
    **{f"M{n}": n for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)},
    **{f"H{n}": n * 60 for n in (1, 2, 3, 4, 6, 8, 12)},
    "D1": 1440,
    "W1": 10080,
}
"""Length in minutes of MetaTrader's bars, by name. MN1 has no fixed length and is not supported."""

FRIDAY, SUNDAY = 4, 6
"""Days with which a W1 bar closes: of foreign exchange, and round the clock."""

_DAY = np.timedelta64(1, "D")
_WEEK = np.timedelta64(7, "D")
_MINUTE = np.timedelta64(60_000_000_000, "ns")


class SessionCalendar(Protocol):
    """The close times a market's bars should have."""

    @property
    def timezone(self) -> str:
        """IANA name of the market's local time, in which hour-of-week patterns are stable."""
        ...

    def following(self, cutoff: np.datetime64, count: int) -> np.ndarray:
        """Close times of the `count` bars after the bar that closed at `cutoff`: datetime64[ns] UTC, [count]."""
        ...

    def following_many(self, cutoffs: np.ndarray, count: int) -> np.ndarray:
        """`following` of each of N cutoffs at once: datetime64[ns] UTC, [N] -> [N, count]."""
        ...

    def between(self, first: np.datetime64, last: np.datetime64) -> np.ndarray:
        """Close times of all bars with first <= close <= last: datetime64[ns] UTC, [n]."""
        ...

    def starts(self, closes: np.ndarray) -> np.ndarray:
        """When trading of the bars that close at given times begins: datetime64[ns] UTC, [n] -> [n]."""
        ...


class _Rules(ABC):
    """What every calendar derives from `between`. A cutoff off the calendar is followed by the next stamps on it."""

    @abstractmethod
    def between(self, first: np.datetime64, last: np.datetime64) -> np.ndarray:
        """Close times with first <= close <= last: datetime64[ns] UTC, [n]."""

    @abstractmethod
    def _bars_a_week(self) -> float:
        """Fewest bars a common week has; only sets how far ahead to look first."""

    def following(self, cutoff: np.datetime64, count: int) -> np.ndarray:
        """Close times of the `count` bars after the bar that closed at `cutoff`: datetime64[ns] UTC, [count]."""
        return np.asarray(self.following_many(np.array([cutoff], dtype="datetime64[ns]"), count)[0])

    def following_many(self, cutoffs: np.ndarray, count: int) -> np.ndarray:
        """`following` of each of N cutoffs at once: datetime64[ns] UTC, [N] -> [N, count]."""
        cutoffs = np.asarray(cutoffs, dtype="datetime64[ns]")
        if not len(cutoffs) or count == 0:
            return np.empty((len(cutoffs), count), dtype="datetime64[ns]")
        first, last = cutoffs.min(), cutoffs.max()
        weeks = int(count / self._bars_a_week()) + 2
        while True:
            stamps = self.between(first, last + weeks * _WEEK)
            start = np.searchsorted(stamps, cutoffs, side="right")
            if start.max() + count <= len(stamps):
                return np.asarray(stamps[start[:, None] + np.arange(count)])
            weeks *= 2


@dataclass(frozen=True)
class TargetDays(_Rules):
    """One stamp on each business day of TARGET, when the ECB publishes its reference rates: 16:00 in Frankfurt.

    Closed from 2000 on: New Year, Good Friday, Easter Monday, 1 May, 25 and 26 December; in 1999 only New Year and
    25 December; besides, the last days of 1999 (change of millennium) and 2001 (cash changeover).
    """

    @property
    def timezone(self) -> str:
        """Frankfurt keeps Berlin's clock."""
        return "Europe/Berlin"

    def stamps(self, days: np.ndarray) -> np.ndarray:
        """Publication time on given days, open or not: datetime64[D] [n] -> datetime64[ns] UTC [n]."""
        return rule_to_utc(days.astype("datetime64[D]") + np.timedelta64(16, "h"), self.timezone)

    def between(self, first: np.datetime64, last: np.datetime64) -> np.ndarray:
        """Publication times with first <= time <= last: datetime64[ns] UTC, [n]."""
        days = np.arange(first.astype("datetime64[D]") - _DAY, last.astype("datetime64[D]") + 2 * _DAY)
        return _within(self.stamps(days[np.is_busday(days, holidays=_target_holidays(days))]), first, last)

    def starts(self, closes: np.ndarray) -> np.ndarray:
        """A rate is of one moment: the closes themselves."""
        return np.asarray(closes, dtype="datetime64[ns]")

    def _bars_a_week(self) -> float:
        return 4.0


@dataclass(frozen=True)
class FxWeek(_Rules):
    """The week of foreign exchange: Sunday 17:00 to Friday 17:00 in New York, closed on 25 December and New Year.

    Bars are cut on the clock `alignment`: whole multiples of the bar length since its midnight. On the usual server
    clock `us-dst` midnight is 17:00 in New York, so D1 has five bars a week; on `UTC` it has a short one on Sunday too.
    A bar exists if the market is open during any part of it; a week (W1) closes with Friday.
    """

    timeframe: str
    alignment: str = US_DST
    holidays: bool = True

    def __post_init__(self) -> None:
        _check(self.timeframe, self.alignment)

    @property
    def timezone(self) -> str:
        """The week opens and closes by New York's clock."""
        return NEW_YORK

    def _bars_a_week(self) -> float:
        return 4 * 1440 / MINUTES[self.timeframe] if self.timeframe != "W1" else 1.0

    def between(self, first: np.datetime64, last: np.datetime64) -> np.ndarray:
        """Close times with first <= close <= last: datetime64[ns] UTC, [n]."""
        opens, closes = _grid(first, last, self.timeframe, self.alignment, FRIDAY)
        session_opens, session_closes = self._sessions(first, last)
        session = np.searchsorted(session_closes, opens, side="right")
        session = np.minimum(session, len(session_closes) - 1)
        trading = (session_opens[session] < closes) & (session_closes[session] > opens)
        return _within(closes[trading], first, last)

    def starts(self, closes: np.ndarray) -> np.ndarray:
        """When trading of the bars that close at given times begins: datetime64[ns] UTC, [n] -> [n].

        The first moment of the bar's span in which the market is open; its very first where the market never is, as in
        bars off the calendar.
        """
        if not len(closes):
            return np.asarray(closes, dtype="datetime64[ns]")
        opens = _starts_on_grid(closes, self.timeframe, self.alignment, FRIDAY)
        session_opens, session_closes = self._sessions(closes.min(), closes.max())
        session = np.minimum(np.searchsorted(session_closes, opens, side="right"), len(session_closes) - 1)
        first = np.maximum(opens, session_opens[session])
        return np.asarray(np.where(first < closes, first, opens))

    def _sessions(self, first: np.datetime64, last: np.datetime64) -> tuple[np.ndarray, np.ndarray]:
        """Opening and closing times of all trading days that a bar between may touch: two of datetime64[ns] [n]."""
        days = np.arange(first.astype("datetime64[D]") - 16 * _DAY, last.astype("datetime64[D]") + 16 * _DAY)
        days = days[np.is_busday(days)]
        if self.holidays:
            years = days.astype("datetime64[Y]")
            days = days[(days != years.astype("datetime64[D]")) & (days != _date(years, 12, 25))]
        return rule_to_utc(days, US_DST), rule_to_utc(days + _DAY, US_DST)


@dataclass(frozen=True)
class RoundTheClock(_Rules):
    """A market that never closes, its bars cut on the clock `alignment`; weeks (W1) end with Sunday."""

    timeframe: str
    alignment: str = "UTC"

    def __post_init__(self) -> None:
        _check(self.timeframe, self.alignment)

    @property
    def timezone(self) -> str:
        """The clock on which the bars are cut."""
        return zone_name(self.alignment)

    def _bars_a_week(self) -> float:
        return 10080 / MINUTES[self.timeframe]

    def between(self, first: np.datetime64, last: np.datetime64) -> np.ndarray:
        """Close times with first <= close <= last: datetime64[ns] UTC, [n]."""
        return _within(_grid(first, last, self.timeframe, self.alignment, SUNDAY)[1], first, last)

    def starts(self, closes: np.ndarray) -> np.ndarray:
        """When trading of the bars that close at given times begins: datetime64[ns] UTC, [n] -> [n]."""
        if not len(closes):
            return np.asarray(closes, dtype="datetime64[ns]")
        return _starts_on_grid(closes, self.timeframe, self.alignment, SUNDAY)


def close_times(opens: np.ndarray, timeframe: str, alignment: str, week_ends: int = FRIDAY) -> np.ndarray:
    """Closes of bars that open at given instants: datetime64[ns] UTC [T] -> datetime64[ns] UTC [T].

    Bars longer than an hour close on the server's clock, so that H4 and D1 keep their boundaries over a change to
    summer time; a stamp inside such a bar counts as that bar. A week closes with the day `week_ends` (Monday 0).
    """
    length = MINUTES[timeframe] * _MINUTE
    if MINUTES[timeframe] <= 60:
        return np.asarray(opens + length)
    local = from_utc(opens, alignment)
    days = local.astype("datetime64[D]")
    if timeframe == "W1":
        ahead = (week_ends + 1 - _weekday(days) - 1) % 7 + 1
        return rule_to_utc(days + ahead.astype("timedelta64[D]"), alignment)
    return rule_to_utc(days + ((local - days) // length + 1) * length, alignment)


def _check(timeframe: str, alignment: str) -> None:
    if timeframe not in MINUTES:
        raise ConfigError(unknown("timeframe", timeframe, MINUTES))
    check_zone(alignment)


def _grid(
    first: np.datetime64, last: np.datetime64, timeframe: str, alignment: str, week_ends: int
) -> tuple[np.ndarray, np.ndarray]:
    """Opens and closes of all bars a clock allows around [first, last], trading or not: two of datetime64[ns] [n].

    `week_ends` is the day (Monday 0) with which a W1 bar closes.
    """
    minutes = MINUTES[timeframe]
    start = first.astype("datetime64[D]") - 9 * _DAY
    days = np.arange(start, last.astype("datetime64[D]") + 10 * _DAY)
    if timeframe == "W1":
        days = days[_weekday(days) == (week_ends + 1) % 7]
    if minutes > 60:
        # On the clock of the server a bar keeps its name when summer time begins: 08:00 stays a boundary of H4.
        steps = np.arange(0, 1440, minutes) * _MINUTE
        edges = np.unique(rule_to_utc((days[:, None] + steps).ravel(), alignment))
    else:
        # In elapsed time, so that days of 23 and 25 hours have as many bars as they should.
        midnights = rule_to_utc(days, alignment)
        lengths = -(-np.diff(midnights) // (minutes * _MINUTE))
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        edges = np.repeat(midnights[:-1], lengths) + within * (minutes * _MINUTE)
    return edges[:-1], edges[1:]


def _starts_on_grid(closes: np.ndarray, timeframe: str, alignment: str, week_ends: int) -> np.ndarray:
    """The last edges of the grid before given closes: datetime64[ns] UTC [n] -> [n]."""
    closes = np.asarray(closes, dtype="datetime64[ns]")
    opens, _ = _grid(closes.min() - _WEEK, closes.max(), timeframe, alignment, week_ends)
    return np.asarray(opens[np.searchsorted(opens, closes, side="left") - 1])


def _target_holidays(days: np.ndarray) -> np.ndarray:
    """Weekdays on which TARGET was or will be closed in the years of `days`: datetime64[D] [n]."""
    every = np.unique(days.astype("datetime64[Y]"))
    regular = every[every >= np.datetime64("2000")]
    sunday = _easter(regular)
    return np.concatenate(
        [
            _date(every, 1, 1),
            _date(every, 12, 25),
            sunday - 2 * _DAY,
            sunday + _DAY,
            _date(regular, 5, 1),
            _date(regular, 12, 26),
            np.array(["1999-12-31", "2001-12-31"], dtype="datetime64[D]"),
        ]
    )


def _easter(years: np.ndarray) -> np.ndarray:
    """Easter Sundays by the anonymous Gregorian computus: datetime64[Y] [n] -> datetime64[D] [n]."""
    year = years.astype(np.int64) + 1970
    golden, century = year % 19, year // 100
    epact = (19 * golden + century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15) % 30
    weekday = (32 + 2 * (century % 4) + 2 * (year % 100 // 4) - epact - year % 100 % 4) % 7
    late = (golden + 11 * epact + 22 * weekday) // 451
    since_march = epact + weekday - 7 * late + 21
    return np.asarray(_date(years, 3, 1) + since_march.astype("timedelta64[D]"))


def _weekday(days: np.ndarray) -> np.ndarray:
    """Day of the week, Monday 0: datetime64[D] [n] -> int64 [n]."""
    return np.asarray((days.astype("datetime64[D]").astype(np.int64) + 3) % 7)


def _date(years: np.ndarray, month: int, day: int) -> np.ndarray:
    months = years.astype("datetime64[M]") + np.timedelta64(month - 1, "M")
    return np.asarray(months.astype("datetime64[D]") + np.timedelta64(day - 1, "D"))


def _within(stamps: np.ndarray, first: np.datetime64, last: np.datetime64) -> np.ndarray:
    low, high = np.searchsorted(stamps, first, side="left"), np.searchsorted(stamps, last, side="right")
    return stamps[low:high]
