"""What the density benchmarks compare: the same cutoffs, scores over the last close, the parts they name."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.density import PARTS, STEPS, cutoffs
from benchmarks.rivals import compare
from forecasting.bars import load_bars
from forecasting.significance import diebold_mariano


def table(scores, anchors, first=0):
    """A forecast table of two steps, the second scored twice the first, the last truth unknown."""
    stamps = pd.date_range("2020-01-01", periods=len(scores) + first, freq="D")[first:]
    one = pd.DataFrame({"cutoff": stamps, "h": 1, "y": 1.0, "anchor": anchors, "crps": scores})
    two = one.assign(h=2, crps=2 * one["crps"])
    two.loc[two.index[-1], "y"] = np.nan
    return pd.concat([two, one]).sample(frac=1, random_state=1)


def test_scores_are_compared_over_the_last_close_on_the_cutoffs_of_both():
    draw = np.random.default_rng(1)
    own, other, anchors = draw.uniform(1, 2, 60), draw.uniform(1, 2, 63), draw.uniform(0.5, 200, 63)
    found = compare(table(own, anchors[3:], first=3), table(other, anchors), 1)
    one, two = own / anchors[3:], other[3:] / anchors[3:]
    assert found["percent"] == pytest.approx(100 * np.log(one.mean() / two.mean()))
    assert found["p"] == pytest.approx(diebold_mariano(one, two, 1).p_value)
    later = compare(table(own, anchors[3:], first=3), table(other, anchors), 2)
    assert later["dm"] == pytest.approx(diebold_mariano(2 * one[:-1], 2 * two[:-1], 2).statistic)


@pytest.mark.parametrize("part", PARTS)
def test_every_target_of_a_part_lies_in_it_and_none_is_left_out(part):
    bars = load_bars("ecb:EURUSD")
    first, last = (np.datetime64(day, "ns") for day in PARTS[part])
    found = cutoffs(bars, part)
    targets = bars.times[found[:, None] + np.arange(1, STEPS + 1)]
    assert targets.min() == bars.times[bars.times >= first].min()
    assert targets.max() == bars.times[bars.times < last].max()
    assert (np.diff(found) == 1).all()
