"""Resampling and long-run variances against arch, plain loops and closed forms."""

import numpy as np
import pytest
from arch.bootstrap import optimal_block_length
from scipy import stats

from forecasting.bootstrap import block_length, counts, indices, means, weights
from forecasting.bootstrap_t import mean_of, project
from forecasting.long_run import basis, coefficients, cosines, long_run_variance


def autoregressive(rows, columns, memory, seed=0):
    noise = np.random.default_rng(seed).standard_normal((rows, columns))
    for t in range(1, rows):
        noise[t] += memory * noise[t - 1]
    return noise


def test_block_lengths_are_archs():
    table = np.column_stack([autoregressive(400, 2, 0.8), autoregressive(400, 2, 0.3, 1), autoregressive(400, 2, -0.4)])
    wanted = optimal_block_length(table)["stationary"].to_numpy()
    assert block_length(table) == pytest.approx(np.maximum(wanted, 1), rel=1e-9)
    assert block_length(np.ones((50, 1)))[0] == 1


def test_blocks_run_on_and_have_the_length_asked_for():
    drawn = indices(np.random.default_rng(0), 200, 8.0, 300)
    on = (drawn[:, 1:] - drawn[:, :-1]) % 200 == 1
    assert 1 / (1 - on.mean()) == pytest.approx(8, rel=0.05)
    assert np.bincount(drawn.ravel(), minlength=200).min() > 200  # wrapped: the ends are drawn as often as the middle
    assert (indices(np.random.default_rng(0), 50, 1.0, 4)[:, 1:] != 0).any()


def test_means_by_counts_are_means_of_the_rows_drawn():
    table = np.random.default_rng(1).gamma(2, 1e-5, (60, 3)) + 1
    drawn = indices(np.random.default_rng(2), 60, 4.0, 20)
    slow = np.array([[np.mean([table[t, k] for t in row]) for k in range(3)] for row in drawn])
    found = means(counts(drawn, 60), table)
    assert np.abs(found - slow).max() < 1e-6 * table.std()


def test_weights_are_seeded_and_draw_every_row_budget_in_full():
    whole = weights(40, 5.0, 30, seed=3)
    assert (whole.sum(axis=1) == 40).all()
    assert (weights(40, 5.0, 30, seed=3) == whole).all()
    assert not (weights(40, 5.0, 30, seed=4) == whole).all()


def test_cosines_are_orthonormal_and_few_where_forecasts_overlap():
    cosine = basis(300, 9)
    assert cosine.T @ cosine == pytest.approx(np.eye(9), abs=1e-12)
    assert cosine.sum(axis=0) == pytest.approx(np.zeros(9), abs=1e-10)
    assert (cosines(1500), cosines(1500, 20), cosines(250, 20), cosines(60, 20)) == (53, 50, 8, 2)


def test_long_run_variance_by_a_loop_and_of_what_is_known():
    values, used, horizon = autoregressive(120, 1, 0.5)[:, 0], 6, 3
    slow = []
    for j in range(1, used + 1):
        slow.append(sum(x * np.sqrt(2 / 120) * np.cos(np.pi * j * (t + 0.5) / 120) for t, x in enumerate(values)) ** 2)
    # What a moving average of three equal terms shows at frequency f, over what it shows at 0.
    seen = [abs(sum(np.exp(1j * np.pi * j / 120 * k) for k in range(3))) ** 2 / 9 for j in range(1, used + 1)]
    assert long_run_variance(values, used, horizon) == pytest.approx(np.mean(slow) / np.mean(seen))
    many = autoregressive(1500, 400, 0.5, 4)
    assert long_run_variance(many, 30).mean() == pytest.approx(1 / (1 - 0.5) ** 2, rel=0.05)
    assert coefficients(many, 30).shape == (30, 400)


def test_a_bootstrapped_statistic_is_the_statistic_of_the_rows_drawn():
    table = autoregressive(90, 2, 0.4, 5) * 1e-4
    order = indices(np.random.default_rng(6), 90, 5.0, 25)
    found = mean_of(project(table, order), 0, 1)
    gap = table[:, 0] - table[:, 1]
    slow = []
    for row in order:
        drawn = gap[row] - gap.mean()
        slow.append(drawn.mean() / np.sqrt(np.mean((basis(90, found.used).T @ drawn) ** 2) / 90))
    assert found.statistics == pytest.approx(slow, rel=1e-3, abs=1e-4)
    assert found.error == pytest.approx(np.sqrt(long_run_variance(gap, found.used) / 90))
    assert found.p_above == (1 + np.sum(found.statistics >= found.statistic)) / 26
    low, high = found.interval(0.9)
    assert low == pytest.approx(gap.mean() - np.percentile(found.statistics, 95) * found.error)
    assert high == pytest.approx(gap.mean() - np.percentile(found.statistics, 5) * found.error)


def test_without_dependence_the_bootstrapped_statistic_is_nearly_students():
    values = np.random.default_rng(7).standard_normal((500, 1))
    found = mean_of(project(values, indices(np.random.default_rng(8), 500, 1.0, 4000)), 0)
    for level in (0.05, 0.5, 0.95):
        assert np.quantile(found.statistics, level) == pytest.approx(stats.t.ppf(level, found.used), abs=0.12)


def test_what_never_differs_has_no_statistic():
    table = np.random.default_rng(9).standard_normal((80, 1)) + np.zeros((80, 2))
    assert mean_of(project(table, indices(np.random.default_rng(0), 80, 3.0, 5)), 0, 1) is None


def test_equal_accounts_of_which_one_is_a_mean_of_seeds_are_equal():
    """Their difference is rounding, of one sign and hardly any spread: a test of it would reject."""
    gains = np.random.default_rng(9).integers(-9_000, 9_000, (300, 1)) / 1e6
    seeds = np.mean([gains - 0.1, gains, gains + 0.1], axis=0) + 1e-17
    assert np.any(seeds != gains)
    order = indices(np.random.default_rng(0), 300, 7.0, 200)
    assert mean_of(project(np.hstack([seeds, gains]), order), 0, 1) is None
    other = gains + 0.01 * (np.arange(300) == 7)[:, None]
    assert mean_of(project(np.hstack([other, gains]), order), 0, 1) is not None
