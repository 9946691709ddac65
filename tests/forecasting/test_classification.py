"""Figures of a classifier against plain loops and cases worked by hand."""

import math

import numpy as np
import pytest

from forecasting.classification import (
    CLASSES,
    class_figures,
    class_shares,
    classes_of,
    classification_figures,
    confusion,
    log_losses,
)
from forecasting.codecs.rows import PADDING
from forecasting.significance import diebold_mariano


def test_a_move_on_the_edge_of_the_band_is_flat():
    moves = np.array([-0.2, -0.1, 0.0, 0.1, 0.2, np.nan])
    assert classes_of(moves, np.full(6, 0.1)).tolist() == [0, 1, 1, 1, 2, PADDING]
    assert classes_of(np.array([-1e-9, 0.0, 1e-9]), np.zeros(3)).tolist() == [0, 1, 2]


def test_figures_equal_those_counted_one_by_one():
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 3, 200), rng.choice(3, 200, p=[0.6, 0.3, 0.1])
    found = class_figures(confusion(truth, said))
    scores = {"precision": [], "recall": [], "f1": []}
    for k, name in enumerate(CLASSES):
        hits = sum(t == k and s == k for t, s in zip(truth, said, strict=True))
        false_alarms = sum(t != k and s == k for t, s in zip(truth, said, strict=True))
        misses = sum(t == k and s != k for t, s in zip(truth, said, strict=True))
        precision, recall = hits / (hits + false_alarms), hits / (hits + misses)
        wanted = {"precision": precision, "recall": recall, "f1": 2 * precision * recall / (precision + recall)}
        assert found["by_class"][name] == pytest.approx(wanted | {"rows": hits + misses})
        for figure, value in wanted.items():
            scores[figure].append(value)
    for figure, values in scores.items():
        assert found[f"macro_{figure}"] == pytest.approx(sum(values) / 3)
    assert found["accuracy"] == pytest.approx(sum(t == s for t, s in zip(truth, said, strict=True)) / 200)


def test_what_was_never_said_or_never_came_counts_as_nothing():
    found = class_figures(confusion(np.array([0, 0, 1]), np.array([0, 1, 1])))
    assert found["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found["by_class"]["down"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "rows": 2}
    assert found["by_class"]["up"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "rows": 0}
    assert found["macro_f1"] == pytest.approx(4 / 9)


def test_shares_count_one_more_of_each_class():
    shares = class_shares(np.array([[0, 2], [0, 2], [1, PADDING]]))
    assert shares == pytest.approx(np.array([[3, 2, 1], [1, 1, 3]]) / np.array([[6], [5]]))


def test_overall_and_by_step_against_a_loop():
    rng = np.random.default_rng(1)
    chance = rng.dirichlet([1, 1, 1], size=(40, 2))
    truth = rng.integers(0, 3, (40, 2))
    truth[-1, 1] = PADDING
    shares = np.array([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])
    found = classification_figures(chance, truth, shares)

    def wanted(steps):
        pairs = [(n, h) for n in range(40) for h in steps if truth[n, h] != PADDING]
        hits = [chance[n, h].tolist().index(max(chance[n, h])) == truth[n, h] for n, h in pairs]
        dull = [shares[h].tolist().index(max(shares[h])) == truth[n, h] for n, h in pairs]
        return {
            "rows": len(pairs),
            "accuracy": np.mean(hits),
            "no_skill_accuracy": np.mean(dull),
            "log_loss": np.mean([-math.log(chance[n, h, truth[n, h]]) for n, h in pairs]),
            "no_skill_log_loss": np.mean([-math.log(shares[h, truth[n, h]]) for n, h in pairs]),
        }

    for part, steps in ((found["overall"], (0, 1)), (found["by_step"]["1"], (0,)), (found["by_step"]["2"], (1,))):
        assert {name: part[name] for name in wanted(steps)} == pytest.approx(wanted(steps))
    own = [-math.log(chance[n, 1, truth[n, 1]]) for n in range(39)]
    dull = [-math.log(shares[1, truth[n, 1]]) for n in range(39)]
    assert found["by_step"]["2"]["p_value"] == pytest.approx(diebold_mariano(np.array(own), np.array(dull), 2).p_value)


@pytest.mark.parametrize(("spacing", "overlap"), [(1, 5), (2, 3), (4, 2), (5, 1), (9, 1)])
def test_rows_so_far_apart_that_their_moves_do_not_overlap_count_as_apart(spacing, overlap):
    rng = np.random.default_rng(5)
    chance, truth, shares = rng.dirichlet([1, 1, 1], (60, 5)), rng.integers(0, 3, (60, 5)), np.full((5, 3), 1 / 3)
    own = np.array([np.mean([-math.log(chance[n, h, truth[n, h]]) for h in range(5)]) for n in range(60)])
    found = classification_figures(chance, truth, shares, spacing)
    wanted = diebold_mariano(own, np.full(60, math.log(3)), overlap).p_value
    assert found["overall"]["p_value"] == pytest.approx(wanted)
    assert found["by_step"]["1"]["p_value"] == classification_figures(chance, truth, shares)["by_step"]["1"]["p_value"]


def test_skill_has_a_small_p_and_its_absence_has_not():
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 3, (300, 1))
    knowing = np.full((300, 1, 3), 0.3)
    np.put_along_axis(knowing, truth[..., None], 0.4, axis=2)
    blind = rng.dirichlet([5, 5, 5], size=(300, 1))
    even = np.full((1, 3), 1 / 3)
    assert classification_figures(knowing, truth, even)["overall"]["p_value"] < 1e-6
    assert classification_figures(blind, truth, even)["overall"]["p_value"] > 0.2


def test_nothing_known_yet_is_no_row_and_no_chance_is_no_infinity():
    nothing = classification_figures(np.full((2, 1, 3), 1 / 3), np.full((2, 1), PADDING), np.full((1, 3), 1 / 3))
    assert nothing["overall"]["rows"] == 0
    assert np.isfinite(log_losses(np.array([[[0.0, 0.5, 0.5]]]), np.array([[0]]))).all()
