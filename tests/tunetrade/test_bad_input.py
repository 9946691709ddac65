"""Every fault a user can cause and cure: one line that says how, an exit status, no traceback, no half-written file."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small import partials

from tunetrade.cli import main

Command = Callable[..., "subprocess.CompletedProcess[str]"]

HEADER = "time,open,high,low,close,volume\n"


def row(day: int, close: object = 1.1, hour: int = 0) -> str:
    return f"2019-01-{day:02d} {hour:02d}:00:00,1.1,1.2,1.0,{close},5\n"


WEEK = [7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 21, 22, 23, 24, 25, 28, 29, 30, 31]
GOOD = HEADER + "".join(row(day) for day in WEEK)


CASES = {
    "unknown pair": (["data", "ecb:EURXXX"], "", ("XXX",)),
    "pair of no form": (["data", "ecb:EUR"], "", ("EURUSD",)),
    "unknown kind of source": (["data", "ecbb:EURUSD"], "", ("did you mean 'ecb'?",)),
    "missing file": (["data", "prices.csv"], "", ("prices.csv", "no such file")),
    "empty CSV": (["data", "EURUSD-D1.csv"], None, ("EURUSD-D1.csv", "empty")),
    "only a header": (["data", "EURUSD-D1.csv"], HEADER, ("EURUSD-D1.csv",)),
    "wrong time zone": (["data", "EURUSD-D1.csv", "--server-tz", "Mars/Phobos"], GOOD, ("Mars/Phobos", "us-dst")),
    "missing price": (["data", "EURUSD-D1.csv"], GOOD + "2019-02-01 00:00:00,1.1,1.2,1.0,nan,5\n", ("line 21",)),
    "duplicated bar": (
        ["data", "EURUSD-D1.csv"],
        GOOD + row(31),
        ("line 21", "repeats the stamp of line 20", "delete"),
    ),
    "series too short": (["train", "EURUSD-D1.csv"], GOOD, ("19 bars", "longer series")),
    "evaluation before the base's cut-off": (
        ["train", "ecb:EURUSD", "--set", "split.validation_start=2012-01-01"],
        "",
        ("2014-12-31", "split.validation_start", "allow_seen"),
    ),
    "unknown config key": (
        ["train", "ecb:EURUSD", "--set", "training.step=3"],
        "",
        ("did you mean 'training.steps'?",),
    ),
    "unknown method": (
        ["train", "ecb:EURUSD", "--method", "lorra"],
        "",
        ("did you mean 'lora'?", "known: adalora, adapter, "),
    ),
    "unknown base": (["train", "ecb:EURUSD", "--set", "base=nowhere"], "", ("nowhere", "embedded", "pretrain")),
    "context too long for the base": (
        ["train", "ecb:EURUSD", "--set", "windows.context=2000"],
        "",
        ("windows.context",),
    ),
    "negative jobs": (["demo", "--jobs", "-1"], "", ("--jobs",)),
    "no study file": (["study", "my study.toml"], "", ("my study.toml", "studies/demo.toml")),
    "no run folder": (["backtest", "runs/x"], "", ("runs", "run.json")),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_with_its_cure(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, text, parts = CASES[case]
    if text is None or text:
        (tmp_path / "EURUSD-D1.csv").write_text(text or "")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    status, (out, said) = main(arguments), capfd.readouterr()
    assert status == 2, said
    assert out == ""
    assert_one_line(said)
    for part in parts:
        assert part.lower() in said.lower()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_process_of_its_own_ends_as_the_verb_does(command: Command) -> None:
    done = command(*CASES["no run folder"][0])
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr)


def assert_one_line(said: str) -> None:
    """The one line that tells a user's error."""
    assert said.startswith("tunetrade: error: ")
    assert said.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX's")
@pytest.mark.parametrize("limit", [1_000, 20_000])
def test_a_full_disk_ends_in_one_line_a_cell(limit: int, command: Command, study_file: Path, tmp_path: Path) -> None:
    """A limit on file size stands for a full disk: the system refuses to write on. The first stops run.json itself."""
    import resource

    done = command(
        "study", str(study_file), "--set", "methods=[]", "--set", "benchmarks=[]",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert partials(tmp_path) == []
    for file in tmp_path.rglob("*.json"):
        assert file.read_text().endswith("}\n")
