"""The messages of PROTOCOL.md as frozen dataclasses, and the two frames each travels in.

Everything a peer sends is hostile until checked: size and depth are bounded before the JSON parser sees a byte, and
every field has a type and a range. The price of strictness is that a peer must send integers as integers and never NaN;
what it buys is that the service trusts a decoded message without looking again. Floats travel in their shortest exact
decimal form, so a forecast arrives bit for bit. This module imports the standard library only.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, get_type_hints

VERSION = 0
MAX_FRAME_BYTES = 65_536
MAX_BARS = 1_500
MAX_HORIZON = 512
MAX_HISTORY = 1_000_000

Check = Callable[[Any], Any]
"""Gives the value in its Python type, or raises ValueError with the reason it is refused."""


class ProtocolError(ValueError):
    """A message that breaks the protocol; `code` is one of PROTOCOL.md, section Errors."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return check


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> float:
        # NaN compares false; an integer is compared before float() could overflow.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return check


def _text(least: int, most: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most or not value.isprintable():
            raise ValueError(f"must be {least} to {most} printable characters")
        return value

    return check


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
_count = _integer(0, 2**53 - 1)

Counter = Annotated[int, _count]
Stamp = Annotated[int, _stamp]
Stamps = Annotated[tuple[int, ...], _listing(_stamp, MAX_BARS)]
Price = Annotated[float, _price]
Level = Annotated[float | None, _optional(_price)]
Prices = Annotated[tuple[float, ...], _listing(_price, MAX_BARS)]
Curve = Annotated[tuple[float, ...], _listing(_price, MAX_HORIZON)]
Chances = Annotated[tuple[float, ...], _listing(_number(0, 1), MAX_HORIZON)]
Steps = Annotated[int, _integer(1, MAX_HORIZON)]
History = Annotated[int, _integer(0, MAX_HISTORY)]
Flag = Annotated[bool, _flag]
Name = Annotated[str, _text(1, 64)]
Sha = Annotated[str, _text(0, 64)]
Text = Annotated[str, _text(0, 300)]


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


@dataclass(frozen=True, kw_only=True)
class Hello(Message):
    """C: opens a session for one series."""

    TYPE: ClassVar[str] = "hello"
    unique_id: Name
    client: Name


@dataclass(frozen=True, kw_only=True)
class Welcome(Message):
    """S: accepts it, or says why not."""

    TYPE: ClassVar[str] = "welcome"
    accepted: Flag
    reason: Text
    unique_id: Name
    history: History
    horizon: Annotated[int, _integer(0, MAX_HORIZON)]
    heartbeat_ms: Annotated[int, _integer(100, 60_000)]
    model_sha: Sha


@dataclass(frozen=True, kw_only=True)
class Bars(Message):
    """C: closed bars, oldest first; `restart` makes the server forget those it holds."""

    TYPE: ClassVar[str] = "bars"
    unique_id: Name
    restart: Flag
    times_ms: Stamps
    closes: Prices

    def contradiction(self) -> str:
        """Lists of two lengths; times out of order are the service's to name."""
        return "" if len(self.times_ms) == len(self.closes) else "times_ms and closes differ in length"


@dataclass(frozen=True, kw_only=True)
class Bar(Message):
    """C: the bar that has just closed."""

    TYPE: ClassVar[str] = "bar"
    unique_id: Name
    time_ms: Stamp
    close: Price


@dataclass(frozen=True, kw_only=True)
class Forecast(Message):
    """S: what is believed after a bar, and the target that the backtest's own signal function makes of it."""

    TYPE: ClassVar[str] = "forecast"
    unique_id: Name
    bar_time_ms: Stamp
    horizon: Steps
    close_ref: Price
    mean: Curve
    q10: Curve
    q90: Curve
    p_up: Chances
    issued_ms: Stamp
    valid_until_ms: Stamp
    model_sha: Sha
    input_sha: Sha
    position: Annotated[float, _number(-1, 1)]
    stop: Level
    take_profit: Level
    size: Annotated[float, _number(0, 1e9)]
    expiry_ms: Stamp
    reason: Text

    def contradiction(self) -> str:
        """A list that is not `horizon` long."""
        short = [name for name in ("mean", "q10", "q90", "p_up") if len(getattr(self, name)) != self.horizon]
        return f"{short[0]} does not have {self.horizon} values" if short else ""


@dataclass(frozen=True, kw_only=True)
class NeedBars(Message):
    """S: no forecast yet, `have` bars of the `need` are held."""

    TYPE: ClassVar[str] = "need_bars"
    unique_id: Name
    have: History
    need: History


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


_CLASSES: tuple[type[Message], ...] = (Hello, Welcome, Bars, Bar, Forecast, NeedBars, Error, Heartbeat)
TYPES: dict[str, type[Message]] = {cls.TYPE: cls for cls in _CLASSES}
"""The dictionary of messages, by the ASCII type of the first frame."""

_CHECKS: dict[str, dict[str, Check]] = {
    cls.TYPE: {
        field.name: get_type_hints(cls, include_extras=True)[field.name].__metadata__[0] for field in fields(cls)
    }
    for cls in _CLASSES
}
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"\{(?:\[\])*\}")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def encode(message: Message) -> list[bytes]:
    """The two frames of a message; ProtocolError where it does not keep the protocol itself."""
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    _build(message.TYPE, values)
    body = json.dumps({"v": VERSION, "type": message.TYPE} | values, allow_nan=False, separators=(",", ":")).encode()
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
    if not _BRACKETS.fullmatch(_STRING.sub(b"", body).translate(None, _NOT_BRACKETS)):
        raise ProtocolError("json", "the body must be one flat JSON object: values and lists of values, nothing deeper")
    values = _parse(body)
    if values.get("v") != VERSION or type(values["v"]) is not int:
        raise ProtocolError("version", f"v must be {VERSION}, the version spoken here")
    name = values.get("type")
    if not isinstance(name, str) or name not in TYPES or name.encode() != kind:
        raise ProtocolError("type", f"type must be one of {', '.join(TYPES)}, the same in both frames")
    return _build(name, values)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_distinct)
    except UnicodeDecodeError:
        raise ProtocolError("utf8", "the body is not UTF-8") from None
    except ValueError as error:
        raise ProtocolError("json", f"the body is not JSON: {str(error)[:200]}") from None
    return dict(values)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two peers that take different ones of two equal keys would trade on different numbers."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice")
    return values


def _build(kind: str, values: dict[str, Any]) -> Message:
    """Check known fields and drop unknown ones."""
    checked = {}
    for name, check in _CHECKS[kind].items():
        if name not in values:
            raise ProtocolError("field", f"{kind} lacks {name}")
        try:
            checked[name] = check(values[name])
        except ValueError as error:
            raise ProtocolError("field", f"{kind}.{name} {error}") from None
    message = TYPES[kind](**checked)
    if contradiction := message.contradiction():
        raise ProtocolError("field", f"{kind}: {contradiction}")
    return message
