"""A search so small that its models take a second each, and its trials as they compare between runs."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import small

from forecasting.bars import load_bars
from tunetrade.cli import main
from tunetrade.optimize_journal import JournalFile

STUDY = """
name = "small"
series = ["EURUSD_D1.csv"]
base = "BASE"
methods = ["full"]
baselines = []
benchmarks = []
seeds = [7]
[windows]
context = 12
horizon = 3
[codec]
half_lives = [3.0]
weights = [1.0]
[split]
train_start = 2018-01-01
validation_start = 2019-01-01
test_start = 2019-06-01
[training]
steps = 2
evaluate_every = 2
min_steps = 2
[sampling]
paths = 8
[audit]
in_study = false
[optimize]
trials = 10
population = 4
min_trades = 5
[optimize.space]
"trading.threshold_k" = { low = 0.0, high = 2.0 }
"method.full.learning_rate" = [0.001, 0.01]
"trading.signal" = ["mean-vs-last", "threshold"]
"""

TEST_START = "2019-06-01"


def write_case(folder: Path, base: Path, changed_from: str = "", more: str = "") -> Path:
    """The study and its series: real fixings to the middle of 2019; from a day on, where one is given, random ones."""
    closes = load_bars("ecb:EURUSD").frame["close"].loc["2017":"2019-07-15"].copy()  # type: ignore[misc]
    if changed_from:
        walk = np.random.default_rng(0).standard_t(3, size=len(closes)) * 0.02
        closes = closes.where(closes.index < pd.Timestamp(changed_from, tz="UTC"), 1.1 * np.exp(walk))
    days = closes.index.strftime("%Y-%m-%d")
    (folder / "EURUSD_D1.csv").write_text(
        "time,close\n" + "".join(f"{day},{close:.5f}\n" for day, close in zip(days, closes, strict=True))
    )
    file = folder / "small.toml"
    file.write_text(STUDY.replace("BASE", base.as_posix()) + more)
    return file


def start(folder: Path, jobs: int = 1, *more: str) -> "subprocess.Popen[str]":
    """The small search in a session of its own, so that a kill reaches its children; its cache is its own too."""
    with (folder / "stderr.txt").open("a") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "tunetrade", "optimize", "small.toml", "--jobs", str(jobs), *more],
            cwd=folder, env=os.environ | {"TUNETRADE_CACHE": str(folder / "cache")},
            stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True, text=True,
        )  # fmt: skip


def at(folder: Path) -> "contextlib.AbstractContextManager[None]":
    """In that folder, cells run in this process."""
    return small.inside(folder, "tunetrade.optimize_models.run_cells")


def optimize(folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of `tunetrade optimize small.toml --json`, in this process."""
    said = io.StringIO()
    with at(folder), contextlib.redirect_stdout(said):
        status = main(["optimize", "small.toml", "--json", "--jobs", "1", *more])
    return status, json.loads(said.getvalue()) if said.getvalue() else {}


def journal(folder: Path) -> list[dict[str, Any]]:
    """Every trial in the journal of the small search, without the times of the clock."""
    import optuna

    storage = optuna.storages.JournalStorage(JournalFile(folder / "runs/small/optimize/journal.log"))
    study = optuna.load_study(study_name="optimize", storage=storage)
    return [
        {
            "number": trial.number,
            "state": trial.state.name,
            "params": trial.params,
            "values": trial.values,
            "constraints": trial.constraints,
            "attrs": trial.user_attrs,
        }
        for trial in study.trials
    ]
