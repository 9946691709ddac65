"""Hostile bytes at both ends of the link: no crash, no growth, nothing believed that is not so.

The full counts: pytest -m slow tests/bridge/test_fuzz.py -rP
"""

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from faulty import Messages
from hostile import EXAMPLES, FRAGMENTS, GREETING, NASTY, PING, READY, bodies, kind_of, message, mutated, streams
from simulated import MQL, built

from bridge.client import Client
from bridge.messages import TYPES, ProtocolError, decode, encode

HERE = Path(__file__).parent
MILLION = 1_000_000
MOST_GROWTH_KB = 4_096


def resident_kb(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def open_files(pid):
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def told(what, cases, begun, before, after, rest=""):
    """Shown with `pytest -rP`."""
    seconds = time.monotonic() - begun
    print(f"{what}: {cases} cases in {seconds:.0f} s, {before / 1024:.1f} MB -> {after / 1024:.1f} MB; {rest}")


# ---- the parsers of the Expert Advisor


def at_the_expert(tmp_path, cases, streamed, seed, sanitize):
    """Messages taken, cases refused, and the growth of memory over the second half."""
    folder = tmp_path / "local"
    folder.mkdir()
    nasty = FRAGMENTS if streamed else NASTY
    for name, values in (("seeds", streams() if streamed else EXAMPLES), ("nasty", nasty)):
        (folder / f"{name}.txt").write_text("\n".join(value.hex() for value in values))
    program = built(MQL / "Fuzz.mq5", sanitize=sanitize)
    environment = program.environment({"InpStreams": streamed, "InpCount": cases, "InpSeed": seed}, {"FILES": tmp_path})
    environment["ASAN_OPTIONS"] = "quarantine_size_mb=4:detect_leaks=1"
    begun, memory = time.monotonic(), []
    with subprocess.Popen([str(program.path)], env=environment, stdout=subprocess.PIPE, text=True) as child:
        lines = []
        for line in child.stdout:
            lines.append(line)
            if line.startswith("print\tat "):
                with contextlib.suppress(IndexError):  # it has ended by now
                    memory.append(resident_kb(child.pid))
    assert child.returncode == 0, "".join(lines[-20:])
    words = lines[-2].removeprefix("print\t").split()
    counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert counts["cases"] == cases and counts["wrong"] == 0, "".join(lines)
    what = f"{'streams' if streamed else 'messages'} at the Expert Advisor{', sanitized' if sanitize else ''}"
    half = memory[len(memory) // 2]  # by then every buffer has met its largest case
    told(what, cases, begun, half, memory[-1], f"taken {counts['taken']}, refused {counts['refused']}")
    return counts, memory[-1] - half


@pytest.mark.parametrize("streamed", [True, False])
def test_mutated_bytes_at_the_parsers_of_the_expert(tmp_path, streamed):
    counts, growth = at_the_expert(tmp_path, 20_000, streamed, 1, sanitize=False)
    assert counts["taken"] > 1_000 and counts["refused"] > 1_000
    assert growth < MOST_GROWTH_KB


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_million_mutated_cases_at_the_parsers_of_the_expert(tmp_path, streamed, sanitize):
    counts, growth = at_the_expert(tmp_path, MILLION, streamed, 2, sanitize)
    assert counts["taken"] > 50_000 and counts["refused"] > 50_000
    assert sanitize or growth < MOST_GROWTH_KB  # a sanitizer's own books grow; it looks for leaks at the end


# ---- the server's parser


@pytest.mark.slow
def test_a_million_mutated_messages_at_the_servers_parser():
    draw, codes, begun, before = random.Random(3), Counter(), time.monotonic(), 0
    kinds = [kind.encode() for kind in TYPES]
    for number, body in enumerate(bodies(MILLION, 3)):
        try:
            taken = decode([draw.choice(kinds) if draw.random() < 0.2 else kind_of(body), body])
        except ProtocolError as error:
            codes[error.code] += 1
            assert len(error.text) <= 300
        else:
            codes["taken"] += 1
            assert decode(encode(taken)) == taken
        if number == MILLION // 10:
            before = resident_kb(os.getpid())
    after = resident_kb(os.getpid())
    told("messages at the server's parser", MILLION, begun, before, after, dict(codes))
    assert codes.total() == MILLION and set(codes) == {"taken", "json", "utf8", "version", "type", "field", "size"}
    assert after - before < MOST_GROWTH_KB


# ---- the server, over its sockets


@contextlib.contextmanager
def serving(folder):
    """Port and process of the real server, whose log may hold no failure."""
    log = folder / "server.log"
    command = [
        sys.executable,
        str(HERE / "served.py"),
        "0",
        str(folder / "j.sqlite"),
        "inline",
        "momentum",
        "EURUSD-H1",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    with log.open("wb") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
    try:
        yield int(child.stdout.readline()), child
    finally:
        child.terminate()
        assert child.wait(10) == 0
        child.stdout.close()
    assert "Traceback" not in log.read_text(), log.read_text()[:2_000]


def connected(port):
    """A raw connection that resets when it is closed, so that a hundred thousand of them leave nothing behind."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=5)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw


LAST = b'{"v":1,"type":"hb","epoch":0,"seq":987654321,"re":0,"ts_ms":0}'


def heard(raw, cutter):
    """Answers up to that to LAST, by code or type; "closed" where the server has closed the connection instead."""
    answers = Counter()
    while True:
        try:
            data = raw.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            answers["closed"] += 1
            return answers
        for whole, frames in cutter.feed(data):
            if whole:
                if b'"re":987654321' in frames:
                    return answers
                code = frames.partition(b'"code":"')[2].partition(b'"')[0]
                answers[(code or kind_of(frames)).decode()] += 1
    return answers


def send_messages(port, batch):
    """Answers to a batch of messages on one connection; each has exactly one, or the connection is closed."""
    with connected(port) as raw:
        raw.sendall(GREETING)
        cutter, got = Messages(), 0
        while got < 64:  # libzmq hangs up on a peer that goes on before it has been greeted
            data = raw.recv(64 - got)
            got += len(data)
            cutter.feed(data)
        with contextlib.suppress(ConnectionError):
            raw.sendall(READY + b"".join(message(body) for body in [*batch, LAST]))
        return heard(raw, cutter)


def send_streams(port, batch):
    """How many of so many connections, each with a stream of its own, the server has closed within a moment."""
    raws, closed = [], 0
    for stream in batch:
        raw = connected(port)
        raw.sendall(stream[:64])
        raws.append(raw)
    time.sleep(0.01)
    for raw, stream in zip(raws, batch, strict=True):
        with contextlib.suppress(OSError):
            raw.sendall(stream[64:])
    time.sleep(0.02)
    for raw in raws:
        raw.setblocking(False)
        try:
            while data := raw.recv(1 << 16):
                pass
            closed += not data
        except BlockingIOError:
            pass
        except OSError:
            closed += 1
        raw.close()
    return closed


def client_streams(epoch):
    """What an honest client says from its first byte on."""
    talk = [message(body) for body in of_epoch(epoch)]
    return [GREETING + READY + talk[0] + PING + one for one in talk] + [GREETING + READY]


def of_epoch(epoch):
    return [body.replace(b"1700000000001", str(epoch).encode()) for body in EXAMPLES]


def at_the_server(tmp_path, messages, connections, seed):
    """Answers by code, connections closed, growth in KB and open files more than before."""
    draw, answers, closed, before = random.Random(seed), Counter(), 0, 0
    with serving(tmp_path) as (port, child), Client.connect(f"tcp://127.0.0.1:{port}", "EURUSD-H1") as honest:
        seeds, spoken = of_epoch(honest.welcome.epoch), client_streams(honest.welcome.epoch)
        files = open_files(child.pid)
        begun, rounds = time.monotonic(), 100
        for number in range(rounds):
            for _ in range(messages // rounds // 50):
                answers += send_messages(port, [mutated(draw.choice(seeds), seeds, NASTY, draw) for _ in range(50)])
            wild = [mutated(draw.choice(spoken), spoken, FRAGMENTS, draw) for _ in range(connections // rounds)]
            for at in range(0, len(wild), 100):
                closed += send_streams(port, wild[at : at + 100])
            assert honest.heartbeat() < 5
            if number == rounds // 5:
                before = resident_kb(child.pid)
        deadline = time.monotonic() + 20
        while open_files(child.pid) > files and time.monotonic() < deadline:
            time.sleep(0.05)
        left, after = open_files(child.pid) - files, resident_kb(child.pid)
    rest = f"{closed} of {connections} wild connections closed; answers {dict(answers)}"
    told("the server over the wire", messages + connections, begun, before, after, rest)
    return answers, closed, after - before, left


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_mutated_messages_and_streams_at_the_server(tmp_path):
    answers, closed, _, left = at_the_server(tmp_path, 5_000, 200, 4)
    assert answers.keys() >= {"json", "utf8", "type", "field", "version", "closed", "welcome", "ok"}
    assert answers.total() <= 5_000 and closed > 20 and left <= 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_million_mutated_messages_and_streams_at_the_server(tmp_path):
    answers, closed, growth, left = at_the_server(tmp_path, 900_000, 100_000, 5)
    assert answers.total() > 500_000 and closed > 10_000 and left <= 0
    assert growth < MOST_GROWTH_KB
