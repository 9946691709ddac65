"""A small client for Python: one DEALER, one question at a time, every wait bounded.

It is also the model of what an Expert Advisor does: hello, backfill, then a bar whenever one closes. It does not
reconnect by itself in version 0: after a `LinkError` open a new one and backfill again. Not thread-safe.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

import zmq

from bridge.messages import (
    MAX_BARS,
    MAX_FRAME_BYTES,
    Bar,
    Bars,
    Error,
    Forecast,
    Heartbeat,
    Hello,
    Message,
    NeedBars,
    ProtocolError,
    Welcome,
    decode,
    encode,
)
from forecasting.errors import UserError

Reply = TypeVar("Reply", bound=Message)


class LinkError(UserError):
    """The server did not answer, or refused; `code` is `timeout`, `refused`, `need_bars` or one of PROTOCOL.md's."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Client:
    """A session for one series; use `connect`, and close it or leave its `with` block.

    welcome: what the server said of itself (history, horizon, model).
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._seq = self._epoch = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._socket.setsockopt(zmq.SNDTIMEO, int(1000 * timeout_s))
        self.welcome: Welcome

    @classmethod
    def connect(cls, address: str, unique_id: str, *, timeout_s: float = 5.0, name: str = "python") -> Self:
        """Open a session, such as `Client.connect("tcp://127.0.0.1:5757", "EURUSD-H1")`; LinkError says why not."""
        client = cls(address, timeout_s)
        try:
            client._socket.connect(address)
            client.welcome = client._ask(Hello(unique_id=unique_id, client=name), Welcome)
            if not client.welcome.accepted:
                raise LinkError("refused", f"{address} does not serve {unique_id}: {client.welcome.reason}")
            client._epoch = client.welcome.epoch
        except zmq.ZMQError as error:
            client.close()
            raise LinkError("address", f"{address}: {error.strerror}; write tcp://127.0.0.1:5757") from None
        except BaseException:
            client.close()
            raise
        return client

    def backfill(self, times_ms: Sequence[int], closes: Sequence[float]) -> Forecast:
        """Send closed bars, oldest first, in place of all sent before; the forecast is for the last of them.

        times_ms: close times, UTC milliseconds. Only the `welcome.history` newest bars are sent.
        """
        unique_id, answer = self.welcome.unique_id, None
        keep = slice(-self.welcome.history, None)
        times_ms, closes = times_ms[keep], closes[keep]
        for first in range(0, len(times_ms), MAX_BARS):
            part = slice(first, first + MAX_BARS)
            bars = Bars(
                unique_id=unique_id, restart=not first, times_ms=tuple(times_ms[part]), closes=tuple(closes[part])
            )
            answer = self._ask(bars, Message)
        return self._forecast(answer)

    def send_bar(self, time_ms: int, close: float) -> Forecast:
        """Send the bar that has just closed and wait for its forecast."""
        return self._forecast(self._ask(Bar(unique_id=self.welcome.unique_id, time_ms=time_ms, close=close), Message))

    def heartbeat(self) -> float:
        """Seconds the server took to answer; LinkError `epoch` where it has been restarted since the hello."""
        begun = time.perf_counter()
        answer = self._ask(Heartbeat(), Heartbeat)
        if answer.epoch != self._epoch:
            raise LinkError("epoch", f"{self._address} has been restarted; connect again")
        return time.perf_counter() - begun

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
        stamped = replace(message, epoch=self._epoch, seq=self._seq, ts_ms=time.time_ns() // 1_000_000)
        deadline = time.monotonic() + self._timeout_s
        try:
            self._socket.send_multipart(encode(stamped))
            while self._socket.poll(max(0, int(1000 * (deadline - time.monotonic())))):
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
            f"there, on that port?",
        )

    def _forecast(self, answer: Message | None) -> Forecast:
        if answer is None or isinstance(answer, NeedBars):
            have = answer.have if answer else 0
            raise LinkError(
                "need_bars", f"the server holds {have} bars and needs {self.welcome.history}; backfill first"
            )
        return _expect(answer, Forecast)


def _expect(answer: Message, wanted: type[Reply]) -> Reply:
    if not isinstance(answer, wanted):
        raise LinkError("type", f"a {answer.TYPE} came where a {wanted.TYPE or 'reply'} was due")
    return answer
