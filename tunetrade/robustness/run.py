"""Every case on every tuned model of a run, a series or a study: robustness.json and robustness.txt."""

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from forecasting.bars import load_bars
from forecasting.checkpoint import load_checkpoint
from forecasting.errors import CheckpointError, DataError, UserError
from forecasting.files import read_json, write_json, write_text
from tunetrade.audit.run import folders_of
from tunetrade.cell import Cell, read_cell
from tunetrade.prepared import prepare
from tunetrade.robustness.cases import CASES, Patient
from tunetrade.robustness.scenes import Scene

FILE, TEXT = "robustness.json", "robustness.txt"
LAYOUT = 1
BARS = 40
"""Cutoffs asked for in each case, from the bar on in which things go wrong."""

FEWEST = 20

PATHS = 16
"""Paths of a forecast at most: what is asked hangs on step 1, which is exact, or on means."""


def run_robustness(place: Path, tell: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """All cases on all tuned models of a place; writes the record into it and gives it."""
    folders = [folder for folder in folders_of(place) if read_json(folder / "run.json")["kind"] == "method"]
    if not folders:
        raise CheckpointError(f"{place} holds no tuned model; name a run of a method, a series or a study")
    started, runs, missing = time.perf_counter(), [], {}
    for folder in folders:
        try:
            found = examined(read_cell(folder))
        except UserError as error:
            missing[folder.relative_to(place).as_posix()] = str(error)
            continue
        runs.append(found)
        if tell:
            tell(found)
    record = {
        "layout": LAYOUT,
        "place": place.resolve().name,
        "cases": {name: (case.__doc__ or "").strip() for name, case in CASES.items()},
        "methods": by_method(runs),
        "runs": runs,
        "not_examined": missing,
        "seconds": round(time.perf_counter() - started, 3),
    }
    write_text(place / TEXT, text(record))
    write_json(place / FILE, record)
    return record


def examined(cell: Cell) -> dict[str, Any]:
    """All cases on one tuned model."""
    if not (cell.paths.checkpoint / "model.json").is_file():
        raise UserError(f"{cell.paths.folder} has no checkpoint; run its study again")
    study = cell.study
    bars = load_bars(cell.source, study.source)
    test = prepare(study, bars).split.test
    last = min(int(test[-1]), len(bars) - 2)
    count = min(BARS, last - int(test[0]) + 1)
    if count < FEWEST:
        raise UserError(f"{cell.name}: its test part has {count} bars, the cases need {FEWEST}; move split.test_start")
    options = replace(study.sampling, paths=min(study.sampling.paths, PATHS))
    patient = Patient(load_checkpoint(cell.paths.checkpoint, options)[0], study, Scene(bars, last - count + 1, last))
    cases = [_case(name, patient) for name in CASES]
    return {
        "run": cell.name,
        "method": cell.method,
        "passed": sum(case["passed"] is True for case in cases),
        "cases": cases,
    }


def _case(name: str, patient: Patient) -> dict[str, Any]:
    """One case: passed, failed or, where the series is too short for it, None; a defect of ours is a failure."""
    try:
        found = [one.as_dict() for one in CASES[name](patient)]
    except DataError as error:
        return {"name": name, "passed": None, "expectations": [], "skipped": str(error)}
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        seen = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
        found = [{"name": "goes through", "met": False, "seen": seen, "bound": "no error"}]
    return {"name": name, "passed": all(one["met"] for one in found), "expectations": found, "skipped": ""}


def by_method(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Pass rate of each method over its cases, seeds and series, and of each case; None where none could be made."""
    found = {}
    for method in sorted({run["method"] for run in runs}):
        own = [case for run in runs if run["method"] == method for case in run["cases"]]
        rates = {name: _rate([case["passed"] for case in own if case["name"] == name]) for name in CASES}
        found[method] = {"pass_rate": _rate([case["passed"] for case in own]), "cases": rates}
    return found


def _rate(passed: list[bool | None]) -> float | None:
    made = [one for one in passed if one is not None]
    return sum(made) / len(made) if made else None


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.0%}"


def text(record: dict[str, Any]) -> str:
    """The table for people, and under it what was not met."""
    names = list(CASES)
    width = max([len(method) for method in record["methods"]] + [6])
    lines = [f"{'method':<{width}}  {'all':>5}  " + "  ".join(names)]
    for method, found in record["methods"].items():
        cells = "  ".join(f"{_percent(found['cases'][name]):>{len(name)}}" for name in names)
        lines.append(f"{method:<{width}}  {_percent(found['pass_rate']):>5}  {cells}")
    for run in record["runs"]:
        for case in run["cases"]:
            if case["skipped"]:
                lines.append(f"  {run['run']} {case['name']} skipped: {case['skipped']}")
            for one in case["expectations"]:
                if not one["met"]:
                    lines.append(f"  {run['run']} {case['name']}: {one['name']}: {one['seen']}; asked: {one['bound']}")
    lines += [f"  not examined: {name}: {why}" for name, why in record["not_examined"].items()]
    return "\n".join(lines) + "\n"
