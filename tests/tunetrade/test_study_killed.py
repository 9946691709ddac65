"""A study that is interrupted or killed leaves nothing behind, and ends where an undisturbed one ends."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small import contents, partials, write_study

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


def start(folder: Path, jobs: int = 2) -> "subprocess.Popen[str]":
    """The small study in a session of its own, so that a signal reaches the whole group, as from a terminal.

    Its cache is its own too, so that what a kill interrupts is not read from the undisturbed run's.
    """
    with (folder / "stderr.txt").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "tunetrade", "study", "small.toml", "--jobs", str(jobs)],
            cwd=folder, env=os.environ | {"TUNETRADE_CACHE": str(folder / "cache")},
            stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True, text=True,
        )  # fmt: skip


def wait_for_children(parent: "subprocess.Popen[str]", folder: Path) -> list[psutil.Process]:
    """The processes of the cells, once the first of them has begun to work."""
    for _ in range(600):
        if "full/1 train" in (folder / "stderr.txt").read_text():
            return psutil.Process(parent.pid).children(recursive=True)
        assert parent.poll() is None, (folder / "stderr.txt").read_text()
        time.sleep(0.1)
    raise AssertionError("no cell began")


def gone(children: list[psutil.Process], seconds: float) -> bool:
    return not psutil.wait_procs(children, timeout=seconds)[1]


def finish_and_compare(folder: Path, finished: Path) -> None:
    ended = start(folder)
    assert ended.wait(120) == 1  # the cell that fails
    assert contents(folder / "runs") == contents(finished / "runs")
    assert partials(folder) == []


def kill_after(folder: Path, share: float, seconds: float) -> None:
    """Kill the whole process group of a fresh study at work, when that share of `seconds` has passed.

    A study that ended sooner, on a machine that had more time for it, is begun again and killed by its own measure.
    """
    for _ in range(3):
        study, started = start(folder), time.monotonic()
        try:
            study.wait(share * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(study.pid, signal.SIGKILL)
            assert study.wait(10) == -signal.SIGKILL
            return
        seconds = time.monotonic() - started
        shutil.rmtree(folder / "runs")
    raise AssertionError("no study was still at work when it was to be killed")


def test_ctrl_c_then_kill_then_the_same_result(tmp_path: Path, tiny_base: Path, finished: Path) -> None:
    """Ctrl-C reaches parent and children; the kill only the parent, whose children must follow by themselves."""
    write_study(tmp_path, tiny_base)
    study = start(tmp_path)
    children = wait_for_children(study, tmp_path)
    os.killpg(study.pid, signal.SIGINT)
    assert study.wait(8) == 130
    assert gone(children, 3)
    said = (tmp_path / "stderr.txt").read_text()
    assert said.splitlines()[-1] == (
        "tunetrade: interrupted; what is done is kept, the same command goes on from there"
    )
    assert "Traceback" not in said
    assert [path for path in partials(tmp_path) if not path.name.startswith("train-state-")] == []

    study = start(tmp_path)
    time.sleep(random.Random(1).uniform(4, 7))
    assert study.poll() is None
    children = psutil.Process(study.pid).children(recursive=True)
    study.kill()
    study.wait(10)
    assert gone(children, 5)
    finish_and_compare(tmp_path, finished)


CUT_OFF = """
import os, signal, sys
from pathlib import Path
import tunetrade.cell as cell

mark = cell.mark

def die(*arguments):
    if sys.argv[2] == "after":
        mark(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

cell.mark = die
cell.run_cell(Path(sys.argv[1]), lambda _: None)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_finished_training_survives_a_kill_around_its_mark(
    moment: str, tmp_path: Path, tiny_base: Path, finished: Path
) -> None:
    """The checkpoint stands whole, but run.json does not say so yet; or it does, but the state file is still there."""
    write_study(tmp_path, tiny_base)
    shutil.copytree(finished / "runs", tmp_path / "runs")
    folder = tmp_path / "runs/small/EURUSD-D1/full/1"
    run = json.loads((folder / "run.json").read_text())
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({**run, "stages": {}, "status": "pending"}))
    code = [sys.executable, "-c", CUT_OFF, str(folder), moment]
    assert subprocess.run(code, check=False, timeout=120).returncode == -signal.SIGKILL
    assert (folder / "checkpoint" / "model.json").is_file()
    assert len(list(folder.glob("train-state-*"))) == 1
    assert set(json.loads((folder / "run.json").read_text())["stages"]) == ({"train"} if moment == "after" else set())
    seconds = json.loads((folder / "train.json").read_text())["seconds"]
    finish_and_compare(tmp_path, finished)
    assert json.loads((folder / "train.json").read_text())["seconds"] == seconds, "trained twice"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_study_killed_at_a_random_moment_ends_as_an_undisturbed_one(
    seed: int, tmp_path: Path, tiny_base: Path, finished: Path
) -> None:
    write_study(tmp_path, tiny_base)
    undisturbed = float((finished / "seconds.txt").read_text())
    kill_after(tmp_path, random.Random(seed).uniform(0.1, 0.9), undisturbed)
    finish_and_compare(tmp_path, finished)
