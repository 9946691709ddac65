"""`tunetrade install-mt5`: the Expert Advisor's sources into a terminal's data folder, for MetaEditor to compile.

What was put there is remembered by its SHA-256 beside the includes, so that a newer version replaces an older one in
silence, and a file that its user has changed is told from one that is merely old.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forecasting.errors import UserError

PARTS = ("Experts/TuneTrade", "Include/TuneTrade")
MANIFEST = "Include/TuneTrade/installed.json"
EXPERT = "Experts/TuneTrade/TuneTrade.mq5"
COMPILED = "Experts/TuneTrade/TuneTrade.ex5"


@dataclass(frozen=True)
class Installed:
    """Names below MQL5: what was written, and what was there already and the same. kept: backups of changed files."""

    written: tuple[str, ...]
    same: tuple[str, ...]
    kept: tuple[str, ...]


def sources() -> Mapping[str, bytes]:
    """The files that this version brings, by their names below MQL5."""
    from bridge.terminal.build import MQL5

    files = [file for part in PARTS for file in sorted((MQL5 / part).iterdir()) if file.suffix in (".mq5", ".mqh")]
    return {file.relative_to(MQL5).as_posix(): file.read_bytes() for file in files}


def mql5_of(folder: Path) -> Path:
    """The MQL5 folder of a terminal's data folder; UserError for any other folder."""
    inner = folder / "MQL5"
    if (inner / "Experts").is_dir() and (inner / "Include").is_dir():
        return inner
    if folder.name == "MQL5" and (folder / "Experts").is_dir():
        raise UserError(f"{folder} is inside a data folder; name the folder above it, {folder.parent}")
    raise UserError(
        f"{folder} is no data folder of a terminal: it has no MQL5 with Experts and Include; in the terminal, "
        f"File > Open Data Folder shows the right one"
    )


def install(folder: Path, force: bool = False) -> Installed:
    """Put the sources into a data folder; files that their user changed are left alone, or kept beside with `force`."""
    mql5, files = mql5_of(folder), sources()
    known = _manifest(mql5)
    changed = [name for name, content in files.items() if _is_foreign(mql5 / name, content, known.get(name))]
    if changed and not force:
        raise UserError(
            f"{mql5} has files that are not as they were installed: {', '.join(changed)}; give --force to replace "
            f"them, a copy of each stays beside it as .bak"
        )
    kept, written = [], []
    for name in changed:
        backup = mql5 / f"{name}.bak"
        (mql5 / name).replace(backup)
        kept.append(f"{name}.bak")
    for name, content in files.items():
        if not _holds(mql5 / name, content):
            _write(mql5 / name, content)
            written.append(name)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    _write(mql5 / MANIFEST, json.dumps(digests, indent=1).encode())
    return Installed(tuple(written), tuple(name for name in files if name not in written), tuple(kept))


def unlike(folder: Path) -> tuple[list[str], list[str]]:
    """Of this version's sources those that a data folder lacks, and those that it has otherwise."""
    mql5, files = mql5_of(folder), sources()
    missing = [name for name in files if not (mql5 / name).is_file()]
    return missing, [name for name in files if name not in missing and not _holds(mql5 / name, files[name])]


def is_compiled(folder: Path) -> bool:
    """Whether there is a program that is no older than its sources."""
    mql5 = mql5_of(folder)
    program = mql5 / COMPILED
    return program.is_file() and all(
        (mql5 / name).stat().st_mtime <= program.stat().st_mtime for name in sources() if (mql5 / name).is_file()
    )


def verb(asked: Any) -> int:
    """Install, and say what comes next."""
    done = install(Path(asked.folder), asked.force)
    if asked.json:
        from tunetrade.cli import emit_json

        emit_json({"written": done.written, "same": done.same, "kept": done.kept})
        return 0
    for name in done.kept:
        print(f"kept     MQL5/{name}")
    for name in done.written:
        print(f"written  MQL5/{name}")
    if not done.written:
        print("everything was there already")
    print("next: in the terminal press F4, open Experts/TuneTrade/TuneTrade.mq5, press F7 (docs/INSTALL-MT5.md)")
    return 0


def _holds(file: Path, content: bytes) -> bool:
    return file.is_file() and file.read_bytes() == content


def _is_foreign(file: Path, content: bytes, installed: str | None) -> bool:
    """Whether a file is neither what we bring nor what we once brought."""
    if not file.is_file() or _holds(file, content):
        return False
    return hashlib.sha256(file.read_bytes()).hexdigest() != installed


def _manifest(mql5: Path) -> Mapping[str, str]:
    try:
        values = json.loads((mql5 / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.new")
    beside.write_bytes(content)
    beside.replace(file)
