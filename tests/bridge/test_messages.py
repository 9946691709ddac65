import contextlib
import json
import math
import random
import subprocess
import sys
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge
from bridge import messages as wire
from bridge.messages import (
    CURVES,
    MAX_BARS,
    MAX_FRAME_BYTES,
    MAX_HORIZON,
    TYPES,
    Bar,
    Bars,
    Forecast,
    Hello,
    ProtocolError,
    decode,
    encode,
)

PROTOCOL = Path(bridge.__file__).with_name("PROTOCOL.md").read_text(encoding="utf-8")

stamps = st.integers(0, 4_102_444_800_000)
counts = st.integers(0, 2**53 - 1)
prices = st.floats(1e-12, 1e12)
names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=64)
texts = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=64)
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
orderly = st.lists(prices, min_size=3, max_size=3).map(sorted)

BY_TYPE = {
    wire.Counter: counts,
    wire.Stamp: stamps,
    wire.BrokerTime: st.integers(0, 4_102_444_800),
    wire.Seconds: st.integers(1, 604_800),
    wire.Price: prices,
    wire.Level: st.none() | prices,
    wire.Volume: st.floats(0, 1e15),
    wire.Spread: st.floats(-1, 1e9),
    wire.Money: st.floats(-1e15, 1e15),
    wire.Points: st.floats(-1e9, 1e9),
    wire.Held: st.floats(-1e9, 1e9),
    wire.Lots: st.floats(0, 1e9),
    wire.LotRule: st.floats(1e-9, 1e9),
    wire.Units: st.floats(1e-9, 1e12),
    wire.Latency: st.floats(0, 1e9),
    wire.History: st.integers(0, wire.MAX_HISTORY),
    wire.Flag: st.booleans(),
    wire.Name: names,
    wire.Sha: texts,
    wire.Text: texts,
    wire.Hash: hexes,
}
BY_NAME = {
    "versions": st.lists(st.integers(0, 1000), max_size=15).map(lambda some: (*some, wire.VERSION)),
    "digits": st.integers(0, 12),
    "account": st.sampled_from(["hedging", "netting"]),
    "utc_offset_sec": st.integers(-86_400, 86_400),
    "nonce": hexes,
    "proof": hexes,
    "horizon": st.integers(0, MAX_HORIZON),
    "heartbeat_ms": st.integers(100, 60_000),
    "position": st.floats(-1, 1),
    "side": st.sampled_from(["buy", "sell"]),
    "entry": st.sampled_from(["in", "out", "inout"]),
    "code": st.sampled_from([*wire.ACK_CODES, "GUARD:max_spread"]),
}


def listed(length, values):
    return st.lists(values, min_size=length, max_size=length).map(tuple)


def built(cls, **given):
    """Messages of a class with fields within their bounds, those of `given` as told."""
    hints = get_type_hints(cls, include_extras=True)
    asked = {field.name: BY_TYPE.get(hints[field.name], BY_NAME.get(field.name)) for field in fields(cls)}
    return st.builds(cls, **asked | given)


def forecasts(cls, horizon):
    curves = {name: listed(horizon, prices) for name in CURVES} | {"p_up": listed(horizon, st.floats(0, 1))}
    return built(cls, horizon=st.just(horizon), **curves)


def bars(length):
    rest = {"times_ms": stamps, "volumes": st.floats(0, 1e15), "spreads": st.floats(-1, 1e9)}
    columns = {name: listed(length, values) for name, values in rest.items()}
    prices_of = listed(length, orderly)

    def with_prices(message, rows):
        lows, closes, highs = zip(*rows, strict=True)
        return replace(message, opens=lows, highs=highs, lows=lows, closes=closes)

    none = dict.fromkeys(("opens", "highs", "lows", "closes"), st.just(()))
    return st.builds(with_prices, built(Bars, **none, **columns), prices_of)


def one_bar(message, prices):
    low, close, high = prices
    return replace(message, open=low, high=high, low=low, close=close)


SPECIAL = {
    "bars": st.integers(1, 3).flatmap(bars),
    "bar": st.builds(one_bar, built(Bar), orderly),
    "forecast": st.integers(1, 3).flatmap(lambda horizon: forecasts(Forecast, horizon)),
    "snapshot": st.integers(1, 3).flatmap(lambda horizon: forecasts(wire.Snapshot, horizon)),
}
messages = st.one_of([SPECIAL[name] if name in SPECIAL else built(cls) for name, cls in TYPES.items()])

BAR = {
    "v": 1,
    "type": "bar",
    "epoch": 1,
    "seq": 2,
    "re": 0,
    "ts_ms": 3,
    "unique_id": "X-D1",
    "prev_ms": 0,
    "time_ms": 4,
    "open": 1.25,
    "high": 1.5,
    "low": 1,
    "close": 1.5,
    "volume": 0,
    "spread": -1,
    "broker_time": 0,
    "equity": 1000,
    "balance": 1000,
    "position": -0.1,
    "conversion": 1,
}


def frames(**changes):
    values = BAR | changes
    return [b"bar", json.dumps({key: value for key, value in values.items() if value is not ...}).encode()]


def refused(parts):
    with pytest.raises(ProtocolError) as caught:
        decode(parts)
    return caught.value.code


@given(messages)
def test_what_is_encoded_decodes_to_the_same(message):
    parts = encode(message)
    assert decode(parts) == message
    assert parts[0] == message.TYPE.encode("ascii")


@given(messages)
def test_floats_arrive_bit_for_bit(message):
    again = decode(encode(message))
    for field in fields(message):
        assert repr(getattr(again, field.name)) == repr(getattr(message, field.name))


def test_the_longest_lists_fit_a_frame():
    long = 1.2345678901234567e-05
    name = {"unique_id": "é" * 64}
    prices = dict.fromkeys(("opens", "highs", "lows", "closes", "volumes"), (long,) * MAX_BARS)
    rest = {"spreads": (0.12345678901234567,) * MAX_BARS, "equity": -long, "balance": long, "conversion": 1.0}
    encode(Bars(restart=False, times_ms=(10**12,) * MAX_BARS, **prices, **rest, **name))
    lists = dict.fromkeys(CURVES, (long,) * MAX_HORIZON)
    stamps = dict.fromkeys(("bar_time_ms", "issued_ms", "valid_until_ms", "expiry_ms"), 10**12)
    more = {"broker_time": 10**9, "tf_sec": 60, "model_id": "é" * 300, "resize": False, "trailing": long}
    rest = {"position": 1.0, "stop": None, "take_profit": None, "lots": 1.0, "reason": "é" * 300, "close_ref": long}
    encode(
        Forecast(horizon=MAX_HORIZON, model_sha="f" * 64, input_sha="f" * 64, **lists, **stamps, **more, **rest, **name)
    )


def test_unknown_fields_are_ignored():
    assert decode(frames(colour="red", tags=[1, 2])) == decode(frames())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"v": 0}, "version"),
        ({"v": 1.0}, "version"),
        ({"v": ...}, "version"),
        ({"v": True}, "version"),
        ({"type": "bars"}, "type"),
        ({"type": ["bar"]}, "type"),
        ({"close": ...}, "field"),
        ({"close": "1.5"}, "field"),
        ({"close": True}, "field"),
        ({"close": None}, "field"),
        ({"close": [1.5]}, "field"),
        ({"close": 0}, "field"),
        ({"close": -1.5}, "field"),
        ({"close": 10**400}, "field"),
        ({"close": 1.5000001}, "field"),
        ({"open": 0.9}, "field"),
        ({"high": 0.5}, "field"),
        ({"spread": -1.5}, "field"),
        ({"conversion": 0}, "field"),
        ({"time_ms": 4.0}, "field"),
        ({"time_ms": -1}, "field"),
        ({"time_ms": 2**60}, "field"),
        ({"seq": True}, "field"),
        ({"unique_id": ""}, "field"),
        ({"unique_id": "x" * 65}, "field"),
        ({"unique_id": "a\nb"}, "field"),
        ({"unique_id": "\ud800"}, "field"),
        ({"close": float("nan")}, "json"),
        ({"close": float("inf")}, "json"),
        ({"more": {}}, "json"),
        ({"more": [[1]]}, "json"),
    ],
)
def test_a_field_that_is_wrong_is_refused(changes, code):
    assert refused(frames(**changes)) == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "json"),
        (b"[]", "json"),
        (b"null", "json"),
        (b'{"v":0', "json"),
        (b"{}{}", "json"),
        (b'"{"', "json"),
        (b"[" * 60_000, "json"),
        (b'{"a":' * 13_000, "json"),
        (b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "json"),
        (b'{"' + b'\\"' * 32_000, "json"),
        (b'{"a":"' + b"\\" * 60_001 + b"}", "json"),
        (b'{"a":1,"a":2}', "json"),
        (b'{"a":-Infinity}', "json"),
        (b'{"a":' + b"9" * 5_000 + b"}", "json"),
        (b'{"a":"\xff"}', "utf8"),
        (b" " * MAX_FRAME_BYTES + b"{}", "size"),
        (b"{}", "version"),
    ],
)
def test_a_hostile_body_is_refused(body, code):
    assert refused([b"bar", body]) == code


def test_numbers_that_overflow_to_infinity_are_refused():
    kind, body = frames()
    assert refused([kind, body.replace(b'"close": 1.5', b'"close": 1e999')]) == "field"


@pytest.mark.parametrize("parts", [[], [b"bar"], [b"", *frames()], [*frames(), b""]])
def test_other_than_two_frames_are_refused(parts):
    assert refused(parts) == "frames"


def test_lists_are_bounded_and_of_one_length():
    example = next(json.loads(line) for line in PROTOCOL.splitlines() if '"type":"bars"' in line)

    def bars(times, closes):
        lists = {name: [1.0] * len(times) for name in ("opens", "lows", "volumes", "spreads")}
        body = example | lists | {"highs": [5.0] * len(times), "times_ms": times, "closes": closes}
        return [b"bars", json.dumps(body).encode()]

    assert decode(bars([1, 2], [1, 2.5])).closes == (1.0, 2.5)
    too_many = [1] * (MAX_BARS + 1)
    for times, closes in (([1, 2], [1.0]), ([], []), (too_many, too_many), ([1], [None]), ([1], [6.0]), ("12", "34")):
        assert refused(bars(times, closes)) == "field"


def test_hello_offers_versions_and_the_one_spoken_here_is_taken():
    example = next(json.loads(line) for line in PROTOCOL.splitlines() if '"type":"hello"' in line)

    def hello(**changes):
        values = {key: value for key, value in (example | changes).items() if value is not ...}
        return [b"hello", json.dumps(values).encode()]

    assert isinstance(decode(hello(v=3, versions=[1, 2, 3])), Hello)
    for strange in ({"versions": [0, 2]}, {"versions": ...}, {"versions": 1}, {"versions": [True]}):
        assert refused(hello(**strange)) == "version"


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_frames_raise_nothing_but_protocol_errors(parts):
    with contextlib.suppress(ProtocolError):
        decode(parts)


@given(messages, st.data())
def test_a_truncated_or_flipped_body_raises_nothing_but_protocol_errors(message, data):
    kind, body = encode(message)
    at = data.draw(st.integers(0, len(body) - 1))
    flipped = body[:at] + bytes([data.draw(st.integers(0, 255))]) + body[at + 1 :]
    assert refused([kind, body[:at]]) in ("json", "utf8")
    with contextlib.suppress(ProtocolError):
        decode([kind, flipped])


def test_a_message_that_breaks_the_protocol_is_never_sent():
    with pytest.raises(ProtocolError, match=r"bar\.close"):
        encode(Bar(unique_id="X-D1", time_ms=1, open=1.0, high=1.0, low=1.0, close=math.nan, equity=1.0, balance=1.0))


EXAMPLES = [line.encode() for line in PROTOCOL.splitlines() if line.startswith('{"v":')]
NASTY = (
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"[" * 40,
    b"{}",
    b'"',
    b"\\",
    b"\xff\xfe",
    b"null",
    b"9" * 400,
    b"\x00",
    b"-0.0",
)


def mangled(body, draw):
    """A body cut, spliced, flipped or given something nasty in random places."""
    for _ in range(draw.randint(1, 3)):
        at, to = sorted((draw.randrange(len(body) + 1), draw.randrange(len(body) + 1)))
        other = draw.choice(EXAMPLES)
        body = draw.choice(
            (
                lambda at=at, to=to, body=body: body[:at] + body[to:],
                lambda at=at, body=body: body[:at] + bytes([draw.randrange(256)]) + body[at + 1 :],
                lambda at=at, body=body: body[:at] + draw.choice(NASTY) + body[at:],
                lambda at=at, to=to, body=body, other=other: body[:at] + other[at:to] + body[at:],
            )
        )()
    return body[: 2 * MAX_FRAME_BYTES]


def fuzz(count, seed):
    """How many of so many mangled messages were taken; a code of the document for every other."""
    draw, taken, codes = random.Random(seed), 0, set()
    for _ in range(count):
        body = mangled(draw.choice(EXAMPLES), draw) if draw.random() < 0.95 else draw.randbytes(draw.randrange(200))
        kind = draw.choice(list(TYPES)).encode() if draw.random() < 0.3 else json_type(body)
        try:
            message = decode([kind, body])
        except ProtocolError as error:
            codes.add(error.code)
            assert len(error.text) <= 300, error.text
        else:
            taken += 1
            assert decode(encode(message)) == message
    return taken, codes


def json_type(body):
    return body.partition(b'"type":"')[2].partition(b'"')[0]


def test_mangled_messages_are_refused_with_a_code_or_mean_what_they_say():
    taken, codes = fuzz(4_000, seed=7)
    assert taken > 0
    assert codes == {"json", "utf8", "version", "type", "field"}


@pytest.mark.slow
def test_a_million_mangled_messages_neither_crash_nor_leak():
    fuzz(20_000, seed=8)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for seed in range(50):
        fuzz(20_000, seed)
    assert tracemalloc.get_traced_memory()[0] - before < 1_000_000


def test_every_example_of_the_document_decodes_and_every_message_has_one():
    examples = [json.loads(line) for line in PROTOCOL.splitlines() if line.startswith('{"v":')]
    assert {example["type"] for example in examples} == set(TYPES)
    for example in examples:
        message = decode([example["type"].encode(), json.dumps(example).encode()])
        assert json.loads(encode(message)[1]) == example


def test_the_document_names_every_field():
    for cls in TYPES.values():
        for field in fields(cls):
            assert f"`{field.name}`" in PROTOCOL, (cls.TYPE, field.name)


def test_importing_messages_loads_nothing_heavy():
    heavy = ("torch", "backtrader", "zmq", "pandas", "numpy", "forecasting", "strategies")
    code = f"import sys, bridge.messages; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
