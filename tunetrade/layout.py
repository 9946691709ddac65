"""Where the files of a study lie, and the one file that says how far a cell has come."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forecasting.files import read_json, write_json

VOLATILE = {
    "train.json": ("seconds", "tokens_per_second", "peak_memory_bytes", "memory_before_training_bytes"),
    "forecast.json": ("seconds", "paths_per_second", "latency_p50_ms", "latency_p99_ms"),
}
"""Fields that measure the machine rather than the model; all else in a run folder is the same on every run."""

VOLATILE_FOLDERS = ("tensorboard",)


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
    def forecasts(self) -> Path:
        """The long table."""
        return self.folder / "forecasts.parquet"

    @property
    def forecast(self) -> Path:
        """Errors, speed and latency."""
        return self.folder / "forecast.json"

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


def cell_folder(runs: Path, study: str, unique_id: str, method: str, seed: int) -> Path:
    """Folder of one cell."""
    return runs / study / unique_id / method / str(seed)


def mark(paths: CellPaths, stage: str, fingerprint: str) -> None:
    """Record a finished stage; later stages are no longer valid and are forgotten."""
    run = read_json(paths.run)
    order = ("train", "forecast", "backtest")
    kept = {name: value for name, value in run["stages"].items() if order.index(name) < order.index(stage)}
    write_json(paths.run, {**run, "stages": {**kept, stage: fingerprint}})


def update(paths: CellPaths, **values: Any) -> None:
    """Change fields of run.json."""
    write_json(paths.run, {**read_json(paths.run), **values})
