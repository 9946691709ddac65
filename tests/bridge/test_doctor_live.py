"""`tunetrade doctor --live` against real servers and real impostors: each fault has its own line and its cure."""

import contextlib
import http.server
import json
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import stub
import zmq
from live import running
from simulated import peer, stranger

from bridge.client import Client, ClosedBar
from tunetrade.cli import main
from tunetrade.doctor_live import FAIL, NOTE, OK, Newest, examine, feed_check

SECRET = "correct horse battery"


def seen(address, secret="", timeout_s=2.0, **rest):
    return {check.name: check for check in examine(address, secret, timeout_s=timeout_s, **rest)}


def fault(address, secret="", timeout_s=0.3):
    """Name and text of the one check that failed, which must be the last."""
    *before, last = examine(address, secret, timeout_s=timeout_s)
    assert {check.status for check in before} <= {OK}
    assert last.status == FAIL
    return last.name, last.detail


def test_a_healthy_server_passes_every_check_and_is_left_as_it_was():
    told = []
    with running(stub.desk(), stub.desk("Y-H1"), tell=told.append) as address:
        checks = seen(address)
    assert [check.status for check in checks.values()] == [OK] * 6 + [NOTE]
    assert checks["series"].detail == "served: X-H1, Y-H1"
    assert not [event for event in told if event["event"] in ("welcome", "error") and event.get("accepted")]


def test_nothing_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    name, text = fault(f"tcp://127.0.0.1:{port}")
    assert name == "port" and "nothing listens" in text and "tunetrade serve" in text


def test_a_host_that_does_not_exist():
    name, text = fault("tcp://no-such-host.invalid:5757")
    assert name == "port" and "no host that this machine knows" in text


@contextlib.contextmanager
def web():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def bound(kind, work=None):
    """A socket of libzmq; `work` gets each message it receives."""
    done = threading.Event()

    def loop(sock):
        while not done.is_set():
            if kind != zmq.PUB and sock.poll(10):
                work(sock, sock.recv_multipart())
            else:
                done.wait(0.01)

    with peer(kind, loop) as port:
        yield port
        done.set()


def mute(sock, frames):
    """Takes a message and does not answer."""


def echo(sock, frames):
    sock.send_multipart(frames)


def babble(sock, frames):
    sock.send_multipart([frames[0], b"hi", b"there"])


IMPOSTORS = {
    "a banner": (lambda: stranger(b"SSH-2.0-OpenSSH_9.6\r\n"), "ZeroMQ", "it says 'SSH-2.0-OpenSSH_9.6', which is not"),
    "silence": (lambda: stranger(b""), "ZeroMQ", "takes connections and says nothing"),
    "HTTP": (web, "ZeroMQ", "something else listens"),
    "REP": (lambda: bound(zmq.REP, echo), "ZeroMQ", "is a REP socket"),
    "PUB": (lambda: bound(zmq.PUB), "ZeroMQ", "mirror of `serve --publish`"),
    "a mute ROUTER": (lambda: bound(zmq.ROUTER, mute), "version", "does not answer within 0.3 s"),
    "an echoing ROUTER": (lambda: bound(zmq.ROUTER, echo), "version", "does not answer within 0.3 s"),
    "another protocol": (lambda: bound(zmq.ROUTER, babble), "version", "is a ROUTER, but no TuneTrade"),
}


@pytest.mark.parametrize("what", IMPOSTORS)
def test_something_else_listens(what):
    impostor, wanted, words = IMPOSTORS[what]
    with impostor() as port:
        name, text = fault(f"127.0.0.1:{port}")
    assert (name, words in text) == (wanted, True), text


@contextlib.contextmanager
def odd(what, number):
    here = Path(__file__).parent
    command = [sys.executable, str(here / "served_oddly.py"), what, str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield f"tcp://127.0.0.1:{int(child.stdout.readline())}"
        finally:
            child.kill()


def test_another_version_is_told_with_the_cure():
    with odd("version", 2) as address:
        name, text = fault(address, timeout_s=3)
    assert name == "version" and "this program speaks version 1" in text and "pip install -U tunetrade" in text


def test_clocks_that_are_apart_are_told():
    with odd("clock", -30) as address:
        name, text = fault(address, timeout_s=3)
    assert name == "clock" and "30 s behind" in text and "network time" in text


def test_each_way_to_fail_the_proof_is_told_apart():
    with running(stub.desk(), secret=SECRET) as address:
        assert seen(address, SECRET)["secret"].detail == "both sides know it"
        none, wrong = fault(address), fault(address, "correct horse batterx")
    with running(stub.desk()) as address:
        needless = fault(address, SECRET)
    assert {name for name, _ in (none, wrong, needless)} == {"secret"}
    assert "asks for a secret" in none[1] and "--secret-file" in none[1]
    assert "the proof is wrong" in wrong[1]
    assert "asks for no secret and one was given" in needless[1]


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


FRIDAY_LAST_HOUR = at("2024-01-05T22:00")
"""Close of the week's last bar: 17:00 in New York."""


@pytest.mark.parametrize(
    ("newest", "now", "calendar", "status"),
    [
        ("2024-01-03T10:00", "2024-01-03T10:59", "fx-week", OK),
        ("2024-01-03T10:00", "2024-01-03T11:14", "fx-week", OK),
        ("2024-01-03T10:00", "2024-01-03T11:16", "fx-week", FAIL),
        ("2024-01-05T21:00", "2024-01-07T21:59", "fx-week", OK),  # Friday's last bar closes with Sunday's first tick
        ("2024-01-05T21:00", "2024-01-07T22:16", "fx-week", FAIL),
        ("2024-01-05T20:00", "2024-01-06T12:00", "fx-week", FAIL),
        ("2024-01-05T22:00", "2024-01-07T23:14", "fx-week", OK),
        ("2024-01-05T22:00", "2024-01-06T12:00", "round-the-clock", FAIL),
        ("2024-01-03T12:00", "2024-01-03T11:00", "fx-week", FAIL),  # from the future
    ],
)
def test_a_feed_is_stale_by_its_markets_calendar(newest, now, calendar, status):
    check = feed_check(Newest("Demo", "EURUSD-H1", 3600, at(newest)), calendar, at(now))
    assert check.status == status, check.detail


def test_the_missing_bars_are_counted_and_a_future_bar_names_the_input():
    check = feed_check(Newest("Demo", "EURUSD-H1", 3600, at("2024-01-05T20:00")), "fx-week", at("2024-01-08T00:30"))
    # 21:00 and 22:00 on Friday, 23:00 and 00:00 after the weekend
    assert check.detail.startswith("the newest bar of Demo closed Fri 2024-01-05 20:00 UTC: 4 bars are missing")
    check = feed_check(Newest("", "EURUSD-H1", 3600, at("2024-01-03T14:00")), "fx-week", at("2024-01-03T11:00"))
    assert "3.0 h from now" in check.detail and "InpClock" in check.detail


def test_the_verb_reads_the_journal_and_its_exit_status_says_whether_all_is_well(tmp_path, capsys, monkeypatch):
    journal, secret = tmp_path / "journal.sqlite", tmp_path / "secret.txt"
    secret.write_text(SECRET)
    monkeypatch.delenv("TUNETRADE_SECRET", raising=False)
    hour = 3_600_000
    first = at("2024-01-03T00:00")
    with running(stub.desk(), secret=SECRET, journal=journal) as address:
        asked = ["doctor", "--live", "--address", address, "--journal", str(journal), "--secret-file", str(secret)]
        assert main(asked) == 0
        assert "has no bars yet" in capsys.readouterr().out.splitlines()[-1]
        with Client.connect(address, "X-H1", secret=SECRET, feed="Demo") as client:
            client.backfill([ClosedBar.flat(first + hour * i, 1.0) for i in range(9)])
        assert main(asked) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line[:4] for line in lines] == ["ok  "] * 6 + ["FAIL"]
        assert "feed X-H1" in lines[-1] and "closed Wed 2024-01-03 08:00 UTC" in lines[-1]
        assert main([*asked, "--json"]) == 1
        report = json.loads(capsys.readouterr().out)
        assert not report["healthy"] and report["checks"][-1]["status"] == FAIL
    with running(stub.desk("Y-H1"), journal=journal) as address:
        assert main(["doctor", "--live", "--address", address, "--journal", str(journal)]) == 0
        assert capsys.readouterr().out.splitlines()[-1].split() == ["--", "feed", "X-H1", "not", "served", "now"]
    assert main(asked) == 1
    assert capsys.readouterr().out.startswith("FAIL  port")


def test_options_of_the_live_link_want_it_named(capsys):
    assert main(["doctor", "--terminal", "folder"]) == 2
    assert "--live" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1", "tcp://:5757", "tcp://127.0.0.1:port", "tcp://127.0.0.1:70000"])
def test_an_address_that_is_none_is_the_users_error(address, capsys):
    assert main(["doctor", "--live", "--address", address]) == 2
    assert "write tcp://127.0.0.1:5757" in capsys.readouterr().err
