"""A study so small that a cell takes a second or two beyond its imports, and the command as a user runs it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import searching
from small import write_study

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `tunetrade ...` in a process of its own, in an empty folder."""

    def run(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "tunetrade", *arguments],
            cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=False, timeout=120, **options,  # type: ignore[call-overload]
        )  # fmt: skip

    return run


@pytest.fixture
def study_file(tmp_path: Path, tiny_base: Path) -> Path:
    return write_study(tmp_path, tiny_base)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[Path]:
    """A folder in which the small study ran undisturbed, with a failing cell among the others."""
    folder = tmp_path_factory.mktemp("finished")
    study = write_study(folder, tiny_base)
    before = Path.cwd()
    os.chdir(folder)
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tunetrade", "study", str(study), "--json"],
            capture_output=True, text=True, encoding="utf-8", check=False, timeout=200,
        )  # fmt: skip
    finally:
        os.chdir(before)
    (folder / "seconds.txt").write_text(str(time.monotonic() - started), encoding="utf-8")
    (folder / "stdout.json").write_text(done.stdout, encoding="utf-8")
    (folder / "stderr.txt").write_text(done.stderr, encoding="utf-8")
    (folder / "status.txt").write_text(str(done.returncode), encoding="utf-8")
    yield folder


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A folder in which the small search ran undisturbed."""
    folder = tmp_path_factory.mktemp("searched")
    searching.write_case(folder, tiny_base)
    status, _ = searching.optimize(folder)
    assert status == 0
    return folder
