"""ZMTP 3.x of the terminals' port as a codec that knows no socket: bytes in, messages and answers out.

NULL security only. https://rfc.zeromq.org/spec/37
"""

from collections.abc import Sequence

from bridge.messages import MAX_FRAME_BYTES

MORE, LONG, COMMAND = 1, 2, 4
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
MAX_PARTS = 8
MAX_MESSAGE_BYTES = MAX_FRAME_BYTES + 1_024
"""Of all frames of one message; those of one frame are bounded by MAX_FRAME_BYTES."""
MAX_REASON = 255
GENERATED = b"\0"
"""How the identities begin that a listener gives; no peer may choose such a one."""


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
        """The next message; [] for greeting or command, where one of them came first, None where more bytes are needed.

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
        parts = self._parts
        while (found := cut(held)) is not None:
            flags, start, end = found
            body = bytes(held[start:end])
            del held[:end]
            if flags & COMMAND:
                self._obey(body)
                return []
            if self.identity is None:
                raise ViolationError("a message came before READY")
            parts.append(body)
            if len(parts) > MAX_PARTS or sum(map(len, parts)) > MAX_MESSAGE_BYTES:
                raise ViolationError(f"a message has at most {MAX_PARTS} frames and {MAX_MESSAGE_BYTES} bytes")
            if not flags & MORE:
                self._parts = []
                return parts
        return None

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
