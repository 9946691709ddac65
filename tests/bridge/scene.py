"""A real server, a relay and the Expert Advisor as it ships, each in a process of its own or a thread, to be disturbed.

The market waits for the decision on each bar (`waits`) or goes on without. A bar takes a timer period or two, so faults
at random moments meet every phase of the dialogue. What must hold afterwards is in `Scene.check`.
"""

import itertools
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from faulty import Relay
from scripted import HOUR, OFFSET, START, TRADING, close_ms, market_file
from simulated import built

from bridge.terminal.build import EXPERT

HERE = Path(__file__).parent
WARM = 30
DECIDED = ("TAKEN", "NOOP")
ANY = 10**9


def walk(count, seed=5, holes=0):
    """Hourly bars of a random walk, prices in whole points; `holes` times the market is shut for some hours."""
    rng = np.random.default_rng(seed)
    shut = rng.choice(np.arange(WARM + 5, count - 2), holes, replace=False) if holes else ()
    rows, close, opens_at = [], 110_000, START
    for i in range(count):
        opens, close = close, close + int(rng.integers(-40, 41))
        high, low = max(opens, close) + int(rng.integers(0, 9)), min(opens, close) - int(rng.integers(0, 9))
        opens_at += HOUR * (int(rng.integers(2, 60)) if i in shut else 1)
        rows.append((opens_at, opens / 1e5, high / 1e5, low / 1e5, close / 1e5, 8))
    return rows


def wanted(rows):
    """Sides that the stub's targets take, by the open of the bar they are traded in: the oracle, without any link."""
    signs = [int(np.sign(round(1e5 * (b[4] - a[4])))) for a, b in itertools.pairwise(rows)]
    return {after[0]: sign for sign, after in zip(signs, rows[2:], strict=False)}


@dataclass
class Scene:
    """Everything that runs.

    waits: whether the market waits for decisions. quick: heartbeats of 150 ms and a first wait of 50 ms before
    connecting again; else what ships, 1 s and 1 s. recovered: seconds from the end of each cause to three decided bars
    later; of a half-open connection, from its beginning.
    """

    folder: Path
    rows: list
    waits: bool = True
    how: str = "inline"
    quick: bool = False
    terminal: dict = field(default_factory=dict)
    recovered: list = field(default_factory=list)
    server: subprocess.Popen | None = None
    expert: subprocess.Popen | None = None
    experts: int = 0

    def __enter__(self):
        self.folder.mkdir(exist_ok=True, parents=True)
        self.journal, self.books = self.folder / "journal.sqlite", self.folder / "books"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        market_file(self.folder / "market", self.rows, WARM, close_at_end=0)
        self.relay = Relay(self.port)
        self.serve()
        self.server.stdout.readline()
        self.trade()
        return self

    def __exit__(self, *ignored):
        for child in (self.expert, self.server):
            child.kill()
            child.wait()
        self.server.stdout.close()
        self.relay.close()

    def serve(self):
        """Start the server; it is ready when it has said its port."""
        if self.server:
            self.server.stdout.close()
        beat = "150" if self.quick else "1000"
        words = [str(self.port), str(self.journal), self.how, "momentum", "EURUSD-H1", beat]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
        command = [sys.executable, str(HERE / "served.py"), *words]
        with (self.folder / "server.log").open("ab") as log:
            self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)

    def trade(self):
        """Start the terminal; one that was killed goes on at the bar it had reached."""
        inputs = {
            **TRADING,
            "InpFridayClose": "",
            "InpStopAlways": False,
            "InpDailyLoss": 0,
            "InpPort": self.relay.port,
        }
        inputs |= {"InpTimerMs": 20, "InpBackoffMs": 50 if self.quick else 1000}
        where = {"MARKET": self.folder / "market", "FILES": self.folder, "BOOKS": self.books, "LINGER_MS": 600}
        # A snapshot of what was decided before a kill is all that comes back of that bar.
        settled = "|".join(f'"code":"{code}"' for code in (*DECIDED, *(("DUP",) if self.experts else ())))
        pace = {"WATCH": settled, "BAR_MS": 120_000} if self.waits else {"BAR_MS": 40}
        where |= {"RUN_MS": 600_000, **pace, **self.terminal}
        program = built(EXPERT)
        self.experts += 1
        with (self.folder / f"terminal-{self.experts}.log").open("wb") as log:
            environment = program.environment(inputs, where)
            self.expert = subprocess.Popen([str(program.path)], env=environment, stdout=log, stderr=subprocess.STDOUT)

    # ---- what may go wrong; each returns when its cause has ended

    def kill_server(self, draw):
        self.server.kill()
        self.server.wait()
        time.sleep(0.3 * draw.random())
        self.serve()

    def outage(self, draw, seconds):
        """No server for a long time."""
        self.server.kill()
        self.server.wait()
        time.sleep(draw.uniform(*seconds))
        self.serve()

    def kill_expert(self, draw):
        self.expert.kill()
        self.expert.wait()
        time.sleep(0.2 * draw.random())
        self.trade()

    def cut(self, draw, *ways):
        cuts, end = self.relay.cuts, time.monotonic() + 20
        self.relay.cut_after(draw.randrange(1, 3_000), *ways)
        while self.relay.cuts == cuts and time.monotonic() < end and self.expert.poll() is None:
            time.sleep(0.001)

    def cut_up(self, draw):
        self.cut(draw, "up")

    def cut_down(self, draw):
        self.cut(draw, "down")

    def half_open(self, draw):
        self.relay.lose()

    def stall(self, draw, seconds=(0.2, 0.6)):
        self.relay.hold()
        time.sleep(draw.uniform(*seconds))
        self.relay.release()

    def stop_server(self, draw, seconds=(0.2, 0.6)):
        self.server.send_signal(signal.SIGSTOP)
        time.sleep(draw.uniform(*seconds))
        self.server.send_signal(signal.SIGCONT)

    def mangle(self, draw):
        self.relay.mangle(draw)
        time.sleep(draw.uniform(0.1, 0.5))
        self.relay.mangle(None)

    def jump(self, draw):
        """The terminal's clock is wrong by $MQL_JUMP_S for a while."""
        self.expert.send_signal(signal.SIGUSR1)
        time.sleep(draw.uniform(0.05, 0.4))
        self.expert.send_signal(signal.SIGUSR2)

    def fill_disk(self, draw):
        """No file of the server may grow beyond some byte of its log: the system's own error, at any write."""
        log = Path(f"{self.journal}-wal")
        most = draw.randrange(0, 8_192 + (log.stat().st_size if log.exists() else 0))
        resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        time.sleep(draw.uniform(0.2, 0.6))
        resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    # ---- what must hold

    def disturb(self, draw, fault, pause=0.25, patience=30.0):
        """Let it run for a random moment, do it, and time how long the link needs from the end of the cause."""
        time.sleep(pause * draw.random())
        before = self.decided()
        fault(draw)
        if fault != self.half_open:
            before = self.decided()
        begun = time.monotonic()
        while self.decided() < before + 3:
            assert time.monotonic() - begun < patience, f"no decision within {patience} s of {fault.__name__}"
            assert self.expert.poll() is None, f"the terminal has ended: {self.expert.poll()}"
            time.sleep(0.004)
        self.recovered.append(time.monotonic() - begun)

    def decided(self):
        return self.kept(f"SELECT count(*) FROM acks WHERE code IN {DECIDED}")[0][0] if self.journal.exists() else 0

    def kept(self, query):
        with sqlite3.connect(self.journal, timeout=10) as base:
            return base.execute(query).fetchall()

    def finish(self, seconds=120):
        assert self.expert.wait(seconds) == 0, (self.folder / f"terminal-{self.experts}.log").read_text()[-1500:]
        self.server.send_signal(signal.SIGTERM)
        assert self.server.wait(10) == 0, (self.folder / "server.log").read_text()[-1500:]

    def deals(self):
        """Open of the bar, side and lots of every deal, from the broker's own books."""
        head, *lines = self.books.read_text().splitlines()
        positions, deals = map(int, head.split()[3:])
        words = [line.split() for line in lines[positions : positions + deals]]
        return [(int(word[3]), int(word[4]), float(word[6]), float(word[7])) for word in words]

    def check(self, missed=0):
        """No stale forecast traded, no order doubled or (but for `missed`) left out, no bar lost."""
        opens = [row[0] for row in self.rows]
        sides, codes = wanted(self.rows), {}
        for bar_time_ms, code in self.kept("SELECT bar_time_ms, code FROM acks ORDER BY epoch, received_ms"):
            codes.setdefault(bar_time_ms, []).append(code)
        traded = {opened: Counter() for opened in opens}
        for opened, side, lots, price in self.deals():
            traded[opened][side, round(lots, 8), price] += 1
        held = before = 0
        for last, now in itertools.pairwise(self.rows[WARM - 1 :]):
            said = codes.get(close_ms(last[0]), [])
            deals = traded[now[0]]
            held = round(held + sum(count * side * lots for (side, lots, _), count in deals.items()), 8)
            right = 0.3 * sides[now[0]] or held
            done = [code for code in said if code in DECIDED]
            assert len(done) <= 1, f"bar {last[0]} was decided on twice: {said}"
            # Closing and opening are two deals on a hedging account, and each price is that of the bar's first tick.
            assert max(deals.values(), default=1) <= 2 and deals.total() <= 2
            assert all(abs(price - now[1] - 8e-5 * (side > 0)) < 1e-9 for side, _, price in deals), (now, deals)
            if done:
                assert held == right, f"bar {now[0]}: held {held}, wanted {right}, {said}"
            elif held not in (before, 0.0, right):
                raise AssertionError(f"bar {now[0]}: held {held} after {before}, wanted {right}, {said}")
            if held != right:
                missed -= 1
            before = held
        assert missed >= 0, f"{-missed} decisions more than allowed are missing"
        for bar_time_ms, time_ms in self.kept("SELECT bar_time_ms, time_ms FROM fills WHERE bar_time_ms > 0"):
            at = opens.index(time_ms // 1000 + OFFSET)
            assert bar_time_ms == close_ms(opens[at - 1]), "an order on a forecast that was not of the last closed bar"
        bars = self.kept("SELECT time_ms, open, high, low, close FROM bars ORDER BY time_ms")
        whole = [(close_ms(row[0]), *row[1:5]) for row in self.rows]
        first = whole.index(bars[0])
        assert (first < WARM or not self.waits) and bars == whole[first : first + len(bars)], "a hole"
        assert len(whole) - first - len(bars) <= 1, "the last bars are missing"
