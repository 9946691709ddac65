"""The Expert Advisor in the simulated terminal beside the Python client, at the same server and at the same time.

Both send one-minute bars of a series whose forecast costs next to nothing, and time the same way: from a bar's sending
to what becomes of its forecast (the Expert Advisor's own clock, `latency_ms` of its ack; the client's `send_bar`). The
Expert Advisor looks at its socket when its timer fires, so what it may add is one period of it; the simulated timer
neither fires early nor wakes for bytes here. That a bar waits for the timer before it is sent, one period at most,
lies before the round trip.
"""

import contextlib
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.claims import Claim
from bridge.client import Client, ClosedBar

if TYPE_CHECKING:
    from bridge.terminal.build import Program

MINUTE = 60
TIMER_MS = 20
"""The Expert Advisor's own default, InpTimerMs."""

WARM = 400
"""Bars before the first that is timed; more than any forecast here needs."""

START = 1_704_160_800
MOST = 20_000
"""Bars of the Python client at most."""


def terminal_claims(port: int, journal: Path, unique_id: str, count: int) -> dict[str, Claim]:
    """What the Expert Advisor adds to the Python client's round trip; {} without a C++ compiler.

    Parameters
    ----------
    port
        Of a server that serves `unique_id`, bars of a minute.
    journal
        Its file.
    count
        Bars of the Expert Advisor; the Python client sends as many as pass meanwhile.
    """
    from bridge.terminal.build import BuildError, build

    try:
        program = build(optimised=True)
    except BuildError as error:
        print(f"the Expert Advisor is not measured: {error}", file=sys.stderr)
        return {}
    server = f"terminal-{time.time_ns()}"
    with tempfile.TemporaryDirectory() as folder:
        process = _started(program, Path(folder), port, unique_id, server, count)
        try:
            client = _python(port, unique_id, process)
        finally:
            process.kill()
            process.wait()
    expert = _latencies(journal, server, count)
    name = "round trip of the Expert Advisor in the simulated terminal"
    told: dict[str, Claim] = {}
    for percent in (50, 99):
        plain, own = float(np.percentile(client, percent)), float(np.percentile(expert, percent))
        told[f"{name} less the Python client's, p{percent} (a timer of {TIMER_MS} ms and 1 ms)"] = Claim(
            own - plain, "ms", TIMER_MS + 1, at_most=True
        )
        told[f"{name}, p{percent}"] = Claim(own, "ms")
        told[f"round trip of the Python client beside it, p{percent}"] = Claim(plain, "ms")
    return told


def _python(port: int, unique_id: str, expert: "subprocess.Popen[str]") -> list[float]:
    """Milliseconds of the Python client's bars while the Expert Advisor runs, at its pace: one in two periods."""
    times: list[float] = []
    with Client.connect(f"tcp://127.0.0.1:{port}", unique_id, feed=f"python-{time.time_ns()}") as client:
        client.backfill([_closed(n) for n in range(WARM)])
        while expert.poll() is None and len(times) < MOST:
            time.sleep(2 * TIMER_MS / 1000)
            begun = time.perf_counter()
            forecast = client.send_bar(_closed(WARM + len(times)))
            times.append(1000 * (time.perf_counter() - begun))
            client.ack(forecast, "NOOP")
    return times


def _started(
    program: "Program", folder: Path, port: int, unique_id: str, server: str, count: int
) -> "subprocess.Popen[str]":
    """The Expert Advisor on a chart of `count` bars to come, at its own timer; what it says goes nowhere."""
    market = folder / "market"
    market.write_text(_market(count + WARM, server))
    inputs = {
        "InpPort": port, "InpSeries": unique_id, "InpClock": 2, "InpTimerMs": TIMER_MS, "InpMaxAge": 0,
        "InpStopAlways": False, "InpFridayClose": "",
    }  # fmt: skip
    terminal = {
        "MARKET": market, "FILES": folder, "WATCH": '"type":"ack"', "BAR_MS": 5_000, "LINGER_MS": 500,
        "RUN_MS": 60_000 + 10 * TIMER_MS * count,
    }  # fmt: skip
    environment = program.environment(inputs, terminal)
    return subprocess.Popen([str(program.path)], env=environment, stdout=subprocess.DEVNULL, text=True)


def _latencies(journal: Path, server: str, count: int) -> list[float]:
    """Milliseconds of the Expert Advisor's bars, as its acks in the journal say."""
    with contextlib.closing(sqlite3.connect(journal)) as base:
        query = "SELECT latency_ms FROM acks WHERE client LIKE ? AND code IN ('NOOP', 'TAKEN') ORDER BY bar_time_ms"
        times = [latency for (latency,) in base.execute(query, (f"%{server}%",))]
    if len(times) < count:
        raise RuntimeError(f"the Expert Advisor decided on {len(times)} of {count} bars; give it a quieter machine")
    return times[-count:]


def _market(count: int, server: str) -> str:
    """A market file of bars of one minute in UTC, WARM of them closed before."""
    facts = (
        f"symbol {server}", f"server {server}", "digits 5", "point 1e-05", "period 1", f"warm {WARM}", "offset 0",
        "close_at_end 0",
    )  # fmt: skip
    bars = (f"bar {START + MINUTE * n} {' '.join(4 * [repr(_closed(n).close)])} 8" for n in range(count))
    return "\n".join([*facts, *bars]) + "\n"


def _closed(number: int) -> ClosedBar:
    return ClosedBar.flat(1000 * (START + MINUTE * (number + 1)), round(1.1 + number % 97 / 1e4, 5))
