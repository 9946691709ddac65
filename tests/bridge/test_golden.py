"""ZMTP as libzmq writes it, byte for byte (golden_zmtp.json, captured through pyzmq from libzmq 4.3.5), fed to the MQL5
client cut at every offset; and the libzmq of this machine, which has to mean the same.

`python test_golden.py` captures anew.
"""

import contextlib
import json
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
import zmq
from simulated import MQL, built, peer, ran

SOURCE = MQL / "Wire.mq5"
SPLIT, TALK = 0, 3
FILE = Path(__file__).parent / "golden_zmtp.json"
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
SHORT, LONG = b"x" * 255, b"y" * 256

SAID = {
    "ROUTER": [[b"welcome", b'{"a":1}'], [b"", SHORT], [b"forecast", LONG, b""]],
    "REP": [[b"", b"welcome", b'{"a":1}'], [b"", SHORT, LONG]],
    "PUB": [[b"EURUSD/m", b"forecast", b'{"a":1}'], [b"EURUSD/n", LONG]],
}
"""Messages that each socket sends, as they arrive."""

TYPES = {"ROUTER": "DEALER", "REP": "DEALER", "PUB": "SUB"}


def ready(kind):
    text = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind.encode()
    return b"\x04" + bytes([len(text)]) + text


def captured(kind):
    """Everything that a socket of libzmq sends to a peer that asks for its messages, with a PING where it pings."""
    with zmq.Context() as context, context.socket(getattr(zmq, kind)) as sock:
        sock.linger, sock.rcvtimeo, sock.heartbeat_ivl, sock.heartbeat_timeout = 0, 5000, 60, 5000
        port = sock.bind_to_random_port("tcp://127.0.0.1")
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.settimeout(0.2)
            raw.sendall(GREETING)
            stream = b""
            while len(stream) < 64:
                stream += raw.recv(64 - len(stream))
            raw.sendall(ready(TYPES[kind]))
            talk(kind, sock, raw)
            with contextlib.suppress(TimeoutError):
                while b"\x04PING" not in stream or SAID[kind][-1][1] not in stream:
                    stream += raw.recv(65536)
    return stream


def talk(kind, sock, raw):
    """Make a socket send its messages of SAID."""
    if kind == "ROUTER":
        raw.sendall(b"\x00\x02hi")
        identity = sock.recv_multipart()[0]
        for message in SAID[kind]:
            sock.send_multipart([identity, *message])
    elif kind == "REP":
        for message in SAID[kind]:
            raw.sendall(b"\x01\x00\x00\x02hi")
            sock.recv_multipart()
            sock.send_multipart(message[1:])
    else:
        raw.sendall(b"\x00\x07\x01EURUSD")
        time.sleep(0.2)  # a PUB does not tell when a subscription has come,
        sock.getsockopt(zmq.EVENTS)  # and looks for them when it is asked for something
        for message in ([b"USDJPY/m", b"no"], *SAID[kind]):
            sock.send_multipart(message)


@pytest.fixture(scope="module")
def wire():
    return built(SOURCE)


@pytest.mark.parametrize("source", ["golden", "this machine's"])
@pytest.mark.parametrize("kind", SAID)
def test_what_libzmq_says_is_understood_wherever_it_is_cut(wire, tmp_path, kind, source):
    stream = bytes.fromhex(json.loads(FILE.read_text())[kind]) if source == "golden" else captured(kind)
    assert b"\x04PING" in stream
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "s.bin").write_bytes(stream)
    journal = ran(wire, {"InpTest": SPLIT, "InpFile": "s.bin", "InpType": TYPES[kind]}, {"FILES": tmp_path})
    whole, differ = journal.prints
    frames, answers, state, *_ = whole.removeprefix("whole ").split(" ")
    assert [[bytes.fromhex(part) for part in message.split(",")] for message in frames.split(";")[:-1]] == SAID[kind]
    pongs = b"\x04\x05\x04PONG" * stream.count(b"\x04PING")
    assert bytes.fromhex(answers) == GREETING + ready(TYPES[kind]) + pongs
    assert (state, differ) == ("3", f"differ 0 of {len(stream) + 1}")


def test_it_subscribes_to_a_pub_itself_of_libzmq(wire):
    done = threading.Event()

    def work(pub):
        until = time.monotonic() + 8
        while not done.is_set() and time.monotonic() < until:
            for topic in (b"USDJPY/m", b"EURUSD/m"):
                pub.send_multipart([topic, b"forecast", b"{}"])
            time.sleep(0.01)

    with peer(zmq.PUB, work) as port:
        inputs = {"InpTest": TALK, "InpPort": port, "InpCount": 2, "InpType": "SUB"}
        journal = ran(wire, inputs, {"RUN_MS": 8000})
        done.set()
    assert journal.prints[:2] == ["got EURUSD/m|forecast|{}"] * 2


def test_a_router_for_curve_is_left_with_the_reason(wire):
    def work(router):
        assert not router.poll(300), "a peer without keys must not be heard"

    _, secret = zmq.curve_keypair()
    with peer(zmq.ROUTER, work, curve_server=True, curve_secretkey=secret) as port:
        journal = ran(wire, {"InpTest": TALK, "InpPort": port, "InpCount": 1}, {"RUN_MS": 300})
    assert not [said for said in journal.prints if said.startswith("got")]
    assert any("lost" in said for said in journal.prints), journal.prints


if __name__ == "__main__":
    FILE.write_text(json.dumps({kind: captured(kind).hex() for kind in SAID}, indent=1) + "\n")
