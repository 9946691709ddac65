"""CURVE for Python peers: keys in files, who may come in, and a ROUTER beside the terminals' port.

A terminal speaks ZMTP with NULL security, and a socket of libzmq takes one mechanism only, so CURVE has a port of its
own, the only one of the server's ROUTERs that is libzmq's. A CURVE peer is known by its key alone; its routing identity
gets a prefix that no other peer may have, so that it cannot take the session of a terminal.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from bridge.listener import Heard
from forecasting.errors import ConfigError, UserError

DEFAULT_PORT = 5758
PREFIX = b"curve/"
TURN = 64
MAX_UNREAD = 1 << 20
"""Bytes of one peer that are heard before all that has come was read; what it says beyond is thrown away."""
KEY_LENGTH = 40
"""Characters of a key in Z85, RFC 32 of ZeroMQ: 32 bytes."""


@dataclass(frozen=True)
class Curve:
    """How to listen for CURVE peers.

    key: the server's secret key, never logged. host, port: as those of `Options`; an address that other machines can
    reach needs `clients` or a secret. clients: public keys that may come in, empty for all who know the server's.
    """

    key: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    clients: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        public_key(self.key)
        for client in self.clients:
            check_key(client, "a client's public key")


def make_key(path: Path) -> str:
    """Write a new secret key into `path`, for its owner's eyes only; gives the public key."""
    available()
    public, secret = zmq.curve_keypair()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UserError(
            f"{path} exists, and a key that is in use must not be lost; name another file, or go on with it: its "
            f"public key is {public_key(read_key(path))}"
        ) from None
    with os.fdopen(handle, "wb") as file:
        file.write(secret + b"\n")
    return public.decode()


def read_key(path: Path | str) -> str:
    """The secret key in a file that `make_key` wrote; ConfigError where others on this machine could read it too."""
    try:
        mode = Path(path).stat().st_mode
        key = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a key ({error}); make one with `tunetrade curve-key`") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path} can be read by other users of this machine; run: chmod 600 {path}")
    check_key(key, f"what {path} holds")
    return key


def read_clients(path: Path | str) -> frozenset[str]:
    """Public keys that may come in, one a line, what follows a blank is a remark."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); write one public key a line into it") from None
    keys = frozenset(line.split()[0] for line in lines if line.strip())
    if not keys:
        raise ConfigError(f"{path} holds no key, so nobody could connect; write one public key a line into it")
    for key in keys:
        check_key(key, f"a line of {path}")
    return keys


def public_key(secret: str) -> str:
    """The public key that belongs to a secret one."""
    available()
    check_key(secret, "the secret key")
    return zmq.curve_public(secret.encode()).decode()


def check_key(key: str, what: str) -> None:
    """ConfigError where a key is none; it names `what` and never shows the key."""
    try:
        good = len(key) == KEY_LENGTH and len(z85.decode(key.encode("ascii"))) == 32
    except (ValueError, KeyError, OverflowError):
        good = False
    if not good:
        raise ConfigError(f"{what} is no CURVE key ({KEY_LENGTH} characters); make one with `tunetrade curve-key FILE`")


def available() -> None:
    """UserError where this libzmq was built without CURVE."""
    if not zmq.has("curve"):
        raise UserError(
            "this libzmq was built without CURVE; install the wheel (pip install --force-reinstall "
            "--only-binary pyzmq pyzmq), or use a tunnel (ssh -L)"
        )


def secure_client(socket: "zmq.Socket[bytes]", server_key: str, key: str) -> None:
    """Make a client's socket talk to that server only; an empty `key` is a new one for this connection."""
    available()
    check_key(server_key, "server_key")
    secret = key or zmq.curve_keypair()[1].decode()
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
    socket.setsockopt(zmq.CURVE_PUBLICKEY, public_key(secret).encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())


class Shares:
    """Who has said how much since the port was last found empty.

    libzmq reads peers without asking and cannot be told to stop (`bridge.server`, RCVHWM), so who floods must be thrown
    away faster than it can talk: unread, unanswered, and without holding up those who do not.
    """

    def __init__(self) -> None:
        self._said: dict[bytes, int] = {}

    def heard(self, identity: bytes, frames: Sequence[bytes]) -> bool:
        """Whether a message is within its peer's share."""
        said = self._said[identity] = self._said.get(identity, 0) + sum(map(len, frames))
        return said <= MAX_UNREAD

    def emptied(self) -> None:
        """All that had come was read."""
        self._said.clear()


class CurvePort:
    """The ROUTER of CURVE peers, read as it becomes readable; its identities carry PREFIX. Closed with its context.

    doorman: the REP socket that libzmq asks about clients' keys, None where any key may come in.
    """

    def __init__(self, router: "zmq.Socket[bytes]", options: Curve, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self._router, self._doorman = router, None
        self._heard: Heard = lambda identity, frames: False
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.Handle | None = None
        self._reading = False
        self._shares = Shares()
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_SECRETKEY, options.key.encode())
        if options.clients:
            self._allowed = {z85.decode(key.encode()) for key in options.clients}
            self._doorman = context.socket(zmq.REP)
            self._doorman.setsockopt(zmq.LINGER, 0)
            self._doorman.bind("inproc://zeromq.zap.01")
            # With a domain that is enforced, nobody comes in unasked, should the doorman ever be missing.
            router.setsockopt_string(zmq.ZAP_DOMAIN, "tunetrade")
            router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def open(self, heard: Heard) -> None:
        """Begin to listen."""
        self._heard = heard
        for file in self._files():
            self._loop.add_reader(file, self._readable)
        self.look()

    def close(self) -> None:
        """Stop listening."""
        for file in self._files():
            self._loop.remove_reader(file)
        if self._again:
            self._again.cancel()

    def send(self, identity: bytes, frames: Sequence[bytes]) -> None:
        """Send to the peer of that identity."""
        with contextlib.suppress(zmq.ZMQError):  # a peer that does not read: it finds the gap in seq and asks again
            self._router.send_multipart([identity.removeprefix(PREFIX), *frames], zmq.NOBLOCK)
        if not self._reading:
            self.look()

    def look(self) -> None:
        """Read on soon if there is anything: the descriptor tells of changes only, and sending may swallow one."""
        self._admit()
        if self._again is None and int(self._router.EVENTS) & zmq.POLLIN:
            self._again = self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._again = None
        self._readable()

    def _readable(self) -> None:
        """Take what is there, and not for so long that nobody else gets a turn."""
        self._admit()
        self._reading = True
        for _ in range(TURN):
            try:
                identity, *frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                self._shares.emptied()
                break
            if self._shares.heard(identity, frames):
                self._heard(PREFIX + identity, frames)
        self._reading = False
        self.look()

    def _admit(self) -> None:
        """Answer libzmq's questions about keys (ZAP, RFC 27)."""
        while self._doorman is not None:
            try:
                question = self._doorman.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            known = len(question) == 7 and question[5] == b"CURVE" and question[6] in self._allowed
            verdict = (b"200", b"OK") if known else (b"400", b"this key is not allowed")
            self._doorman.send_multipart([b"1.0", question[1], *verdict, b"", b""])

    def _files(self) -> list[int]:
        return [int(socket.FD) for socket in (self._router, self._doorman) if socket is not None]
