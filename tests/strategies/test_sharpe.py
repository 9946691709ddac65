"""Errors of Sharpe ratios against Lo's and Mertens' formulas, and against what simulated ratios scatter by."""

import math

import numpy as np
import pytest

from strategies.deflated import moments, probabilistic_sharpe
from strategies.sharpe import probability_above, sharpe_errors


def test_lo_and_mertens_by_their_formulas() -> None:
    returns = np.random.default_rng(0).standard_t(5, 800) * 0.01 + 0.0006
    found, shape = sharpe_errors(returns), moments(returns)
    assert found.lo == pytest.approx(math.sqrt((1 + shape.sharpe**2 / 2) / 800))
    wanted = 1 - shape.skewness * shape.sharpe + (shape.kurtosis - 1) / 4 * shape.sharpe**2
    assert found.mertens == pytest.approx(math.sqrt(wanted / 800))
    assert probability_above(found) == pytest.approx(probabilistic_sharpe(shape), abs=0.05)


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_the_dependent_error_is_what_ratios_scatter_by(memory) -> None:
    """Lo's example: autocorrelation of 0.6 makes a ratio twice as uncertain; only the dependent error sees it."""
    rng, ratios, errors = np.random.default_rng(1), [], []
    for _ in range(250):
        returns = rng.standard_normal(600)
        for t in range(1, 600):
            returns[t] += memory * returns[t - 1]
        found = sharpe_errors(returns + 0.05)
        ratios.append(found.found.sharpe)
        errors.append((found.mertens, found.dependent))
    independent, dependent = np.sqrt(np.mean(np.square(errors), axis=0))
    assert dependent == pytest.approx(np.std(ratios), rel=0.15)
    assert (independent == pytest.approx(np.std(ratios), rel=0.15)) == (memory == 0)


def test_returns_that_never_move_have_no_error() -> None:
    found = sharpe_errors(np.zeros(100))
    assert math.isnan(found.mertens)
    assert math.isnan(probability_above(found))
    assert math.isnan(sharpe_errors(np.arange(8.0)).dependent)  # too few
