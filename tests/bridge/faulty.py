"""A relay between a terminal and a server that does to their connections what networks do, at the moment it is told."""

import contextlib
import random
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

UP, DOWN = "up", "down"
"""From the client to the server, and back."""
LATE_S = 0.05
"""How long a message that is to come out of turn waits for another one at most."""


@dataclass
class Messages:
    """Cuts one direction of a ZMTP connection into greeting, commands and whole messages."""

    held: bytes = b""
    greeting: int = 64
    parts: bytes = b""

    def feed(self, data: bytes) -> list[tuple[bool, bytes]]:
        """What may go on, in order: whether it is a message, and its bytes. Of the greeting, each byte as it comes."""
        done = [(False, data[: self.greeting])]
        self.held += data[self.greeting :]
        self.greeting -= len(done[0][1])
        while size := self._frame():
            frame, self.held = self.held[:size], self.held[size:]
            if frame[0] & 4:
                done.append((False, frame))
                continue
            self.parts += frame
            if not frame[0] & 1:
                done.append((True, self.parts))
                self.parts = b""
        return done

    def _frame(self) -> int:
        """Bytes of the first frame, 0 while it is not whole."""
        if len(self.held) < 2:
            return 0
        if not self.held[0] & 2:
            size = 2 + self.held[1]
        elif len(self.held) < 9:
            return 0
        else:
            size = 9 + struct.unpack(">Q", self.held[1:9])[0]
        return size if len(self.held) >= size else 0


@dataclass(eq=False)
class Way:
    """One direction of a connection: where it reads, where it writes, and what is to come out of turn."""

    name: str
    near: socket.socket
    far: socket.socket
    messages: Messages = field(default_factory=Messages)
    late: list[tuple[float, bytes]] = field(default_factory=list)


class Relay:
    """A TCP relay in front of a port, driven by one thread.

    cuts, mangled: connections cut and messages doubled or sent out of turn so far.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._ways: list[Way] = []
        self._lost: list[Way] = []
        self._lock = threading.Lock()
        self._left: tuple[frozenset[str], int] | None = None
        self._draw: random.Random | None = None
        self._holding = self._closed = False
        self.cuts = self.mangled = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def left(self) -> int | None:
        """Bytes until the cut that was asked for, None once it is done."""
        return self._left and self._left[1]

    def cut_after(self, count: int, *ways: str) -> None:
        """Reset all connections once so many more bytes have passed, in these directions together; both by default."""
        with self._lock:
            self._left = frozenset(ways or (UP, DOWN)), count

    def lose(self) -> None:
        """The connections there are stay open and carry nothing any more; new ones are as good as ever."""
        with self._lock:
            self._lost += self._ways
            self._ways = []

    def hold(self) -> None:
        """Nothing passes, on connections old and new, until `release`."""
        self._holding = True

    def release(self) -> None:
        """What was held passes after all."""
        self._holding = False

    def mangle(self, draw: random.Random | None) -> None:
        """From now on whole messages may come twice or out of turn; None ends it."""
        with self._lock:
            self._draw = draw

    def close(self) -> None:
        self._closed = True
        self._thread.join(5)
        self._listener.close()
        self._cut()

    def _work(self) -> None:
        while not self._closed:
            with self._lock:
                self._turn()

    def _turn(self) -> None:
        """Accept, read and write whatever is ready within a few milliseconds."""
        with selectors.DefaultSelector() as ready, contextlib.suppress(OSError):
            ready.register(self._listener, selectors.EVENT_READ)
            ways = [] if self._holding else self._ways
            for way in ways:
                ready.register(way.near, selectors.EVENT_READ, way)
            for key, _ in ready.select(0.002):
                if key.data is None:
                    self._accept()
                elif key.data in self._ways:
                    self._read(key.data)
            for way in list(self._ways):
                self._write_late(way)
        time.sleep(0)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ways += [Way(UP, near, far), Way(DOWN, far, near)]

    def _read(self, way: Way) -> None:
        try:
            data = way.near.recv(65_536)
        except OSError:
            data = b""
        if not data:
            self._end(way)
            return
        self._write(way, b"".join(self._mangled(way, *item) for item in way.messages.feed(data)))

    def _mangled(self, way: Way, whole: bool, data: bytes) -> bytes:
        """A message once, twice, or kept back until others have passed."""
        chance = self._draw.random() if whole and self._draw else 1.0
        if chance < 0.15:
            self.mangled += 1
            return data + data
        if chance < 0.3:
            self.mangled += 1
            way.late.append((time.monotonic() + LATE_S * 3 * chance, data))
            return b""
        return data

    def _write_late(self, way: Way) -> None:
        now = time.monotonic()
        due = [data for at, data in way.late if at <= now or self._draw is None]
        if due:
            way.late = [item for item in way.late if item[1] not in due]
            self._write(way, b"".join(due))

    def _write(self, way: Way, data: bytes) -> None:
        cut = False
        if self._left is not None and way.name in self._left[0]:
            names, left = self._left
            cut = len(data) >= left
            data, self._left = data[:left], None if cut else (names, left - len(data))
        try:
            way.far.settimeout(5)
            way.far.sendall(data)
        except OSError:
            self._end(way)
            return
        if cut:
            self.cuts += 1
            self._cut()

    def _end(self, way: Way) -> None:
        """One side has left: so does the other."""
        pair = [other for other in self._ways if {other.near, other.far} == {way.near, way.far}]
        self._ways = [other for other in self._ways if other not in pair]
        way.near.close()
        way.far.close()

    def _cut(self) -> None:
        """Reset every connection: the peers get an error, not an orderly end."""
        for way in self._ways + self._lost:
            with contextlib.suppress(OSError):
                way.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            way.near.close()
        self._ways, self._lost = [], []
