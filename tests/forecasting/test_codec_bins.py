import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from forecasting.codecs import BinsCodec
from forecasting.codecs.fit import CodecOptions, fit_codec, scale_codec
from forecasting.errors import ConfigError, DataError
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
        token, sigma = int(ids[0, 0]), float(before.volatility.sigma(codec.scale)[0])
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


def slow_sigma(returns, codec):
    """Power means by their definition; the constant by numerical integration over a t of variance 1."""
    mean = 0.0
    for half_life, share in zip(codec.half_lives, codec.weights, strict=True):
        weights = [0.5 ** (age / half_life) for age in range(len(returns))]
        powers = [weight * abs(r) ** codec.power for weight, r in zip(weights, reversed(returns), strict=True)]
        mean += share * sum(powers) / sum(weights)
    unit = stats.t(codec.dof, scale=np.sqrt((codec.dof - 2) / codec.dof))
    moment = 2 * integrate.quad(lambda x: x**codec.power * unit.pdf(x), 0, np.inf)[0]
    return max((mean / moment) ** (1 / codec.power), codec.floor)


def test_tokens_and_state_against_a_slow_loop():
    codec, closes = BinsCodec(half_lives=(7.0, 40.0), weights=(0.6, 0.4), dof=4.5), walk(1, 90)
    ids, state = codec.encode(closes[None], days(90)[None], 30)
    returns = [now / before - 1 for before, now in itertools.pairwise(closes)]
    for back in range(30):
        known = returns[: len(returns) - 1 - back]
        z = returns[len(known)] / slow_sigma(known, codec)
        assert ids[0, -1 - back] == sum(z >= edge for edge in codec.edges)
    assert state.volatility.sigma(codec.scale)[0] == pytest.approx(slow_sigma(returns, codec), rel=1e-9)


def test_half_lives_and_power_enter_the_tokens():
    closes, times = walk(1, 400)[None], days(400)[None]
    settings_ = {"half_lives": (5.0,), "weights": (1.0,)}
    plain = BinsCodec(**settings_).encode(closes, times, 300)[0]
    for changed in ({"half_lives": (6.0,)}, {"power": 2.0}, {"half_lives": (5.0, 50.0), "weights": (0.5, 0.5)}):
        assert (BinsCodec(**{**settings_, **changed}).encode(closes, times, 300)[0] != plain).any()


def test_warm_up_is_four_half_lives_of_the_slowest_window():
    assert BinsCodec().warm_up == 320
    assert BinsCodec(half_lives=(2.6, 0.5), weights=(0.5, 0.5)).warm_up == 11


def test_sigma_depends_on_the_closes_of_the_window_only():
    codec, closes, times = BinsCodec(), walk(2, 600), days(600)
    length = codec.warm_up + 16
    alone = codec.encode(closes[None, 400 : 400 + length], times[None, 400 : 400 + length], 16)
    changed = closes.copy()
    changed[:400] *= 3
    changed[400 + length :] *= 7
    again = codec.encode(changed[None, 400 : 400 + length], times[None, 400 : 400 + length], 16)
    assert (alone[0] == again[0]).all()
    assert alone[1].volatility.totals.tobytes() == again[1].volatility.totals.tobytes()


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
    # It falls back on 2016-11-06, a Sunday, whose hour from 01:00 comes twice: 05:00 and 06:00 UTC.
    opened = np.array([f"2016-11-06T{hour:02d}:00" for hour in (4, 5, 6, 7)], dtype="datetime64[ns]")
    found = hour_of_week(opened + np.timedelta64(1, "h"), "America/New_York", 3600)
    assert found.tolist() == [6 * 24 + hour for hour in (0, 1, 1, 2)]


def test_where_nothing_moves_no_hour_differs(hourly):
    codec = BinsCodec(timezone="America/New_York", bar_seconds=3600)
    still = codec.with_profile(np.full(len(hourly), 1.25), hourly.times)
    assert still.profile == (1.0,) * 168


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0, -1.0])
@pytest.mark.parametrize("bar", [0, 150, 327])
def test_closes_without_a_return_are_refused(wrong, bar):
    codec, closes = BinsCodec(), walk(0, 2 * 328).reshape(2, 328)
    closes[1, bar] = wrong
    with pytest.raises(DataError, match=f"a close is {wrong}; closes must be positive and finite"):
        codec.encode(closes, np.tile(days(328), (2, 1)), 8)


def test_profile_is_fitted_on_the_training_part_only(hourly):
    options = CodecOptions()
    codec = scale_codec(BinsCodec(), hourly, options)
    fitted = fit_codec(codec, hourly, options, 0, 1500)
    changed = hourly.frame.copy()
    changed.iloc[1501:] *= 2
    other = fit_codec(codec, type(hourly)(changed, hourly.instrument, hourly.calendar), options, 0, 1500)
    assert fitted == other
    assert (fitted.half_lives, fitted.weights) == ((6.0, 48.0, 240.0), (0.35, 0.4, 0.25))
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


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bins": 4}, "bins is 4"),
        ({"bins": 1}, "bins is 1"),
        ({"dof": 2.0}, "dof is 2.0"),
        ({"half_lives": (0.0, 80.0)}, r"half_lives is \[0.0, 80.0\]"),
        ({"half_lives": (10.0,)}, "weights is .* one for each of the 1 half_lives"),
        ({"weights": (0.7, 0.2)}, r"weights is \[0.7, 0.2\]"),
        ({"power": 2.5}, "power is 2.5"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=rf"^codec\.{said}"):
        BinsCodec(**wrong)


@pytest.mark.parametrize(
    ("half_lives", "weights", "said"),
    [
        ((0.0,), (1.0,), r"codec.half_lives is \[0.0\]"),
        ((5.0, 1001.0), (0.5, 0.5), r"codec.half_lives is \[5.0, 1001.0\]"),
        ((5.0, 50.0), (1.0,), r"codec.weights is \[1.0\]; give one for each of the 2 half_lives"),
        ((), (1.0,), r"codec.half_lives is \[\]; give one or more"),
        ((5.0,), (), r"codec.weights is \[\]; give one for each of the 1 half_lives"),
    ],
)
def test_options_of_a_study_out_of_range_are_refused(half_lives, weights, said):
    with pytest.raises(ConfigError, match=said):
        CodecOptions(half_lives, weights)


def test_a_study_sets_the_half_lives_or_leaves_them_to_the_timeframe(eurusd, hourly):
    chosen = CodecOptions((4.0, 9.0, 30.0), (0.2, 0.3, 0.5))
    for bars in (eurusd, hourly):
        codec = scale_codec(BinsCodec(bins=31), bars, chosen)
        assert (codec.half_lives, codec.weights, codec.bins) == (chosen.half_lives, chosen.weights, 31)
    assert scale_codec(BinsCodec(half_lives=(3.0,), weights=(1.0,)), eurusd, CodecOptions()).half_lives == (10.0, 80.0)
    assert scale_codec(BinsCodec(), hourly, CodecOptions()).half_lives == (6.0, 48.0, 240.0)


def test_settings_survive_json():
    codec = BinsCodec(
        half_lives=(4.0, 9.0, 30.0), weights=(0.2, 0.3, 0.5), power=1.25,
        profile=(1.0, 2.0), timezone="America/New_York", bar_seconds=3600,
    )  # fmt: skip
    read = BinsCodec.from_dict(json.loads(json.dumps(codec.as_dict())))
    assert read == codec
    assert hash(read) == hash(codec)
