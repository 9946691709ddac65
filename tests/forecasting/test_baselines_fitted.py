"""Means and volatilities fitted on returns: against least squares, slow loops, arch's own forecast, simulation."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from arch.univariate import GARCH, StudentsT, ZeroMean
from asking import CODEC, asked_for, bars_of

from forecasting.baselines import baseline
from forecasting.baselines.autoregression import fit_ar1, fit_drift
from forecasting.baselines.garch import fit_garch
from forecasting.baselines.innovations import student_t
from forecasting.baselines.simulate import Dynamics, simulate
from forecasting.baselines.volatility import EwmaVolatility, GarchVolatility, filtered
from forecasting.forecasts import QUANTILE_LEVELS
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec, contexts

SPEC = WindowSpec(context=10, horizon=4)
POSITIONS = np.array([1500, 1501, 4000])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNETRADE_CACHE", str(tmp_path))


def returns_of(closes):
    return np.diff(closes) / closes[:-1]


def given_at(bars, positions=POSITIONS):
    return contexts(bars, SPEC, CODEC.warm_up, positions)


def test_ar1_is_least_squares(eurusd):
    returns = returns_of(eurusd.closes[:2000])
    table = np.column_stack([np.ones(len(returns) - 1), returns[:-1]])
    wanted = np.linalg.lstsq(table, returns[1:], rcond=None)[0]
    found = fit_ar1(eurusd.closes[:2000], np.ones(2000))
    assert [found["constant"], found["slope"]] == pytest.approx(wanted, rel=1e-8)


def test_ar1_forecasts_the_mean_of_its_recursion(eurusd):
    asked = asked_for(eurusd, SPEC, train=(0, 1400), refit="never")
    result = baseline("ar1", asked).predict(given_at(eurusd)).forecasts
    fitted = fit_ar1(eurusd.closes[:1401], np.ones(1401))
    for n, position in enumerate(POSITIONS):
        before, anchor = returns_of(eurusd.closes[position - 1 : position + 1])[0], eurusd.closes[position]
        moved = 0.0
        for h in range(SPEC.horizon):
            before = fitted["constant"] + fitted["slope"] * before
            moved += before
            assert result.mean[n, h] == pytest.approx(anchor * (1 + moved), rel=1e-14)
    assert (result.mean_se == 0).all()


def test_drift_is_the_mean_return_bar_by_bar(eurusd):
    asked = asked_for(eurusd, SPEC, train=(0, 1400), refit="never")
    result = baseline("drift", asked).predict(given_at(eurusd)).forecasts
    mean = returns_of(eurusd.closes[:1401]).mean()
    steps = 1 + mean * np.arange(1, 5)
    assert result.mean == pytest.approx(result.anchor[:, None] * steps, rel=1e-14)
    assert fit_drift(eurusd.closes[:1401], np.ones(1401))["constant"] == pytest.approx(mean)
    assert (np.sign(result.p_up - 0.5) == np.sign(mean)).all()


def test_a_steeper_series_has_a_steeper_drift(eurusd):
    rising = bars_of(np.exp(np.arange(2000) * 1e-3), eurusd)
    found = baseline("drift", asked_for(rising, SPEC)).predict(given_at(rising, POSITIONS[:2])).forecasts
    assert found.mean[:, 0] / found.anchor - 1 == pytest.approx(np.full(2, np.expm1(1e-3)), rel=1e-9)
    assert (found.p_up > 0.999).all()


def test_the_filter_of_garch_is_a_slow_loop(eurusd):
    closes = eurusd.closes[:300]
    omega, alpha, beta, start = 2e-7, 0.05, 0.93, 4e-5
    variance = start
    for before, after in pairwise(closes):
        variance = omega + alpha * (after / before - 1) ** 2 + beta * variance
    found = filtered(GarchVolatility(omega, alpha, beta, start), returns_of(closes)[None])
    assert found == pytest.approx([variance], rel=1e-12)


def test_the_ewma_is_the_weighted_mean_of_squares(eurusd):
    returns = returns_of(eurusd.closes[:90])
    weights = 0.5 ** (np.arange(len(returns))[::-1] / 7)
    wanted = (weights * returns**2).sum() / weights.sum()
    assert filtered(EwmaVolatility(7.0), returns[None]) == pytest.approx([wanted], rel=1e-12)


def test_garch_is_archs_fit(eurusd):
    closes = eurusd.closes[:3000]
    fitted = ZeroMean(returns_of(closes) * 100, volatility=GARCH(), distribution=StudentsT()).fit(disp="off").params
    found = fit_garch(closes, np.ones(3000))
    assert found["omega"] * 1e4 == pytest.approx(fitted["omega"], rel=3e-2)
    assert found["alpha"] == pytest.approx(fitted["alpha[1]"], rel=1e-2)
    assert found["beta"] == pytest.approx(fitted["beta[1]"], rel=1e-3)
    assert found["dof"] == pytest.approx(fitted["nu"], rel=1e-2)
    assert found["start"] == pytest.approx(found["omega"] / (1 - found["alpha"] - found["beta"]))


def test_the_first_step_of_garch_is_archs_own_forecast(eurusd):
    """From a window long enough to have forgotten where its filter began."""
    position = 4000
    asked = asked_for(eurusd, SPEC, train=(0, 2999), refit="never", warm_up=900)
    found = baseline("garch-t", asked).predict(contexts(eurusd, SPEC, 900, np.array([position]))).forecasts
    fitted = fit_garch(eurusd.closes[:3000], np.ones(3000))
    returns = returns_of(eurusd.closes[position - 909 : position + 1]) * 100
    model = ZeroMean(returns, volatility=GARCH(), distribution=StudentsT(), rescale=False)
    params = np.array([fitted["omega"] * 1e4, fitted["alpha"], fitted["beta"], fitted["dof"]])
    sigma = float(np.sqrt(model.fix(params).forecast(horizon=1).variance.to_numpy()[-1, 0])) / 100
    assert found.sigma[0] == pytest.approx(sigma, rel=1e-8)


def test_garch_has_no_direction_at_any_step(eurusd):
    found = baseline("garch-t", asked_for(eurusd, SPEC, train=(0, 1400))).predict(given_at(eurusd)).forecasts
    assert (found.mean == found.anchor[:, None]).all()
    assert (found.p_up == 0.5).all()
    assert (found.p_up_se == 0).all()


def test_seasonal_garch_filters_returns_divided_by_the_profile(hourly):
    profile = tuple(np.linspace(0.6, 1.4, 168).tolist())
    codec = replace(CODEC, profile=profile, timezone="America/New_York", bar_seconds=3600)
    asked = asked_for(hourly, SPEC, train=(0, 1200), codec=codec, refit="never")
    given = contexts(hourly, SPEC, asked.warm_up, np.array([1500]))
    found = baseline("seasonal-garch-t", asked).predict(given).forecasts
    factors = codec.factors(hourly.times[:1201])
    values = fit_garch(hourly.closes[:1201], factors)
    variance = values["start"]
    for before, after, factor in zip(
        given.closes[0], given.closes[0][1:], codec.factors(given.times[0])[1:], strict=False
    ):
        scaled = (after / before - 1) / factor
        variance = values["omega"] + values["alpha"] * scaled**2 + values["beta"] * variance
    assert found.sigma[0] == pytest.approx(variance**0.5 * codec.factors(given.ahead)[0, 0], rel=1e-9)
    assert found.sigma[0] != baseline("garch-t", asked).predict(given).forecasts.sigma[0]


def test_seasonal_garch_that_does_not_converge_begins_at_the_variance_of_what_it_filters(hourly, monkeypatch):
    """The fallback's filter from a start that a slow loop over divided returns gives."""
    monkeypatch.setattr("forecasting.baselines.garch.fit_garch", lambda closes, factors: {})
    codec = replace(CODEC, profile=tuple(np.linspace(0.2, 3.0, 168).tolist()), timezone="UTC", bar_seconds=3600)
    asked = asked_for(hourly, SPEC, train=(0, 500), codec=codec, refit="never", half_life=100.0)
    given = contexts(hourly, SPEC, asked.warm_up, np.array([520]))
    found = baseline("seasonal-garch-t", asked).predict(given).forecasts
    stamps, decay = hourly.times - np.timedelta64(1, "h"), 0.5 ** (1 / 100)
    hours = (stamps - np.datetime64("1970-01-05", "ns")) // np.timedelta64(1, "h") % 168
    scaled = [(b / a - 1) / codec.profile[h] for (a, b), h in zip(pairwise(hourly.closes), hours[1:], strict=True)]
    variance = np.mean(np.square(scaled[:500]))
    for each in scaled[520 - asked.warm_up - SPEC.context + 1 : 520]:
        variance = (1 - decay) * each**2 + decay * variance
    assert found.sigma[0] == pytest.approx(variance**0.5 * codec.factors(given.ahead)[0, 0], rel=1e-9)


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_simulated_densities_are_those_of_a_slow_simulation(eurusd, slope):
    """Quantiles and chances of a rise at the last step, against plain draws of scipy-free code."""
    dof, constant = 6.0, 0.1 * slope * 1e-3
    volatility = GarchVolatility(1e-6, 0.1, 0.85, 3e-5)
    given = given_at(eurusd)
    ones = np.ones((3, given.closes.shape[1] - 1))
    dynamics = Dynamics(volatility, student_t(dof), constant, slope)
    result = simulate(given, dynamics, ones, np.ones((3, 4)), SamplingOptions(4096, threads=1)).forecasts
    rng = np.random.default_rng(2)
    for n in range(3):
        seen = returns_of(given.closes[n])
        variance, before = volatility.start, constant / (1 - slope)
        for now in seen:
            variance = 1e-6 + 0.1 * (now - constant - slope * before) ** 2 + 0.85 * variance
            before = now
        variance, before, moved = np.full(400_000, variance), np.full(400_000, before), np.zeros(400_000)
        for _ in range(4):
            shock = np.sqrt(variance * (dof - 2) / dof) * rng.standard_t(dof, len(moved))
            before = constant + slope * before + shock
            moved += before
            variance = 1e-6 + 0.1 * shock**2 + 0.85 * variance
        spread = moved.std()
        close = given.closes[n, -1] * (1 + moved)
        wanted = np.quantile(close, QUANTILE_LEVELS)
        assert result.quantiles[n, :, -1] == pytest.approx(wanted, abs=0.1 * spread * close.mean())
        assert result.mean[n, -1] == pytest.approx(close.mean(), abs=0.01 * spread * close.mean())
        error = 4 * result.p_up_se[n, -1] + 0.003
        assert result.p_up[n, -1] == pytest.approx(np.mean(moved > 0), abs=error)
        assert (slope != 0) == (result.p_up_se[n, -1] > 0)


def test_more_paths_score_the_same_but_for_noise(eurusd):
    given = given_at(eurusd, np.arange(1500, 1600))
    y = given.closes[:, -1:] * (1 + np.array([[0.001, -0.004, 0.0, 0.012]]))
    few, many = (
        baseline("ewma-t", asked_for(eurusd, SPEC, paths=paths)).predict(given).crps(y) for paths in (256, 2048)
    )
    assert (few[:, 0] == many[:, 0]).all()
    assert few.mean(axis=0) == pytest.approx(many.mean(axis=0), rel=0.02)
