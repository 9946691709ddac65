"""ARIMA, ETS and Theta applied to a window, against statsforecast's own forecasts of it."""

import numpy as np
import pytest
from asking import CODEC, asked_for
from scipy import stats
from statsforecast.ets import forecast_ets, forward_ets
from statsforecast.models import AutoARIMA, AutoETS, AutoTheta

from forecasting.baselines import baseline, classical
from forecasting.baselines.classical import (
    apply_arima,
    apply_ets,
    apply_theta,
    arima_window,
    fit_arima,
    fit_ets,
    fit_theta,
)
from forecasting.errors import ConfigError
from forecasting.forecasts import QUANTILE_LEVELS
from forecasting.windows import WindowSpec, contexts

SPEC = WindowSpec(context=10, horizon=6)
WINDOW = 170


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNETRADE_CACHE", str(tmp_path))


def arma(size, seed, phi=0.6, theta=0.0, drift=0.0, levels=False):
    """Closes whose log, or its differences, is a first-order ARMA."""
    shock = np.random.default_rng(seed).normal(size=size) * 0.01
    x = np.zeros(size)
    for t in range(1, size):
        x[t] = phi * x[t - 1] + shock[t] + theta * shock[t - 1]
    return np.exp(x if levels else np.cumsum(x + drift))


KINDS = {
    "random walk": {"phi": 0.0},
    "ar": {"phi": 0.6},
    "ma": {"phi": 0.0, "theta": -0.5},
    "drift": {"phi": 0.4, "drift": 0.004},
    "stationary": {"phi": 0.7, "levels": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_arima_forecasts_what_statsforecast_does(kind):
    closes = arma(700, 3, **KINDS[kind])
    values = fit_arima(closes[:500], np.ones(500))
    y = np.log(closes / values["scale"])
    model = AutoARIMA(season_length=1).fit(y[:500])
    theirs = model.forward(y[-WINDOW:], h=6, level=[80])
    kept = dict(sorted(values.items()))  # as it comes back from disk
    mean, spread = arima_window(kept, y[-WINDOW:], 6)
    assert mean == pytest.approx(theirs["mean"], abs=1e-6 * spread[0])
    half_width = (theirs["hi-80"] - theirs["lo-80"]) / 2
    assert spread * stats.norm.ppf(0.9) == pytest.approx(half_width, rel=1e-6)


def test_the_kinds_of_arima_are_really_tried():
    found = {kind: fit_arima(arma(700, 3, **options)[:500], np.ones(500)) for kind, options in KINDS.items()}
    assert found["ar"]["p"] > 0
    assert "coef drift" in found["drift"]
    assert found["stationary"]["d"] == 0
    assert found["random walk"]["d"] == 1


def test_many_windows_of_arima_are_each_alone(eurusd):
    values = fit_arima(arma(500, 3), np.ones(500))
    y = np.log(eurusd.closes[:510].reshape(3, WINDOW))
    mean, spread = apply_arima(values, y, 4)
    for n in range(3):
        assert (mean[n] == arima_window(values, y[n], 4)[0]).all()
    assert mean.shape == spread.shape == (3, 4)


@pytest.mark.parametrize("kind", ["ANN", "AAN", "AAdN"])
def test_ets_forecasts_what_statsforecast_does_from_the_same_start(kind):
    trend = np.cumsum(np.cumsum(np.random.default_rng(3).normal(size=600) * 2e-4) * (kind != "ANN"))
    y = trend + np.cumsum(np.random.default_rng(4).normal(size=600) * 0.005)
    damped = kind == "AAdN"
    model = AutoETS(season_length=1, model=kind.replace("d", ""), damped=damped).fit(y[:400]).model_
    assert (model["components"][1] == "A") == (kind != "ANN")
    window = y[-WINDOW:]
    alpha, beta, _, phi = model["par"][:4]
    trended = kind != "ANN"
    values = {
        "alpha": alpha, "beta": beta if trended else 0.0, "damping": phi if damped else 1.0,
        "trend": model["states"][-1][1] if trended else 0.0, "sigma2": model["sigma2"],
    }  # fmt: skip
    start = np.array([window[0], values["trend"]])[: 1 + trended]
    # theirs sees one state before the first close; ours starts at it, so theirs starts one step back, without error
    back = np.array([start[0] - start[1], start[1] / values["damping"]]) if trended else start
    theirs = forecast_ets(forward_ets({**model, "par": np.concatenate([model["par"][:4], back])}, window), 6, [80])
    mean, spread = apply_ets(values, window[None], 6)
    same = 1 if damped else 6  # from its second step on a damped trend of theirs counts phi twice, as R's does
    assert mean[0, :same] == pytest.approx(theirs["mean"][:same], abs=1e-6 * spread[0, 0])
    # theirs estimates the variance anew on the window; the growth over the steps is what the model says
    half_width = (theirs["hi-80"] - theirs["lo-80"]) / 2
    assert spread[0] / spread[0, 0] == pytest.approx(half_width / half_width[0], rel=1e-6)


def test_a_damped_trend_is_the_textbooks():
    y = np.cumsum(np.random.default_rng(4).normal(size=60) * 0.005)
    values = {"alpha": 0.8, "beta": 0.1, "damping": 0.9, "trend": 0.002, "sigma2": 1e-4}
    level, trend = y[0], 0.002
    for now in y[1:]:
        error = now - (level + 0.9 * trend)
        level, trend = level + 0.9 * trend + 0.8 * error, 0.9 * trend + 0.1 * error
    wanted = [level + trend * sum(0.9**j for j in range(1, h + 1)) for h in (1, 2, 3)]
    mean, spread = apply_ets(values, y[None], 3)
    assert mean[0] == pytest.approx(wanted, rel=1e-12)
    grown = [1, 1 + 0.89**2, 1 + 0.89**2 + (0.8 + 0.1 * (0.9 + 0.81)) ** 2]
    assert spread[0] == pytest.approx(0.01 * np.sqrt(grown), rel=1e-12)


def test_ets_is_fitted_by_statsforecast(eurusd):
    closes = eurusd.closes[:800]
    values = fit_ets(closes, np.ones(800))
    model = AutoETS(season_length=1, model="AZN").fit(np.log(closes / closes[-1])).model_
    assert values["alpha"] == model["par"][0]
    assert values["sigma2"] == model["sigma2"]


@pytest.mark.parametrize("seed", [1, 2])
def test_theta_forecasts_what_statsforecast_does(seed):
    y = np.cumsum(np.random.default_rng(seed).normal(size=WINDOW) * 0.01) + 0.3
    for alpha in (0.2, 0.7, 0.99):
        theirs = AutoTheta(season_length=1, model="STM")
        theirs.model_ = {
            "m": 1, "modeltype": "STM", "par": {"initial_smoothed": y[0] / 2, "alpha": alpha, "theta": 2.0},
        }  # fmt: skip
        mean, spread = apply_theta({"alpha": alpha, "sigma2": 4e-4}, y[None], 6)
        assert mean[0] == pytest.approx(theirs.forward(y, h=6)["mean"], abs=1e-9)
        assert spread[0] == pytest.approx([0.02 * (1 + h * alpha**2) ** 0.5 for h in range(6)])


def test_thetas_interval_is_near_the_librarys_draws():
    y = np.cumsum(np.random.default_rng(3).normal(size=400) * 0.01)
    closes = np.exp(y)
    values = fit_theta(closes, np.ones(400))
    theirs = AutoTheta(season_length=1, model="STM").fit(np.log(closes / closes[-1])).predict(h=6, level=[80])
    _, spread = apply_theta(values, np.log(closes / closes[-1])[None], 6)
    assert spread[0] * 2 * stats.norm.ppf(0.9) == pytest.approx(theirs["hi-80"] - theirs["lo-80"], rel=0.25)


@pytest.mark.parametrize("name", ["auto-arima", "auto-ets", "theta"])
def test_densities_are_normal_in_price_and_exact(eurusd, name):
    given = contexts(eurusd, SPEC, CODEC.warm_up, np.array([1500, 1501]))
    result = baseline(name, asked_for(eurusd, SPEC)).predict(given)
    found = result.forecasts
    spread = (found.quantiles[:, -1] - found.quantiles[:, 0]) / (2 * stats.norm.ppf(0.95))
    for q, level in enumerate(QUANTILE_LEVELS):
        assert found.quantiles[:, q] == pytest.approx(stats.norm.ppf(level, found.mean, spread), rel=1e-12)
    assert found.p_up == pytest.approx(stats.norm.sf(found.anchor[:, None], found.mean, spread), abs=1e-9)
    assert found.sigma == pytest.approx(spread[:, 0] / found.anchor, rel=1e-9)
    assert (np.diff(spread, axis=1) > 0).all()
    y = found.mean + 0.3 * spread
    assert (result.crps_noise(y) == 0).all()
    assert np.isnan(result.crps(np.full(y.shape, np.nan))).all()
    draws = np.random.default_rng(0).normal(size=(2, 200_000))
    for n in range(2):
        sample = found.mean[n, 2] + spread[n, 2] * draws
        slow = np.mean(np.abs(sample[0] - y[n, 2])) - np.mean(np.abs(sample[0] - sample[1])) / 2
        assert result.crps(y)[n, 2] == pytest.approx(slow, rel=0.02)


def test_without_statsforecast_the_cure_is_named(eurusd, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "statsforecast.models", None)
    with pytest.raises(ConfigError, match=r'pip install "tunetrade\[classical\]"'):
        baseline("theta", asked_for(eurusd))
    assert classical.LEAST < 420
