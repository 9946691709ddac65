"""Programs in the simulated terminal, and peers of theirs."""

import contextlib
import functools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq

from bridge.terminal.build import BuildError, Program, build, compiler

MQL = Path(__file__).parent / "mql"


@functools.cache
def built(source: Path, **how) -> Program:
    try:
        compiler()
    except BuildError as error:
        pytest.skip(str(error))
    return build(source, **how)


@dataclass(frozen=True)
class Journal:
    """What a finished program left: events by kind, in order."""

    events: list[tuple[str, str]]

    def of(self, kind: str) -> list[str]:
        return [text for found, text in self.events if found == kind]

    @property
    def prints(self) -> list[str]:
        return self.of("print")

    @property
    def deals(self) -> list[dict]:
        return [json.loads(text) for text in self.of("deal")]

    @property
    def end(self) -> dict:
        return json.loads(self.of("end")[-1])


def finished(process, seconds: float = 20) -> Journal:
    out, _ = process.communicate(timeout=seconds)
    events = [(kind, text) for kind, _, text in (line.partition("\t") for line in out.splitlines())]
    assert not [event for event in events if event[0] == "critical"], out[-2000:]
    assert any(kind == "end" for kind, _ in events), out[-2000:]
    return Journal(events)


def ran(program: Program, inputs=None, terminal=None, seconds: float = 20) -> Journal:
    return finished(program.start(inputs, terminal), seconds)


@contextlib.contextmanager
def peer(kind: int, work: Callable[[zmq.Socket], None], **options) -> Iterator[int]:
    """A socket of libzmq on a free port of loopback, driven by `work` in a thread until the block ends."""
    with zmq.Context() as context, context.socket(kind) as sock:
        sock.linger = 0
        sock.rcvtimeo = 5000
        for name, value in options.items():
            setattr(sock, name, value)
        port = sock.bind_to_random_port("tcp://127.0.0.1")
        failures = []

        def run():
            try:
                work(sock)
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield port
        finally:
            thread.join(10)
            assert not thread.is_alive()
        assert not failures, failures


@contextlib.contextmanager
def stranger(say: bytes) -> Iterator[int]:
    """A listener that answers every connection with these bytes and reads until it is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        stop = threading.Event()

        def run():
            held = []
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = server.accept()
                    held.append(connection)
                    with contextlib.suppress(OSError):
                        connection.sendall(say)
            for connection in held:
                connection.close()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            thread.join(5)
