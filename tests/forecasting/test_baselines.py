from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from forecasting.baselines import BASELINES, baseline
from forecasting.codecs import BinsCodec
from forecasting.errors import ConfigError
from forecasting.forecasts import QUANTILE_LEVELS
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec, contexts, targets

SPEC = WindowSpec(context=10, horizon=4)
CODEC = BinsCodec(half_life=20.0)
POSITIONS = np.array([800, 2500, 5000])
SAMPLING = SamplingOptions(paths=2000, threads=1)


def predicted(name, bars, progress=None):
    forecaster = baseline(name, CODEC, SPEC, SAMPLING)
    return forecaster.predict(contexts(bars, SPEC, forecaster.warm_up, POSITIONS), progress)


def slow_sigma(closes):
    """Root of the weighted mean of squared simple returns, the newest weighing most."""
    returns = [after / before - 1 for before, after in pairwise(closes)]
    weights = [0.5 ** (age / 20) for age in range(len(returns))][::-1]
    return (sum(w * r * r for w, r in zip(weights, returns, strict=True)) / sum(weights)) ** 0.5


@pytest.mark.parametrize("name", BASELINES)
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
    unit = np.sqrt((CODEC.dof - 2) / CODEC.dof)
    return stats.t(CODEC.dof, loc=found.anchor[n], scale=found.anchor[n] * found.sigma[n] * unit)


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
        assert score[n, 0] == pytest.approx(lower + upper, rel=3e-3)


def test_ewma_t_has_the_quantiles_mean_and_odds_of_the_t(eurusd):
    found = predicted("ewma-t", eurusd).forecasts
    for n in range(3):
        spread = found.anchor[n] * found.sigma[n]
        wanted = scaled_t(found, n).ppf(QUANTILE_LEVELS)
        assert found.quantiles[n, :, 0] == pytest.approx(wanted, abs=0.003 * spread)
        assert found.mean[n] == pytest.approx(np.full(SPEC.horizon, found.anchor[n]), abs=1e-3 * spread)
        assert found.p_up[n, 0] == pytest.approx(0.5, abs=1e-6)


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
            total, counted = CODEC.decay * total + move**2, CODEC.decay * counted + 1
        spread = close.std()
        for level, quantile in zip(QUANTILE_LEVELS, result.forecasts.quantiles[n, :, -1], strict=True):
            assert quantile == pytest.approx(np.quantile(close, level), abs=0.12 * spread)


def test_hashes_tell_settings_apart():
    other = BinsCodec(half_life=21.0)
    assert baseline("ewma-t", CODEC, SPEC, SAMPLING).sha != baseline("ewma-t", other, SPEC, SAMPLING).sha
    assert baseline("random-walk", CODEC, SPEC, SAMPLING).sha != baseline("ewma-t", CODEC, SPEC, SAMPLING).sha


@pytest.mark.parametrize("change", [{"paths": 64}, {"seed": 2}])
def test_the_hash_of_ewma_t_covers_its_sampling_but_not_threads(change):
    def sha(**options):
        return baseline("ewma-t", CODEC, SPEC, replace(SAMPLING, **options)).sha

    assert sha(**change) != sha()
    assert sha(threads=2) == sha()
    assert baseline("ewma-t", CODEC, WindowSpec(11, 4), SAMPLING).sha != sha()


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


def test_an_unknown_baseline_names_the_nearest():
    with pytest.raises(ConfigError, match=r"did you mean 'random-walk'\?"):
        baseline("randomwalk", CODEC, SPEC, SAMPLING)
