"""Truncation parity: what the run says of a moment is what can be said with everything after that moment cut away."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from forecasting.bars import Bars
from forecasting.forecasts import TABLE_COLUMNS
from tunetrade.audit.result import Check, Offence, judged, skipped, warned
from tunetrade.audit.subject import Subject, UnavailableError, sliced, stamp, until

Rows = Callable[[Bars, int], pd.DataFrame]
"""Rows of the long table for the cutoff at a position, forecast from these bars alone."""

TRUTH = ("y", "crps", "crps_noise")
"""Columns that need the closes that came."""

ROUNDING = 1e-9
"""Relative difference below which another processor is the likelier cause than a leak."""

FORECASTS, TARGETS = "truncation", "targets"

PLAN = ("side", "lots", "lots_per_money", "stop", "take_profit", "trailing", "entry", "decided")
CURVES = ("equity", "balance", "position", "margin", "costs")


def forecasts_on_cut_data(subject: Subject) -> Check:
    """Forecasts of sampled cutoffs, made from data that end there, against those in the run, bit for bit."""
    if not subject.forecasts_made:
        return skipped(FORECASTS, "a benchmark forecasts nothing")
    times = subject.bars.times[subject.sampled]
    found = parity(subject.rows, subject.bars, subject.sampled, subject.table)
    measured = {"cutoffs": [stamp(time) for time in times]}
    if found and all(_rounded(row) for row in found) and not _depends_on_later(subject):
        return warned(
            FORECASTS,
            f"{len(found)} values differ from the run's below {ROUNDING:g}, and not by what is cut away: the run was "
            "made on another processor, or changed",
            found,
            **measured,
        )
    return judged(
        FORECASTS,
        found,
        f"{len(times)} cutoffs forecast from data that end there: every column equal to the bit",
        f"{_cutoffs(found)} of {len(times)} sampled cutoffs are not what data that end there give",
        **measured,
    )


def _depends_on_later(subject: Subject) -> bool:
    """Whether sampled forecasts made here and now, of cut and of whole data, differ in any bit."""
    columns = [name for name in TABLE_COLUMNS if name not in TRUTH]
    for position in subject.sampled.tolist():
        cut, whole = subject.rows(until(subject.bars, position), position), subject.rows(subject.bars, position)
        if differences(whole, cut, columns, ""):
            return True
    return False


def parity(rows: Rows, bars: Bars, positions: np.ndarray, stored: pd.DataFrame) -> list[Offence]:
    """Values of `stored` that are not those forecast from data cut at the cutoff, or not those of the whole data."""
    found = []
    cutoffs = _naive(stored["cutoff"])
    for position in positions.tolist():
        time = bars.times[position]
        own = stored[cutoffs == time].reset_index(drop=True)
        for given, columns in (
            (until(bars, position), [name for name in TABLE_COLUMNS if name not in TRUTH]),
            (bars, list(TRUTH)),
        ):
            try:
                made = rows(given, position)
            except UnavailableError:
                raise
            except Exception as error:
                found.append(Offence(stamp(time), "forecast", "made", f"{type(error).__name__}: {error}"))
                break
            found += differences(own, made, columns, stamp(time))
    return found


def differences(stored: pd.DataFrame, made: pd.DataFrame, columns: list[str], time: str) -> list[Offence]:
    """Cells of the rows of one cutoff that differ in any bit; NaN equals NaN."""
    if len(stored) != len(made):
        return [Offence(time, "rows", len(stored), len(made))]
    found = []
    for name in columns:
        one, other = stored[name].tolist(), made[name].tolist()
        for h, (a, b) in enumerate(zip(one, other, strict=True), start=1):
            if not _same(a, b):
                found.append(Offence(time, f"{name}[h={h}]", _plain(a), _plain(b)))
    return found


def targets_on_cut_data(subject: Subject) -> Check:
    """Targets up to sampled cutoffs, and the account that follows them, with everything after them cut away."""
    from strategies.broker import run_plan

    if not subject.forecasts_made:
        return skipped(TARGETS, "a benchmark decides once, at the first close")
    whole, bars = subject.laid, subject.bars
    found: list[Offence] = []
    cutoffs, stored = subject.forecasts.cutoff, subject.equity
    curves = {name: stored[name].to_numpy(np.float64) for name in CURVES}
    positions = _before_changes(subject)
    for position in positions.tolist():
        time = bars.times[position]
        cut = subject.captured(until(bars, position), sliced(subject.forecasts, cutoffs <= time), run_plan)
        count = len(cut.plan)
        for name in PLAN:
            found += _differing(name, getattr(whole.plan, name)[:count], getattr(cut.plan, name), cut.market.times)
        for name in CURVES:  # of the last bar nothing is said: there a backtest closes all
            made = cut.result.equity[name].to_numpy(np.float64)
            found += _differing(name, curves[name][: count - 1], made[:-1], cut.market.times)
    return judged(
        TARGETS,
        found,
        f"targets, sizes, stops and equity up to {len(positions)} cutoffs are the same with all after them cut away",
        "what was wanted or held at a bar depends on bars after it",
        cutoffs=[stamp(time) for time in bars.times[positions]],
    )


def _before_changes(subject: Subject) -> np.ndarray:
    """Sampled cutoffs, and those on both sides of as many changes of target: there one that looks ahead shows."""
    first, side = int(subject.prepared.split.test[0]), subject.laid.plan.side
    changes = np.flatnonzero(side[1:] != side[:-1])
    if len(changes):
        changes = changes[np.unique(np.linspace(0, len(changes) - 1, subject.options.sample).astype(int))] + first
    chosen = np.unique(np.concatenate([subject.sampled, changes, changes + 1])).astype(np.int64)
    return np.asarray(chosen[chosen > first])


def _differing(name: str, seen: np.ndarray, made: np.ndarray, times: np.ndarray) -> list[Offence]:
    if len(seen) != len(made):
        return [Offence(stamp(times[0]), name, f"{len(seen)} bars", f"{len(made)} bars")]
    rows = np.flatnonzero(~((seen == made) | (pd.isna(seen) & pd.isna(made))))
    return [Offence(stamp(times[at]), name, _plain(seen[at]), _plain(made[at])) for at in rows[:5]]


def _same(one: object, other: object) -> bool:
    """Equal, or both NaN."""
    return bool(one == other) or bool(pd.isna(one) and pd.isna(other))


def _naive(column: pd.Series) -> np.ndarray:
    return np.asarray(column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[ns]"))


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, pd.Timestamp) else value


def _rounded(row: Offence) -> bool:
    if not isinstance(row.seen, float) or not isinstance(row.recomputed, float):
        return False
    return abs(row.seen - row.recomputed) <= ROUNDING * max(abs(row.seen), abs(row.recomputed))


def _cutoffs(found: list[Offence]) -> int:
    return len({row.time for row in found})
