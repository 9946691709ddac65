"""Series that break numerics: no NaN, no infinity, no disorder, or one line that says why not."""

import numpy as np
import pytest
from asking import CODEC, SEASONAL, asked_for, bars_of, weekly

from forecasting.baselines import BASELINES, baseline
from forecasting.windows import WindowSpec, contexts

SPEC = WindowSpec(context=10, horizon=4)
NAMES = sorted(BASELINES)
LENGTH = 900


def walk(scale, start=1.0, seed=4):
    return start * np.exp(np.cumsum(np.random.default_rng(seed).normal(size=LENGTH)) * scale)


def jumps():
    moves = np.random.default_rng(5).choice([0.0, 0.0, 0.0, 0.5, -0.5, 1 / 3], LENGTH)
    return np.cumprod(1 + moves - moves.mean() * 0.5)


SERIES = {
    "constant": np.full(LENGTH, 1.25),
    "constant, then moving": np.concatenate([np.full(600, 1.25), walk(0.01)[:300]]),
    "moving, then constant": np.concatenate([walk(0.01)[:600], np.full(300, 1.25)]),
    "one tick": 1.25 + 1e-5 * (np.arange(LENGTH) % 2),
    "one jump": np.where(np.arange(LENGTH) < 500, 1.0, 1.5),
    "jumps by half": jumps(),
    "tiny prices": walk(0.006, 1e-6),
    "huge prices": walk(0.006, 1e6),
    "straight line": 1 + 1e-4 * np.arange(LENGTH),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNETRADE_CACHE", str(tmp_path))


def given_to(name, closes, daily, hourly):
    """Closes as bars, and the codec: hours with their weekly pattern for those that need one, days for all others."""
    if name in SEASONAL:
        return bars_of(closes, hourly), weekly(CODEC, hourly, closes)
    return bars_of(closes, daily), CODEC


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_a_number(eurusd, hourly, name, series):
    bars, codec = given_to(name, SERIES[series], eurusd, hourly)
    positions = np.array([450, 505, 640, LENGTH - 1])
    given = contexts(bars, SPEC, CODEC.warm_up, positions)
    result = baseline(name, asked_for(bars, SPEC, codec=codec)).predict(given)
    found = result.forecasts
    y = given.closes[:, -1:] * np.array([[1.0, 1.01, 0.5, 1.5]])
    for values in (found.mean, found.mean_se, found.quantiles, found.p_up, found.p_up_se, found.sigma, result.crps(y)):
        assert np.isfinite(values).all()
    assert (found.sigma > 0).all()
    assert (result.crps(y) >= -1e-9 * found.anchor[:, None]).all()
    assert ((found.p_up >= 0) & (found.p_up <= 1)).all()
    assert (np.diff(found.quantiles, axis=1) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_prices_in_other_units_give_the_same_forecast(eurusd, hourly, name, factor):
    """Powers of two change no digit, so nothing may depend on the size of a price."""
    closes = walk(0.006)
    results = []
    for series in (closes, closes * factor):
        bars, codec = given_to(name, series, eurusd, hourly)
        given = contexts(bars, SPEC, CODEC.warm_up, np.array([600, 800]))
        results.append(baseline(name, asked_for(bars, SPEC, codec=codec)).predict(given).forecasts)
    assert results[1].mean == pytest.approx(results[0].mean * factor, rel=1e-9)
    assert results[1].quantiles == pytest.approx(results[0].quantiles * factor, rel=1e-9)
