import numpy as np
import pytest
from scipy import stats

from forecasting.significance import diebold_mariano


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
