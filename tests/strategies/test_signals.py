import subprocess
import sys

import numpy as np
import pytest

from forecasting.errors import ConfigError, UserError
from forecasting.forecasts import QUANTILE_LEVELS, Forecast
from strategies.signals import SIGNALS, MarketState, SignalRules, target_position

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


@pytest.mark.parametrize("signal", sorted(SIGNALS))
def test_horizon_1_is_refused_on_fixings_only(signal):
    with pytest.raises(UserError, match=r"set windows\.horizon to 2 or more"):
        position([1.2], signal, close_only=True)
    assert position([1.2], signal) == 1


@pytest.mark.parametrize("signal", sorted(SIGNALS))
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


@pytest.mark.parametrize("signal", sorted(SIGNALS))
def test_flat_within_one_point(signal):
    assert position([1.1 + 0.99e-5] * 2, signal, cost=0.0) == 0
    assert position([1.1 + 1.01e-5] * 2, signal, cost=0.0) == 1
    assert position([1.1, 1.1], signal, cost=0.0) == 0


def test_target_says_size_expiry_and_why():
    wanted = target_position(forecast([1.101, 1.102]), market(), rules("mean-vs-last"))
    assert (wanted.position, wanted.size, wanted.stop, wanted.take_profit) == (1.0, 0.1, None, None)
    assert wanted.expiry == np.datetime64("2021-03-01T12:00", "ns")
    assert wanted.reason == "long: mean-vs-last +0.0015 beyond 1e-05"
    flat = target_position(forecast([1.1, 1.1]), market(), rules("mean-vs-last"))
    assert (flat.position, flat.size) == (0.0, 0.0)
    assert flat.reason.startswith("flat: mean-vs-last")


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
