"""Model sets against arch on the same draws, against the two-model test, and by how often they reject."""

import numpy as np
import pytest
from arch.bootstrap import MCS, SPA

from forecasting.bootstrap import counts, means
from forecasting.model_sets import (
    Chance,
    bootstrap_chance,
    cosine_chance,
    model_confidence_set,
    superior_ability,
    wishart,
)
from forecasting.significance import mean_test

ROWS = 200


@pytest.fixture(scope="module")
def losses():
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, 6)) ** 2 + rng.standard_normal((ROWS, 1)) + np.arange(6) * 0.12


def test_confidence_set_is_archs_on_the_same_draws(losses):
    arch = MCS(losses, size=0.1, reps=300, block_size=6, method="R", seed=1)
    arch.compute()
    drawn = counts(np.array(arch._bootstrap_indices), ROWS)
    found = model_confidence_set(bootstrap_chance(losses.mean(axis=0), means(drawn, losses)), 0.1)
    wanted = arch.pvalues["Pvalue"].sort_index().to_numpy()
    assert np.sum((wanted > 0) & (wanted < 1)) > 0
    assert found.p_values == pytest.approx(wanted, abs=1e-12)
    assert list(np.flatnonzero(found.included)) == arch.included


def test_superior_ability_is_archs_where_nothing_is_standardised(losses):
    """arch's SPA takes the largest mean itself; unit errors make ours do so. Its threshold is not at stake here."""
    arch = SPA(losses[:, 3], np.delete(losses, 3, axis=1), block_size=6, reps=300, seed=2)
    arch.compute()
    # The draws of arch, by running its bootstrap of row numbers from the same seed.
    from arch.bootstrap import StationaryBootstrap

    order = [data[0][0] for data in StationaryBootstrap(6, np.arange(ROWS), seed=2).bootstrap(300)]
    replicates = means(counts(np.array(order), ROWS), losses)
    own = losses.mean(axis=0)
    errors = np.ones((6, 6)) - np.diag(np.ones(6)) + np.diag(np.full(6, np.inf))
    found = superior_ability(Chance(own, errors, replicates - own, errors), 3, ROWS)
    assert (found.lower, found.upper) == pytest.approx((arch.pvalues["lower"], arch.pvalues["upper"]))
    assert found.best == int(np.argmin(own))


def test_of_two_models_it_is_the_one_sided_test_of_their_difference(losses):
    pair = losses[:, [2, 0]]
    for horizon in (1, 5):
        found = superior_ability(cosine_chance(pair, horizon, 20_000, 3), 0, ROWS)
        single = mean_test(pair[:, 1] - pair[:, 0], horizon)
        assert found.statistic == pytest.approx(-single.statistic)
        assert found.upper == pytest.approx(single.p_value, abs=0.012)


def test_the_quick_way_to_draw_products_has_the_moments_of_the_slow_one():
    rng = np.random.default_rng(4)
    quick = wishart(rng, 3, 5, 40_000)
    slow = rng.standard_normal((40_000, 5, 3))
    slow = slow.transpose(0, 2, 1) @ slow / 5
    assert quick.mean(axis=0) == pytest.approx(np.eye(3), abs=0.02)
    assert quick.var(axis=0) == pytest.approx(slow.var(axis=0), abs=0.02)
    assert wishart(rng, 4, 2, 3).shape == (3, 4, 4)


def test_a_clearly_worse_model_leaves_and_twins_stay_together(losses):
    table = np.column_stack([losses[:, :2], losses[:, 0], losses[:, 1] + 2])
    found = model_confidence_set(cosine_chance(table, 1, 500, 5))
    assert not found.included[3]
    assert found.included[:3].all()
    tested = superior_ability(cosine_chance(table[:, [0, 2]], 1, 200, 5), 0, ROWS)
    assert tested.best == -1
    assert np.isnan(tested.consistent)


def test_too_few_origins_for_the_horizon_have_no_chance(losses):
    assert cosine_chance(losses, 60, 10, 1) is None


def test_equal_models_stay_as_often_as_they_should_where_forecasts_overlap():
    """A tenth of the studies of `python -m benchmarks.size`; the bootstrap leaves one out in half of them."""
    rng, left = np.random.default_rng(6), 0
    for study in range(150):
        drawn = np.cumsum(rng.standard_normal((520, 6)), axis=0)
        table = drawn[20:] - drawn[:-20]
        left += not model_confidence_set(cosine_chance(table, 20, 200, study)).included.all()
    assert left / 150 < 0.12
