import contextlib
import json
import math
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge
from bridge.messages import (
    MAX_BARS,
    MAX_FRAME_BYTES,
    MAX_HORIZON,
    TYPES,
    Bar,
    Bars,
    Error,
    Forecast,
    Heartbeat,
    Hello,
    NeedBars,
    ProtocolError,
    Welcome,
    decode,
    encode,
)

PROTOCOL = Path(bridge.__file__).with_name("PROTOCOL.md").read_text(encoding="utf-8")

stamps = st.integers(0, 4_102_444_800_000)
counts = st.integers(0, 2**53 - 1)
prices = st.floats(1e-12, 1e12)
names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=64)
texts = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=64)
header = {"epoch": counts, "seq": counts, "re": counts, "ts_ms": stamps}


def curve(horizon, values):
    return st.lists(values, min_size=horizon, max_size=horizon).map(tuple)


def bars(length):
    return st.builds(
        Bars,
        **header,
        unique_id=names,
        restart=st.booleans(),
        times_ms=curve(length, stamps),
        closes=curve(length, prices),
    )


def forecasts(horizon):
    return st.builds(
        Forecast,
        **header,
        unique_id=names,
        bar_time_ms=stamps,
        horizon=st.just(horizon),
        close_ref=prices,
        mean=curve(horizon, prices),
        q10=curve(horizon, prices),
        q90=curve(horizon, prices),
        p_up=curve(horizon, st.floats(0, 1)),
        issued_ms=stamps,
        valid_until_ms=stamps,
        model_sha=texts,
        input_sha=texts,
        position=st.floats(-1, 1),
        stop=st.none() | prices,
        take_profit=st.none() | prices,
        size=st.floats(0, 1e9),
        expiry_ms=stamps,
        reason=texts,
    )


messages = st.one_of(
    st.builds(Hello, **header, unique_id=names, client=names),
    st.builds(
        Welcome,
        **header,
        accepted=st.booleans(),
        reason=texts,
        unique_id=names,
        history=st.integers(0, 1_000_000),
        horizon=st.integers(0, MAX_HORIZON),
        heartbeat_ms=st.integers(100, 60_000),
        model_sha=texts,
    ),
    st.integers(1, 8).flatmap(bars),
    st.builds(Bar, **header, unique_id=names, time_ms=stamps, close=prices),
    st.integers(1, 8).flatmap(forecasts),
    st.builds(NeedBars, **header, unique_id=names, have=st.integers(0, 1_000_000), need=st.integers(0, 1_000_000)),
    st.builds(Error, **header, code=st.just("field"), text=texts),
    st.builds(Heartbeat, **header),
)

BAR = {
    "v": 0,
    "type": "bar",
    "epoch": 1,
    "seq": 2,
    "re": 0,
    "ts_ms": 3,
    "unique_id": "X-D1",
    "time_ms": 4,
    "close": 1.5,
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
    long = 0.12345678901234567
    assert (
        len(encode(Bars(unique_id="X" * 64, restart=True, times_ms=(10**12,) * MAX_BARS, closes=(long,) * MAX_BARS))[1])
        < MAX_FRAME_BYTES
    )
    lists = dict.fromkeys(("mean", "q10", "q90", "p_up"), (long,) * MAX_HORIZON)
    stamps = dict.fromkeys(("bar_time_ms", "issued_ms", "valid_until_ms", "expiry_ms"), 10**12)
    rest = {"position": 1.0, "stop": None, "take_profit": None, "size": 1.0, "reason": "é" * 300}
    names = {"unique_id": "é" * 64, "model_sha": "f" * 64, "input_sha": "f" * 64}
    encode(Forecast(horizon=MAX_HORIZON, close_ref=long, **lists, **stamps, **rest, **names))


def test_unknown_fields_are_ignored():
    assert decode(frames(colour="red", tags=[1, 2])) == decode(frames())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"v": 1}, "version"),
        ({"v": ...}, "version"),
        ({"v": False}, "version"),
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
    assert refused([kind, body.replace(b"1.5", b"1e999")]) == "field"


@pytest.mark.parametrize("parts", [[], [b"bar"], [b"", *frames()], [*frames(), b""]])
def test_other_than_two_frames_are_refused(parts):
    assert refused(parts) == "frames"


def test_lists_are_bounded_and_of_one_length():
    def bars(times, closes):
        body = {"v": 0, "type": "bars", "epoch": 1, "seq": 2, "re": 0, "ts_ms": 3, "unique_id": "X-D1", "restart": True}
        return [b"bars", json.dumps(body | {"times_ms": times, "closes": closes}).encode()]

    assert decode(bars([1, 2], [1, 2.5])).closes == (1.0, 2.5)
    for times, closes in (([1, 2], [1.0]), ([], []), ([1] * 1501, [1] * 1501), ([1], [math.pi, None]), ("12", "34")):
        assert refused(bars(times, closes)) == "field"


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
        encode(Bar(unique_id="X-D1", time_ms=1, close=math.nan))


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
