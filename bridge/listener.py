"""The terminals' port: ZMTP 3.x on asyncio.

What the link needs of a ROUTER of libzmq, and three things that a ROUTER lacks: memory that no peer can fill, peers
that can be closed with a reason, and round trips without a second thread.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Sequence
from typing import cast

from bridge.zmtp import GENERATED, Codec, ViolationError, error, framed

CHUNK = 32_768
TURN = 8
"""How many frames or messages of one peer are handled before it is another peer's turn."""
MAX_UNSENT = 131_072
"""Bytes that wait for one peer; from half of that on it is not read, above it is closed."""
HANDSHAKE_S = 5.0
STALLED_S = 30.0
LINGER_S = 1.0
MAX_IGNORED = 1 << 20
MAX_UNREADABLE = 100
KEEPALIVE_S = {"IDLE": 30, "INTVL": 10, "CNT": 3}
"""TCP closes a connection that has been silent for so long, after so many probes so far apart."""

Heard = Callable[[bytes, list[bytes]], bool]
"""Handles the frames of a message from an identity; gives whether they could be read."""

Told = Callable[[bytes, str], None]
"""Learns which identity, b"" where it has none yet, was closed and why."""


class Listener:
    """Peers at one address, known by their identities. All in one event loop, that of selectors.

    Parameters
    ----------
    bound
        A socket that listens (`listening`).
    most
        Connections at once; beyond, the oldest that is not known yet gives way, else the new one is refused.
    reserved
        How no peer's own identity may begin.
    """

    def __init__(self, bound: socket.socket, most: int, reserved: bytes) -> None:
        self.bound = bound
        self.heard: Heard = lambda identity, frames: False
        self.told: Told = lambda identity, reason: None
        self.scratch = memoryview(bytearray(CHUNK))
        self._most, self._reserved = min(most, _possible()), reserved
        self._all: set[_Connection] = set()
        self._strangers: dict[_Connection, None] = {}
        self._peers: dict[bytes, _Connection] = {}
        self._given = 0
        self._server: asyncio.Server | None = None

    async def open(self, heard: Heard, told: Told) -> None:
        """Begin to take connections."""
        self.heard, self.told = heard, told
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), sock=self.bound, backlog=self._most)

    async def close(self) -> None:
        """Close everything, at once."""
        if self._server is None:
            self.bound.close()
            return
        self._server.close()
        for connection in list(self._all):
            connection.abort()
        await asyncio.sleep(0)  # transports close their sockets in the loop's next turn

    def send(self, identity: bytes, frames: Sequence[bytes]) -> None:
        """Send a message; nothing happens where that peer is gone."""
        peer = self._peers.get(identity)
        if peer is not None:
            peer.send(framed(frames))

    def hold(self, identity: bytes, held: bool) -> None:
        """Read nothing more of a peer for now, or go on."""
        peer = self._peers.get(identity)
        if peer is not None:
            peer.hold(held)

    def come(self, connection: "_Connection") -> bool:
        """Whether a new connection may stay."""
        if len(self._all) >= self._most:
            if not self._strangers:
                return False
            next(iter(self._strangers)).abort()
        self._all.add(connection)
        self._strangers[connection] = None
        return True

    def known(self, connection: "_Connection", identity: bytes) -> bytes:
        """The identity under which a peer is known from now on; whoever had it before is closed."""
        if identity.startswith(self._reserved):
            raise ViolationError("this identity is reserved")
        if not identity:
            self._given += 1
            identity = GENERATED + self._given.to_bytes(8, "big")
        old = self._peers.get(identity)
        if old is not None:
            old.close("another connection has taken this identity")
        self._strangers.pop(connection, None)
        self._peers[identity] = connection
        return identity

    def leave(self, connection: "_Connection", identity: bytes | None) -> None:
        """A connection is heard and told nothing more; it gives way as those do that are not known yet."""
        self._strangers[connection] = None
        if identity is not None and self._peers.get(identity) is connection:
            del self._peers[identity]

    def gone(self, connection: "_Connection") -> None:
        """A connection is closed."""
        self._all.discard(connection)
        self._strangers.pop(connection, None)


class _Connection(asyncio.BufferedProtocol):
    """One peer's connection.

    It is read while its messages are handled and its answers are taken; else its bytes wait in the system's buffers and
    in the peer. `_work` alone decides that.
    """

    def __init__(self, port: Listener) -> None:
        self._port = port
        self._codec = Codec()
        self._identity: bytes | None = None
        self._held = self._stalled = self._ended = self._closing = self._paused = self._lost = False
        self._unreadable = self._ignored = 0
        self._again: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._codec.answers, greeting = bytearray(), bytes(self._codec.answers)
        self._transport.write(greeting)
        if not self._port.come(self):
            self._closing = True
            self._transport.write(error("too many connections"))
            self._transport.close()
            return
        tune(self._transport.get_extra_info("socket"))
        self._transport.set_write_buffer_limits(high=MAX_UNSENT // 2)
        self._timer = self._loop.call_later(HANDSHAKE_S, self.close, f"no handshake within {HANDSHAKE_S:g} s")

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._port.scratch  # one for all: what is in it is taken before anybody else reads

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            self._ignored += nbytes
            if self._ignored > MAX_IGNORED:
                self.abort()
            return
        self._codec.feed(self._port.scratch[:nbytes])
        self._work()

    def eof_received(self) -> bool:
        """What came before the end is still handled, and answered."""
        if self._closing:
            return False
        self._ended = True
        self._work()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._ended = True
        self._stalled = False
        self._cancel_timer()
        if self._closing or self._held:  # what a held peer still had to say, it says again when it is back
            self._end("")
        else:
            self._work()

    def pause_writing(self) -> None:
        self._stalled = True
        if not self._closing:
            self._cancel_timer()
            self._timer = self._loop.call_later(STALLED_S, self.abort, f"took no answer for {STALLED_S:g} s")

    def resume_writing(self) -> None:
        self._stalled = False
        if not self._closing:
            self._cancel_timer()
            self._work()

    def hold(self, held: bool) -> None:
        """Read nothing more for now, or go on."""
        if held is self._held:
            return
        self._held = held
        if not held and not self._closing and self._again is None:
            self._again = self._loop.call_soon(self._go_on)

    def send(self, data: bytes) -> None:
        """Send; a peer that takes too little is closed."""
        if self._closing or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_UNSENT:
            self.abort("does not read its answers")

    def close(self, reason: str) -> None:
        """Tell the peer why and close, once it has had the time to read that."""
        if self._closing:
            return
        if self._lost:  # what it still had to say must not be heard among what its successor says
            self._end("")
            return
        self._leave(reason)
        if self._codec.greeted:
            self._transport.write(error(reason))
        # What still comes is read and thrown away: a reset because of unread bytes would destroy the reason.
        if not self._transport.get_write_buffer_size():
            try:
                self._transport.write_eof()
            except OSError:  # it has reset the connection this very moment
                self._transport.abort()
                return
        self._transport.resume_reading()
        self._timer = self._loop.call_later(LINGER_S, self._transport.abort)

    def abort(self, reason: str = "") -> None:
        """Close without a word."""
        if not self._closing:
            self._leave(reason)
        if self._lost:
            self._port.gone(self)
        else:
            self._transport.abort()

    def _leave(self, reason: str) -> None:
        self._closing = True
        self._cancel_timer()
        if self._again is not None:
            self._again.cancel()
        self._port.leave(self, self._identity)
        if reason:
            self._port.told(self._identity or b"", reason)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        self._again = None
        if not self._closing:
            self._work()

    def _work(self) -> None:
        """Handle a few of the messages that have come; the rest when others have had their turn."""
        if self._again is not None:
            return  # in its turn
        whole = False
        try:
            for _ in range(TURN):
                if self._held or self._stalled:
                    break
                frames = self._codec.step()
                if self._codec.answers:
                    self.send(bytes(self._codec.answers))
                    self._codec.answers.clear()
                if frames is None:
                    whole = True
                    break
                if self._identity is None and self._codec.identity is not None:
                    self._identity = self._port.known(self, self._codec.identity)
                    self._cancel_timer()
                if frames:
                    self._hear(self._identity or b"", frames)
                if self._closing:
                    return
        except ViolationError as violation:
            self._end(str(violation))
            return
        if self._closing:
            return
        if whole and self._ended:
            self._end("")
            return
        if not whole and not self._held and not self._stalled and self._again is None:
            self._again = self._loop.call_soon(self._go_on)
        self._read(whole)

    def _hear(self, identity: bytes, frames: list[bytes]) -> None:
        if self._port.heard(identity, frames):
            self._unreadable = 0
            return
        self._unreadable += 1
        if self._unreadable >= MAX_UNREADABLE:
            raise ViolationError(f"{MAX_UNREADABLE} messages in a row could not be read")

    def _end(self, reason: str) -> None:
        """Nothing more will be read: the peer has ended, or has broken the protocol."""
        if self._lost:
            if not self._closing:
                self._leave(reason)
            self._port.gone(self)
        elif reason:
            self.close(reason)
        else:
            self._leave("")
            self._transport.close()

    def _read(self, on: bool) -> None:
        if self._ended or on is not self._paused:
            return
        self._paused = not on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


def listening(host: str, port: int, backlog: int) -> socket.socket:
    """A socket that listens; OSError where the address cannot be had."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform == "win32":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind((host, port))
        bound.listen(backlog)
    except OSError:
        bound.close()
        raise
    return bound


def tune(connection: socket.socket) -> None:
    """Send at once, and have TCP notice a peer that is gone."""
    options = {getattr(socket, f"TCP_KEEP{name}", None): value for name, value in KEEPALIVE_S.items()}
    with contextlib.suppress(OSError):  # it may be gone already
        # asyncio would do so only for sockets made with the number of TCP: without it, answers wait 40 ms for an ACK.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in options.items():
            if option is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _possible() -> int:
    """Connections that the system lets one process have, with some files to spare."""
    if sys.platform == "win32":
        return 448  # Python's select takes 512
    import resource

    return max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 64)
