"""What other commands leave beside runs, shown as it is: audit.json, robustness.json, walk.json.

Known by shape rather than by version: a list of records with a name and a status becomes a table of PASS and FAIL, a
list of folds a table of its figures; what has neither shape is left out.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tunetrade.report.formats import DASH, significant
from tunetrade.report.load import Json, Study
from tunetrade.report.markup import Item, grid, note

CHECKED = (("audit.json", "Leak audit"), ("robustness.json", "Robustness cases"))
WALK = "walk.json"
NAMES = ("name", "case", "check", "id")
STATES = ("status", "verdict", "result", "outcome")
DETAILS = ("said", "detail", "details", "message", "reason", "why", "text", "expected")
CLASSES = {"PASS": "beats", "FAIL": "loses", "WARN": "warn"}
FOLD_COLUMNS = 14

Check = tuple[str, str, str]
Rows = list[tuple[str, Sequence[Item | str]]]


def read_attachment(folder: Path, name: str) -> Json:
    """A JSON object beside a run; empty where there is none, or a damaged one."""
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def checks_of(record: Json) -> list[Check]:
    """Name, status and detail of each check in a record, wherever its list stands."""
    for value in record.values():
        found = list(_checks(value))
        if found:
            return found
    return []


def checks_tables(folder: Path, name: str) -> str:
    """Tables of the checks of one folder; `name` says whose they are."""
    parts = []
    for file, title in CHECKED:
        checks = checks_of(read_attachment(folder, file))
        if checks:
            rows: Rows = [(escape(check), [_status(state), detail]) for check, state, detail in checks]
            parts.append(grid(f"{title}, {name}", ["Check", "Result", "Detail"], rows, "sortable list"))
    return "".join(parts)


def checks_summary(study: Study, where: Path | None) -> str:
    """How many checks of every audited run passed, and each that failed."""
    parts = [checks_tables(where, study.name)] if where else []
    for file, title in CHECKED:
        rows: Rows = []
        for cell in study.of():
            checks = checks_of(read_attachment(cell.folder, file))
            if checks:
                bad = [f"{name}: {detail}" for name, state, detail in checks if state == "FAIL"]
                passed = sum(state == "PASS" for _, state, _ in checks)
                rows.append(
                    (escape(f"{cell.series} {cell.method} {cell.seed}"),
                     [_status("FAIL" if bad else "PASS"), Item(f"{passed} of {len(checks)}", passed), "; ".join(bad)])
                )  # fmt: skip
        parts.append(grid(f"{title}, every run", ["Run", "Result", "Passed", "What failed"], rows, "sortable list"))
    return "".join(parts)


def walk_table(folder: Path, name: str) -> str:
    """The per-fold table of a walk-forward run."""
    folds = read_attachment(folder, WALK).get("folds")
    rows = [fold for fold in folds if isinstance(fold, dict)] if isinstance(folds, list) else []
    if not rows:
        return ""
    keys = [
        key for key in dict.fromkeys(key for fold in rows for key in fold) if any(_scalar(f.get(key)) for f in rows)
    ]
    keys = keys[:FOLD_COLUMNS]
    lines = [(f"fold {index + 1}", [_figure(fold.get(key)) for key in keys]) for index, fold in enumerate(rows)]
    heads = ["Fold", *(key.replace("_", " ") for key in keys)]
    return grid(f"Walk-forward, {name}", heads, lines) + note("Each fold was refitted on what came before it.")


def _checks(value: Any) -> Iterator[Check]:
    """Checks from a list of records, or from a mapping of name to record."""
    if isinstance(value, Mapping):
        value = [{"name": name, **each} for name, each in value.items() if isinstance(each, Mapping)]
    for each in value if isinstance(value, list) else []:
        if isinstance(each, Mapping):
            name, state = _first(each, NAMES), _first(each, STATES) or _passed(each)
            if name and state:
                yield name, state, _first(each, DETAILS)


def _passed(record: Json) -> str:
    for key in ("passed", "ok", "pass"):
        if isinstance(record.get(key), bool):
            return "PASS" if record[key] else "FAIL"
    return ""


def _first(record: Json, keys: Sequence[str]) -> str:
    return next((str(record[key]) for key in keys if record.get(key) not in (None, "")), "")


def _status(state: str) -> Item:
    return Item(
        state, float(list(CLASSES).index(state)) if state in CLASSES else 9.0, classes=CLASSES.get(state, "open")
    )


def _scalar(value: Any) -> bool:
    return isinstance(value, (int, float, str, bool))


def _figure(value: Any) -> Item | str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)[:19] if isinstance(value, str) else DASH
    return Item(f"{value:,}" if isinstance(value, int) else significant(value, 4), float(value))
