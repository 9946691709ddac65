"""How good a series is before anything is learnt from it: what is missing, what is odd, in one record and one picture.

Nothing here changes or refuses bars, though it warns of some; the figure is the share of the bars that the calendar
expects, MetaTrader's "history quality". It says nothing of whether the prices are right.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.bars import Bars
from forecasting.files import atomic
from forecasting.sources.options import SourceOptions

LONGEST = 5
"""Gaps that are named one by one."""


@dataclass(frozen=True)
class Gap:
    """Consecutive bars that the calendar expects and the series lacks; ISO stamps in UTC, both missing themselves."""

    first: str
    last: str
    bars: int


@dataclass(frozen=True)
class Quality:
    """Facts about a series.

    `percent` is the share of expected bars that are present; `unchanged` and `zero_spread` are shares from 0 to 1 (NaN
    where there is nothing to count); `largest_move` is the log-return largest in size, `largest_move_at` its close.
    """

    symbol: str
    timeframe: str
    digits: int
    source: str
    sha256: str
    first: str
    last: str
    bars: int
    expected: int
    missing: int
    gaps: int
    longest_gaps: tuple[Gap, ...]
    off_calendar: int
    quality_percent: float
    unchanged: float
    largest_move: float
    largest_move_at: str
    zero_spread: float
    median_spread: float

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def missing_stamps(bars: Bars) -> np.ndarray:
    """Closes that the calendar expects between first and last bar and the series lacks: datetime64[ns] UTC [n]."""
    expected = bars.calendar.between(bars.times[0], bars.times[-1])
    return np.asarray(expected[~np.isin(expected, bars.times)])


def describe(bars: Bars) -> Quality:
    """Facts about a series, from its bars and its calendar."""
    times, closes = bars.times, bars.closes
    expected = bars.calendar.between(times[0], times[-1])
    present = np.isin(expected, times)
    gaps = _gaps(expected, present)
    moves = np.diff(np.log(closes))
    largest = int(np.abs(moves).argmax()) if len(moves) else 0
    spread = bars.frame["spread"].to_numpy(np.float64)
    known = spread[~np.isnan(spread)]
    return Quality(
        symbol=bars.instrument.symbol,
        timeframe=bars.instrument.timeframe,
        digits=bars.instrument.digits,
        source=bars.instrument.source,
        sha256=bars.instrument.sha256,
        first=_iso(times[0]),
        last=_iso(times[-1]),
        bars=len(bars),
        expected=len(expected),
        missing=int((~present).sum()),
        gaps=len(gaps),
        longest_gaps=tuple(sorted(gaps, key=lambda gap: -gap.bars)[:LONGEST]),
        off_calendar=len(times) - int(present.sum()),
        quality_percent=100.0 * float(present.mean()) if len(expected) else 0.0,
        unchanged=float((moves == 0).mean()) if len(moves) else float("nan"),
        largest_move=float(moves[largest]) if len(moves) else float("nan"),
        largest_move_at=_iso(times[largest + 1]) if len(moves) else "",
        zero_spread=float((known == 0).mean()) if len(known) else float("nan"),
        median_spread=float(np.median(known)) if len(known) else float("nan"),
    )


def warnings_of(bars: Bars, options: SourceOptions) -> tuple[str, ...]:
    """What makes a series of no use though each of its bars is in order, a line each with the cure; mostly nothing.

    Closes that never change: nothing can be learnt of them, and as few decimals as they show may be too few.
    options: how the bars were read; decimals set there were not inferred.
    """
    closes, digits, source = bars.closes, bars.instrument.digits, bars.instrument.source
    if len(closes) < 2 or closes.min() < closes.max():
        return ()
    said = f"{source}: all {len(closes):,} closes are {closes[0]:.{digits}f}; there is nothing to learn or to trade"
    if options.digits is None:
        said += (
            f", and prices that do not change tell too little of their decimals, of which {digits} "
            f"{'was' if digits == 1 else 'were'} inferred; set them with --digits, or digits under [source] in a study"
        )
    return (f"{said}; check the export",)


def plot(bars: Bars, quality: Quality, path: Path) -> None:
    """Write a small PNG: closes above, missing bars by month below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.0), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    closes, gaps = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    stamps = np.union1d(bars.times, missing_stamps(bars))
    drawn = np.full(len(stamps), np.nan)  # a hole breaks the line
    drawn[np.searchsorted(stamps, bars.times)] = bars.closes
    closes.plot(stamps, drawn, linewidth=0.6, color="tab:blue")
    closes.set_ylabel(f"close, {bars.instrument.quote}".rstrip(", "))
    closes.set_title(
        f"{quality.symbol} {quality.timeframe}: {quality.bars:,} bars, quality {quality.quality_percent:.2f} %"
    )
    months, counts = np.unique(missing_stamps(bars).astype("datetime64[M]"), return_counts=True)
    gaps.bar(months.astype("datetime64[D]"), counts, width=30.0, align="edge", color="tab:red")
    gaps.set_ylabel("missing\na month")
    gaps.set_ylim(bottom=0, top=None if len(counts) else 1)
    with atomic(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def _gaps(expected: np.ndarray, present: np.ndarray) -> list[Gap]:
    """Runs of expected stamps that are absent."""
    edges = np.diff(np.concatenate([[False], ~present, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [
        Gap(_iso(expected[a]), _iso(expected[b - 1]), int(b - a))
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _iso(stamp: np.datetime64) -> str:
    return f"{np.datetime_as_string(stamp, unit='m')}Z"
