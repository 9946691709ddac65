"""ZMTP 3.x for the terminals' port: a codec that knows no socket, and a listener on asyncio.

The listener is what the link needs of a ROUTER of libzmq, and three things that a ROUTER lacks: memory that no peer can
fill, peers that can be closed with a reason, and round trips without a second thread. NULL security only.
https://rfc.zeromq.org/spec/37
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Sequence
from typing import cast

from bridge.messages import MAX_FRAME_BYTES

MORE, LONG, COMMAND = 1, 2, 4
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
MAX_PARTS = 8
MAX_MESSAGE_BYTES = MAX_FRAME_BYTES + 1_024
"""Of all frames of one message; those of one frame are bounded by MAX_FRAME_BYTES."""
MAX_REASON = 255
GENERATED = b"\0"
"""How the identities begin that a listener gives; no peer may choose such a one."""

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


class ViolationError(Exception):
    """What a peer did wrong, told to it in ERROR."""


def framed(parts: Sequence[bytes]) -> bytes:
    """A message as bytes on the wire."""
    last = len(parts) - 1
    return b"".join(_head(MORE if at < last else 0, len(part)) + part for at, part in enumerate(parts))


def command(name: bytes, body: bytes = b"") -> bytes:
    """A command as bytes on the wire."""
    return _head(COMMAND, 1 + len(name) + len(body)) + bytes([len(name)]) + name + body


def error(reason: str) -> bytes:
    """The command that closes a connection and says why."""
    text = reason.encode("ascii", "replace")[:MAX_REASON]
    return command(b"ERROR", bytes([len(text)]) + text)


def ready(kind: bytes, identity: bytes = b"") -> bytes:
    """The command that ends a side's handshake."""
    return command(b"READY", _property(b"Socket-Type", kind) + _property(b"Identity", identity))


def _head(flags: int, size: int) -> bytes:
    return bytes((flags, size)) if size < 256 else bytes((flags | LONG,)) + size.to_bytes(8, "big")


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value


def greeted(held: bytes | bytearray) -> bool:
    """Whether a peer's greeting is whole; ViolationError as soon as it is seen to be wrong."""
    if (held and held[0] != 0xFF) or (len(held) > 9 and not held[9] & 1):
        raise ViolationError("this port speaks ZMTP 3")
    if len(held) > 10 and held[10] < 3:
        raise ViolationError(f"this port speaks ZMTP 3, not {held[10]}")
    return len(held) >= len(GREETING)


def cut(held: bytes | bytearray) -> tuple[int, int, int] | None:
    """Flags of the first frame and where its body begins and ends; None where it is not whole yet."""
    if not held:
        return None
    flags = held[0]
    if flags > 7 or flags & (MORE | COMMAND) == MORE | COMMAND:
        raise ViolationError(f"a frame cannot have the flags {flags}")
    head = 9 if flags & LONG else 2
    if len(held) < head:
        return None
    size = held[1] if head == 2 else int.from_bytes(held[1:9], "big")
    if size > MAX_FRAME_BYTES:
        raise ViolationError(f"a frame of {size} bytes came, the most is {MAX_FRAME_BYTES}")
    return (flags, head, head + size) if len(held) >= head + size else None


def properties(body: bytes) -> dict[bytes, bytes]:
    """What READY says; names in lower case."""
    found, at = {}, 0
    while at < len(body):
        name_end = at + 1 + body[at]
        end = name_end + 4 + int.from_bytes(body[name_end : name_end + 4], "big")
        if name_end + 4 > len(body) or end > len(body):
            raise ViolationError("malformed READY")
        found[body[at + 1 : name_end].lower()] = body[name_end + 4 : end]
        at = end
    return found


class Codec:
    """The server's side of one connection, without a socket.

    answers: what ZMTP itself has to say to the peer; whoever sends it empties it. identity: what the peer calls itself,
    b"" where it leaves that to us, None before its READY.
    """

    def __init__(self) -> None:
        self.answers = bytearray(GREETING)
        self.identity: bytes | None = None
        self.greeted = False
        self._held = bytearray()
        self._parts: list[bytes] = []

    def feed(self, data: "bytes | memoryview") -> None:
        """More bytes have come."""
        self._held += data

    def step(self) -> list[bytes] | None:
        """The next message; [] for anything else that could be read, None where more bytes are needed.

        Raises ViolationError; nothing may be read after that.
        """
        held = self._held
        if not self.greeted:
            if not greeted(held):
                return None
            self.greeted = True
            if held[12:32] != GREETING[12:32]:
                raise ViolationError("this port takes security NULL only")
            del held[: len(GREETING)]
            self.answers += ready(b"ROUTER")
            return []
        found = cut(held)
        if found is None:
            return None
        flags, start, end = found
        body = bytes(held[start:end])
        del held[:end]
        if flags & COMMAND:
            self._obey(body)
            return []
        if self.identity is None:
            raise ViolationError("a message came before READY")
        parts = self._parts
        parts.append(body)
        if len(parts) > MAX_PARTS or sum(map(len, parts)) > MAX_MESSAGE_BYTES:
            raise ViolationError(f"a message has at most {MAX_PARTS} frames and {MAX_MESSAGE_BYTES} bytes")
        if flags & MORE:
            return []
        self._parts = []
        return parts

    def _obey(self, body: bytes) -> None:
        """A command; those that are unknown change nothing."""
        size = body[0] if body else 0
        name, rest = body[1 : 1 + size], body[1 + size :]
        if not size or len(name) < size:
            raise ViolationError("malformed command")
        if name == b"ERROR":
            raise ViolationError("the peer closed the connection with ERROR")
        if name == b"READY":
            self._admit(rest)
        elif self.identity is None:
            raise ViolationError("READY must come first")
        elif name == b"PING":
            if not 2 <= len(rest) <= 18:
                raise ViolationError("malformed PING")
            self.answers += command(b"PONG", rest[2:])

    def _admit(self, body: bytes) -> None:
        if self.identity is not None:
            raise ViolationError("READY came twice")
        said = properties(body)
        if said.get(b"socket-type") != b"DEALER":
            raise ViolationError("this port takes DEALER sockets only")
        identity = said.get(b"identity", b"")
        if len(identity) > 255 or identity.startswith(GENERATED):
            raise ViolationError("an identity has 1 to 255 bytes, the first not 0")
        self.identity = identity


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
        self._port.leave(self, self._identity)
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
        if self._closing or self._lost:
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
