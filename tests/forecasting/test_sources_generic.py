import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.bars import SourceOptions, load_bars
from forecasting.calendars import FxWeek
from forecasting.errors import ConfigError, DataError
from forecasting.sources.stamps import parse
from forecasting.sources.table import decimals

OPENS = pd.DatetimeIndex(
    FxWeek("H1", "UTC").between(np.datetime64("2024-03-05"), np.datetime64("2024-03-14"))
) - pd.Timedelta("1h")


@pytest.fixture
def frame():
    """H1 bars around New York's change to summer time; the index holds opens in UTC, naive."""
    close = np.round(1.1 + np.cumsum(np.random.default_rng(7).normal(0, 1e-4, len(OPENS))), 5)
    opened = np.concatenate([[1.1], close[:-1]])
    high, low = np.maximum(opened, close) + 1e-4, np.minimum(opened, close) - 1e-4
    columns = {"Open": opened, "High": high, "Low": low, "Close": close, "Volume": np.arange(1, len(close) + 1)}
    return pd.DataFrame(columns, index=OPENS).round(5)


def expected_times(opens=OPENS):
    return (opens + pd.Timedelta("1h")).to_numpy("datetime64[ns]")


def dump(folder, frame, name="EURUSD_H1.csv", **how):
    path = folder / name
    frame.to_csv(path, **how)
    return str(path)


@pytest.mark.parametrize(
    ("label", "write"),
    [
        ("", str),
        ("Gmt time", lambda t: t.strftime("%d.%m.%Y %H:%M:%S.000")),
        (
            "Local time",
            lambda t: t.tz_localize("UTC").tz_convert("Europe/Zurich").strftime("%d.%m.%Y %H:%M:%S.000 GMT%z"),
        ),
        ("time", lambda t: t.isoformat() + "Z"),
        ("timestamp", lambda t: t.tz_localize("UTC").tz_convert("America/New_York").isoformat()),
        ("Date", lambda t: t.strftime("%Y-%m-%d %H:%M")),
        ("datetime", lambda t: t.strftime("%Y/%m/%d %H:%M:%S")),
        ("Datetime", lambda t: t.strftime("%m/%d/%Y %H:%M")),
        ("time", lambda t: t.strftime("%Y%m%d %H%M%S")),
        ("time", lambda t: t.strftime("%Y%m%d%H%M%S")),
        ("unix", lambda t: int(t.timestamp())),
        ("open_time", lambda t: int(t.timestamp()) * 1000),
        ("Time (UTC)", lambda t: t.strftime("%Y.%m.%d %H:%M:%S")),
    ],
)
def test_stamps_of_vendors_become_utc_closes(tmp_path, frame, label, write):
    frame.index = pd.Index([write(stamp) for stamp in OPENS], name=label)
    bars = load_bars(dump(tmp_path, frame))
    assert np.array_equal(bars.times, expected_times())
    assert bars.frame["close"].tolist() == frame["Close"].tolist()
    assert bars.frame["volume"].tolist() == frame["Volume"].tolist()
    assert bars.instrument.digits == 5
    assert not bars.instrument.close_only


def test_histdata_has_no_header_and_keeps_new_yorks_winter_time(tmp_path, frame):
    frame.index = (OPENS - pd.Timedelta("5h")).strftime("%Y%m%d %H%M%S")
    path = dump(tmp_path, frame, "DAT_ASCII_EURUSD_H1_2024.csv", sep=";", header=False)
    assert np.array_equal(load_bars(path).times, expected_times())


@pytest.mark.parametrize("zone", ["naive", "UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("place", ["index", "column"])
def test_parquet_gives_the_same_bars(tmp_path, frame, zone, place):
    if zone != "naive":
        frame.index = OPENS.tz_localize("UTC").tz_convert(zone)
    frame.index.name = "time"
    (frame if place == "index" else frame.reset_index()).to_parquet(tmp_path / "EURUSD_H1.parquet")
    bars = load_bars(str(tmp_path / "EURUSD_H1.parquet"))
    assert np.array_equal(bars.times, expected_times())
    assert bars.closes.tolist() == frame["Close"].tolist()
    assert bars.instrument.digits == 5


def test_integer_points_need_digits_and_become_prices(tmp_path, frame):
    points = (frame[["Open", "High", "Low", "Close"]] * 100_000).round().astype(int)
    path = dump(tmp_path, points.rename_axis("time"))
    bars = load_bars(path, SourceOptions(integer_points=True, digits=5))
    assert bars.closes.tolist() == frame["Close"].tolist()
    with pytest.raises(ConfigError, match="integer_points needs digits"):
        SourceOptions(integer_points=True)


def test_daily_tables_of_days_end_with_the_trading_day(tmp_path):
    days = pd.bdate_range("2024-03-04", "2024-03-22")
    prices = pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close", "Adj Close"), 100.25), index=days)
    path = dump(tmp_path, prices.assign(Volume=1).rename_axis("Date"), "AAPL.csv")
    bars = load_bars(path, SourceOptions(symbol="AAPL"))
    assert bars.instrument.timeframe == "D1"
    assert (bars.instrument.base, bars.instrument.quote, bars.instrument.digits) == ("AAPL", "", 2)
    assert [str(time)[:16] for time in bars.times[4:6]] == ["2024-03-08T22:00", "2024-03-11T21:00"]
    utc = load_bars(path, SourceOptions(symbol="AAPL", server_tz="UTC"))
    assert str(utc.times[4])[:16] == "2024-03-09T00:00"


def test_daily_bars_that_open_at_five_in_new_york_close_there(tmp_path):
    closes = FxWeek("D1").between(np.datetime64("2024-02-20"), np.datetime64("2024-04-01"))
    # A day opens at 17:00 in New York on the evening before, Monday's on Sunday.
    starts = pd.DatetimeIndex(closes).tz_localize("UTC").tz_convert("America/New_York").tz_localize(
        None
    ) - pd.Timedelta("1D")
    starts = starts.tz_localize("America/New_York").tz_convert("UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 1.10005), index=pd.Index(starts, name="time"))
    bars = load_bars(dump(tmp_path, frame, "EURUSD_D1.csv"))
    assert np.array_equal(bars.times, closes)
    assert bars.calendar == FxWeek("D1", "us-dst")


def test_closes_alone_make_close_only_bars(tmp_path):
    days = pd.bdate_range("2024-03-04", "2024-03-22")
    series = pd.DataFrame({"price": np.linspace(1.08, 1.09, len(days)).round(4)}, index=days.rename("date"))
    path = dump(tmp_path, series, "EURUSD.csv")
    bars = load_bars(path, SourceOptions(calendar="target"))
    assert bars.instrument.close_only
    assert bars.frame["open"].equals(bars.frame["close"].rename("open"))
    assert bars.frame["spread"].isna().all()
    assert np.array_equal(bars.times, bars.calendar.between(bars.times[0], bars.times[-1]))


def test_stamps_may_be_closes_and_columns_may_be_named(tmp_path, frame):
    frame.index = pd.Index(expected_times(), name="when")
    path = dump(tmp_path, frame[["Close"]].rename(columns={"Close": "fixing"}), "eur.csv")
    with pytest.raises(
        DataError, match=r"eur.csv: header not recognised, saw 'when,fixing'; understood are .*time_column"
    ):
        load_bars(path)
    options = SourceOptions(symbol="EURUSD", stamps="close", time_column="when", close_column="fixing")
    bars = load_bars(path, options)
    assert np.array_equal(bars.times, expected_times())
    assert bars.closes.tolist() == frame["Close"].tolist()


def test_the_counting_column_of_a_pandas_dump_is_no_stamp(tmp_path, frame):
    path = dump(tmp_path, frame.rename_axis("Date").reset_index())
    assert np.array_equal(load_bars(path).times, expected_times())


def test_a_series_of_another_package(tmp_path):
    sample = pytest.importorskip("backtesting.test", reason="real hourly bars of a peer", exc_type=ImportError).EURUSD
    bars = load_bars(dump(tmp_path, sample, "EURUSD_H1.csv"))
    assert len(bars) == 5000
    assert bars.closes.tolist() == sample["Close"].tolist()
    assert (bars.frame.index - pd.Timedelta("1h")).tz_localize(None).equals(sample.index.as_unit("ns").rename("time"))
    assert bars.instrument.digits == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; export"),
        (b"\n\n \n", "only blank lines"),
        (b"hello\nworld\n", "line 1: saw 'hello', which is not a table"),
        (b"a,b,c\n1,2,3\n", "header not recognised, saw 'a,b,c'; understood are MetaTrader"),
        (b"\x89PNG\r\n\x1a\n\x00\x00,\x00", "header not recognised|not a table"),
        (b"1,2,3\n4,5,6\n", "no header, and not a known format without one, saw '1,2,3'"),
        (b"time,close\n", "has a header but no bars"),
        (b"time,close\nsoon,1.1\n", "line 2: stamp 'soon' is in no known format"),
        (b"time,close\n01/02/2024,1.1\n02/02/2024,1.2\n", "day or month cannot be told"),
        (b"time,close\n2024-01-02,1.1\n2024-01-33,1.2\n", "line 3: stamp '2024-01-33' is not written like the first"),
        (
            b"time,close\n2024-01-02 00:00,1.1\n2024-01-03 00:00+02:00,1.2\n",
            "line 3: stamp '2024-01-03 00:00.02:00' is not",
        ),
        (b'time,close\n2024-01-02,1.1\n"2024-01-03,1.2\n2024-01-04,1.3\n', "quoted cell|EOF inside string"),
        (b"time,close\r2024-01-02,1.1\r2024-01-03\r", "line 3: 1 columns instead of 2"),
        (b"PAR1 and so on", "no readable Parquet file"),
    ],
)
def test_a_file_that_is_no_table_of_bars(tmp_path, content, message):
    path = tmp_path / "EURUSD_D1.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_bars(str(path))
    assert "\n" not in str(caught.value)
    assert "EURUSD_D1.csv" in str(caught.value)


def test_prices_that_are_missing_in_parquet_name_the_row(tmp_path, frame):
    frame.iloc[10, 3] = np.nan
    frame.rename_axis("time").to_parquet(tmp_path / "EURUSD_H1.parquet")
    with pytest.raises(DataError, match=r"EURUSD_H1\.parquet, row 11: close is missing; correct or delete that row"):
        load_bars(str(tmp_path / "EURUSD_H1.parquet"))


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=20), st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_decimals_of_text_and_of_floats(points, digits):
    prices = [point / 10**digits for point in points]
    assert decimals(pd.Series([f"{price:.{digits}f}" for price in prices])) == digits
    assert decimals(pd.Series(prices)) <= digits
    assert [round(price, decimals(pd.Series(prices))) for price in prices] == pytest.approx(prices, abs=1e-9)


@given(st.datetimes(min_value=pd.Timestamp("1971-01-01"), max_value=pd.Timestamp("2099-12-31")))
@settings(max_examples=100, deadline=None)
def test_a_stamp_reads_back_whatever_its_format(tmp_path_factory, moment):
    moment = pd.Timestamp(moment).floor("s")
    formats = ["%Y-%m-%d %H:%M:%S", "%Y.%m.%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y%m%d %H%M%S", "%Y-%m-%dT%H:%M:%S+0000"]
    for layout in formats:
        written = pd.Series([moment.strftime(layout)] * 2)
        values, zoned, days_only = parse(written, np.array([1, 2]), tmp_path_factory.getbasetemp() / "x.csv")
        assert (values == moment.to_datetime64()).all()
        assert zoned == ("+" in layout)
        assert not days_only


def test_only_files_of_bars_are_proposed_for_one_that_is_not_there(tmp_path):
    for name in ("EURUSD-D1.png", "EURUSD-D1.toml", "EURUSD_D1.CSV"):
        (tmp_path / name).touch()
    (tmp_path / "EURUSD-D1").mkdir()
    with pytest.raises(DataError, match=r"did you mean .*EURUSD_D1\.CSV\?"):
        load_bars(str(tmp_path / "EURUSD-D1.csv"))
    (tmp_path / "EURUSD_D1.CSV").unlink()
    with pytest.raises(DataError, match=r"EURUSD-D1\.csv: no such file; check the path"):
        load_bars(str(tmp_path / "EURUSD-D1.csv"))
