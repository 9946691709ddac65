"""The terminals' port: its codec against what libzmq says, cut anywhere; the server against peers that misbehave."""

import asyncio
import contextlib
import errno
import itertools
import re
import socket
import time
from asyncio import selector_events
from dataclasses import replace

import pytest
import stub
import zmq
from hostile import GREETING, PING, READY, framed
from live import Slow, running

import bridge.server
from bridge import listener, zmtp
from bridge.client import Client
from bridge.messages import MAX_FRAME_BYTES, Bars, Heartbeat, Hello, decode, encode
from bridge.zmtp import Codec, ViolationError

SHORT, LONG = b"x" * 255, b"y" * 256
SAID = [[b"hello", b'{"a":1}'], [b"", SHORT], [b"bars", LONG], [b""]]
HOUR = 3_600_000
HELLO = Hello(unique_id="X-H1", client="test", symbol="X", tf_sec=3_600, digits=5, point=1e-5, seq=1)
HB = framed(*encode(Heartbeat(seq=1)))


def of_dealer(identity):
    """All that a DEALER of libzmq says to a ROUTER, byte for byte."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer, socket.create_server(("127.0.0.1", 0)) as near:
        dealer.linger, dealer.heartbeat_ivl, dealer.heartbeat_timeout = 0, 50, 5_000
        if identity:
            dealer.setsockopt(zmq.IDENTITY, identity)
        dealer.connect(f"tcp://127.0.0.1:{near.getsockname()[1]}")
        raw, _ = near.accept()
        with raw:
            raw.settimeout(3)
            raw.sendall(GREETING + READY.replace(b"DEALER", b"ROUTER"))
            for message in SAID:
                dealer.send_multipart(message)
            stream = b""
            while LONG not in stream or b"\x04PING" not in stream or not stream.endswith((b"\x00\x00", b"\x00\x07")):
                stream += raw.recv(65_536)
            return stream


def understood(stream, *cuts):
    """Identity, messages, and answers of ZMTP or why it broke off, of a stream fed in pieces."""
    codec, messages = Codec(), []
    edges = [0, *cuts, len(stream)]
    try:
        for start, end in itertools.pairwise(edges):
            codec.feed(stream[start:end])
            while (frames := codec.step()) is not None:
                messages += [frames] if frames else []
    except ViolationError as violation:
        return codec.identity, messages, str(violation)
    return codec.identity, messages, bytes(codec.answers)


@pytest.mark.parametrize("identity", [b"", b"terminal-1"])
def test_a_dealer_of_libzmq_is_understood_wherever_it_is_cut(identity):
    stream = of_dealer(identity)
    whole = understood(stream)
    pings = stream.count(b"\x04PING")
    assert whole == (
        identity,
        SAID,
        GREETING
        + b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0"
        + b"\x04\x05\x04PONG" * pings,
    )
    assert all(understood(stream, at) == whole for at in range(len(stream) + 1))
    assert understood(stream, *range(1, len(stream))) == whole


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "speaks ZMTP 3"),
        (b"\x01\x00", "speaks ZMTP 3"),
        (b"\xff" + bytes(8) + b"\x7f\x01", "not 1"),
        (GREETING.replace(b"NULL\0", b"PLAIN"), "security NULL"),
        (GREETING.replace(b"NULL\0", b"CURVE"), "security NULL"),
        (GREETING + framed(b"no"), "before READY"),
        (GREETING + PING, "READY must come first"),
        (GREETING + READY.replace(b"\x1c", b"\x19").replace(b"\x06DEALER", b"\x03REQ"), "DEALER sockets only"),
        (GREETING + b"\x04\x06\x05READY", "DEALER sockets only"),
        (GREETING + READY + READY, "twice"),
        (GREETING + b"\x04\x09\x05READY\xff\x00\x00", "malformed READY"),
        (GREETING + b"\x04\x0f\x05READY\x05Hello\xff\xff\xff\xff"[:-1], None),
        (GREETING + b"\x04\x0f\x05READY\x05Hel\xff\xff\xff\xff\0\0", "malformed READY"),
        (GREETING + zmtp.ready(b"DEALER", b"\0abc"), "identity"),
        (GREETING + zmtp.ready(b"DEALER", b"a" * 256), "identity"),
        (GREETING + READY + zmtp.error("bye"), "ERROR"),
        (GREETING + READY + b"\x04\x00", "malformed command"),
        (GREETING + READY + b"\x04\x05\x05PING", "malformed command"),
        (GREETING + READY + b"\x04\x05\x04PING", "malformed PING"),
        (GREETING + READY + zmtp.command(b"PING", bytes(19)), "malformed PING"),
        (GREETING + READY + b"\x08\x00", "flags 8"),
        (GREETING + READY + b"\x05\x00", "flags 5"),
        (GREETING + READY + b"\x01\x00" * 9, "at most 8 frames"),
        (GREETING + READY + b"\x02" + (MAX_FRAME_BYTES + 1).to_bytes(8, "big"), "the most is 65536"),
        (GREETING + READY + b"\x02" + b"\xff" * 8, "the most is 65536"),
    ],
)
def test_what_breaks_zmtp_is_told_wherever_it_is_cut(stream, why):
    whole = understood(stream)
    assert whole[1] == []
    assert why is None or why in whole[2]
    assert all(understood(stream, at) == whole for at in range(len(stream) + 1))


def test_frames_of_all_sizes_are_taken_and_together_they_are_bounded():
    for size in (0, 1, 255, 256, MAX_FRAME_BYTES):
        parts = [b"type", b"x" * size]
        assert understood(GREETING + READY + framed(*parts))[1] == [parts]
        assert framed(*parts) == zmtp.framed(parts)
    assert understood(GREETING + READY + b"\x02" + bytes(7) + b"\x01x")[1] == [[b"x"]]
    assert "at most" in understood(GREETING + READY + framed(bytes(40_000), bytes(40_000)))[2]
    assert understood(GREETING + READY + zmtp.command(b"SUBSCRIBE", b"x") + framed(b"a"))[1] == [[b"a"]]


# ---- the server


@pytest.fixture
def server():
    """Port of the real server and what it tells."""
    events = []
    with running(stub.desk(), tell=events.append) as address:
        yield int(address.rsplit(":", 1)[1]), events


@contextlib.contextmanager
def stranger(port, *said):
    """A raw connection that has said something."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(b"".join(said))
        yield raw


def until(raw, end):
    """What comes up to some bytes."""
    got = b""
    while end not in got:
        data = raw.recv(65_536)
        assert data, f"closed after {got!r}"
        got += data
    return got


def rest(raw):
    """What comes until the server closes."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while data := raw.recv(65_536):
            got += data
    return got


def healthy(port):
    with Client.connect(f"tcp://127.0.0.1:{port}", "X-H1") as client:
        return client.heartbeat() < 2


def test_a_flood_a_ping_and_a_reset_end_nothing(server):
    """What aborts libzmq 4.3 with a bounded queue (its issue 4364)."""
    port, _ = server
    for _ in range(20):
        raw = socket.create_connection(("127.0.0.1", port), timeout=5)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        with contextlib.suppress(ConnectionError):
            raw.sendall(GREETING + READY + HB * 3_000 + PING * 100)
        raw.close()
    assert healthy(port)


def test_a_peer_of_nothing_but_rubbish_is_closed_with_the_reason(server):
    port, events = server
    with stranger(port, GREETING, READY, b"\x00\x00" * 30_000) as raw:
        said = rest(raw)
    assert said.count(b'"code":"frames"') == listener.MAX_UNREADABLE
    assert said.endswith(zmtp.error("100 messages in a row could not be read"))
    with stranger(port, GREETING, READY, (b"\x00\x00" * (listener.MAX_UNREADABLE - 1) + HB) * 3) as raw:
        got = b""
        while got.count(b'"type":"hb"') < 3:
            got += raw.recv(65_536)
        raw.sendall(HB)
        until(raw, b'"type":"hb"')
    assert [event["text"] for event in events if event.get("code") == "zmtp"] == [
        "100 messages in a row could not be read"
    ]


def test_a_peer_that_asks_and_does_not_read_is_heard_no_more_and_then_closed(server, monkeypatch):
    port, events = server
    monkeypatch.setattr(listener, "STALLED_S", 0.5)
    taken = 0
    with stranger(port, GREETING, READY) as raw:
        raw.settimeout(0.3)
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            while taken < 200_000_000 and time.monotonic() - begun < 15:
                taken += raw.send(HB * 500)
        assert taken < 40_000_000  # the rest is not even taken: what is, lies in the system's buffers
        deadline = time.monotonic() + 60
        while not any("took no answer" in event.get("text", "") for event in events) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert any("took no answer" in event.get("text", "") for event in events)
    assert healthy(port)


def test_a_peer_that_resets_while_it_is_told_why_leaves_nothing_behind(server, monkeypatch, caplog):
    """The system then refuses to end the stream: once in some 100,000 wild connections, here each time."""
    port, events = server

    def refused(transport):
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(selector_events._SelectorSocketTransport, "write_eof", refused)
    with stranger(port, GREETING, READY, HB * 2 * listener.TURN, b"\x08\x00") as raw:
        assert rest(raw).count(b'"type":"hb"') == 2 * listener.TURN
    assert [event["text"] for event in events if event.get("code") == "zmtp"] == ["a frame cannot have the flags 8"]
    assert healthy(port) and not caplog.records


def test_a_handshake_takes_only_so_long(server, monkeypatch):
    port, _ = server
    monkeypatch.setattr(listener, "HANDSHAKE_S", 0.2)
    for said, told in ((b"", b""), (GREETING[:20], b""), (GREETING, zmtp.error("no handshake within 0.2 s"))):
        with stranger(port, said) as raw:
            assert rest(raw).endswith(told or GREETING)
    with stranger(port, GREETING, READY) as raw:
        time.sleep(0.4)
        raw.sendall(HB)
        until(raw, b'"type":"hb"')


@pytest.mark.parametrize("mechanism", [b"PLAIN", b"CURVE"])
def test_other_security_than_null_is_refused_with_the_reason(server, mechanism):
    with stranger(server[0], GREETING.replace(b"NULL\0", mechanism)) as raw:
        assert rest(raw) == GREETING + zmtp.error("this port takes security NULL only")
    with stranger(server[0], b"GET / HTTP/1.1\r\n\r\n") as raw:
        assert rest(raw) == GREETING


def test_a_req_is_refused_and_a_dealer_keeps_the_name_it_chose(server):
    port, events = server
    with zmq.Context() as context, context.socket(zmq.REQ) as req, context.socket(zmq.DEALER) as dealer:
        req.linger = dealer.linger = 0
        req.rcvtimeo, dealer.rcvtimeo = 300, 3_000
        dealer.setsockopt(zmq.IDENTITY, "Börse 1".encode())
        for each in (req, dealer):
            each.connect(f"tcp://127.0.0.1:{port}")
        req.send(b"hello")
        with pytest.raises(zmq.Again):
            req.recv_multipart()
        dealer.send_multipart(encode(HELLO))
        assert decode(dealer.recv_multipart()).accepted
    assert [event["client"] for event in events if event["event"] == "welcome"] == ["Börse 1"]
    assert any("DEALER" in event.get("text", "") for event in events)


def test_a_new_connection_takes_the_place_of_the_old_one(server):
    named = zmtp.ready(b"DEALER", b"same")
    with stranger(server[0], GREETING, named, HB) as old:
        until(old, b'"type":"hb"')
        with stranger(server[0], GREETING, named, HB) as new:
            until(new, b'"type":"hb"')
            assert rest(old) == zmtp.error("another connection has taken this identity")
            new.sendall(HB)
            until(new, b'"type":"hb"')


class Wire(asyncio.Transport):
    """One end of a connection, without a network: what is written to it is gone."""

    def get_extra_info(self, name, default=None):
        return self._extra[name]

    def write(self, data):
        pass

    def is_closing(self):
        return False

    def get_write_buffer_size(self):
        return 0

    set_write_buffer_limits = pause_reading = resume_reading = abort = lambda self, **limits: None


def test_what_a_lost_connection_still_had_to_say_is_not_heard_among_what_its_successor_says():
    """Else old messages with their high `seq` would have those of the new session refused, one after the other."""
    heard = []

    async def play():
        port = listener.Listener(listener.listening("127.0.0.1", 0, 1), 5, b"curve/")
        port.heard = lambda identity, frames: not heard.append(frames[0])

        def say(connection, *said):
            data = b"".join(said)
            port.scratch[: len(data)] = data
            connection.buffer_updated(len(data))

        old, new = listener._Connection(port), listener._Connection(port)
        for connection in (old, new):
            connection.connection_made(Wire({"socket": port.bound}))
        named = zmtp.ready(b"DEALER", b"same")
        say(old, GREETING, named, framed(b"old") * 20)
        old.connection_lost(ConnectionResetError())
        say(new, GREETING, named, framed(b"new"))
        for _ in range(9):
            await asyncio.sleep(0)
        say(new, framed(b"new"))
        port.bound.close()

    asyncio.run(play())
    assert b"old" in heard and heard[-2:] == [b"new"] * 2 and heard.count(b"new") == 2


def test_connections_are_bounded_and_strangers_give_way(monkeypatch):
    monkeypatch.setattr(bridge.server, "MAX_PEERS", 3)
    with running(stub.desk()) as address, contextlib.ExitStack() as stack:
        port = int(address.rsplit(":", 1)[1])
        known = [stack.enter_context(stranger(port, GREETING, READY, HB)) for _ in range(2)]
        for raw in known:
            until(raw, b'"type":"hb"')
        silent = stack.enter_context(stranger(port, GREETING))
        until(silent, b"READY")
        third = stack.enter_context(stranger(port, GREETING, READY, HB))
        until(third, b'"type":"hb"')
        assert rest(silent)[64:].count(b"ERROR") == 0
        with stranger(port) as fourth:
            assert rest(fourth) == GREETING + zmtp.error("too many connections")
        for raw in (*known, third):
            raw.sendall(HB)
            until(raw, b'"type":"hb"')


def test_what_a_peer_said_before_it_left_is_still_taken(server):
    port, events = server
    with stranger(port, GREETING, READY, HB * 40, framed(*encode(HELLO))) as raw:
        raw.shutdown(socket.SHUT_WR)
        got = rest(raw)
    assert got.count(b'"type":"hb"') == 40 and got.count(b'"type":"welcome"') == 1
    assert [event["event"] for event in events].count("welcome") == 1


def test_answers_do_not_wait_for_acknowledgements(server):
    """The second answer would be held up by Nagle's algorithm until the first is acknowledged, 40 ms later."""
    bound = listener.listening("127.0.0.1", 0, 1)
    with bound, socket.create_connection(bound.getsockname()):
        bound.setblocking(True)
        taken, _ = bound.accept()
        with taken:
            listener.tune(taken)
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_peer_that_asks_faster_than_it_is_answered_waits_alone(monkeypatch):
    monkeypatch.setattr(bridge.server, "MAX_UNHANDLED", 4)
    slow = Slow(stub.Drift())
    with running(replace(stub.desk(), forecaster=slow)) as address:
        port = int(address.rsplit(":", 1)[1])
        with stranger(port, GREETING, READY, framed(*encode(HELLO))) as raw:
            until(raw, b'"type":"welcome"')
            with Client.connect(address, "X-H1") as other:
                epoch = other.welcome.epoch
                flat, times = [1.0] * 5, [HOUR * at for at in range(1, 6)]
                held = Bars(
                    unique_id="X-H1", restart=True, times_ms=times, opens=flat, highs=flat, lows=flat, closes=flat,
                    volumes=[0] * 5, spreads=[-1] * 5, equity=1.0, balance=1.0, epoch=epoch, seq=2,
                )  # fmt: skip
                hellos = b"".join(framed(*encode(replace(HELLO, seq=seq))) for seq in range(3, 8))
                raw.sendall(framed(*encode(held)) + hellos + HB)
                assert slow.begun.wait(3)
                assert other.heartbeat() < 1
                raw.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    raw.recv(1)
                slow.go_on.set()
                raw.settimeout(3)
                got = until(raw, b'"type":"hb"')
    assert re.findall(rb'"type":"(\w+)"', got) == [b"forecast"] + [b"welcome"] * 5 + [b"hb"]
