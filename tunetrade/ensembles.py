"""Ensembles of methods: one forecast made of those of several cells, treated like a method's from there on.

Quantiles are averaged level by level (Vincent 1912), which keeps the shape of the members' distributions where a
mixture would widen it. No path is at hand any more, so the score of the whole is the members' own less what averaging
gains, and only that gain is an approximation (`combined`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecasting.errors import OptionError, UserError, unknown
from forecasting.files import sha256_of
from forecasting.forecasts import QUANTILE_COLUMNS, QUANTILE_LEVELS, Forecasts, from_table

if TYPE_CHECKING:
    from forecasting.bars import Bars
    from strategies.signals import Ballot
    from tunetrade.cell import Cell
    from tunetrade.prepared import Prepared

HOW = ("mean", "vote", "skill")

MEMBER = "member"
"""Column of members.parquet beside those of the long table."""

_AVERAGED = ("mean", "mean_se", *QUANTILE_COLUMNS, "p_up", "p_up_se", "sigma", "crps", "crps_noise")
_SHARED = ("unique_id", "cutoff", "ds", "h", "y", "anchor")


@dataclass(frozen=True)
class EnsembleOptions:
    """An [ensemble.NAME] section.

    members: methods or baselines of the study. how: "mean", equal weights; "skill", weights in proportion to the
    members' CRPS skill on the validation part; "vote", forecasts as with "mean", and the position that more than half
    of the members take under the study's signal.
    """

    members: tuple[str, ...]
    how: str = "mean"

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise OptionError(unknown("how", self.how, HOW).removeprefix("unknown "))
        if len(set(self.members)) < 2 or len(set(self.members)) < len(self.members):
            raise OptionError(f"members is {list(self.members)!r}; name at least two, each once")


def combined(tables: Sequence[pd.DataFrame], weights: Sequence[float]) -> pd.DataFrame:
    """The long table of an ensemble from its members', which hold the same rows; weights add up to 1.

    Standard errors are averaged: the members' paths share their uniforms, so their errors may be fully correlated.

    With CRPS = 2 times the integral of the pinball loss over levels, and pinball losses convex in the quantile, the
    CRPS of averaged quantiles is sum(w crps) less twice the integral of sum(w pinball) - pinball of the average. That
    gain is taken at QUANTILE_LEVELS, each standing for the levels nearest to it.
    """
    for table in tables[1:]:
        if not table[list(_SHARED)].reset_index(drop=True).equals(tables[0][list(_SHARED)].reset_index(drop=True)):
            raise UserError("members of an ensemble were not forecast at the same cutoffs; run the study again")
    whole = tables[0].reset_index(drop=True).copy()
    for name in _AVERAGED:
        whole[name] = sum(w * table[name].to_numpy(np.float64) for w, table in zip(weights, tables, strict=True))
    y, gain = whole["y"].to_numpy(np.float64), np.zeros(len(whole))
    edges = np.concatenate([[0.0], (np.array(QUANTILE_LEVELS[1:]) + QUANTILE_LEVELS[:-1]) / 2, [1.0]])
    for name, level, width in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, np.diff(edges), strict=True):
        parts = [w * _pinball(y, table[name].to_numpy(), level) for w, table in zip(weights, tables, strict=True)]
        gain += 2 * width * (sum(parts) - _pinball(y, whole[name].to_numpy(), level))
    whole["crps"] -= gain
    whole["input_sha"] = _joined([table["input_sha"].to_numpy() for table in tables])
    return whole


def _pinball(y: np.ndarray, quantile: np.ndarray, level: float) -> np.ndarray:
    return np.asarray((y - quantile) * (level - (y < quantile)))


def _joined(shas: Sequence[np.ndarray]) -> list[str]:
    known: dict[tuple[str, ...], str] = {}
    rows = zip(*(column.tolist() for column in shas), strict=True)
    return [known.setdefault(row, sha256_of("|".join(row))) if row not in known else known[row] for row in rows]


def skill_weights(crps: Sequence[float], reference: float) -> list[float]:
    """Weights in proportion to 1 - crps / reference where that is above 0; equal ones where none is.

    >>> skill_weights([0.98, 0.99, 1.01], 1.0)
    [0.6666666666666667, 0.33333333333333337, 0.0]
    """
    skill = [max(0.0, 1 - value / reference) for value in crps]
    total = sum(skill)
    return [value / total for value in skill] if total > 0 else [1 / len(skill)] * len(skill)


def members_of(cell: "Cell") -> "list[Cell]":
    """The cells an ensemble is made of: of its seed, or of seed 0 where a member has no other."""
    from forecasting.methods import METHODS

    found = []
    for name in cell.study.ensemble[cell.method].members:
        seed = cell.seed if name in METHODS and METHODS[name].trains else 0
        paths = replace(cell.paths, folder=cell.paths.folder.parents[1] / name / str(seed))
        kind = "method" if name in METHODS else "baseline"
        found.append(replace(cell, paths=paths, kind=kind, method=name, seed=seed))
    return found


def combine(cell: "Cell", bars: "Bars", fingerprint: str, emit: Callable[[dict[str, Any]], None]) -> None:
    """Write forecasts.parquet, forecast.json and, for a vote, members.parquet from what the members left."""
    from forecasting.evaluate import naive_scale, table_errors
    from forecasting.files import read_json, write_json, write_parquet
    from tunetrade.prepared import prepare

    started = time.perf_counter()
    members, how = members_of(cell), cell.study.ensemble[cell.method].how
    _check_done(cell, members, bars)
    reports = [read_json(member.paths.forecast) for member in members]
    tables = [pd.read_parquet(member.paths.forecasts) for member in members]
    prepared = prepare(cell.study, bars)
    weights, reference = [1 / len(members)] * len(members), None
    if how == "skill":
        reference = _reference(cell, prepared, bars)
        weights = skill_weights([report["validation"]["crps"] for report in reports], reference)
    whole = combined(tables, weights)
    if how == "vote":
        names = [member.method for member in members]
        write_parquet(cell.paths.members, pd.concat(tables, keys=names, names=[MEMBER]).reset_index(level=0))
    write_parquet(cell.paths.forecasts, whole)
    scale = naive_scale(bars, first=int(prepared.split.train[0]), last=int(prepared.split.train[-1]))
    write_json(
        cell.paths.forecast,
        {
            "model_sha": sha256_of(
                how, *(f"{report['model_sha']}{w!r}" for report, w in zip(reports, weights, strict=True))
            ),
            "origins": reports[0]["origins"],
            "horizon": cell.study.windows.horizon,
            "paths": None,
            "seconds": time.perf_counter() - started,
            "cached_origins": 0,
            "paths_per_second": None,
            "latency_p50_ms": sum(report["latency_p50_ms"] for report in reports),
            "latency_p99_ms": sum(report["latency_p99_ms"] for report in reports),
            "metrics": table_errors(whole, scale),
            "validation": None,
            "log_score": None,
            "base_has_seen_it": prepared.seen,
            "threads": cell.study.sampling.workers,
            "jobs": reports[0]["jobs"],
            "members": {member.method: w for member, w in zip(members, weights, strict=True)},
            "reference_crps": reference,
        },
    )


def forecasts_of(cell: "Cell") -> "Forecasts | Ballot":
    """The forecasts a cell trades: its table, for a vote with those of its members."""
    from strategies.signals import Ballot

    own = from_table(pd.read_parquet(cell.paths.forecasts))
    if cell.kind != "ensemble" or cell.study.ensemble[cell.method].how != "vote":
        return own
    table = pd.read_parquet(cell.paths.members)
    members = tuple(from_table(rows.drop(columns=MEMBER)) for _, rows in table.groupby(MEMBER, sort=False))
    return Ballot(**vars(own), members=members)


def _check_done(cell: "Cell", members: "list[Cell]", bars: "Bars") -> None:
    """UserError for the first member whose forecasts are not those of this very study."""
    from forecasting.base import find_base
    from tunetrade.cell import fingerprints
    from tunetrade.layout import done_stages, read_run

    base = find_base(cell.study.base)
    for member in members:
        run = read_run(member.paths) or {}
        wanted = fingerprints(member, bars.instrument.sha256, base)
        if "forecast" not in done_stages(member.paths, run.get("stages") or {}, wanted):
            why = f"failed: {run['failure']}" if run.get("failure") else "has no forecasts of these settings"
            raise UserError(
                f"member {member.name} of ensemble {cell.method} {why}; mend it, or leave it out of members"
            )


def _reference(cell: "Cell", prepared: "Prepared", bars: "Bars") -> float:
    """Validation CRPS of EWMA-t, seasonal where bars have weekly hours, on the origins that members are scored on."""
    from forecasting.baselines import baseline
    from forecasting.cache import ForecastCache, cache_folder, limit_bytes
    from forecasting.evaluate import evaluate
    from tunetrade.forecasters import asked_of
    from tunetrade.provenance import code_of

    study = cell.study
    name = "seasonal-ewma-t" if prepared.hours.profile else "ewma-t"
    forecaster = baseline(name, asked_of(cell, prepared, bars))
    cache = ForecastCache(cache_folder(), limit_bytes(), code_of("forecast"))
    origins = prepared.split.validation[:: study.windows.horizon]
    table = evaluate(forecaster, bars, study.windows, origins, cache, chunk=study.sampling.chunk).table
    return float(np.nanmean(table["crps"].to_numpy(np.float64)))
