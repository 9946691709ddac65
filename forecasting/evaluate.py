"""Rolling-origin evaluation: a forecaster, a series and cutoffs become the long table and its errors."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from forecasting.bars import Bars
from forecasting.cache import ForecastCache
from forecasting.distributions import noise_of_mean, noise_of_mse
from forecasting.errors import ConfigError
from forecasting.files import sha256_of
from forecasting.forecaster import Forecaster, Progress
from forecasting.forecasts import QUANTILE_COLUMNS, QUANTILE_LEVELS, concatenate, to_table
from forecasting.metrics import errors
from forecasting.windows import WindowSpec, contexts, targets

CHUNK = 256
"""Windows forecast at a time where nobody says otherwise; bounds memory, changes no result."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds a single live forecast takes, one window at a time; p99 of fewer than 100 is the slowest."""

    p50: float
    p99: float


def forbid_seen(cutoff: str, first: np.datetime64, allowed: bool) -> bool:
    """Whether evaluation from `first` on touches what the base has seen, trained up to `cutoff`.

    Raises ConfigError where it does, unless `allowed`.
    """
    seen = first <= np.datetime64(cutoff, "ns") + np.timedelta64(1, "D")
    if seen and not allowed:
        raise ConfigError(
            f"validation begins {first.astype('datetime64[D]')}, but the base was trained on data up to {cutoff}: it "
            f"has seen the answers; move split.validation_start after {cutoff}, or set allow_seen = true and the "
            f"report says so"
        )
    return bool(seen)


def rolling_forecasts(
    forecaster: Forecaster,
    bars: Bars,
    spec: WindowSpec,
    positions: np.ndarray,
    progress: Progress | None = None,
    chunk: int = CHUNK,
) -> pd.DataFrame:
    """Long table of forecasts at every given cutoff position, with truth, CRPS and its noise beside them."""
    forecasts, truths, scores, noises = [], [], [], []
    for first in range(0, len(positions), chunk):
        held = positions[first : first + chunk]
        prediction = forecaster.predict(contexts(bars, spec, forecaster.warm_up, held), progress)
        truth = targets(bars, spec, held)
        forecasts.append(prediction.forecasts)
        truths.append(truth)
        scores.append(prediction.crps(truth))
        noises.append(prediction.crps_noise(truth))
    return to_table(concatenate(forecasts), *map(np.concatenate, (truths, scores, noises)))


@dataclass(frozen=True)
class Evaluation:
    """The long table, the seconds its forecasts took to make (now or when they were), and how many were read."""

    table: pd.DataFrame
    seconds: float
    cached: int


def evaluate(
    forecaster: Forecaster,
    bars: Bars,
    spec: WindowSpec,
    positions: np.ndarray,
    cache: ForecastCache,
    progress: Progress | None = None,
    chunk: int = CHUNK,
) -> Evaluation:
    """`rolling_forecasts`, whose chunks are read from the cache where they lie there.

    Chunks begin at multiples of `chunk` in the series, so that a longer series still finds those before its end.
    """
    tables, seconds, cached = [], 0.0, 0
    for held in np.split(positions, np.flatnonzero(np.diff(positions // chunk)) + 1):
        inputs = contexts(bars, spec, forecaster.warm_up, held)
        file = cache.file(forecaster.sha, *inputs.hashes(), sha256_of(targets(bars, spec, held)))
        known = cache.read(file)
        if known is None:
            started = time.perf_counter()
            table = rolling_forecasts(forecaster, bars, spec, held, progress, chunk)
            known = table, time.perf_counter() - started
            cache.write(file, *known)
        else:
            cached += len(held)
            if progress:
                progress(len(held))
        tables.append(known[0])
        seconds += known[1]
    return Evaluation(pd.concat(tables, ignore_index=True), seconds, cached)


def table_errors(table: pd.DataFrame, naive_scale: float) -> dict[str, Any]:
    """Errors over all steps, and by step: {"overall": {...}, "by_step": {"1": {...}, ...}}.

    Beside `metrics.errors` each holds crps_mc_se, the Monte Carlo standard error of its mean CRPS, and mse_mc_error,
    that of its MSE with the excess that sampled means add.
    """

    def of(rows: pd.DataFrame) -> dict[str, float]:
        columns = {name: rows[name].to_numpy(np.float64) for name in ("y", "mean", "anchor", "crps", *QUANTILE_COLUMNS)}
        quantiles = {level: columns[name] for level, name in zip(QUANTILE_LEVELS, QUANTILE_COLUMNS, strict=True)}
        found = errors(
            columns["y"], columns["mean"], columns["q50"], columns["anchor"], columns["crps"], quantiles, naive_scale
        )
        known = rows[rows["y"].notna()]
        noise, spread = (known[name].to_numpy(np.float64) for name in ("crps_noise", "mean_se"))
        origin, error = known["cutoff"].to_numpy("datetime64[ns]"), (known["y"] - known["mean"]).to_numpy(np.float64)
        return found | {
            "crps_mc_se": noise_of_mean(noise, origin),
            "mse_mc_error": noise_of_mse(error, spread, origin),
        }

    return {"overall": of(table), "by_step": {str(h): of(rows) for h, rows in table.groupby("h")}}


def naive_scale(bars: Bars, last: int, first: int = 0) -> float:
    """Mean absolute one-bar change of the closes from position `first` to `last`, the training part.

    It is the denominator of MASE.
    """
    return float(np.mean(np.abs(np.diff(bars.closes[first : last + 1]))))


def latency(forecaster: Forecaster, bars: Bars, spec: WindowSpec, positions: np.ndarray, repeats: int = 30) -> Latency:
    """Time of single forecasts at spread-out cutoffs, after one to warm up."""
    chosen = positions[np.linspace(0, len(positions) - 1, repeats).astype(int)]
    seconds = []
    for position in (chosen[0], *chosen):
        one = contexts(bars, spec, forecaster.warm_up, np.array([position]))
        started = time.perf_counter()
        forecaster.predict(one)
        seconds.append(time.perf_counter() - started)
    milliseconds = np.array(seconds[1:]) * 1e3
    return Latency(float(np.median(milliseconds)), float(np.percentile(milliseconds, 99, method="higher")))
