"""What made a result beside its settings: our own sources, the libraries, the commit.

Each is found out once a process. A stage's code is part of its fingerprint, so no number outlives the fault behind it.
"""

import functools
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

from forecasting.files import sha256_of

ROOT = Path(__file__).parents[1]

PACKAGES = (
    "tunetrade", "torch", "transformers", "peft", "accelerate", "numpy", "pandas", "scipy", "backtrader", "pyzmq",
    "pyarrow", "arch", "optuna",
)  # fmt: skip

SHARED = (
    "forecasting/**/*.py", "tunetrade/cell.py", "tunetrade/prepared.py", "tunetrade/forecasters.py",
    "tunetrade/walk.py",
)  # fmt: skip
"""Sources every stage depends on: bars, windows and codec come from forecasting also where nothing is forecast."""

STAGE_SOURCES = {
    "train": SHARED,
    "forecast": SHARED,
    "backtest": (*SHARED, "tunetrade/beside.py", "tunetrade/walk_*.py", "strategies/**/*.py"),
    "validate": (*SHARED, "tunetrade/beside.py", "tunetrade/validation.py", "strategies/**/*.py"),
}

NUMERIC = ("torch", "transformers", "peft", "numpy", "scipy", "pandas")
STAGE_PACKAGES = {
    "train": NUMERIC,
    "forecast": NUMERIC,
    "backtest": ("backtrader",),
    "validate": (*NUMERIC, "backtrader"),
}


@functools.cache
def code_of(stage: str) -> str:
    """Hash of the sources and the library versions a stage's files depend on."""
    files = sorted({file for pattern in STAGE_SOURCES[stage] for file in ROOT.glob(pattern)})
    parts = [part for file in files for part in (file.relative_to(ROOT).as_posix(), file)]
    return sha256_of(*parts, *(f"{name} {package_version(name)}" for name in STAGE_PACKAGES[stage]))


def made_by() -> dict[str, Any]:
    """`versions` and `git` of run.json."""
    return {"versions": versions(), "git": git_state()}


@functools.cache
def versions() -> dict[str, str | None]:
    """Versions of what results may depend on; None where a package is not installed."""
    return {name: package_version(name) for name in PACKAGES} | {"python": sys.version.split()[0]}


def package_version(package: str) -> str | None:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout this code runs from, None outside one."""
    if not (ROOT / ".git").exists():
        return None
    try:
        return {
            "commit": _git("rev-parse", "HEAD"),
            "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    """Takes no lock, so that somebody's commit at this moment does not fail; does not touch a cell's leash, stdin."""
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=30
    ).stdout.strip()
