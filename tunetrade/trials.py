"""What the ledger says of a trial: whose, under which settings, and what came of it day by day."""

from typing import Any

import pandas as pd

from forecasting.base import find_base
from forecasting.files import read_json
from strategies.metrics import daily_returns
from strategies.user_signal import signal_sha
from tunetrade.cell import Cell, backtest_fingerprint, fingerprints
from tunetrade.config import as_plain
from tunetrade.ledger import Ledger, Trial

SETTINGS = ("base", "source", "windows", "codec", "split", "training", "sampling", "trading", "broker")


def trial(cell: Cell, run: dict[str, Any], key: str) -> Trial:
    """The part of a line that stands whatever came of it; the settings are the cell's, changed rules among them."""
    config = as_plain(cell.study)
    return {
        "key": key,
        "study": cell.study.name,
        "unique_id": run["unique_id"],
        "kind": cell.kind,
        "method": cell.method,
        "seed": cell.seed,
        "data_sha": run["data_sha"],
        "settings": {name: config[name] for name in SETTINGS} | _own(cell, config),
    }


def _own(cell: Cell, config: dict[str, Any]) -> dict[str, Any]:
    """Settings of the method or ensemble itself, and the hash of a signal of the user's own."""
    sha = signal_sha(cell.study.trading.signal)
    own = {"method": config["method"].get(cell.method)}
    made_of = {"ensemble": config["ensemble"][cell.method]} if cell.kind == "ensemble" else {}
    return own | made_of | ({"signal_sha": sha} if sha else {})


def outcome(cell: Cell) -> Trial:
    """What came of a finished cell; a tuning trial's money is that of the validation part."""
    if cell.kind == "trial":
        found = read_json(cell.paths.validation)
        return {
            "validation": found["metrics"]["overall"],
            "days": found["days"],
            "daily_returns": found["daily_returns"],
        }
    return results(cell, pd.read_parquet(cell.paths.equity))


def results(cell: Cell, equity: pd.DataFrame) -> Trial:
    """What came of it: validation errors and daily returns."""
    returns = daily_returns(equity)
    return {
        "validation": read_json(cell.paths.forecast).get("validation") if cell.kind != "benchmark" else None,
        "days": [str(day)[:10] for day in returns.index],
        "daily_returns": [round(float(value), 10) for value in returns],
    }


def record(cell: Cell, run: dict[str, Any], equity: pd.DataFrame) -> None:
    """Put the trial of a cell's rules, perhaps changed ones, on a run's forecasts into the ledger, once for all."""
    from tunetrade.study import LEDGER

    line = trial(cell, run, key_of_rules(cell, run)) | results(cell, equity)
    Ledger(cell.paths.folder.resolve().parents[3] / LEDGER).add(line)


def key_of_rules(cell: Cell, run: dict[str, Any]) -> str:
    """Key of a trial of the cell's rules, perhaps changed ones, on the forecasts that a run folder holds."""
    if cell.kind == "benchmark":
        return fingerprints(cell, run["data_sha"], find_base(cell.study.base))["backtest"]
    return backtest_fingerprint(cell, run["stages"]["forecast"])
