"""The real server and real peers, over tcp on loopback."""

import asyncio
import json
import logging
import threading
from dataclasses import replace

import numpy as np
import pytest
import zmq
from live import SERIES, Broken, Slow, running

from bridge.client import Client, LinkError
from bridge.messages import MAX_FRAME_BYTES, Bar, Error, Forecast, Heartbeat, Hello, decode, encode
from bridge.server import loopback_endpoint, serve
from forecasting.errors import UserError
from strategies.plans import targets


@pytest.fixture
def dealer():
    """Raw DEALERs, closed after the test: `dealer(address)`."""
    context, sockets = zmq.Context(), []

    def opened(address, identity=b""):
        socket = context.socket(zmq.DEALER)
        if identity:
            socket.setsockopt(zmq.IDENTITY, identity)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 3_000)
        socket.connect(address)
        sockets.append(socket)
        return socket

    yield opened
    for socket in sockets:
        socket.close()
    context.term()


def answer(socket):
    return decode(socket.recv_multipart())


def backfilled(client, offline, skip):
    """Send all bars but the last `skip`."""
    end = len(offline.closes) - skip
    return client.backfill(offline.times_ms[:end], offline.closes[:end])


def test_forecasts_and_targets_over_the_wire_equal_those_of_the_backtest(offline):
    expected = offline.forecasts()
    with running(offline.desk) as address, Client.connect(address, SERIES) as client:
        got = [backfilled(client, offline, offline.count - 1)]
        for time_ms, close in zip(
            offline.times_ms[1 - offline.count :], offline.closes[1 - offline.count :], strict=True
        ):
            got.append(client.send_bar(time_ms, close))
    assert len(got) == len(expected)
    backtests = targets(offline.bars, expected, offline.rules, offline.desk.windows.context)
    assert {forecast.position for forecast in got} == {-1.0, 1.0}
    for index, forecast in enumerate(got):
        row = expected.row(index)
        assert forecast.close_ref == row.anchor
        assert list(forecast.mean) == row.mean.tolist()
        assert list(forecast.q10) == row.quantiles[1].tolist()
        assert list(forecast.q90) == row.quantiles[5].tolist()
        assert list(forecast.p_up) == row.p_up.tolist()
        assert forecast.input_sha == row.input_sha
        assert forecast.model_sha == offline.desk.forecaster.sha
        assert forecast.issued_ms <= forecast.ts_ms
        wanted = backtests[index]
        assert (forecast.position, forecast.stop, forecast.take_profit) == (
            wanted.position,
            wanted.stop,
            wanted.take_profit,
        )
        assert (forecast.size, forecast.reason) == (wanted.size, wanted.reason)
        assert np.datetime64(forecast.expiry_ms, "ms") == wanted.expiry


def test_heartbeats_are_answered_while_a_forecast_is_being_made(offline, dealer):
    slow = Slow(offline.desk.forecaster)
    with (
        running(replace(offline.desk, forecaster=slow)) as address,
        Client.connect(address, SERIES) as other,
        Client.connect(address, SERIES, timeout_s=4) as client,
    ):
        got = []
        thread = threading.Thread(target=lambda: got.append(backfilled(client, offline, 0)))
        thread.start()
        assert slow.begun.wait(3)
        assert other.heartbeat() < 1.0
        socket = dealer(address)
        socket.send_multipart(encode(Heartbeat(seq=41)))
        assert (beat := answer(socket)).TYPE == "hb"
        assert (beat.re, beat.epoch) == (41, other.welcome.epoch)
        assert not got
        slow.go_on.set()
        thread.join(4)
        assert isinstance(got[0], Forecast)


def test_two_clients_at_once_do_not_disturb_each_other(offline):
    expected = offline.forecasts()

    def follow(address, skip, into):
        with Client.connect(address, SERIES) as client:
            into.append(backfilled(client, offline, skip))
            for index in range(len(offline.closes) - skip, len(offline.closes)):
                into.append(client.send_bar(offline.times_ms[index], offline.closes[index]))

    with running(offline.desk) as address:
        results, threads = {9: [], 6: []}, []
        for skip, into in results.items():
            threads.append(threading.Thread(target=follow, args=(address, skip, into)))
            threads[-1].start()
        for thread in threads:
            thread.join(5)
    for skip, got in results.items():
        rows = range(len(expected) - skip - 1, len(expected))
        assert [list(forecast.mean) for forecast in got] == [expected.mean[row].tolist() for row in rows]


def test_bars_out_of_place_are_refused_and_the_session_goes_on(offline):
    with running(offline.desk) as address, Client.connect(address, SERIES) as client:
        with pytest.raises(LinkError, match="backfill first") as caught:
            client.send_bar(offline.times_ms[0], offline.closes[0])
        assert caught.value.code == "need_bars"
        backfilled(client, offline, 1)
        with pytest.raises(LinkError) as caught:
            client.send_bar(offline.times_ms[-2], offline.closes[-2])
        assert caught.value.code == "duplicate"
        assert client.send_bar(offline.times_ms[-1], offline.closes[-1]).bar_time_ms == offline.times_ms[-1]


def test_hostile_frames_are_answered_with_a_code_and_end_nothing(offline, dealer):
    with running(offline.desk) as address, Client.connect(address, SERIES) as client:
        socket = dealer(address)
        for frames, code in (
            ([b"hello"], "frames"),
            ([b"hello", b"{}", b"{}"], "frames"),
            ([b"hello", b"\xff"], "json"),
            ([b"hello", b'{"v":0,"x":"\xff"}'], "utf8"),
            ([b"hello", b"[" * 60_000], "json"),
            ([b"hello", b'{"v":7}'], "version"),
            ([b"trade", json.dumps({"v": 0, "type": "trade"}).encode()], "type"),
            (encode(Bar(unique_id=SERIES, time_ms=1, close=1.0, seq=1)), "session"),
        ):
            socket.send_multipart(frames)
            error = answer(socket)
            assert isinstance(error, Error)
            assert error.code == code
        oversized = dealer(address)
        oversized.send_multipart([b"hello", b"x" * (MAX_FRAME_BYTES + 1)])
        oversized.setsockopt(zmq.RCVTIMEO, 200)
        with pytest.raises(zmq.Again):
            oversized.recv_multipart()
        assert backfilled(client, offline, 0).horizon == 3


def test_a_peer_that_comes_back_under_its_name_is_heard_and_begins_anew(offline, dealer):
    with running(offline.desk) as address:
        for _ in range(2):
            socket = dealer(address, b"terminal-1")
            socket.send_multipart(encode(Hello(unique_id=SERIES, client="test", seq=1)))
            welcome = answer(socket)
            assert (welcome.accepted, welcome.re, welcome.history) == (True, 1, offline.desk.history)


def test_a_model_that_fails_is_an_error_not_the_end(offline, caplog):
    broken = replace(offline.desk, forecaster=Broken(offline.desk.forecaster.warm_up))
    caplog.set_level(logging.CRITICAL)
    with running(broken) as address, Client.connect(address, SERIES) as client:
        for _ in range(2):
            with pytest.raises(LinkError, match="log") as caught:
                backfilled(client, offline, 0)
            assert caught.value.code == "internal"
        assert client.heartbeat() < 1.0


def test_a_restarted_server_is_noticed(offline):
    with running(offline.desk) as address:
        client = Client.connect(address, SERIES, timeout_s=3)
    port = int(address.rsplit(":", 1)[1])

    async def beat():
        server = asyncio.create_task(serve({SERIES: offline.desk}, port=port))
        try:
            with pytest.raises(LinkError, match="restarted"):
                await asyncio.to_thread(client.heartbeat)
        finally:
            server.cancel()

    with client, asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(beat())


def test_nothing_listening_says_what_to_check():
    with pytest.raises(LinkError, match="is the server running there") as caught:
        Client.connect("tcp://127.0.0.1:1", SERIES, timeout_s=0.2)
    assert caught.value.code == "timeout"
    with pytest.raises(LinkError, match="write tcp://"):
        Client.connect("127.0.0.1:5757", SERIES)


def test_a_series_not_served_is_refused_by_name(offline):
    with running(offline.desk) as address, pytest.raises(LinkError, match="served: EURUSD-D1"):
        Client.connect(address, "GBPUSD-D1")


def test_a_port_that_is_taken_is_named_with_the_cure(offline):
    with running(offline.desk) as address:
        port = int(address.rsplit(":", 1)[1])
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}: it is taken.*another port"):
            asyncio.run(serve({}, port=port))


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.168.1.5", "::", "example.com", "8.8.8.8"])
def test_no_address_but_loopback_is_bound(host):
    with pytest.raises(UserError, match=r"127\.0\.0\.1"):
        asyncio.run(serve({}, port=0, host=host))


def test_loopback_is_accepted_and_a_stranger_is_told_of_the_missing_secret():
    assert loopback_endpoint("localhost", 5757) == "tcp://127.0.0.1:5757"
    assert loopback_endpoint("127.0.0.2", 0) == "tcp://127.0.0.2:0"
    with pytest.raises(UserError, match="secret"):
        loopback_endpoint("0.0.0.0", 5757)
    with pytest.raises(UserError, match="port 70000"):
        loopback_endpoint("127.0.0.1", 70_000)
