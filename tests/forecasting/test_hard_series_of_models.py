"""The series that break numerics, given to GPT-2: no NaN, no infinity, no disorder, and cones of the right size."""

from dataclasses import replace

import numpy as np
import pytest
from asking import bars_of
from test_baselines_hard_series import LENGTH, SERIES, walk

from forecasting.bars import load_bars
from forecasting.base import find_base, load_model
from forecasting.decoder import weights_of
from forecasting.errors import DataError
from forecasting.forecaster import PathForecaster
from forecasting.sampler import SamplingOptions, gpt2_decoders
from forecasting.windows import WindowSpec, contexts

SPEC = WindowSpec(context=12, horizon=4)
POSITIONS = np.array([450, 505, 640, LENGTH - 1])


def embedded(paths, seed=1):
    base = find_base("embedded")
    make = gpt2_decoders(weights_of(load_model(base)), paths, SPEC.horizon)
    return PathForecaster(base.sha, base.codec, SPEC.context, SamplingOptions(paths, seed, threads=1), make)


@pytest.fixture(scope="module")
def forecaster():
    return embedded(16)


@pytest.mark.parametrize("series", SERIES)
def test_every_figure_is_a_number(eurusd, forecaster, series):
    given = contexts(bars_of(SERIES[series], eurusd), SPEC, forecaster.warm_up, POSITIONS)
    result = forecaster.predict(given)
    found = result.forecasts
    y = given.closes[:, -1:] * np.array([[1.0, 1.01, 0.5, 1.5]])
    for values in (found.mean, found.mean_se, found.quantiles, found.p_up, found.p_up_se, found.sigma, result.crps(y)):
        assert np.isfinite(values).all()
    assert (found.sigma > 0).all()
    assert ((found.p_up >= 0) & (found.p_up <= 1)).all()
    assert (np.diff(found.quantiles, axis=1) >= 0).all()
    assert (result.paths > 0).all()


@pytest.mark.parametrize("price", [1e-6, 1.0, 1e6])
def test_cones_are_as_wide_as_the_moves_at_any_price(eurusd, forecaster, price):
    given = contexts(bars_of(walk(0.006, price), eurusd), SPEC, forecaster.warm_up, POSITIONS)
    found = forecaster.predict(given).forecasts
    half_width = (found.quantiles[:, -1, 0] - found.quantiles[:, 0, 0]) / 2 / found.anchor
    assert half_width == pytest.approx(np.full(len(POSITIONS), 1.64 * 0.006), rel=0.3)


def test_a_dead_feed_that_wakes_is_believed_within_a_few_weeks(eurusd, forecaster):
    """Sigma climbs from its floor to half of what the moves are in at most 25 bars."""
    closes = np.concatenate([np.full(700, 1.25), 1.25 * np.exp(np.cumsum(np.tile([0.006, -0.006], 100)))])
    given = contexts(bars_of(closes, eurusd), SPEC, forecaster.warm_up, np.array([724]))
    assert forecaster.predict(given).forecasts.sigma[0] > 0.003


def test_gaps_between_bars_change_nothing_but_stamps(eurusd, forecaster):
    """Daily bars have no weekly pattern: a fortnight without fixings is one return like any other."""
    given = contexts(eurusd, SPEC, forecaster.warm_up, np.array([3000]))
    late = np.where(np.arange(given.times.shape[1]) < 200, 0, 14) * np.timedelta64(1, "D")
    gapped = replace(given, times=given.times - late[::-1][None])
    assert (forecaster.predict(gapped).forecasts.sigma == forecaster.predict(given).forecasts.sigma).all()


def test_nan_is_refused_where_bars_are_read(tmp_path):
    rows = [f"2020-01-{day:02d},{price}" for day, price in zip(range(1, 5), ("1.1", "nan", "1.2", "1.3"), strict=True)]
    file = tmp_path / "EURUSD_D1.csv"
    file.write_text("\n".join(["time,close", *rows]) + "\n")
    with pytest.raises(DataError, match=r"EURUSD_D1\.csv"):
        load_bars(str(file))
