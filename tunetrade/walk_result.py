"""How each fold of a walk went: walk.json and walk.png of a run folder.

Point errors stand against the random walk and densities against EWMA-t, as everywhere, on the fold's own origins; money
is the change of the one account's equity over the fold's bars, so that the folds add up to the run.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from forecasting.bars import Bars
from forecasting.files import atomic, read_json, write_json
from tunetrade.cell import Cell
from tunetrade.prepared import Prepared, prepare
from tunetrade.walk import MARK, Fold, fold_cell, folds

SUMMED = ("mse_skill", "crps_skill", "net_profit")
"""Figures of folds whose spread is told."""


def write_walk(cell: Cell, bars: Bars, equity: pd.DataFrame) -> None:
    """Write walk.json and walk.png from what the stages before left, and the equity of the backtest."""
    from tunetrade.walk_plot import stability

    record = walk_record(cell, bars, equity)
    write_json(cell.paths.walk, record)
    with atomic(cell.paths.walk_plot) as partial:
        partial.write_bytes(stability(cell.name, record).png)


def walk_record(cell: Cell, bars: Bars, equity: pd.DataFrame) -> dict[str, Any]:
    """The content of walk.json: {options, folds: [...], spread: {...}}."""
    prepared = prepare(cell.study, bars)
    table = pd.read_parquet(cell.paths.forecasts)
    yardstick = ewma_t(cell, bars, prepared)
    rows = []
    for fold in folds(prepared.split, cell.study.walk):
        rows.append(
            {
                **_dates(fold, bars),
                **_training(cell, fold),
                **fold_errors(table, yardstick, bars.times[fold.split.test]),
                "net_profit": fold_profit(equity, bars.times[fold.split.test], cell.study.broker.deposit),
            }
        )
    return {"options": asdict(cell.study.walk), "folds": rows, "spread": {name: _spread(rows, name) for name in SUMMED}}


def ewma_t(cell: Cell, bars: Bars, prepared: Prepared) -> pd.DataFrame:
    """The long table of EWMA-t on the whole test part; it has no parameters to fit, so folds are nothing to it."""
    from forecasting.baselines import baseline
    from forecasting.cache import ForecastCache, cache_folder, limit_bytes
    from forecasting.evaluate import evaluate
    from tunetrade.forecasters import asked_of
    from tunetrade.provenance import code_of

    cache, study = ForecastCache(cache_folder(), limit_bytes(), code_of("forecast")), cell.study
    forecaster = baseline("ewma-t", asked_of(cell, prepared, bars))
    return evaluate(forecaster, bars, study.windows, prepared.split.test, cache, chunk=study.sampling.chunk).table


def fold_errors(table: pd.DataFrame, yardstick: pd.DataFrame, cutoffs: np.ndarray) -> dict[str, float]:
    """Errors over the origins of a fold whose truth is known.

    mse_skill = 1 - MSE / that of the last close; crps_skill = 1 - CRPS / EWMA-t's. NaN where undefined.
    """
    own, other = (_known(each, cutoffs) for each in (table, yardstick))
    y, anchor, mean = (own[name].to_numpy(np.float64) for name in ("y", "anchor", "mean"))
    crps, reference = _mean(own["crps"].to_numpy(np.float64)), _mean(other["crps"].to_numpy(np.float64))
    mse, naive = _mean((y - mean) ** 2), _mean((y - anchor) ** 2)
    return {
        "rmse": mse**0.5,
        "crps": crps,
        "mse_skill": 1 - mse / naive if naive > 0 else float("nan"),
        "crps_skill": 1 - crps / reference if reference > 0 else float("nan"),
    }


def fold_profit(equity: pd.DataFrame, cutoffs: np.ndarray, deposit: float) -> float:
    """Change of equity from the last bar before a fold to its last bar, in account currency; the folds add up."""
    times = equity["time"].to_numpy("datetime64[ns]")
    values = np.concatenate([[deposit], equity["equity"].to_numpy(np.float64)])
    before, last = np.searchsorted(times, cutoffs[0]), np.searchsorted(times, cutoffs[-1], side="right")
    return float(values[last] - values[before])


def _known(table: pd.DataFrame, cutoffs: np.ndarray) -> pd.DataFrame:
    held = table["cutoff"].to_numpy("datetime64[ns]")
    return table[(held >= cutoffs[0]) & (held <= cutoffs[-1]) & table["y"].notna().to_numpy()]


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _dates(fold: Fold, bars: Bars) -> dict[str, Any]:
    """When each part of a fold begins and ends, and how many windows it has."""
    found: dict[str, Any] = {"fold": fold.number}
    for name in ("train", "validation", "test"):
        positions = getattr(fold.split, name)
        found |= {f"{name}_start": str(bars.times[positions[0]]), f"{name}_end": str(bars.times[positions[-1]])}
        found[f"{name}_windows"] = len(positions)
    return found


def _training(cell: Cell, fold: Fold) -> dict[str, Any]:
    """How the fold's model was trained; nothing for cells that train none.

    start_loss is the validation loss before the first step, of the base or of the weights it was started from.
    """
    if cell.kind != "method":
        return dict.fromkeys(("steps", "best_step", "validation_loss", "start_loss", "started_from"))
    paths = fold_cell(cell, fold).paths
    record, mark = read_json(paths.train), read_json(paths.folder / MARK)
    losses = {row["step"]: row["validation_loss"] for row in record["history"]}
    return {
        "steps": record["steps"],
        "best_step": record["best_step"],
        "validation_loss": losses[record["best_step"]],
        "start_loss": losses[0],
        "started_from": mark["started_from"],
    }


def _spread(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Mean, standard deviation over folds, least and most, and the share of folds above zero."""
    values = np.array([row[name] for row in rows], dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return dict.fromkeys(("mean", "deviation", "least", "most", "positive"), float("nan"))
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
        "least": float(values.min()),
        "most": float(values.max()),
        "positive": float(np.mean(values > 0)),
    }
