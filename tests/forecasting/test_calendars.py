import gzip
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.calendars import MINUTES, FxWeek, RoundTheClock, TargetDays
from forecasting.errors import ConfigError
from forecasting.sources.ecb import SNAPSHOT, data_folder
from forecasting.zones import check_zone, from_utc, rule_to_utc, stamps_to_utc

CALENDARS = [
    TargetDays(),
    FxWeek("M5"),
    FxWeek("H1"),
    FxWeek("H4"),
    FxWeek("H4", "UTC"),
    FxWeek("D1"),
    FxWeek("D1", "UTC"),
    FxWeek("W1"),
    FxWeek("H1", "+05:30"),
    FxWeek("H8", "Europe/Helsinki"),
    RoundTheClock("H1"),
    RoundTheClock("D1", "Europe/Berlin"),
    RoundTheClock("W1"),
]


def utc(text):
    return np.datetime64(text, "ns")


def stamps(calendar, first, last):
    return [str(stamp)[:16] for stamp in calendar.between(utc(first), utc(last))]


def days_of_snapshot():
    text = gzip.decompress((data_folder() / SNAPSHOT).read_bytes()).decode("ascii")
    return np.array([line.split(",")[0] for line in text.splitlines()[1:]], dtype="datetime64[D]")


def test_target_days_are_exactly_the_days_of_ecb_fixings():
    calendar, days = TargetDays(), days_of_snapshot()
    fixed = calendar.stamps(days)
    ruled = calendar.between(fixed[0], fixed[-1])
    assert set(fixed) - set(ruled) == set(), "fixed on a day that the rule closes"
    assert set(ruled) - set(fixed) == set(), "not fixed on a day that the rule opens"


def test_target_publishes_at_four_in_frankfurt_over_the_change_to_summer_time():
    assert stamps(TargetDays(), "2024-03-28", "2024-04-03") == [
        "2024-03-28T15:00",  # winter; then Good Friday, the weekend of the change, Easter Monday
        "2024-04-02T14:00",
    ]


@pytest.mark.parametrize("year", [1999, 2000, 2008, 2011, 2024, 2026, 2038])
def test_easter_agrees_with_dateutil(year):
    easter = pytest.importorskip("dateutil.easter").easter(year)
    monday = np.datetime64(easter, "D") + 1
    open_days = TargetDays().between(utc(f"{year}-01-01"), utc(f"{year}-12-30")).astype("datetime64[D]")
    assert (monday in open_days) == (year == 1999)
    assert monday + 1 in open_days


def test_fx_week_when_new_york_changes_before_europe():
    # New York: summer time from 10 March 2024, so Friday closes at 22:00 UTC before and 21:00 UTC after.
    assert stamps(FxWeek("H4"), "2024-03-08T14:00", "2024-03-11T06:00") == [
        "2024-03-08T14:00",
        "2024-03-08T18:00",
        "2024-03-08T22:00",
        "2024-03-11T01:00",
        "2024-03-11T05:00",
    ]
    assert stamps(FxWeek("D1"), "2024-03-07", "2024-03-13") == [
        "2024-03-07T22:00",
        "2024-03-08T22:00",
        "2024-03-11T21:00",
        "2024-03-12T21:00",
    ]
    assert stamps(FxWeek("W1"), "2024-03-01", "2024-03-17") == [
        "2024-03-01T22:00",
        "2024-03-08T22:00",
        "2024-03-15T21:00",
    ]


def test_fx_week_cut_at_utc_midnight_has_a_short_bar_on_sunday():
    assert stamps(FxWeek("D1", "UTC"), "2024-03-08", "2024-03-12") == [
        "2024-03-08T00:00",
        "2024-03-09T00:00",
        "2024-03-11T00:00",
        "2024-03-12T00:00",
    ]
    assert stamps(FxWeek("H4", "UTC"), "2024-03-08T20:00", "2024-03-11T04:00") == [
        "2024-03-08T20:00",
        "2024-03-09T00:00",
        "2024-03-11T00:00",
        "2024-03-11T04:00",
    ]


def test_fx_week_rests_on_christmas_and_new_year_only():
    assert stamps(FxWeek("D1"), "2023-12-22", "2024-01-03") == [
        "2023-12-22T22:00",
        "2023-12-26T22:00",
        "2023-12-27T22:00",
        "2023-12-28T22:00",
        "2023-12-29T22:00",
        "2024-01-02T22:00",
    ]
    assert "2023-12-25T22:00" in stamps(FxWeek("D1", holidays=False), "2023-12-22", "2024-01-03")


@pytest.mark.parametrize("timeframe", sorted(MINUTES))
def test_fx_week_has_five_whole_days_of_bars(timeframe):
    count = len(FxWeek(timeframe).between(utc("2024-03-10T21:00:01"), utc("2024-03-15T21:00")))
    assert count == (1 if timeframe == "W1" else 5 * 1440 // MINUTES[timeframe])


def test_round_the_clock_has_every_hour_of_short_and_long_days():
    calendar = RoundTheClock("H1", "Europe/Berlin")
    hours = calendar.between(utc("2024-03-29"), utc("2024-11-01"))
    assert (np.diff(hours) == np.timedelta64(1, "h")).all()
    assert stamps(RoundTheClock("D1", "Europe/Berlin"), "2024-03-29T23:00", "2024-03-31T22:00") == [
        "2024-03-29T23:00",
        "2024-03-30T23:00",
        "2024-03-31T22:00",
    ]
    assert stamps(RoundTheClock("W1"), "2024-03-25", "2024-04-01") == ["2024-03-25T00:00", "2024-04-01T00:00"]


@pytest.mark.parametrize("calendar", CALENDARS, ids=str)
@given(minute=st.integers(0, 27 * 525_600), count=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_following_is_the_calendar_after_the_cutoff_and_nothing_else(calendar, minute, count):
    cutoff = utc("1999-06-01") + np.timedelta64(minute, "m")
    ahead = calendar.following(cutoff, count)
    assert ahead.shape == (count,)
    assert ahead.dtype == np.dtype("datetime64[ns]")
    assert ahead[0] > cutoff
    assert np.array_equal(calendar.between(cutoff + np.timedelta64(1, "ns"), ahead[-1]), ahead)
    others = np.array([cutoff - np.timedelta64(400, "D"), cutoff, cutoff + np.timedelta64(99, "D")])
    assert np.array_equal(calendar.following_many(others, count)[1], ahead)
    if count > 1:  # walking bar by bar gives the same stamps
        assert np.array_equal(calendar.following(ahead[0], count - 1), ahead[1:])


@pytest.mark.parametrize("calendar", CALENDARS, ids=str)
def test_between_agrees_with_itself_however_the_range_is_cut(calendar):
    edges = [utc(day) for day in ("2023-10-01", "2023-10-29T01:00", "2023-11-05T06:00", "2024-01-01", "2024-04-01")]
    whole = calendar.between(edges[0], edges[-1])
    pieces = [calendar.between(a + np.timedelta64(1, "ns"), b) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(whole[whole > edges[0]], np.concatenate(pieces))
    assert (np.diff(whole) > np.timedelta64(0, "ns")).all()


def test_many_cutoffs_and_none():
    calendar = FxWeek("H1")
    assert calendar.following_many(np.array([], dtype="datetime64[ns]"), 5).shape == (0, 5)
    assert calendar.following_many(np.array(["2024-01-01"], dtype="datetime64[s]"), 0).shape == (1, 0)
    assert str(calendar.following(np.datetime64("2024-03-09T12:00"), 1)[0])[:16] == "2024-03-10T22:00"


def test_unknown_timeframe_and_zone_name_the_nearest():
    with pytest.raises(ConfigError, match="unknown timeframe 'H5'"):
        FxWeek("H5")
    with pytest.raises(ConfigError, match="did you mean 'Europe/Berlin'"):
        FxWeek("H1", "Europe/Berlim")
    with pytest.raises(ConfigError, match="more than 14 hours"):
        check_zone("+15:00")


def test_server_clock_is_new_york_plus_seven_hours():
    instants = np.array(
        ["2024-03-08T22:00", "2024-03-11T21:00", "2024-11-01T21:00", "2024-11-04T22:00"], "datetime64[ns]"
    )
    midnights = np.array(["2024-03-09", "2024-03-12", "2024-11-02", "2024-11-05"], "datetime64[ns]")
    assert np.array_equal(from_utc(instants, "us-dst"), midnights)
    assert np.array_equal(rule_to_utc(midnights, "us-dst"), instants)


def test_stamps_in_the_hour_that_comes_twice_follow_the_order_of_the_file():
    # Berlin, 27 October 2024: 02:00 to 03:00 is shown twice, at 00:00 and at 01:00 UTC.
    local = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    got = stamps_to_utc(np.array([f"2024-10-27T{time}" for time in local], "datetime64[ns]"), "Europe/Berlin")
    hours = ["2024-10-26T23:30", "2024-10-27T00:00", "2024-10-27T00:30", "2024-10-27T01:00", "2024-10-27T01:30"]
    assert [str(stamp)[:16] for stamp in got] == [*hours, "2024-10-27T02:00"]


def test_stamps_that_a_clock_skips_are_not_a_time_but_rules_move_on():
    skipped = np.array(["2024-03-31T02:30"], "datetime64[ns]")
    assert np.isnat(stamps_to_utc(skipped, "Europe/Berlin")).all()
    assert str(rule_to_utc(skipped, "Europe/Berlin")[0])[:16] == "2024-03-31T01:00"


@given(hours=st.lists(st.integers(0, 200_000), min_size=1, max_size=50, unique=True))
@settings(max_examples=50, deadline=None)
def test_zone_round_trip_agrees_with_pandas(hours):
    instants = np.sort(utc("2000-01-01") + np.array(hours, dtype="timedelta64[h]"))
    for zone in ("Europe/Helsinki", "us-dst", "+02:00", "UTC"):
        back = instants - rule_to_utc(from_utc(instants, zone), zone)  # an hour, in the second pass of a repeated hour
        allowed = {0, 1} if zone in ("Europe/Helsinki", "us-dst") else {0}
        assert set((back // np.timedelta64(1, "h")).tolist()) <= allowed
    pandas = pd.DatetimeIndex(instants, tz="UTC").tz_convert("Europe/Helsinki").tz_localize(None)
    assert np.array_equal(from_utc(instants, "Europe/Helsinki"), pandas.to_numpy("datetime64[ns]"))


@pytest.mark.parametrize("timeframe", ["M1", "M30", "H1", "H4", "H12", "D1", "W1"])
@pytest.mark.parametrize("alignment", ["us-dst", "UTC", "Europe/Athens"])
def test_a_bar_starts_at_the_close_before_it_or_with_the_session(timeframe, alignment):
    """Over a year's end and both changes of summer time; minute bars over one of them."""
    first = np.datetime64("2021-03-10" if timeframe in ("M1", "M30") else "2020-10-20", "ns")
    week = FxWeek(timeframe, alignment)
    closes = week.between(first, np.datetime64("2021-03-20", "ns"))
    starts = week.starts(closes)
    assert (starts < closes).all()
    assert (starts[1:] >= closes[:-1]).all()
    after_gap = starts[1:][starts[1:] > closes[:-1]]
    opened = from_utc(after_gap, "America/New_York")
    assert len(after_gap) >= 1
    assert set(((opened - opened.astype("datetime64[D]")) / np.timedelta64(1, "h")).tolist()) == {17.0}
    always = RoundTheClock(timeframe, alignment)
    closes = always.between(first, np.datetime64("2021-03-20", "ns"))
    assert (always.starts(closes)[1:] == closes[:-1]).all()


def test_a_bar_off_the_calendar_starts_on_the_grid():
    saturday = np.array(["2021-03-06T15:00", "2021-12-25T15:00"], "datetime64[ns]")
    assert FxWeek("H4", "UTC").starts(saturday).tolist() == np.array(
        ["2021-03-06T12:00", "2021-12-25T12:00"], "datetime64[ns]"
    ).tolist()  # fmt: skip
    fixing = TargetDays().between(np.datetime64("2021-03-01", "ns"), np.datetime64("2021-03-09", "ns"))
    assert (TargetDays().starts(fixing) == fixing).all()
