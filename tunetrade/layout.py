"""Where the files of a study lie, and the one file that says how far a cell has come."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forecasting.files import read_json, write_json

VOLATILE = {
    "train.json": (
        "seconds",
        "tokens_per_second",
        "peak_memory_bytes",
        "memory_before_training_bytes",
        "threads",
        "jobs",
    ),
    "forecast.json": (
        "seconds",
        "cached_origins",
        "paths_per_second",
        "latency_p50_ms",
        "latency_p99_ms",
        "threads",
        "jobs",
    ),
    "validation.json": ("seconds", "cached_origins"),
    "audit.json": ("seconds",),
    "robustness.json": ("seconds",),
}
"""Fields that measure the machine rather than the model; all else in a run folder is the same on every run.

Of a study, audit.json and robustness.json have such a field too."""

VOLATILE_FOLDERS = ("tensorboard",)
"""Event files carry wall-clock times."""

STAGE_FILES = {
    "train": ("checkpoint/model.json", "train.json"),
    "forecast": ("forecasts.parquet", "forecast.json"),
    "backtest": ("trades.parquet", "equity.parquet", "backtest.json"),
    "validate": ("validation.parquet", "validation.json"),
}
"""What each stage leaves, in the order of the stages; `validate` is a tuning trial's, in place of the last two."""

_NO_FILE_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


@dataclass(frozen=True)
class CellPaths:
    """Files of one run folder, `runs/<study>/<series>/<method>/<seed>/`."""

    folder: Path

    @property
    def run(self) -> Path:
        """Configuration, versions, status."""
        return self.folder / "run.json"

    @property
    def checkpoint(self) -> Path:
        """The tuned model."""
        return self.folder / "checkpoint"

    @property
    def train(self) -> Path:
        """How training went and what it cost."""
        return self.folder / "train.json"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.folder / "tensorboard"

    @property
    def training_states(self) -> list[Path]:
        """What unfinished trainings resume from, one for each fingerprint."""
        return sorted(self.folder.glob("train-state-*.safetensors"))

    @property
    def forecasts(self) -> Path:
        """The long table."""
        return self.folder / "forecasts.parquet"

    @property
    def members(self) -> Path:
        """Long tables of the members of an ensemble that votes."""
        return self.folder / "members.parquet"

    @property
    def forecast(self) -> Path:
        """Errors, speed and latency."""
        return self.folder / "forecast.json"

    @property
    def validation_table(self) -> Path:
        """The long table of a tuning trial: validation part only."""
        return self.folder / "validation.parquet"

    @property
    def validation(self) -> Path:
        """Validation errors of a tuning trial."""
        return self.folder / "validation.json"

    @property
    def trades(self) -> Path:
        """Closed trades."""
        return self.folder / "trades.parquet"

    @property
    def equity(self) -> Path:
        """Equity at every bar."""
        return self.folder / "equity.parquet"

    @property
    def backtest(self) -> Path:
        """Money figures."""
        return self.folder / "backtest.json"

    @property
    def walk(self) -> Path:
        """How each fold of a walk went."""
        return self.folder / "walk.json"

    @property
    def walk_plot(self) -> Path:
        """The same as a plot."""
        return self.folder / "walk.png"


def cell_folder(runs: Path, study: str, unique_id: str, method: str, seed: int) -> Path:
    """Folder of one cell."""
    return runs / study / safe_name(unique_id) / method / str(seed)


def trial_folder(runs: Path, study: str, unique_id: str, method: str, number: int) -> Path:
    """Folder of one tuning trial; a level deeper than cells, so that no report takes it for one."""
    return runs / study / "tuning" / safe_name(unique_id) / method / str(number)


def safe_name(unique_id: str) -> str:
    """A series' name as a file name on any system.

    >>> safe_name("BTC/USD-H1")
    'BTC-USD-H1'
    """
    return _NO_FILE_NAME.sub("-", unique_id)


def read_run(paths: CellPaths) -> dict[str, Any] | None:
    """run.json; None where there is none or it is damaged, which means the same: the cell has yet to run."""
    try:
        run = read_json(paths.run)
    except (FileNotFoundError, ValueError):
        return None
    return run if isinstance(run, dict) else None


def done_stages(paths: CellPaths, recorded: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """The first stages of `wanted` that are recorded with the same fingerprint and whose files are there."""
    done = []
    for stage, fingerprint in wanted.items():
        present = all((paths.folder / file).is_file() for file in STAGE_FILES[stage])
        if recorded.get(stage) != fingerprint or not present:
            break
        done.append(stage)
    return done


def reopen(paths: CellPaths, keep: list[str], made_by: dict[str, Any]) -> None:
    """Forget all stages but `keep` before others begin: their files are about to change, whatever happens next.

    `made_by` (versions, git) names what makes them; it holds for the stages kept too, whose fingerprints say that their
    code is this very code.
    """
    run = read_json(paths.run)
    stages = {name: value for name, value in run["stages"].items() if name in keep}
    write_json(paths.run, {**run, **made_by, "status": "pending", "failure": None, "stages": stages})


def mark(paths: CellPaths, stage: str, fingerprint: str) -> None:
    """Record a finished stage."""
    run = read_json(paths.run)
    write_json(paths.run, {**run, "stages": {**run["stages"], stage: fingerprint}})


def update(paths: CellPaths, **values: Any) -> None:
    """Change fields of run.json."""
    write_json(paths.run, {**read_json(paths.run), **values})
