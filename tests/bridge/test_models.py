"""Models in a process of their own: the same bytes, failures that stay with their peer, and no process left behind."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import stub
from live import running

from bridge.client import Client, ClosedBar, LinkError
from bridge.messages import Bars, Hello
from bridge.models import Inline, Worker
from bridge.service import House, Job, Now, Session, handle
from forecasting.errors import UserError

HOUR = stub.HOUR


@pytest.fixture(autouse=True)
def stub_is_found(monkeypatch):
    monkeypatch.syspath_prepend(Path(stub.__file__).parent)


def closed(first, last, close=1.1):
    return [ClosedBar.flat(HOUR * hour, close) for hour in range(first, last + 1)]


def job(close=1.1234567890123457):
    rows = tuple(tuple(bar) for bar in closed(1, 5, close))
    return Job("X-H1/drift/1", rows, 0, 1e4, 1.0, 1e-5, 1e5, 0.01, 0.01, 100.0, 7)


def gone(pid):
    """Whether a process that is no longer ours to wait for has ended."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_a_child_gives_the_same_bytes_fails_for_one_and_is_started_again_after_a_crash():
    inline = Inline([stub.desk()])
    worker = Worker("stub:desks", ["X-H1"])
    try:
        assert worker.start() == inline.start()
        wanted = inline.ask([job()])[0][0]
        first = worker.pid
        good, bad = worker.ask([job(), job(8.0)])
        assert good[0] == wanted
        assert "a price nobody has seen" in bad[0]
        assert "ended" in worker.ask([job(9.0)])[0][0]
        assert worker.ask([job()])[0][0] == wanted
        assert worker.pid != first
    finally:
        worker.close()
    assert gone(worker.pid)


def test_a_user_error_of_the_child_is_told_by_the_parent():
    worker = Worker("stub:desks", ["bad"])
    with pytest.raises(UserError, match="bad: no such run"):
        worker.start()
    worker.close()


def test_a_slow_model_in_a_child_holds_up_no_heartbeat_and_a_crash_ends_no_link():
    worker = Worker("stub:desks", ["X-H1", "Y-H1"])
    try:
        with running(models=worker) as address, Client.connect(address, "X-H1") as client:
            client.backfill(closed(1, 5))
            with pytest.raises(LinkError) as caught:
                client.send_bar(ClosedBar.flat(6 * HOUR, 9.0))
            assert caught.value.code == "internal"
            assert client.send_bar(ClosedBar.flat(6 * HOUR, 1.2)).close_ref == 1.2
            with Client.connect(address, "Y-H1") as other:
                other._timeout_s = 0.05
                with pytest.raises(LinkError, match="no answer"):
                    other.backfill(closed(1, 5, 7.0))
                waits = [client.heartbeat() for _ in range(20)]
            assert max(waits) < 1.0
    finally:
        worker.close()


def test_bars_that_wait_together_go_to_the_model_together():
    sizes = []

    class Counting(stub.Drift):
        def predict(self, contexts, progress=None):
            sizes.append(len(contexts))
            return super().predict(contexts)

    desk = replace(stub.desk(), forecaster=Counting())
    house = House(5, {desk.facts.key: desk.facts})
    hello = Hello(unique_id="X-H1", client="t", symbol="X", tf_sec=3600, digits=5, point=1e-5, seq=1)
    session = handle(house, Session(), hello, Now(0)).session
    jobs = []
    for close in (1.1, 1.2, 1.3):
        prices = dict.fromkeys(("opens", "highs", "lows", "closes"), (close,) * 5)
        rest = {"volumes": (0.0,) * 5, "spreads": (-1.0,) * 5, "equity": 1.0, "balance": 1.0, "epoch": 5, "seq": 2}
        sent = Bars(unique_id="X-H1", restart=True, times_ms=tuple(HOUR * n for n in range(1, 6)), **prices, **rest)
        jobs.append(handle(house, session, sent, Now(0)).job)
    answers = Inline([desk]).ask(jobs)
    assert sizes == [3]
    assert [made.close_ref for made, _ in answers] == [1.1, 1.2, 1.3]
