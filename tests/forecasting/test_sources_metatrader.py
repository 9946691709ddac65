import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.bars import SourceOptions, load_bars
from forecasting.calendars import FxWeek
from forecasting.errors import DataError
from forecasting.sources.files import of_name
from forecasting.zones import from_utc

HEADER = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"


def price_rows(opens, fmt="%Y.%m.%d\t%H:%M:%S"):
    """Lines of an MT5 export: open stamps (server time) and prices that differ from bar to bar."""
    lines = []
    for at, stamp in enumerate(opens):
        close = 1.10000 + at / 100_000
        when = np.datetime64(stamp, "s").item().strftime(fmt)
        lines.append(
            f"{when}\t{close - 1e-5:.5f}\t{close + 2e-5:.5f}\t{close - 2e-5:.5f}\t{close:.5f}\t{at + 1}\t0\t{at % 7}"
        )
    return lines


def server_hours(first, last):
    """Opens of H1 bars on the usual server clock: every hour of Monday to Friday."""
    hours = np.arange(np.datetime64(first, "h"), np.datetime64(last, "h"))
    return [str(hour) for hour in hours[np.is_busday(hours.astype("datetime64[D]"))]]


def write(folder, lines, name="EURUSD_H1_202403040000_202403152300.csv", header=HEADER, end="\r\n", encoding="utf-8"):
    path = folder / name
    path.write_bytes((end.join([header, *lines]) + end).encode(encoding))
    return str(path)


@pytest.fixture
def plain(tmp_path):
    """Two weeks of H1 around New York's change to summer time on 10 March 2024."""
    return write(tmp_path, price_rows(server_hours("2024-03-04", "2024-03-16")))


def test_opens_of_the_server_become_utc_closes_over_summer_time(plain):
    bars = load_bars(plain)
    assert len(bars) == 240
    times = [str(time)[:16] for time in bars.times]
    assert times[0] == "2024-03-03T23:00"  # Monday 00:00 at UTC+2, closed an hour later
    assert times[119] == "2024-03-08T22:00"  # Friday 17:00 in New York, winter
    assert times[120] == "2024-03-10T22:00"  # Monday 00:00 at UTC+3, closed an hour later
    assert times[239] == "2024-03-15T21:00"  # Friday 17:00 in New York, summer
    assert bars.calendar == FxWeek("H1", "us-dst")
    assert np.array_equal(bars.calendar.between(bars.times[0], bars.times[-1]), bars.times)
    facts = bars.instrument
    assert (facts.symbol, facts.base, facts.quote, facts.timeframe) == ("EURUSD", "EUR", "USD", "H1")
    assert (facts.digits, facts.close_only, facts.source) == (5, False, plain)
    assert bars.frame.index.dtype == "datetime64[ns, UTC]"
    assert bars.frame.iloc[3].tolist() == [1.10002, 1.10005, 1.10001, 1.10003, 4.0, 3.0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "shape", ["seconds", "minutes", "quoted lines", "quoted cells", "commas", "blank lines", "lower"]
)
def test_every_variant_of_the_export_gives_the_same_bars(tmp_path, plain, encoding, end, shape):
    fmt = "%Y.%m.%d\t%H:%M" if shape == "minutes" else "%Y.%m.%d\t%H:%M:%S"
    header, lines = HEADER, price_rows(server_hours("2024-03-04", "2024-03-16"), fmt)
    if shape == "quoted lines":
        header, lines = f'"{header}"', [f'"{line}"' for line in lines]
    if shape == "quoted cells":
        header, *lines = ("\t".join(f'"{cell}"' for cell in line.split("\t")) for line in (header, *lines))
    if shape == "commas":
        header, *lines = (line.replace("\t", ",") for line in (header, *lines))
    if shape == "blank lines":
        lines = [*lines[:50], "", *lines[50:], "", ""]
    if shape == "lower":
        header = header.lower()
    path = write(tmp_path, lines, "EURUSD_H1.csv", header, end, encoding)
    assert load_bars(path).frame.equals(load_bars(plain).frame)


def test_daily_files_have_no_time_and_friday_closes_on_friday(tmp_path):
    days = [day for day in np.arange(np.datetime64("2024-03-04"), np.datetime64("2024-03-19")) if np.is_busday(day)]
    lines = price_rows(days, "%Y.%m.%d")
    bars = load_bars(
        write(tmp_path, lines, "EURUSD_Daily_202403040000_202403180000.csv", HEADER.replace("<TIME>\t", ""))
    )
    assert bars.instrument.timeframe == "D1"
    assert [str(time)[:16] for time in bars.times[3:7]] == [
        "2024-03-07T22:00",
        "2024-03-08T22:00",  # Friday, 17:00 in New York
        "2024-03-11T21:00",
        "2024-03-12T21:00",
    ]
    assert np.array_equal(bars.calendar.between(bars.times[0], bars.times[-1]), bars.times)


def test_weekly_bars_are_stamped_on_sunday_and_close_on_friday(tmp_path):
    sundays = np.arange(np.datetime64("2024-02-04"), np.datetime64("2024-04-01"), 7)
    path = write(tmp_path, price_rows(sundays, "%Y.%m.%d"), "EURUSD_Weekly_x.csv", HEADER.replace("<TIME>\t", ""))
    bars = load_bars(path)
    assert bars.instrument.timeframe == "W1"
    assert [str(time)[:16] for time in bars.times[4:6]] == ["2024-03-08T22:00", "2024-03-15T21:00"]


def test_four_hour_bars_keep_the_boundaries_of_the_server(tmp_path):
    hours = [hour for hour in server_hours("2024-03-07", "2024-03-13") if int(hour[-2:]) % 4 == 0]
    bars = load_bars(write(tmp_path, price_rows(hours), "EURUSD_H4_x.csv"))
    assert np.array_equal(bars.calendar.between(bars.times[0], bars.times[-1]), bars.times)
    assert str(bars.times[11])[:16] == "2024-03-08T22:00"
    assert str(bars.times[12])[:16] == "2024-03-11T01:00"


def test_a_file_in_utc_read_as_server_time_is_refused_with_the_clock_that_fits(tmp_path):
    calendar = FxWeek("H1", "UTC")
    closes = calendar.between(np.datetime64("2024-01-08"), np.datetime64("2024-06-08"))
    path = write(tmp_path, price_rows(closes - np.timedelta64(1, "h")))
    with pytest.raises(
        DataError, match=r"csv, line \d+: .*clock us-dst is outside the market's hours.*--server-tz UTC fits"
    ):
        load_bars(path)
    bars = load_bars(path, SourceOptions(server_tz="UTC"))
    assert np.array_equal(bars.times, closes)


def test_server_time_read_as_utc_is_refused_with_the_clock_that_fits(plain):
    with pytest.raises(DataError, match="--server-tz us-dst fits"):
        load_bars(plain, SourceOptions(server_tz="UTC"))


def test_weekend_markets_are_sent_to_the_right_calendar(tmp_path):
    hours = np.arange(np.datetime64("2024-01-01T00"), np.datetime64("2024-02-01T00"))
    path = write(tmp_path, price_rows(hours), "BTCUSD_H1_x.csv")
    with pytest.raises(DataError, match="--calendar round-the-clock"):
        load_bars(path)
    bars = load_bars(path, SourceOptions(calendar="round-the-clock", server_tz="UTC"))
    assert len(bars) == len(bars.calendar.between(bars.times[0], bars.times[-1])) == len(hours)


def test_a_time_that_the_clock_skips_is_refused(tmp_path):
    hours = np.arange(np.datetime64("2024-03-29T00"), np.datetime64("2024-04-01T00"))
    options = SourceOptions(calendar="round-the-clock", server_tz="Europe/Berlin")
    with pytest.raises(DataError, match=r"line 52: 2024-03-31T02:00:00 does not exist on the clock Europe/Berlin"):
        load_bars(write(tmp_path, price_rows(hours), "BTCUSD_H1_x.csv"), options)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 6000),
            st.sampled_from([0, 1, 2, 30, 6000]),
            st.sampled_from(
                [b"", b'"', b"\t", b"\n", b"\r", b"\x00", b"\xff", b"-", b"NaN", b"1e400", b"+00:00", b"Z"]
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=100, deadline=None)
def test_a_damaged_file_loads_or_is_refused_in_one_line_but_never_crashes(tmp_path_factory, wounds):
    folder = tmp_path_factory.mktemp("damaged")
    path = write(folder, price_rows(server_hours("2024-03-04", "2024-03-09")))
    raw = bytearray((folder / path).read_bytes())
    for start, length, patch in wounds:
        raw[start : start + length] = patch
    (folder / path).write_bytes(raw)
    try:
        bars = load_bars(path)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(bars.closes).all()
        assert (np.diff(bars.times) > np.timedelta64(0)).all()


def cell(line, at, value):
    cells = line.split("\t")
    cells[at] = value
    return "\t".join(cells)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: [*rows[:5], rows[4], *rows[5:]], r"line 7 repeats the stamp of line 6 .*delete one"),
        (lambda rows: [*rows[:5], rows[6], rows[5], *rows[7:]], r"line 8 is earlier than line 7; sort"),
        (lambda rows: rows[::-1], r"line 3 is earlier than line 2: the newest bar comes first; sort"),
        (
            lambda rows: [*rows[:5], cell(rows[5], 5, "0"), *rows[6:]],
            r"line 7: low is above|line 7: close is not above zero",
        ),
        (
            lambda rows: [*rows[:5], cell(rows[5], 2, "-1.1"), *rows[6:]],
            r"line 7: open is not above zero; correct or delete",
        ),
        (lambda rows: [*rows[:5], cell(rows[5], 5, ""), *rows[6:]], r"line 7: close is missing"),
        (
            lambda rows: [*rows[:5], cell(rows[5], 5, "NaN"), *rows[6:]],
            r"line 7: close is '?NaN'?, not a number|missing",
        ),
        (lambda rows: [*rows[:5], cell(rows[5], 5, "inf"), *rows[6:]], r"line 7: close is infinite"),
        (
            lambda rows: [*rows[:5], cell(rows[5], 5, "1,10005"), *rows[6:]],
            r"line 7: close is '1,10005'.*decimal point",
        ),
        (lambda rows: [*rows[:5], cell(rows[5], 3, "1.00000"), *rows[6:]], r"line 7: high is below open or close"),
        (lambda rows: [*rows[:5], cell(rows[5], 4, "1.20000"), *rows[6:]], r"line 7: low is above open or close"),
        (lambda rows: [*rows[:5], cell(rows[5], 8, "-3"), *rows[6:]], r"line 7: spread is negative"),
        (lambda rows: [*rows[:5], rows[5] + "\t9\t9", *rows[6:]], r"line 7: 11 columns instead of 9"),
        (lambda rows: [*rows[:5], rows[5].rsplit("\t", 2)[0], *rows[6:]], r"line 7: 7 columns instead of 9"),
        (
            lambda rows: [*rows[:5], cell(rows[5], 0, "04/03/2024"), *rows[6:]],
            r"line 7: stamp .* is not written like the first",
        ),
        (lambda rows: [*rows[:5], "", *rows[5:7], rows[6], *rows[7:]], r"line 10 repeats the stamp of line 9"),
        (lambda rows: [], r"has a header but no bars"),
        (lambda rows: rows[:1], None),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_cure(tmp_path, spoil, message):
    path = write(tmp_path, spoil(price_rows(server_hours("2024-03-04", "2024-03-09"))))
    if message is None:
        assert len(load_bars(path)) == 1
        return
    with pytest.raises(DataError, match=message) as caught:
        load_bars(path)
    assert "EURUSD_H1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_timeframe_that_the_stamps_contradict_is_refused(tmp_path):
    path = write(tmp_path, price_rows(server_hours("2024-03-04", "2024-03-09")), "EURUSD_M15_x.csv")
    with pytest.raises(DataError, match="its name says M15, but most bars are 60 minutes apart; give --timeframe H1"):
        load_bars(path)
    assert load_bars(path, SourceOptions(timeframe="H1")).instrument.timeframe == "H1"


def test_even_the_few_weeks_in_which_europe_and_america_differ_tell_the_clock(tmp_path):
    closes = FxWeek("H1").between(np.datetime64("2023-01-02T12:00"), np.datetime64("2024-01-12T12:00"))
    opens = from_utc(closes - np.timedelta64(1, "h"), "Europe/Helsinki")
    path = write(tmp_path, price_rows(opens))
    message = r"2023-03-12T23:00:00 .*as are 0.0\d% of the bars; --server-tz Europe/Helsinki fits"
    with pytest.raises(DataError, match=message):
        load_bars(path)
    assert np.array_equal(load_bars(path, SourceOptions(server_tz="Europe/Helsinki")).times, closes)


def test_a_broker_that_quotes_on_holidays_and_opens_early_at_times_is_accepted(tmp_path):
    hours = server_hours("2023-01-02", "2024-01-13")
    early = ["2023-03-05T23", "2023-06-04T23", "2023-06-10T00", "2023-09-03T23"]
    bars = load_bars(write(tmp_path, price_rows(sorted([*hours, *early]))))
    assert len(bars) == len(hours) + 4
    off = ~np.isin(bars.times, bars.calendar.between(bars.times[0], bars.times[-1]))
    assert off.sum() == 4 + 2 * 24  # Christmas and New Year


def test_flat_fillers_at_weekends_are_named(tmp_path):
    hours = np.arange(np.datetime64("2024-01-01T00"), np.datetime64("2024-02-01T00"))
    lines = [
        line if np.is_busday(hour) else "\t".join([*line.split("\t")[:2], "1.1", "1.1", "1.1", "1.1", "0", "0", "0"])
        for hour, line in zip(hours.astype("datetime64[D]"), price_rows(hours), strict=True)
    ]
    with pytest.raises(DataError, match="flat fillers without volume"):
        load_bars(write(tmp_path, lines))


def test_metatrader_4_and_histdatas_imitation_have_no_header(tmp_path):
    rows = [
        re.sub(r"\t\d+\t\d+$", "", line).replace("\t", ",")
        for line in price_rows(server_hours("2024-03-04", "2024-03-09"), "%Y.%m.%d\t%H:%M")
    ]
    old = tmp_path / "EURUSD60.csv"
    old.write_text("\n".join(rows))
    assert str(load_bars(str(old)).times[0])[:16] == "2024-03-03T23:00"
    assert load_bars(str(old)).instrument.unique_id == "EURUSD-H1"
    new = tmp_path / "DAT_MT_EURUSD_H1_2024.csv"
    new.write_text("\n".join(row.replace("2024.03.04", "2024.03.05") for row in rows[3:5]))
    assert str(load_bars(str(new)).times[0])[:16] == "2024-03-05T09:00"  # 03:00 at UTC-5 is 08:00, closed an hour later


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EURUSD_H1_200701012100_201812312100.csv", ("EURUSD", "H1")),
        ("EURUSD.r_M15_2007.csv", ("EURUSD.r", "M15")),
        ("USDJPY_Daily_200701010000_201812310000.csv", ("USDJPY", "D1")),
        ("GBPUSD_Weekly_x.csv", ("GBPUSD", "W1")),
        ("EURUSD1440.csv", ("EURUSD", "D1")),
        ("DAT_ASCII_EURUSD_M1_2017.csv", ("EURUSD", "M1")),
        ("EURUSD_Candlestick_1_Hour_BID_01.01.2017-31.12.2017.csv", ("EURUSD", "H1")),
        ("US500_H4_2020.csv", ("US500", "H4")),
        ("prices.csv", (None, None)),
    ],
)
def test_file_names_tell_symbol_and_timeframe(tmp_path, name, expected):
    assert of_name(tmp_path / name) == expected
