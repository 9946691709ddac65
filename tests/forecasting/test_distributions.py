from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from forecasting import distributions as d
from forecasting.codecs import BinsCodec


def random_distribution(seed, segments=9):
    rng = np.random.default_rng(seed)
    return np.sort(rng.normal(size=(1, segments + 1)) * 3), rng.dirichlet(np.ones(segments))[None]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), y=st.floats(-12, 12))
def test_crps_against_numerical_integration(seed, y):
    knots, weights = random_distribution(seed)
    below = np.concatenate([[0], np.cumsum(weights[0])])

    def integrand(x):
        return (np.interp(x, knots[0], below) - (x >= y)) ** 2

    points = np.unique(np.concatenate([knots[0], [y, -13.0, 13.0]]))
    slow = sum(integrate.quad(integrand, a, b)[0] for a, b in pairwise(points))
    assert d.crps(knots, weights, np.array([y]))[0] == pytest.approx(slow, abs=1e-7)


def test_quantiles_against_draws():
    knots, weights = random_distribution(5)
    rng = np.random.default_rng(0)
    segment = rng.choice(9, size=400_000, p=weights[0])
    draws = rng.uniform(knots[0][segment], knots[0][segment + 1])
    assert d.quantiles(knots, weights, np.array([0.1, 0.5, 0.9]))[0] == pytest.approx(
        np.quantile(draws, [0.1, 0.5, 0.9]), abs=0.03
    )


def test_uniform_bins_score_like_the_continuous_t():
    codec = BinsCodec(dof=5.0)
    weights = (np.ones(codec.bins) / codec.bins)[codec.segment_token] * codec.segment_share
    unit = np.sqrt(3 / 5)
    for y in (-4.0, -0.3, 0.0, 1.0, 6.0):
        knots = codec.knots[None]
        lower = integrate.quad(lambda x: stats.t.cdf(x / unit, 5) ** 2, -60, y)[0]
        upper = integrate.quad(lambda x: stats.t.sf(x / unit, 5) ** 2, y, 60)[0]
        assert d.crps(knots, weights[None], np.array([y]))[0] == pytest.approx(lower + upper, rel=2e-3)


def slow_fair_crps(paths, y, group):
    size = len(paths)
    pairs = [(i, j) for i in range(size) for j in range(size) if i // group != j // group]
    spread = np.mean([abs(paths[i] - paths[j]) for i, j in pairs])
    return np.mean(np.abs(paths - y)) - spread / 2


@pytest.mark.parametrize("group", [1, 2, 4])
def test_fair_crps_against_a_loop(group):
    rng = np.random.default_rng(1)
    paths, y = rng.normal(size=(3, 12, 2)), rng.normal(size=(3, 2))
    fast = d.fair_crps(paths, y, group)
    for n in range(3):
        for h in range(2):
            assert fast[n, h] == pytest.approx(slow_fair_crps(paths[n, :, h], y[n, h], group), abs=1e-12)


def test_fair_crps_is_unbiased_for_antithetic_draws():
    rng = np.random.default_rng(2)
    half = stats.norm.ppf(rng.random((40_000, 4)))
    paths = np.stack([half, -half], axis=2).reshape(40_000, 8, 1)
    y = np.full((40_000, 1), 0.7)
    exact = 0.7 * (2 * stats.norm.cdf(0.7) - 1) + 2 * stats.norm.pdf(0.7) - 1 / np.sqrt(np.pi)
    error = d.fair_crps(paths, y, 2)[:, 0]
    assert error.mean() == pytest.approx(exact, abs=4 * error.std() / 200)


def test_unknown_truth_scores_nan():
    knots, weights = random_distribution(0)
    assert np.isnan(d.crps(knots, weights, np.array([np.nan]))).all()
    assert np.isnan(d.fair_crps(np.zeros((1, 4, 2)), np.full((1, 2), np.nan), 2)).all()


def antithetic(rng, origins, pairs, steps):
    """Paths [origins, 2 pairs, steps] of a Gaussian walk in antithetic pairs."""
    half = np.cumsum(rng.normal(size=(origins, pairs, steps)), axis=2)
    return np.stack([half, -half], axis=2).reshape(origins, 2 * pairs, steps)


@pytest.mark.parametrize("pairs", [4, 7, 32])
def test_the_noise_is_half_the_difference_of_the_scores_of_two_halves(pairs):
    rng = np.random.default_rng(4)
    paths, y = antithetic(rng, 5, pairs, 3), rng.normal(size=(5, 3))
    cut = pairs // 2 * 2
    wanted = [
        [
            (slow_fair_crps(paths[n, :cut, h], y[n, h], 2) - slow_fair_crps(paths[n, cut:, h], y[n, h], 2)) / 2
            for h in range(3)
        ]
        for n in range(5)
    ]
    assert d.crps_noise(paths, y, 2) == pytest.approx(np.array(wanted), abs=1e-12)


def test_too_few_pairs_have_no_known_noise():
    assert np.isnan(d.crps_noise(np.zeros((2, 6, 3)), np.zeros((2, 3)), 2)).all()


def test_the_stated_error_is_the_spread_over_sampling_seeds_also_of_the_mean_over_steps():
    """Steps share their paths: taken as if apart, the error over all steps would be far too small."""
    rng = np.random.default_rng(5)
    origins, steps = 40, 5
    y = 2 * np.cumsum(rng.normal(size=(origins, steps)), axis=1)
    origin = np.repeat(np.arange(origins), steps)
    found: dict[str, list[tuple[float, float]]] = {"overall": [], "last": [], "apart": []}
    for _ in range(400):
        paths = antithetic(rng, origins, 32, steps)
        score, noise = d.fair_crps(paths, y, 2), d.crps_noise(paths, y, 2)
        found["overall"].append((score.mean(), d.noise_of_mean(noise.ravel(), origin)))
        found["last"].append((score[:, -1].mean(), d.noise_of_mean(noise[:, -1], np.arange(origins))))
        found["apart"].append((score.mean(), d.noise_of_mean(noise.ravel(), np.arange(noise.size))))
    ratio = {
        name: np.sqrt(np.mean(np.square([stated for _, stated in runs]))) / np.std([mean for mean, _ in runs])
        for name, runs in found.items()
    }
    assert ratio["overall"] == pytest.approx(1.0, abs=0.15)
    assert ratio["last"] == pytest.approx(1.0, abs=0.15)
    assert ratio["apart"] < 0.8


def test_the_noise_of_nothing_is_unknown_and_of_what_is_exact_nothing():
    assert np.isnan(d.noise_of_mean(np.array([]), np.array([])))
    assert d.noise_of_mean(np.zeros(4), np.array([0, 0, 1, 1])) == 0.0
