import functools

import numpy as np
import pandas as pd
import pytest
from asking import restamped
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from forecasting.codecs import BinsCodec
from forecasting.codecs.bins import returns_of
from forecasting.errors import ConfigError
from forecasting.scale import Scale, causal_sigma, hour_of_week

WINDOWS = {
    1: ((7.0,), (1.0,)),
    2: ((3.0, 25.0), (0.7, 0.3)),
    3: ((2.0, 9.0, 60.0), (0.2, 0.5, 0.3)),
}


def unit_t(dof):
    """Student's t of variance 1."""
    return stats.t(dof, scale=np.sqrt((dof - 2) / dof))


@functools.cache
def moment(power, dof):
    """E|T|^p by numerical integration over the density."""
    density = unit_t(dof)
    return 2 * integrate.quad(lambda x: x**power * density.pdf(x), 0, np.inf, limit=200)[0]


def slow_sigma(returns, scale):
    """Sigma at every place of one series and after it, from the definition, O(T^2)."""
    found = []
    for t in range(len(returns) + 1):
        mean = 0.0
        for half_life, share in zip(scale.half_lives, scale.weights, strict=True):
            total = weight = 0.0
            for s in range(t):
                recent = 0.5 ** ((t - 1 - s) / half_life)
                total += recent * abs(returns[s]) ** scale.power
                weight += recent
            mean += share * total / weight if t else 0.0
        found.append(max((mean / moment(scale.power, scale.dof)) ** (1 / scale.power), scale.floor))
    return found


def some_returns(seed, series, length):
    return np.random.default_rng(seed).standard_t(5, size=(series, length)) * 0.01


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("windows", WINDOWS)
def test_sigma_against_a_slow_loop(windows, power):
    scale, returns = Scale(*WINDOWS[windows], power=power, dof=4.5), some_returns(1, 2, 40)
    returns[1, 5:9] = 0.0
    sigma, state = causal_sigma(returns, scale)
    slow = np.array([slow_sigma(series, scale) for series in returns])
    assert sigma.shape == returns.shape
    assert sigma == pytest.approx(slow[:, :-1], rel=1e-9)
    assert state.sigma(scale) == pytest.approx(slow[:, -1], rel=1e-9)
    assert (sigma[:, 0] == scale.floor).all()


@pytest.mark.parametrize("dof", [2.1, 3.0, 5.0, 30.0])
@pytest.mark.parametrize("power", [0.5, 1.0, 1.5, 2.0])
def test_unit_makes_the_power_mean_of_a_t_its_standard_deviation(power, dof):
    wanted = moment(power, dof) ** (-1 / power) if power < 2 or dof > 3 else 1.0  # its variance is 1 by definition
    assert Scale((10.0,), (1.0,), power, dof).unit == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("power", [1.0, 1.5])
def test_sigma_of_a_huge_sample_is_its_standard_deviation(power):
    """2,000 bars of 1,000 series whose volatility does not move."""
    returns = 0.007 * unit_t(5).rvs(size=(1000, 2000), random_state=np.random.default_rng(2))
    scale = Scale((300.0, 1e5), (0.5, 0.5), power, dof=5.0)
    sigma = causal_sigma(returns, scale)[1].sigma(scale)
    assert np.mean(sigma**power) ** (1 / power) == pytest.approx(0.007, rel=2e-3)
    assert sigma.std() > 0


def test_power_2_with_one_window_is_the_classical_average_of_squares():
    """As pandas works it out, normalised over the returns seen."""
    returns = some_returns(3, 1, 300)
    sigma, _ = causal_sigma(returns, Scale((20.0,), (1.0,), power=2.0))
    classical = np.sqrt(pd.Series(returns[0] ** 2).ewm(halflife=20, adjust=True).mean())
    assert sigma[0, 1:] == pytest.approx(classical[:-1].to_numpy(), rel=1e-12)


def test_a_jump_moves_a_smaller_power_less_and_is_forgotten_sooner():
    returns = some_returns(4, 1, 400)
    jumped = returns.copy()
    jumped[0, 300] = 10 * 0.01
    ratio = {}
    for power in (1.0, 1.5, 2.0):
        scale = Scale((10.0, 80.0), (0.7, 0.3), power)
        ratio[power] = causal_sigma(jumped, scale)[0][0] / causal_sigma(returns, scale)[0][0]
        assert ratio[power][:301] == pytest.approx(np.ones(301), abs=0)
        assert ratio[power][301] > 1.2
    assert (ratio[1.0][301:] < ratio[1.5][301:]).all()
    assert (ratio[1.5][301:] < ratio[2.0][301:]).all()


def test_a_slow_window_remembers_the_level_to_which_volatility_reverts():
    calm = np.concatenate([np.full(200, 0.02), np.full(20, 0.005)])[None]
    both, fast = (Scale(*windows) for windows in (((5.0, 80.0), (0.7, 0.3)), ((5.0,), (1.0,))))
    assert causal_sigma(calm, both)[1].sigma(both)[0] > 1.3 * causal_sigma(calm, fast)[1].sigma(fast)[0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"half_lives": ()}, r"half_lives is \[\]"),
        ({"half_lives": (0.0, 5.0)}, r"half_lives is \[0.0, 5.0\]"),
        ({"half_lives": (3.0, -1.0)}, r"half_lives is \[3.0, -1.0\]"),
        ({"weights": (1.0,)}, r"weights is \[1.0\]; give one for each of the 2 half_lives"),
        ({"weights": (0.5, 0.3, 0.2)}, r"weights is \[0.5, 0.3, 0.2\]; give one for each of the 2 half_lives"),
        ({"weights": (1.5, -0.5)}, r"weights is \[1.5, -0.5\].*none negative"),
        ({"weights": (0.5, 0.4)}, r"weights is \[0.5, 0.4\].*adding up to 1"),
        ({"power": 0.4}, "power is 0.4"),
        ({"power": 2.1}, "power is 2.1"),
    ],
)
def test_settings_out_of_range_name_the_offender(wrong, said):
    with pytest.raises(ConfigError, match=rf"^{said}") as caught:
        Scale(**{"half_lives": (3.0, 5.0), "weights": (0.5, 0.5), **wrong})
    assert "\n" not in str(caught.value)


def test_settings_at_the_ends_of_their_ranges_are_taken():
    for power in (0.5, 2.0):
        scale = Scale((0.1, 1000.0), (0.0, 1.0), power)
        alone = Scale((1000.0,), (1.0,), power)
        returns = some_returns(5, 1, 50)
        assert causal_sigma(returns, scale)[0] == pytest.approx(causal_sigma(returns, alone)[0], rel=1e-12)
    Scale((1.0, 2.0, 3.0), (1 / 3, 1 / 3, 1 / 3))


@pytest.mark.parametrize("windows", WINDOWS)
def test_one_more_bar_continues_the_state_exactly(windows):
    codec = BinsCodec(half_lives=WINDOWS[windows][0], weights=WINDOWS[windows][1])
    closes = 1.1 * np.exp(np.cumsum(some_returns(6, 3, 120), axis=1))
    times = np.tile(np.datetime64("2020-01-01", "ns") + np.arange(120) * np.timedelta64(1, "D"), (3, 1))
    _, whole = codec.encode(closes, times, 5)
    _, shorter = codec.encode(closes[:, :-1], times[:, :-1], 5)
    continued = shorter.volatility.after(returns_of(closes[:, -2:])[:, 0], codec.scale)
    assert continued.totals.tobytes() == whole.volatility.totals.tobytes()
    assert continued.count == whole.volatility.count == 119
    assert continued.sigma(codec.scale).tobytes() == whole.volatility.sigma(codec.scale).tobytes()
    alone = [codec.encode(closes[i : i + 1], times[i : i + 1], 5)[1].volatility.totals for i in range(3)]
    assert np.concatenate(alone, axis=1).tobytes() == whole.volatility.totals.tobytes()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.sampled_from([1e-3, 1e3]), power=st.sampled_from([1.0, 1.5, 2.0]))
def test_sigma_scales_with_the_returns(seed, factor, power):
    scale, returns = Scale((10.0, 80.0), (0.7, 0.3), power, floor=1e-12), some_returns(seed, 1, 60)
    returns[0, 0] = 0.01  # above the floor from the first on
    one, other = (causal_sigma(values, scale)[0][0, 1:] for values in (returns, returns * factor))
    assert other / factor == pytest.approx(one, rel=1e-12)


def test_sigma_never_falls_below_the_floor():
    returns = np.concatenate([some_returns(7, 1, 30), np.zeros((1, 3000))], axis=1)
    scale = Scale((10.0, 80.0), (0.7, 0.3), floor=1e-5)
    sigma, state = causal_sigma(returns, scale)
    assert sigma[0, 10] > 1e-3
    assert sigma.min() == state.sigma(scale)[0] == 1e-5


def test_the_start_of_a_window_matters_little_after_the_warm_up():
    """Six per cent of the slowest window's weight, in the power mean: sigma is hardly another one."""
    scale, returns = Scale((10.0, 80.0), (0.7, 0.3)), some_returns(8, 200, 2000)
    assert scale.warm_up == 320
    long, short = (causal_sigma(values, scale)[1].sigma(scale) for values in (returns, returns[:, -scale.warm_up :]))
    assert np.abs(short / long - 1).max() < 0.05
    assert np.abs(short / long - 1).max() > 0


def local_hour(stamp, timezone, bar_seconds):
    opened = pd.Timestamp(stamp, tz="UTC") - pd.Timedelta(seconds=bar_seconds)
    local = opened.tz_convert(timezone)
    return local.day_of_week * 24 + local.hour


@pytest.mark.parametrize("first", ["2016-01-01", "2016-07-01"])
@pytest.mark.parametrize("timezone", ["UTC", "America/New_York", "Europe/Athens"])
def test_hours_and_profile_over_a_change_of_daylight_saving_against_a_slow_loop(hourly, timezone, first):
    """New York springs forward on 2016-03-13, Athens a fortnight later; back on 2016-11-06, Athens a week before."""
    bars = restamped(hourly, first)
    closes, times = bars.closes, bars.times
    hours = [local_hour(stamp, timezone, 3600) for stamp in times]
    assert hour_of_week(times[1000:].reshape(5, -1), timezone, 3600).reshape(-1).tolist() == hours[1000:]
    apart = set((hour_of_week(times, "UTC", 3600) - hours) % 168)
    assert len(apart) == (1 if timezone == "UTC" else 2)
    squares = {hour: [] for hour in range(168)}
    for i in range(1, len(closes)):
        squares[hours[i]].append((closes[i] / closes[i - 1] - 1) ** 2)
    everywhere = [square for found in squares.values() for square in found]
    level = sum(everywhere) / len(everywhere)
    variance = {
        hour: (sum(found) / level + 20) / (len(found) + 20) if len(found) >= 20 else 1.0
        for hour, found in squares.items()
    }
    assert len({len(found) >= 20 for found in squares.values()}) == 2, "hours seen often and seldom"
    assert len(set(variance.values())) > 50
    mean = sum(variance[hours[i]] for i in range(1, len(closes))) / (len(closes) - 1)
    codec = BinsCodec(timezone=timezone, bar_seconds=3600).with_profile(closes, times)
    assert codec.profile == pytest.approx([(variance[hour] / mean) ** 0.5 for hour in range(168)], rel=1e-9)
