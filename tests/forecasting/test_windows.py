import numpy as np
import pytest
from asking import asked_for
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.bars import Bars
from forecasting.base import find_base, load_model
from forecasting.baselines import baseline
from forecasting.codecs import BinsCodec
from forecasting.decoder import weights_of
from forecasting.errors import ConfigError, DataError
from forecasting.forecaster import PathForecaster
from forecasting.sampler import SamplingOptions, gpt2_decoders
from forecasting.windows import SplitSpec, WindowSpec, contexts, split, targets
from tunetrade.config import study_from
from tunetrade.prepared import prepare

SPEC = WindowSpec(context=10, horizon=3)


def altered_after(bars, position, seed):
    """The same bars up to `position`; everything later scrambled, some bars dropped."""
    rng = np.random.default_rng(seed)
    frame = bars.frame.copy()
    later = np.arange(len(frame)) > position
    frame.loc[later, ["open", "high", "low", "close"]] *= np.exp(rng.normal(size=(later.sum(), 1)))
    keep = ~later | (rng.random(len(frame)) < 0.7)
    return Bars(frame[keep], bars.instrument, bars.calendar)


@settings(max_examples=15, deadline=None)
@given(cutoff=st.integers(500, 6500), seed=st.integers(0, 1000), name=st.sampled_from(["ar1", "ewma-t", "random-walk"]))
def test_nothing_up_to_the_cutoff_changes_when_the_future_does(eurusd, cutoff, seed, name):
    codec = BinsCodec(half_lives=(5.0,), weights=(1.0,))
    at = np.array([cutoff - 1, cutoff])
    results = []
    for bars in (eurusd, altered_after(eurusd, cutoff, seed)):
        inputs = contexts(bars, SPEC, codec.warm_up, at)
        forecast = baseline(name, asked_for(bars, SPEC, (0, 450), codec=codec)).predict(inputs).forecasts
        results.append((inputs, forecast))
    (one, first), (other, second) = results
    for field in ("cutoffs", "closes", "times", "ahead"):
        assert getattr(one, field).tobytes() == getattr(other, field).tobytes()
    for field in ("mean", "mean_se", "quantiles", "p_up", "sigma", "ds"):
        assert getattr(first, field).tobytes() == getattr(second, field).tobytes()
    assert (first.input_sha == second.input_sha).all()


def same_forecasts(one, other):
    names = ("mean", "mean_se", "quantiles", "p_up", "p_up_se", "sigma", "ds", "input_sha")
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in names)


def tuned(base, codec, spec):
    made = gpt2_decoders(weights_of(load_model(base)), 8, spec.horizon)
    return PathForecaster("tiny", codec, spec.context, SamplingOptions(8, threads=1), made)


@settings(max_examples=8, deadline=None)
@given(cutoff=st.integers(500, 6500), seed=st.integers(0, 1000))
def test_nothing_a_gpt2_says_changes_when_the_future_does(tiny_base, eurusd, cutoff, seed):
    base = find_base(str(tiny_base))
    forecaster = tuned(base, base.codec, SPEC)
    one, other = (
        forecaster.predict(contexts(bars, SPEC, forecaster.warm_up, np.array([cutoff - 1, cutoff]))).forecasts
        for bars in (eurusd, altered_after(eurusd, cutoff, seed))
    )
    assert same_forecasts(one, other)
    changed = altered_after(eurusd, cutoff - 1, seed)
    if changed.times[cutoff] == eurusd.times[cutoff]:
        later = forecaster.predict(contexts(changed, SPEC, forecaster.warm_up, np.array([cutoff]))).forecasts
        assert later.mean.tobytes() != one.mean[1:].tobytes(), "the close at the cutoff does matter"


@pytest.fixture(scope="module")
def hourly_study(tiny_base):
    dates = {"validation_start": "2016-06-06", "test_start": "2016-06-20"}
    return study_from(
        {
            "name": "hourly", "series": ["simulated"], "base": str(tiny_base), "methods": ["untuned"],
            "windows": {"context": 10, "horizon": 3}, "split": dates,
        }
    )  # fmt: skip


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000))
def test_nothing_of_the_training_part_changes_when_later_hours_do(tiny_base, hourly, hourly_study, seed):
    """Codec with its profile, training tokens and forecasts, with the calendar and daylight saving of the FX week."""
    before = prepare(hourly_study, hourly)
    last = int(before.split.train[-1]) + SPEC.horizon
    changed = altered_after(hourly, last, seed)
    after = prepare(hourly_study, changed)
    assert len(set(before.codec.profile)) > 50, "weeks enough for a profile that is not flat"
    assert after.codec == before.codec
    assert after.split.train.tobytes() == before.split.train.tobytes()
    trained = [found.training_data(bars, hourly_study).train for found, bars in ((before, hourly), (after, changed))]
    assert trained[0].tobytes() == trained[1].tobytes()
    forecaster = tuned(find_base(str(tiny_base)), before.codec, SPEC)
    at = np.array([last - 24, last])
    one, other = (
        forecaster.predict(contexts(bars, SPEC, forecaster.warm_up, at)).forecasts for bars in (hourly, changed)
    )
    assert same_forecasts(one, other)
    inside = altered_after(hourly, last - 1, seed)
    assert len(inside) < len(hourly)
    if inside.times[last] == hourly.times[last]:
        assert prepare(hourly_study, inside).codec != before.codec, "the last bar of the training part does matter"


@pytest.mark.parametrize("test_end", ["2023-05-17", "2023-05-20"])
def test_no_close_from_test_end_on_is_asked_for(eurusd, test_end):
    """2023-05-17 is a bar, 2023-05-20 a Saturday."""
    parts = SplitSpec(test_end=test_end)
    end = int(np.searchsorted(eurusd.times, np.datetime64(test_end)))
    found = split(eurusd, SPEC, parts, 20).test
    assert found[-1] + SPEC.horizon == end - 1, "the last target is the last close before"
    changed = altered_after(eurusd, end - 1, 3)
    assert (split(changed, SPEC, parts, 20).test == found).all()
    truth = targets(eurusd, SPEC, found)
    assert np.isfinite(truth).all()
    assert truth.tobytes() == targets(changed, SPEC, found).tobytes()
    assert split(eurusd, SPEC, SplitSpec(), 20).test[-1] == len(eurusd) - 1


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
