"""Sharpe ratios against the worked example of Bailey and Lopez de Prado (2014), simulation, and scipy's moments."""

import math

import numpy as np
import pytest
from scipy import stats

from strategies.deflated import (
    Moments,
    deflated_sharpe,
    expected_maximum,
    moments,
    probabilistic_sharpe,
)

PAPER = Moments(sharpe=2.5 / math.sqrt(250), skewness=-3.0, kurtosis=10.0, observations=1250)
"""Their strategy: 2.5 a year over 250 days, five years, returns far from normal."""


def test_the_worked_example_of_the_paper() -> None:
    """100 trials whose yearly Sharpe ratios have variance 1/2: the threshold is 0.1132 a day, the result 0.9004.

    After 46 trials it would have been 0.9505; with normal returns the same strategy passes at 88.
    """
    variance = 0.5 / 250
    assert expected_maximum(100, variance) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(PAPER, 100, variance) == pytest.approx(0.9004, abs=5e-5)
    assert deflated_sharpe(PAPER, 46, variance) == pytest.approx(0.9505, abs=5e-5)
    normal = Moments(PAPER.sharpe, 0.0, 3.0, 1250)
    assert deflated_sharpe(normal, 88, variance) == pytest.approx(0.9505, abs=5e-4)


def test_moments_are_scipys_with_raw_kurtosis() -> None:
    returns = np.random.default_rng(1).standard_t(4, 700) * 0.01 + 0.001
    found = moments(returns)
    assert found.sharpe == pytest.approx(np.mean(returns) / np.std(returns, ddof=1))
    assert found.skewness == pytest.approx(stats.skew(returns))
    assert found.kurtosis == pytest.approx(stats.kurtosis(returns, fisher=False))
    assert found.observations == 700


@pytest.mark.parametrize("trials", [5, 50, 500])
def test_the_expected_maximum_is_that_of_simulated_trials(trials: int) -> None:
    """The formula is a limit: at 5 it is 3 % off, later less."""
    drawn = np.random.default_rng(2).normal(0, 0.3, (20_000, trials)).max(axis=1)
    assert expected_maximum(trials, 0.09) == pytest.approx(drawn.mean(), rel=0.04)


def test_worthless_returns_are_called_significant_as_often_as_stated() -> None:
    """Of 3,000 series without a mean, 5 % lie above 0.95; of those chosen as the best of 20, the deflated do not."""
    rng = np.random.default_rng(3)
    single = [probabilistic_sharpe(moments(row)) for row in rng.normal(0, 0.01, (3000, 250))]
    assert np.mean(np.array(single) > 0.95) == pytest.approx(0.05, abs=0.012)
    naive, deflated = [], []
    for _ in range(300):
        every = [moments(row) for row in rng.normal(0, 0.01, (20, 250))]
        best = max(every, key=lambda found: found.sharpe)
        naive.append(probabilistic_sharpe(best))
        deflated.append(deflated_sharpe(best, 20, float(np.var([found.sharpe for found in every], ddof=1))))
    assert np.mean(np.array(naive) > 0.95) > 0.5
    assert np.mean(np.array(deflated) > 0.95) < 0.05


@pytest.mark.parametrize("returns", [[], [0.01], [0.0, 0.0, 0.0]])
def test_without_movement_nothing_is_claimed(returns: list[float]) -> None:
    found = moments(np.array(returns))
    assert math.isnan(found.sharpe)
    assert math.isnan(deflated_sharpe(found, 10, 0.01))
    assert expected_maximum(1, 0.01) == 0.0
