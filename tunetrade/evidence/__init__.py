"""What a study shows and what it does not: every figure with its interval, every comparison with its test.

A pure function of the run folders and the ledger of trials beside them: the same files give the same bytes.
docs/EVIDENCE.md describes `evidence.json`. Nothing here trains, forecasts or trades; neither torch nor backtrader is
loaded.
"""

import json
from pathlib import Path
from typing import Any

from forecasting.files import sha256_of, write_text

__all__ = ["FILE", "SCHEMA_VERSION", "evidence_of", "write_evidence"]

FILE = "evidence.json"
SCHEMA_VERSION = 1
LEDGER = "ledger.jsonl"
REPLICATIONS = 1_000
"""Of every bootstrap."""

RECORDS = ("run", "train", "forecast", "backtest")
"""JSON of a run that evidence reads; an audit made since changes nothing in it."""

TABLES = ("forecasts", "trades", "equity")
"""Tables of a run that evidence reads: hashed too, so that one changed by hand is seen."""


def write_evidence(study_folder: Path) -> Path:
    """Write evidence.json into a study's folder and return its path; one made of the same files is left alone.

    Raises UserError where the folder holds no run.
    """
    study_folder = Path(study_folder)
    file, inputs = study_folder / FILE, inputs_of(study_folder)
    if _known(file).get("inputs_sha") != inputs:
        write_text(file, json.dumps(evidence_of(study_folder), indent=1, sort_keys=True) + "\n")
    return file


def evidence_of(study_folder: Path, replications: int = REPLICATIONS) -> dict[str, Any]:
    """The content of evidence.json, made anew; fewer replications for a quick look."""
    from tunetrade.evidence.compose import compose
    from tunetrade.report.load import read_study

    study_folder = Path(study_folder)
    found = compose(read_study(study_folder), study_folder.parent / LEDGER, replications)
    return {"schema_version": SCHEMA_VERSION, "inputs_sha": inputs_of(study_folder), **found}


def inputs_of(study_folder: Path) -> str:
    """Hash of what the evidence depends on: its code, the ledger, the JSON and the tables of its runs."""
    here = Path(__file__).parents[2]
    code = [*Path(__file__).parent.glob("*.py"), here / "tunetrade/report/load.py", here / "strategies/metrics.py"]
    code += [here / "strategies" / f"{name}.py" for name in ("agreement", "deflated", "overfitting", "sharpe")]
    code += [
        here / "forecasting" / f"{name}.py"
        for name in ("bootstrap", "bootstrap_t", "long_run", "model_sets", "significance")
    ]
    names = [*(f"{name}.json" for name in RECORDS), *(f"{name}.parquet" for name in TABLES)]
    found = sorted(
        [*(file for name in names for file in study_folder.glob(f"*/*/*/{name}")), *study_folder.glob("study.json")]
    )
    parts = [part for file in found for part in (file.relative_to(study_folder).as_posix(), file)]
    ledger = study_folder.parent / LEDGER
    return sha256_of(*sorted(code), *parts, *([ledger] if ledger.is_file() else []))


def _known(file: Path) -> dict[str, Any]:
    """evidence.json as it lies there; empty where there is none or it is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
