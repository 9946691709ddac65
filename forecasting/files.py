"""Files that appear whole or not at all, and the hashes that name their content.

Every file of a run is written beside its final place, flushed to disk and renamed over it, so a kill, a full disk or a
Ctrl-C leaves either the old file or the new one. Reading turns damage into one error that names the file.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forecasting.errors import CheckpointError

PARTIAL = ".partial-"
CHUNK = 1 << 20
"""Bytes of a file hashed at a time."""


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` when the block succeeds, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        _flush(partial)
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _flush(file: Path) -> None:
    with file.open("rb+") as written:
        os.fsync(written.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, atomically."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON, atomically; NaN and infinity become null so that any reader can parse it."""
    write_text(path, json.dumps(plain(value), indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON object; ValueError where the file holds another kind of JSON."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise ValueError(f"a JSON object was expected, it holds {json.dumps(record)[:40]}")
    return record


@contextlib.contextmanager
def reading(file: Path, cure: str) -> Iterator[None]:
    """Whatever goes wrong while `file` is read becomes a one-line CheckpointError that names it and the cure."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing; {cure}") from None
    except Exception as error:
        raise CheckpointError(f"{file} cannot be read ({_reason(error)}); {cure}") from error


def _reason(error: Exception) -> str:
    """What is wrong with a file, in a few words; a KeyError's own message would be the bare key."""
    if isinstance(error, KeyError) and error.args:
        return f"it lacks {error.args[0]!r}"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error}"
    return (str(error) or type(error).__name__).splitlines()[0]


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, atomically."""
    with atomic(path) as partial:
        table.to_parquet(partial, index=False)


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a temporary folder, then put it in the place of `path`, replacing what was there.

    The old folder is moved aside first, so a kill between the two renames leaves no folder rather than half of one; the
    stage that wrote it runs again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=path.parent))
    aside = partial.with_name(f"{partial.name}-old")
    try:
        fill(partial)
        for file in partial.rglob("*"):
            if file.is_file():
                _flush(file)
        partial.chmod(0o777 & ~_umask())
        if path.exists():
            path.replace(aside)
        partial.replace(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def remove_partials(folder: Path) -> None:
    """Remove what a killed process left half-written anywhere under `folder`."""
    for leftover in list(folder.rglob(f"{PARTIAL}*")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def sha256_of(*parts: bytes | str | np.ndarray | Path) -> str:
    """Hex SHA-256 over the parts in order; an array counts by its shape, type and bytes, a path by its file's bytes."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.shape}{part.dtype.str}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, Path):
            with part.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """JSON's own types for dicts, sequences, NumPy scalars and arrays, paths and timestamps."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return str(value)
