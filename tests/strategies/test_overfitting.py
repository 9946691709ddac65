"""Probability of overfitting against a plain loop, and on returns whose answer is known."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import rankdata

from strategies.overfitting import probability_of_overfitting


def slowly(returns, blocks):
    """The paper's steps, one split at a time, by scipy's ranks."""
    parts = np.array_split(returns, blocks)
    logits, lost, pairs = [], [], []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[b] for b in chosen])
        outside = np.concatenate([parts[b] for b in range(blocks) if b not in chosen])
        own, other = (part.mean(axis=0) / part.std(axis=0, ddof=1) for part in (inside, outside))
        best = own.argmax()
        relative = rankdata(other)[best] / (returns.shape[1] + 1)
        logits.append(np.log(relative / (1 - relative)))
        lost.append(other[best] < 0)
        pairs.append((own[best], other[best]))
    slope = np.polyfit(*np.transpose(pairs), 1)[0]
    return np.mean(np.array(logits) < 0), np.mean(lost), slope


def test_against_a_plain_loop():
    returns = np.random.default_rng(0).standard_normal((96, 6)) + np.linspace(0, 0.2, 6)
    found = probability_of_overfitting(returns, blocks=8)
    probability, lost, slope = slowly(np.unique(returns, axis=1), 8)
    assert (found.probability, found.loss) == pytest.approx((probability, lost))
    assert found.slope == pytest.approx(slope)
    assert (found.splits, found.trials) == (70, 6)


def test_skill_is_found_again_and_luck_is_not():
    rng = np.random.default_rng(1)
    skilled = rng.standard_normal((800, 10))
    skilled[:, 4] += 0.3
    assert probability_of_overfitting(skilled, 10).probability == 0
    lucky = [probability_of_overfitting(rng.standard_normal((400, 10)), 8).probability for _ in range(60)]
    assert np.mean(lucky) == pytest.approx(0.5, abs=0.08)


def test_trials_that_earned_the_same_are_one_and_one_is_too_few():
    column = np.random.default_rng(2).standard_normal((200, 1))
    assert probability_of_overfitting(np.hstack([column, column])) is None
    assert probability_of_overfitting(np.random.default_rng(3).standard_normal((20, 4))) is None
