"""Fixed digits: a case by hand, round trips, causality, and what happens at and beyond the range."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.codecs.digits import DigitsCodec, change_of, ratio_of, slope_of
from forecasting.errors import CheckpointError, ConfigError, DataError

CODEC = DigitsCodec(digits=4, length=25, half_lives=(3.0,), weights=(1.0,))
NO_TIMES = np.empty(0)


def walks(count, bars, sigma=0.006, seed=0):
    steps = np.random.default_rng(seed).standard_t(5, size=(count, bars)) * np.sqrt(3 / 5) * sigma
    return 1.3 * np.cumprod(1 + steps, axis=1)


def test_by_hand():
    """Every warm-up return is +-1 %, so is their root mean square; half the range is 8 * 0.01 * sqrt(25) = 0.4."""
    codec = replace(CODEC, power=2.0)
    warm_up = 100 * np.cumprod(np.where(np.arange(24) % 2, 1.01, 0.99))
    anchor = warm_up[-1]
    context = anchor * np.array([1.0, 1.00008, 1.1, 0.6, 1.39992])
    ids, state = codec.encode(np.concatenate([warm_up, context])[None], NO_TIMES, 5)
    assert state.cell == pytest.approx([0.8 / 10_000])
    assert ids.reshape(5, 4).tolist() == [[5, 0, 0, 0], [5, 0, 0, 1], [6, 2, 5, 0], [0, 0, 0, 0], [9, 9, 9, 9]]
    assert state.clipped.tolist() == [0]


def test_round_trip_within_half_a_cell():
    closes = walks(50, CODEC.warm_up + 25)
    ids, state = CODEC.encode(closes, NO_TIMES, 25)
    assert not state.clipped.any()
    back = CODEC.decode(ids, state, np.empty((50, 25)))
    half = state.cell * state.anchor / 2
    assert (np.abs(back - closes[:, -25:]) <= half[:, None] * (1 + 1e-9)).all()
    assert (np.abs(back - closes[:, -25:]) > half[:, None] * 0.9).any()


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 24), seed=st.integers(0, 99))
def test_a_token_depends_on_no_later_close(place, seed):
    closes = walks(1, CODEC.warm_up + 25, seed=seed)
    other = closes.copy()
    other[:, CODEC.warm_up + place :] *= np.random.default_rng(seed).uniform(0.7, 1.4, 25 - place)
    before = slice(None), slice(0, place * CODEC.digits)
    one, two = (CODEC.encode(c, NO_TIMES, 25)[0] for c in (closes, other))
    assert (one[before] == two[before]).all()
    assert place == 24 or (one != two).any()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_level_of_prices_does_not_matter(scale):
    closes = walks(10, CODEC.warm_up + 25)
    ids, state = CODEC.encode(closes, NO_TIMES, 25)
    scaled, scaled_state = CODEC.encode(closes * scale, NO_TIMES, 25)
    assert (ids != scaled).mean() < 0.01  # a product may round across the edge of a cell
    back = CODEC.decode(scaled, scaled_state, np.empty((10, 25)))
    assert back == pytest.approx(scale * CODEC.decode(ids, state, np.empty((10, 25))), rel=1e-4)


def test_a_constant_series_stays_where_it_is():
    ids, state = CODEC.encode(np.full((1, CODEC.warm_up + 20), 3.75), NO_TIMES, 20)
    assert ids.reshape(-1, 4).tolist() == [[5, 0, 0, 0]] * 20
    assert (CODEC.decode(ids, state, np.empty((1, 20))) == 3.75).all()


def test_closes_of_t5_walks_leave_the_range_less_often_than_one_in_100_000():
    codec = DigitsCodec()
    _, state = codec.encode(walks(8_000, codec.warm_up + codec.length, seed=3), NO_TIMES, codec.length)
    assert state.clipped.sum() / (8_000 * codec.length) < 1e-5
    narrow = DigitsCodec(reach=3.0)
    _, state = narrow.encode(walks(8_000, codec.warm_up + codec.length, seed=3), NO_TIMES, codec.length)
    assert state.clipped.sum() / (8_000 * codec.length) > 1e-5


@pytest.mark.parametrize("jump", [0.5, 1.5])
def test_after_a_jump_out_of_range_closes_are_counted_and_forecasts_start_where_the_market_is(jump):
    closes = walks(1, CODEC.warm_up + 20, sigma=0.002)
    closes[:, -3:] *= jump
    ids, state = CODEC.encode(closes, NO_TIMES, 20)
    assert state.clipped.tolist() == [3]
    assert CODEC.decode(ids[:, -4:], state, np.empty((1, 1))) == pytest.approx(closes[:, -1:], rel=1e-12)


def test_changes_are_returns_down_to_half_the_anchor_and_logarithms_below():
    ratios = np.array([1e-300, 0.01, 0.25, 0.5, 0.75, 1.0, 40.0])
    by_hand = [(math.log(2 * r) - 1) / 2 for r in ratios[:3]] + [-0.5, -0.25, 0.0, 39.0]
    assert change_of(ratios) == pytest.approx(by_hand, abs=1e-15)
    assert ratio_of(change_of(ratios)) == pytest.approx(ratios, rel=1e-12)
    changes = np.linspace(-3, 3, 1001)
    rises = ratio_of(changes + 1e-6) - ratio_of(changes - 1e-6)
    assert slope_of(ratio_of(changes)) == pytest.approx(rises / 2e-6, rel=1e-5)
    assert ratio_of(np.array([-1e9]))[0] > 0


@pytest.mark.parametrize("sigma", [0.001, 0.05, 0.5])
def test_an_unchanged_close_is_the_middle_number_however_volatile(sigma):
    closes = np.exp(np.cumsum(np.random.default_rng(0).normal(0, sigma, (5, CODEC.warm_up + 20)), axis=1))
    closes[:, CODEC.warm_up :] = closes[:, CODEC.warm_up - 1 : CODEC.warm_up]
    ids, _ = CODEC.encode(closes, NO_TIMES, 20)
    assert ids.reshape(-1, 4).tolist() == [[5, 0, 0, 0]] * 100


@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("digits", [1, 2, 4])
def test_every_number_is_a_positive_price_however_volatile(sigma, digits):
    codec = DigitsCodec(digits=digits, length=25, half_lives=(3.0,), weights=(1.0,))
    closes = np.exp(np.cumsum(np.random.default_rng(0).normal(0, sigma, (20, codec.warm_up + 20)), axis=1))
    ids, state = codec.encode(closes, NO_TIMES, 20)
    assert (codec.closes_of(np.zeros((20, digits), int), np.zeros((20, 1)), state) > 0).all()
    inside = state.clipped == 0
    half = (state.cell * state.anchor / 2)[:, None]
    back = codec.decode(ids, state, np.empty((20, 20)))
    assert inside.any() or sigma > 1
    assert (np.abs(back - closes[:, -20:]) <= half * (1 + 1e-9))[inside].all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_bad_closes_are_refused(bad):
    closes = walks(2, CODEC.warm_up + 20)
    closes[1, 5] = bad
    with pytest.raises(DataError, match=f"a close is {bad}"):
        CODEC.encode(closes, NO_TIMES, 20)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"digits": 0}, "codec.digits"),
        ({"digits": 9}, "codec.digits"),
        ({"length": 1}, "codec.length"),
        ({"reach": 0.0}, "codec.reach"),
        ({"half_lives": (float("nan"),), "weights": (1.0,)}, "codec.half_lives"),
        ({"weights": (0.5, 0.4)}, "codec.weights"),
        ({"dof": 2.0}, "codec.dof"),
        ({"floor": 0.0}, "codec.floor"),
    ],
)
def test_bad_settings_are_refused(settings_, message):
    with pytest.raises(ConfigError, match=message):
        DigitsCodec(**settings_)


def test_windows_longer_than_the_range_are_refused():
    with pytest.raises(ConfigError, match="a window of 26 closes"):
        CODEC.check_windows(20, 6)
    with pytest.raises(ConfigError, match="a window of 26 closes"):
        CODEC.encode(walks(1, CODEC.warm_up + 26), NO_TIMES, 26)
    with pytest.raises(ConfigError, match="scale from at least 2"):
        CODEC.encode(walks(1, 21), NO_TIMES, 20)


def test_a_context_that_does_not_fit_the_model_is_refused_and_not_cut():
    ids = np.zeros(80, dtype=np.int64)
    assert len(CODEC.fit(ids, 80)) == 80
    with pytest.raises(ConfigError, match="needs 80 positions and the model has 79"):
        CODEC.fit(ids, 79)


def test_digits_that_are_not_whole_closes_are_refused():
    _, state = CODEC.encode(walks(1, CODEC.warm_up + 20), NO_TIMES, 20)
    with pytest.raises(ConfigError, match="7 digits for 2 closes"):
        CODEC.decode(np.zeros((1, 7), int), state, np.empty((1, 2)))


def test_settings_survive_json():
    assert DigitsCodec.from_dict(json.loads(json.dumps(CODEC.as_dict()))) == CODEC
    with pytest.raises(CheckpointError, match="names codec 'bins'"):
        DigitsCodec.from_dict({"kind": "bins"})
