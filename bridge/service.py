"""What the server answers, without sockets: `handle(session, message, desks, now_ms) -> (session, replies)`.

A session is immutable and holds the last M + C closes of one series, exactly those of the backtest's window, and they
reach the model in the same `Contexts` record: a live forecast has the bytes of the one made offline, and its target
comes from the same signal function. Pure apart from the model, so whatever was on the wire can be replayed in a test.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bridge import messages
from bridge.messages import MAX_HISTORY, MAX_HORIZON, Bar, Bars, Error, Heartbeat, Hello, Message, NeedBars, Welcome
from forecasting.calendars import SessionCalendar
from forecasting.errors import ConfigError
from forecasting.forecaster import Forecaster
from forecasting.forecasts import QUANTILE_LEVELS, Forecast
from forecasting.windows import Contexts, WindowSpec
from strategies.signals import (
    ATR_BARS,
    MarketState,
    SignalRules,
    Target,
    average_true_range,
    check_horizon,
    find_signal,
    target_position,
)  # fmt: skip

HEARTBEAT_MS = 2_000
_LOW, _HIGH = QUANTILE_LEVELS.index(0.10), QUANTILE_LEVELS.index(0.90)


@dataclass(frozen=True)
class Desk:
    """One series served by one model under one signal.

    round_trip_cost: of one unit of base currency, in quote currency, as `strategies.signals.round_trip_cost` has it:
    spread, both commissions and the slippage to be expected. point: price of one
    point. close_only: orders fill at the next close. spread: in price; conversion: account currency for one unit of
    quote currency; equity: of the account, which sizes that follow it need.
    """

    unique_id: str
    forecaster: Forecaster
    windows: WindowSpec
    calendar: SessionCalendar
    signal: SignalRules
    round_trip_cost: float
    point: float
    close_only: bool
    spread: float = 0.0
    conversion: float = 1.0
    equity: float = math.nan

    def __post_init__(self) -> None:
        find_signal(self.signal.signal)
        check_horizon(self.windows.horizon, self.close_only, self.signal.expiry_bars)
        if self.signal.asks_atr and not (self.close_only and self.history > ATR_BARS):
            raise ConfigError(
                f"{self.unique_id}: stops in ATR need highs and lows, and live bars are closes only; use points or "
                "quantiles"
            )
        if self.windows.horizon > MAX_HORIZON or self.history > MAX_HISTORY:
            raise ConfigError(
                f"{self.unique_id}: a live forecast has at most {MAX_HORIZON} steps and {MAX_HISTORY} bars of history, "
                f"not {self.windows.horizon} and {self.history}; serve a model of a shorter horizon or half-life"
            )

    @property
    def history(self) -> int:
        """Closes a forecast needs, M + C."""
        return self.forecaster.warm_up + self.windows.context


@dataclass(frozen=True)
class Session:
    """What the server knows of one peer: the series it said hello for ("" before) and its last closed bars."""

    epoch: int
    unique_id: str = ""
    seq: int = 0
    times_ms: tuple[int, ...] = ()
    closes: tuple[float, ...] = ()


def handle(
    session: Session, message: Message, desks: Mapping[str, Desk], now_ms: int
) -> tuple[Session, tuple[Message, ...]]:
    """The session after a message, and the replies, still unstamped (epoch, seq, re and ts_ms are the server's).

    desks: by unique_id. now_ms: UTC, for `issued_ms`. A message that is refused changes nothing but the sequence.
    """
    match message:
        case Heartbeat():
            return session, (Heartbeat(),)
        case Error():
            return session, ()
        case Hello():
            return _open(session, message, desks)
        case Bar() | Bars():
            return _take(session, message, desks, now_ms)
        case _:
            return session, (Error(code="type", text=f"{message.TYPE} is a message of the server's"),)


def _open(session: Session, hello: Hello, desks: Mapping[str, Desk]) -> tuple[Session, tuple[Message, ...]]:
    desk = desks.get(hello.unique_id)
    welcome = Welcome(
        accepted=desk is not None,
        reason="" if desk else f"not served here; served: {', '.join(sorted(desks))}"[:300],
        unique_id=hello.unique_id,
        history=desk.history if desk else 0,
        horizon=desk.windows.horizon if desk else 0,
        heartbeat_ms=HEARTBEAT_MS,
        model_sha=desk.forecaster.sha if desk else "",
    )
    return Session(session.epoch, hello.unique_id if desk else "", hello.seq), (welcome,)


def _take(
    session: Session, message: Bar | Bars, desks: Mapping[str, Desk], now_ms: int
) -> tuple[Session, tuple[Message, ...]]:
    """Append closed bars and forecast from the last of them."""
    if refusal := _stranger(session, message):
        return session, (refusal,)
    session = replace(session, seq=message.seq)
    if isinstance(message, Bar):
        message = Bars(unique_id=message.unique_id, restart=False, times_ms=(message.time_ms,), closes=(message.close,))
    held = replace(session, times_ms=(), closes=()) if message.restart else session
    if refusal := _disorder(held.times_ms[-1:] + message.times_ms):
        return session, (refusal,)
    desk = desks[session.unique_id]
    after = replace(
        held,
        times_ms=(held.times_ms + message.times_ms)[-desk.history :],
        closes=(held.closes + message.closes)[-desk.history :],
    )
    if len(after.closes) < desk.history:
        return after, (NeedBars(unique_id=desk.unique_id, have=len(after.closes), need=desk.history),)
    return after, (_forecast(after, desk, now_ms),)


def _stranger(session: Session, message: Bar | Bars) -> Error | None:
    """Why a message does not belong to the session."""
    if not session.unique_id:
        return Error(code="session", text="say hello first")
    if message.epoch != session.epoch:
        return Error(code="epoch", text="this server started after that epoch; say hello again and send the bars anew")
    if message.seq <= session.seq:
        return Error(code="sequence", text=f"seq {message.seq} came after {session.seq}; each must exceed the last")
    if message.unique_id != session.unique_id:
        return Error(code="series", text=f"this session is for {session.unique_id}; say hello for another")
    return None


def _disorder(times_ms: tuple[int, ...]) -> Error | None:
    """The first bar that does not follow the one before it."""
    for earlier, later in pairwise(times_ms):
        if later == earlier:
            return Error(code="duplicate", text=f"bar {later} came twice; no bar of this message was taken")
        if later < earlier:
            return Error(code="order", text=f"bar {later} came after {earlier}; no bar of this message was taken")
    return None


def _forecast(session: Session, desk: Desk, now_ms: int) -> messages.Forecast:
    contexts = contexts_of(session, desk)
    forecast = desk.forecaster.predict(contexts).forecasts.row(0)
    closes = contexts.closes[0]
    market = MarketState(
        context_mean=float(closes[-desk.windows.context :].mean()),
        last_close=forecast.anchor,
        round_trip_cost=desk.round_trip_cost,
        point=desk.point,
        close_only=desk.close_only,
        spread=desk.spread,
        conversion=desk.conversion,
        atr=float(average_true_range(closes, closes, closes)[-1]),
        equity=desk.equity,
    )
    return forecast_message(forecast, target_position(forecast, market, desk.signal), desk.forecaster.sha, now_ms)


def contexts_of(session: Session, desk: Desk) -> Contexts:
    """The window that the backtest would have cut at the session's last bar."""
    times = np.array([session.times_ms], dtype="datetime64[ms]").astype("datetime64[ns]")
    return Contexts(
        unique_id=desk.unique_id,
        cutoffs=times[:, -1],
        closes=np.array([session.closes], dtype=np.float64),
        times=times,
        ahead=desk.calendar.following_many(times[:, -1], desk.windows.horizon),
    )


def forecast_message(forecast: Forecast, target: Target, model_sha: str, now_ms: int) -> messages.Forecast:
    """A forecast and its target as they go over the wire; it is valid until the next bar should close."""
    return messages.Forecast(
        unique_id=forecast.unique_id,
        bar_time_ms=_ms(forecast.cutoff),
        horizon=forecast.horizon,
        close_ref=forecast.anchor,
        mean=tuple(forecast.mean.tolist()),
        q10=tuple(forecast.quantiles[_LOW].tolist()),
        q90=tuple(forecast.quantiles[_HIGH].tolist()),
        p_up=tuple(forecast.p_up.tolist()),
        issued_ms=now_ms,
        valid_until_ms=_ms(forecast.ds[0]),
        model_sha=model_sha,
        input_sha=forecast.input_sha,
        position=target.position,
        stop=target.stop,
        take_profit=target.take_profit,
        size=target.size,
        expiry_ms=_ms(target.expiry),
        reason=target.reason,
    )


def _ms(stamp: np.datetime64) -> int:
    return int(stamp.astype("datetime64[ms]").astype(np.int64))
