"""Tables of the report: a row for each method, baseline and benchmark, per series and overall.

A figure is the mean over seeds, its spread the sample standard deviation over seeds (only with more than one). Errors
are shown against the random walk and densities against EWMA-t: on exchange rates raw errors look alike and small.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from tunetrade.report.columns import BY_KEY, COLUMNS, COST, NOMINAL_COVERAGE, Column
from tunetrade.report.load import DENSITY_BASELINES, KINDS, RANDOM_WALK, Cell, Study, number

# The names under which a run folder keeps what the table calls otherwise.
TRAIN_KEYS = {"train_seconds": "seconds"} | {
    key: key for key in ("trained_parameters", "stored_bytes", "peak_memory_bytes")
}
FORECAST_KEYS = {"forecast_seconds": "seconds"} | {
    key: key for key in ("latency_p50_ms", "latency_p99_ms", "paths_per_second")
}

SENSES: dict[str, Callable[[Sequence[float]], float]] = {
    "geometric": lambda values: math.exp(fmean(map(math.log, values))) if min(values) > 0 else math.nan,
    "mean": fmean,
    "sum": math.fsum,
    "max": max,
}


NOISY = ("crps", "crps_ratio", "mse", "mse_ratio", "rmse", "nrmse")
CLEAR = 2.0
"""Differences of at most so many Monte Carlo standard errors are not told from sampling noise."""


@dataclass(frozen=True)
class Row:
    """One line of a leaderboard; a figure that does not exist is absent from `values`.

    `noise`: Monte Carlo errors of figures that come from sampled paths, NOISY; absent where not known.
    """

    method: str
    kind: str
    seeds: tuple[int, ...]
    series: int
    values: Mapping[str, float]
    spread: Mapping[str, float] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    complete: bool = True


@dataclass(frozen=True)
class References:
    """Errors of a series against which the others are measured; NaN where the baseline is missing."""

    mse: float
    crps: float
    density: str


def references(study: Study, series: str, step: int | None = None) -> References:
    """Mean MSE of the random walk and mean CRPS of EWMA-t on a series, overall or at one step."""
    density = next((name for name in DENSITY_BASELINES if study.of(series, name)), DENSITY_BASELINES[-1])
    return References(
        mse=_mean(number(_errors(cell, step), "mse") for cell in study.of(series, RANDOM_WALK)),
        crps=_mean(number(_errors(cell, step), "crps") for cell in study.of(series, density)),
        density=density,
    )


def cell_values(cell: Cell, reference: References) -> dict[str, float]:
    """Every figure of one cell by column key; what is missing or not finite is left out."""
    values = {key: number(cell.errors, key) for key in BY_KEY}
    values |= {key: number(cell.figures, key) for key in BY_KEY if key in cell.figures}
    values |= {key: number(cell.train, name) for key, name in TRAIN_KEYS.items()}
    values |= {key: number(cell.forecast, name) for key, name in FORECAST_KEYS.items()}
    values["mse_ratio"] = ratio(values["mse"], reference.mse)
    values["crps_ratio"] = ratio(values["crps"], reference.crps)
    return {key: value for key, value in values.items() if math.isfinite(value)}


def series_rows(study: Study, series: str) -> list[Row]:
    """Leaderboard of one series, best CRPS first; rows without forecasts follow, wholly failed ones last."""
    reference = references(study, series)
    rows = []
    for method in study.methods:
        cells = study.of(series, method)
        failures = _failures(study.of(series, method, done=False))
        if not cells and not failures:
            continue
        per_cell = [cell_values(cell, reference) for cell in cells]
        rows.append(
            Row(
                method=method,
                kind=study.kind(method),
                seeds=tuple(cell.seed for cell in cells),
                series=1 if cells else 0,
                values=_over(per_cell, fmean),
                spread=_over(per_cell, stdev, least=2),
                noise=_noise(cells, reference),
                failures=failures,
                complete=bool(cells),
            )
        )
    return sorted(rows, key=rank)


def overall_rows(study: Study) -> list[Row]:
    """Leaderboard over all series; money is summed only where every backtest is in one currency.

    A row that lacks a series is marked incomplete: its sums and means are not comparable, so it can be best in nothing.
    """
    tables = {series: {row.method: row for row in series_rows(study, series)} for series in study.series}
    one_currency = len(currencies(study)) <= 1
    rows = []
    for method in study.methods:
        parts = [table[method] for table in tables.values() if method in table]
        done = [row for row in parts if row.series]
        seeds = sorted(set.intersection(*(set(row.seeds) for row in done))) if done else []
        by_seed = [_combined(_seed_values(study, method, seed), one_currency) for seed in seeds]
        rows.append(
            Row(
                method=method,
                kind=study.kind(method),
                seeds=tuple(seeds),
                series=len(done),
                values=_combined([row.values for row in done], one_currency),
                spread=_over(by_seed, stdev, least=2),
                noise=_combined_noise(done),
                failures=tuple(
                    f"{series}: {text}"
                    for series, table in tables.items()
                    if method in table
                    for text in table[method].failures
                ),
                complete=len(done) == len(tables),
            )
        )
    return sorted(rows, key=rank)


def best(rows: Sequence[Row], column: Column) -> set[str]:
    """Methods whose figure is the best of a column; empty where all are equal or none is better by nature.

    Also empty where the next best cannot be told from it: see `margin`.
    """
    if column.better == "none":
        return set()
    scores = {
        row.method: _score(row.values[column.key], column)
        for row in rows
        if column.key in row.values
        and row.complete
        and not (column.traded and not row.values.get("trades"))
        and not (column.group == COST and _costs_nothing(row, column))
    }
    if len(set(scores.values())) < 2:
        return set()
    top = min(scores.values())
    winners = {method for method, score in scores.items() if score == top}
    if column.key in NOISY:
        of_method = {row.method: row for row in rows}
        for method in scores.keys() - winners:
            margins = [margin(of_method[winner], of_method[method], column.key) for winner in winners]
            if scores[method] - top <= max(margins):
                return set()
    return winners


def margin(one: Row, other: Row, key: str) -> float:
    """How far two sampled figures must lie apart to be told from sampling noise; endless where a noise is not known.

    Two standard errors of the difference as if the two were sampled apart. Methods share their random numbers, so where
    they say much the same the true error is less: what this calls clear is clear.
    """
    return CLEAR * math.hypot(one.noise.get(key, math.inf), other.noise.get(key, math.inf))


def by_step(study: Study, series: str) -> dict[str, dict[int, dict[str, float]]]:
    """For every forecasting method and step ahead: MSE, CRPS and their ratios, mean over seeds."""
    table: dict[str, dict[int, dict[str, float]]] = {}
    for method in study.methods:
        cells = [cell for cell in study.of(series, method) if cell.errors_by_step]
        steps = sorted({step for cell in cells for step in cell.errors_by_step})
        for step in steps:
            reference = references(study, series, step)
            mse = _mean(number(_errors(cell, step), "mse") for cell in cells)
            crps = _mean(number(_errors(cell, step), "crps") for cell in cells)
            table.setdefault(method, {})[step] = {
                "mse": mse,
                "mse_ratio": ratio(mse, reference.mse),
                "crps": crps,
                "crps_ratio": ratio(crps, reference.crps),
            }
    return table


def currencies(study: Study) -> set[str]:
    """Account currencies of all backtests."""
    return {str(cell.backtest["currency"]) for cell in study.of() if cell.backtest.get("currency")}


def ratio(value: float, reference: float) -> float:
    """Value over reference; NaN where the reference is missing or zero."""
    return value / reference if reference and math.isfinite(reference) else math.nan


def rank(row: Row) -> tuple[bool, float, int, str]:
    """Sort key: lowest CRPS ratio first, rows without forecasts after, wholly failed rows last."""
    return (
        not row.values,
        row.values.get("crps_ratio", row.values.get("crps", math.inf)),
        KINDS.index(row.kind),
        row.method,
    )


def _costs_nothing(row: Row, column: Column) -> bool:
    """Whether a row has a cost of nothing because it did nothing: what was not trained cannot train fastest."""
    return row.values[column.key] == 0 or (column.key == "stored_bytes" and not row.values.get("trained_parameters"))


def _score(value: float, column: Column) -> float:
    """Figure as something to make small."""
    if column.better == "nominal":
        return abs(value - NOMINAL_COVERAGE[column.key])
    return -value if column.better == "more" else value


def _errors(cell: Cell, step: int | None) -> Mapping[str, float]:
    return cell.errors if step is None else cell.errors_by_step.get(step, {})


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def _over(
    cells: Sequence[Mapping[str, float]], statistic: Callable[[Sequence[float]], float], least: int = 1
) -> dict[str, float]:
    """A statistic of each figure over cells, where at least `least` of them have it."""
    gathered = {key: [values[key] for values in cells if key in values] for key in BY_KEY}
    return {key: statistic(values) for key, values in gathered.items() if len(values) >= least}


def _combined(parts: Sequence[Mapping[str, float]], one_currency: bool) -> dict[str, float]:
    """Figures of several series put together as each column says; a figure that a series lacks is left out."""
    combined = {}
    for column in COLUMNS:
        values = [part[column.key] for part in parts if column.key in part]
        if not values or len(values) < len(parts) or column.combine == "none":
            continue
        if column.style == "money" and not one_currency:
            continue
        combined[column.key] = SENSES[column.combine](values)
    return {key: value for key, value in combined.items() if math.isfinite(value)}


def _noise(cells: Sequence[Cell], reference: References) -> dict[str, float]:
    """Monte Carlo errors of the mean over seeds, which share their random numbers: so the mean of theirs."""
    crps, mse = (_plain_mean([number(cell.errors, key) for cell in cells]) for key in ("crps_mc_se", "mse_mc_error"))
    found = {
        "crps": crps,
        "crps_ratio": ratio(crps, reference.crps),
        "mse": mse,
        "mse_ratio": ratio(mse, reference.mse),
    }
    found |= {key: _plain_mean([_noise_of_root(cell, key) for cell in cells]) for key in ("rmse", "nrmse")}
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _noise_of_root(cell: Cell, key: str) -> float:
    """Monte Carlo error of a figure that goes with the root of the MSE: half the relative error of the MSE."""
    error, mse = number(cell.errors, "mse_mc_error"), number(cell.errors, "mse")
    return error and number(cell.errors, key) * ratio(error, mse) / 2


def _plain_mean(values: Sequence[float]) -> float:
    """NaN where one is missing, or there is none."""
    return fmean(values) if values else math.nan


def _combined_noise(rows: Sequence[Row]) -> dict[str, float]:
    """Those of the geometric means of ratios over series, which are sampled apart."""
    found = {}
    for key in ("crps_ratio", "mse_ratio"):
        if rows and all(row.values.get(key, 0) > 0 and key in row.noise for row in rows):
            relative = math.hypot(*(row.noise[key] / row.values[key] for row in rows)) / len(rows)
            found[key] = relative * SENSES["geometric"]([row.values[key] for row in rows])
    return found


def _seed_values(study: Study, method: str, seed: int) -> list[dict[str, float]]:
    return [cell_values(cell, references(study, cell.series)) for cell in study.of(method=method) if cell.seed == seed]


def _failures(cells: Sequence[Cell]) -> tuple[str, ...]:
    """A message for each cell that did not end, with its seed."""
    return tuple(
        f"seed {cell.seed} {cell.status}" + (f": {cell.failure}" if cell.failure else "")
        for cell in cells
        if not cell.done
    )
