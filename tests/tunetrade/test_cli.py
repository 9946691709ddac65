"""The command line: help that works, JSON that is JSON, and a start that loads nothing heavy."""

import argparse
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forecasting.cache import check_folder
from tunetrade.cli import build_parser, main
from tunetrade.layout import CellPaths, cell_folder, done_stages, safe_name
from tunetrade.progress import Board, fitted

Command = Callable[..., "subprocess.CompletedProcess[str]"]
VERBS = (
    "demo", "data", "pretrain", "train", "forecast", "backtest", "study", "tune", "optimize", "report", "compare",
    "tester", "reconcile", "audit", "robustness", "serve", "replay", "export-tester", "curve-key", "install-mt5",
    "export", "walk", "article", "doctor",
)  # fmt: skip


def verbs() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def test_the_verbs_are_those_of_the_documentation() -> None:
    assert set(verbs()) >= set(VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_with_an_example_that_parses(name: str) -> None:
    parser = verbs()[name]
    text = parser.format_help()
    assert "example:" in text
    (example,) = (line.strip() for line in text.splitlines() if line.strip().startswith(f"tunetrade {name}"))
    asked = build_parser().parse_args(shlex.split(example)[1:])
    assert callable(asked.verb)
    for action in parser._actions:
        assert action.help, f"{name}: {action.dest} has no help"


@pytest.mark.parametrize("arguments", [["--help"], ["study", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom tunetrade.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "heavy = 'torch', 'pandas', 'numpy', 'matplotlib', 'backtrader', 'transformers', 'scipy', 'pyarrow', 'zmq'\n"
        "print(*(name for name in heavy if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.split() == []
    assert done.stdout


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    code = "import subprocess, sys\nsys.exit(subprocess.run([sys.executable, '-m', 'tunetrade', 'doctor']).returncode)"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == ""
    assert child.wait(60) == 141


def test_doctor_speaks_json(command: Command) -> None:
    done = command("doctor", "--json")
    assert {check["name"] for check in json.loads(done.stdout)["checks"]} >= {"python", "torch", "base", "free disk"}


def cache_check(capsys: pytest.CaptureFixture) -> dict[str, object]:
    assert main(["doctor", "--json"]) == 1
    (found,) = (check for check in json.loads(capsys.readouterr().out)["checks"] if check["name"] == "cache")
    assert not found["ok"]
    return found


def test_doctor_names_a_cache_that_cannot_be_and_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    cure = "set TUNETRADE_CACHE to a folder that is yours to write, or unset it"
    (tmp_path / "file").touch()
    for below in ("file", "file/deeper/still"):
        monkeypatch.setenv("TUNETRADE_CACHE", str(tmp_path / below))
        detail = str(cache_check(capsys)["detail"])
        assert detail == f"{tmp_path / below} cannot be: {tmp_path / 'file'} is a file, not a folder; {cure}"
    monkeypatch.setenv("TUNETRADE_CACHE", str(tmp_path / "new" / "cache"))
    check_folder(tmp_path / "new" / "cache")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    monkeypatch.setattr("forecasting.cache.tempfile.TemporaryFile", refuse)
    said = f"{tmp_path / 'new' / 'cache'} keeps nothing: {tmp_path} cannot be written (Permission denied); {cure}"
    assert cache_check(capsys)["detail"] == said


def test_doctor_names_a_bound_of_the_cache_that_is_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("TUNETRADE_CACHE_MB", "1.5")
    said = "TUNETRADE_CACHE_MB is '1.5'; give a whole number of megabytes, 0 for no cache"
    assert cache_check(capsys)["detail"] == said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("runs/x/EURUSD-D1/untuned/1", "untuned lies under seed 0: runs/x/EURUSD-D1/untuned/0"),
        ("runs/x/EURUSD-D1/lora/9", "lora lies under seeds 1, 2: runs/x/EURUSD-D1/lora/1"),
        ("runs/x/EURUSD-D1/lora", "in it lie runs/x/EURUSD-D1/lora/1, runs/x/EURUSD-D1/lora/2"),
        ("runs/x/EURUSD-D1/full/1", "in runs/x/EURUSD-D1 lie runs/x/EURUSD-D1/lora/1, runs/x/EURUSD-D1/lora/2, runs/"),
        ("runs/x/NZDUSD-D1/lora/1", "in runs/x lie runs/x/EURUSD-D1/lora/1"),
        ("runs/y", "name one such as runs/demo/EURUSD-D1/lora/1"),
    ],
)  # fmt: skip
def test_a_run_folder_that_is_none_is_told_with_those_near_it(
    asked: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("untuned/0", "lora/1", "lora/2"):
        (tmp_path / "runs/x/EURUSD-D1" / name).mkdir(parents=True)
        (tmp_path / "runs/x/EURUSD-D1" / name / "run.json").touch()
    for verb in ("forecast", "backtest"):
        assert main([verb, asked]) == 2
        error = capsys.readouterr().err.replace("\\", "/")
        assert f"error: {asked} is no run folder (no run.json); {said}" in error
        assert error.count("\n") == 1


CONSTANT = "time,open,high,low,close\n" + "".join(f"2019-01-{day:02d},1.1,1.1,1.1,1.1\n" for day in (7, 8, 9, 10, 11))


@pytest.mark.parametrize(("told", "inferred"), [([], True), (["--digits", "5"], False)])
def test_closes_that_never_change_are_warned_of_with_the_decimals_inferred(
    told: list[str], inferred: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EURUSD-D1.csv").write_text(CONSTANT, encoding="utf-8")
    assert main(["data", "EURUSD-D1.csv", "--json", *told]) == 0
    out, error = capsys.readouterr()
    found = json.loads(out)
    (warning,) = found["warnings"]
    assert error == f"tunetrade: warning: {warning}\n"
    assert (
        f"EURUSD-D1.csv: all 5 closes are {1.1:.{found['digits']}f}; there is nothing to learn or to trade" in warning
    )
    assert ("of which 1 was inferred; set them with --digits" in warning) == inferred
    assert (found["digits"], "inferred" in warning) == ((1, True) if inferred else (5, False))
    (tmp_path / "EURUSD-D1.csv").write_text(CONSTANT.replace("1.1\n", "1.10\n", 1), encoding="utf-8")
    assert main(["data", "EURUSD-D1.csv"]) == 0
    assert "of which 2 were inferred" in capsys.readouterr().err
    (tmp_path / "EURUSD-D1.csv").write_text(f"{CONSTANT}2019-01-14,1.1,1.2,1.1,1.2\n", encoding="utf-8")
    assert main(["data", "EURUSD-D1.csv"]) == 0
    assert capsys.readouterr().err == ""


def test_data_tells_and_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "ecb:EURUSD", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plot"] == "EURUSD-D1.png"
    assert (tmp_path / "EURUSD-D1.png").stat().st_size > 1000


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "EURUSD-D1.png")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("forecasting.quality.plot", full)
    assert main(["data", "ecb:EURUSD"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "free some space" in error
    assert list(tmp_path.iterdir()) == []


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunetrade.verbs.doctor", lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_series_names_become_folders_on_any_system() -> None:
    assert cell_folder(Path("runs"), "s", "BTC/USD-H1", "lora", 1) == Path("runs/s/BTC-USD-H1/lora/1")
    assert safe_name('a\\b:c*?"<>|-D1') == "a-b-c-------D1"


def test_a_stage_whose_files_are_gone_is_not_done(tmp_path: Path) -> None:
    paths = CellPaths(tmp_path)
    prints = {"forecast": "f", "backtest": "b"}
    for name in ("forecasts.parquet", "forecast.json", "trades.parquet", "equity.parquet", "backtest.json"):
        (tmp_path / name).touch()
    assert done_stages(paths, prints, prints) == ["forecast", "backtest"]
    assert done_stages(paths, {**prints, "backtest": "old"}, prints) == ["forecast"]
    paths.forecasts.unlink()
    assert done_stages(paths, prints, prints) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_keeps_to_one_line_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    screen = Terminal()
    board = Board(2, screen)
    for step in range(5):
        board.show(0, "a-very-long-symbol-name.with-a-suffix-H1/adapter/1 train", step, 4, "loss 1.2345")
    board.show(1, "EURUSD-D1/lora/1 train", 1, 4)
    board.say("EURUSD-D1/full/1 done")
    board.rest(0)
    board.close()
    assert "EURUSD-D1/full/1 done" in screen.getvalue()
    assert "lora/1 train" in screen.getvalue()


def test_progress_elsewhere_is_a_line_a_stage() -> None:
    log = io.StringIO()
    board = Board(1, log)
    for step in range(5):
        board.show(0, "EURUSD-D1/lora/1 train", step, 4)
    board.show(0, "EURUSD-D1/lora/1 forecast", 1, 4)
    board.rest(0)
    board.close()
    assert log.getvalue().splitlines() == ["EURUSD-D1/lora/1 train: 0/4", "EURUSD-D1/lora/1 forecast: 1/4"]


def test_a_name_fills_its_width_exactly() -> None:
    for width in (1, 3, 10, 40):
        assert len(fitted("EURUSD-D1/lora/1 train", width)) == width
