"""The simulation of sizes runs the tests that evidence runs; with all its studies it is slow."""

import numpy as np
import pytest

from benchmarks.size import RESAMPLED, mean_tests, money, noise, order, rates
from forecasting.bootstrap import block_length
from forecasting.bootstrap_t import mean_of, project
from forecasting.significance import mean_test


def test_columns_are_judged_as_one_by_one():
    table = noise(np.random.default_rng(0), 250, 40, 20)
    wanted = [mean_test(column, 20).p_value < 0.05 for column in table.T]
    assert list(mean_tests(table, 20)) == wanted
    assert table.var(axis=0).mean() == pytest.approx(1, abs=0.3)


def test_money_is_judged_column_by_column_too():
    found = money(np.random.default_rng(1), 120, 1, 30)
    table = noise(np.random.default_rng(1), 120, 30, 1)
    blocks = np.maximum(120 ** (1 / 3), block_length(table)).round().astype(int)
    for column, block in enumerate(blocks):
        alone = mean_of(project(table[:, [column]], order(120, int(block))), 0)
        assert len(alone.statistics) == RESAMPLED
        assert found[column] == (alone.p_above < 0.05)


@pytest.mark.slow
def test_every_test_rejects_as_often_as_it_says():
    """The bounds of `python -m benchmarks.size`, widened by what chance does to 1,000 studies instead of 10,000."""
    for name, rate in rates(1000).items():
        assert rate.within[0] - 2.5 * rate.error <= rate.percent <= rate.within[1] + 2.5 * rate.error, name
