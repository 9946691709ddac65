"""Verbs that hold runs to account: the leak audit, and behaviour on prices gone wrong."""

import argparse
from pathlib import Path
from typing import Any

from forecasting.errors import CheckpointError, ConfigError
from tunetrade.cli import emit_json

Arguments = argparse.Namespace


def audit(asked: Arguments) -> int:
    """The leak audit of a run, a series or a study; 1 where a check fails."""
    from tunetrade.audit.run import audit_place, folders_of
    from tunetrade.audit.text import run_text, study_text

    place = _folder(asked.run)
    if asked.sample is not None and asked.sample < 2:
        raise ConfigError(f"--sample {asked.sample}: give at least 2 cutoffs, the first and the last")
    one = folders_of(place) == [place]

    def tell(record: dict[str, Any]) -> None:
        if not asked.json:
            print(run_text(record), end="", flush=True)

    found = audit_place(place, asked.sample or 0, tell)
    if asked.json:
        emit_json(found)
    else:
        print(run_text(found) if one else study_text(found), end="")
    return 1 if found["verdict"] == "FAIL" else 0


def _folder(name: str) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; name a run, a series or a study, such as runs/demo")
    return folder


def robustness(asked: Arguments) -> int:
    """Pass rates of tuned models on prices gone wrong; 1 where a case is failed."""
    from tunetrade.robustness.run import run_robustness, text

    found = run_robustness(_folder(asked.run))
    if asked.json:
        emit_json(found)
    else:
        print(text(found), end="")
    return 1 if any(case["passed"] is False for run in found["runs"] for case in run["cases"]) else 0
