"""What a tuning trial sees and how it is judged: a series without its test part, and forecasts of the validation part.

A trial is handed bars in which every price of the test part is blank, so no code below it can choose by that part, and
its data hash, its fingerprint and all its files are the same whatever the test part holds.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from forecasting.bars import Bars
from forecasting.files import sha256_of, write_json, write_parquet
from forecasting.sources.table import PRICES
from tunetrade.beside import series_beside
from tunetrade.cell import Cell, Emit
from tunetrade.config import StudyConfig
from tunetrade.prepared import Prepared, prepare


def blind(bars: Bars, study: StudyConfig) -> Bars:
    """The bars up to one window into the test part, whose prices there are all the last close before it.

    The blank bars stay so that the series splits as it did. `sha256` of the instrument is that of these very bars.
    """
    first = int(prepare(study, bars).split.test[0])
    frame = bars.frame.iloc[: first + study.windows.horizon + 1].copy()
    blank = np.arange(len(frame)) >= first
    frame.loc[blank, list(PRICES)] = bars.closes[first - 1]
    for name in ("volume", "spread"):
        frame.loc[blank, name] = frame[name].iloc[first - 1]
    sha = sha256_of(frame.index.asi8, *(frame[name].to_numpy(np.float64) for name in frame.columns))
    return replace(bars, frame=frame, instrument=replace(bars.instrument, sha256=sha))


def validation_span(prepared: Prepared, bars: Bars) -> tuple[np.datetime64, np.datetime64]:
    """Close times of the first and the last bar of the validation part that is traded."""
    return bars.times[prepared.split.validation[0]], bars.times[prepared.split.validation[-1]]


def validate(cell: Cell, bars: Bars, fingerprint: str, emit: Emit) -> None:
    """Forecast at every bar of the validation part; write validation.parquet and validation.json."""
    from forecasting.cache import ForecastCache, cache_folder, limit_bytes
    from forecasting.evaluate import evaluate, naive_scale, table_errors
    from tunetrade.forecasters import forecaster_of
    from tunetrade.provenance import code_of

    study = cell.study
    prepared = prepare(study, bars)
    parts = prepared.split
    forecaster = forecaster_of(cell, prepared, bars)
    finished = 0

    def progress(count: int) -> None:
        nonlocal finished
        finished += count
        emit({"windows": finished, "of": len(parts.validation), "paths_per_second": None})

    cache = ForecastCache(cache_folder(), limit_bytes(), code_of("forecast"))
    result = evaluate(forecaster, bars, study.windows, parts.validation, cache, progress, study.sampling.chunk)
    scale = naive_scale(bars, first=int(parts.train[0]), last=int(parts.train[-1]))
    write_parquet(cell.paths.validation_table, result.table)
    write_json(
        cell.paths.validation,
        {
            "origins": len(parts.validation),
            "horizon": study.windows.horizon,
            "paths": study.sampling.paths,
            "seconds": result.seconds,
            "cached_origins": result.cached,
            "metrics": table_errors(result.table, scale),
            **(_money(study, bars, prepared, result.table) if cell.kind == "trial" else {}),
        },
    )


def _money(study: StudyConfig, bars: Bars, prepared: Prepared, table: pd.DataFrame) -> dict[str, Any]:
    """Daily returns of trading the validation part, for the ledger; nothing is chosen by them."""
    from forecasting.forecasts import from_table
    from strategies.backtest import run_backtest
    from strategies.metrics import daily_returns

    conversion, finer = series_beside(study)
    result = run_backtest(
        bars,
        from_table(table),
        study.trading,
        study.broker,
        context=study.windows.context,
        span=validation_span(prepared, bars),
        conversion=conversion,
        finer=finer,
    )
    returns = daily_returns(result.equity)
    return {
        "days": [str(day)[:10] for day in returns.index],
        "daily_returns": [round(float(value), 10) for value in returns],
    }
