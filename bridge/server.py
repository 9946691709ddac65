"""One ROUTER socket on loopback: frames in, `service.handle`, frames out.

The event loop only moves frames and answers heartbeats; models run in one worker thread, so a slow forecast delays
other forecasts and never a heartbeat. Messages of all peers pass through one queue in the order of arrival; when it is
full the answer is `busy`. Version 0 proves nothing about who is speaking, so it binds to loopback only.
"""

import asyncio
import errno
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import zmq
import zmq.asyncio

from bridge.messages import MAX_FRAME_BYTES, Error, Heartbeat, Hello, Message, ProtocolError, decode, encode
from bridge.service import Desk, Session, handle
from forecasting.errors import ConfigError, UserError

DEFAULT_PORT = 5757
MAX_PEERS = 256
MAX_WAITING = 1_024

_log = logging.getLogger(__name__)


async def serve(
    desks: Mapping[str, Desk],
    port: int = DEFAULT_PORT,
    host: str = "127.0.0.1",
    ready: Callable[[int], None] | None = None,
) -> None:
    """Answer peers until cancelled.

    Parameters
    ----------
    desks
        What is served, by unique_id.
    port
        TCP port; 0 takes any free one.
    host
        An IPv4 address of loopback, or "localhost".
    ready
        Called with the port once peers can connect.

    Raises
    ------
    UserError
        The address is refused or taken; the message names it and the cure.
    """
    endpoint = loopback_endpoint(host, port)
    context = zmq.asyncio.Context()
    pool = ThreadPoolExecutor(1, thread_name_prefix="forecast")
    try:
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        # A peer that comes back under its name while its old connection is still half open must be heard.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        bound = _bind(socket, endpoint)
        if ready:
            ready(bound)
        link = _Link(socket, desks, pool, epoch=_now_ms())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(link.receive())
            tasks.create_task(link.work())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        context.destroy(linger=0)


def run(desks: Mapping[str, Desk], port: int = DEFAULT_PORT, ready: Callable[[int], None] | None = None) -> None:
    """`serve` until Ctrl-C, on the kind of event loop that sockets of ZeroMQ need on Windows too."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(serve(desks, port, ready=ready))


def loopback_endpoint(host: str, port: int) -> str:
    """The endpoint to bind; UserError for an address that other machines could reach."""
    try:
        address = ipaddress.IPv4Address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ConfigError(f"host {host!r} is no IPv4 address; use 127.0.0.1") from None
    if not address.is_loopback:
        raise ConfigError(
            f"host {host} can be reached from other machines, and this version knows no shared secret that would tell "
            f"your terminal from a stranger; use 127.0.0.1, and a tunnel (ssh -L) from another machine"
        )
    if not 0 <= port <= 65_535:
        raise ConfigError(f"port {port} does not exist; give 1024 to 65535, such as {DEFAULT_PORT}")
    return f"tcp://{address}:{port}"


def _bind(socket: zmq.asyncio.Socket, endpoint: str) -> int:
    """Bind and give the port."""
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        cures = {
            errno.EADDRINUSE: "it is taken, perhaps by another server of yours; stop that one or choose another port",
            errno.EACCES: "it is reserved by the system; choose a port from 1024 to 65535",
        }
        # libzmq numbers some errors itself where the system's headers lack them.
        code = errno.EADDRINUSE if error.errno == zmq.EADDRINUSE else error.errno or 0
        cure = cures.get(code, f"{error.strerror}; choose another port")
        raise UserError(f"cannot listen on {endpoint.removeprefix('tcp://')}: {cure}") from None
    return int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])


@dataclass
class _Peer:
    """A peer that has said hello: its session and the seq of the last message sent to it."""

    session: Session
    sent: int = 0


class _Link:
    """The two loops around one socket: receive, which never waits for a model, and work, which does."""

    def __init__(
        self, socket: zmq.asyncio.Socket, desks: Mapping[str, Desk], pool: ThreadPoolExecutor, epoch: int
    ) -> None:
        self._socket, self._desks, self._pool, self._epoch = socket, desks, pool, epoch
        self._peers: OrderedDict[bytes, _Peer] = OrderedDict()
        self._waiting: asyncio.Queue[tuple[bytes, Message]] = asyncio.Queue(MAX_WAITING)

    async def receive(self) -> None:
        """Answer at once what needs no model, queue the rest."""
        while True:
            identity, *frames = await self._socket.recv_multipart()
            try:
                message = decode(frames)
            except ProtocolError as error:
                await self._send(identity, Error(code=error.code, text=error.text[:300]), 0)
                continue
            if isinstance(message, Heartbeat):
                await self._send(identity, Heartbeat(), message.seq)
                continue
            try:
                self._waiting.put_nowait((identity, message))
            except asyncio.QueueFull:
                await self._send(
                    identity, Error(code="busy", text="too many messages wait; send it again later"), message.seq
                )

    async def work(self) -> None:
        """Handle queued messages one by one, in a thread."""
        loop = asyncio.get_running_loop()
        while True:
            identity, message = await self._waiting.get()
            peer = self._peer(identity, message)
            try:
                peer.session, replies = await loop.run_in_executor(
                    self._pool, handle, peer.session, message, self._desks, _now_ms()
                )
                for reply in replies:
                    await self._send(identity, reply, message.seq)
            except Exception:
                # Whatever a model raises must not end the link of every other peer.
                _log.exception("no answer to %s of %r", message.TYPE, identity)
                await self._send(
                    identity, Error(code="internal", text="failed; the server's log says why"), message.seq
                )

    def _peer(self, identity: bytes, message: Message) -> _Peer:
        """The peer's record; only hello makes one that stays; the longest silent gives way to it."""
        peer = self._peers.get(identity) or _Peer(Session(self._epoch))
        if isinstance(message, Hello):
            self._peers[identity] = peer
        if identity in self._peers:
            self._peers.move_to_end(identity)
        if len(self._peers) > MAX_PEERS:
            self._peers.popitem(last=False)
        return peer

    async def _send(self, identity: bytes, message: Message, answered: int) -> None:
        peer = self._peers.get(identity)
        if peer:
            peer.sent += 1
        stamped = replace(message, epoch=self._epoch, seq=peer.sent if peer else 0, re=answered, ts_ms=_now_ms())
        await self._socket.send_multipart([identity, *encode(stamped)])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
