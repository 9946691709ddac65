"""The MQL5 sources of the wire (ZMTP, JSON, SHA-256) as they ship, run against libzmq and against Python's own."""

import hashlib
import json
import math
import random
import socket
import struct
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import zmq
from simulated import MQL, built, finished, peer, ran, stranger

SOURCE = MQL / "Wire.mq5"
SPLIT, JSON, HASH, TALK, FUZZ, CLOCK = range(6)
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
MESSAGES = [[b"welcome", '{"text":"zażółć"}'.encode()], [b"", b"x" * 255], [b"forecast", bytes(300), b""]]


@pytest.fixture(scope="module")
def wire():
    return built(SOURCE)


def files(tmp_path, **contents):
    folder = tmp_path / "local"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return {"FILES": tmp_path}


@pytest.fixture(scope="module")
def golden():
    """What libzmq's ROUTER says to a DEALER: greeting, READY, messages short and long, PINGs."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.rcvtimeo = 5000
        router.heartbeat_ivl = 40
        router.heartbeat_timeout = 5000
        port = router.bind_to_random_port("tcp://127.0.0.1")
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.settimeout(0.2)
            raw.sendall(GREETING)
            stream = b""
            while len(stream) < len(GREETING):  # libzmq reads no further than the greeting before it has sent its own
                stream += raw.recv(65536)
            raw.sendall(READY + b"\x01\x02hi\x00\x03all")
            identity = router.recv_multipart()[0]
            for message in MESSAGES:
                router.send_multipart([identity, *message])
            for _ in range(40):
                try:
                    stream += raw.recv(65536)
                except TimeoutError:
                    break
                if stream.count(b"\x04PING") >= 2:
                    break
    assert stream.count(b"\x04PING") >= 1
    return stream


def test_a_stream_of_libzmq_cut_at_every_offset_gives_the_same_messages_and_answers(wire, golden, tmp_path):
    journal = ran(wire, {"InpTest": SPLIT, "InpFile": "s.bin"}, files(tmp_path, s_bin=golden))
    whole, differ = journal.prints
    frames, answers, state, *_ = whole.removeprefix("whole ").split(" ")
    assert [[bytes.fromhex(part) for part in message.split(",")] for message in frames.split(";")[:-1]] == MESSAGES
    pings = golden.count(b"\x04PING")
    assert bytes.fromhex(answers) == GREETING + READY + b"\x04\x05\x04PONG" * pings
    assert state == "3"
    assert differ == f"differ 0 of {len(golden) + 1}"


def test_a_ping_is_answered_with_its_context_and_unknown_commands_are_skipped(wire, tmp_path):
    ping = b"\x04" + bytes([5 + 2 + 6]) + b"\x04PING\x00\x0acontex"
    stream = GREETING + READY + b"\x04\x06\x05HELLO" + ping + b"\x00\x02ok"
    journal = ran(wire, {"InpTest": SPLIT, "InpFile": "s.bin", "InpIdentity": "ea"}, files(tmp_path, s_bin=stream))
    frames, answers, *_ = journal.prints[0].removeprefix("whole ").split(" ")
    ready = READY.replace(b"\x1c", bytes([0x1C + 15]), 1) + b"\x08Identity\x00\x00\x00\x02ea"
    assert bytes.fromhex(answers) == GREETING + ready + b"\x04\x0b\x04PONGcontex"
    assert frames == b"ok".hex() + ";"


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak ZMTP"),
        (b"\xff" + bytes(8) + b"\x7f\x02", "speaks ZMTP 2"),
        (GREETING.replace(b"NULL\0", b"PLAIN"), "security mechanism"),
        (GREETING + b"\x02" + struct.pack(">Q", 2**63), "larger than"),
        (GREETING + b"\x00\x02no", "before READY"),
        (GREETING + READY + READY, "twice"),
        (GREETING + b"\x04\x09\x05READY\xff\x00\x00", "malformed READY"),
        (GREETING + READY + b"\x04\x07\x05ERROR\x00", "refuses"),
        (GREETING + READY + b"\x04\x00", "malformed command"),
        (GREETING + READY + b"\x04\x05\x04PING", "malformed PING"),
        (GREETING + READY + b"\x08\x00", "malformed frame"),
        (GREETING + READY + b"\x01\x00" * 9, "too many frames"),
        (GREETING + READY + b"\x00\x00" * 257, "too many messages"),
    ],
)
def test_what_breaks_the_protocol_is_refused_wherever_it_is_cut(wire, tmp_path, stream, why):
    journal = ran(wire, {"InpTest": SPLIT, "InpFile": "s.bin"}, files(tmp_path, s_bin=stream))
    whole, differ = journal.prints
    assert why in whole
    assert differ == f"differ 0 of {len(stream) + 1}"


OBJECTS = [
    b'{"s":"a\\u00e9\\n\\ud83d\\ude00\xe2\x82\xac","n":-1.5e-05,"i":42,"b":true,"z":null,"l":[1,2.5,-3e2]}',
    b" { } ",
    b'{"l":[]}',
    b'{"n":0}',
    b'{"n":-0.0}',
    b'{"i":1700000000000}',
    b'{"n":1.0671}',
    b'{"n":1e308}',
    b'{"s":"\\/\\"\\\\"}',
    b'{"n":0.1,"i":1e3}',
    b'{"s":"\x7f"}',
    b'{"b":false,"unknown":"x"}',
]
REFUSED = [
    b"",
    b"{",
    b"[]",
    b'{"n":01}',
    b'{"n":1.}',
    b'{"n":.5}',
    b'{"n":+1}',
    b'{"n":1e}',
    b'{"n":NaN}',
    b'{"n":Infinity}',
    b'{"n":-}',
    b'{"n":1e999}',
    b'{"s":"\x01"}',
    b'{"s":"\\x41"}',
    b'{"s":"\\u0000"}',
    b'{"s":"\\ud800"}',
    b'{"s":"\\udc00"}',
    b'{"s":"a}',
    b'{"s":"\xc0\xaf"}',
    b'{"s":"\xed\xa0\x80"}',
    b'{"s":"\xf4\x90\x80\x80"}',
    b'{"s":"\xe2\x82"}',
    b'{"n":1,"n":2}',
    b'{"n":1,}',
    b"{,}",
    b'{"n" 1}',
    b'{"n":1}x',
    b'{"o":{}}',
    b'{"l":[[1]]}',
    b'{"l":[1,]}',
    b'{"l":["a"]}',
    b'{"l":[1',
    b"{n:1}",
    b'{"b":tru}',
    b'{"n":0x10}',
    b'{"l":[' + b"1," * 5000 + b"1]}",
    b"{" + b",".join(b'"k%d":1' % i for i in range(200)) + b"}",
    b'{"n":' + b"1" * 60 + b"}",
    b"\xef\xbb\xbf{}",
    b'{"a":1\x00}',
]


def test_json_takes_flat_objects_and_writes_them_back_and_refuses_all_else(wire, tmp_path):
    lines = b"\n".join(text.hex().encode() for text in OBJECTS + REFUSED)
    journal = ran(wire, {"InpTest": JSON, "InpFile": "j.txt"}, files(tmp_path, j_txt=lines))
    assert len(journal.prints) == len(OBJECTS + REFUSED)
    for text, said in zip(OBJECTS, journal.prints, strict=False):
        wanted = json.loads(text)
        got = json.loads(said.removeprefix("yes "))
        assert got.pop("fields") == len(wanted), text
        if isinstance(wanted.get("i"), float):
            del wanted["i"]
        assert got == {name: value for name, value in wanted.items() if name in "snibzl"}, text
    assert journal.prints[len(OBJECTS) :] == ["no"] * len(REFUSED)


def test_doubles_survive_being_read_and_written(wire, tmp_path):
    rng = random.Random(7)
    numbers = [struct.unpack("d", rng.randbytes(8))[0] for _ in range(200)] + [
        round(rng.uniform(0.5, 2), 5) for _ in range(200)
    ]
    numbers = [number for number in numbers if math.isfinite(number)]
    lines = "\n".join(json.dumps({"n": number}).encode().hex() for number in numbers).encode()
    journal = ran(wire, {"InpTest": JSON, "InpFile": "j.txt"}, files(tmp_path, j_txt=lines))
    assert [json.loads(said.removeprefix("yes "))["n"] for said in journal.prints] == numbers


def test_sha256_is_that_of_hashlib(wire, tmp_path):
    texts = ["abc", "tunetrade1|client|zażółć €|" + "x" * 200, "a" * 55, "a" * 56, "a" * 64]
    journal = ran(wire, {"InpTest": HASH, "InpFile": "h.txt"}, files(tmp_path, h_txt="\n".join(texts).encode()))
    assert journal.prints == [hashlib.sha256(text.encode()).hexdigest() for text in texts]


SPANS = {"08:00-20:00": (480, 1200), "22:00-06:30": (1320, 390), "00:00-24:00": (0, 1440)}


@pytest.mark.parametrize(("clock", "zone", "ahead"), [(0, "America/New_York", 7), (1, "Europe/Helsinki", 0)])
def test_brokers_times_become_utc_by_the_rule_in_force_at_that_bar(wire, tmp_path, clock, zone, ahead):
    rng = random.Random(clock)
    lag = timedelta(hours=ahead)

    def utc(broker):
        return (broker - lag).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)

    now = datetime.now(UTC)
    offset = (now.astimezone(ZoneInfo(zone)).replace(tzinfo=None) + lag - now.replace(tzinfo=None)).total_seconds()
    lines, wanted = [], []
    for i in range(2000):
        # Sundays around the changes too, but not the hours that exist twice or never, when the market is shut.
        broker = datetime(2010, 1, 1) + timedelta(hours=rng.randrange(24 * 365 * 15))
        if broker.weekday() == 6 and broker.hour < 12:
            continue
        span, minutes = rng.choice(list(SPANS.items())), broker.hour * 60
        first, last = span[1]
        daily = i % 3 == 0
        opens = broker.replace(hour=0) if daily else broker
        if daily and broker.weekday() in (5, 6):
            continue
        minutes = opens.hour * 60
        within = first <= minutes < last if first <= last else minutes >= first or minutes < last
        weekend = (opens.weekday() == 4 and minutes >= 21 * 60) or opens.weekday() == 5
        stamp = int(opens.replace(tzinfo=UTC).timestamp())
        lines.append(f"{clock} {stamp} {16408 if daily else 16385} {span[0]} 21:00")
        close = utc(opens + timedelta(days=1)) if daily else utc(opens) + timedelta(hours=1)
        state = ("open" if within else "shut", "weekend" if weekend else "week")
        wanted.append(f"{int(close.timestamp()) * 1000} {' '.join(state)}")
    where = files(tmp_path, c_txt="\n".join(lines).encode())
    journal = ran(wire, {"InpTest": CLOCK, "InpFile": "c.txt"}, {**where, "OFFSET": int(offset)})
    assert len(wanted) > 1000
    assert journal.prints == wanted


def echo(count):
    def work(sock):
        for _ in range(count):
            sock.send_multipart(sock.recv_multipart())

    return work


def talk(wire, port, count, terminal=None, **inputs):
    return ran(
        wire, {"InpTest": TALK, "InpPort": port, "InpCount": count, **inputs}, {"RUN_MS": 8000, **(terminal or {})}
    )


def test_it_talks_to_a_rep_and_a_router_of_libzmq(wire):
    with peer(zmq.REP, echo(3)) as port:
        journal = talk(wire, port, 3, InpEmpty=True)
    assert journal.prints == [f"got |say|{i} zażółć €" for i in range(3)] + ["pings 0 connections 1"]
    identities = []

    def work(router):
        for _ in range(3):
            identity, *parts = router.recv_multipart()
            identities.append(identity)
            router.send_multipart([identity, *parts])

    with peer(zmq.ROUTER, work) as port:
        journal = talk(wire, port, 3, InpIdentity="ea-1")
    assert journal.prints == [f"got say|{i} zażółć €" for i in range(3)] + ["pings 0 connections 1"]
    assert set(identities) == {b"ea-1"}


@pytest.mark.parametrize("size", [255, 65536, 100_000])
def test_bodies_of_all_sizes_go_through_sockets_that_send_in_pieces(wire, size):
    with peer(zmq.ROUTER, echo(2)) as port:
        journal = talk(wire, port, 2, {"SEND_CAP": 777, "READABLE_LIES": 1}, InpSize=size)
    body = len("0 zażółć €".encode()) - len("0 zażółć €") + size
    assert journal.prints[:2] == [f"got say|<{body}>"] * 2


def test_it_subscribes_to_a_pub_of_libzmq(wire):
    def work(xpub):
        assert xpub.recv() == b"\x01EURUSD"
        for topic in (b"USDJPY/m", b"EURUSD/m", b"EURUSD/n"):
            xpub.send_multipart([topic, b"forecast", b"{}"])
        xpub.recv()  # b"\x00EURUSD" when it leaves

    with peer(zmq.XPUB, work) as port:
        journal = talk(wire, port, 2, InpType="SUB")
    assert journal.prints[:2] == ["got EURUSD/m|forecast|{}", "got EURUSD/n|forecast|{}"]


def test_pings_of_libzmq_are_answered_or_it_would_hang_up(wire):
    def work(router):
        message = router.recv_multipart()
        time.sleep(0.4)
        router.send_multipart(message)

    with peer(zmq.ROUTER, work, heartbeat_ivl=30, heartbeat_timeout=120) as port:
        journal = talk(wire, port, 1)
    pings, connections = journal.prints[-1].split()[1::2]
    assert int(pings) >= 3 and connections == "1"


def test_a_server_that_comes_back_is_found_again(wire):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    inputs = {"InpTest": TALK, "InpPort": port, "InpCount": 3, "InpBackoff": 20}
    process = wire.start(inputs, {"RUN_MS": 8000})
    with zmq.Context() as context:
        for _ in range(3):
            with context.socket(zmq.ROUTER) as router:
                router.linger = 100
                router.rcvtimeo = 5000
                router.bind(f"tcp://127.0.0.1:{port}")
                router.send_multipart(router.recv_multipart())
                time.sleep(0.05)
            time.sleep(0.03)
    journal = finished(process)
    assert [said for said in journal.prints if said.startswith("got")] == [f"got say|{i} zażółć €" for i in range(3)]
    assert "pings 0 connections 3" in journal.prints[-1]
    assert any("lost" in said for said in journal.prints)


def test_nothing_listening_a_forbidden_address_and_strangers_are_told_apart_and_hold_nobody_up(wire):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    short = {"RUN_MS": 300}
    journal = talk(wire, port, 1, short)
    assert "nobody listens at 127.0.0.1:" in journal.prints[0]
    assert "is not allowed: add it in Tools > Options" in talk(wire, port, 1, {**short, "NOT_ALLOWED": 1}).prints[0]
    with stranger(b"SSH-2.0-OpenSSH_9.6\r\n") as other:
        assert "does not speak ZMTP" in talk(wire, other, 1, short).prints[0]
    assert journal.end["longest_call_us"] < 500_000


def fuzzed(program, golden, tmp_path, rounds, seed):
    where = files(tmp_path, s_bin=golden, object_json=OBJECTS[0])
    inputs = {"InpTest": FUZZ, "InpFile": "s.bin", "InpCount": rounds}
    return ran(program, inputs, {**where, "SEED": seed}, seconds=600)


def check_fuzz(journal, rounds):
    words = journal.prints[0].split()
    counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert counts["rounds"] == rounds
    assert counts["parsed"] > rounds / 20 and counts["messages"] > rounds and counts["refused"] > rounds / 20


def test_random_and_mutated_bytes_break_neither_parser(wire, golden, tmp_path):
    check_fuzz(fuzzed(wire, golden, tmp_path, 3000, 1), 3000)


@pytest.mark.slow
def test_a_million_random_and_mutated_streams_break_neither_parser(wire, golden, tmp_path):
    check_fuzz(fuzzed(wire, golden, tmp_path, 1_000_000, 2), 1_000_000)


@pytest.mark.slow
def test_sanitizers_find_nothing_in_the_wire(golden, tmp_path):
    check_fuzz(fuzzed(built(SOURCE, sanitize=True), golden, tmp_path, 20_000, 3), 20_000)
