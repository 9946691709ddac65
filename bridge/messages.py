"""The messages of PROTOCOL.md as frozen dataclasses, and the two frames each travels in.

Everything a peer sends is hostile until checked: size and depth are bounded before the JSON parser sees a byte, and
every field has a type and a range. The price of strictness is that a peer must send integers as integers and never NaN;
what it buys is that the service trusts a decoded message without looking again. Floats travel in their shortest exact
decimal form, so a forecast arrives bit for bit. This module imports the standard library only.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, get_type_hints

VERSION = 1
MAX_FRAME_BYTES = 65_536
MAX_BARS = 400
MAX_HORIZON = 256
MAX_HISTORY = 1_000_000

Check = Callable[[Any], Any]
"""Gives the value in its Python type, or raises ValueError with the reason it is refused."""


class ProtocolError(ValueError):
    """A message that breaks the protocol; `code` is one of PROTOCOL.md, section Errors."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class _Range(NamedTuple):
    """Numbers of one type from `low` to `high`, as data: what is so already needs no call to be seen to be."""

    kind: type[int] | type[float]
    low: float
    high: float

    def __call__(self, value: Any) -> float:
        """As every `Check`."""
        # NaN compares false; an integer is compared before float() could overflow.
        whole = type(value) is int and self.low <= value <= self.high
        if self.kind is int:
            if not whole:
                raise ValueError(f"must be a whole number from {self.low} to {self.high}")
            return int(value)
        if not whole and (not isinstance(value, float) or not self.low <= value <= self.high):
            raise ValueError(f"must be a number from {self.low:g} to {self.high:g}")
        return float(value)


def _integer(low: int, high: int) -> _Range:
    return _Range(int, low, high)


def _number(low: float, high: float) -> _Range:
    return _Range(float, low, high)


def _text(least: int, most: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most or not value.isprintable():
            raise ValueError(f"must be {least} to {most} printable characters")
        return value

    return check


def _pattern(pattern: str, words: str) -> Check:
    expression = re.compile(pattern)

    def check(value: Any) -> str:
        if not isinstance(value, str) or not expression.fullmatch(value):
            raise ValueError(f"must be {words}")
        return value

    return check


def _choice(*known: str) -> Check:
    return _pattern("|".join(known), " or ".join(known))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _optional(item: Check) -> Check:
    return lambda value: None if value is None else item(value)


def _listing(item: Check, most: int) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= most:
            raise ValueError(f"must be a list of 1 to {most} values")
        return tuple(item(entry) for entry in value)

    return check


_price = _number(1e-12, 1e12)
_stamp = _integer(0, 4_102_444_800_000)
_volume = _number(0, 1e15)
_spread = _number(-1, 1e9)

Counter = Annotated[int, _integer(0, 2**53 - 1)]
Stamp = Annotated[int, _stamp]
Stamps = Annotated[tuple[int, ...], _listing(_stamp, MAX_BARS)]
BrokerTime = Annotated[int, _integer(0, 4_102_444_800)]
Seconds = Annotated[int, _integer(1, 604_800)]
Price = Annotated[float, _price]
Level = Annotated[float | None, _optional(_price)]
Prices = Annotated[tuple[float, ...], _listing(_price, MAX_BARS)]
Volume = Annotated[float, _volume]
Volumes = Annotated[tuple[float, ...], _listing(_volume, MAX_BARS)]
Spread = Annotated[float, _spread]
Spreads = Annotated[tuple[float, ...], _listing(_spread, MAX_BARS)]
Money = Annotated[float, _number(-1e15, 1e15)]
Points = Annotated[float, _number(-1e9, 1e9)]
Lots = Annotated[float, _number(0, 1e9)]
Held = Annotated[float, _number(-1e9, 1e9)]
LotRule = Annotated[float, _number(1e-9, 1e9)]
Units = Annotated[float, _number(1e-9, 1e12)]
Latency = Annotated[float, _number(0, 1e9)]
Curve = Annotated[tuple[float, ...], _listing(_price, MAX_HORIZON)]
Chances = Annotated[tuple[float, ...], _listing(_number(0, 1), MAX_HORIZON)]
Steps = Annotated[int, _integer(1, MAX_HORIZON)]
History = Annotated[int, _integer(0, MAX_HISTORY)]
Flag = Annotated[bool, _flag]
Name = Annotated[str, _text(1, 64)]
Sha = Annotated[str, _text(0, 64)]
Text = Annotated[str, _text(0, 300)]
Hash = Annotated[str, _pattern("[0-9a-f]{64}", "64 hex digits")]

ACK_CODES = ("TAKEN", "NOOP", "STALE", "DUP", "GAP", "FAILED")
"""What became of a forecast, beside `GUARD:<rule>`."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """Fields of every message: the sender's stamp. `re` is the seq of the message this one answers, 0 for none."""

    TYPE: ClassVar[str] = ""
    epoch: Counter = 0
    seq: Counter = 0
    re: Counter = 0
    ts_ms: Stamp = 0

    def contradiction(self) -> str:
        """What the fields, each valid by itself, contradict in each other; empty for nothing."""
        return ""


Sent = TypeVar("Sent", bound=Message)


@dataclass(frozen=True, kw_only=True)
class Hello(Message):
    """C: opens a session for one series."""

    TYPE: ClassVar[str] = "hello"
    versions: Annotated[tuple[int, ...], _listing(_integer(0, 1000), 16)] = (VERSION,)
    unique_id: Name
    model: Text = ""
    client: Name
    symbol: Name
    feed: Text = ""
    tf_sec: Seconds
    digits: Annotated[int, _integer(0, 12)]
    point: Price
    lot_units: Units = 100_000.0
    lot_min: LotRule = 0.01
    lot_step: LotRule = 0.01
    lot_max: LotRule = 100.0
    account: Annotated[str, _choice("hedging", "netting")] = "netting"
    currency: Text = ""
    is_demo: Flag = True
    magic: Counter = 0
    utc_offset_sec: Annotated[int, _integer(-86_400, 86_400)] = 0
    last_epoch: Counter = 0
    last_seq: Counter = 0
    nonce: Annotated[str, _pattern("[0-9a-f]{0,64}", "at most 64 hex digits")] = ""


@dataclass(frozen=True, kw_only=True)
class Challenge(Message):
    """S: prove that you know the secret."""

    TYPE: ClassVar[str] = "challenge"
    nonce: Annotated[str, _pattern("[0-9a-f]{16,64}", "16 to 64 hex digits")]


@dataclass(frozen=True, kw_only=True)
class Proof(Message):
    """C: the proof."""

    TYPE: ClassVar[str] = "proof"
    proof: Hash


@dataclass(frozen=True, kw_only=True)
class Welcome(Message):
    """S: accepts a session, or says why not."""

    TYPE: ClassVar[str] = "welcome"
    accepted: Flag
    reason: Text
    unique_id: Name
    model_id: Text
    model_sha: Sha
    history: History
    horizon: Annotated[int, _integer(0, MAX_HORIZON)]
    from_ms: Stamp
    heartbeat_ms: Annotated[int, _integer(100, 60_000)]
    proof: Annotated[str, _pattern("|[0-9a-f]{64}", "empty or 64 hex digits")] = ""


@dataclass(frozen=True, kw_only=True)
class State(Message):
    """What C knows of its account when it sends bars; equity NaN has no place on the wire."""

    broker_time: BrokerTime = 0
    equity: Money
    balance: Money
    position: Held = 0.0
    conversion: Price = 1.0


@dataclass(frozen=True, kw_only=True)
class Bars(State):
    """C: closed bars in columns, oldest first; `restart` makes the server forget those it holds."""

    TYPE: ClassVar[str] = "bars"
    unique_id: Name
    restart: Flag
    more: Flag = False
    prev_ms: Stamp = 0
    times_ms: Stamps
    opens: Prices
    highs: Prices
    lows: Prices
    closes: Prices
    volumes: Volumes
    spreads: Spreads

    def contradiction(self) -> str:
        """Lists of two lengths, prices beyond high and low; times out of order are the service's to name."""
        names = ("opens", "highs", "lows", "closes", "volumes", "spreads")
        short = [name for name in names if len(getattr(self, name)) != len(self.times_ms)]
        if short:
            return f"times_ms and {short[0]} differ in length"
        rows = zip(self.opens, self.highs, self.lows, self.closes, strict=True)
        wrong = next((row for row, prices in enumerate(rows) if not _orderly(*prices)), None)
        return "" if wrong is None else f"bar {self.times_ms[wrong]} has an open or close beyond its high or low"


@dataclass(frozen=True, kw_only=True)
class Bar(State):
    """C: the bar that has just closed."""

    TYPE: ClassVar[str] = "bar"
    unique_id: Name
    prev_ms: Stamp = 0
    time_ms: Stamp
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Volume = 0.0
    spread: Spread = -1.0

    def contradiction(self) -> str:
        """Prices beyond high and low."""
        orderly = _orderly(self.open, self.high, self.low, self.close)
        return "" if orderly else "open or close lies beyond high or low"


def _orderly(opened: float, high: float, low: float, close: float) -> bool:
    return low <= opened <= high and low <= close <= high


@dataclass(frozen=True, kw_only=True)
class Forecast(Message):
    """S: what is believed after a bar, and the target that the backtest's own signal function makes of it."""

    TYPE: ClassVar[str] = "forecast"
    unique_id: Name
    model_id: Text
    model_sha: Sha
    input_sha: Sha
    bar_time_ms: Stamp
    broker_time: BrokerTime
    tf_sec: Seconds
    close_ref: Price
    issued_ms: Stamp
    valid_until_ms: Stamp
    position: Annotated[float, _number(-1, 1)]
    lots: Lots
    stop: Level
    take_profit: Level
    trailing: Level
    resize: Flag
    expiry_ms: Stamp
    reason: Text
    horizon: Steps
    mean: Curve
    q05: Curve
    q10: Curve
    q25: Curve
    q50: Curve
    q75: Curve
    q90: Curve
    q95: Curve
    p_up: Chances

    def contradiction(self) -> str:
        """A list that is not `horizon` long."""
        short = [name for name in CURVES if len(getattr(self, name)) != self.horizon]
        return f"{short[0]} does not have {self.horizon} values" if short else ""


@dataclass(frozen=True, kw_only=True)
class Snapshot(Forecast):
    """S: the newest forecast again."""

    TYPE: ClassVar[str] = "snapshot"


QUANTILES = ("q05", "q10", "q25", "q50", "q75", "q90", "q95")
CURVES = ("mean", *QUANTILES, "p_up")


@dataclass(frozen=True, kw_only=True)
class NeedBars(Message):
    """S: no forecast yet, `have` bars of the `need` are held."""

    TYPE: ClassVar[str] = "need_bars"
    unique_id: Name
    have: History
    need: History


@dataclass(frozen=True, kw_only=True)
class Resync(Message):
    """C: the newest forecast, please."""

    TYPE: ClassVar[str] = "resync"


@dataclass(frozen=True, kw_only=True)
class Ack(Message):
    """C: what became of the forecast named by `re`."""

    TYPE: ClassVar[str] = "ack"
    unique_id: Name
    bar_time_ms: Stamp
    code: Annotated[str, _pattern("|".join((*ACK_CODES, "GUARD:[a-z0-9_]{1,32}")), "a code of an ack")]
    text: Text = ""
    dry_run: Flag
    latency_ms: Latency = 0.0


@dataclass(frozen=True, kw_only=True)
class Exec(Message):
    """C: a fill, one deal of the account."""

    TYPE: ClassVar[str] = "exec"
    unique_id: Name
    bar_time_ms: Stamp
    deal: Counter
    order: Counter
    ticket: Counter
    side: Annotated[str, _choice("buy", "sell")]
    entry: Annotated[str, _choice("in", "out", "inout")]
    lots: Lots
    price: Price
    requested: Level
    slippage: Points
    commission: Money
    swap: Money
    profit: Money
    time_ms: Stamp
    latency_ms: Latency
    reason: Text
    dry_run: Flag


@dataclass(frozen=True, kw_only=True)
class Ok(Message):
    """S: an ack or exec is in the journal."""

    TYPE: ClassVar[str] = "ok"


@dataclass(frozen=True, kw_only=True)
class Error(Message):
    """S: a message was refused."""

    TYPE: ClassVar[str] = "error"
    code: Annotated[str, _text(1, 16)]
    text: Text


@dataclass(frozen=True, kw_only=True)
class Heartbeat(Message):
    """Both: alive; the server answers each at once."""

    TYPE: ClassVar[str] = "hb"


_CLASSES: tuple[type[Message], ...] = (
    Hello, Challenge, Proof, Welcome, Bars, Bar, Forecast, Snapshot, NeedBars, Resync, Ack, Exec, Ok, Error, Heartbeat,
)  # fmt: skip
TYPES: dict[str, type[Message]] = {cls.TYPE: cls for cls in _CLASSES}
"""The dictionary of messages, by the ASCII type of the first frame."""

_NONE = _Range(float, 0.0, -1.0)


def _checks(cls: type[Message]) -> Iterator[tuple[str, type[Any], float, float, Check]]:
    """Of each field: its name, type and bounds of values that are good as they are, and who looks at all others."""
    hints = get_type_hints(cls, include_extras=True)
    for field in fields(cls):
        check = hints[field.name].__metadata__[0]
        kind, low, high = check if isinstance(check, _Range) else _NONE
        yield field.name, kind, low, high, check


_CHECKS = {cls.TYPE: tuple(_checks(cls)) for cls in _CLASSES}
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"\{(?:\[\])*\}")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def stamped(message: Sent, **stamp: int) -> Sent:
    """The message with a sender's stamp: what `dataclasses.replace` gives, in a fifth of the time."""
    copy = object.__new__(type(message))
    vars(copy).update(vars(message), **stamp)
    return copy


def encode(message: Message) -> list[bytes]:
    """The two frames of a message; ProtocolError where it does not keep the protocol itself."""
    values = vars(message)
    _checked(message.TYPE, values)
    _consistent(message)
    body = "".join(_ENCODER({"v": VERSION, "type": message.TYPE} | values, 0)).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError("size", f"{message.TYPE} takes {len(body)} bytes, the most is {MAX_FRAME_BYTES}")
    return [message.TYPE.encode("ascii"), body]


def decode(frames: Sequence[bytes]) -> Message:
    """The message in two frames; ProtocolError says what is wrong with it."""
    if len(frames) != 2:
        raise ProtocolError("frames", f"{len(frames)} frames came where a message has 2, type and body")
    kind, body = frames
    if len(body) > MAX_FRAME_BYTES or len(kind) > MAX_FRAME_BYTES:
        raise ProtocolError("size", f"a frame has at most {MAX_FRAME_BYTES} bytes")
    if not _flat(body):
        raise ProtocolError("json", "the body must be one flat JSON object: values and lists of values, nothing deeper")
    values = _parse(body)
    _check_version(kind, values)
    name = values.get("type")
    if not isinstance(name, str) or name not in TYPES or name.encode() != kind:
        raise ProtocolError("type", f"type must be one of {', '.join(TYPES)}, the same in both frames")
    return _build(name, values)


def _flat(body: bytes) -> bool:
    """Whether no value is deeper than a list: one look for what has no brackets at all, else without its strings."""
    if body.count(b"{") == 1 and b"[" not in body:
        return True
    return _BRACKETS.fullmatch(_STRING.sub(b"", body).translate(None, _NOT_BRACKETS)) is not None


def _check_version(kind: bytes, values: dict[str, Any]) -> None:
    """A hello offers versions; every other message is in the one agreed on, of which there is one so far."""
    if kind != b"hello" and type(values.get("v")) is int and values["v"] == VERSION:
        return
    offered = values.get("versions") if kind == b"hello" else ()
    if not isinstance(offered, list) or not any(type(version) is int and version == VERSION for version in offered):
        where = "hello.versions" if kind == b"hello" else "v"
        raise ProtocolError("version", f"{where} must name a version spoken here: {VERSION}")


def _parse(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode("utf-8")
        # Not `decode` at once, whose search for blanks at both ends takes longer than the rest of it.
        values, end = _DECODER.raw_decode(text) if text[:1] == "{" else (None, 0)
        if end != len(text):
            values = _DECODER.decode(text)
    except UnicodeDecodeError:
        raise ProtocolError("utf8", "the body is not UTF-8") from None
    except ValueError as error:
        raise ProtocolError("json", f"the body is not JSON: {str(error)[:200]}") from None
    if not isinstance(values, dict):  # a string that holds a brace
        raise ProtocolError("json", "the body must be one flat JSON object")
    return values


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two peers that take different ones of two equal keys would trade on different numbers."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice")
    return values


_DECODER = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_distinct)
# json.JSONEncoder would make itself this very encoder for each message, which takes as long as using it.
_ENCODER = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, None, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False
)


def _build(kind: str, values: dict[str, Any]) -> Message:
    """Check known fields and drop unknown ones."""
    message = object.__new__(TYPES[kind])
    # What __init__ would do, without the detour of a frozen record that takes as long as all checks.
    vars(message).update(_checked(kind, values))
    return _consistent(message)


def _checked(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    checked = {}
    name = ""
    try:
        for name, plain, low, high, check in _CHECKS[kind]:
            value = values[name]
            checked[name] = value if type(value) is plain and low <= value <= high else check(value)
    except KeyError:
        raise ProtocolError("field", f"{kind} lacks {name}") from None
    except ValueError as error:
        raise ProtocolError("field", f"{kind}.{name} {error}") from None
    return checked


def _consistent(message: Message) -> Message:
    if contradiction := message.contradiction():
        raise ProtocolError("field", f"{message.TYPE}: {contradiction}")
    return message
