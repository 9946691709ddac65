"""`tunetrade doctor --live`: where the link breaks, from the port to the newest bar, one line a check.

Each check needs those before it, so the first that fails is the fault, and the rest would only repeat it. What cannot
be known from here (no journal on this machine, no terminal named) is a note, never a failure.
"""

import socket
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecasting.errors import ConfigError, UserError, unknown

if TYPE_CHECKING:
    from forecasting.calendars import SessionCalendar

OK, NOTE, FAIL = "ok", "note", "fail"

SKEW_S = 5.0
"""Clocks further apart than this are told; a forecast of a short bar is over before it could be traded."""

PROBE = "doctor-M1"
"""A series that nobody serves: its hello ends in a refusal, which proves the secret and opens no session."""

_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)


@dataclass(frozen=True)
class Check:
    """One line of the examination. status: "ok", "note" (nothing wrong, something unknown) or "fail"."""

    name: str
    status: str
    detail: str


class FaultError(UserError):
    """A check that failed; `name` is the check's."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


def examine(
    address: str,
    secret: str = "",
    journal: Path | None = None,
    calendar: str = "fx-week",
    timeout_s: float = 3.0,
    terminal: Path | None = None,
    keys: tuple[str, str] = ("", ""),
) -> Iterator[Check]:
    """The checks of a server, of a terminal and of the bars that pass, as they are made.

    Those of the server end with the first that fails, and where anything failed the bars are not looked at.

    Parameters
    ----------
    address
        Of the server, `tcp://127.0.0.1:5757`.
    secret
        The one that clients are to prove, "" for none.
    journal
        The server's file, None where it is on another machine.
    calendar
        Trading hours of the series: "fx-week", "target" or "round-the-clock".
    timeout_s
        Longest wait for each answer.
    terminal
        Data folder of a terminal on this machine, None for none.
    keys
        The server's public key and this client's secret one, where the address is the port for CURVE.
    """
    healthy, served = True, None
    for check in _server_checks(address, secret, timeout_s, keys):
        healthy &= check.status != FAIL
        if check.name == "series":
            served = check.detail.removeprefix(_SERVED).split(", ")
        yield check
    if terminal:
        from tunetrade.doctor_terminal import terminal_checks

        for check in terminal_checks(terminal, host_and_port(address), time.time()):
            healthy &= check.status != FAIL
            yield check
    if healthy:
        yield from feed_checks(journal, calendar, time.time_ns() // 1_000_000, served)


def _server_checks(address: str, secret: str, timeout_s: float, keys: tuple[str, str]) -> Iterator[Check]:
    host, port = host_and_port(address)
    where = f"{host}:{port}"
    try:
        with _connected(host, port, timeout_s) as connection:
            yield Check("port", OK, f"{where} accepts connections")
            _is_router(connection, where, timeout_s, bool(keys[0]))
        yield Check("ZeroMQ", OK, f"{where} speaks ZMTP 3 {'with CURVE' if keys[0] else 'and is a ROUTER'}")
        yield from _speaks(f"tcp://{where}", secret, timeout_s, keys)
    except FaultError as fault:
        yield Check(fault.name, FAIL, str(fault))


def host_and_port(address: str) -> tuple[str, int]:
    """Parts of `tcp://host:port`, the prefix may be missing; ConfigError for anything else."""
    host, colon, port = address.removeprefix("tcp://").rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65_535:
        raise ConfigError(f"--address {address!r} is no address; write tcp://127.0.0.1:5757")
    return host, int(port)


def _connected(host: str, port: int, timeout_s: float) -> socket.socket:
    where = f"{host}:{port}"
    try:
        return socket.create_connection((host, port), timeout_s)
    except socket.gaierror:
        raise FaultError("port", f"{host} is no host that this machine knows; write tcp://127.0.0.1:{port}") from None
    except ConnectionRefusedError:
        raise FaultError(
            "port",
            f"nothing listens at {where}; start `tunetrade serve RUN` and leave it running, or name its --address",
        ) from None
    except OSError as error:
        raise FaultError(
            "port",
            f"{where} cannot be reached ({error.strerror or 'no answer'}); is that machine on, and the tunnel "
            f"(ssh -L {port}:127.0.0.1:{port}) open?",
        ) from None


def _is_router(connection: socket.socket, where: str, timeout_s: float, curve: bool) -> None:
    """Do the handshake of ZMTP by hand: libzmq would only try again and again, and never say with whom."""
    connection.settimeout(timeout_s)
    # The version first: libzmq answers it with its whole greeting, and hangs up on a mechanism other than its own.
    port = "that is another program's port; name the one that `tunetrade serve` shows"
    with suppress(OSError):
        connection.sendall(_GREETING[:12])
    greeting = _received(connection, 64)
    if not greeting:
        raise FaultError(
            "ZeroMQ",
            f"something else listens at {where}: it takes connections and says nothing; {port}, or the server stands "
            f"still",
        )
    if greeting[0] != 0xFF or len(greeting) < 64 or greeting[9] != 0x7F:
        said = greeting.split(b"\n")[0][:40].decode("ascii", "replace").strip()
        raise FaultError("ZeroMQ", f"something else listens at {where}: it says {said!r}, which is not ZMTP; {port}")
    mechanism = greeting[12:32].rstrip(b"\0").decode("ascii", "replace")
    if mechanism == "CURVE" and curve:
        return  # what kind of socket it is, only a peer with keys learns
    if mechanism == "CURVE":
        raise FaultError(
            "ZeroMQ",
            f"{where} is the port for CURVE, which Python clients with the server's key use; name the terminals' port, "
            f"or give --server-key",
        )
    if curve:
        raise FaultError("ZeroMQ", f"{where} does not speak CURVE; leave --server-key away, or name the port that does")
    if greeting[10] < 3 or mechanism != "NULL":
        raise FaultError(
            "ZeroMQ", f"{where} speaks ZMTP {greeting[10]} with security {mechanism}, not 3 with NULL; {port}"
        )
    with suppress(OSError):
        connection.sendall(_GREETING[12:])
    kind = _socket_type(connection)
    if kind != "ROUTER":
        what = f"is a {kind} socket" if kind else "takes no DEALER"
        mirror = "; the PUB socket is the mirror of `serve --publish`" if kind in ("PUB", "XPUB") else ""
        raise FaultError("ZeroMQ", f"{where} speaks ZeroMQ and {what}, so it is not the server's{mirror}; {port}")


def _socket_type(connection: socket.socket) -> str:
    """Socket-Type of the peer's READY; "" where it says none."""
    head = _received(connection, 2)
    if len(head) < 2 or head[0] != 4:
        return ""
    body = _received(connection, head[1])
    at = 6
    while body[:6] == b"\x05READY" and at + 5 <= len(body):
        name_end = at + 1 + body[at]
        if name_end + 4 > len(body):
            break
        (size,) = struct.unpack_from(">I", body, name_end)
        value = body[name_end + 4 : name_end + 4 + size]
        if body[at + 1 : name_end].lower() == b"socket-type":
            return value.decode("ascii", "replace")
        at = name_end + 4 + size
    return ""


def _received(connection: socket.socket, count: int) -> bytes:
    """Up to `count` bytes: fewer where the peer hangs up, falls silent or sent a line that ends."""
    got = b""
    with suppress(OSError):
        while len(got) < count:
            part = connection.recv(count - len(got))
            if not part:
                break
            got += part
    return got


def _speaks(address: str, secret: str, timeout_s: float, keys: tuple[str, str]) -> Iterator[Check]:
    from bridge.client import Client, LinkError
    from bridge.messages import VERSION

    try:
        with Client.reach(address, timeout_s=timeout_s, server_key=keys[0], key=keys[1]) as client:
            took = client.heartbeat()
            ahead = client.clock_ahead()
    except LinkError as error:
        if error.code == "version":
            raise FaultError(
                "version",
                f"this program speaks version {VERSION} of the protocol and the other side does not ({error}); update "
                f"the older side: pip install -U tunetrade, then tunetrade install-mt5 and F7 in MetaEditor",
            ) from None
        if error.code == "timeout" and keys[0]:
            raise FaultError(
                "keys",
                f"{address} does not answer within {timeout_s:g} s: --server-key is not the server's, or this client's "
                f"key (--curve-key) is not in its --curve-clients",
            ) from None
        if error.code == "timeout":
            raise FaultError(
                "version",
                f"{address} is a ROUTER that does not answer within {timeout_s:g} s: another program's port, or a "
                f"server that stands still",
            ) from None
        raise FaultError(
            "version", f"{address} is a ROUTER, but no TuneTrade: {error}; name another --address"
        ) from None
    yield Check("version", OK, f"protocol {VERSION}, answered in {1000 * took:.1f} ms")
    if abs(ahead) > SKEW_S:
        raise FaultError(
            "clock",
            f"the server's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's: "
            f"forecasts would be late or from the future; let both follow network time (NTP)",
        )
    yield Check("clock", OK, f"the server's clock is within {max(abs(ahead), 0.001):.3f} s of this machine's")
    try:
        with Client.connect(
            address, PROBE, name="tunetrade doctor", secret=secret, timeout_s=timeout_s, server_key=keys[0], key=keys[1]
        ):
            served = PROBE
    except LinkError as error:
        if error.code != "refused":
            raise FaultError("secret", f"{error}{_CURE[bool(secret)]}") from None
        served = str(error).rpartition(_SERVED)[2]
    yield Check("secret", OK, "both sides know it" if secret else "none is asked for")
    yield Check("series", OK, _SERVED + served)


_SERVED = "served: "

_CURE = {
    False: " (here --secret-file or TUNETRADE_SECRET, in the terminal the input Secret)",
    True: " (serve --secret-file, here --secret-file or TUNETRADE_SECRET, in the terminal the input Secret)",
}


@dataclass(frozen=True)
class Newest:
    """The newest bar that a journal has of a series. time_ms: its close in UTC."""

    feed: str
    unique_id: str
    tf_sec: int
    time_ms: int


def feed_checks(
    journal: Path | None, calendar: str, now_ms: int, served: Sequence[str] | None = None
) -> Iterator[Check]:
    """Whether each series of a journal has the bars that it should have by now; `served`: those that matter, or all."""
    if journal is None or not journal.is_file():
        where = f"no journal at {journal}" if journal else "no journal named"
        yield Check("feed", NOTE, f"{where}: run this where the server runs, or give --journal FILE, to check its bars")
        return
    try:
        found = newest_bars(journal)
    except sqlite3.Error as error:
        yield Check("feed", FAIL, f"{journal} cannot be read as a journal: {error}; give another --journal")
        return
    if not found:
        yield Check("feed", NOTE, f"{journal} has no bars yet; attach the Expert Advisor to a chart of a served series")
    for newest in found:
        if served is None or newest.unique_id in served:
            yield feed_check(newest, calendar, now_ms)
        else:
            yield Check(f"feed {newest.unique_id}", NOTE, "not served now")


def newest_bars(journal: Path) -> list[Newest]:
    """Of each series of a journal the newest bar, whichever feed it is of."""
    query = (
        "SELECT feed, unique_id, tf_sec, max(newest) FROM (SELECT feed, unique_id, max(time_ms) AS newest FROM bars "
        "GROUP BY feed, unique_id) JOIN series USING (feed, unique_id) GROUP BY unique_id ORDER BY unique_id"
    )
    with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as base:
        return [Newest(*row) for row in base.execute(query)]


def feed_check(newest: Newest, calendar: str, now_ms: int) -> Check:
    """Whether the newest bar of a series is as new as its market allows.

    A terminal knows that a bar has closed when the next one begins, so the bar after the newest is due when trading of
    the one after that begins, and a quarter of a bar (two minutes at least) is left for the first tick.
    """
    import numpy as np

    name = f"feed {newest.unique_id}"
    of = f"the newest bar{f' of {newest.feed}' if newest.feed else ''} closed {_moment(newest.time_ms)}"
    grace_ms = max(120_000, 250 * newest.tf_sec)
    if newest.time_ms > now_ms + 1000 * SKEW_S:
        ahead = (newest.time_ms - now_ms) / 3_600_000
        return Check(
            name,
            FAIL,
            f"{of}, {ahead:.1f} h from now: set the input InpClock to the broker's daylight saving, and "
            f"the clock of the terminal's machine to network time",
        )
    market = _calendar(calendar, newest.unique_id, newest.tf_sec)
    closes = market.following(np.datetime64(newest.time_ms, "ms"), 2)
    due_ms = int(market.starts(closes[1:])[0].astype("datetime64[ms]").astype(np.int64)) + grace_ms
    if now_ms <= due_ms:
        return Check(name, OK, f"{of}; the next is due {_moment(due_ms - grace_ms)}")
    first, last = np.datetime64(newest.time_ms + 1, "ms"), np.datetime64(now_ms - grace_ms, "ms")
    missing = max(1, len(market.between(first, last)))
    return Check(
        name,
        FAIL,
        f"{of}: {missing} {'bar is' if missing == 1 else 'bars are'} missing by the calendar {calendar}; is the "
        f"terminal running, connected to its broker, the Expert Advisor on that chart? (other trading hours: "
        f"--calendar)",
    )


def _calendar(name: str, unique_id: str, tf_sec: int) -> "SessionCalendar":
    from forecasting.calendars import MINUTES, FxWeek, RoundTheClock, TargetDays

    timeframe = next((known for known, minutes in MINUTES.items() if 60 * minutes == tf_sec), None)
    if timeframe is None:
        raise ConfigError(f"{unique_id} has bars of {tf_sec} s, which no calendar knows; known: {', '.join(MINUTES)}")
    makers: dict[str, Callable[[], SessionCalendar]] = {
        "fx-week": lambda: FxWeek(timeframe),
        "target": TargetDays,
        "round-the-clock": lambda: RoundTheClock(timeframe),
    }
    if name not in makers:
        raise ConfigError(unknown("calendar", name, makers))
    return makers[name]()


def _moment(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%a %Y-%m-%d %H:%M} UTC"


def verb(asked: Any) -> int:
    """Print the checks; 1 where one failed."""
    from bridge.curve import read_key
    from forecasting.sources.journal import journal_path
    from tunetrade.verbs_live import secret_of

    journal = Path(asked.journal) if asked.journal else journal_path()
    checks = []
    terminal = Path(asked.terminal) if asked.terminal else None
    keys = asked.server_key, read_key(asked.curve_key) if asked.curve_key else ""
    for check in examine(asked.address, secret_of(asked), journal, asked.calendar, terminal=terminal, keys=keys):
        checks.append(check)
        if not asked.json:
            print(f"{_MARKS[check.status]}  {check.name:<18} {check.detail}", flush=True)
    healthy = all(check.status != FAIL for check in checks)
    if asked.json:
        from tunetrade.cli import emit_json

        emit_json(told(checks) | {"healthy": healthy})
    return 0 if healthy else 1


_MARKS = {OK: "ok  ", NOTE: "--  ", FAIL: "FAIL"}


def told(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks for another program."""
    rows: list[Mapping[str, Any]] = [
        {"name": check.name, "ok": check.status != FAIL, "status": check.status, "detail": check.detail}
        for check in checks
    ]
    return {"checks": rows}
