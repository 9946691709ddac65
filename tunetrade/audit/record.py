"""The run's own files against each other and against the source: nothing was changed after it was made."""

import numpy as np
import pandas as pd

from forecasting.evaluate import naive_scale, table_errors
from forecasting.files import read_json
from forecasting.windows import contexts, targets
from tunetrade.audit.result import Check, Offence, judged, skipped
from tunetrade.audit.subject import Subject, stamp
from tunetrade.audit.truncation import CURVES

TRUTH, RECORD = "truth", "record"

CHUNK = 2048
"""Contexts hashed at a time; bounds memory."""


def truth(subject: Subject) -> Check:
    """Every cutoff's last close, truth, stamps and input hash in the long table against the source."""
    if not subject.forecasts_made:
        return skipped(TRUTH, "a benchmark forecasts nothing")
    bars, study, table = subject.bars, subject.cell.study, subject.table
    horizon = study.windows.horizon
    cutoffs = subject.forecasts.cutoff
    at = np.minimum(np.searchsorted(bars.times, cutoffs), len(bars) - 1)
    strange = np.flatnonzero(bars.times[at] != cutoffs)
    if len(strange):
        rows = [Offence(stamp(cutoffs[n]), "cutoff", stamp(cutoffs[n]), "no bar closes then") for n in strange]
        return judged(TRUTH, rows, "", "forecasts were made at moments at which no bar closes")
    y = table["y"].to_numpy(np.float64).reshape(-1, horizon)
    known = targets(bars, study.windows, at)
    found = [
        Offence(stamp(cutoffs[n]), f"y[h={h + 1}]", float(y[n, h]), float(known[n, h]))
        for n, h in np.argwhere(~((y == known) | (np.isnan(y) & np.isnan(known))))
    ]
    anchor, last = subject.forecasts.anchor, bars.closes[at]
    found += [
        Offence(stamp(cutoffs[n]), "anchor", float(anchor[n]), float(last[n])) for n in np.flatnonzero(anchor != last)
    ]
    ahead = bars.calendar.following_many(cutoffs, horizon)
    wrong = np.argwhere(subject.forecasts.ds != ahead)
    found += [
        Offence(stamp(cutoffs[n]), f"ds[h={h + 1}]", stamp(subject.forecasts.ds[n, h]), stamp(ahead[n, h]))
        for n, h in wrong
    ]
    if not subject.members:
        found += _inputs(subject, at)
    return judged(
        TRUTH,
        found,
        f"last close, truth, stamps and input of all {len(at)} cutoffs are those of the source",
        "the forecast table does not tell what the source holds",
        cutoffs=len(at),
    )


def _inputs(subject: Subject, at: np.ndarray) -> list[Offence]:
    """Hashes of what each forecast was made from, against those of the windows that end at its cutoff."""
    warm_up, found = subject.prepared.codec.warm_up, []
    for first in range(0, len(at), CHUNK):
        chunk = at[first : first + CHUNK]
        wanted = contexts(subject.bars, subject.cell.study.windows, warm_up, chunk).hashes()
        seen = subject.forecasts.input_sha[first : first + CHUNK]
        found += [
            Offence(stamp(subject.bars.times[chunk[n]]), "input_sha", str(seen[n])[:12], str(wanted[n])[:12])
            for n in np.flatnonzero(seen != wanted)
        ]
    return found


def record(subject: Subject) -> Check:
    """Errors recomputed from the table, and money from the forecasts, against forecast.json and the ledger."""
    from strategies.broker import run_plan

    paths, found = subject.cell.paths, []
    if subject.forecasts_made:
        train = subject.prepared.split.train
        scale = naive_scale(subject.bars, first=int(train[0]), last=int(train[-1]))
        again, told = table_errors(subject.table, scale)["overall"], read_json(paths.forecast)["metrics"]["overall"]
        found += [
            Offence("all cutoffs", name, told.get(name), float(value))
            for name, value in again.items()
            if not _same(told.get(name), float(value))
        ]
    made = subject.captured(subject.bars, subject.forecasts if subject.forecasts_made else None, run_plan).result
    found += _account(subject, made.equity, made.trades)
    return judged(
        RECORD,
        found,
        "errors follow from the table, trades and equity from the forecasts, to the bit",
        "files of the run do not follow from each other; `--sample 1000000` finds a forecast that was changed",
        trades=len(made.trades),
    )


def _account(subject: Subject, equity: pd.DataFrame, trades: pd.DataFrame) -> list[Offence]:
    found = []
    if len(equity) != len(subject.equity) or len(trades) != len(subject.trades):
        seen = f"{len(subject.equity)} bars, {len(subject.trades)} trades"
        return [Offence("all bars", "rows", seen, f"{len(equity)} bars, {len(trades)} trades")]
    for name in CURVES:
        one, other = subject.equity[name].to_numpy(np.float64), equity[name].to_numpy(np.float64)
        for at in np.flatnonzero(one != other)[:3]:
            found.append(Offence(stamp(equity["time"].iloc[at]), name, float(one[at]), float(other[at])))
    for name in ("entry_time", "exit_time", "direction", "units", "entry_price", "exit_price", "net_profit"):
        differ = subject.trades[name].to_numpy() != trades[name].to_numpy()
        for at in np.flatnonzero(differ)[:3]:
            one, other = subject.trades[name].iloc[at], trades[name].iloc[at]
            found.append(Offence(stamp(trades["entry_time"].iloc[at]), name, _value(one), _value(other)))
    return found


def _same(told: float | None, value: float) -> bool:
    """JSON holds floats to the bit, and null for NaN."""
    return bool(np.isnan(value)) if told is None else told == value


def _value(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)
