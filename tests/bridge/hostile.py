"""Seeds and nasty pieces that the fuzzers of both sides share, and the mutator of the Python side."""

import random
import struct
from pathlib import Path

PROTOCOL = (Path(__file__).parents[2] / "bridge" / "PROTOCOL.md").read_text(encoding="utf-8")
EXAMPLES = [line.encode() for line in PROTOCOL.splitlines() if line.startswith('{"v":')]
NASTY = (
    b"NaN", b"-Infinity", b"1e999", b"-1e-999", b"1e+99999999999999999999", b"[" * 40, b"[[1]]", b"{}", b'{"a":{}}',
    b'"', b"\\", b"\\u0000", b"\\ud800", b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"null", b"9" * 400, b"0" * 50,
    b"\x00",
    b"-0.0", b"-", b"1.", b".5", b"0x10", b'"seq":1,', b'"type":"bar",', b"\xef\xbb\xbf", b"18446744073709551616",
    b"true",
)  # fmt: skip
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
PING = b"\x04\x0d\x04PING\x00\x0acontex"
FRAGMENTS = (
    b"\x02" + struct.pack(">Q", 2**63), b"\x02" + struct.pack(">Q", 2**31 - 1), b"\x03" + struct.pack(">Q", 65_537),
    b"\x02" + bytes(8), b"\x01\x00" * 9, b"\x00\x00" * 300, b"\xff" * 20, b"\x04\x00", b"\x06" + struct.pack(">Q", 300),
    b"\x08\x00", b"\x05\x00", b"\x04\x05\x04PING", b"\x04\x06\x05ERROR", b"\x04\x0a\x09SUBSCRIBE", READY, GREETING,
    PING, b"\x04\x0f\x05READY\x05Hello\xff\xff\xff\xff",
)  # fmt: skip


def framed(*parts):
    """A message on the wire."""
    out = b""
    for at, part in enumerate(parts):
        more = at < len(parts) - 1
        out += bytes([more, len(part)]) if len(part) < 256 else bytes([2 | more]) + struct.pack(">Q", len(part))
        out += part
    return out


def kind_of(body):
    """What the body says its type is."""
    return body.partition(b'"type":"')[2].partition(b'"')[0]


def message(body):
    """A body as a peer sends it."""
    return framed(kind_of(body)[:64], body)


def streams():
    """What a ROUTER of libzmq says to a DEALER: greeting, READY, messages and PINGs in several mixtures."""
    start = GREETING + READY.replace(b"DEALER", b"ROUTER")
    talk = [message(body) for body in EXAMPLES]
    return [start, start + PING * 3, *(start + talk[i] + PING + talk[-1 - i] for i in range(len(talk))), GREETING]


def mutated(seed, others, nasty, draw):
    """A seed cut, flipped, spliced, repeated, truncated or made nasty, up to three times; or random bytes."""
    if draw.random() < 0.05:
        return draw.randbytes(draw.randrange(300))
    for _ in range(draw.randrange(4)):
        size = len(seed)
        at = draw.randrange(size + 1)
        to = draw.randrange(at, size + 1)
        kind = draw.randrange(6)
        if kind == 0:
            seed = seed[:at] + seed[to:]
        elif kind == 1:
            seed = seed[:at] + bytes([draw.randrange(256)]) + seed[at + 1 :]
        elif kind == 2:
            seed = seed[:at] + draw.choice(nasty) + seed[at:]
        elif kind == 3:
            other = draw.choice(others)
            start = draw.randrange(len(other) + 1)
            seed = seed[:at] + other[start : start + draw.randrange(len(other) + 1)] + seed[at:]
        elif kind == 4:
            times = 1 + 100_000 // (to - at + 1) if draw.randrange(500) == 0 else draw.randrange(1, 20)
            seed = seed[:at] + seed[at:to] * times + seed[to:]
        else:
            seed = seed[:at]
    return seed[:200_000]


def bodies(count, seed):
    """So many mutated messages; the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(count):
        yield mutated(draw.choice(EXAMPLES), EXAMPLES, NASTY, draw)
