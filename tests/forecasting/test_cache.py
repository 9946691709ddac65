import os

import numpy as np
import pandas as pd
import pytest

from forecasting.baselines import Asked, baseline
from forecasting.cache import ForecastCache, limit_bytes
from forecasting.codecs import BinsCodec
from forecasting.errors import ConfigError
from forecasting.evaluate import CHUNK, evaluate, rolling_forecasts
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec

SPEC = WindowSpec(context=12, horizon=3)
POSITIONS = np.arange(3000, 3000 + CHUNK)


class Counting:
    """A forecaster that counts the windows it is asked for."""

    def __init__(self, inner, sha=""):
        self.inner, self.asked, self.sha, self.warm_up = inner, 0, sha or inner.sha, inner.warm_up

    def predict(self, inputs, progress=None):
        self.asked += len(inputs)
        return self.inner.predict(inputs, progress)


@pytest.fixture
def forecaster(eurusd):
    asked = Asked(eurusd, SPEC, SamplingOptions(8, threads=1), BinsCodec(), 40, (0, 2000))
    return Counting(baseline("ewma-t", asked))


def cache_in(folder, limit=2**30, program="p"):
    return ForecastCache(folder, limit, program)


def test_a_second_request_is_read_and_equal_to_the_first(forecaster, eurusd, tmp_path):
    one = evaluate(forecaster, eurusd, SPEC, POSITIONS, cache_in(tmp_path))
    assert (one.cached, forecaster.asked) == (0, CHUNK)
    two = evaluate(forecaster, eurusd, SPEC, POSITIONS, cache_in(tmp_path))
    assert (two.cached, forecaster.asked) == (CHUNK, CHUNK)
    assert two.seconds == one.seconds > 0
    pd.testing.assert_frame_equal(one.table, two.table)
    pd.testing.assert_frame_equal(two.table, rolling_forecasts(forecaster, eurusd, SPEC, POSITIONS))


@pytest.mark.parametrize("change", ["program", "forecaster", "data", "horizon"])
def test_another_question_is_not_answered_from_it(forecaster, eurusd, tmp_path, change):
    evaluate(forecaster, eurusd, SPEC, POSITIONS[:4], cache_in(tmp_path))
    spec, bars, program, other = SPEC, eurusd, "p", forecaster
    if change == "program":
        program = "q"
    elif change == "forecaster":
        other = Counting(forecaster.inner, sha="another")
    elif change == "horizon":
        spec = WindowSpec(context=12, horizon=2)
    else:
        frame = eurusd.frame.copy()
        frame.iloc[POSITIONS[0] + 2] *= 1.01  # the truth of the first cutoffs, the input of the last
        bars = type(eurusd)(frame, eurusd.instrument, eurusd.calendar)
    assert evaluate(other, bars, spec, POSITIONS[:4], cache_in(tmp_path, program=program)).cached == 0


def test_a_longer_series_finds_the_chunks_before_its_end(forecaster, eurusd, tmp_path):
    evaluate(forecaster, eurusd, SPEC, np.arange(3000, 3400), cache_in(tmp_path))
    longer = evaluate(forecaster, eurusd, SPEC, np.arange(3000, 3401), cache_in(tmp_path))
    whole = 3400 // CHUNK * CHUNK - 3000
    assert longer.cached == whole > 0


def test_a_damaged_file_is_made_again(forecaster, eurusd, tmp_path):
    one = evaluate(forecaster, eurusd, SPEC, POSITIONS[:4], cache_in(tmp_path))
    (file,) = tmp_path.rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:100])
    again = evaluate(forecaster, eurusd, SPEC, POSITIONS[:4], cache_in(tmp_path))
    assert again.cached == 0
    pd.testing.assert_frame_equal(one.table, again.table)
    assert evaluate(forecaster, eurusd, SPEC, POSITIONS[:4], cache_in(tmp_path)).cached == 4


def test_the_oldest_files_give_way(forecaster, eurusd, tmp_path):
    for first in range(3000, 3040, 10):
        evaluate(forecaster, eurusd, SPEC, np.arange(first, first + 4), cache_in(tmp_path))
    files = sorted(tmp_path.rglob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    for age, file in enumerate(files):
        os.utime(file, (1000 + age, 1000 + age))
    size = files[0].stat().st_size
    evaluate(forecaster, eurusd, SPEC, np.arange(5000, 5004), cache_in(tmp_path, limit=3 * size + size // 2))
    left = set(tmp_path.rglob("*.parquet"))
    assert len(left) == 3
    assert not left & set(files[:2])


def test_no_folder_to_write_to_and_a_limit_of_nothing_cost_only_time(forecaster, eurusd, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    for cache in (cache_in(blocked), cache_in(tmp_path / "off", limit=0)):
        assert len(evaluate(forecaster, eurusd, SPEC, POSITIONS[:4], cache).table) == 12
    assert not (tmp_path / "off").exists()


def test_a_folder_that_may_only_be_read_is_read(forecaster, eurusd, tmp_path, monkeypatch):
    def refused(*_arguments, **_options):
        raise PermissionError(13, "read-only")

    evaluate(forecaster, eurusd, SPEC, POSITIONS[:4], cache_in(tmp_path))
    monkeypatch.setattr("forecasting.cache.atomic", refused)
    monkeypatch.setattr(os, "utime", refused)
    assert evaluate(forecaster, eurusd, SPEC, POSITIONS[:4], cache_in(tmp_path)).cached == 4


def test_a_limit_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("TUNETRADE_CACHE_MB", "much")
    with pytest.raises(ConfigError, match="TUNETRADE_CACHE_MB"):
        limit_bytes()
