"""A study that is interrupted or killed leaves nothing behind, and ends where an undisturbed one ends."""

import os
import random
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
    """The small study in a session of its own, so that a signal reaches the whole group, as from a terminal."""
    with (folder / "stderr.txt").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "tunetrade", "study", "small.toml", "--jobs", str(jobs)],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True, text=True,
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


def kill_at(folder: Path, tiny_base: Path, moments: list[float]) -> None:
    """Kill the whole process group that long after each start."""
    write_study(folder, tiny_base)
    for seconds in moments:
        study = start(folder)
        time.sleep(seconds)
        os.killpg(study.pid, signal.SIGKILL)
        study.wait(10)


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
    children = psutil.Process(study.pid).children(recursive=True)
    study.kill()
    study.wait(10)
    assert gone(children, 5)
    finish_and_compare(tmp_path, finished)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_study_killed_at_a_random_moment_ends_as_an_undisturbed_one(
    seed: int, tmp_path: Path, tiny_base: Path, finished: Path
) -> None:
    draw = random.Random(seed)
    kill_at(tmp_path, tiny_base, [draw.uniform(2, 14)])
    finish_and_compare(tmp_path, finished)
