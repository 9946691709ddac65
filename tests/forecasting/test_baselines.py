from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from asking import CODEC, asked_for, bars_of
from scipy import integrate, stats

from forecasting.baselines import BASELINES, Asked, baseline
from forecasting.baselines.asked import DAY
from forecasting.baselines.ewma import DOF
from forecasting.baselines.normal import normal_crps
from forecasting.errors import ConfigError
from forecasting.forecasts import QUANTILE_LEVELS
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec, contexts, targets

SPEC = WindowSpec(context=10, horizon=4)
POSITIONS = np.array([800, 2500, 5000])
PATHS = 2000
UNFITTED = ("random-walk", "ewma-gauss", "ewma-t")


def predicted(name, bars, progress=None):
    forecaster = baseline(name, asked_for(bars, SPEC, paths=PATHS))
    return forecaster.predict(contexts(bars, SPEC, forecaster.warm_up, POSITIONS), progress)


def slow_sigma(closes):
    """Root of the weighted mean of squared simple returns, the newest weighing most."""
    returns = [after / before - 1 for before, after in pairwise(closes)]
    weights = [0.5 ** (age / 20) for age in range(len(returns))][::-1]
    return (sum(w * r * r for w, r in zip(weights, returns, strict=True)) / sum(weights)) ** 0.5


@pytest.mark.parametrize("name", UNFITTED)
def test_anchor_sigma_and_stamps_are_those_of_the_window(eurusd, name):
    found = predicted(name, eurusd).forecasts
    length = CODEC.warm_up + SPEC.context
    for n, position in enumerate(POSITIONS):
        closes = eurusd.closes[position - length + 1 : position + 1]
        assert found.anchor[n] == closes[-1]
        assert found.sigma[n] == pytest.approx(slow_sigma(closes), rel=1e-9)
        assert found.cutoff[n] == eurusd.times[position]
        assert (found.ds[n] == eurusd.times[position + 1 : position + 5]).all()


def test_the_random_walk_repeats_the_last_close(eurusd):
    seen = []
    result = predicted("random-walk", eurusd, seen.append)
    found, truth = result.forecasts, targets(eurusd, SPEC, POSITIONS)
    for n, position in enumerate(POSITIONS):
        last = eurusd.closes[position]
        assert (found.mean[n] == last).all()
        assert (found.quantiles[n] == last).all()
        assert result.crps(truth)[n] == pytest.approx([abs(y - last) for y in truth[n]], abs=0)
    assert (found.p_up == 0.5).all()
    assert (found.mean_se == 0).all()
    assert found.quantiles.shape == (3, len(QUANTILE_LEVELS), SPEC.horizon)
    assert result.paths is None
    assert sum(seen) == 3


def scaled_t(found, n):
    """The distribution of the next close: anchor (1 + sigma z), z a t of 5 degrees of freedom and unit variance."""
    unit = np.sqrt((DOF - 2) / DOF)
    return stats.t(DOF, loc=found.anchor[n], scale=found.anchor[n] * found.sigma[n] * unit)


@pytest.mark.parametrize("z", [-3.0, -1.0, -0.2, 0.0, 0.5, 1.5, 6.0])
def test_ewma_t_scores_its_first_step_as_the_continuous_t(eurusd, z):
    result = predicted("ewma-t", eurusd)
    found = result.forecasts
    y = np.full((3, SPEC.horizon), np.nan)
    y[:, 0] = found.anchor * (1 + z * found.sigma)
    score = result.crps(y)
    assert np.isnan(score[:, 1:]).all()
    for n in range(3):
        t, spread = scaled_t(found, n), found.anchor[n] * found.sigma[n]
        lower = integrate.quad(lambda x, t=t: t.cdf(x) ** 2, y[n, 0] - 60 * spread, y[n, 0], limit=200)[0]
        upper = integrate.quad(lambda x, t=t: t.sf(x) ** 2, y[n, 0], y[n, 0] + 60 * spread, limit=200)[0]
        assert score[n, 0] == pytest.approx(lower + upper, rel=1e-4)


def test_ewma_t_has_the_quantiles_mean_and_odds_of_the_t(eurusd):
    found = predicted("ewma-t", eurusd).forecasts
    for n in range(3):
        spread = found.anchor[n] * found.sigma[n]
        wanted = scaled_t(found, n).ppf(QUANTILE_LEVELS)
        assert found.quantiles[n, :, 0] == pytest.approx(wanted, abs=1e-9 * spread)


def test_ewma_t_spreads_over_the_steps_as_a_simulation_does(eurusd):
    result, rng = predicted("ewma-t", eurusd), np.random.default_rng(0)
    length, size = CODEC.warm_up + SPEC.context, 400_000
    weight = sum(0.5 ** (age / 20) for age in range(length - 1))
    for n, position in enumerate(POSITIONS):
        total = np.full(size, weight * slow_sigma(eurusd.closes[position - length + 1 : position + 1]) ** 2)
        counted, close = weight, np.full(size, eurusd.closes[position])
        for _ in range(SPEC.horizon):
            move = rng.standard_t(5, size) * np.sqrt(3 / 5 * total / counted)
            close = close * (1 + move)
            total, counted = 0.5 ** (1 / 20) * total + move**2, 0.5 ** (1 / 20) * counted + 1
        spread = close.std()
        for level, quantile in zip(QUANTILE_LEVELS, result.forecasts.quantiles[n, :, -1], strict=True):
            assert quantile == pytest.approx(np.quantile(close, level), abs=0.12 * spread)


@pytest.mark.parametrize("name", ["random-walk", "ewma-t", "ewma-gauss"])
def test_no_direction_means_none_at_any_step(eurusd, name):
    found = predicted(name, eurusd).forecasts
    assert (found.mean == found.anchor[:, None]).all()
    assert (found.p_up == 0.5).all()
    assert (found.mean_se == 0).all()
    assert (found.p_up_se == 0).all()


def test_ewma_gauss_scores_its_first_step_as_the_normal(eurusd):
    result = predicted("ewma-gauss", eurusd)
    found = result.forecasts
    spread = found.anchor * found.sigma
    for z in (-4.0, -0.3, 0.0, 2.0):
        y = np.full((3, SPEC.horizon), np.nan)
        y[:, 0] = found.anchor + z * spread
        assert result.crps(y)[:, 0] == pytest.approx(normal_crps(found.anchor, spread, y[:, 0]), rel=1e-4)
    assert found.quantiles[:, :, 0] == pytest.approx(
        found.anchor[:, None] + spread[:, None] * stats.norm.ppf(QUANTILE_LEVELS), rel=1e-9
    )


def test_the_normal_crps_is_its_integral():
    for y in (-2.0, 0.1, 3.5):
        lower = integrate.quad(lambda x: stats.norm.cdf(x, 0.5, 1.5) ** 2, -40, y)[0]
        upper = integrate.quad(lambda x: stats.norm.sf(x, 0.5, 1.5) ** 2, y, 40)[0]
        found = normal_crps(np.array([0.5]), np.array([1.5]), np.array([y]))[0]
        assert found == pytest.approx(lower + upper, rel=1e-8)


def test_ewma_t_takes_its_volatility_by_the_timeframe(hourly, eurusd):
    assert asked_for(hourly).ewma_half_life == 48
    assert asked_for(eurusd).ewma_half_life == 20


def test_seasonal_ewma_t_divides_by_the_profile_and_ewma_t_does_not(hourly):
    profile = tuple(np.linspace(0.5, 1.5, 168).tolist())
    codec = replace(CODEC, profile=profile, timezone="America/New_York", bar_seconds=3600)
    position = np.array([900])
    seasonal = asked_for(hourly, SPEC, codec=codec)
    given = contexts(hourly, SPEC, seasonal.warm_up, position)
    found = baseline("seasonal-ewma-t", seasonal).predict(given).forecasts
    plain = baseline("ewma-t", seasonal).predict(given).forecasts
    without = baseline("ewma-t", asked_for(hourly, SPEC)).predict(given).forecasts
    total = weight = 0.0
    for before, after, factor in zip(
        given.closes[0], given.closes[0][1:], codec.factors(given.times[0])[1:], strict=False
    ):
        total = 0.5 ** (1 / 48) * total + ((after / before - 1) / factor) ** 2
        weight = 0.5 ** (1 / 48) * weight + 1
    assert found.sigma[0] == pytest.approx((total / weight) ** 0.5 * codec.factors(given.ahead)[0, 0], rel=1e-9)
    assert plain.sigma == without.sigma
    assert plain.quantiles.tobytes() == without.quantiles.tobytes()


@pytest.mark.parametrize("name", ["seasonal-ewma-t", "seasonal-garch-t"])
def test_a_seasonal_volatility_on_daily_bars_is_refused_with_the_cure(eurusd, name):
    with pytest.raises(ConfigError, match=f"use {name.removeprefix('seasonal-')}"):
        baseline(name, asked_for(eurusd))


def test_seasonal_naive_repeats_the_week_before(eurusd):
    spec = WindowSpec(context=10, horizon=12)
    given = contexts(eurusd, spec, CODEC.warm_up, POSITIONS)
    result = baseline("seasonal-naive", asked_for(eurusd, spec)).predict(given)
    for n, position in enumerate(POSITIONS):
        week = eurusd.closes[position - 4 : position + 1]
        assert result.forecasts.mean[n] == pytest.approx(np.tile(week, 3)[:12], abs=0)
        window = given.closes[n]
        root = np.sqrt(np.mean([(window[i] / window[i - 5] - 1) ** 2 for i in range(5, len(window))]))
        spread = window[-1] * root * np.sqrt([1] * 5 + [2] * 5 + [3] * 2)
        low = stats.norm.ppf(0.05, result.forecasts.mean[n], spread)
        assert result.forecasts.quantiles[n, 0] == pytest.approx(low, rel=1e-12)


def test_a_week_has_the_bars_of_the_calendar(eurusd, hourly):
    assert baseline("seasonal-naive", asked_for(eurusd)).season == 5
    assert baseline("seasonal-naive", asked_for(hourly)).season == 120


def test_a_window_shorter_than_a_week_is_refused(hourly):
    with pytest.raises(ConfigError, match=r"raise windows\.context"):
        baseline("seasonal-naive", asked_for(hourly, warm_up=50))


def test_hashes_tell_settings_apart(eurusd):
    def sha(name, **changes):
        return baseline(name, asked_for(eurusd, **changes)).sha

    assert sha("ewma-t") != sha("ewma-t", half_life=21.0)
    assert len({sha(name) for name in ("random-walk", "ewma-t", "ewma-gauss", "drift", "ar1", "garch-t")}) == 6
    assert sha("ar1") != sha("ar1", train=(0, 421))
    assert sha("ar1") != sha("ar1", refit="never")
    assert sha("ewma-t") == sha("ewma-t", train=(0, 421))


def weekly(**changes):
    """A codec with a weekly pattern, which daily bars may have as well."""
    profile = tuple(np.linspace(0.5, 1.5, 168).tolist())
    return replace(CODEC, **{"profile": profile, "timezone": "Europe/Berlin", "bar_seconds": DAY} | changes)


def another_past(bars):
    """Other closes before all windows asked for."""
    closes = bars.closes.copy()
    closes[50:350] *= np.exp(np.cumsum(np.random.default_rng(1).normal(size=300)) * 0.02)
    return bars_of(closes, bars)


CHANGES = {
    "bars": another_past,
    "spec": WindowSpec(context=30, horizon=4),
    "options": SamplingOptions(paths=16, threads=1),
    "options: seed": SamplingOptions(paths=8, seed=2, threads=1),
    "options: threads": SamplingOptions(paths=8, threads=2, chunk=1),
    "hours": weekly(profile=tuple(np.linspace(1.5, 0.5, 168).tolist())),
    "hours: timezone": weekly(timezone="Asia/Tokyo"),
    "hours: bar_seconds": weekly(bar_seconds=3600),
    "warm_up": 100,
    "train": (30, 420),
    "refit": "never",
    "planned": np.array(["2001-06-01"], dtype="datetime64[ns]"),
    "half_life": 7.0,
}


def hash_and_figures(name, asked):
    made = baseline(name, asked)
    found = made.predict(contexts(asked.bars, asked.spec, made.warm_up, np.array([700, 850]))).forecasts
    return made.sha, [getattr(found, item) for item in ("mean", "mean_se", "quantiles", "p_up", "p_up_se", "sigma")]


@pytest.fixture(scope="module")
def as_asked(eurusd):
    asked = asked_for(eurusd, SPEC, codec=weekly())
    return asked, {name: hash_and_figures(name, asked) for name in BASELINES}


def test_every_field_of_what_is_asked_is_changed_below():
    assert {change.split(":")[0] for change in CHANGES} == {item.name for item in fields(Asked)}


@pytest.mark.parametrize("change", CHANGES)
def test_where_a_change_reaches_the_figures_it_reaches_the_hash(as_asked, change):
    """Else the cache would give a table made under other settings."""
    asked, before = as_asked
    value = CHANGES[change]
    other = replace(asked, **{change.split(":")[0]: value(asked.bars) if callable(value) else value})
    reached = set()
    for name, (sha, figures) in before.items():
        sha_after, after = hash_and_figures(name, other)
        if any(a.tobytes() != b.tobytes() for a, b in zip(figures, after, strict=True)):
            reached.add(name)
            assert sha_after != sha, name
    assert bool(reached) == (change not in ("planned", "options: threads"))


@pytest.mark.parametrize("change", [{"paths": 64}, {"seed": 2}])
def test_the_hash_of_ewma_t_covers_its_sampling_but_not_threads(eurusd, change):
    def sha(**changes):
        options = replace(SamplingOptions(paths=2000, threads=1), **changes)
        return baseline("ewma-t", asked_for(eurusd, options=options)).sha

    assert sha(**change) != sha()
    assert sha(threads=2) == sha()
    assert baseline("ewma-t", asked_for(eurusd, WindowSpec(11, 4))).sha != sha()


def test_bands_of_antithetic_paths_hold_what_is_said_of_them():
    """Coverage c + (1 - c) / (S + 2), within a percentage point of c for 64 paths."""
    paths, origins = 64, 40_000
    half = np.random.default_rng(3).random((origins, paths // 2))
    draws = np.concatenate([half, 1 - half], axis=1)
    levels = np.quantile(draws, QUANTILE_LEVELS, axis=1, method="weibull")
    for low, nominal in ((2, 0.5), (1, 0.8), (0, 0.9)):
        held = np.mean(levels[-1 - low] - levels[low])  # the chance that one more uniform falls inside
        assert held == pytest.approx(nominal + (1 - nominal) / (paths + 2), abs=5e-4)
        assert abs(held - nominal) < 0.01


def test_an_unknown_baseline_names_the_nearest(eurusd):
    with pytest.raises(ConfigError, match=r"did you mean 'random-walk'\?"):
        baseline("randomwalk", asked_for(eurusd))


def test_all_the_names_there_should_be():
    assert set(BASELINES) == {
        "random-walk", "drift", "seasonal-naive", "ar1", "ewma-gauss", "ewma-t", "seasonal-ewma-t", "garch-t",
        "seasonal-garch-t", "equal-tokens", "auto-arima", "auto-ets", "theta",
    }  # fmt: skip
