"""The real server and real peers, over tcp on loopback."""

import asyncio
import json
import logging
import random
import threading
from dataclasses import replace
from socket import create_connection, gethostname

import numpy as np
import pytest
import zmq
from live import SERIES, Broken, Slow, running

from bridge.client import Client, LinkError
from bridge.journal import Journal
from bridge.messages import MAX_FRAME_BYTES, QUANTILES, Bar, Error, Forecast, Heartbeat, Hello, Proof, decode, encode
from bridge.models import Inline
from bridge.server import Options, endpoint_of, serve
from bridge.service import digest
from forecasting.errors import UserError
from strategies.plans import targets
from tunetrade.cli import main


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


def a_bar(seq, epoch=0):
    prices = dict.fromkeys(("open", "high", "low", "close", "equity", "balance"), 1.0)
    return Bar(unique_id=SERIES, time_ms=1, seq=seq, epoch=epoch, **prices)


def a_hello(seq, **changes):
    hello = Hello(unique_id=SERIES, client="test", symbol="EURUSD", tf_sec=86_400, digits=5, point=1e-5, seq=seq)
    return replace(hello, **changes)


def backfilled(client, offline, skip):
    """Send all bars but the last `skip`."""
    return client.backfill(offline.closed[: len(offline.closed) - skip])


def test_forecasts_and_targets_over_the_wire_equal_those_of_the_backtest(offline):
    expected = offline.forecasts()
    with running(offline.desk) as address, Client.connect(address, SERIES) as client:
        got = [backfilled(client, offline, offline.count - 1)]
        got += [client.send_bar(bar) for bar in offline.closed[1 - offline.count :]]
    assert len(got) == len(expected)
    backtests = targets(offline.bars, expected, offline.rules, offline.desk.windows.context)
    assert {forecast.position for forecast in got} == {-1.0, 1.0}
    for index, forecast in enumerate(got):
        row = expected.row(index)
        assert forecast.close_ref == row.anchor
        assert list(forecast.mean) == row.mean.tolist()
        assert [list(getattr(forecast, name)) for name in QUANTILES] == row.quantiles.tolist()
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
        assert (forecast.lots, forecast.trailing, forecast.reason) == (wanted.size, wanted.trailing, wanted.reason)
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
            into += [client.send_bar(bar) for bar in offline.closed[-skip:]]

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
            client.send_bar(offline.closed[0])
        assert caught.value.code == "need_bars"
        first = backfilled(client, offline, 1)
        again = client.send_bar(offline.closed[-2])
        assert (again.TYPE, again.mean, again.input_sha) == ("snapshot", first.mean, first.input_sha)
        with pytest.raises(LinkError) as caught:
            client.send_bar(offline.closed[-2]._replace(high=9.0))
        assert caught.value.code == "conflict"
        forecast = client.send_bar(offline.closed[-1])
        assert forecast.bar_time_ms == offline.closed[-1].time_ms
        assert client.newest().mean == forecast.mean


def test_a_bar_after_a_hole_is_refused_until_the_hole_is_filled(offline):
    with running(offline.desk) as address, Client.connect(address, SERIES) as client:
        backfilled(client, offline, 3)
        held, client._last_ms = client._last_ms, offline.closed[-2].time_ms
        with pytest.raises(LinkError) as caught:
            client.send_bar(offline.closed[-1])
        assert caught.value.code == "gap"
        client._last_ms = held
        assert client.send_bar(offline.closed[-3]).TYPE == "forecast"


def test_hostile_frames_are_answered_with_a_code_and_end_nothing(offline, dealer):
    with running(offline.desk) as address, Client.connect(address, SERIES) as client:
        socket = dealer(address)
        for frames, code in (
            ([b"hello"], "frames"),
            ([b"hello", b"{}", b"{}"], "frames"),
            ([b"hello", b"\xff"], "json"),
            ([b"hello", b'{"v":1,"x":"\xff"}'], "utf8"),
            ([b"hello", b"[" * 60_000], "json"),
            ([b"hello", b'{"v":7}'], "version"),
            ([b"trade", json.dumps({"v": 1, "type": "trade"}).encode()], "type"),
            (encode(a_bar(1)), "session"),
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


def test_bytes_that_are_no_zmtp_end_nothing(offline):
    """A stranger on the port: greetings cut short, long frames announced and never sent, plain noise."""
    draw = random.Random(5)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\0" + bytes(31)
    ready = b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
    with running(offline.desk) as address, Client.connect(address, SERIES) as client:
        port = int(address.rsplit(":", 1)[1])
        for turn in range(60):
            noise = draw.randbytes(draw.randrange(1, 400))
            said = (noise, greeting[: draw.randrange(64)], greeting + noise, greeting + ready + noise)[turn % 4]
            with create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(said + b"\x03\x7f\xff\xff\xff\xff\xff\xff\xff")
        assert backfilled(client, offline, 0).horizon == 3


def test_a_peer_that_comes_back_under_its_name_is_heard_and_begins_anew(offline, dealer):
    with running(offline.desk) as address:
        for _ in range(2):
            socket = dealer(address, b"terminal-1")
            socket.send_multipart(encode(a_hello(1)))
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
    with client, running(offline.desk, port=port), pytest.raises(LinkError, match="restarted"):
        client.heartbeat()


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
            asyncio.run(serve(Inline([]), Journal(":memory:"), Options(port=port)))


ELSEWHERE = [
    "0.0.0.0",
    "*",
    "192.168.1.5",
    "::",
    "::1",
    "example.com",
    "8.8.8.8",
    "0",
    "127.1",
    "",
    gethostname(),
]


@pytest.mark.parametrize("host", ELSEWHERE)
def test_no_address_but_loopback_is_bound_without_a_secret(host, tmp_path, capsys):
    with pytest.raises(UserError, match=r"secret.*127\.0\.0\.1|127\.0\.0\.1.*secret"):
        Options(host=host, port=0)
    journal = tmp_path / "journal.sqlite"
    assert main(["serve", str(tmp_path), "--host", host, "--port", "0", "--journal", str(journal)]) == 2
    assert "secret" in capsys.readouterr().err
    assert not journal.exists()


def test_loopback_is_accepted_and_a_stranger_is_told_of_the_missing_secret():
    assert endpoint_of("localhost", 5757) == "tcp://127.0.0.1:5757"
    assert endpoint_of("127.0.0.2", 0) == "tcp://127.0.0.2:0"
    with pytest.raises(UserError, match="secret"):
        endpoint_of("0.0.0.0", 5757)
    assert endpoint_of("*", 5757, "correct horse battery") == "tcp://0.0.0.0:5757"
    with pytest.raises(UserError, match="at least 16"):
        Options(host="0.0.0.0", secret="short")
    with pytest.raises(UserError, match="port 70000"):
        endpoint_of("127.0.0.1", 70_000)


def test_who_knows_the_secret_is_let_in_and_learns_that_the_server_knows_it_too(offline):
    secret = "correct horse battery"
    with running(offline.desk, secret=secret) as address:
        with Client.connect(address, SERIES, secret=secret) as client:
            assert backfilled(client, offline, 0).horizon == 3
        for wrong, code in (("", "auth"), ("correct horse batterx", "auth")):
            with pytest.raises(LinkError, match="secret") as caught:
                Client.connect(address, SERIES, secret=wrong)
            assert caught.value.code == code
    with running(offline.desk) as address, pytest.raises(LinkError, match="is it your server"):
        Client.connect(address, SERIES, secret=secret)


def test_bars_without_a_proof_are_refused(offline, dealer):
    with running(offline.desk, secret="correct horse battery") as address:
        socket = dealer(address, b"stranger")
        socket.send_multipart(encode(a_hello(1)))
        challenge = answer(socket)
        assert challenge.TYPE == "challenge"
        socket.send_multipart(encode(a_bar(2, epoch=challenge.epoch)))
        assert answer(socket).code == "session"
        socket.send_multipart(encode(Proof(proof="0" * 64, seq=3)))
        assert answer(socket).code == "auth"
        socket.send_multipart(
            encode(Proof(proof=digest("client", challenge.nonce, "", "correct horse battery"), seq=4))
        )
        assert answer(socket).code == "auth", "a challenge is good for one proof"


def test_the_mirror_repeats_what_a_client_was_sent(offline):
    with zmq.Context() as context, context.socket(zmq.PUB) as probe:
        port = probe.bind_to_random_port("tcp://127.0.0.1")
    with (
        running(offline.desk, publish=port) as address,
        Client.connect(address, SERIES) as client,
        zmq.Context() as context,
        context.socket(zmq.SUB) as listener,
    ):
        listener.setsockopt(zmq.LINGER, 0)
        listener.subscribe(b"EURUSD-D1/")
        listener.connect(f"tcp://127.0.0.1:{port}")
        for _ in range(100):  # a subscription takes a moment to arrive
            sent = backfilled(client, offline, 0)
            if listener.poll(20):
                break
        topic, *frames = listener.recv_multipart()
    assert topic == b"EURUSD-D1/ewma-t"
    assert decode(frames) == sent
