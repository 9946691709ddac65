"""The link: frames in, `service.handle`, the journal, frames out.

A single event loop moves frames, answers heartbeats and writes the journal; models are asked in a thread that waits for
another process (bridge.models), so a slow forecast delays other forecasts and nothing else. What waits meanwhile goes
to the models as one batch. Messages of one peer are handled one after the other, those of several as they come.

Terminals come by `bridge.listener`, in this very loop; CURVE peers by a ROUTER of libzmq, the mirror is its PUB.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import secrets
import signal
import sqlite3
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import zmq

from bridge.curve import PREFIX, Curve, CurvePort, public_key
from bridge.journal import Journal
from bridge.listener import KEEPALIVE_S, Listener, listening
from bridge.messages import (
    MAX_FRAME_BYTES,
    Ack,
    Bar,
    Bars,
    Error,
    Exec,
    Forecast,
    Heartbeat,
    Hello,
    Message,
    Ok,
    ProtocolError,
    Sent,
    Welcome,
    decode,
    encode,
    stamped,
)
from bridge.models import Answer, Models
from bridge.service import HEARTBEAT_MS, LEAST_SECRET, Facts, House, Job, Now, Outcome, Session, handle, settle
from forecasting.errors import ConfigError, UserError

DEFAULT_PORT = 5757
MAX_PEERS = 1_024
MAX_WAITING = 4_096
MAX_BATCH = 64
FORGET_S = 3_600.0
MAX_UNHANDLED = 64
"""A peer that has asked so much more than it was told is not read until some of it is answered."""

_log = logging.getLogger(__name__)

Event = Mapping[str, Any]
"""Something that happened, flat and ready for JSON: `event`, `ts_ms`, and what belongs to it."""


@dataclass(frozen=True)
class Options:
    """How to listen.

    host: IPv4 address or "localhost"; one that other machines can reach needs a secret. port: 0 takes any free one.
    secret: of at least 16 characters, "" for none. publish: port of the mirror on loopback, None for none. curve: a
    second port, for Python peers with keys. heartbeat_ms: how often peers are to ask for a sign of life.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    secret: str = ""
    publish: int | None = None
    curve: Curve | None = None
    heartbeat_ms: int = HEARTBEAT_MS

    def __post_init__(self) -> None:
        endpoint_of(self.host, self.port, self.secret)
        if self.curve:
            curve_endpoint(self.curve, self.secret)
        if self.secret and len(self.secret) < LEAST_SECRET:
            raise ConfigError(f"the secret has {len(self.secret)} characters; give at least {LEAST_SECRET} random ones")


def endpoint_of(host: str, port: int, secret: str = "") -> str:
    """The endpoint to bind; ConfigError for an address that strangers could reach."""
    try:
        address = ipaddress.IPv4Address({"localhost": "127.0.0.1", "*": "0.0.0.0"}.get(host, host))
    except ValueError:
        raise ConfigError(
            f"host {host!r} is no IPv4 address; use 127.0.0.1, or, with a secret, an IPv4 address of this machine"
        ) from None
    if not address.is_loopback and not secret:
        raise ConfigError(
            f"host {host} can be reached from other machines, and without a secret any of them could connect; "
            f"give a secret to both sides, or use 127.0.0.1 and a tunnel (ssh -L)"
        )
    if not 0 <= port <= 65_535:
        raise ConfigError(f"port {port} does not exist; give 1024 to 65535, such as {DEFAULT_PORT}")
    return f"tcp://{address}:{port}"


def curve_endpoint(curve: Curve, secret: str) -> str:
    """The endpoint for CURVE peers; other machines may reach it where clients' keys or a secret keep strangers out."""
    try:
        return endpoint_of(curve.host, curve.port, secret or ("keys" if curve.clients else ""))
    except ConfigError as error:
        raise ConfigError(f"CURVE: {error}; or name the public keys that may connect (--curve-clients)") from None


async def serve(
    models: Models,
    journal: Journal,
    options: Options | None = None,
    ready: Callable[[int], None] | None = None,
    tell: Callable[[Event], None] | None = None,
) -> None:
    """Answer peers until cancelled; the models and the journal stay the caller's to close.

    Parameters
    ----------
    models
        What makes the forecasts.
    journal
        Where everything is kept.
    options
        How to listen; by default on loopback.
    ready
        Called with the port once forecasts can be asked for. Heartbeats are answered before, while models load.
    tell
        Called with every event.

    Raises
    ------
    UserError
        The address is refused or taken; the message names it and the cure.
    """
    options = options or Options()
    context = zmq.Context()
    pool = ThreadPoolExecutor(1, thread_name_prefix="forecast")
    link, listener = None, None
    try:
        listener = _listener(endpoint_of(options.host, options.port, options.secret))
        port = int(listener.bound.getsockname()[1])
        curve, secured = _curve_port(context, options)
        mirror = None if options.publish is None else _mirror(context, options.publish)
        epoch = journal.new_epoch(_now_ms())
        house = House(epoch, {}, options.secret, journal.newest, options.heartbeat_ms)
        link = _Link(listener, curve, mirror, house, models, journal, pool, tell or (lambda event: None))
        await link.open()
        desks = await asyncio.get_running_loop().run_in_executor(pool, models.start)
        journal.name_models(epoch, ", ".join(desks))
        link.furnish(desks)
        link.tell("listening", host=options.host, port=port, epoch=epoch, desks=list(desks), **secured)
        if ready:
            ready(port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(link.forecast())
            tasks.create_task(link.housekeeping())
    finally:
        if link:
            link.close()
            link.tell("stopped")
        if listener:
            await listener.close()
        pool.shutdown(wait=False, cancel_futures=True)
        context.destroy(linger=0)


def run(
    models: Models,
    journal: Journal,
    options: Options | None = None,
    ready: Callable[[int], None] | None = None,
    tell: Callable[[Event], None] | None = None,
) -> None:
    """`serve` until SIGINT or SIGTERM, on the kind of event loop that sockets of ZeroMQ need on Windows too."""

    async def until_told() -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        except (NotImplementedError, ValueError, RuntimeError):
            pass  # Windows, or not the main thread: Ctrl-C arrives as KeyboardInterrupt
        try:
            await serve(models, journal, options, ready, tell)
        except asyncio.CancelledError:
            return

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(until_told())


def _listener(endpoint: str) -> Listener:
    """The terminals' port, taken but not yet open."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    try:
        return Listener(listening(host, int(port), MAX_PEERS), MAX_PEERS, PREFIX)
    except OSError as error:
        raise _not_listening(endpoint, error.errno, error.strerror) from None


def _curve_port(context: "zmq.Context[zmq.Socket[bytes]]", options: Options) -> tuple[CurvePort | None, dict[str, Any]]:
    """The port of CURVE peers where they are expected, and what is told of it."""
    if options.curve is None:
        return None, {}
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    # A peer that comes back under its name while its old connection is still half open must be heard.
    router.setsockopt(zmq.ROUTER_HANDOVER, 1)
    # libzmq 4.3 aborts where a PING comes up, its own or a peer's, on a connection that was reset while a full queue
    # held its input back (zeromq/libzmq#4364): any peer could end the process. So queues are never full, and no PINGs.
    router.setsockopt(zmq.RCVHWM, 0)
    router.setsockopt(zmq.TCP_KEEPALIVE, 1)
    for name, value in KEEPALIVE_S.items():
        router.setsockopt(getattr(zmq, f"TCP_KEEPALIVE_{name}"), value)
    router.setsockopt(zmq.BACKLOG, MAX_PEERS)
    curve = CurvePort(router, options.curve, context)
    port = _bind(router, curve_endpoint(options.curve, options.secret))
    return curve, {"curve": f"{options.curve.host}:{port}", "server_key": public_key(options.curve.key)}


def _mirror(context: "zmq.Context[zmq.Socket[bytes]]", port: int) -> "zmq.Socket[bytes]":
    socket = context.socket(zmq.PUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, 0)  # as in _curve_port
    _bind(socket, endpoint_of("127.0.0.1", port))
    return socket


def _bind(socket: "zmq.Socket[bytes]", endpoint: str) -> int:
    """Bind and give the port."""
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        # libzmq numbers some errors itself where the system's headers lack them.
        code = errno.EADDRINUSE if error.errno == zmq.EADDRINUSE else error.errno
        raise _not_listening(endpoint, code, error.strerror) from None
    return int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])


def _not_listening(endpoint: str, code: int | None, why: str | None) -> UserError:
    cures = {
        errno.EADDRINUSE: "it is taken, perhaps by another server of yours; stop that one or choose another port",
        errno.EACCES: "it is reserved by the system; choose a port from 1024 to 65535",
    }
    cure = cures.get(code or 0, f"{why}; choose another port")
    return UserError(f"cannot listen on {endpoint.removeprefix('tcp://')}: {cure}")


@dataclass
class _Peer:
    """A peer that has said hello.

    sent: seq of the last message to it. waiting: what it asked and when (perf_counter), not yet handled. busy: a
    forecast for it is being made. heard: when (monotonic) it last said anything.
    """

    session: Session = field(default_factory=Session)
    sent: int = 0
    waiting: deque[tuple[Message, float]] = field(default_factory=deque)
    busy: bool = False
    heard: float = 0.0


@dataclass(frozen=True)
class _Order:
    """A job under way: whose it is, the session it leads to, the message it answers and when that came."""

    identity: bytes
    peer: _Peer
    after: Session
    job: Job
    answered: int
    begun: float


class _Link:
    """Everything between the ports and the models. All methods run in the event loop; models are asked elsewhere."""

    def __init__(
        self,
        listener: Listener,
        curve: CurvePort | None,
        mirror: "zmq.Socket[bytes] | None",
        house: House,
        models: Models,
        journal: Journal,
        pool: ThreadPoolExecutor,
        tell: Callable[[Event], None],
    ) -> None:
        self._listener, self._curve, self._mirror = listener, curve, mirror
        self._house, self._journal = house, journal
        self._models, self._pool, self._tell = models, pool, tell
        self._peers: OrderedDict[bytes, _Peer] = OrderedDict()
        self._orders: deque[_Order] = deque()
        self._wake = asyncio.Event()
        self._waiting = 0
        self._loop = asyncio.get_running_loop()
        self._furnished = False

    async def open(self) -> None:
        """Begin to listen."""
        await self._listener.open(self._heard, self._closed)
        if self._curve:
            self._curve.open(self._heard)

    def furnish(self, desks: Mapping[str, Facts]) -> None:
        """The models are loaded: welcome those who have said hello meanwhile."""
        self._house, self._furnished = replace(self._house, desks=desks), True
        for identity, peer in list(self._peers.items()):
            self._advance(identity, peer)

    def close(self) -> None:
        """Stop listening."""
        if self._curve:
            self._curve.close()

    def tell(self, event: str, **values: Any) -> None:
        """Report an event; whoever listens must not end the link."""
        try:
            self._tell({"event": event, "ts_ms": _now_ms()} | values)
        except Exception:
            _log.exception("cannot report %s", event)

    async def forecast(self) -> None:
        """Ask the models for all that waits, batch after batch."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._orders:
                batch = [self._orders.popleft() for _ in range(min(MAX_BATCH, len(self._orders)))]
                jobs = [order.job for order in batch]
                try:
                    answers = await self._loop.run_in_executor(self._pool, self._models.ask, jobs)
                except Exception as error:
                    _log.exception("the models failed")
                    answers = [(f"{type(error).__name__}: {error}", 0.0)] * len(jobs)
                for order, answer in zip(batch, answers, strict=True):
                    self._settle(order, answer)

    async def housekeeping(self) -> None:
        """Forget peers that have been silent for long, and at the CURVE port should an edge have been missed."""
        while True:
            await asyncio.sleep(1.0)
            oldest = time.monotonic() - FORGET_S
            for identity in [name for name, peer in self._peers.items() if peer.heard < oldest and not peer.busy]:
                self.tell("forgotten", client=_named(identity))
                self._drop(identity)
            if self._curve:
                self._curve.look()

    def _closed(self, identity: bytes, reason: str) -> None:
        self.tell("error", client=_named(identity), code="zmtp", text=reason)

    def _heard(self, identity: bytes, frames: Sequence[bytes]) -> bool:
        """Take a message; whether it could be read."""
        try:
            return self._take(identity, frames)
        except Exception:
            # Whatever is wrong with one message must not end the link of every other peer.
            _log.exception("no answer to %r", identity)
            self._send(identity, Error(code="internal", text="failed; the server's log says why"), 0)
            return True

    def _take(self, identity: bytes, frames: Sequence[bytes]) -> bool:
        """Answer at once what needs no model, queue the rest."""
        try:
            message = decode(frames)
        except ProtocolError as error:
            self.tell("error", client=_named(identity), code=error.code, text=error.text)
            self._send(identity, Error(code=error.code, text=error.text[:300]), 0)
            return False
        peer = self._peer(identity, message)
        if isinstance(message, Heartbeat):
            self._send(identity, Heartbeat(), message.seq)
        elif isinstance(message, Ack | Exec):
            self._record(identity, peer, message)
        elif self._waiting >= MAX_WAITING:
            self._refuse(identity, "busy", "too many messages wait; send it again later", message.seq)
        else:
            peer.waiting.append((message, time.perf_counter()))
            self._waiting += 1
            self._advance(identity, peer)
            if len(peer.waiting) >= MAX_UNHANDLED:  # who asks faster than it can be answered is read no further
                self._listener.hold(identity, True)
        return True

    def _peer(self, identity: bytes, message: Message) -> _Peer:
        """The peer's record; only hello makes one that stays, and the longest silent gives way to it."""
        peer = self._peers.get(identity)
        if peer is None:
            peer = _Peer()
            if isinstance(message, Hello):
                self._make_room()
                self._peers[identity] = peer
        else:
            self._peers.move_to_end(identity)
        peer.heard = time.monotonic()
        return peer

    def _make_room(self) -> None:
        """Strangers, whose hello was never accepted, go first: they cannot push out anybody who is known."""
        if len(self._peers) >= MAX_PEERS:
            stranger = next((name for name, peer in self._peers.items() if not peer.session.desk), None)
            self._drop(next(iter(self._peers)) if stranger is None else stranger)

    def _drop(self, identity: bytes) -> None:
        peer = self._peers.pop(identity)
        self._waiting -= len(peer.waiting)
        peer.waiting.clear()
        self._listener.hold(identity, False)

    def _advance(self, identity: bytes, peer: _Peer) -> None:
        """Handle what waits, up to the next forecast; before the models are known, only what is refused anyhow."""
        if not self._furnished and self._peers.get(identity) is peer:
            return
        while peer.waiting and not peer.busy:
            message, begun = peer.waiting.popleft()
            self._waiting -= 1
            if len(peer.waiting) == MAX_UNHANDLED - 1:
                self._listener.hold(identity, False)
            nonce = secrets.token_hex(16) if isinstance(message, Hello) else ""
            outcome = handle(self._house, peer.session, message, Now(_now_ms(), nonce))
            if not self._kept(identity, peer, message, outcome):
                continue
            if outcome.job:
                peer.busy = True
                self._orders.append(_Order(identity, peer, outcome.session, outcome.job, message.seq, begun))
                self._wake.set()
            else:
                opened = isinstance(outcome.reply, Welcome) and outcome.session is not peer.session
                peer.session, peer.sent = outcome.session, 0 if opened else peer.sent
                if outcome.reply:
                    self._answer(identity, outcome.reply, message)
            if outcome.bars and isinstance(message, Bar | Bars):  # told last: nobody waits for that
                self.tell(
                    "bars", client=_named(identity), unique_id=message.unique_id, count=len(outcome.bars),
                    bar_time_ms=outcome.bars[-1][0], close=outcome.bars[-1][4], spread=outcome.bars[-1][6],
                    equity=message.equity, position=message.position,
                )  # fmt: skip

    def _kept(self, identity: bytes, peer: _Peer, message: Message, outcome: Outcome) -> bool:
        """Whether what a message brought is in the journal; if not, it was not taken."""
        hello = outcome.session.hello
        try:
            if isinstance(outcome.reply, Welcome) and outcome.reply.accepted and hello:
                self._journal.add_series(hello)
            if outcome.bars and hello:
                self._journal.add_bars(hello.feed, hello.unique_id, outcome.bars)
        except sqlite3.Error as error:
            self._refuse(identity, "internal", f"the journal cannot be written: {error}", message.seq)
            return False
        return True

    def _answer(self, identity: bytes, reply: Message, message: Message) -> None:
        if isinstance(reply, Error):
            self._refuse(identity, reply.code, reply.text, message.seq)
            return
        if isinstance(reply, Welcome):
            self.tell(
                "welcome", client=_named(identity), unique_id=reply.unique_id, model_id=reply.model_id,
                accepted=reply.accepted, reason=reply.reason,
            )  # fmt: skip
        self._send(identity, reply, message.seq)

    def _settle(self, order: _Order, answer: Answer) -> None:
        """Keep and send a forecast, then go on with what its peer has asked since."""
        (made, seconds), identity, peer = answer, order.identity, order.peer
        peer.busy = False
        if self._peers.get(identity) is not peer:
            return
        hello = order.after.hello
        if isinstance(made, Forecast) and hello:
            sent = self._stamped(peer, made, order.answered)
            try:
                self._journal.add_forecast(_named(identity), hello.feed, sent, 1000 * seconds)
            except (sqlite3.Error, ProtocolError) as error:
                made = f"the journal cannot be written: {error}"
            else:
                peer.session = settle(order.after, made)
                self._post(identity, sent)
                self.tell(
                    "forecast", client=_named(identity), unique_id=made.unique_id, model_id=made.model_id,
                    bar_time_ms=made.bar_time_ms, valid_until_ms=made.valid_until_ms, close_ref=made.close_ref,
                    mean=made.mean[-1], position=made.position, lots=made.lots, stop=made.stop,
                    take_profit=made.take_profit, reason=made.reason,
                    latency_ms=round(1000 * (time.perf_counter() - order.begun), 3), model_ms=round(1000 * seconds, 3),
                )  # fmt: skip
        if isinstance(made, str):
            _log.error("no forecast for %s: %s", _named(identity), made)
            peer.session = replace(peer.session, seq=order.after.seq)
            self._refuse(identity, "internal", "no forecast; the server's log says why", order.answered)
        self._advance(identity, peer)

    def _record(self, identity: bytes, peer: _Peer, message: Ack | Exec) -> None:
        """Acks and fills go into the journal at once, whatever else their peer waits for."""
        reply = handle(self._house, peer.session, message, Now(_now_ms())).reply
        hello, client = peer.session.hello, _named(identity)
        if not isinstance(reply, Ok) or hello is None:
            self._answer(identity, reply or Ok(), message)
            return
        try:
            if isinstance(message, Ack):
                self._journal.add_ack(client, message, _now_ms())
                self.tell(
                    "ack", client=client, unique_id=message.unique_id, bar_time_ms=message.bar_time_ms,
                    code=message.code, text=message.text, dry_run=message.dry_run, latency_ms=message.latency_ms,
                )  # fmt: skip
            elif self._journal.add_fill(client, hello.feed, hello.magic, message, _now_ms()):
                self.tell(
                    "exec", client=client, unique_id=message.unique_id, bar_time_ms=message.bar_time_ms,
                    side=message.side, entry=message.entry, lots=message.lots, price=message.price,
                    slippage=message.slippage, profit=message.profit, reason=message.reason, dry_run=message.dry_run,
                    latency_ms=message.latency_ms,
                )  # fmt: skip
        except sqlite3.Error as error:
            self._refuse(identity, "internal", f"the journal cannot be written: {error}", message.seq)
            return
        self._send(identity, reply, message.seq)

    def _refuse(self, identity: bytes, code: str, text: str, answered: int) -> None:
        self.tell("error", client=_named(identity), code=code, text=text)
        self._send(identity, Error(code=code, text=text[:300]), answered)

    def _send(self, identity: bytes, message: Message, answered: int) -> None:
        self._post(identity, self._stamped(self._peers.get(identity), message, answered))

    def _stamped(self, peer: _Peer | None, message: Sent, answered: int) -> Sent:
        in_session = peer is not None and bool(peer.session.desk)
        if peer and in_session:
            peer.sent += 1
        seq = peer.sent if peer and in_session else 0
        return stamped(message, epoch=self._house.epoch, seq=seq, re=answered, ts_ms=_now_ms())

    def _post(self, identity: bytes, message: Message) -> None:
        frames = encode(message)
        if self._curve and identity.startswith(PREFIX):
            self._curve.send(identity, frames)
        else:
            self._listener.send(identity, frames)
        if self._mirror and isinstance(message, Forecast) and message.TYPE == "forecast":
            with contextlib.suppress(zmq.ZMQError):  # the mirror repeats; nobody waits for it
                self._mirror.send_multipart([f"{message.unique_id}/{message.model_id}".encode(), *frames], zmq.NOBLOCK)


def _named(identity: bytes) -> str:
    """A routing identity for people and the journal."""
    if identity.startswith(PREFIX):
        return PREFIX.decode() + _named(identity.removeprefix(PREFIX))
    text = identity.decode("utf-8", "replace")
    return text if text.isprintable() and "\ufffd" not in text else identity.hex()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
