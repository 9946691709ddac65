import dataclasses
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.bars import SourceOptions, close_times, currencies, load_bars
from forecasting.calendars import MINUTES, FxWeek
from forecasting.errors import ConfigError, DataError
from forecasting.sources import text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("EURUSD", "EURUSD: no such file; for the ECB's reference rates write ecb:EURUSD"),
        ("yahoo:EURUSD", "unknown kind of source 'yahoo'; known: ecb, ecb-latest"),
        ("ebc:EURUSD", "did you mean 'ecb'"),
        ("nowhere/EURUSD_H1.csv", "no such file; the folder nowhere does not exist either"),
        (r"C:\Users\me\EURUSD_H1.csv", r"C:.Users.me.EURUSD_H1.csv: no such file"),
    ],
)
def test_when_a_source_does_not_exist_then_the_error_says_what_was_meant(source, message):
    with pytest.raises(DataError, match=message) as caught:
        load_bars(source)
    assert "\n" not in str(caught.value)


def test_a_file_name_that_is_nearly_right_is_named(tmp_path):
    (tmp_path / "EURUSD_H1.csv").write_text("time,close\n")
    with pytest.raises(DataError, match=r"did you mean .*EURUSD_H1\.csv"):
        load_bars(str(tmp_path / "EURUSD_H1.cvs"))
    with pytest.raises(DataError, match="is a folder"):
        load_bars(str(tmp_path))


@pytest.mark.skipif(sys.platform == "win32", reason="a colon cannot stand in a Windows file name")
def test_a_windows_path_is_not_a_kind_of_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / r"C:\bars.csv").write_text("time,close\n2024-01-02,1.5\n2024-01-03,1.6\n")
    assert len(load_bars(r"C:\bars.csv", SourceOptions(symbol="EURUSD"))) == 2


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "EURUSD_H1.csv"
    path.write_text("time,close\n2024-01-02,1.5\n")
    monkeypatch.setattr(text, "LARGEST", 10)
    with pytest.raises(DataError, match="more than 2 GB; split it"):
        load_bars(str(path))


def test_a_symbol_that_nothing_tells_is_asked_for(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("time,close\n2024-01-02,1.5\n2024-01-03,1.6\n")
    with pytest.raises(DataError, match="give --symbol"):
        load_bars(str(path))


def test_bars_a_month_or_seven_minutes_apart_are_refused(tmp_path):
    path = tmp_path / "EURUSD.csv"
    for freq, message in (("7min", "most bars are 7 minutes apart; known"), ("MS", "months have no fixed length")):
        pd.DataFrame({"close": 1.5}, index=pd.date_range("2024-01-01", periods=20, freq=freq, name="time")).to_csv(path)
        with pytest.raises(DataError, match=message):
            load_bars(str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeframe": "H5"}, "unknown timeframe 'H5'"),
        ({"calendar": "fx"}, "unknown calendar 'fx'"),
        ({"stamps": "middle"}, "unknown kind of stamps"),
        ({"server_tz": "Mars"}, "unknown time zone 'Mars'"),
        ({"digits": 11}, "digits is 11"),
        ({"symbol": " "}, "symbol is empty"),
    ],
)
def test_options_are_validated_once(options, message):
    with pytest.raises(ConfigError, match=message):
        SourceOptions(**options)


def test_options_are_plain_types_with_defaults():
    for field in dataclasses.fields(SourceOptions):
        assert field.default is None or isinstance(field.default, (str, int, float, bool))


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("EURUSD", ("EUR", "USD")),
        ("EURUSD.r", ("EUR", "USD")),
        ("EURUSDm", ("EUR", "USD")),
        ("EUR/USD", ("EUR", "USD")),
        ("XAUUSD", ("XAU", "USD")),
        ("AAPL", ("AAPL", "")),
        ("US500", ("US500", "")),
    ],
)
def test_currencies_of_a_symbol(symbol, expected):
    assert currencies(symbol) == expected


@pytest.mark.parametrize("timeframe", sorted(MINUTES))
@pytest.mark.parametrize("alignment", ["us-dst", "UTC", "Europe/Helsinki", "+02:00"])
@given(week=st.integers(0, 52 * 20))
@settings(max_examples=10, deadline=None)
def test_a_bar_that_opens_where_the_last_closed_closes_where_the_calendar_says(timeframe, alignment, week):
    calendar = FxWeek(timeframe, alignment, holidays=False)
    monday = np.datetime64("2004-01-05T12:00", "ns") + week * np.timedelta64(7, "D")
    closes = calendar.between(monday, monday + np.timedelta64(4 if timeframe != "W1" else 30, "D"))
    assert np.array_equal(close_times(closes[:-1], timeframe, alignment), closes[1:]) or timeframe == "W1"
    if timeframe == "W1":
        assert np.array_equal(close_times(closes[:-1] + np.timedelta64(49, "h"), timeframe, alignment), closes[1:])


def test_the_hash_is_of_the_files_bytes(tmp_path):
    import hashlib

    path = tmp_path / "EURUSD_D1.csv"
    path.write_bytes(b"time,close\n2024-01-02,1.5\n2024-01-03,1.6\n")
    assert load_bars(str(path)).instrument.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(60, 230))
@settings(max_examples=15, deadline=None)
def test_later_bars_change_nothing_before_them(tmp_path_factory, seed, cut):
    folder = tmp_path_factory.mktemp("bars")
    opens = FxWeek("H1", "UTC").between(np.datetime64("2024-03-04"), np.datetime64("2024-03-16")) - np.timedelta64(
        1, "h"
    )
    random = np.random.default_rng(seed)
    first = 1.1 + random.normal(0, 1e-3, len(opens)).round(5)
    second = np.where(np.arange(len(opens)) < cut, first, 1.1 + random.normal(0, 1e-3, len(opens)).round(5))
    loaded = []
    for name, closes in (("a", first), ("b", second)):
        pd.DataFrame({"time": opens, "close": closes.round(5)}).to_csv(folder / f"{name}.csv", index=False)
        loaded.append(load_bars(str(folder / f"{name}.csv"), SourceOptions(symbol="EURUSD", timeframe="H1")))
    assert loaded[0].frame.iloc[:cut].equals(loaded[1].frame.iloc[:cut])
    stamp = loaded[0].times[cut - 1]
    assert np.array_equal(loaded[0].calendar.following(stamp, 40), loaded[1].calendar.following(stamp, 40))
