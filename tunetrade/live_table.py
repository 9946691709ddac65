"""What `tunetrade serve` shows: a table of everything served, or a line an event. Pure: events in, text out."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tunetrade.doctor_live import PROBE

Event = Mapping[str, Any]

RECENT = 1_000
"""Forecasts that the percentiles are of."""
CLIENTS = 1_024
"""Most clients shown; the one silent longest gives way."""

_HEADS = (
    "client",
    "series",
    "model",
    "last bar (UTC)",
    "close",
    "forecast",
    "age",
    "p50 ms",
    "p99 ms",
    "done",
    "errors",
)


@dataclass
class Line:
    """What is known of one client."""

    unique_id: str = ""
    model_id: str = ""
    bar_time_ms: int = 0
    close: float = 0.0
    told: str = ""
    told_ms: int = 0
    valid_until_ms: int = 0
    last: str = ""
    errors: int = 0
    heard_ms: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def take(self, event: Event) -> None:
        """Note what happened to this client."""
        self.heard_ms = event["ts_ms"]
        match event["event"]:
            case "welcome" if event["accepted"]:
                self.unique_id, self.model_id = event["unique_id"], event["model_id"]
            case "welcome":
                self.errors += 1
            case "bars":
                self.bar_time_ms, self.close = event["bar_time_ms"], event["close"]
            case "forecast":
                self.told, self.told_ms = forecast_text(event), event["ts_ms"]
                self.valid_until_ms, self.last = event["valid_until_ms"], ""
                self.latencies.append(event["latency_ms"])
            case "ack" | "exec" as kind:
                self.last = (
                    event["code"] if kind == "ack" else f"{event['side']} {event['lots']:g} @ {event['price']:g}"
                )
            case "error":
                self.errors += 1


class LiveTable:
    """The table; `take` events, then ask for its `lines`."""

    def __init__(self) -> None:
        self.clients: dict[str, Line] = {}
        self.head = ""
        self.trouble = ""

    def take(self, event: Event) -> None:
        """Note an event."""
        kind, client = event["event"], event.get("client", "")
        if kind == "listening":
            self.head = (
                f"listening on {event['host']}:{event['port']}, {_curve(event)}epoch {event['epoch']}; Ctrl-C stops"
            )
        if not client or kind == "forgotten":
            self.clients.pop(client, None)
            return
        if kind == "welcome" and event["unique_id"] == PROBE:
            return  # an examination, not a client
        refused = kind == "welcome" and not event["accepted"]
        if kind == "error" or refused:
            why = event["reason"] if refused else f"{event['code']}: {event['text']}"
            self.trouble = f"last error {_clock(event)} {client[:24]}, {why}"
        if client not in self.clients:
            if kind != "welcome" or refused:
                return  # nobody who has a session
            if len(self.clients) >= CLIENTS:
                del self.clients[min(self.clients, key=lambda name: self.clients[name].heard_ms)]
        self.clients.setdefault(client, Line()).take(event)

    def lines(self, now_ms: int, width: int, height: int = 1_000) -> list[str]:
        """The table as text of at most `width` columns and `height` lines.

        On a narrow terminal a client has several lines; where there is no room for all clients, those heard last stay.
        """
        rows = [_HEADS, *(self._row(name, line, now_ms) for name, line in self.clients.items())]
        widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADS))]
        parts = _parted(widths, width)
        room = max(1, (height - bool(self.head) - bool(self.trouble) - 1) // len(parts) - 1)
        heard = sorted(range(len(self.clients)), key=[line.heard_ms for line in self.clients.values()].__getitem__)
        shown = [rows[0], *(rows[1 + at] for at in sorted(heard[-room:]))]
        table = [
            ("  " if part.start else "") + "  ".join(row[at].ljust(widths[at]) for at in part)
            for row in shown
            for part in parts
        ]
        left = len(rows) - len(shown)
        rest = [f"and {left} more"] if left else []
        ends = [[text] if text else [] for text in (self.head, self.trouble)]
        return [line.rstrip()[:width] for line in (*ends[0], *table, *rest, *ends[1])][:height]

    def _row(self, name: str, line: Line, now_ms: int) -> tuple[str, ...]:
        done = len(line.latencies) > 0
        return (
            name[:24],
            line.unique_id,
            line.model_id,
            stamp_text(line.bar_time_ms) if line.bar_time_ms else "-",
            f"{line.close:g}" if line.bar_time_ms else "-",
            line.told or "-",
            age_text(now_ms - line.told_ms) + (" late" if now_ms > line.valid_until_ms else "") if done else "-",
            f"{percentile(line.latencies, 50):.1f}" if done else "-",
            f"{percentile(line.latencies, 99):.1f}" if done else "-",
            line.last or "-",
            str(line.errors),
        )


def event_line(event: Event) -> str:
    """One event for people, on a line of its own."""
    rest = {name: value for name, value in event.items() if name not in ("event", "ts_ms")}
    if event["event"] == "forecast":
        what = (
            f"{rest['client']} {rest['unique_id']} {rest['model_id']}: bar {stamp_text(rest['bar_time_ms'])}, "
            f"{forecast_text(event)}, {rest['latency_ms']:.1f} ms, {rest['reason']}"
        )
    elif event["event"] == "bars":
        what = (
            f"{rest['client']} {rest['unique_id']}: {rest['count']} to {stamp_text(rest['bar_time_ms'])}, "
            f"close {rest['close']:g}"
        )
    else:
        what = ", ".join(f"{name} {_plain(value)}" for name, value in rest.items() if value != "")
    return f"{_clock(event)} {event['event']:<9} {what}".rstrip()


def forecast_text(event: Event) -> str:
    """Side, lots and the close expected at the last step."""
    side = "flat" if not event["position"] else "long" if event["position"] > 0 else "short"
    return f"{side} {event['lots']:g} -> {event['mean']:.6g}"


def stamp_text(time_ms: int) -> str:
    """A bar's close."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def age_text(age_ms: float) -> str:
    """How long ago, in the unit that fits.

    >>> age_text(900), age_text(75_000), age_text(7_500_000)
    ('0s', '1m 15s', '2h 5m')
    """
    seconds = int(age_ms // 1000)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3_600:
        return f"{seconds // 60}m {seconds % 60}s"
    return f"{seconds // 3_600}h {seconds % 3_600 // 60}m"


def percentile(values: "deque[float] | list[float]", percent: float) -> float:
    """The least value with so many per cent of all at or below it.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 50), percentile([4.0, 1.0, 3.0, 2.0], 99)
    (2.0, 4.0)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _parted(widths: Sequence[int], width: int) -> list[range]:
    """Columns, two blanks between, as they go into lines of `width`, each line but the first indented by two.

    >>> _parted([3, 3, 3, 9], 8)
    [range(0, 2), range(2, 3), range(3, 4)]
    """
    parts, first, used = [], 0, 0
    for at, wide in enumerate(widths):
        if at > first and used + 2 + wide > width:
            parts.append(range(first, at))
            first, used = at, 2 + wide
        else:
            used += wide + (2 if at > first else 0)
    return [*parts, range(first, len(widths))]


def _clock(event: Event) -> str:
    """When something happened, UTC."""
    return datetime.fromtimestamp(event["ts_ms"] / 1000, UTC).strftime("%H:%M:%S")


def _plain(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def _curve(event: Event) -> str:
    """Where CURVE peers are expected."""
    return f"CURVE on {event['curve']}, " if "curve" in event else ""
