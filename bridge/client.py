"""A small client for Python: one DEALER, one question at a time, every wait bounded.

It is also the model of what an Expert Advisor does: hello, proof, backfill, then a bar whenever one closes, an ack for
every forecast and an exec for every fill. It does not reconnect by itself: after a `LinkError` open a new one and
backfill again. Not thread-safe.
"""

import secrets
import time
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import zmq

from bridge.curve import secure_client
from bridge.messages import (
    MAX_BARS,
    MAX_FRAME_BYTES,
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
    ProtocolError,
    Resync,
    Snapshot,
    Welcome,
    decode,
    encode,
    stamped,
)
from bridge.service import digest
from forecasting.calendars import MINUTES
from forecasting.errors import UserError

Reply = TypeVar("Reply", bound=Message)


class ClosedBar(NamedTuple):
    """A bar that has closed: `time_ms` is its close in UTC milliseconds, spread in points, -1 unknown."""

    time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float = 0.0
    spread: float = -1.0

    @classmethod
    def flat(cls, time_ms: int, close: float) -> Self:
        """A bar of a source that has closes only."""
        return cls(time_ms, close, close, close, close)


class Account(NamedTuple):
    """What goes with every bar: money in account currency, signed lots held, worth of one unit of quote currency."""

    equity: float = 10_000.0
    balance: float = 10_000.0
    position: float = 0.0
    conversion: float = 1.0


class LinkError(UserError):
    """The server did not answer, or refused; `code` is `timeout`, `refused`, `need_bars` or one of PROTOCOL.md's."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Client:
    """A session for one series; use `connect`, and close it or leave its `with` block.

    welcome: what the server said of itself (model, history, horizon). account: change it when it changes.
    """

    def __init__(self, address: str, timeout_s: float, identity: str = "") -> None:
        self._address, self._timeout_s = address, timeout_s
        self._seq = self._epoch = 0
        self._last_ms = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._socket.setsockopt(zmq.SNDTIMEO, int(1000 * timeout_s))
        if identity:
            self._socket.setsockopt_string(zmq.IDENTITY, identity)
        self._silence = "?"
        self.account = Account()
        self.welcome: Welcome

    @classmethod
    def connect(
        cls,
        address: str,
        unique_id: str,
        *,
        timeout_s: float = 5.0,
        name: str = "python",
        model: str = "",
        secret: str = "",
        identity: str = "",
        server_key: str = "",
        key: str = "",
        feed: str = "",
        digits: int = 5,
        lot_units: float = 100_000.0,
        lot_min: float = 0.01,
        lot_step: float = 0.01,
        lot_max: float = 100.0,
    ) -> Self:
        """Open a session, such as `Client.connect("tcp://127.0.0.1:5757", "EURUSD-H1")`; LinkError says why not.

        model: one of several of that series, "" the first. secret: the server's. identity: a name that no other client
        uses and that outlives reconnects, "" none. server_key: public key of the server's CURVE port, "" for its other
        port. key: secret key of this client (`bridge.curve.read_key`), "" for a new one. feed: whose prices these are.
        lot_...: sizes the account takes.
        """
        symbol, _, timeframe = unique_id.rpartition("-")
        hello = Hello(
            unique_id=unique_id,
            model=model,
            client=name,
            symbol=symbol or unique_id,
            feed=feed,
            tf_sec=60 * MINUTES.get(timeframe, 1),
            digits=digits,
            point=float(10.0**-digits),
            lot_units=lot_units,
            lot_min=lot_min,
            lot_step=lot_step,
            lot_max=lot_max,
            nonce=secrets.token_hex(16) if secret else "",
        )
        client = cls.reach(address, timeout_s=timeout_s, identity=identity, server_key=server_key, key=key)
        try:
            client._open(hello, secret)
        except BaseException:
            client.close()
            raise
        return client

    @classmethod
    def reach(
        cls, address: str, *, timeout_s: float = 5.0, identity: str = "", server_key: str = "", key: str = ""
    ) -> Self:
        """A connection without a session, good for `heartbeat` and `clock_ahead`; nobody need listen yet."""
        client = cls(address, timeout_s, identity)
        try:
            if server_key or key:
                secure_client(client._socket, server_key, key)
                client._silence = ", or a wrong server_key, or a key that it does not allow?"
            client._socket.connect(address)
        except zmq.ZMQError as error:
            client.close()
            raise LinkError("address", f"{address}: {error.strerror}; write tcp://127.0.0.1:5757") from None
        except BaseException:
            client.close()
            raise
        return client

    def _open(self, hello: Hello, secret: str) -> None:
        """Say hello, prove what is asked for, check what the server proves."""
        answer = self._ask(hello, Message)
        challenge = ""
        if isinstance(answer, Challenge):
            if not secret:
                raise LinkError("auth", f"{self._address} asks for a secret; give the one of its server")
            challenge = answer.nonce
            answer = self._ask(Proof(proof=digest("client", challenge, hello.nonce, secret)), Message)
        self.welcome = _expect(answer, Welcome)
        if secret and not challenge:
            raise LinkError("auth", f"{self._address} asks for no secret and one was given; is it your server?")
        if secret and self.welcome.proof != digest("server", challenge, hello.nonce, secret):
            raise LinkError("auth", f"{self._address} does not know the secret; is it your server?")
        if not self.welcome.accepted:
            raise LinkError("refused", f"{self._address} refused {hello.unique_id}: {self.welcome.reason}")
        self._epoch = self.welcome.epoch

    def backfill(self, bars: Iterable[ClosedBar]) -> Forecast:
        """Send closed bars, oldest first, in place of all sent before; the forecast is for the last of them.

        Those since `welcome.from_ms`, and `welcome.history` at least, are sent.
        """
        rows, answer = list(bars), None
        since = next((at for at, row in enumerate(rows) if row.time_ms > self.welcome.from_ms), len(rows))
        rows = rows[min(since if self.welcome.from_ms else len(rows), max(0, len(rows) - self.welcome.history)) :]
        for first in range(0, len(rows), MAX_BARS):
            part = rows[first : first + MAX_BARS]
            more = first + MAX_BARS < len(rows)
            message = Bars(
                unique_id=self.welcome.unique_id,
                restart=not first,
                more=more,
                **self.account._asdict(),
                times_ms=tuple(row.time_ms for row in part),
                opens=tuple(row.open for row in part),
                highs=tuple(row.high for row in part),
                lows=tuple(row.low for row in part),
                closes=tuple(row.close for row in part),
                volumes=tuple(row.volume for row in part),
                spreads=tuple(row.spread for row in part),
            )
            answer = self._ask(message, Message)
            self._last_ms = part[-1].time_ms
        return self._forecast(answer)

    def send_bar(self, bar: ClosedBar) -> Forecast:
        """Send the bar that has just closed and wait for its forecast."""
        message = Bar(
            unique_id=self.welcome.unique_id, prev_ms=self._last_ms, **self.account._asdict(), **bar._asdict()
        )
        answer = self._ask(message, Message)
        self._last_ms = bar.time_ms
        return self._forecast(answer)

    def newest(self) -> Forecast:
        """The newest forecast again."""
        return self._forecast(self._ask(Resync(), Message))

    def ack(self, forecast: Forecast, code: str, text: str = "", *, dry_run: bool = True) -> None:
        """Tell what became of a forecast: TAKEN, NOOP, STALE, DUP, GAP, FAILED or GUARD:<rule>."""
        told = Ack(
            unique_id=forecast.unique_id,
            bar_time_ms=forecast.bar_time_ms,
            code=code,
            text=text,
            dry_run=dry_run,
            re=forecast.seq,
        )
        self._ask(told, Ok)

    def fill(self, fill: Exec) -> None:
        """Report a fill; it is on the server's disk when this returns, and may be sent again after a LinkError."""
        self._ask(fill, Ok)

    def heartbeat(self) -> float:
        """Seconds the server took to answer; LinkError `epoch` where it has been restarted since the hello."""
        begun = time.perf_counter()
        answer = self._ask(Heartbeat(), Heartbeat)
        if answer.epoch != self._epoch and self._epoch:
            raise LinkError("epoch", f"{self._address} has been restarted; connect again")
        return time.perf_counter() - begun

    def clock_ahead(self) -> float:
        """Seconds by which the server's clock is ahead of this one's, known to half of the round trip."""
        sent = time.time()
        answer = self._ask(Heartbeat(), Heartbeat)
        return answer.ts_ms / 1000 - (sent + time.time()) / 2

    def close(self) -> None:
        """Close at once; may be called twice."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, message: Message, wanted: type[Reply]) -> Reply:
        """Send, and give the answer to that very message; answers to earlier ones, timed out, are dropped."""
        self._seq += 1
        sent = stamped(message, epoch=self._epoch, seq=self._seq, ts_ms=time.time_ns() // 1_000_000)
        deadline = time.monotonic() + self._timeout_s
        try:
            self._socket.send_multipart(encode(sent))
            while (left := deadline - time.monotonic()) > 0:
                self._socket.setsockopt(zmq.RCVTIMEO, int(1000 * left) + 1)
                answer = decode(self._socket.recv_multipart())
                if isinstance(answer, Error) and answer.re in (0, self._seq):
                    raise LinkError(answer.code, f"{self._address} refused {message.TYPE}: {answer.text}")
                if answer.re == self._seq:
                    return _expect(answer, wanted)
        except ProtocolError as error:
            raise LinkError(error.code, f"{self._address}, {message.TYPE}: {error.text}") from None
        except zmq.Again:
            pass
        raise LinkError(
            "timeout",
            f"no answer to {message.TYPE} from {self._address} within {self._timeout_s:g} s; is the server running "
            f"there, on that port{self._silence}",
        )

    def _forecast(self, answer: Message | None) -> Forecast:
        if answer is None or isinstance(answer, NeedBars):
            have = answer.have if answer else 0
            raise LinkError(
                "need_bars", f"the server holds {have} bars and needs {self.welcome.history}; backfill first"
            )
        return answer if isinstance(answer, Snapshot) else _expect(answer, Forecast)


def _expect(answer: Message, wanted: type[Reply]) -> Reply:
    if not isinstance(answer, wanted):
        raise LinkError("type", f"a {answer.TYPE} came where a {wanted.TYPE or 'reply'} was due")
    return answer
