"""Rank agreement against scipy, and how often chance passes for agreement."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from strategies.agreement import chance_of, kendall


def test_tau_is_scipys_with_ties_too():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 5, (30, 9)), rng.integers(0, 4, (30, 9))
    wanted = [stats.kendalltau(a, b).statistic for a, b in zip(one, other, strict=True)]
    assert kendall(one.astype(float), other.astype(float)) == pytest.approx(wanted, nan_ok=True)
    assert np.isnan(kendall(np.ones((1, 4)), np.arange(4.0)[None]))[0]


def test_the_chance_is_the_mid_p_of_all_deals():
    rng = np.random.default_rng(1)
    deals = np.array(list(permutations(range(6))))
    for _ in range(4):
        errors, money = rng.standard_normal(6), rng.standard_normal(6)
        found = stats.kendalltau(-errors, money).statistic
        taus = np.array([stats.kendalltau(-errors, money[deal]).statistic for deal in deals])
        ties = np.isclose(taus, found)
        wanted = (taus[~ties] > found).sum() / len(deals) + ties.mean() / 2
        assert ties.sum() > 10
        assert chance_of(errors[None], money[None], 1, 20_000) == pytest.approx(wanted, abs=0.015)


def test_series_that_agree_are_surer_than_one():
    rng = np.random.default_rng(2)
    errors = rng.standard_normal((1, 7))
    money = -errors + rng.standard_normal((1, 7))
    one = chance_of(errors, money, 1)
    noise = rng.standard_normal((3, 7)) * 0.01
    assert chance_of(np.tile(errors, (3, 1)) + noise, np.tile(money, (3, 1)), 1) == pytest.approx(one, abs=0.02)
    assert chance_of(errors, -errors, 1) < 0.002
    assert np.isnan(chance_of(errors, np.zeros((1, 7)), 1))
