"""What other commands leave beside runs, shown as it is: audit.json, robustness.json, walk.json.

Known by shape rather than by version: a list of records with a name and a status becomes a table of PASS and FAIL, a
list of folds a table of its figures; what has neither shape is left out.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tunetrade.audit.seal import broken
from tunetrade.report.formats import DASH, significant
from tunetrade.report.load import Json, Study
from tunetrade.report.markup import Item, grid, note

AUDIT, ROBUSTNESS = "audit.json", "robustness.json"
CHECKED = ((AUDIT, "Leak audit"), (ROBUSTNESS, "Robustness cases"))
CURE = "run `tunetrade audit` or the study again"
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
    """Tables of the checks of one run's folder, or of a study's own; `name` says whose they are."""
    parts = []
    for file, title in CHECKED:
        record = read_attachment(folder, file)
        checks = checks_of(record) or (_cases_of(folder) if file == ROBUSTNESS else [])
        if checks:
            checks += [("files", state, said) for state, said in [_since(folder, record)] if said and file == AUDIT]
            rows: Rows = [(escape(check), [_status(state), detail]) for check, state, detail in checks]
            parts.append(grid(f"{title}, {name}", ["Check", "Result", "Detail"], rows, "sortable list"))
    return "".join(parts)


def checks_summary(study: Study, where: Path | None) -> str:
    """How many checks of every audited run passed, each that failed or warned, and whether its files have changed."""
    parts = [checks_tables(where, study.name)] if where else []
    for file, title in CHECKED:
        rows: Rows = []
        for cell in study.of():
            record = read_attachment(cell.folder, file)
            checks = checks_of(record)
            if checks:
                state, since = _since(cell.folder, record) if file == AUDIT else ("PASS", "")
                rows.append((escape(f"{cell.series} {cell.method} {cell.seed}"), _summed(checks, state, since)))
        parts.append(grid(f"{title}, every run", ["Run", "Result", "Passed", "Said"], rows, "sortable list"))
    return "".join(parts) + _robustness_summary(study, where)


def _summed(checks: Sequence[Check], since_state: str, since: str) -> list[Item | str]:
    """Result, passes and what to know of one run; a run that changed since is not passed, whatever its checks say."""
    of = {state: [(name, said) for name, each, said in checks if each == state] for state in ("FAIL", "WARN", "PASS")}
    skipped = sum(state == "SKIPPED" for _, state, _ in checks)
    worst = "FAIL" if of["FAIL"] or since_state == "FAIL" else "WARN" if since_state == "WARN" else "PASS"
    text = "FAIL" if of["FAIL"] else since.partition(":")[0] if since else "PASS"
    if of["WARN"]:
        text += f", {len(of['WARN'])} warning{'s' if len(of['WARN']) > 1 else ''}"
    passed = f"{len(of['PASS'])} of {len(checks)}" + (f", {skipped} skipped" if skipped else "")
    said = [since] if since else []
    said += [f"{name}: {detail}" for state in ("FAIL", "WARN") for name, detail in of[state]]
    shown = "WARN" if worst == "PASS" and of["WARN"] else worst
    return [_status(shown, text), Item(passed, len(of["PASS"])), "; ".join(said)]


def _since(folder: Path, record: Json) -> tuple[str, str]:
    """What became of a run's files since its audit: a state, and words where there is something to say."""
    changed = broken(folder, record)
    if changed is None:
        return "WARN", f"audited by an earlier version: {CURE} to have its files sealed"
    if changed:
        return "FAIL", f"changed since the audit: {', '.join(changed)}; what it found no longer holds, {CURE}"
    return "PASS", ""


def _robustness_summary(study: Study, where: Path | None) -> str:
    """Cases passed by method, over all runs that were examined, from the study's, its series' and its runs' records."""
    folders = [where, *sorted({cell.folder.parents[1] for cell in study.cells})] if where else []
    runs: dict[str, Json] = {}
    for folder in [*folders, *(cell.folder for cell in study.of())]:
        runs |= {str(run.get("run")): run for run in _examined(read_attachment(folder, ROBUSTNESS))}
    own = [run for run in runs.values() if run.get("method") in study.methods]
    if not own:
        return ""
    cases = list(dict.fromkeys(name for run in own for name, _, _ in _cases(run)))
    rows: Rows = []
    for method in study.methods:
        found = [case for run in own if run["method"] == method for case in _cases(run)]
        if found:
            of_case = [[state for name, state, _ in found if name == case] for case in cases]
            rows.append((escape(method), [_rate([state for _, state, _ in found]), *map(_rate, of_case)]))
    failed: Rows = [
        (escape(f"{run.get('run')}, {name}"), [_status(state), detail])
        for run in own for name, state, detail in _cases(run) if state != "PASS"
    ]  # fmt: skip
    return (
        grid("Robustness cases passed, by method", ["Method", "All", *cases], rows, "sortable list")
        + note("Prices gone wrong in a scripted way: passed of those that could be made, over all series and seeds.")
        + grid("Robustness cases that were not passed", ["Run and case", "Result", "Detail"], failed, "sortable list")
    )


def _cases_of(folder: Path) -> list[Check]:
    """Cases of one run, whichever record has them: its own, its series' or its study's."""
    name = "/".join(folder.parts[-3:])
    for place in (folder, *list(folder.parents)[1:3]):
        for run in _examined(read_attachment(place, ROBUSTNESS)):
            if run.get("run") == name:
                return _cases(run)
    return []


def _examined(record: Json) -> list[Json]:
    """The runs in a robustness.json."""
    runs = record.get("runs")
    return [run for run in runs if isinstance(run, Mapping)] if isinstance(runs, list) else []


def _cases(run: Json) -> list[Check]:
    """Name, status and detail of each case of one run: what was asked and not met, or why the case was left out."""
    found = []
    cases = run.get("cases")
    for case in cases if isinstance(cases, list) else []:
        if isinstance(case, Mapping) and case.get("name"):
            state = "PASS" if case.get("passed") is True else "FAIL" if case.get("passed") is False else "SKIPPED"
            asked = case.get("expectations")
            asked = asked if isinstance(asked, list) else []
            unmet = [one for one in asked if isinstance(one, Mapping) and not one.get("met")]
            said = "; ".join(f"{one.get('name')}: {one.get('seen')}; asked: {one.get('bound')}" for one in unmet)
            found.append((str(case["name"]), state, said or str(case.get("skipped") or "")))
    return found


def _rate(states: Sequence[str]) -> Item:
    made = [state for state in states if state != "SKIPPED"]
    if not made:
        return Item(DASH)
    passed = sum(state == "PASS" for state in made)
    return Item(f"{passed} of {len(made)}", passed / len(made), classes="" if passed == len(made) else "loses")


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


def _status(state: str, text: str = "") -> Item:
    return Item(
        text or state,
        float(list(CLASSES).index(state)) if state in CLASSES else 9.0,
        classes=CLASSES.get(state, "open"),
    )


def _scalar(value: Any) -> bool:
    return isinstance(value, (int, float, str, bool))


def _figure(value: Any) -> Item | str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)[:19] if isinstance(value, str) else DASH
    return Item(f"{value:,}" if isinstance(value, int) else significant(value, 4), float(value))
