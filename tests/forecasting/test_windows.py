import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.bars import Bars
from forecasting.baselines import BASELINES, baseline
from forecasting.codecs import BinsCodec
from forecasting.errors import ConfigError, DataError
from forecasting.sampler import SamplingOptions
from forecasting.windows import SplitSpec, WindowSpec, contexts, split, targets

SPEC = WindowSpec(context=10, horizon=3)


def altered_after(bars, position, seed):
    """The same bars up to `position`; everything later scrambled, some bars dropped and stamps moved by a day."""
    rng = np.random.default_rng(seed)
    frame = bars.frame.copy()
    later = np.arange(len(frame)) > position
    frame.loc[later, ["open", "high", "low", "close"]] *= np.exp(rng.normal(size=(later.sum(), 1)))
    keep = ~later | (rng.random(len(frame)) < 0.7)
    return Bars(frame[keep], bars.instrument, bars.calendar)


@settings(max_examples=15, deadline=None)
@given(cutoff=st.integers(500, 6500), seed=st.integers(0, 1000), name=st.sampled_from(sorted(BASELINES)))
def test_nothing_up_to_the_cutoff_changes_when_the_future_does(eurusd, cutoff, seed, name):
    codec = BinsCodec(half_life=5.0)
    at = np.array([cutoff - 1, cutoff])
    results = []
    for bars in (eurusd, altered_after(eurusd, cutoff, seed)):
        inputs = contexts(bars, SPEC, codec.warm_up, at)
        forecast = baseline(name, codec, SPEC, SamplingOptions(paths=8)).predict(inputs).forecasts
        results.append((inputs, forecast))
    (one, first), (other, second) = results
    for field in ("cutoffs", "closes", "times", "ahead"):
        assert getattr(one, field).tobytes() == getattr(other, field).tobytes()
    for field in ("mean", "mean_se", "quantiles", "p_up", "sigma", "ds"):
        assert getattr(first, field).tobytes() == getattr(second, field).tobytes()
    assert (first.input_sha == second.input_sha).all()


def test_inputs_end_at_the_cutoff_and_targets_begin_after_it(eurusd):
    at = np.array([300, 7000])
    inputs, truth = contexts(eurusd, SPEC, 20, at), targets(eurusd, SPEC, at)
    for n, position in enumerate(at):
        assert (inputs.closes[n] == eurusd.closes[position - 29 : position + 1]).all()
        assert inputs.cutoffs[n] == eurusd.times[position]
        assert (truth[n] == eurusd.closes[position + 1 : position + 4]).all()
        assert (inputs.ahead[n] > inputs.cutoffs[n]).all()


def test_targets_beyond_the_last_bar_are_unknown(eurusd):
    truth = targets(eurusd, SPEC, np.array([len(eurusd) - 2]))
    assert np.isfinite(truth[0, 0])
    assert np.isnan(truth[0, 1:]).all()


def test_parts_do_not_share_targets_and_keep_the_embargo(eurusd):
    parts = split(eurusd, SPEC, SplitSpec(train_start="2015-01-01", embargo=7), 20)
    assert parts.train[-1] + SPEC.horizon < parts.validation[0]
    assert parts.validation[-1] + SPEC.horizon < parts.test[0]
    assert parts.validation[0] - parts.train[-1] == 8
    assert parts.test[-1] == len(eurusd) - 1
    assert (np.diff(parts.test) == 1).all()
    assert eurusd.times[parts.test[0]] >= np.datetime64("2021-01-01")
    assert eurusd.times[parts.test[0] - 1] < np.datetime64("2021-01-01")


def test_an_embargo_shorter_than_the_horizon_is_refused(eurusd):
    with pytest.raises(ConfigError, match="embargo"):
        split(eurusd, SPEC, SplitSpec(embargo=2), 20)


def test_a_series_too_short_for_its_windows_says_so(eurusd):
    short = Bars(eurusd.frame.iloc[-40:], eurusd.instrument, eurusd.calendar)
    with pytest.raises(DataError, match="no train windows"):
        split(short, SPEC, SplitSpec(), 20)
    with pytest.raises(DataError, match="context of 30 closes"):
        contexts(short, SPEC, 20, np.array([5]))


@pytest.mark.parametrize("wrong", [{"test_start": "soon"}, {"test_start": ""}, {"validation_start": "2022-13-01"}])
def test_dates_that_are_none_are_refused(wrong):
    with pytest.raises(ConfigError, match="split"):
        SplitSpec(**wrong)


def test_test_before_validation_is_refused(eurusd):
    with pytest.raises(ConfigError, match="not after"):
        split(eurusd, SPEC, SplitSpec(validation_start="2021-01-01", test_start="2020-01-01"), 20)


@pytest.mark.parametrize("wrong", [{"context": 1}, {"horizon": 0}, {"context": 10_000}])
def test_lengths_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="windows"):
        WindowSpec(**wrong)
