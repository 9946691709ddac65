"""Two runs, or two studies, side by side: what differs in error, money and cost, and what made them differ.

Everything is paired: errors on the origins that both have, money on the days that both traded, so that what the market
did is the same for both. B is compared with A: a difference is B less A. docs/REPORT.md describes the record.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from forecasting.bootstrap import indices
from forecasting.bootstrap_t import project
from forecasting.errors import UserError
from forecasting.significance import DieboldMariano, diebold_mariano, holm, mean_test
from tunetrade.evidence.errors import FEWEST
from tunetrade.evidence.figures import LEVEL, SIZE, plain
from tunetrade.evidence.losses import Losses, read_losses
from tunetrade.evidence.money import (
    FEWEST_DAYS,
    money_block,
    read_accounts,
    sum_of_days,
    sum_of_differences,
)
from tunetrade.evidence.tables import read_table
from tunetrade.report.facts import describe, flatten
from tunetrade.report.leaderboard import FORECAST_KEYS, TRAIN_KEYS
from tunetrade.report.load import Cell, Study, number, read_run, read_study

Json = dict[str, Any]

SCHEMA_VERSION = 1
REPLICATIONS = 1_000
SEED = 1
A, B = "A", "B"
MEASURES = {"crps": "crps", "squared": "mse", "absolute": "mae"}
COSTS = ("train_seconds", "trained_parameters", "stored_bytes", "peak_memory_bytes", "forecast_seconds",
         "latency_p50_ms")  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One of the two: where it lies, its cells, and whether it is a study."""

    folder: Path
    study: Study
    whole: bool


@dataclass(frozen=True)
class Pair:
    """What is compared with what: finished cells, one a seed, of a method on a series on each side."""

    series: str
    methods: tuple[str, str]
    a: tuple[Cell, ...]
    b: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """How a table calls it."""
        one, other = self.methods
        return f"{self.series} {one}" if one == other else f"{self.series} {one} / {other}"


def compare(a: Path, b: Path) -> Json:
    """The record of a comparison of two run folders, or of two folders of studies.

    Raises UserError where they are not of one kind, share nothing, or have no origin and no day in common.
    """
    one, other = read_side(a), read_side(b)
    pairs = pairs_of(one, other)
    found = [compare_pair(pair) for pair in pairs]
    if all("reason" in each["errors"] and "reason" in each["money"] for each in found):
        raise UserError(f"{a} and {b} cannot be compared: {_why(found)}")
    _correct(found)
    record = plain(
        {
            "schema_version": SCHEMA_VERSION,
            "a": _identity(one),
            "b": _identity(other),
            "same": a.resolve() == b.resolve(),
            "settings": {"level": LEVEL, "size": SIZE, "replications": REPLICATIONS, "seed": SEED,
                         "correction": "Holm over the pairs, for each measure", "difference": "B less A"},
            "only_a": _alone(one, other, pairs, first=True),
            "only_b": _alone(one, other, pairs, first=False),
            "configuration": differences(_configuration(one), _configuration(other)),
            "program": differences(_program(one), _program(other)),
            "pairs": found,
        }
    )  # fmt: skip
    assert isinstance(record, dict)
    return record


def read_side(folder: Path) -> Side:
    """A run folder, or a study's. Raises UserError where it is neither."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name a run such as runs/demo/EURUSD-D1/lora/1, or a study such as "
                        "runs/demo")  # fmt: skip
    if (folder / "run.json").is_file():
        cell = read_run(folder)
        if not cell.done:
            raise UserError(f"{folder}: this run did not finish ({cell.failure or cell.status}); run its study again")
        return Side(folder, Study(cell.series, (cell,)), whole=False)
    return Side(folder, read_study(folder), whole=True)


def pairs_of(a: Side, b: Side) -> list[Pair]:
    """What both sides have: of two runs the two, of two studies each series and method in both."""
    if a.whole != b.whole:
        run, study = (b, a) if a.whole else (a, b)
        raise UserError(
            f"{run.folder} is a run and {study.folder} a study; compare two runs or two studies, such as that run with "
            f"one in {study.folder}"
        )
    if not a.whole:
        one, other = a.study.cells[0], b.study.cells[0]
        if one.series != other.series:
            raise UserError(
                f"{a.folder} is of {one.series} and {b.folder} of {other.series}; compare runs of one series"
            )
        return [Pair(one.series, (one.method, other.method), (one,), (other,))]
    found = []
    for series in a.study.series:
        for method in a.study.methods:
            cells = a.study.of(series, method), b.study.of(series, method)
            if all(cells):
                found.append(Pair(series, (method, method), tuple(cells[0]), tuple(cells[1])))
    if not found:
        raise UserError(
            f"{a.folder} ({', '.join(a.study.series)}) and {b.folder} ({', '.join(b.study.series)}) have no "
            "finished run of one method on one series in common; compare studies that share a series and a method"
        )
    return found


def compare_pair(pair: Pair) -> Json:
    """All that is said of one pair."""
    cells = [*(replace(cell, method=A) for cell in pair.a), *(replace(cell, method=B) for cell in pair.b)]
    return {
        "series": pair.series,
        "method_a": pair.methods[0],
        "method_b": pair.methods[1],
        "seeds_a": [cell.seed for cell in pair.a],
        "seeds_b": [cell.seed for cell in pair.b],
        "data": _data(pair),
        "errors": _errors(pair, cells),
        "money": _money(cells),
        "cost": _cost(pair),
    }


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[Json]:
    """Keys whose values differ, with both values as text, "" where a side has no such key."""
    return [
        {"key": key, "a": a.get(key, ""), "b": b.get(key, "")}
        for key in sorted({*a, *b})
        if a.get(key, "") != b.get(key, "")
    ]


def _errors(pair: Pair, cells: Sequence[Cell]) -> Json:
    """Differences of loss on shared origins, over all steps and by step."""
    counts = [_origins(side) for side in (pair.a, pair.b)]
    if not all(counts):
        return {
            "reason": "A has no forecasts" if counts[1] else "B has no forecasts" if counts[0] else "neither forecasts"
        }
    fault = _other_truth(pair)
    if fault:
        return {"reason": fault}
    losses = read_losses(cells)
    if losses is None:
        return {"reason": "they share no origin"}
    count = int(losses.complete.sum())
    if count < FEWEST:
        return {"reason": f"they share {count} origins whose outcome is known; at least {FEWEST} are needed"}
    return {
        "origins": count,
        "origins_a": counts[0],
        "origins_b": counts[1],
        "horizon": losses.horizon,
        "first": str(losses.cutoffs[0])[:19],
        "last": str(losses.cutoffs[-1])[:19],
        "measures": {name: _measure(losses, loss) for loss, name in MEASURES.items()},
    }


def _measure(losses: Losses, loss: str) -> Json:
    """Mean loss of both, ratio with interval, test, and the same by step."""
    both = np.stack([losses.of(loss, name)[losses.complete] for name in (A, B)])
    mean = both.mean(axis=2)
    found = diebold_mariano(mean[1], mean[0], losses.horizon)
    steps = {}
    for step in range(losses.horizon):
        tested = diebold_mariano(both[1, :, step], both[0, :, step], step + 1)
        steps[str(step + 1)] = {"ratio": _ratio(both[:, :, step], step + 1), "p_value": two_sided(tested)}
    return {
        "a": float(mean[0].mean()),
        "b": float(mean[1].mean()),
        "ratio": _ratio(mean, losses.horizon),
        "test": _test(found),
        "by_step": steps,
    }


def _ratio(both: np.ndarray, horizon: int) -> Json:
    """B's mean loss over A's, from losses [2, T] of overlap `horizon`; undefined where A has none.

    Its interval is that of the mean of (b - ratio a) / mean a, what each origin adds to the ratio, by the test's own
    long-run error: so it and the test speak alike.
    """
    a, b = both.mean(axis=1)
    if not a > 0:
        return {"value": math.nan, "low": math.nan, "high": math.nan}
    ratio = float(b / a)
    low, high = mean_test((both[1] - ratio * both[0]) / a, horizon).interval(LEVEL)
    return {"value": ratio, "low": ratio + low, "high": ratio + high}


def _test(found: DieboldMariano) -> Json:
    low, high = found.interval(LEVEL)
    return {"difference": found.difference, "low": low, "high": high, "statistic": found.statistic,
            "degrees": found.degrees, "p_value": two_sided(found)}  # fmt: skip


def two_sided(found: DieboldMariano) -> float:
    """Chance of a difference as large, either way, if there is none."""
    return min(1.0, 2 * min(found.p_value, found.p_worse)) if math.isfinite(found.p_value) else math.nan


def _money(cells: Sequence[Cell]) -> Json:
    """Net profit of both on the days that both traded, as shares of their deposits, and B's less A's."""
    traded = {cell.method for cell in cells if (cell.folder / "equity.parquet").is_file()}
    if traded != {A, B}:
        return {"reason": f"{' and '.join(sorted({A, B} - traded))} was not traded"}
    accounts = read_accounts(cells)
    if accounts is None:
        return {"reason": "they share no day of trading"}
    count = len(accounts.days)
    if count < FEWEST_DAYS:
        return {"reason": f"they share {count} days of trading; at least {FEWEST_DAYS} are needed"}
    table = np.column_stack([accounts.gains(A), accounts.gains(B)])
    block = money_block(table)
    projected = project(table, indices(np.random.default_rng(SEED), count, block, REPLICATIONS))
    replicates = table.mean(axis=0) + projected.means
    currencies = {str(cell.backtest.get("currency") or "") for cell in cells}
    deposits = {account.deposit for account in accounts.of}
    alike = len(currencies) == len(deposits) == 1
    return {
        "days": count,
        "first": str(accounts.days[0]),
        "last": str(accounts.days[-1]),
        "block_length": block,
        "currency": next(iter(currencies)) if alike else None,
        "deposit": next(iter(deposits)) if alike else None,
        "return_a": sum_of_days(table[:, 0], replicates[:, 0]),
        "return_b": sum_of_days(table[:, 1], replicates[:, 1]),
        "difference": sum_of_differences(projected, 1, 0),
        "figures_a": _mean_figures(cells, A),
        "figures_b": _mean_figures(cells, B),
    }


def _mean_figures(cells: Sequence[Cell], side: str) -> Json:
    """Figures of the whole backtests, means over seeds; not of the shared days."""
    own = [cell.figures for cell in cells if cell.method == side]
    return {
        key: fmean(number(each, key) for each in own)
        for key in ("net_profit", "sharpe", "max_drawdown", "profit_factor", "trades", "costs", "exposure")
        if all(math.isfinite(number(each, key)) for each in own)
    }


def _cost(pair: Pair) -> Json:
    """Cost of both, means over seeds, and their ratio. Times and memory say as much of the machine as of the method."""
    found: Json = {}
    for key in COSTS:
        a, b = (_mean([_cost_of(cell, key) for cell in side]) for side in (pair.a, pair.b))
        if math.isfinite(a) or math.isfinite(b):
            found[key] = {"a": a, "b": b, "ratio": b / a if a > 0 else math.nan}
    return found


def _cost_of(cell: Cell, key: str) -> float:
    return number(cell.train, TRAIN_KEYS[key]) if key in TRAIN_KEYS else number(cell.forecast, FORECAST_KEYS[key])


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def _data(pair: Pair) -> Json:
    """What both were made from, and whether it is the same."""
    sides = {}
    for name, cells in ((A, pair.a), (B, pair.b)):
        run = cells[0].run
        span = run.get("data_range") or ("", "")
        sides[name] = {"source": str(run.get("source") or ""), "sha": str(run.get("data_sha") or ""),
                       "first": str(span[0]), "last": str(span[-1]), "bars": run.get("bars")}  # fmt: skip
    return {"same": sides[A]["sha"] == sides[B]["sha"], "a": sides[A], "b": sides[B]}


def _origins(cells: Sequence[Cell]) -> int:
    return min(int(number(cell.forecast, "origins") or 0) if cell.forecast else 0 for cell in cells)


def _other_truth(pair: Pair) -> str:
    """Why errors on shared origins do not compare: the closes that were to be forecast are not the same."""
    a, b = (read_table(side[0].folder / "forecasts.parquet", ["cutoff", "h", "y"]) for side in (pair.a, pair.b))
    if a is None or b is None:
        return "one of them has no forecasts"
    both = a.merge(b, on=["cutoff", "h"], suffixes=("_a", "_b"))
    if both.empty:
        return f"they share no origin: A's are {_span(a)}, B's {_span(b)}"
    known = both.dropna(subset=["y_a", "y_b"])
    other = (known["y_a"] - known["y_b"]).abs() > 1e-9 * known["y_a"].abs()
    if not other.any():
        return ""
    row = known[other].iloc[0]
    return (
        f"{int(other.sum()):,} of {len(known):,} closes to forecast differ, first at origin {str(row['cutoff'])[:16]}"
        f", step {int(row['h'])}: {row['y_a']:g} in A, {row['y_b']:g} in B; forecast the same bars with both"
    )


def _span(table: Any) -> str:
    return f"{str(table['cutoff'].min())[:10]} to {str(table['cutoff'].max())[:10]}"


def _correct(found: Sequence[Json]) -> None:
    """Holm's p-values over the pairs, and which side each test shows to be better; records are changed in place."""
    for name in MEASURES.values():
        tested = [each["errors"]["measures"][name] for each in found if "measures" in each["errors"]]
        _decide([each["test"] for each in tested], less_is_better=True)
    _decide([each["money"]["difference"] for each in found if "difference" in each["money"]], less_is_better=False)


def _decide(tests: Sequence[Json], less_is_better: bool) -> None:
    corrected = holm(np.array([each["p_value"] for each in tests])).tolist() if tests else []
    for each, chance in zip(tests, corrected, strict=True):
        each["p_holm"] = chance
        value = each["difference"] if "difference" in each else each["value"]
        each["better"] = (A if (value > 0) == less_is_better else B) if chance < SIZE else None


def _identity(side: Side) -> Json:
    return {
        "folder": side.folder.as_posix(),
        "name": side.study.name if side.whole else "/".join(side.folder.resolve().parts[-3:]),
        "kind": "study" if side.whole else "run",
        "series": side.study.series,
        "methods": side.study.methods,
        "runs": len(side.study.of()),
    }


def _alone(a: Side, b: Side, pairs: Sequence[Pair], first: bool) -> list[str]:
    """Series and methods of one side that have no counterpart."""
    own = a if first else b
    if not own.whole:
        return []
    paired = {(pair.series, pair.methods[0]) for pair in pairs}
    return sorted(
        {f"{cell.series} {cell.method}" for cell in own.study.of() if (cell.series, cell.method) not in paired}
    )


def _configuration(side: Side) -> dict[str, str]:
    """Every setting of a side; values that differ between its cells stand beside each other."""

    def own(cell: Cell) -> Json:
        return {"seed": cell.seed} if side.whole else {"seed": cell.seed, "method": cell.method}

    return _gathered(side, lambda cell: dict(flatten(cell.run.get("config") or {})) | own(cell))


def _program(side: Side) -> dict[str, str]:
    """Code and libraries that made a side."""

    def of_cell(cell: Cell) -> dict[str, Any]:
        git = cell.run.get("git") or {}
        code = {"code": str(git.get("commit", ""))[:12] + (" changed" if git.get("dirty") else "")}
        return dict(cell.run.get("versions") or {}) | code

    return _gathered(side, of_cell)


def _gathered(side: Side, of_cell: Callable[[Cell], Mapping[str, Any]]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for cell in side.study.of():
        for key, value in of_cell(cell).items():
            found.setdefault(key, {})[describe(value)] = None
    return {key: " | ".join(values) for key, values in found.items()}


def _why(found: Sequence[Json]) -> str:
    said = dict.fromkeys(
        f"{each['series']} {each['method_a']}: errors: {each['errors']['reason']}; money: {each['money']['reason']}"
        for each in found
    )
    return "; ".join(list(said)[:3])
