"""CURVE for Python peers: real keys, real sockets of libzmq, the real server."""

import asyncio
import contextlib
import os
import socket
import stat

import pytest
import stub
import zmq
from live import running

from bridge.client import Client, ClosedBar, LinkError
from bridge.curve import MAX_UNREAD, PREFIX, Curve, Shares, make_key, public_key, read_clients, read_key
from bridge.journal import Journal
from bridge.messages import Heartbeat, decode, encode
from bridge.models import Inline
from bridge.server import Options, serve
from forecasting.errors import ConfigError, UserError
from tunetrade.cli import main
from tunetrade.doctor_live import FAIL, NOTE, OK, examine

SECRET = "correct horse battery"
HOUR = 3_600_000
BARS = [ClosedBar.flat(HOUR * (1 + i), 1.0 + i / 100) for i in range(6)]


def pair():
    return tuple(key.decode() for key in zmq.curve_keypair())


@contextlib.contextmanager
def secured(clients=(), **options):
    """A server with both ports: address for terminals, address for CURVE, the server's public key, its events."""
    events, (public, secret) = [], pair()
    curve = Curve(secret, port=0, clients=frozenset(clients))
    with running(stub.desk(), curve=curve, tell=events.append, **options) as plain:
        (listening,) = (event for event in events if event["event"] == "listening")
        assert listening["server_key"] == public
        assert secret not in repr(curve) and secret not in repr(events)
        yield plain, f"tcp://{listening['curve']}", public, events


def test_a_client_with_the_servers_key_gets_what_a_terminal_gets_and_both_work_at_once():
    with (
        secured() as (plain, address, server_key, events),
        Client.connect(address, "X-H1", server_key=server_key, identity="same") as python,
        Client.connect(plain, "X-H1", identity="same") as terminal,
    ):
        made = [client.backfill(BARS[:5]) for client in (python, terminal)]
        made += [client.send_bar(BARS[5]) for client in (terminal, python)]
        assert made[0].mean == made[1].mean and made[2].mean == made[3].mean
        assert {forecast.bar_time_ms for forecast in made[2:]} == {6 * HOUR}
        assert python.heartbeat() < 1 and terminal.heartbeat() < 1
    assert {event["client"] for event in events if event["event"] == "forecast"} == {"same", "curve/same"}


def test_a_wrong_server_key_a_client_without_keys_and_a_key_without_its_servers_get_nothing():
    other, _ = pair()
    with secured() as (_, address, server_key, events):
        for keys in ({"server_key": other}, {}):
            with pytest.raises(LinkError) as caught:
                Client.connect(address, "X-H1", timeout_s=0.4, **keys)
            assert caught.value.code == "timeout"
            assert ("wrong server_key" in str(caught.value)) == bool(keys)
        with pytest.raises(UserError, match="server_key is no CURVE key"):
            Client.connect(address, "X-H1", key=pair()[1])
        assert not [event for event in events if event["event"] == "welcome"]
        with Client.connect(address, "X-H1", server_key=server_key):
            pass


def test_a_curve_client_at_the_port_of_the_terminals_gets_nothing():
    with secured() as (plain, _, server_key, _), pytest.raises(LinkError, match="wrong server_key"):
        Client.connect(plain, "X-H1", timeout_s=0.4, server_key=server_key)


def test_only_the_keys_that_are_allowed_come_in():
    (friend, friends_secret), (_, strangers_secret) = pair(), pair()
    with secured([friend]) as (plain, address, server_key, _):
        with Client.connect(address, "X-H1", server_key=server_key, key=friends_secret) as client:
            assert client.backfill(BARS).unique_id == "X-H1"
        for key in (strangers_secret, ""):
            with pytest.raises(LinkError, match="a key that it does not allow"):
                Client.connect(address, "X-H1", timeout_s=0.4, server_key=server_key, key=key)
        with Client.connect(plain, "X-H1") as terminal:  # who has no key is asked for none
            assert terminal.heartbeat() < 1


def test_with_a_secret_curve_peers_prove_it_too():
    with secured(secret=SECRET) as (_, address, server_key, _):
        with pytest.raises(LinkError, match="asks for a secret"):
            Client.connect(address, "X-H1", server_key=server_key)
        with Client.connect(address, "X-H1", server_key=server_key, secret=SECRET) as client:
            assert client.heartbeat() < 1


def test_a_peer_without_keys_cannot_take_the_name_of_one_with_keys():
    with secured() as (plain, _, _, _), zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger, dealer.rcvtimeo = 0, 300
        dealer.setsockopt(zmq.IDENTITY, PREFIX + b"same")
        dealer.connect(plain)
        dealer.send_multipart(encode(Heartbeat(seq=1)))
        with pytest.raises(zmq.Again):
            dealer.recv_multipart()
        with Client.connect(plain, "X-H1") as other:
            assert other.heartbeat() < 1


def test_many_messages_of_both_kinds_are_all_answered():
    with secured() as (plain, address, server_key, _), zmq.Context() as context:
        dealers = []
        for where in (plain, address):
            dealer = context.socket(zmq.DEALER)
            dealer.linger, dealer.rcvtimeo = 0, 3000
            if where == address:
                public, secret = zmq.curve_keypair()
                dealer.curve_publickey, dealer.curve_secretkey = public, secret
                dealer.curve_serverkey = server_key.encode()
            dealer.connect(where)
            dealers.append(dealer)
        for seq in range(1, 301):
            for dealer in dealers:
                dealer.send_multipart(encode(Heartbeat(seq=seq)))
        for dealer in dealers:
            assert [decode(dealer.recv_multipart()).re for _ in range(300)] == list(range(1, 301))
            dealer.close()


def test_who_floods_is_thrown_away_until_the_port_is_empty_and_nobody_else_is():
    shares, full = Shares(), [b"bars", bytes(MAX_UNREAD // 4 - 4)]
    assert [shares.heard(b"flood", full) for _ in range(6)] == [True] * 4 + [False] * 2
    assert shares.heard(b"honest", full)
    shares.emptied()
    assert shares.heard(b"flood", full)


def test_other_machines_reach_the_curve_port_only_past_keys_or_a_secret():
    _, secret = pair()
    friend, _ = pair()
    for host in ("0.0.0.0", "*", "192.168.1.5"):
        with pytest.raises(ConfigError, match=r"CURVE.*secret.*--curve-clients"):
            Options(curve=Curve(secret, host=host))
        Options(curve=Curve(secret, host=host, clients=frozenset([friend])))
        Options(curve=Curve(secret, host=host), secret=SECRET)
        with pytest.raises(ConfigError, match="secret"):  # keys guard their own port alone
            Options(host=host, curve=Curve(secret, clients=frozenset([friend])))


def test_a_key_is_made_once_for_its_owners_eyes_and_never_shown(tmp_path, capsys):
    file = tmp_path / "server.key"
    assert main(["curve-key", str(file)]) == 0
    public = capsys.readouterr().out.strip()
    assert public_key(read_key(file)) == public and len(public) == 40
    assert main(["curve-key", str(file)]) == 2
    assert f"its public key is {public}" in capsys.readouterr().err
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(0o644)
        with pytest.raises(ConfigError, match="chmod 600"):
            read_key(file)
    secret = make_key(tmp_path / "other.key") + "x"
    file.chmod(0o600)
    file.write_text(secret)
    with pytest.raises(ConfigError, match="is no CURVE key") as caught:
        read_key(file)
    assert secret not in str(caught.value)


def test_allowed_keys_are_read_from_lines_with_remarks(tmp_path):
    first, second = pair()[0], pair()[0]
    file = tmp_path / "clients"
    file.write_text(f"{first} the laptop\n\n{second}\n")
    assert read_clients(file) == {first, second}
    file.write_text("\n")
    with pytest.raises(ConfigError, match="nobody could connect"):
        read_clients(file)
    file.write_text("no key\n")
    with pytest.raises(ConfigError, match=r"a line of .* is no CURVE key"):
        read_clients(file)


def test_the_command_says_what_is_missing(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    rest = ["--journal", str(tmp_path / "j.sqlite")]
    assert main(["serve", str(run), "--curve-clients", "x", *rest]) == 2
    assert "tunetrade curve-key" in capsys.readouterr().err
    make_key(tmp_path / "key")
    asked = ["serve", str(run), "--curve-key", str(tmp_path / "key"), "--curve-host", "0.0.0.0", *rest]
    assert main(asked) == 2
    assert "secret" in capsys.readouterr().err
    assert not (tmp_path / "j.sqlite").exists()


def test_a_libzmq_without_curve_is_told_with_the_cure(monkeypatch, tmp_path):
    monkeypatch.setattr(zmq, "has", lambda what: False)
    with pytest.raises(UserError, match=r"without CURVE.*--only-binary"):
        make_key(tmp_path / "key")


def test_doctor_tells_the_curve_port_from_that_of_the_terminals_and_a_wrong_key_from_a_right_one():
    (friend, friends_secret), (other, _) = pair(), pair()
    with secured([friend]) as (plain, address, server_key, _):
        ends = {
            what: list(examine(at, timeout_s=0.4, keys=keys))[-1]
            for what, at, keys in (
                ("no key", address, ("", "")),
                ("not curve", plain, (server_key, friends_secret)),
                ("wrong server", address, (other, friends_secret)),
                ("not allowed", address, (server_key, "")),
            )
        }
        good = [check.status for check in examine(address, timeout_s=2, keys=(server_key, friends_secret))]
    assert {end.status for end in ends.values()} == {FAIL}
    assert "is the port for CURVE" in ends["no key"].detail and "does not speak CURVE" in ends["not curve"].detail
    assert ends["wrong server"].name == ends["not allowed"].name == "keys"
    assert good == [OK] * 6 + [NOTE]


def test_a_curve_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        curve = Curve(pair()[1], port=taken.getsockname()[1])
        with pytest.raises(UserError, match=rf"{curve.port}: it is taken"):
            asyncio.run(serve(Inline([]), Journal(":memory:"), Options(port=0, curve=curve)))
