"""A run folder, or many, audited: audit.json and audit.txt beside what they speak of."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from forecasting.bars import load_bars
from forecasting.errors import CheckpointError, UserError
from forecasting.files import read_json, sha256_of, write_json, write_text
from tunetrade.audit.options import AuditOptions
from tunetrade.audit.result import FAIL, Check, Offence, failed, skipped, verdict
from tunetrade.audit.seal import broken, seal
from tunetrade.audit.text import run_text, study_text
from tunetrade.cell import BLIND, Cell, read_cell
from tunetrade.provenance import ROOT, code_of

FILE, TEXT = "audit.json", "audit.txt"
LAYOUT = 1
SOURCE = "source"


def audit_cell(cell: Cell, options: AuditOptions, keep: bool = True) -> dict[str, Any]:
    """Audit a finished cell into its folder; the content of audit.json.

    keep: leave an audit that is there and was made of the same files by the same code with the same options.
    """
    from tunetrade.audit.checks import CHECKS, counts, run_checks
    from tunetrade.audit.subject import Subject

    run = _finished(cell)
    key = key_of(run, options)
    known = read_audit(cell.paths.folder)
    if keep and known and _stands(cell.paths.folder, known, key):
        return known
    started = time.perf_counter()
    files = seal(cell.paths.folder)
    bars = load_bars(cell.source, cell.study.source)
    source = _source(run, cell, bars.instrument.sha256)
    if source.status == FAIL:
        seconds: dict[str, float] = {}
        done = [skipped(name, "its source holds other bars by now") for name in CHECKS]
    else:
        done, seconds = run_checks(Subject(cell, run, bars, options))
    checks = [source, *done]
    record = {
        "layout": LAYOUT,
        "run": "/".join(cell.paths.folder.resolve().parts[-3:]),
        "kind": cell.kind,
        "verdict": verdict(checks),
        "counts": counts(checks),
        "options": asdict(options),
        "checks": [check.as_dict() for check in checks],
        "key": key,
        "files": files,
        "seconds": {**seconds, "total": round(time.perf_counter() - started, 3)},
    }
    write_text(cell.paths.folder / TEXT, run_text(record))
    write_json(cell.paths.folder / FILE, record)
    return record


def key_of(run: dict[str, Any], options: AuditOptions) -> str:
    """Hash of all an audit depends on: what the run was made of, options, our sources."""
    own = sorted((ROOT / "tunetrade/audit").glob("*.py"))
    return sha256_of(str(sorted(run["stages"].items())), str(asdict(options)), code_of("backtest"), *own)


def read_audit(folder: Path) -> dict[str, Any] | None:
    """audit.json of a folder; None where there is none, or a damaged one."""
    try:
        known = read_json(folder / FILE)
    except (FileNotFoundError, ValueError):
        return None
    return known if isinstance(known, dict) and known.get("layout") == LAYOUT else None


def is_audited(cell: Cell, run: dict[str, Any]) -> bool:
    """Whether a finished cell needs no audit any more: it has its study's, or its study asks for none."""
    options = cell.study.audit
    known = read_audit(cell.paths.folder)
    return (
        not options.in_study
        or cell.kind in BLIND
        or bool(known and _stands(cell.paths.folder, known, key_of(run, options)))
    )


def _stands(folder: Path, known: dict[str, Any], key: str) -> bool:
    """Whether an audit speaks of what the folder holds: made of the same by the same code, no file changed since."""
    return known.get("key") == key and broken(folder, known) == []


def _finished(cell: Cell) -> dict[str, Any]:
    run: dict[str, Any] = read_json(cell.paths.run)
    if cell.kind in BLIND:
        raise UserError(f"{cell.paths.folder} is a trial of a search, which has no test part; name a run of a study")
    if not cell.paths.backtest.is_file():
        why = f"failed: {run['failure']}" if run.get("failure") else "is not finished"
        raise UserError(f"{cell.paths.folder} {why}; run its study again, then audit it")
    return run


def _source(run: dict[str, Any], cell: Cell, sha: str) -> Check:
    """Whether the source holds the bars the run was made from."""
    if run.get("data_sha") == sha:
        return Check(SOURCE, "PASS", f"{cell.source} holds the {run['bars']} bars the run was made from")
    row = Offence("all bars", "sha256", str(run.get("data_sha"))[:12], sha[:12])
    return failed(SOURCE, f"{cell.source} holds other bars by now; run its study again", [row])


def folders_of(place: Path) -> list[Path]:
    """Run folders in a run, a series or a study; a study's own list says which of them count."""
    if (place / "run.json").is_file():
        return [place]
    try:
        found = [place / name for name in read_json(place / "study.json")["cells"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        found = sorted(file.parent for depth in ("*/*", "*/*/*") for file in place.glob(f"{depth}/run.json"))
        found = [folder for folder in found if "tuning" not in folder.relative_to(place).parts]
    found = [folder for folder in found if (folder / "run.json").is_file()]
    if not found:
        raise CheckpointError(f"{place} holds no run; name a run, a series or a study, such as runs/demo")
    return found


def audit_place(
    place: Path, sample: int = 0, tell: Callable[[dict[str, Any]], None] | None = None, keep: bool = False
) -> dict[str, Any]:
    """Audit all runs of a place, `sample` cutoffs each, 0 for their study's; what one run gives, or a summary of many.

    Cells that failed or are unfinished are listed with the reason. A study or series gets audit.json and audit.txt too.
    """
    folders = folders_of(place)
    if folders == [place]:
        return _audited(place, sample, keep)
    found, missing = [], {}
    for folder in folders:
        try:
            record = _audited(folder, sample, keep)
        except UserError as error:
            missing[folder.relative_to(place).as_posix()] = str(error)
            continue
        found.append(record)
        if tell:
            tell(record)
    return _summary(place, found, missing)


def summarise(place: Path, folders: Sequence[Path]) -> None:
    """Write the summary of a study from the audits its cells have; nothing where none has one."""
    found = [record for record in map(read_audit, folders) if record]
    missing = [folder for folder in folders if not read_audit(folder)]
    if found:
        _summary(place, found, {folder.relative_to(place).as_posix(): "not finished" for folder in missing})


def _summary(place: Path, found: list[dict[str, Any]], missing: dict[str, str]) -> dict[str, Any]:
    summary = {
        "layout": LAYOUT,
        "place": place.resolve().name,
        "verdict": next((v for v in ("FAIL", "WARN") if any(r["verdict"] == v for r in found)), "PASS"),
        "runs": [_line(record) for record in found],
        "not_audited": missing,
        "seconds": {record["run"]: record["seconds"]["total"] for record in found},
    }
    write_text(place / TEXT, study_text(summary))
    write_json(place / FILE, summary)
    return summary


def _audited(folder: Path, sample: int, keep: bool) -> dict[str, Any]:
    cell = read_cell(folder)
    options = cell.study.audit
    return audit_cell(cell, replace(options, sample=sample) if sample else options, keep)


def _line(record: dict[str, Any]) -> dict[str, Any]:
    """A run in the summary of many."""
    of = {status: [c["name"] for c in record["checks"] if c["status"] == status] for status in ("FAIL", "WARN")}
    return {name: record[name] for name in ("run", "verdict", "counts")} | {
        "failed": of["FAIL"], "warned": of["WARN"],
    }  # fmt: skip
