import json
import math

import numpy as np
import pandas as pd
import pytest

from forecasting.bars import Bars, Instrument, load_bars
from forecasting.calendars import FxWeek
from forecasting.quality import Gap, describe, missing_stamps, plot


@pytest.fixture
def bars():
    """A week of H1 without Tuesday 10:00 to 12:00 UTC and Friday's last bar but one; a bar on Saturday besides."""
    times = FxWeek("H1").between(np.datetime64("2024-01-07T22:00:01"), np.datetime64("2024-01-12T22:00"))
    gone = np.array(["2024-01-09T10:00", "2024-01-09T11:00", "2024-01-09T12:00", "2024-01-12T21:00"], "datetime64[ns]")
    extra = np.array(["2024-01-13T12:00"], "datetime64[ns]")
    times = np.concatenate([times[~np.isin(times, gone)], extra])
    close = np.full(len(times), 1.1)
    close[50:] = 1.2
    spread = np.where(np.arange(len(times)) < 29, 0.0, 12.0)
    index = pd.DatetimeIndex(times, name="time").tz_localize("UTC")
    columns = dict.fromkeys(("open", "high", "low", "close"), close)
    frame = pd.DataFrame({**columns, "volume": 1.0, "spread": spread}, index=index)
    return Bars(frame, Instrument("EURUSD", "EUR", "USD", 5, "H1", "test", "0" * 64, False), FxWeek("H1"))


def test_a_week_worked_by_hand(bars):
    quality = describe(bars)
    assert (quality.bars, quality.expected, quality.missing, quality.off_calendar) == (117, 120, 4, 1)
    assert quality.gaps == 2
    assert quality.longest_gaps == (
        Gap("2024-01-09T10:00Z", "2024-01-09T12:00Z", 3),
        Gap("2024-01-12T21:00Z", "2024-01-12T21:00Z", 1),
    )
    assert quality.quality_percent == pytest.approx(100 * 116 / 120)
    assert quality.unchanged == pytest.approx(115 / 116)
    assert quality.largest_move == pytest.approx(math.log(1.2 / 1.1))
    assert quality.largest_move_at == str(bars.times[50])[:16] + "Z"
    assert quality.zero_spread == pytest.approx(29 / 117)
    assert quality.median_spread == 12.0
    assert (quality.first, quality.last) == ("2024-01-07T23:00Z", "2024-01-13T12:00Z")
    assert len(missing_stamps(bars)) == 4


def test_it_is_plain_enough_for_json(bars):
    back = json.loads(json.dumps(describe(bars).as_dict()))
    assert back["longest_gaps"][0] == {"first": "2024-01-09T10:00Z", "last": "2024-01-09T12:00Z", "bars": 3}


def test_the_plot_is_a_small_picture_and_the_same_each_time(bars, tmp_path):
    for name in ("a.png", "b.png"):
        plot(bars, describe(bars), tmp_path / name)
    raw = (tmp_path / "a.png").read_bytes()
    assert raw.startswith(b"\x89PNG")
    assert len(raw) < 200_000
    assert raw == (tmp_path / "b.png").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_ecb_fixings_are_complete_but_for_real_holes():
    assert describe(load_bars("ecb:EURUSD")).quality_percent == 100.0
    holes = describe(load_bars("ecb:EURISK"))
    assert holes.longest_gaps == (Gap("2008-12-10T15:00Z", "2018-01-31T15:00Z", 2341),)
    assert math.isnan(holes.zero_spread)


def test_a_single_bar_has_no_moves(bars):
    one = describe(Bars(bars.frame.iloc[:1], bars.instrument, bars.calendar))
    assert (one.bars, one.missing, one.quality_percent) == (1, 0, 100.0)
    assert math.isnan(one.unchanged)
