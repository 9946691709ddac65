"""What the run folders' tables hold for the pages: curves, months, trades, calibration; read once, kept small."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd

from forecasting.bootstrap import interval, means, weights
from forecasting.forecasts import QUANTILE_COLUMNS, QUANTILE_LEVELS
from tunetrade.evidence.errors import widened_ratio
from tunetrade.report.evidence_view import part
from tunetrade.report.load import FORECAST_COLUMNS, Cell, Json, Study, number, read_columns

LAST = 120
"""Origins at the end whose forecasts are drawn beside the truth."""
POINTS = 300
"""Points of a curve on a page: more than a phone has pixels for."""
TRADES_SHOWN = 25
REPLICATIONS = 500
SEED = 1
EDGES = (0.0, *QUANTILE_LEVELS, 1.0)
TRADE_COLUMNS = [
    "direction", "lots", "entry_time", "entry_price", "exit_time", "exit_price", "spread_cost", "slippage_cost",
    "commission", "swap", "net_profit", "bars_held", "reason", "exit_reason",
]  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """Equity of a cell in stretches: end of each (text), equity less the start, deepest fall below the last peak in %.

    before: the same before costs; empty where it is not known.
    """

    seed: int
    times: list[str]
    net: list[float]
    before: list[float]
    under: list[float]


@dataclass(frozen=True)
class Months:
    """Net return of each month in %, of its equity at the start; total of each year likewise."""

    returns: dict[tuple[int, int], float]
    years: dict[int, float]


@dataclass(frozen=True)
class Calibration:
    """Where the truth fell among the predicted quantiles: density of each stretch of EDGES over its nominal share.

    1 everywhere is right. low, high: ends of 95 % intervals, NaN where too few. below: share under each quantile.
    """

    density: list[float]
    low: list[float]
    high: list[float]
    below: list[float]
    count: int


@dataclass(frozen=True)
class Tables:
    """All that is read of one method on one series; `curves` by seed, the rest of the lowest seed but calibration.

    last: rows of the long table at the furthest step of the LAST origins whose outcome is known; `ds` UTC, naive.
    """

    curves: list[Curve] = field(default_factory=list)
    months: Months | None = None
    trades: pd.DataFrame | None = None
    all_trades: pd.DataFrame | None = None
    calibration: Calibration | None = None
    currency: str = ""
    last: pd.DataFrame | None = None


def read_tables(study: Study, evidence: Json) -> dict[str, dict[str, Tables]]:
    """Tables by series and method, of finished cells."""
    return {series: _of_series(study, series, evidence) for series in study.series}


def thin(equity: pd.DataFrame, points: int = POINTS) -> Curve:
    """A curve in at most `points` stretches of equally many bars, each with its last value and its deepest fall."""
    values = equity["equity"].to_numpy(np.float64)
    before = equity["equity_before_costs"].to_numpy(np.float64) if "equity_before_costs" in equity else values[:0]
    under = 100 * (values / np.maximum.accumulate(values) - 1)
    ends = np.unique(np.linspace(0, len(values), min(points, len(values)) + 1).astype(np.int64)[1:]) - 1
    starts = np.concatenate([[0], ends[:-1] + 1])
    stamps = pd.DatetimeIndex(equity["time"]).tz_localize(None)[ends]
    daily = len(equity) < 2 or (stamps[-1] - stamps[0]) / max(1, len(equity) - 1) > pd.Timedelta(hours=20)
    return Curve(
        0,
        [str(text) for text in stamps.strftime("%Y-%m-%d" if daily else "%Y-%m-%d %H:%M")],
        _short(values[ends] - values[0]),
        _short(before[ends] - before[0]) if len(before) else [],
        _short(np.minimum.reduceat(under, starts)),
    )


def months_of(equity: pd.DataFrame) -> Months:
    """Returns by month and year from equity at each bar."""
    stamps = pd.DatetimeIndex(equity["time"]).tz_localize(None) - pd.Timedelta(1, "ns")
    values = pd.Series(equity["equity"].to_numpy(np.float64), index=stamps)

    def changes(period: str) -> dict[pd.Period, float]:
        ends = values.groupby(values.index.to_period(period)).last()
        starts = ends.shift(1)
        starts.iloc[0] = values.iloc[0]
        return dict((100 * (ends / starts - 1)).items())

    return Months(
        {(month.year, month.month): value for month, value in changes("M").items()},
        {year.year: value for year, value in changes("Y").items()},
    )


def calibrate(tables: Sequence[pd.DataFrame], block: float) -> Calibration | None:
    """Calibration over all steps of tables that share their origins (seeds of one method); None without truths."""
    shares = []
    for table in tables:
        y = table["y"].to_numpy(np.float64)
        known = np.isfinite(y)
        quantiles = table[list(QUANTILE_COLUMNS)].to_numpy(np.float64)
        place = (quantiles < y[:, None]).sum(axis=1)
        origins, at = np.unique(table["cutoff"].to_numpy("datetime64[ns]"), return_inverse=True)
        counts = np.zeros((len(origins), len(EDGES) - 1))
        np.add.at(counts, (at[known], place[known]), 1.0)
        shares.append(counts)
    shares = [each for each in shares if len(each) == len(shares[0])] if shares else []
    if not shares or not shares[0].sum():
        return None
    counts = np.mean(shares, axis=0)
    wanted, total = np.diff(EDGES), counts.sum()
    density = counts.sum(axis=0) / total / wanted
    low = high = np.full(len(wanted), np.nan)
    if len(counts) >= 30:
        drawn = _drawn(len(counts), max(block, 1.0))
        top, bottom = counts / wanted, np.repeat(counts.sum(axis=1, keepdims=True), len(wanted), axis=1)
        overlaps = [math.ceil(len(tables[0]) / len(counts))] * len(wanted)
        low, high = interval(widened_ratio(top, bottom, means(drawn, top), means(drawn, bottom), overlaps)[1])
    below = np.cumsum(counts.sum(axis=0))[:-1] / total
    return Calibration(_short(density), _short(low), _short(high), _short(below), round(total))


@lru_cache(maxsize=4)
def _drawn(rows: int, block: float) -> np.ndarray:
    """Draws of the bootstrap, which all methods of a series share."""
    return weights(rows, block, REPLICATIONS, SEED)


def last_origins(table: pd.DataFrame) -> pd.DataFrame:
    """Rows at the furthest step of the LAST origins whose outcome is known; `ds` without its zone."""
    known = table[(table["h"] == table["h"].max()) & table["y"].notna()].sort_values("cutoff").tail(LAST)
    return known.assign(ds=known["ds"].dt.tz_localize(None))[FORECAST_COLUMNS].reset_index(drop=True)


def _of_series(study: Study, series: str, evidence: Json) -> dict[str, Tables]:
    errors = part(evidence, "series", series, "errors")
    block = number(errors, "block_length")
    found = {}
    for method in study.methods:
        cells = sorted(study.of(series, method), key=lambda cell: cell.seed)
        if cells:
            found[method] = _of_method(cells, block if math.isfinite(block) else 5.0)
    return found


def _of_method(cells: Sequence[Cell], block: float) -> Tables:
    curves, months = [], None
    for cell in cells:
        equity = read_columns(cell, "equity.parquet", ["time", "equity", "equity_before_costs"])
        if equity is not None and len(equity):
            thinned = thin(equity)
            curves.append(Curve(cell.seed, thinned.times, thinned.net, thinned.before, thinned.under))
            months = months or months_of(equity)
    calibrated = ["cutoff", "y", *QUANTILE_COLUMNS]
    forecasts = [
        read_columns(cell, "forecasts.parquet", sorted({*calibrated, *([] if place else FORECAST_COLUMNS)}))
        for place, cell in enumerate(cells)
    ]
    shown = next((table for table in forecasts if table is not None and len(table)), None)
    traded = [(cell, read_columns(cell, "trades.parquet", TRADE_COLUMNS)) for cell in cells]
    known = [table.assign(seed=cell.seed) for cell, table in traded if table is not None]
    currency = next((str(cell.backtest["currency"]) for cell in cells if cell.backtest.get("currency")), "")
    return Tables(
        curves,
        months,
        known[0] if known else None,
        pd.concat(known, ignore_index=True) if known else None,
        calibrate([table for table in forecasts if table is not None and len(table)], block),
        currency,
        last_origins(shown) if shown is not None and shown.columns.isin(FORECAST_COLUMNS).sum() == 8 else None,
    )


def _short(values: np.ndarray) -> list[float]:
    """Six significant digits: finer than any screen shows."""
    return [float(f"{value:.6g}") for value in values.tolist()]
