from dataclasses import replace

import numpy as np
import pytest

from bridge.desk import Desk, contexts_of, forecast_jobs, market_of, rules_of
from bridge.messages import Ack, Bar, Bars, Error, Forecast, Heartbeat, Hello, NeedBars, Ok, Proof, Resync, Welcome
from bridge.service import Held, House, Now, Session, digest, handle, settle
from forecasting.calendars import RoundTheClock
from forecasting.errors import ConfigError, UserError
from forecasting.forecasts import Forecasts
from forecasting.windows import WindowSpec, contexts
from strategies.contract import BrokerRules
from strategies.signals import MarketState, SignalRules, target_position
from strategies.stops import average_true_range

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
        model_id="drift/1",
        forecaster=Drift(),
        windows=WindowSpec(context=3, horizon=2),
        calendar=RoundTheClock("H1"),
        tf_sec=3600,
        signal=SignalRules("threshold", threshold_k=1.0, lots=0.3),
        spread=0.00015,
        point=0.00001,
        close_only=False,
    )


def house_of(*desks, **changes):
    return House(epoch=5, desks={desk.facts.key: desk.facts for desk in desks}, **changes)


def asked(house, session, message, desk, now_ms=7):
    """Session and answer, the forecast made where one is asked for."""
    outcome = handle(house, session, message, Now(now_ms, "0" * 32))
    if not outcome.job:
        return outcome.session, outcome.reply
    (forecast,) = forecast_jobs([outcome.job], {desk.facts.key: desk})
    return settle(outcome.session, forecast), forecast


def told(desk, *messages, session=None, now_ms=7):
    """Session and last answer after messages, each stamped as a client would."""
    session, answer, house = session or Session(), None, house_of(desk)
    for message in messages:
        stamped = replace(message, epoch=5, seq=session.seq + 1)
        session, answer = asked(house, session, stamped, desk, now_ms)
    return session, answer


def bars(first, last, restart=True, close=1.1, **changes):
    times = tuple(HOUR * hour for hour in range(first, last + 1))
    closes = tuple(close + i / 1000 for i in range(len(times)))
    prices = dict.fromkeys(("opens", "highs", "lows", "closes"), closes)
    rest = {"volumes": (1.0,) * len(times), "spreads": (-1.0,) * len(times), "equity": 1e4, "balance": 1e4}
    return replace(Bars(unique_id="X-H1", restart=restart, times_ms=times, **prices, **rest), **changes)


def bar(hour, close=1.2, **changes):
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    message = Bar(unique_id="X-H1", time_ms=HOUR * hour, equity=1e4, balance=1e4, **prices)
    return replace(message, **changes)


def times(session):
    return tuple(row[0] for row in session.rows)


HELLO = Hello(unique_id="X-H1", client="test", symbol="X", tf_sec=3600, digits=5, point=1e-5)


def test_hello_is_welcomed_with_what_a_forecast_needs(desk):
    session, welcome = told(desk, HELLO)
    assert isinstance(welcome, Welcome)
    assert (welcome.accepted, welcome.history, welcome.horizon, welcome.model_sha) == (True, 5, 2, "drift")
    assert (welcome.model_id, welcome.from_ms) == ("drift/1", 0)
    assert (session.desk, session.seq, session.rows) == ("X-H1/drift/1", 1, ())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"unique_id": "Y-H1"}, "Y-H1 is not served here; served: X-H1"),
        ({"model": "other"}, "served: drift/1"),
        ({"tf_sec": 60}, "X-H1 has 3600 s"),
        ({"lot_min": 200.0}, "raise the former"),
    ],
)
def test_what_is_not_served_is_refused_with_what_is(desk, changes, reason):
    session, welcome = told(desk, replace(HELLO, **changes))
    assert not welcome.accepted
    assert reason in welcome.reason
    assert told(desk, bar(1), session=session)[1].code == "session"


def test_of_several_models_the_first_is_taken_unless_one_is_named(desk):
    other = replace(desk, model_id="other", windows=WindowSpec(context=4, horizon=3))
    house = house_of(desk, other)
    for model, wanted in (("", desk), ("drift/1", desk), ("other", other)):
        session, welcome = asked(house, Session(), replace(HELLO, model=model, seq=1), desk)
        assert (welcome.model_id, welcome.horizon) == (wanted.model_id, wanted.windows.horizon)
        assert session.desk == wanted.facts.key


def test_welcome_names_the_newest_bar_of_the_same_feed(desk):
    house = house_of(desk, newest={("here", "X-H1"): 11, ("there", "X-H1"): 22})
    for feed, newest in (("here", 11), ("there", 22), ("", 0)):
        assert asked(house, Session(), replace(HELLO, feed=feed), desk)[1].from_ms == newest


def test_a_bar_is_answered_with_forecast_and_the_signals_own_target(desk):
    _, forecast = told(desk, HELLO, bars(1, 5, broker_time=99))
    assert isinstance(forecast, Forecast)
    close = 1.1 + 4 / 1000
    assert (forecast.bar_time_ms, forecast.close_ref, forecast.issued_ms) == (5 * HOUR, close, 7)
    assert (forecast.valid_until_ms, forecast.expiry_ms) == (6 * HOUR, 7 * HOUR)
    assert (forecast.broker_time, forecast.tf_sec, forecast.model_id) == (99, 3600, "drift/1")
    assert forecast.mean == (close + 0.0001, close + 0.0002)
    seen = desk.forecaster.seen[-1]
    market = MarketState(float(seen.closes[0, -3:].mean()), close, 0.00015, 0.00001, close_only=False)
    target = target_position(desk.forecaster.predict(seen).forecasts.row(0), market, desk.signal)
    wanted = (target.position, target.stop, target.take_profit, target.trailing, target.size, target.reason)
    got = (
        forecast.position,
        forecast.stop,
        forecast.take_profit,
        forecast.trailing,
        forecast.lots,
        forecast.reason,
    )
    assert got == wanted
    assert forecast.position == 1.0
    assert forecast.input_sha == seen.hashes()[0]


def test_risk_sizing_follows_the_equity_that_came_with_the_bar(desk):
    """1 % of 20,000 at stake over 100 points and 15 of spread, at 100,000 units a lot: 200 / 115 = 1.73 lots."""
    risky = replace(desk, signal=replace(desk.signal, sizing="risk", risk_percent=1.0, stop="points:100"))
    _, forecast = told(risky, HELLO, bars(1, 5, equity=20_000.0, balance=1.0))
    assert forecast.lots == pytest.approx(1.73)
    assert forecast.stop == pytest.approx(1.104 - 0.001)
    _, half = told(risky, HELLO, bars(1, 5, equity=20_000.0, conversion=2.0))
    assert half.lots == pytest.approx(0.86)
    mini = replace(HELLO, lot_units=10_000.0, lot_step=0.1, lot_min=0.1)
    assert told(risky, mini, bars(1, 5, equity=20_000.0))[1].lots == pytest.approx(17.3)


def test_the_market_state_comes_from_the_bars_and_their_spread(desk):
    rows = bars(1, 20, spreads=(-1.0,) * 19 + (25.0,), highs=(1.2,) * 20, lows=(1.0,) * 20)
    long = replace(desk, windows=WindowSpec(context=18, horizon=2))
    session, _ = told(long, HELLO)
    job = handle(house_of(long), session, replace(rows, epoch=5, seq=9), Now(1)).job
    market = market_of(job, long)
    closes = np.array(rows.closes)
    assert market.spread == pytest.approx(0.00025)
    assert market.round_trip_cost == market.spread
    assert market.last_close == closes[-1]
    assert market.context_mean == closes[-18:].mean()
    assert market.atr == average_true_range(np.full(20, 1.2), np.full(20, 1.0), closes)[-1] == pytest.approx(0.2)
    unknown = handle(house_of(long), session, replace(rows, epoch=5, seq=9, spreads=(-1.0,) * 20), Now(1)).job
    assert market_of(unknown, long).spread == 0.00015


def test_commission_stays_what_it_is_for_a_unit(desk):
    paid = replace(desk, signal=replace(desk.signal, broker=BrokerRules(commission_per_lot=7.0)))
    session, _ = told(paid, replace(HELLO, lot_units=1_000.0))
    job = handle(house_of(paid), session, replace(bars(1, 5), epoch=5, seq=9), Now(1)).job
    broker = rules_of(job, paid).broker
    assert (broker.lot_units, broker.commission_per_unit) == (1_000.0, pytest.approx(7e-5))
    assert market_of(job, paid).round_trip_cost == pytest.approx(0.00015 + 14e-5)


def test_only_the_last_bars_are_kept_and_they_slide(desk):
    session, _ = told(desk, HELLO, bars(1, 40))
    assert times(session) == tuple(HOUR * hour for hour in range(36, 41))
    session, forecast = told(desk, bar(41, 1.3), session=session)
    assert times(session) == tuple(HOUR * hour for hour in range(37, 42))
    assert session.rows[-1][4] == forecast.close_ref == 1.3


def test_too_few_bars_are_kept_and_more_are_asked_for(desk):
    session, answer = told(desk, HELLO, bars(1, 3))
    assert answer == NeedBars(unique_id="X-H1", have=3, need=5)
    session, answer = told(desk, bar(4), session=session)
    assert answer.have == 4
    assert isinstance(told(desk, bar(5), session=session)[1], Forecast)


def test_no_forecast_is_made_while_more_bars_are_announced(desk):
    session, answer = told(desk, HELLO, bars(1, 9, more=True))
    assert (answer.TYPE, answer.have, len(desk.forecaster.seen)) == ("need_bars", 5, 0)
    assert told(desk, bars(10, 10, restart=False), session=session)[1].TYPE == "forecast"
    assert told(desk, bars(9, 9, restart=False, close=1.108), session=session)[1].TYPE == "forecast"


def test_restart_forgets_what_was_held(desk):
    session, answer = told(desk, HELLO, bars(10, 15), bars(1, 2))
    assert answer.have == 2
    assert times(session) == (HOUR, 2 * HOUR)


def test_bars_of_one_message_or_of_many_give_the_same_forecast(desk):
    whole = bars(1, 8)
    at_once = told(desk, HELLO, whole)[1]
    session, _ = told(desk, HELLO, bars(1, 6))
    for hour, close in zip((7, 8), whole.closes[6:], strict=True):
        session, one_by_one = told(desk, bar(hour, close), session=session)
    assert one_by_one == at_once


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (bar(5, 1.3), "conflict"),
        (bar(0), "order"),
        (bars(4, 7, restart=False, close=1.3), "conflict"),
        (replace(bars(6, 8, restart=False), times_ms=(6 * HOUR, 8 * HOUR, 7 * HOUR)), "order"),
        (replace(bars(6, 7, restart=True), times_ms=(6 * HOUR, 6 * HOUR)), "order"),
        (bar(5 * 2, prev_ms=9 * HOUR), "gap"),
        (bar(6, prev_ms=4 * HOUR), "gap"),
        (replace(bar(6), unique_id="Y-H1"), "series"),
    ],
)
def test_what_does_not_follow_is_refused_and_changes_no_bar(desk, message, code):
    session, _ = told(desk, HELLO, bars(1, 5))
    after, error = told(desk, message, session=session)
    assert isinstance(error, Error)
    assert error.code == code
    assert (after.rows, after.last) == (session.rows, session.last)


def test_what_came_before_is_passed_over_and_answered_with_the_newest_forecast(desk):
    session, forecast = told(desk, HELLO, bars(1, 5))
    after, again = told(desk, bars(3, 5, restart=False, close=1.102), session=session)
    assert again.TYPE == "snapshot"
    assert vars(again) == vars(forecast)
    assert after.rows == session.rows
    columns = ("times_ms", "opens", "highs", "lows", "closes", "volumes", "spreads")
    whole = bars(1, 6, restart=False, prev_ms=3 * HOUR)
    overlap = replace(whole, **{name: getattr(whole, name)[3:] for name in columns})
    after, newer = told(desk, overlap, session=session)
    assert (newer.TYPE, newer.bar_time_ms, times(after)[-1]) == ("forecast", 6 * HOUR, 6 * HOUR)
    assert told(desk, Resync(), session=after)[1].bar_time_ms == 6 * HOUR
    assert told(desk, HELLO, Resync())[1] == NeedBars(unique_id="X-H1", have=0, need=5)


def test_strangers_replays_and_peers_of_an_earlier_server_are_refused(desk):
    house = house_of(desk)
    session, _ = told(desk, HELLO, bars(1, 5))

    def code(held, **stamp):
        return handle(house, held, replace(bar(6), **stamp), Now(0)).reply.code

    assert code(Session(), epoch=5, seq=9) == "session"
    assert code(session, epoch=4, seq=9) == "epoch"
    assert code(session, epoch=5, seq=session.seq) == "sequence"


def test_a_hello_that_comes_twice_forgets_nothing(desk):
    session, _ = told(desk, HELLO, bars(1, 5))
    first = replace(HELLO, epoch=5, seq=1)
    again = handle(house_of(desk), session, first, Now(0))
    assert again.session is session
    assert again.reply.accepted
    assert handle(house_of(desk), session, replace(first, ts_ms=1), Now(0)).session.rows == ()


def test_a_secret_is_proved_by_both_sides_once_and_in_time(desk):
    house = house_of(desk, secret="correct horse battery")
    hello = replace(HELLO, nonce="12" * 16, seq=1)
    waiting = handle(house, Session(), hello, Now(100, "ab" * 16))
    assert waiting.reply.nonce == "ab" * 16
    assert waiting.session.desk == ""
    proof = Proof(proof=digest("client", "ab" * 16, "12" * 16, house.secret), seq=2)
    welcomed = handle(house, waiting.session, proof, Now(200))
    assert welcomed.reply.accepted
    assert welcomed.reply.proof == digest("server", "ab" * 16, "12" * 16, house.secret)
    assert handle(house, welcomed.session, proof, Now(300)).reply.code == "auth"
    assert handle(house, waiting.session, proof, Now(10_101)).reply.code == "auth"
    assert handle(house, waiting.session, replace(proof, proof="0" * 64), Now(200)).reply.code == "auth"
    stolen = Proof(proof=welcomed.reply.proof, seq=2)
    assert handle(house, waiting.session, stolen, Now(200)).reply.code == "auth", "a server's proof is no client's"
    begun = handle(house, welcomed.session, hello, Now(300, "cd" * 16))
    assert begun.session.desk == welcomed.session.desk, "who only says hello takes nobody's session"


def test_handle_is_a_function_of_its_arguments(desk):
    session, _ = told(desk, HELLO, bars(1, 5))
    before = replace(session)
    message = replace(bar(6), epoch=5, seq=9)
    assert handle(house_of(desk), session, message, Now(3)) == handle(house_of(desk), session, message, Now(3))
    assert session == before


def test_heartbeats_echo_errors_are_swallowed_and_server_messages_refused(desk):
    house, session = house_of(desk), Session()
    assert handle(house, session, Heartbeat(), Now(0)).reply == Heartbeat()
    assert handle(house, session, Error(code="x", text=""), Now(0)).reply is None
    assert handle(house, session, NeedBars(unique_id="X", have=0, need=1), Now(0)).reply.code == "type"


def test_an_ack_is_answered_and_overtakes(desk):
    session, forecast = told(desk, HELLO, bars(1, 5))
    ack = Ack(unique_id="X-H1", bar_time_ms=forecast.bar_time_ms, code="NOOP", dry_run=True, epoch=5, seq=9)
    assert handle(house_of(desk), session, ack, Now(0)).reply == Ok()
    assert handle(house_of(desk), session, ack, Now(0)).session.seq == session.seq


def test_a_desk_that_could_not_trade_or_be_sent_is_refused(desk):
    with pytest.raises(UserError, match="horizon 1"):
        replace(desk, windows=WindowSpec(context=3, horizon=1), close_only=True)
    with pytest.raises(ConfigError, match="at most 256 steps"):
        replace(desk, windows=WindowSpec(context=3, horizon=257))
    with pytest.raises(ConfigError, match="need 15 bars"):
        replace(desk, signal=replace(desk.signal, stop="atr:2.0"))
    with pytest.raises(ConfigError, match="mean-vs-last"):
        replace(desk, signal=SignalRules("mean-vs-lst", 1.0, 0.1))


def test_many_peers_at_once_get_what_each_would_get_alone(desk):
    class Picky(Drift):
        def predict(self, contexts, progress=None):
            if (contexts.closes > 8).any():
                raise RuntimeError("a price nobody has seen")
            return super().predict(contexts)

    desk = replace(desk, forecaster=Picky())
    house, jobs = house_of(desk), []
    for close in (1.1, 9.0, 1.3):
        session, _ = told(desk, HELLO)
        sent = replace(bars(1, 5, close=close), epoch=5, seq=9)
        jobs.append(handle(house, session, sent, Now(0)).job)
    desks = {desk.facts.key: desk}
    first, bad, last = forecast_jobs(jobs, desks)
    assert isinstance(bad, RuntimeError)
    assert [first] == forecast_jobs(jobs[:1], desks)
    assert [last] == forecast_jobs(jobs[2:], desks)


def test_the_window_is_the_backtests_own(offline):
    last = len(offline.closed)
    house = house_of(offline.desk)
    hello = replace(HELLO, unique_id="EURUSD-D1", tf_sec=86_400, seq=1)
    session = handle(house, Session(), hello, Now(0)).session
    for row in (0, offline.count - 1):
        end = last - offline.count + row + 1
        rows = tuple(tuple(bar) for bar in offline.closed[end - offline.desk.history : end])
        sent = replace(
            bar(1), unique_id="EURUSD-D1", epoch=5, seq=2, time_ms=rows[-1][0], **dict.fromkeys(PRICES, rows[-1][4])
        )
        job = handle(house, replace(session, held=Held(offline.desk.history).add(rows[:-1])), sent, Now(0)).job
        window = contexts_of([job], offline.desk)
        position = np.array([last - offline.count + row])
        backtests = contexts(offline.bars, offline.desk.windows, offline.desk.forecaster.warm_up, position)
        assert window.hashes().tolist() == backtests.hashes().tolist()
        assert window.cutoffs.dtype == backtests.cutoffs.dtype
        assert window.cutoffs.tolist() == backtests.cutoffs.tolist()


PRICES = ("open", "high", "low", "close")
