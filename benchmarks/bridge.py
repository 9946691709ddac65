"""The live link beside a raw ZeroMQ echo in the same run: round trips, a model's own time, and 500 terminals at once.

    python -m benchmarks.bridge [--quick] [--json]

The echo is a ROUTER that sends frames of the same size back, in a process of its own, in plain pyzmq. Round trips are
of one Python client at 200 bars a second, taking turns with the echo. "Without model work" is a bar that is checked,
journalled and answered with need_bars. "Random walk" goes through the process of the models and back, where the
forecast itself costs next to nothing. The embedded model draws 64 paths of 20 steps at 5 forecasts a second; its own
time is measured in its process, batch by batch.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import zmq

from benchmarks.bridge_terminal import terminal_claims
from benchmarks.claims import Claim, main
from bridge.client import Client, ClosedBar, LinkError
from bridge.desk import Desk
from bridge.messages import Bar, Hello, decode, encode

MINUTE = 60_000
RATE = 200
TERMINALS = 500


def measure(quick: bool) -> dict[str, Claim]:
    """All claims about the link."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.sqlite"
        with _process("echo", "0") as (echo, _), _process("serve", str(journal)) as (port, pid):
            claims = _round_trips(echo, port, 400 if quick else 2_000)
            claims |= terminal_claims(port, journal, "WALK-M1", 100 if quick else 400)
            claims |= _crowd(port, pid, 5 if quick else 60)
            return claims | _with_model(port, 25 if quick else 150)


def _round_trips(echo: int, port: int, count: int) -> dict[str, Claim]:
    """Of the echo, of bars without model work and of bars through the models' process, in turns."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as raw, _client(port, "IDLE-M1") as idle:
        raw.setsockopt(zmq.LINGER, 0)
        raw.connect(f"tcp://127.0.0.1:{echo}")
        frames = encode(_bar(1, "IDLE-M1"))
        with _client(port, "WALK-M1") as walk:
            first = walk.welcome.history
            walk.backfill([_closed(n) for n in range(first)])
            at = iter(range(first, 10**9))

            def echoed() -> None:
                raw.send_multipart(frames)
                raw.recv_multipart()

            def idled() -> None:
                with contextlib.suppress(LinkError):
                    idle.send_bar(_closed(next(at)))

            def walked() -> None:
                walk.send_bar(_closed(next(at)))

            times = _in_turns({"echo": echoed, "idle": idled, "walk": walked}, count)
    p50 = {name: float(np.percentile(values, 50)) for name, values in times.items()}
    p99 = {name: float(np.percentile(values, 99)) for name, values in times.items()}
    return {
        "round trip without model work over the echo's, p50": Claim(p50["idle"] / p50["echo"], "x", 3, at_most=True),
        "round trip without model work over the echo's, p99": Claim(p99["idle"] / p99["echo"], "x", 10, at_most=True),
        "round trip of the echo, p50": Claim(1e3 * p50["echo"], "ms"),
        "round trip of the echo, p99": Claim(1e3 * p99["echo"], "ms"),
        "round trip without model work, p50": Claim(1e3 * p50["idle"], "ms"),
        "round trip without model work, p99": Claim(1e3 * p99["idle"], "ms"),
        "round trip with a random walk in the models' process, p50": Claim(1e3 * p50["walk"], "ms"),
        "round trip with a random walk in the models' process, p99": Claim(1e3 * p99["walk"], "ms"),
    }


def _in_turns(calls: dict[str, Callable[[], None]], count: int) -> dict[str, list[float]]:
    """Seconds of each call, one after the other at the rate of RATE a second."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(20):
            call()
    due = time.perf_counter()
    for _ in range(count):
        for name, call in calls.items():
            due = max(due + 1 / RATE, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
            begun = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begun)
    return times


@dataclass
class _Terminal:
    """A simulated terminal: a DEALER, its epoch and what it has sent and got."""

    socket: "zmq.Socket[bytes]"
    name: str
    epoch: int = 0
    seq: int = 1
    sent: float = 0.0


def _crowd(port: int, pid: int, seconds: int) -> dict[str, Claim]:
    """Bars of 500 terminals, one a second each, spread over the second."""
    late: list[float] = []
    lost = disorder = 0
    with zmq.Context() as context:
        poller, terminals = zmq.Poller(), {}
        for number in range(TERMINALS):
            socket = context.socket(zmq.DEALER)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt_string(zmq.IDENTITY, f"terminal-{number}")
            socket.connect(f"tcp://127.0.0.1:{port}")
            terminal = terminals[socket] = _Terminal(socket, "IDLE-M1")
            socket.send_multipart(encode(_hello("IDLE-M1", f"feed-{number}")))
            poller.register(socket, zmq.POLLIN)
        for terminal in terminals.values():
            if not terminal.socket.poll(20_000):
                lost += 1
                continue
            terminal.epoch = decode(terminal.socket.recv_multipart()).epoch
        order = list(terminals.values())
        begun = time.perf_counter()
        for step in range(seconds * TERMINALS):
            terminal = order[step % TERMINALS]
            due = begun + step / TERMINALS
            while (wait := due - time.perf_counter()) > 0:
                late_now, wrong = _collect(poller, terminals, 1000 * wait)
                late += late_now
                disorder += wrong
            if terminal.sent:
                lost += 1  # a second later its answer has not come
            terminal.seq += 1
            bar = replace(_bar(step // TERMINALS + 1, terminal.name), epoch=terminal.epoch, seq=terminal.seq)
            terminal.sent = time.perf_counter()
            terminal.socket.send_multipart(encode(bar))
        end = time.perf_counter() + 5
        while any(terminal.sent for terminal in order) and time.perf_counter() < end:
            late_now, wrong = _collect(poller, terminals, 10)
            late += late_now
            disorder += wrong
        lost += sum(terminal.sent > 0 for terminal in order)
        memory = _memory_mb(pid)
        for terminal in order:
            terminal.socket.close()
    name = f"{TERMINALS} terminals, a bar a second each"
    return {
        f"{name}: answers lost or out of order": Claim(lost + disorder, "", 0, at_most=True),
        f"{name}: p99": Claim(1e3 * float(np.percentile(late, 99)), "ms", 50, at_most=True),
        f"{name}: p50": Claim(1e3 * float(np.percentile(late, 50)), "ms"),
        f"{name}: memory of the sockets' process": Claim(memory, "MB", 150, at_most=True),
    }


def _collect(
    poller: zmq.Poller, terminals: "dict[zmq.Socket[bytes], _Terminal]", wait_ms: float
) -> tuple[list[float], int]:
    """Answers that come within a time: their seconds, and how many were not the one awaited."""
    late, wrong = [], 0
    for socket, _ in poller.poll(int(wait_ms)):
        terminal = terminals[socket]
        answer = decode(socket.recv_multipart())
        wrong += answer.re != terminal.seq or answer.TYPE != "need_bars"
        late.append(time.perf_counter() - terminal.sent)
        terminal.sent = 0.0
    return late, wrong


def _with_model(port: int, count: int) -> dict[str, Claim]:
    """Forecasts of the embedded model at five a second, over the wire and in their own process."""
    from forecasting.bars import load_bars

    bars = load_bars("ecb:EURUSD")
    times = (bars.times.astype(np.int64) // 1_000_000).tolist()
    rows = [ClosedBar.flat(*pair) for pair in zip(times, bars.closes.tolist(), strict=True)]
    wire: list[float] = []
    with Client.connect(f"tcp://127.0.0.1:{port}", "EURUSD-D1", timeout_s=30, feed="bench") as client:
        client.backfill(rows[: -count - 5])
        for row in rows[-count - 5 : -count]:
            client.send_bar(row)
        due = time.perf_counter()
        for row in rows[-count:]:
            due = max(due + 0.2, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
            begun = time.perf_counter()
            client.send_bar(row)
            wire.append(1e3 * (time.perf_counter() - begun))
    own = _own_times(count)
    return {
        "forecast of the embedded model (64 paths, 20 steps) over its own time, p99": Claim(
            float(np.percentile(wire, 99) / np.percentile(own, 99)), "x", 1.5, at_most=True
        ),
        "forecast of the embedded model over the wire, p50": Claim(float(np.percentile(wire, 50)), "ms"),
        "forecast of the embedded model over the wire, p99": Claim(float(np.percentile(wire, 99)), "ms"),
        "forecast of the embedded model, its own time, p50": Claim(float(np.percentile(own, 50)), "ms"),
        "forecast of the embedded model, its own time, p99": Claim(float(np.percentile(own, 99)), "ms"),
    }


def _own_times(count: int) -> list[float]:
    """The model's milliseconds of the last `count` forecasts, as the journal has them."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(os.environ["BENCH_JOURNAL"])) as base:
        query = "SELECT model_ms FROM forecasts WHERE unique_id = 'EURUSD-D1' ORDER BY bar_time_ms DESC LIMIT ?"
        return [row[0] for row in base.execute(query, (count,))]


def _memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _hello(unique_id: str, feed: str = "bench") -> Hello:
    return Hello(unique_id=unique_id, client="bench", symbol="X", feed=feed, tf_sec=60, digits=5, point=1e-5, seq=1)


def _closed(number: int) -> ClosedBar:
    return ClosedBar.flat(1_600_000_000_000 + number * MINUTE, 1.1 + number % 97 / 1e4)


def _bar(number: int, unique_id: str) -> Bar:
    return Bar(unique_id=unique_id, equity=1e4, balance=1e4, **_closed(number)._asdict())


def _client(port: int, unique_id: str) -> Client:
    return Client.connect(f"tcp://127.0.0.1:{port}", unique_id, feed=f"alone-{unique_id}")


@contextlib.contextmanager
def _process(role: str, argument: str) -> Iterator[tuple[int, int]]:
    """Port and id of this file run in a role of its own."""
    child = subprocess.Popen([sys.executable, "-m", "benchmarks.bridge", role, argument], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        if role == "serve":
            os.environ["BENCH_JOURNAL"] = argument
        yield port, child.pid
    finally:
        child.terminate()
        child.wait(10)


def _echo() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
        while True:
            socket.send_multipart(socket.recv_multipart())


def _serve(journal: str) -> None:
    from bridge.journal import Journal
    from bridge.models import Worker
    from bridge.server import Options, run

    models = Worker("benchmarks.bridge:desks", [])
    with Journal(journal) as kept:
        run(models, kept, Options(port=0), ready=lambda port: print(port, flush=True))
    models.close()


def desks(_: Sequence[str]) -> list[Desk]:
    """A series that never gets enough bars, a random walk, and the embedded model."""
    from benchmarks.bench import CONTEXT, HORIZON
    from forecasting.bars import load_bars
    from forecasting.base import find_base, load_model
    from forecasting.baselines import Asked, baseline
    from forecasting.calendars import RoundTheClock
    from forecasting.codecs import BinsCodec
    from forecasting.codecs.fit import CodecOptions, scale_codec
    from forecasting.decoder import weights_of
    from forecasting.forecaster import PathForecaster
    from forecasting.sampler import SamplingOptions, gpt2_decoders
    from forecasting.windows import WindowSpec
    from strategies.rules import TradingRules

    bars, base, options = load_bars("ecb:EURUSD"), find_base("embedded"), SamplingOptions(paths=64)
    codec = scale_codec(base.codec, bars, CodecOptions())
    assert isinstance(codec, BinsCodec)
    forecaster = PathForecaster(
        base.sha, codec, CONTEXT, options, gpt2_decoders(weights_of(load_model(base)), options.paths, HORIZON)
    )
    short = WindowSpec(context=4, horizon=5)
    walk = baseline("random-walk", Asked(bars, short, options, codec, codec.warm_up, (0, 1000)))
    walking = Desk(
        "WALK-M1", "walk", walk, short, RoundTheClock("M1"), 60, TradingRules().signal_rules, 1e-4,
        1e-5, close_only=False,
    )  # fmt: skip
    idle = replace(walking, unique_id="IDLE-M1", windows=WindowSpec(context=4_096, horizon=5))
    own = WindowSpec(context=CONTEXT, horizon=HORIZON)
    model = replace(
        walking, unique_id="EURUSD-D1", forecaster=forecaster, windows=own, calendar=bars.calendar, tf_sec=86_400,
        close_only=True,
    )  # fmt: skip
    return [walking, idle, model]


if __name__ == "__main__":
    if sys.argv[1:2] == ["echo"]:
        _echo()
    elif sys.argv[1:2] == ["serve"]:
        _serve(sys.argv[2])
    else:
        main(measure, __doc__)
