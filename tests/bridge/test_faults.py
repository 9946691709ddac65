"""Faults at random moments: what reaches a client is right or does not reach it, and nothing is lost for good."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stub
import zmq
from faulty import Relay
from live import running

from bridge.client import Client, ClosedBar, LinkError
from bridge.desk import forecast_jobs
from bridge.messages import Bars, Forecast, Hello, decode, encode
from bridge.service import House, Now, Session, handle

HOUR = stub.HOUR


def closed(hour):
    close = round(1.1 + (hour * 7919 % 101) / 1e4, 5)
    return ClosedBar.flat(HOUR * hour, close)


def expected(hour):
    """The forecast at a bar, made without any link."""
    desk = stub.desk()
    house = House(5, {desk.facts.key: desk.facts})
    hello = Hello(unique_id="X-H1", client="t", symbol="X", tf_sec=3600, digits=5, point=1e-5, seq=1)
    rows = [closed(n) for n in range(hour - desk.history + 1, hour + 1)]
    prices = dict.fromkeys(("opens", "highs", "lows", "closes"), tuple(row.close for row in rows))
    rest = {"volumes": (0.0,) * len(rows), "spreads": (-1.0,) * len(rows), "equity": 1e4, "balance": 1e4}
    times = tuple(row.time_ms for row in rows)
    sent = Bars(unique_id="X-H1", restart=True, times_ms=times, epoch=5, seq=2, **prices, **rest)
    job = handle(house, handle(house, Session(), hello, Now(0)).session, sent, Now(0)).job
    return forecast_jobs([job], {desk.facts.key: desk})[0]


def check(forecast, hour):
    wanted = expected(hour)
    assert forecast.bar_time_ms == wanted.bar_time_ms
    assert (forecast.close_ref, forecast.mean, forecast.q05) == (wanted.close_ref, wanted.mean, wanted.q05)
    assert (forecast.position, forecast.lots, forecast.stop) == (wanted.position, wanted.lots, wanted.stop)
    assert forecast.input_sha == wanted.input_sha


class Terminal:
    """What an EA does: goes on over any LinkError by a new session and a backfill."""

    def __init__(self, address, timeout_s=0.4):
        self.address, self.timeout_s, self.client = address, timeout_s, None
        self.errors = 0

    def forecast(self, hour, patience_s=10.0):
        """The forecast at a bar, whatever it takes within `patience_s`."""
        end = time.monotonic() + patience_s
        while True:
            try:
                if self.client:
                    return self.client.send_bar(closed(hour))
                self.client = Client.connect(
                    self.address, "X-H1", timeout_s=self.timeout_s, identity="terminal-1", feed="Demo"
                )
                return self.client.backfill([closed(n) for n in range(1, hour + 1)])
            except LinkError:
                self.errors += 1
                self.close()
                if time.monotonic() > end:
                    raise

    def close(self):
        if self.client:
            self.client.close()
            self.client = None


def served(port, journal, how="inline"):
    here = Path(__file__).parent
    command = [sys.executable, str(here / "served.py"), str(port), str(journal), how]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    return child, int(child.stdout.readline())


def bars_kept(journal):
    with sqlite3.connect(journal) as base:
        return [row[0] // HOUR for row in base.execute("SELECT time_ms FROM bars ORDER BY time_ms")]


def killed_and_restarted(times, journal, seed, how="inline"):
    """Kill -9 the server at random moments while a terminal goes on bar by bar; nothing of it is lost."""
    draw = random.Random(seed)
    child, port = served(0, journal, how)
    terminal, hour = Terminal(f"tcp://127.0.0.1:{port}"), 5
    try:
        for _ in range(times):
            for _ in range(draw.randrange(1, 6)):
                hour += 1
                check(terminal.forecast(hour), hour)
            if draw.random() < 0.5:  # in the middle of an answer
                bar = encode_bar(terminal.client, hour + 1)
                terminal.client._socket.send_multipart(bar)
                time.sleep(draw.random() * 0.004)
            child.kill()
            child.wait()
            child, port = served(port, journal, how)
        hour += 1
        check(terminal.forecast(hour), hour)
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == 0
    finally:
        terminal.close()
        child.kill()
        child.wait()
        child.stdout.close()
    kept = bars_kept(journal)
    assert kept == list(range(kept[0], hour + 1)), "a hole"
    assert kept[0] <= 6
    return terminal.errors


def stalled(times, seconds, journal, seed):
    """The server stands still for a while, its connections open; the longest wait after it goes on, in seconds."""
    draw, longest = random.Random(seed), 0.0
    child, port = served(0, journal)
    terminal, hour = Terminal(f"tcp://127.0.0.1:{port}"), 5
    try:
        for _ in range(times):
            for _ in range(draw.randrange(1, 4)):
                hour += 1
                check(terminal.forecast(hour), hour)
            child.send_signal(signal.SIGSTOP)
            hour += 1
            with pytest.raises(LinkError):
                terminal.forecast(hour, patience_s=seconds)
            child.send_signal(signal.SIGCONT)
            begun = time.monotonic()
            check(terminal.forecast(hour), hour)
            longest = max(longest, time.monotonic() - begun)
    finally:
        terminal.close()
        child.kill()
        child.wait()
        child.stdout.close()
    kept = bars_kept(journal)
    assert kept == list(range(kept[0], hour + 1)), "a hole"
    return longest


def encode_bar(client, hour):
    from bridge.messages import Bar

    bar = Bar(
        unique_id="X-H1", prev_ms=HOUR * (hour - 1), epoch=client._epoch, seq=client._seq + 1,
        **client.account._asdict(), **closed(hour)._asdict(),
    )  # fmt: skip
    return encode(bar)


def cut_at_random(times, seed):
    draw, faults = random.Random(seed), 0
    with running(stub.desk()) as address:
        relay = Relay(int(address.rsplit(":", 1)[1]))
        terminal, hour = Terminal(relay.address), 5
        try:
            for _ in range(times):
                hour += 1
                check(terminal.forecast(hour), hour)
                relay.cut_after(draw.randrange(1, 1_500))
                while relay.left is not None:
                    hour += 1
                    check(terminal.forecast(hour), hour)
            faults = relay.cuts
        finally:
            terminal.close()
            relay.close()
    assert faults >= times
    return terminal.errors


def duplicated_and_reordered(times, seed):
    """Each of a client's messages may come twice, late or out of turn; only true forecasts come back, in order."""
    draw = random.Random(seed)
    with running(stub.desk()) as address, zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 2_000)
        socket.connect(address)
        client = Client.connect(address, "X-H1")  # only to borrow its account
        hello = Hello(unique_id="X-H1", client="t", symbol="X", tf_sec=3600, digits=5, point=1e-5, seq=1)
        socket.send_multipart(encode(hello))
        epoch = decode(socket.recv_multipart()).epoch
        client._epoch, client._seq, seen = epoch, 1, set()
        hour, late = 5, []
        for _ in range(times):
            sent = []
            for _ in range(draw.randrange(1, 4)):
                hour += 1
                client._seq += 1
                rows = [closed(n) for n in range(hour - 4, hour + 1)]
                prices = dict.fromkeys(("opens", "highs", "lows", "closes"), tuple(row.close for row in rows))
                rest = {"volumes": (0.0,) * 5, "spreads": (-1.0,) * 5, **client.account._asdict()}
                stamps = tuple(row.time_ms for row in rows)
                message = Bars(
                    unique_id="X-H1", restart=True, times_ms=stamps, epoch=epoch, seq=client._seq, **prices, **rest
                )
                sent += [encode(message)] * draw.randrange(1, 3)
            late += [frames for frames in sent if draw.random() < 0.2]
            draw.shuffle(sent)
            if late and draw.random() < 0.3:
                sent.append(late.pop(0))
            for frames in sent:
                socket.send_multipart(frames)
            newest = -1
            for _ in sent:
                answer = decode(socket.recv_multipart())
                if isinstance(answer, Forecast):
                    check(answer, answer.bar_time_ms // HOUR)
                    assert answer.re > newest, "an older message was answered after a newer one"
                    newest = answer.re
                    assert answer.re not in seen, "a message was answered twice"
                    seen.add(answer.re)
                else:
                    assert answer.code == "sequence"
            client._seq = max(client._seq, newest)
        client.close()
    return len(seen)


def test_a_server_killed_at_random_moments_loses_nothing(tmp_path):
    assert killed_and_restarted(2, tmp_path / "j.sqlite", seed=1) >= 1


def test_a_connection_cut_at_random_bytes_costs_no_bar_and_gives_no_wrong_forecast():
    assert cut_at_random(4, seed=2) >= 1


def test_messages_twice_late_or_out_of_turn_are_answered_once():
    assert duplicated_and_reordered(40, seed=3) > 40


@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP")
def test_a_server_that_stood_still_is_heard_again_within_five_seconds(tmp_path):
    assert stalled(1, 0.8, tmp_path / "j.sqlite", seed=4) < 5.0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP")
def test_stalls_of_two_to_thirty_seconds(tmp_path):
    assert stalled(20, 2.0, tmp_path / "a.sqlite", seed=14) < 5.0
    assert stalled(1, 30.0, tmp_path / "b.sqlite", seed=15) < 5.0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["inline", "worker"])
def test_a_server_killed_twenty_times_loses_nothing(tmp_path, how):
    killed_and_restarted(20, tmp_path / "j.sqlite", seed=11, how=how)


@pytest.mark.slow
def test_a_connection_cut_a_hundred_times():
    cut_at_random(100, seed=12)


@pytest.mark.slow
def test_thousands_of_messages_twice_late_or_out_of_turn():
    duplicated_and_reordered(2_000, seed=13)
