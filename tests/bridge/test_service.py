from dataclasses import replace

import numpy as np
import pytest

from bridge.messages import Bar, Bars, Error, Forecast, Heartbeat, Hello, NeedBars, Welcome
from bridge.service import Desk, Session, contexts_of, handle
from forecasting.calendars import RoundTheClock
from forecasting.errors import ConfigError, UserError
from forecasting.forecasts import Forecasts
from forecasting.windows import WindowSpec, contexts
from strategies.signals import MarketState, SignalRules, target_position

HOUR = 3_600_000


class Drift:
    """A forecaster without a model: each step adds one pip; it remembers what it was given."""

    sha = "drift"
    warm_up = 2

    def __init__(self):
        self.seen = []

    def predict(self, contexts, progress=None):
        self.seen.append(contexts)
        steps = contexts.ahead.shape[1]
        mean = contexts.closes[:, -1:] + 0.0001 * np.arange(1, steps + 1)
        none = np.zeros_like(mean)
        quantiles = mean[:, None] + np.linspace(-0.003, 0.003, 7)[None, :, None]
        forecasts = Forecasts(
            contexts.unique_id,
            contexts.cutoffs,
            contexts.ahead,
            contexts.closes[:, -1],
            np.full(len(contexts), 0.01),
            mean,
            none,
            quantiles,
            none + 0.6,
            none,
            contexts.hashes(),
        )
        return type("Prediction", (), {"forecasts": forecasts})


@pytest.fixture
def desk():
    return Desk(
        unique_id="X-H1",
        forecaster=Drift(),
        windows=WindowSpec(context=3, horizon=2),
        calendar=RoundTheClock("H1"),
        signal=SignalRules("threshold", threshold_k=1.0, lots=0.3),
        round_trip_cost=0.00015,
        point=0.00001,
        close_only=False,
    )


def told(desk, *messages, session=None, now_ms=7):
    """Session and last replies after messages, each stamped as a client would."""
    session, replies = session or Session(epoch=5), ()
    for message in messages:
        stamped = replace(message, epoch=5, seq=session.seq + 1)
        session, replies = handle(session, stamped, {desk.unique_id: desk}, now_ms)
    return session, replies


def bars(first, last, restart=True, close=1.1):
    times = tuple(HOUR * hour for hour in range(first, last + 1))
    return Bars(
        unique_id="X-H1", restart=restart, times_ms=times, closes=tuple(close + i / 1000 for i in range(len(times)))
    )


def bar(hour, close=1.2):
    return Bar(unique_id="X-H1", time_ms=HOUR * hour, close=close)


HELLO = Hello(unique_id="X-H1", client="test")


def test_hello_is_welcomed_with_what_a_forecast_needs(desk):
    session, (welcome,) = told(desk, HELLO)
    assert isinstance(welcome, Welcome)
    assert (welcome.accepted, welcome.history, welcome.horizon, welcome.model_sha) == (True, 5, 2, "drift")
    assert session == Session(epoch=5, unique_id="X-H1", seq=1)


def test_an_unknown_series_is_refused_with_those_that_are_served(desk):
    session, (welcome,) = told(desk, replace(HELLO, unique_id="Y-H1"))
    assert not welcome.accepted
    assert "X-H1" in welcome.reason
    assert told(desk, bar(1), session=session)[1][0].code == "session"


def test_a_bar_is_answered_with_forecast_and_the_signals_own_target(desk):
    _, (forecast,) = told(desk, HELLO, bars(1, 5))
    assert isinstance(forecast, Forecast)
    close = 1.1 + 4 / 1000
    assert (forecast.bar_time_ms, forecast.close_ref, forecast.issued_ms) == (5 * HOUR, close, 7)
    assert (forecast.valid_until_ms, forecast.expiry_ms) == (6 * HOUR, 7 * HOUR)
    assert forecast.mean == (close + 0.0001, close + 0.0002)
    seen = desk.forecaster.seen[-1]
    market = MarketState(float(seen.closes[0, -3:].mean()), close, 0.00015, 0.00001, close_only=False)
    target = target_position(desk.forecaster.predict(seen).forecasts.row(0), market, desk.signal)
    wanted = (target.position, target.stop, target.take_profit, target.size, target.reason)
    got = (forecast.position, forecast.stop, forecast.take_profit, forecast.size, forecast.reason)
    assert got == wanted
    assert forecast.position == 1.0
    assert forecast.input_sha == seen.hashes()[0]


def test_only_the_last_closes_are_kept_and_they_slide(desk):
    session, _ = told(desk, HELLO, bars(1, 40))
    assert session.times_ms == tuple(HOUR * hour for hour in range(36, 41))
    session, (forecast,) = told(desk, bar(41, 1.3), session=session)
    assert session.times_ms == tuple(HOUR * hour for hour in range(37, 42))
    assert session.closes[-1] == forecast.close_ref == 1.3


def test_too_few_bars_are_kept_and_more_are_asked_for(desk):
    session, replies = told(desk, HELLO, bars(1, 3))
    assert replies == (NeedBars(unique_id="X-H1", have=3, need=5),)
    session, replies = told(desk, bar(4), session=session)
    assert replies[0].have == 4
    assert isinstance(told(desk, bar(5), session=session)[1][0], Forecast)


def test_restart_forgets_what_was_held(desk):
    session, replies = told(desk, HELLO, bars(10, 15), bars(1, 2))
    assert replies[0].have == 2
    assert session.times_ms == (HOUR, 2 * HOUR)


def test_bars_of_one_message_or_of_many_give_the_same_forecast(desk):
    at_once = told(desk, HELLO, bars(1, 8))[1]
    session, _ = told(desk, HELLO, replace(bars(1, 8), times_ms=bars(1, 8).times_ms[:6], closes=bars(1, 8).closes[:6]))
    for time_ms, close in zip(bars(1, 8).times_ms[6:], bars(1, 8).closes[6:], strict=True):
        session, one_by_one = told(desk, Bar(unique_id="X-H1", time_ms=time_ms, close=close), session=session)
    assert one_by_one == at_once


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (bar(5), "duplicate"),
        (bar(5, 1.3), "duplicate"),
        (bar(4), "order"),
        (bars(4, 7, restart=False), "order"),
        (bars(5, 7, restart=False), "duplicate"),
        (replace(bars(6, 8, restart=False), times_ms=(6 * HOUR, 8 * HOUR, 7 * HOUR)), "order"),
        (replace(bars(6, 7, restart=True), times_ms=(6 * HOUR, 6 * HOUR)), "duplicate"),
        (replace(bar(6), unique_id="Y-H1"), "series"),
    ],
)
def test_what_does_not_follow_is_refused_and_changes_no_bar(desk, message, code):
    session, _ = told(desk, HELLO, bars(1, 5))
    after, (error,) = told(desk, message, session=session)
    assert isinstance(error, Error)
    assert error.code == code
    assert (after.times_ms, after.closes) == (session.times_ms, session.closes)


def test_strangers_replays_and_peers_of_an_earlier_server_are_refused(desk):
    desks = {"X-H1": desk}
    session, _ = told(desk, HELLO, bars(1, 5))
    assert handle(Session(epoch=5), replace(bar(6), epoch=5, seq=9), desks, 0)[1][0].code == "session"
    assert handle(session, replace(bar(6), epoch=4, seq=9), desks, 0)[1][0].code == "epoch"
    assert handle(session, replace(bar(6), epoch=5, seq=session.seq), desks, 0)[1][0].code == "sequence"


def test_handle_is_a_function_of_its_arguments(desk):
    session, _ = told(desk, HELLO, bars(1, 5))
    before = replace(session)
    message = replace(bar(6), epoch=5, seq=9)
    assert handle(session, message, {"X-H1": desk}, 3) == handle(session, message, {"X-H1": desk}, 3)
    assert session == before


def test_heartbeats_echo_errors_are_swallowed_and_server_messages_refused(desk):
    session = Session(epoch=5)
    assert handle(session, Heartbeat(), {}, 0) == (session, (Heartbeat(),))
    assert handle(session, Error(code="x", text=""), {}, 0) == (session, ())
    assert handle(session, NeedBars(unique_id="X", have=0, need=1), {}, 0)[1][0].code == "type"


def test_a_desk_that_could_not_trade_or_be_sent_is_refused(desk):
    with pytest.raises(UserError, match="horizon 1"):
        replace(desk, windows=WindowSpec(context=3, horizon=1), close_only=True)
    with pytest.raises(ConfigError, match="at most 512 steps"):
        replace(desk, windows=WindowSpec(context=3, horizon=513))
    with pytest.raises(ConfigError, match="mean-vs-last"):
        replace(desk, signal=SignalRules("mean-vs-lst", 1.0, 0.1))


def test_the_window_is_the_backtests_own(offline):
    last = len(offline.closes)
    for row in (0, offline.count - 1):
        end = last - offline.count + row + 1
        first = end - offline.desk.history
        session = Session(1, "EURUSD-D1", 1, tuple(offline.times_ms[first:end]), tuple(offline.closes[first:end]))
        window = contexts_of(session, offline.desk)
        position = np.array([last - offline.count + row])
        backtests = contexts(offline.bars, offline.desk.windows, offline.desk.forecaster.warm_up, position)
        assert window.hashes().tolist() == backtests.hashes().tolist()
        assert window.cutoffs.dtype == backtests.cutoffs.dtype
        assert window.cutoffs.tolist() == backtests.cutoffs.tolist()
