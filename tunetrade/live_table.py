"""What `tunetrade serve` shows: a table of everything served, or a line an event. Pure: events in, text out."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Event = Mapping[str, Any]

RECENT = 1_000
"""Forecasts that the percentiles are of."""
CLIENTS, STRANGERS = 1_024, 16
"""Most lines, and most of those whose clients were never welcomed."""

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
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))


class LiveTable:
    """The table; `take` events, then ask for its `lines`."""

    def __init__(self) -> None:
        self.clients: dict[str, Line] = {}
        self.head = ""

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
        if client not in self.clients:
            self._make_room()
        line = self.clients.setdefault(client, Line())
        match kind:
            case "welcome" if event["accepted"]:
                line.unique_id, line.model_id = event["unique_id"], event["model_id"]
            case "welcome":
                line.errors += 1
            case "bars":
                line.bar_time_ms, line.close = event["bar_time_ms"], event["close"]
            case "forecast":
                line.told, line.told_ms = forecast_text(event), event["ts_ms"]
                line.valid_until_ms, line.last = event["valid_until_ms"], ""
                line.latencies.append(event["latency_ms"])
            case "ack" | "exec":
                line.last = (
                    event["code"] if kind == "ack" else f"{event['side']} {event['lots']:g} @ {event['price']:g}"
                )
            case "error":
                line.errors += 1

    def _make_room(self) -> None:
        """For one more line; clients that were never welcomed are but a few, and give way first."""
        strangers = [name for name, line in self.clients.items() if not line.unique_id]
        if len(strangers) >= STRANGERS:
            del self.clients[strangers[0]]
        elif len(self.clients) >= CLIENTS:
            del self.clients[strangers[0] if strangers else next(iter(self.clients))]

    def lines(self, now_ms: int, width: int) -> list[str]:
        """The table as text, each line at most `width` columns."""
        rows = [_HEADS, *(self._row(name, line, now_ms) for name, line in self.clients.items())]
        widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADS))]
        table = ["  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)) for row in rows]
        return [line.rstrip()[:width] for line in ([self.head] if self.head else []) + table]

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
    moment = datetime.fromtimestamp(event["ts_ms"] / 1000, UTC).strftime("%H:%M:%S")
    return f"{moment} {event['event']:<9} {what}".rstrip()


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


def _plain(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def _curve(event: Event) -> str:
    """Where CURVE peers are expected."""
    return f"CURVE on {event['curve']}, " if "curve" in event else ""
