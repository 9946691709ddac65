import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.sandwich_covariance import S_hac_simple

from forecasting.significance import DieboldMariano, clark_west, diebold_mariano, holm, mean_test, origins_needed


def test_against_a_slow_loop():
    rng = np.random.default_rng(0)
    one, other = rng.gamma(2, size=200), rng.gamma(2.1, size=200)
    found = diebold_mariano(one, other, horizon=5, lags=6)
    d, T, h = one - other, 200, 5
    gamma = [sum((d[t] - d.mean()) * (d[t - k] - d.mean()) for t in range(k, T)) / T for k in range(7)]
    variance = gamma[0] + 2 * sum((1 - k / 7) * gamma[k] for k in range(1, 7))
    statistic = d.mean() / np.sqrt(variance / T) * np.sqrt((T + 1 - 2 * h + h * (h - 1) / T) / T)
    assert found.statistic == pytest.approx(statistic, rel=1e-12)
    assert found.p_value == pytest.approx(stats.t.cdf(statistic, T - 1), rel=1e-12)
    assert found.difference == pytest.approx(d.mean())


def test_without_lags_it_is_the_paired_t_test():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=50), rng.normal(size=50)
    classical = stats.ttest_rel(one, other, alternative="less")
    found = diebold_mariano(one, other, horizon=1, lags=0)
    assert found.statistic == pytest.approx(classical.statistic, rel=1e-9)
    assert found.p_value == pytest.approx(classical.pvalue, rel=1e-9)


@pytest.mark.parametrize(("memory", "horizon"), [(0.0, 1), (0.5, 5)])
def test_rejects_about_as_often_as_it_says_where_none_is_better(memory, horizon):
    rng = np.random.default_rng(2)
    rejected = 0
    for _ in range(600):
        noise = rng.normal(size=600)
        difference = np.empty(600)
        difference[0] = noise[0]
        for t in range(1, 600):
            difference[t] = memory * difference[t - 1] + noise[t]
        rejected += diebold_mariano(difference, np.zeros(600), horizon).p_value < 0.05
    assert 0.03 < rejected / 600 < 0.09


def test_equal_losses_give_no_verdict():
    assert np.isnan(diebold_mariano(np.ones(9), np.ones(9), 1).p_value)


def moving_sums(rows, columns, terms, seed):
    drawn = np.cumsum(np.random.default_rng(seed).standard_normal((rows + terms, columns)), axis=0)
    return drawn[terms:] - drawn[:-terms]


@pytest.mark.parametrize("rows", [250, 1500])
def test_twenty_steps_ahead_it_still_rejects_as_often_as_it_says(rows):
    table = moving_sums(rows, 1500, 20, 3)
    zero = np.zeros(rows)
    found = np.mean([diebold_mariano(column, zero, 20).p_value < 0.05 for column in table.T])
    classical = np.mean([diebold_mariano(column, zero, 20, lags=19).p_value < 0.05 for column in table.T[:500]])
    assert 0.035 < found < 0.065
    assert classical > 0.07  # why the default is not the classical form


def test_the_statistic_is_a_plain_ratio_with_students_t():
    rng = np.random.default_rng(4)
    one, other = rng.gamma(2, size=400), rng.gamma(2.1, size=400)
    found, gap = diebold_mariano(one, other, 4), one - other
    used = min(int(0.41 * 400 ** (2 / 3)), int(400 / 6))
    cosine = np.array([[np.cos(np.pi * j * (t + 0.5) / 400) for j in range(1, used + 1)] for t in range(400)])
    seen = np.mean([abs(np.exp(1j * np.pi * j / 400 * np.arange(4)).sum()) ** 2 / 16 for j in range(1, used + 1)])
    error = np.sqrt(np.mean((cosine.T @ gap) ** 2 * 2 / 400) / seen / 400)
    assert found.statistic == pytest.approx(gap.mean() / error)
    assert found.p_value == pytest.approx(stats.t.cdf(gap.mean() / error, used))
    assert found.p_worse == pytest.approx(1 - found.p_value)
    assert found.interval() == pytest.approx(stats.t.interval(0.95, used, gap.mean(), error))
    assert np.isnan(diebold_mariano(one[:20], other[:20], 10).p_value)  # too short for its horizon


def test_classical_variance_is_that_of_statsmodels():
    gap = moving_sums(300, 1, 4, 5)[:, 0]
    omega = S_hac_simple((gap - gap.mean())[:, None], nlags=6)[0, 0] / 300
    found = diebold_mariano(gap, np.zeros(300), 1, lags=6)
    assert (found.difference / found.statistic) ** 2 * 300 == pytest.approx(omega / ((300 + 1 - 2) / 300), rel=1e-9)


def test_clark_west_by_their_formula():
    rng = np.random.default_rng(6)
    y, walk = rng.standard_normal(300), np.zeros(300)
    model = 0.3 * y + rng.standard_normal(300)
    f = [(a - b) ** 2 - ((a - c) ** 2 - (b - c) ** 2) for a, b, c in zip(y, walk, model, strict=True)]
    found = clark_west(y, walk, model, 1)
    assert found.difference == pytest.approx(-np.mean(f))
    assert found.statistic == pytest.approx(mean_test(-np.array(f), 1).statistic)
    assert found.p_value < 0.01  # it knows something, though its squared error is larger
    assert diebold_mariano((y - model) ** 2, y**2, 1).p_value > 0.5


def test_holm_by_hand():
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.5]))
    assert found == pytest.approx([0.04, 0.09, np.nan, 0.09, 0.5], nan_ok=True)


def test_origins_needed_find_the_difference_with_the_power_asked_for():
    rng = np.random.default_rng(7)
    pilot = DieboldMariano(-0.1, -0.1 / (1 / np.sqrt(200)), 0.1, 1 / np.sqrt(200), 30)
    count = round(origins_needed(pilot, 200))
    rejected = [mean_test(rng.normal(-0.1, 1, count), 1).p_value < 0.05 for _ in range(600)]
    assert np.mean(rejected) == pytest.approx(0.8, abs=0.05)
    assert origins_needed(DieboldMariano(0.0, 0.0, 0.5, 1.0, 9), 9) == np.inf
