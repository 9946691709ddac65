import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.metrics import directional_accuracy, errors

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)


def random_rows(seed, count=40, unknown=3):
    rng = np.random.default_rng(seed)
    y, anchor = 1 + rng.normal(size=count) * 0.1, 1 + rng.normal(size=count) * 0.1
    y[rng.choice(count, unknown, replace=False)] = np.nan
    y[0] = anchor[0]
    quantiles = np.sort(1 + rng.normal(size=(len(LEVELS), count)) * 0.1, axis=0)
    return (
        y,
        rng.normal(1, 0.1, count),
        quantiles[3],
        anchor,
        rng.random(count),
        dict(zip(LEVELS, quantiles, strict=True)),
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_errors_against_a_loop(seed):
    y, mean, median, anchor, crps, quantiles = random_rows(seed)
    rows = [i for i in range(len(y)) if y[i] == y[i]]
    found = errors(y, mean, median, anchor, crps, quantiles, naive_scale=0.02)
    count = len(rows)
    mse = sum((y[i] - mean[i]) ** 2 for i in rows) / count
    mae = sum(abs(y[i] - median[i]) for i in rows) / count
    truth = [y[i] for i in rows]
    moved = [i for i in rows if y[i] != anchor[i] and mean[i] != anchor[i]]
    right = [i for i in moved if (y[i] > anchor[i]) == (mean[i] > anchor[i])]
    slow = {
        "mse": mse,
        "rmse": mse**0.5,
        "nrmse": mse**0.5 / (max(truth) - min(truth)),
        "mae": mae,
        "mase": mae / 0.02,
        "rmae": mae / (sum(abs(y[i] - anchor[i]) for i in rows) / count),
        "crps": sum(crps[i] for i in rows) / count,
        "directional_accuracy": len(right) / len(moved),
        "rows": count,
    }
    for percent, low, high in ((50, 0.25, 0.75), (80, 0.10, 0.90), (90, 0.05, 0.95)):
        slow[f"coverage{percent}"] = sum(quantiles[low][i] <= y[i] <= quantiles[high][i] for i in rows) / count
    assert found == pytest.approx(slow)


def test_no_known_truth_gives_nan_not_a_crash():
    nothing = np.full(3, np.nan)
    found = errors(nothing, nothing, nothing, nothing, nothing, dict.fromkeys(LEVELS, nothing), 1.0)
    assert found["rows"] == 0
    assert np.isnan(found["mse"])


def test_the_random_walk_has_no_direction_and_relative_error_one():
    y, anchor = np.array([1.0, 1.2, 0.9]), np.array([1.1, 1.1, 1.1])
    found = errors(y, anchor, anchor, anchor, np.abs(y - anchor), dict.fromkeys(LEVELS, anchor), 0.1)
    assert found["rmae"] == 1.0
    assert np.isnan(found["directional_accuracy"])
    assert found["crps"] == found["mae"]


def test_zero_moves_are_dropped():
    assert directional_accuracy(np.array([1.0, -1, 0, 1]), np.array([1.0, 1, 1, 0])) == 0.5
