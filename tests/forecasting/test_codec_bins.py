import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from forecasting.codecs import BinsCodec
from forecasting.codecs.fit import CodecOptions, fit_codec, scale_codec
from forecasting.errors import ConfigError
from forecasting.scale import hour_of_week

DAY = np.timedelta64(1, "D").astype("timedelta64[ns]")


def days(count, first="2020-01-01"):
    return np.datetime64(first, "ns") + np.arange(count) * DAY


def walk(seed, count, scale=0.01, level=1.1):
    return level * np.exp(np.cumsum(np.random.default_rng(seed).standard_t(5, size=count) * scale))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    level=st.sampled_from([1e-6, 0.6, 1.1, 150.0, 1e6]),
    scale=st.sampled_from([1e-4, 0.01, 0.1]),
)
def test_round_trip_lands_within_half_a_bin(seed, level, scale):
    codec, context, horizon = BinsCodec(), 8, 6
    closes = walk(seed, codec.warm_up + context + horizon, scale, level)
    times = days(len(closes))
    seen = codec.warm_up + context
    for step in range(horizon):  # one step at a time: the state holds the true closes before it
        now = seen + step
        ids, _ = codec.encode(closes[None, : now + 1], times[None, : now + 1], 1)
        _, before = codec.encode(closes[None, :now], times[None, :now], 1)
        back = codec.decode(ids, before, times[None, now : now + 1])[0, 0]
        token, sigma = int(ids[0, 0]), float(before.ewma.sigma(codec.floor)[0])
        if 0 < token < codec.bins - 1:
            half = (codec.edges[token] - codec.edges[token - 1]) / 2
            assert abs(back - closes[now]) / closes[now - 1] / sigma <= half * (1 + 1e-9) + 1e-12


def test_an_unchanged_close_has_the_middle_bin_and_decodes_to_itself():
    codec = BinsCodec()
    closes = np.append(walk(0, codec.warm_up + 8), np.nan)
    closes[-1] = closes[-2]
    times = days(len(closes))
    ids, _ = codec.encode(closes[None], times[None], 1)
    _, before = codec.encode(closes[None, :-1], times[None, :-1], 1)
    assert ids[0, 0] == codec.bins // 2
    assert codec.decode(ids, before, times[None, -1:])[0, 0] == closes[-2]


def test_sigma_against_a_slow_loop():
    codec, closes = BinsCodec(half_life=7.0), walk(1, 90)
    _, state = codec.encode(closes[None], days(90)[None], 4)
    returns, decay = closes[1:] / closes[:-1] - 1, 0.5 ** (1 / 7)
    weights = np.array([decay ** (len(returns) - 1 - i) for i in range(len(returns))])
    slow = np.sqrt(sum(w * r * r for w, r in zip(weights, returns, strict=True)) / weights.sum())
    assert state.ewma.sigma(0.0)[0] == pytest.approx(slow, rel=1e-12)


def test_sigma_depends_on_the_closes_of_the_window_only():
    codec, closes, times = BinsCodec(), walk(2, 600), days(600)
    length = codec.warm_up + 16
    alone = codec.encode(closes[None, 400 : 400 + length], times[None, 400 : 400 + length], 16)
    changed = closes.copy()
    changed[:400] *= 3
    changed[400 + length :] *= 7
    again = codec.encode(changed[None, 400 : 400 + length], times[None, 400 : 400 + length], 16)
    assert (alone[0] == again[0]).all()
    assert alone[1].ewma.total.tobytes() == again[1].ewma.total.tobytes()


def test_bins_are_equally_likely_under_the_t_and_knots_refine_them():
    codec = BinsCodec(bins=51, dof=4.0)
    unit = np.sqrt((codec.dof - 2) / codec.dof)
    mass = np.diff(np.concatenate([[0], stats.t.cdf(codec.edges / unit, codec.dof), [1]]))
    assert mass == pytest.approx(np.full(51, 1 / 51), abs=1e-12)
    assert np.all(np.diff(codec.knots) > 0)
    assert len(codec.segment_token) == len(codec.segment_share) == len(codec.knots) - 1
    assert np.bincount(codec.segment_token, weights=codec.segment_share) == pytest.approx(np.ones(51))
    inner = slice(1, -1)
    assert stats.t.cdf(codec.knots[inner] / unit, codec.dof) == pytest.approx(
        np.cumsum(codec.segment_share / 51)[:-1], abs=1e-9
    )


def test_a_constant_series_is_finite_and_stays_put():
    codec, closes = BinsCodec(), np.full(300, 1.25)
    ids, state = codec.encode(closes[None], days(300)[None], 32)
    assert (ids == codec.bins // 2).all()
    assert codec.decode(ids[:, :5], state, days(5)[None])[0] == pytest.approx(1.25)


def test_hour_of_week_follows_new_york_over_a_daylight_saving_change():
    # New York springs forward on 2016-03-13: 17:00 local is 22:00 UTC on Friday the 11th, 21:00 UTC on the 18th.
    closes_at = np.array(["2016-03-11T22:00", "2016-03-18T21:00"], dtype="datetime64[ns]")
    assert hour_of_week(closes_at, "America/New_York", 3600).tolist() == [4 * 24 + 16] * 2


def test_profile_is_fitted_on_the_training_part_only(hourly):
    options = CodecOptions()
    codec = scale_codec(BinsCodec(), hourly, options)
    fitted = fit_codec(codec, hourly, options, 0, 1500)
    changed = hourly.frame.copy()
    changed.iloc[1501:] *= 2
    other = fit_codec(codec, type(hourly)(changed, hourly.instrument, hourly.calendar), options, 0, 1500)
    assert fitted == other
    assert fitted.half_life == 48.0
    assert len(fitted.profile) == 168


def test_profile_against_a_slow_loop_and_recovered_from_simulation():
    rng = np.random.default_rng(0)
    times = np.datetime64("2016-01-04T01:00", "ns") + np.arange(40_000) * np.timedelta64(1, "h").astype(
        "timedelta64[ns]"
    )
    busy = hour_of_week(times, "UTC", 3600) % 24 == 14
    closes = np.exp(np.cumsum(rng.normal(size=len(times)) * np.where(busy, 3e-3, 1e-3)))
    profile = np.array(BinsCodec(timezone="UTC", bar_seconds=3600).with_profile(closes, times).profile)
    ratio = profile[14::24].mean() / np.delete(profile, np.arange(14, 168, 24)).mean()
    assert ratio == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("wrong", [{"bins": 4}, {"bins": 1}, {"dof": 2.0}, {"half_life": 0.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        BinsCodec(**wrong)


def test_settings_survive_json():
    codec = BinsCodec(profile=(1.0, 2.0), timezone="America/New_York", bar_seconds=3600)
    assert BinsCodec.from_dict(codec.as_dict() | {"profile": [1.0, 2.0]}) == codec
