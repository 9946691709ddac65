"""Imports run one way, light modules stay light, and nothing is pickled."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WINGS = ("tunetrade", "strategies", "bridge", "forecasting")
MAY_IMPORT = {
    "tunetrade": {"tunetrade", "strategies", "bridge", "forecasting"},
    "strategies": {"strategies", "forecasting"},
    "bridge": {"bridge", "forecasting", "strategies.signals"},
    "forecasting": {"forecasting"},
}
ALONE = ("forecasting.metrics", "strategies.metrics", "bridge.messages")
TORCH = {"torch", "peft", "transformers", "safetensors", "accelerate"}
MAY_USE_TORCH_LAZILY = {"tunetrade.cell", "tunetrade.verbs", "tunetrade.measure"}


def modules() -> dict[str, Path]:
    found = {}
    for wing in WINGS:
        for file in sorted((ROOT / wing).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imported(tree: ast.AST) -> set[str]:
    """Full names of what is imported anywhere below `tree`; `from a import b` gives a.b where that is a module."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in inner}
    return names


def at_import(tree: ast.Module) -> set[str]:
    """What is imported when the module is: not what its functions import."""
    names: set[str] = set()
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names |= imported(node)
    return names


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name: str) -> None:
    allowed = MAY_IMPORT[name.split(".", 1)[0]]
    for other in imported(parsed(MODULES[name])):
        if other.split(".", 1)[0] in WINGS:
            assert any(other == ok or other.startswith(f"{ok}.") for ok in allowed), f"{name} imports {other}"


@pytest.mark.parametrize("name", ALONE)
def test_metrics_and_messages_import_nothing_internal(name: str) -> None:
    assert not {other for other in imported(parsed(MODULES[name])) if other.split(".", 1)[0] in WINGS}


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("forecasting")])
def test_only_forecasting_imports_torch(name: str) -> None:
    tree = parsed(MODULES[name])
    heavy = {other for other in imported(tree) if other.split(".", 1)[0] in TORCH}
    if name in MAY_USE_TORCH_LAZILY:
        heavy = {other for other in at_import(tree) if other.split(".", 1)[0] in TORCH}
    assert not heavy, f"{name} imports {heavy}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("bridge.messages", ("torch", "backtrader", "zmq", "transformers")),
        ("bridge.server", ("torch", "backtrader", "transformers", "pandas", "numpy")),
        ("strategies.signals", ("torch", "backtrader", "transformers")),
        ("tunetrade.report", ("torch", "backtrader", "transformers", "matplotlib")),
        ("tunetrade.report.compose", ("torch", "backtrader", "transformers")),
        ("tunetrade.cli", ("torch", "backtrader", "transformers", "pandas", "numpy", "matplotlib")),
        ("tunetrade.child", ("torch", "backtrader", "transformers", "pandas", "numpy", "matplotlib")),
    ],
)
def test_light_modules_load_nothing_heavy(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*(name for name in {absent!r} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_pickled(name: str) -> None:
    """A checkpoint from a stranger must not be able to run code."""
    forbidden = ("load",) if name == "forecasting.export" else ("save", "load")  # a state dict, when asked for by name
    tree = parsed(MODULES[name])
    assert not imported(tree) & {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            assert node.attr not in forbidden


def test_no_committed_file_is_a_pickle() -> None:
    suffixes = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib"}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert not [name for name in listed.stdout.splitlines() if Path(name).suffix in suffixes]
