"""`install-mt5`, and `doctor --live --terminal` on what the Expert Advisor's own code writes into a data folder."""

import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import stub
from live import running
from simulated import built, finished, stranger

from bridge.terminal.build import EXPERT, MQL5
from forecasting.errors import UserError
from tunetrade.cli import main
from tunetrade.doctor_live import FAIL, NOTE, OK
from tunetrade.doctor_terminal import Status, chart_check, terminal_checks
from tunetrade.install_mt5 import install, is_compiled, unlike

SECRET = "correct horse battery"


@pytest.fixture
def data(tmp_path):
    """A data folder as a terminal makes it, whose Files are those of the simulated terminal."""
    folder = tmp_path / "D0E8209F77C8CF37AD8BF550E51FF075"
    for part in ("Experts", "Include", "Files"):
        (folder / "MQL5" / part).mkdir(parents=True)
    return folder


def compiled(folder):
    """What F7 leaves, as far as anything here looks at it."""
    program = folder / "MQL5" / "Experts" / "TuneTrade" / "TuneTrade.ex5"
    program.write_bytes(b"EX5")
    os.utime(program, (time.time() + 1, time.time() + 1))


def attached(folder, port, milliseconds=700, killed=False, terminal=None, **inputs):
    """Run the Expert Advisor on an hourly chart without ticks; where it was killed its last words stay."""
    files = folder / "MQL5" / "Files"
    if not (files.parent.parent / "local").exists():
        (files.parent.parent / "local").symlink_to(files)
    where = {"FILES": folder, "RUN_MS": 20_000 if killed else milliseconds}
    given = {"InpPort": port, "InpSeries": "X-H1", "InpTimerMs": 5, "InpBackoffMs": 50, **inputs}
    process = built(EXPERT).start(given, {**where, **(terminal or {})})
    if not killed:
        return finished(process)
    time.sleep(milliseconds / 1000)
    process.kill()
    return process.communicate()


def checked(folder, port, now_s=None):
    return {check.name: check for check in terminal_checks(folder, ("127.0.0.1", port), now_s or time.time())}


def chart(folder, port, **how):
    """What doctor makes of a chart that is still running, its terminal stopped the moment it looks."""
    install(folder)
    compiled(folder)
    attached(folder, port, killed=True, milliseconds=how.pop("milliseconds", 500), **how)
    return checked(folder, port)["chart X-H1"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_an_address_that_is_not_allowed_is_told_with_the_menu_path(data):
    check = chart(data, free_port(), terminal={"NOT_ALLOWED": 1})
    assert check.status == FAIL
    assert "Tools > Options > Expert Advisors: tick Allow WebRequest for listed URL and add 127.0.0.1" in check.detail


def test_nothing_listening_and_strangers_are_told_by_the_chart_too(data):
    check = chart(data, free_port())
    assert check.status == FAIL and "nobody listens" in check.detail and "start `tunetrade serve RUN`" in check.detail
    with stranger(b"SSH-2.0-OpenSSH_9.6\r\n") as port:
        check = chart(data, port)
    assert check.status == FAIL and "another program's" in check.detail


@pytest.mark.parametrize(
    ("servers", "charts", "words"),
    [
        (SECRET, "", "set the input Secret"),
        (SECRET, "correct horse batterx", "the proof is wrong"),
        ("", SECRET, "start the server with --secret-file, or empty the input"),
    ],
)
def test_each_way_to_fail_the_proof_is_told_by_the_chart_too(data, servers, charts, words):
    with running(stub.desk(), secret=servers) as address:
        check = chart(data, int(address.rpartition(":")[2]), InpSecret=charts)
    assert check.status == FAIL and check.detail.startswith("refused") and words in check.detail


def test_a_series_that_is_not_served_is_told_with_what_is(data):
    with running(stub.desk("Y-H1")) as address:
        check = chart(data, int(address.rpartition(":")[2]))
    assert check.status == FAIL and "served: Y-H1" in check.detail and "set the input Series" in check.detail


def test_a_chart_that_was_stopped_or_killed_long_ago_is_no_running_one(data):
    port = free_port()
    install(data)
    compiled(data)
    assert "no chart has run" in checked(data, port)["charts"].detail
    attached(data, port, 200)
    assert "none runs it now; X-H1 was the last" in checked(data, port)["charts"].detail
    attached(data, port, 200, killed=True)
    assert "charts" not in checked(data, port)
    assert "60 min ago" in checked(data, port, time.time() + 3600)["charts"].detail


def test_the_status_is_read_for_its_clock_and_its_address():
    now = time.time()
    live = Status("X-H1", "127.0.0.1", 5757, True, "live, model m", now, now)
    here = ("127.0.0.1", 5757)
    assert (chart_check(live, here).status, chart_check(live, here).detail) == (OK, "live, model m; a dry run")
    late = Status("X-H1", "127.0.0.1", 5757, True, "live, model m", now - 7200, now)
    assert chart_check(late, here).status == FAIL and "7200 s behind" in chart_check(late, here).detail
    down = Status("X-H1", "127.0.0.1", 5700, True, "down: nobody listens at 127.0.0.1:5700", now, now)
    assert "it asks 127.0.0.1:5700, and you 127.0.0.1:5757" in chart_check(down, here).detail
    greeting = Status("X-H1", "127.0.0.1", 5757, True, "greeting", now, now)
    assert chart_check(greeting, here).status == NOTE


def test_what_is_not_installed_or_not_compiled_is_told_in_turn(data, capsys):
    port = free_port()
    assert "tunetrade install-mt5" in checked(data, port)["terminal"].detail
    assert main(["install-mt5", str(data)]) == 0
    assert "press F7" in capsys.readouterr().out
    assert checked(data, port)["compiled"].status == FAIL
    compiled(data)
    assert is_compiled(data)
    assert main(["doctor", "--live", "--address", f"127.0.0.1:{port}", "--terminal", str(data)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["FAIL", "port"], ["ok", "terminal"], ["ok", "compiled"], ["FAIL", "charts"],
    ]  # fmt: skip


def test_the_sources_arrive_byte_for_byte_and_again_changes_nothing(data):
    done = install(data)
    assert set(done.written) == {
        path.relative_to(MQL5).as_posix() for path in MQL5.rglob("*.mq*") if path.suffix in (".mq5", ".mqh")
    }
    for name in done.written:
        assert (data / "MQL5" / name).read_bytes() == (MQL5 / name).read_bytes()
    assert unlike(data) == ([], [])
    stamp = (data / "MQL5" / done.written[0]).stat().st_mtime_ns
    again = install(data)
    assert (again.written, again.kept) == ((), ())
    assert (data / "MQL5" / done.written[0]).stat().st_mtime_ns == stamp


def test_an_older_version_is_replaced_and_a_file_changed_by_hand_is_not(data, capsys):
    install(data)
    link = data / "MQL5" / "Include" / "TuneTrade" / "Link.mqh"
    manifest = data / "MQL5" / "Include" / "TuneTrade" / "installed.json"
    older = b"// of an older version\n"
    link.write_bytes(older)
    digests = json.loads(manifest.read_text())
    digests["Include/TuneTrade/Link.mqh"] = hashlib.sha256(older).hexdigest()
    manifest.write_text(json.dumps(digests))
    done = install(data)
    assert (done.written, done.kept) == (("Include/TuneTrade/Link.mqh",), ())
    link.write_text("// mine\n")
    assert main(["install-mt5", str(data)]) == 2
    error = capsys.readouterr().err
    assert "Include/TuneTrade/Link.mqh" in error and "--force" in error
    assert link.read_text() == "// mine\n"
    done = install(data, force=True)
    assert done.kept == ("Include/TuneTrade/Link.mqh.bak",)
    assert link.with_name("Link.mqh.bak").read_text() == "// mine\n"
    assert unlike(data) == ([], [])


def test_a_folder_that_is_no_data_folder_is_refused_and_stays_as_it_is(data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for folder, words in ((other, "Open Data Folder"), (tmp_path / "none", "Open Data"), (data / "MQL5", "above it")):
        with pytest.raises(UserError, match=words):
            install(folder)
    assert list(other.iterdir()) == []
    (check,) = terminal_checks(other, ("127.0.0.1", 5757), time.time())
    assert check.status == FAIL and "no data folder" in check.detail


@pytest.mark.slow
def test_the_wheel_carries_the_sources_and_the_simulated_terminal(tmp_path):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    carried = set(zipfile.ZipFile(wheel).namelist())
    mql = [path for path in MQL5.rglob("*.mq*") if path.suffix in (".mq5", ".mqh")]
    runtime = list((root / "bridge" / "terminal" / "runtime").glob("*.hpp"))
    assert mql and runtime
    assert {path.relative_to(root).as_posix() for path in [*mql, *runtime]} <= carried
