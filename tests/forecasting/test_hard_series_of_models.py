"""The series that break numerics, given to GPT-2: no NaN, no infinity, no disorder, and cones of the right size."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from asking import bars_of, weekly
from number_tokenizers import train_small
from scipy import stats
from test_baselines_hard_series import LENGTH, SERIES, walk
from transformers import GPT2Config, GPT2LMHeadModel

from forecasting.bars import load_bars
from forecasting.base import find_base, load_model, save_base
from forecasting.codecs import BinsCodec, TextCodec
from forecasting.decoder import weights_of
from forecasting.errors import DataError
from forecasting.forecaster import PathForecaster
from forecasting.forecasts import QUANTILE_LEVELS
from forecasting.sampler import SamplingOptions, gpt2_decoders
from forecasting.spelling import spelling_forecaster
from forecasting.windows import WindowSpec, contexts

SPEC = WindowSpec(context=12, horizon=4)
POSITIONS = np.array([450, 505, 640, LENGTH - 1])


NEAR = {"bins": 0.5, "bins of hours": 0.5, "random weights": 1.0, "digits": 1.5}
"""How far the middle of a forecast may lie from the last close, in standard deviations; text of random weights has no
middle."""

KINDS = (*NEAR, "text")
STEPS = np.sqrt(np.arange(1, SPEC.horizon + 1))


def forecaster_of(base, paths=16, seed=1, codec=None):
    """The model of a base by itself, with another codec of the same tokens where one is given."""
    weights, options = weights_of(load_model(base)), SamplingOptions(paths, seed, threads=1)
    if isinstance(base.codec, BinsCodec):
        make = gpt2_decoders(weights, paths, SPEC.horizon)
        return PathForecaster(base.sha, codec or base.codec, SPEC.context, options, make)
    return spelling_forecaster(base.sha, weights, base.codec, SPEC, options)


def embedded(paths, seed=1):
    return forecaster_of(find_base("embedded"), paths, seed)


@pytest.fixture(scope="module")
def forecaster():
    return embedded(16)


@pytest.fixture(scope="module")
def text_base(tmp_path_factory):
    """A GPT-2 of random weights that writes closes with five decimals."""
    tokenizer = train_small(tmp_path_factory.mktemp("tokenizer"))
    codec = TextCodec.of_tokenizer(tokenizer / "vocab.json", tokenizer / "merges.txt", 5)
    torch.manual_seed(11)
    config = GPT2Config(vocab_size=codec.vocabulary, n_positions=256, n_embd=16, n_layer=2, n_head=2)
    folder = tmp_path_factory.mktemp("base") / "text"
    save_base(folder, GPT2LMHeadModel(config), codec, {"name": "text", "cutoff": "2000-12-31", "parameters": 1})
    return folder


@pytest.fixture(scope="module")
def posed(eurusd, hourly, tiny_base, text_base):
    """What a kind of model makes of closes: bars, and the forecaster."""
    names = {"random weights": str(tiny_base), "digits": "embedded-digits", "text": str(text_base)}

    def pose(kind, closes):
        base = find_base(names.get(kind, "embedded"))
        if kind == "bins of hours":
            return bars_of(closes, hourly), forecaster_of(base, codec=weekly(base.codec, hourly, closes))
        return bars_of(closes, eurusd), forecaster_of(base)

    return pose


def check_figures(result, given):
    """Numbers, positive prices and volatilities, chances, quantiles in order."""
    found = result.forecasts
    y = given.closes[:, -1:] * np.array([[1.0, 1.01, 0.5, 1.5]])
    for values in (found.mean, found.mean_se, found.quantiles, found.p_up, found.p_up_se, found.sigma, result.crps(y)):
        assert np.isfinite(values).all()
    assert (found.sigma > 0).all()
    assert ((found.p_up >= 0) & (found.p_up <= 1)).all()
    assert (np.diff(found.quantiles, axis=1) >= 0).all()
    for prices in (found.mean, found.quantiles, result.paths):
        assert (prices > 0).all()


def check_nearness(found, sigmas):
    """Medians and means lie within so many standard deviations of the last close."""
    spread = found.anchor[:, None] * found.sigma[:, None] * STEPS
    middle = found.quantiles[:, len(QUANTILE_LEVELS) // 2]
    for prices in (middle, found.mean):
        assert (np.abs(prices - found.anchor[:, None]) < sigmas * spread).all()


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("kind", KINDS)
def test_forecasts_are_sensible_or_refused(posed, kind, series):
    """Text of random weights is any price that can be written."""
    bars, model = posed(kind, SERIES[series])
    given = contexts(bars, SPEC, model.warm_up, POSITIONS)
    if kind == "text" and np.round(given.closes[:, -SPEC.context :], 5).min() == 0:
        with pytest.raises(DataError, match=r"with codec\.digits 5; give more decimals"):
            model.predict(given)
        return
    result = model.predict(given)
    check_figures(result, given)
    if kind == "text":
        assert np.allclose(result.paths, np.round(result.paths, 5), rtol=1e-14)
        assert result.paths.max() < 10**7
    else:
        check_nearness(result.forecasts, NEAR[kind])


@pytest.mark.parametrize("price", [1e-6, 1.0, 1e6])
def test_cones_are_as_wide_as_the_moves_at_any_price(eurusd, forecaster, price):
    given = contexts(bars_of(walk(0.006, price), eurusd), SPEC, forecaster.warm_up, POSITIONS)
    found = forecaster.predict(given).forecasts
    half_width = (found.quantiles[:, -1, 0] - found.quantiles[:, 0, 0]) / 2 / found.anchor
    assert half_width == pytest.approx(np.full(len(POSITIONS), 1.64 * 0.006), rel=0.3)


def test_a_dead_feed_that_wakes_is_believed_within_a_few_weeks(eurusd, forecaster):
    """Sigma climbs from its floor to half of what the moves are in at most 25 bars."""
    closes = np.concatenate([np.full(700, 1.25), 1.25 * np.exp(np.cumsum(np.tile([0.006, -0.006], 100)))])
    given = contexts(bars_of(closes, eurusd), SPEC, forecaster.warm_up, np.array([724]))
    assert forecaster.predict(given).forecasts.sigma[0] > 0.003


@pytest.fixture(scope="module")
def gapped(hourly):
    """Hours that move four times as far in the New York morning; after the training part days and a fifth missing."""
    local = hourly.frame.index.tz_convert("America/New_York") - pd.Timedelta(hours=1)
    rng = np.random.default_rng(6)
    moves = rng.normal(size=len(hourly)) * np.where((local.hour >= 8) & (local.hour < 12), 4e-3, 1e-3)
    bars = bars_of(1.1 * np.exp(np.cumsum(moves)), hourly)
    kept = (rng.random(len(bars)) < 0.8) | (np.arange(len(bars)) < TRAINED)
    kept[2800:2860] = False
    return bars, replace(bars, frame=bars.frame[kept])


TRAINED = 2600
"""Bars, more than the 20 weeks that an hour of the weekly pattern takes."""


def test_bars_after_a_gap_have_their_own_hours(hourly, gapped):
    """Sigma by a slow loop over the bars there are, each divided by the profile at the local hour it opened in."""
    whole, bars = gapped
    codec = replace(find_base("embedded").codec, timezone="America/New_York", bar_seconds=3600)
    codec = codec.with_profile(whole.closes[:TRAINED], whole.times[:TRAINED])
    model = forecaster_of(find_base("embedded"), codec=codec)
    positions = np.arange(len(bars) - 24, len(bars))
    given = contexts(bars, SPEC, model.warm_up, positions)
    result = model.predict(given)

    def factor(stamp):
        opened = (pd.Timestamp(stamp, tz="UTC") - pd.Timedelta(hours=1)).tz_convert("America/New_York")
        return codec.profile[opened.day_of_week * 24 + opened.hour]

    moment = stats.t.expect(lambda x: np.abs(x * (5 / 7) ** 0.5) ** codec.power, args=(7,))
    for n in range(len(positions)):
        closes, times = given.closes[n], given.times[n]
        scaled = [(b / a - 1) / factor(at) for a, b, at in zip(closes, closes[1:], times[1:], strict=False)]
        powers, ages = np.abs(scaled) ** codec.power, np.arange(len(scaled))[::-1]
        means = [np.average(powers, weights=0.5 ** (ages / half_life)) for half_life in codec.half_lives]
        sigma = (np.dot(codec.weights, means) / moment) ** (1 / codec.power)
        assert result.forecasts.sigma[n] == pytest.approx(sigma * factor(given.ahead[n, 0]), rel=1e-6)
    assert max(codec.profile) > 2 * min(codec.profile)
    check_figures(result, given)
    check_nearness(result.forecasts, NEAR["bins of hours"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bins of hours"])
def test_gaps_are_forecast_by_codecs_that_read_no_times(posed, gapped, kind):
    _, bars = gapped
    _, model = posed(kind, SERIES["constant"])
    given = contexts(bars, SPEC, model.warm_up, np.arange(len(bars) - 3, len(bars)))
    result = model.predict(given)
    check_figures(result, given)
    if kind in NEAR:
        check_nearness(result.forecasts, NEAR[kind])


def test_nan_is_refused_where_bars_are_read(tmp_path):
    rows = [f"2020-01-{day:02d},{price}" for day, price in zip(range(1, 5), ("1.1", "nan", "1.2", "1.3"), strict=True)]
    file = tmp_path / "EURUSD_D1.csv"
    file.write_text("\n".join(["time,close", *rows]) + "\n")
    with pytest.raises(DataError, match=r"EURUSD_D1\.csv"):
        load_bars(str(file))
