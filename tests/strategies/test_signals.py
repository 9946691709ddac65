import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.stats import norm

from forecasting.errors import ConfigError, UserError
from forecasting.forecasts import QUANTILE_LEVELS, Forecast, Forecasts
from strategies.contract import BrokerRules
from strategies.signals import SIGNALS, Ballot, MarketState, MarketStates, SignalRules, decide, target_position
from strategies.sizing import steps_of

ON_PRICES = sorted(set(SIGNALS) - {"probability"})
CUTOFF = np.datetime64("2021-03-01T10:00", "ns")


def forecast(mean, mean_se=None):
    mean = np.asarray(mean, np.float64)
    flat = np.zeros_like(mean)
    return Forecast(
        unique_id="EURUSD-H1",
        cutoff=CUTOFF,
        ds=CUTOFF + np.timedelta64(1, "h") * np.arange(1, len(mean) + 1),
        anchor=1.1,
        sigma=1e-3,
        mean=mean,
        mean_se=flat if mean_se is None else np.asarray(mean_se, np.float64),
        quantiles=np.tile(mean, (len(QUANTILE_LEVELS), 1)),
        p_up=flat + 0.5,
        p_up_se=flat,
        input_sha="0",
    )


def market(context_mean=1.1, last_close=1.1, cost=1e-4, close_only=False):
    return MarketState(context_mean, last_close, cost, point=1e-5, close_only=close_only)


def rules(signal, k=1.0):
    return SignalRules(signal=signal, threshold_k=k, lots=0.1)


def position(mean, signal, mean_se=None, k=1.0, **state):
    return target_position(forecast(mean, mean_se), market(**state), rules(signal, k)).position


def test_mean_vs_context_compares_with_the_mean_of_the_context():
    assert position([1.101, 1.103], "mean-vs-context", context_mean=1.1019) == 1
    assert position([1.101, 1.103], "mean-vs-context", context_mean=1.1021) == -1


def test_mean_vs_last_compares_with_the_last_close():
    assert position([1.101, 1.103], "mean-vs-last", last_close=1.1019, context_mean=9) == 1
    assert position([1.101, 1.103], "mean-vs-last", last_close=1.1021, context_mean=0) == -1


def test_threshold_asks_for_k_times_the_cost_at_the_last_step():
    assert position([1.2, 1.10011], "threshold") == 1
    assert position([1.2, 1.10009], "threshold") == 0
    assert position([1.2, 1.09979], "threshold", k=2.0) == -1
    assert position([1.2, 1.09981], "threshold", k=2.0) == 0


def test_on_fixings_step_1_is_the_price_of_the_fill_and_is_not_earned():
    # Rises to t+1, then falls: a buyer at t+1 would lose, whatever the last close.
    rise_then_fall = [1.105, 1.104, 1.103]
    for signal in ("mean-vs-last", "threshold"):
        assert position(rise_then_fall, signal) == 1
        assert position(rise_then_fall, signal, close_only=True) == -1
    # The context is no price that is paid: it stays, but step 1 leaves the mean (1.1035, not 1.104).
    assert position(rise_then_fall, "mean-vs-context", context_mean=1.1037) == 1
    assert position(rise_then_fall, "mean-vs-context", context_mean=1.1037, close_only=True) == -1


@pytest.mark.parametrize("signal", ON_PRICES)
def test_horizon_1_is_refused_on_fixings_only(signal):
    with pytest.raises(UserError, match=r"set windows\.horizon to 2 or more"):
        position([1.2], signal, close_only=True)
    assert position([1.2], signal) == 1


@pytest.mark.parametrize("signal", ON_PRICES)
@pytest.mark.parametrize("close_only", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_flat_inside_twice_the_standard_error(signal, close_only, sign):
    steps = np.array([0.0, 4e-4, 4e-4, 4e-4]) if close_only else np.full(4, 4e-4)
    for error, wanted in ((1.99e-4, sign), (2.01e-4, 0)):
        mean_se = np.full(4, error)
        mean_se[0] = 0.0 if close_only else error
        assert position(1.1 + sign * steps, signal, mean_se, close_only=close_only) == wanted


def test_errors_of_steps_are_averaged_not_diluted():
    # sqrt of summed squares over n would give 0.7e-4 for four independent steps, and a position.
    assert position(np.full(4, 1.1 + 2e-4), "mean-vs-last", np.full(4, 1.4e-4)) == 0


@pytest.mark.parametrize("signal", ON_PRICES)
def test_flat_within_one_point(signal):
    assert position([1.1 + 0.99e-5] * 2, signal, cost=0.0) == 0
    assert position([1.1 + 1.01e-5] * 2, signal, cost=0.0) == 1
    assert position([1.1, 1.1], signal, cost=0.0) == 0


def on_chances(p_up, p_up_se=0.0, close_only=False, margin=0.02):
    p_up = np.asarray(p_up, np.float64)
    believed = replace(forecast(np.full(len(p_up), 1.1)), p_up=p_up, p_up_se=np.broadcast_to(p_up_se, p_up.shape))
    return target_position(believed, market(close_only=close_only), SignalRules("probability", 1.0, 0.1, margin))


def test_probability_trades_beyond_one_half_and_the_margin():
    assert on_chances([0.53, 0.512]).position == 1  # mean 0.521
    assert on_chances([0.53, 0.508]).position == 0
    assert on_chances([0.46, 0.499]).position == -1
    assert on_chances([0.5, 0.5], margin=0.0).position == 0
    assert on_chances([0.5001], margin=0.0).position == 1  # the band of one point is of prices, not of chances
    assert on_chances([0.53, 0.512]).reason == "long: probability +0.021 beyond 0.02"


def test_probability_is_flat_inside_twice_the_standard_error():
    assert on_chances([0.55, 0.55], 0.0249).position == 1
    assert on_chances([0.55, 0.55], 0.0251).position == 0


def test_on_fixings_a_rise_in_step_1_alone_earns_nothing():
    """A drift in step 1 alone, and the same drift in every step: the chance is that of t+h above t+1."""
    steps = np.arange(1, 5)
    once = norm.cdf(0.3 / np.sqrt(steps))
    steady = norm.cdf(0.3 * steps / np.sqrt(steps))
    assert on_chances(once).position == 1
    assert on_chances(once, close_only=True).position == 0
    wanted = norm.cdf(0.3 * (steps[1:] - 1) / np.sqrt(steps[1:] - 1)).mean() - 0.5
    found = on_chances(steady, close_only=True)
    assert found.position == 1
    assert found.reason == f"long: probability {wanted:+.3g} beyond 0.02"
    late_fall = norm.cdf(np.array([0.3, 0.2, 0.1, 0.1]) / np.sqrt(steps))  # above the last close, below the fill
    assert on_chances(late_fall).position == 1
    assert on_chances(late_fall, close_only=True).position == -1


def test_on_fixings_errors_of_chances_add_up_along_the_drift():
    """p = Phi(m / sqrt h), so m is sure to sqrt(h) e / phi, and the band is 2 (e1 + sqrt(2) e2 phi(0) / phi(z2))."""
    edge = norm.cdf(2**0.5 * norm.ppf(0.55)) - 0.5
    for first in (0.0, 0.01):
        most = (edge / 2 - first) * norm.pdf(norm.ppf(0.55)) / norm.pdf(0) / 2**0.5
        assert on_chances([0.5, 0.55], [first, 0.999 * most], close_only=True).position == 1
        assert on_chances([0.5, 0.55], [first, 1.001 * most], close_only=True).position == 0


@pytest.mark.parametrize("wrong", [{"p_up": np.array([0.5, np.nan])}, {"p_up_se": np.array([0.0, np.nan])}])
def test_a_chance_that_is_nan_is_an_error(wrong):
    with pytest.raises(UserError, match="NaN"):
        target_position(replace(forecast([1.1, 1.1]), **wrong), market(), SignalRules("probability", 1.0, 0.1))


def test_chances_of_0_and_1_are_positions_too():
    for close_only in (False, True):
        assert on_chances([0.5, 1.0], close_only=close_only).position == 1
        assert on_chances([0.5, 0.0], close_only=close_only).position == -1


def on_quantiles(low, high, level=0.10, **state):
    """Position where the quantiles of the last step at `level` and its mirror are as given."""
    wide = np.interp(QUANTILE_LEVELS, [level, 1 - level], [low, high], left=low - 1, right=high + 1)
    believed = replace(forecast([1.1, 1.1]), quantiles=np.stack([np.full(7, 1.1), wide], axis=1))
    return target_position(believed, market(**state), SignalRules("quantile", 1.0, 0.1, quantile_level=level)).position


@pytest.mark.parametrize("level", [0.05, 0.10, 0.25])
def test_quantile_trades_where_the_cone_leaves_the_last_close_and_the_cost_out(level):
    assert on_quantiles(1.10011, 1.2, level) == 1
    assert on_quantiles(1.10009, 1.2, level) == 0
    assert on_quantiles(1.0, 1.09989, level) == -1
    assert on_quantiles(1.0, 1.09991, level) == 0
    assert on_quantiles(1.05, 1.15, level) == 0
    assert on_quantiles(1.10011, 1.2, level, last_close=1.2, close_only=True) == 1  # the fill is the predicted 1.1


SETTINGS = [
    {},
    {"sizing": "risk", "stop": "atr:2.0", "take_profit": "quantile:0.95"},
    {"sizing": "kelly", "stop": "quantile:0.05", "trailing": "points:200"},
    {"sizing": "volatility", "bars_per_year": 250.0, "expiry_bars": 2},
]


@pytest.mark.parametrize("close_only", [False, True])
@pytest.mark.parametrize("signal", SIGNALS)
def test_a_row_alone_gives_the_bytes_it_gives_in_the_batch(signal, close_only):
    """Whatever the layout: rows, columns, every other row."""
    rng = np.random.default_rng(5)
    count, horizon = 67, 11
    mean = 1.1 + rng.normal(0, 0.004, (count, horizon))
    believed = Forecasts(
        "EURUSD-H1", CUTOFF + np.timedelta64(1, "h") * np.arange(count),
        CUTOFF + np.timedelta64(1, "h") * (np.arange(count)[:, None] + np.arange(1, horizon + 1)), np.full(count, 1.1),
        rng.uniform(1e-4, 1e-3, count), mean, rng.uniform(0, 1e-4, mean.shape),
        mean[:, None] + np.sort(rng.normal(0, 0.003, (count, 7, horizon)), axis=1),
        rng.uniform(0, 1, mean.shape), rng.uniform(0, 0.01, mean.shape), np.full(count, "0"),
    )  # fmt: skip
    columns = rng.uniform(1.0999, 1.1001, (2, count))
    states = MarketStates(
        *columns, *rng.uniform(1e-4, 3e-4, (2, count)), *rng.uniform(0.5, 1, (1, count)),
        rng.uniform(1e-3, 2e-3, count), 1e-5, close_only,
    )  # fmt: skip
    fortran = replace(believed, **{n: np.asfortranarray(getattr(believed, n)) for n in ("mean", "p_up", "quantiles")})
    seen = set()
    for settings in SETTINGS:
        asked = SignalRules(signal, 0.5, 0.1, quantile_level=0.25, **settings)
        batch, other = decide(believed, states, asked), decide(fortran, states, asked)
        seen |= set(batch.side.tolist())
        for row in range(count):
            state = MarketState(
                *(float(getattr(states, n)[row]) for n in ("context_mean", "last_close", "round_trip_cost")), 1e-5,
                close_only, *(float(getattr(states, n)[row]) for n in ("spread", "conversion", "atr")), 12_345.0,
            )  # fmt: skip
            alone = target_position(believed.row(row), state, asked)
            for decided in (batch, other):
                assert alone.position == decided.side[row]
                prices = [
                    np.nan if value is None else value for value in (alone.stop, alone.take_profit, alone.trailing)
                ]
                wanted = [decided.stop[row], decided.take_profit[row], decided.trailing[row]]
                assert np.array(prices).tobytes() == np.array(wanted).tobytes()
                lots = decided.lots[row] + decided.lots_per_money[row] * 12_345.0
                assert alone.size == steps_of(lots, BrokerRules()) * 0.01
                assert (alone.expiry, alone.reason.split("; ")[0]) == (decided.expiry[row], decided.reason(row))
    assert seen == {-1, 0, 1}


def test_a_vote_is_the_side_of_more_than_half():
    """Members that rise, fall or stand still; the mean's side does not count."""

    def sides(*moves):
        members = tuple(_alone(forecast([1.1 + move] * 2)) for move in moves)
        arrays = {field.name: getattr(members[0], field.name) for field in fields(Forecasts)}
        states = MarketStates(*np.full((5, 1), 1.1), np.full(1, np.nan), 1e-5, False)
        return decide(Ballot(**arrays, members=members), states, rules("mean-vs-last"))

    up, down = 0.01, -0.01
    assert [int(sides(*moves).side[0]) for moves in ((up, up, down), (down, down, up), (up, down), (up, 0, 0))] == [
        1, -1, 0, 0,
    ]  # fmt: skip
    assert sides(down, up, up).reason(0) == "long: vote of mean-vs-last +2 beyond 1.5"
    assert sides(up, up, down, down).reason(0) == "flat: vote of mean-vs-last +2 within 2"


@pytest.mark.parametrize("signal", sorted(SIGNALS))
@pytest.mark.parametrize("close_only", [False, True])
def test_what_lies_beyond_the_expiry_decides_nothing(signal, close_only):
    """With expiry_bars all is as of a forecast that ends there: sides, stops at quantiles, sizes and texts."""
    rng = np.random.default_rng(7)
    count, horizon = 40, 5
    steps = CUTOFF + np.timedelta64(1, "h") * np.arange(1, horizon + 1)
    mean = 1.1 + np.cumsum(rng.normal(0, 0.001, (count, horizon)), axis=1)
    whole = Forecasts(
        "EURUSD-H1", np.full(count, CUTOFF), np.tile(steps, (count, 1)), np.full(count, 1.1), np.full(count, 1e-3),
        mean, rng.uniform(0, 2e-4, mean.shape), mean[:, None] + np.sort(rng.normal(0, 0.001, (count, 7, 5)), axis=1),
        rng.uniform(0, 1, mean.shape), rng.uniform(0, 0.05, mean.shape), np.full(count, "0"),
    )  # fmt: skip
    by_step = ("ds", "mean", "mean_se", "quantiles", "p_up", "p_up_se")
    short = replace(whole, **{name: getattr(whole, name)[..., :2].copy() for name in by_step})
    ballots = [Ballot(**vars(believed), members=(believed,)) for believed in (whole, short)]
    states = MarketStates(
        *np.full((2, count), 1.1), *np.full((2, count), 1e-4), *np.full((2, count), 1.0), 1e-5, close_only
    )
    asked = SignalRules(signal, 0.5, 0.1, sizing="kelly", stop="quantile:0.05", take_profit="quantile:0.95")
    for one, two in ((whole, short), ballots):
        ours, theirs = decide(one, states, replace(asked, expiry_bars=2)), decide(two, states, asked)
        for name, value in vars(theirs).items():
            assert np.array_equal(getattr(ours, name), value, equal_nan=name in ("stop", "take_profit", "trailing"))
        assert (ours.side != decide(one, states, asked).side).any()
        assert set(ours.side.tolist()) == {-1, 0, 1}


def test_a_target_that_expires_before_the_rise_is_not_long():
    falls_first = forecast([1.0980, 1.0970, 1.0990, 1.1050])
    for signal in ("threshold", "mean-vs-last"):
        soon = target_position(falls_first, market(), replace(rules(signal), expiry_bars=1))
        assert (soon.position, soon.expiry) == (-1, CUTOFF + np.timedelta64(1, "h"))
    with pytest.raises(UserError, match=r"expiry_bars 1 cannot be traded .* set trading\.expiry_bars to 2 or more"):
        target_position(falls_first, market(close_only=True), replace(rules("threshold"), expiry_bars=1))


def _alone(believed):
    single = {name: np.asarray(value)[None] for name, value in vars(believed).items() if name != "unique_id"}
    return Forecasts(unique_id=believed.unique_id, **single)


def test_target_says_size_expiry_and_why():
    wanted = target_position(forecast([1.101, 1.102]), market(), rules("mean-vs-last"))
    assert (wanted.position, wanted.size, wanted.stop, wanted.take_profit) == (1.0, 0.1, None, None)
    assert wanted.expiry == np.datetime64("2021-03-01T12:00", "ns")
    assert wanted.reason == "long: mean-vs-last +0.0015 beyond 1e-05"
    flat = target_position(forecast([1.1, 1.1]), market(), rules("mean-vs-last"))
    assert (flat.position, flat.size) == (0.0, 0.0)
    assert flat.reason.startswith("flat: mean-vs-last")
    soon = target_position(forecast([1.101, 1.102]), market(), replace(rules("mean-vs-last"), expiry_bars=1))
    assert soon.expiry == np.datetime64("2021-03-01T11:00", "ns")
    with pytest.raises(UserError, match="expiry_bars is 3, beyond the forecast's horizon of 2"):
        target_position(forecast([1.101, 1.102]), market(), replace(rules("mean-vs-last"), expiry_bars=3))


def test_nan_is_an_error_not_a_position():
    with pytest.raises(UserError, match="NaN"):
        position([np.nan, 1.2], "mean-vs-last")
    with pytest.raises(UserError, match="NaN"):
        position([1.2, 1.2], "mean-vs-last", [0.0, np.nan])
    with pytest.raises(UserError, match="NaN"):
        position([1.2, 1.2], "threshold", cost=np.nan)


def test_unknown_signal_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'threshold'"):
        position([1.2], "treshold")


def test_signals_load_neither_torch_nor_backtrader():
    code = "import sys, strategies.signals; print({'torch', 'backtrader', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
