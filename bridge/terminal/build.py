"""Build a translated program and run it: MQL5 source -> executable, kept by content outside the repository."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.terminal.translator import Input, translate
from forecasting.cache import cache_folder
from forecasting.errors import ConfigError, UserError, unknown

MQL5 = Path(__file__).parents[1] / "mt5" / "MQL5"
"""The data folder of a terminal, as we ship it."""

EXPERT = MQL5 / "Experts" / "TuneTrade" / "TuneTrade.mq5"
RUNTIME = Path(__file__).parent / "runtime"

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wno-unused-parameter", "-Werror")
LANGUAGE = ("-std=c++17", "-fwrapv", "-fsigned-char", "-ftrivial-auto-var-init=pattern")
SANITIZERS = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")


class BuildError(UserError):
    """No compiler, or one that refuses the program; the message holds its first complaints."""


@dataclass(frozen=True)
class Program:
    """An executable and the inputs it takes."""

    path: Path
    inputs: tuple[Input, ...]

    def environment(self, inputs: Mapping[str, object], terminal: Mapping[str, object]) -> dict[str, str]:
        """Environment of a run: inputs by name, settings of the terminal (README.md) without their prefix MQL_."""
        names = [known.name for known in self.inputs]
        for name in inputs:
            if name not in names:
                raise ConfigError(unknown("input", name, names))
        given = {f"MQL_INPUT_{name}": _shown(value) for name, value in inputs.items()}
        return {**os.environ, **given, **{f"MQL_{name}": _shown(value) for name, value in terminal.items()}}

    def start(
        self, inputs: Mapping[str, object] | None = None, terminal: Mapping[str, object] | None = None
    ) -> "subprocess.Popen[str]":
        """The program as a process whose standard output is the terminal's journal, one event a line."""
        environment = self.environment(inputs or {}, terminal or {})
        return subprocess.Popen(
            [str(self.path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", errors="replace",
        )  # fmt: skip


def build(
    source: Path = EXPERT, include: Sequence[Path] = (), *, sanitize: bool = False, optimised: bool = False
) -> Program:
    """The program in `source`, built unless it was before; `include` precede the shipped includes.

    optimised: takes twice as long to build and half as long to run.
    """
    translation = translate(source, [*include, MQL5 / "Include"])
    how = SANITIZERS if sanitize else ("-O1",) if optimised else ()
    command = [*compiler(), *LANGUAGE, *WARNINGS, *how, "-isystem", str(RUNTIME)]
    key = hashlib.sha256("\0".join([*command, translation.cpp, *_runtime_text()]).encode()).hexdigest()[:20]
    folder = cache_folder() / "terminal"
    target = folder / f"{source.stem}-{key}"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compile(command, translation.cpp, target)
    return Program(target, translation.inputs)


def compiler() -> list[str]:
    """Command of a C++ compiler: $CXX, g++, else that of the `ziglang` wheel."""
    if asked := os.environ.get("CXX"):
        return asked.split()
    if shutil.which("g++"):
        return ["g++"]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "c++"]
    raise BuildError("no C++ compiler for the simulated terminal: install g++, or one by `pip install ziglang`")


def _compile(command: Sequence[str], cpp: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        source, made = Path(scratch) / "unit.cpp", Path(scratch) / "unit"
        source.write_text(cpp, encoding="utf-8")
        done = subprocess.run([*command, str(source), "-o", str(made)], capture_output=True, text=True, check=False)
        if done.returncode:
            complaints = re.findall(r"^.*(?:error|undefined reference).*$", done.stderr, re.M) or [done.stderr[-500:]]
            raise BuildError("the program does not compile:\n" + "\n".join(complaints[:10]))
        made.replace(target)


def _runtime_text() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(RUNTIME.glob("*.hpp"))]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return str(value)
