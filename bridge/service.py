"""What the server answers, without sockets, models or disk: `handle(house, session, message, now) -> Outcome`.

A session is immutable and holds the last M + C bars of one series, exactly those of the backtest's window. Where a
message asks for a forecast, the outcome has a `Job` for whoever has the model (bridge.desk), and the session as it will
be once that is done: a forecast that fails takes nothing. Pure, so that whatever was on the wire can be replayed in a
test; imports the standard library only, so that the process of the sockets stays small.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from bridge.messages import (
    Ack,
    Bar,
    Bars,
    Challenge,
    Error,
    Exec,
    Forecast,
    Heartbeat,
    Hello,
    Message,
    NeedBars,
    Ok,
    Proof,
    Resync,
    Snapshot,
    Welcome,
)

HEARTBEAT_MS = 1_000
CHALLENGE_MS = 10_000
LEAST_SECRET = 16

Row = tuple[int, float, float, float, float, float, float]
"""A closed bar: close time in UTC ms, open, high, low, close, volume (ticks), spread (points, -1 unknown)."""

Record = TypeVar("Record", bound="Held | Session")

_ROW = struct.Struct("<q6d")
_YOUNG = 256 * _ROW.size


@dataclass(frozen=True)
class Facts:
    """What is told of a model and the series it serves; `bridge.desk.Desk` has the model itself."""

    unique_id: str
    model_id: str
    model_sha: str
    history: int
    horizon: int
    tf_sec: int
    max_lots: float

    @property
    def key(self) -> str:
        """Name of the desk among all."""
        return f"{self.unique_id}/{self.model_id}"


@dataclass(frozen=True)
class House:
    """What one run of the server serves: `desks` by key, the first of a series is the one taken where none is named.

    epoch: of the run. secret: "" for none. newest: close time of the newest bar in the journal, by (feed, series).
    heartbeat_ms: what peers are told in welcome.
    """

    epoch: int
    desks: Mapping[str, Facts]
    secret: str = ""
    newest: Mapping[tuple[str, str], int] = field(default_factory=dict)
    heartbeat_ms: int = HEARTBEAT_MS


class Now(NamedTuple):
    """ms: UTC. nonce: fresh random hex, of which a challenge takes its own."""

    ms: int
    nonce: str = ""


@dataclass(frozen=True)
class Held:
    """The last `most` bars of a session, in a fifth of the memory of tuples; never changed, so appending gives another.

    An append copies the young ones only, not all of up to a million: those are joined with the old ones now and then.
    """

    most: int = 0
    old: bytes = b""
    young: bytes = b""

    def __len__(self) -> int:
        return min(self.most, (len(self.old) + len(self.young)) // _ROW.size)

    @property
    def last_ms(self) -> int:
        """Close of the newest, -1 for none."""
        part = self.young or self.old
        return int(_ROW.unpack_from(part, len(part) - _ROW.size)[0]) if part else -1

    @property
    def rows(self) -> tuple[Row, ...]:
        """All, oldest first, bit for bit."""
        return tuple(_ROW.iter_unpack(self._joined(self.young)))

    def add(self, rows: Iterable[Row]) -> "Held":
        """With further bars behind."""
        young = self.young + b"".join(_ROW.pack(*row) for row in rows)
        if len(young) < _YOUNG:
            return _changed(self, young=young)
        return Held(self.most, self._joined(young))

    def _joined(self, young: bytes) -> bytes:
        return (self.old + young)[-self.most * _ROW.size :] if self.most else b""


@dataclass(frozen=True)
class Session:
    """What the server knows of one peer.

    desk: key, "" before welcome. hello: that was accepted. pending: a hello that waits for its proof until `until_ms`,
    and the challenge. seq: the peer's last. held: its last closed bars. last: the newest forecast.
    """

    desk: str = ""
    hello: Hello | None = None
    pending: Hello | None = None
    challenge: str = ""
    until_ms: int = 0
    seq: int = 0
    held: Held = Held()
    last: Forecast | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The bars held, oldest first."""
        return self.held.rows

    @property
    def count(self) -> int:
        """How many bars are held."""
        return len(self.held)


@dataclass(frozen=True)
class Job:
    """A forecast to be made, and what a signal may know beside it.

    rows: M + C bars. point: price of one point as the broker has it, for `rows`' spreads. lot_...: the broker's.
    """

    desk: str
    rows: tuple[Row, ...]
    broker_time: int
    equity: float
    conversion: float
    point: float
    lot_units: float
    lot_min: float
    lot_step: float
    lot_max: float
    now_ms: int


class Outcome(NamedTuple):
    """The session after a message, and its answer, unstamped; or the job whose forecast is the answer.

    bars: taken, to be kept in the journal before anything is answered.
    """

    session: Session
    reply: Message | None = None
    job: Job | None = None
    bars: tuple[Row, ...] = ()


def handle(house: House, session: Session, message: Message, now: Now) -> Outcome:
    """What a message does to a session, and what is answered; a message that is refused changes nothing but seq."""
    match message:
        case Heartbeat():
            return Outcome(session, Heartbeat())
        case Error():
            return Outcome(session)
        case Hello():
            return _hello(house, session, message, now)
        case Proof():
            return _proof(house, session, message, now)
        case Bar() | Bars() | Resync() | Ack() | Exec():
            refusal = _stranger(house, session, message)
            return Outcome(session, refusal) if refusal else _known(house, session, message, now)
        case _:
            return Outcome(session, Error(code="type", text=f"{message.TYPE} is a message of the server's"))


def _changed(record: Record, **fields: Any) -> Record:
    """What `replace` gives, in a fifth of the time: three times for every bar."""
    changed = object.__new__(type(record))
    vars(changed).update(vars(record), **fields)
    return changed


def settle(session: Session, forecast: Forecast) -> Session:
    """The session once its job is done."""
    return replace(session, last=forecast)


def digest(who: str, challenge: str, nonce: str, secret: str) -> str:
    """The proof of "client" or "server" that it knows the secret."""
    return hashlib.sha256(f"tunetrade1|{who}|{challenge}|{nonce}|{secret}".encode()).hexdigest()


def _hello(house: House, session: Session, hello: Hello, now: Now) -> Outcome:
    if house.secret:
        waiting = replace(session, pending=hello, challenge=now.nonce, until_ms=now.ms + CHALLENGE_MS)
        return Outcome(waiting, Challenge(nonce=now.nonce))
    if session.desk and hello == session.hello:  # came twice on the way
        return Outcome(session, _welcome(house, hello, house.desks[session.desk]))
    return _open(house, hello, "")


def _proof(house: House, session: Session, proof: Proof, now: Now) -> Outcome:
    hello, after = session.pending, replace(session, pending=None, challenge="")
    if hello is None or now.ms > session.until_ms:
        return Outcome(
            after, Error(code="auth", text="no challenge waits for this proof; say hello, and answer in 10 s")
        )
    if not hmac.compare_digest(proof.proof, digest("client", session.challenge, hello.nonce, house.secret)):
        return Outcome(after, Error(code="auth", text="the proof is wrong; give both sides the same secret"))
    return _open(house, hello, digest("server", session.challenge, hello.nonce, house.secret), proof.seq)


def _open(house: House, hello: Hello, proof: str, seq: int = 0) -> Outcome:
    """A new session, or the reason why there is none."""
    desk = _asked(house, hello)
    if isinstance(desk, str):
        return Outcome(Session(), replace(_welcome(house, hello, None), reason=desk[:300], proof=proof))
    opened = Session(desk=desk.key, hello=hello, seq=max(seq, hello.seq))
    return Outcome(opened, replace(_welcome(house, hello, desk), proof=proof))


def _asked(house: House, hello: Hello) -> Facts | str:
    """The desk that a hello asks for, or why it cannot be had."""
    of_series = [desk for desk in house.desks.values() if desk.unique_id == hello.unique_id]
    if not of_series:
        served = ", ".join(sorted({desk.unique_id for desk in house.desks.values()}))
        return f"{hello.unique_id} is not served here; served: {served}"
    desk = next((desk for desk in of_series if hello.model in ("", desk.model_id)), None)
    if desk is None:
        return f"model {hello.model} is not served; served: {', '.join(desk.model_id for desk in of_series)}"
    if hello.tf_sec != desk.tf_sec:
        return f"bars of {hello.tf_sec} s, and {hello.unique_id} has {desk.tf_sec} s; open a chart of that timeframe"
    if desk.max_lots < hello.lot_min:
        return f"trading.max_lots {desk.max_lots:g} is below the broker's least, {hello.lot_min:g}; raise the former"
    return desk


def _welcome(house: House, hello: Hello, desk: Facts | None) -> Welcome:
    return Welcome(
        accepted=desk is not None,
        reason="",
        unique_id=hello.unique_id,
        model_id=desk.model_id if desk else "",
        model_sha=desk.model_sha if desk else "",
        history=desk.history if desk else 0,
        horizon=desk.horizon if desk else 0,
        from_ms=house.newest.get((hello.feed, hello.unique_id), 0) if desk else 0,
        heartbeat_ms=house.heartbeat_ms,
    )


def _stranger(house: House, session: Session, message: Bar | Bars | Resync | Ack | Exec) -> Error | None:
    """Why a message does not belong to the session."""
    if session.hello is None:
        return Error(code="session", text="say hello first")
    if message.epoch != house.epoch:
        return Error(code="epoch", text="this server started after that epoch; say hello again and send the bars anew")
    if message.seq <= session.seq:
        return Error(code="sequence", text=f"seq {message.seq} came after {session.seq}; each must exceed the last")
    if not isinstance(message, Resync) and message.unique_id != session.hello.unique_id:
        return Error(code="series", text=f"this session is for {session.hello.unique_id}; say hello for another")
    return None


def _known(house: House, session: Session, message: Bar | Bars | Resync | Ack | Exec, now: Now) -> Outcome:
    if isinstance(message, Ack | Exec):
        # They overtake bars that wait for a forecast, so they leave seq alone; the journal knows what came twice.
        return Outcome(session, Ok())
    session = _changed(session, seq=message.seq)
    if isinstance(message, Resync):
        return Outcome(session, _newest(house, session))
    return _take(house, session, message, now)


def _newest(house: House, session: Session) -> Message:
    """The newest forecast again, or how many bars are missing for one."""
    if session.last is not None:
        values = {name: value for name, value in vars(session.last).items() if name not in _STAMP}
        return Snapshot(**values)
    desk = house.desks[session.desk]
    return NeedBars(unique_id=desk.unique_id, have=session.count, need=desk.history)


_STAMP = ("epoch", "seq", "re", "ts_ms")


def _take(house: House, session: Session, message: Bar | Bars, now: Now) -> Outcome:
    """Append closed bars; a forecast is asked for from the last of them."""
    sent = rows_of(message)
    restart, more = (message.restart, message.more) if isinstance(message, Bars) else (False, False)
    desk, hello = house.desks[session.desk], session.hello
    held = Held(desk.history) if restart or not session.held else session.held
    last = held.last_ms
    if refusal := _disorder(held, last, sent, 0 if restart else message.prev_ms):
        return Outcome(session, refusal)
    fresh = sent if sent[0][0] > last else tuple(row for row in sent if row[0] > last)
    assert hello is not None
    after = _changed(session, held=held.add(fresh), last=None)
    short = more or after.count < desk.history
    if not fresh and (session.last or short):
        return Outcome(session, _newest(house, session))
    if short:
        have = NeedBars(unique_id=desk.unique_id, have=after.count, need=desk.history)
        return Outcome(after, have, bars=fresh)
    job = Job(
        desk=desk.key,
        rows=after.rows,
        broker_time=message.broker_time,
        equity=message.equity,
        conversion=message.conversion,
        point=hello.point,
        lot_units=hello.lot_units,
        lot_min=hello.lot_min,
        lot_step=hello.lot_step,
        lot_max=hello.lot_max,
        now_ms=now.ms,
    )
    return Outcome(after, job=job, bars=fresh)


def rows_of(message: Bar | Bars) -> tuple[Row, ...]:
    """The bars of a message."""
    if isinstance(message, Bar):
        prices = message.open, message.high, message.low, message.close
        return ((message.time_ms, *prices, message.volume, message.spread),)
    m = message
    return tuple(zip(m.times_ms, m.opens, m.highs, m.lows, m.closes, m.volumes, m.spreads, strict=True))


def _disorder(held: Held, last: int, sent: tuple[Row, ...], prev_ms: int) -> Error | None:
    """Why bars do not follow those held, of which one that closed at `last` is the newest."""
    for earlier, later in pairwise(sent):
        if later[0] <= earlier[0]:
            return Error(code="order", text=f"bar {later[0]} came after {earlier[0]}; no bar of this message was taken")
    if sent[0][0] > last and prev_ms and prev_ms != last:
        what = f"bar {last} was the last" if held else "no bar is held"
        return Error(code="gap", text=f"{what} and prev_ms names {prev_ms}: backfill")
    if sent[0][0] > last:
        return None
    known = {row[0]: row for row in held.rows}
    for row in sent:
        if row[0] > last:
            break
        if row[0] not in known:
            return Error(code="order", text=f"bar {row[0]} lies before or between those held; send them with restart")
        if row[1:5] != known[row[0]][1:5]:
            return Error(code="conflict", text=f"bar {row[0]} came again with other prices; send them with restart")
    return None
