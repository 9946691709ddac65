"""What a model may see, what it is asked for, and which bars belong to training, validation and test.

A window is named by the position of its last context bar, the cutoff. Inputs (`contexts`) and truth (`targets`) are
separate calls, so no code path can hand a model its own answer. Parts are split in time with an embargo: the targets of
one part end before the cutoffs of the next begin.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from forecasting.bars import Bars
from forecasting.errors import ConfigError, DataError
from forecasting.files import sha256_of


@dataclass(frozen=True)
class WindowSpec:
    """Lengths in bars: `context` closes become tokens (C), `horizon` closes are forecast (H).

    The sources' presets are 20 -> 5 and 20 -> 40.
    """

    context: int = 64
    horizon: int = 5

    def __post_init__(self) -> None:
        for name, least, most in (("context", 2, 4096), ("horizon", 1, 1024)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ConfigError(f"windows.{name} is {value}; give a whole number of bars from {least} to {most}")


@dataclass(frozen=True)
class SplitSpec:
    """Where the parts begin, as ISO dates (UTC); an empty string means the first or last bar of the series.

    `test_end` is the first moment that belongs to no part: no close from it on is a target. `embargo` is the least
    number of bars between the last cutoff of one part and the first of the next; -1 means the horizon, the least that
    keeps targets apart.
    """

    train_start: str = ""
    validation_start: str = "2019-01-01"
    test_start: str = "2021-01-01"
    test_end: str = ""
    embargo: int = -1

    def __post_init__(self) -> None:
        for name in ("train_start", "validation_start", "test_start", "test_end"):
            value = getattr(self, name)
            try:
                pd.Timestamp(value or "2000-01-01")
            except ValueError:
                raise ConfigError(f"split.{name} is {value!r}; give a date such as 2021-01-01") from None
        if not self.validation_start or not self.test_start:
            raise ConfigError("split.validation_start and split.test_start must be dates such as 2021-01-01")


@dataclass(frozen=True)
class Split:
    """Positions of cutoffs in the series, int64, increasing: train, validation, test."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Contexts:
    """All that a forecaster is given, for N cutoffs of one series.

    cutoffs [N] datetime64[ns] UTC; closes [N, M + C] float64; times [N, M + C], their close times; ahead [N, H], the
    calendar's close times of the bars to come.
    """

    unique_id: str
    cutoffs: np.ndarray
    closes: np.ndarray
    times: np.ndarray
    ahead: np.ndarray

    def __len__(self) -> int:
        return len(self.cutoffs)

    def hashes(self) -> np.ndarray:
        """SHA-256 of everything each forecast depends on beside the model, str [N]."""
        return np.array(
            [
                sha256_of(self.unique_id, np.asarray(closes), np.asarray(times), np.asarray(ahead))
                for closes, times, ahead in zip(self.closes, self.times, self.ahead, strict=True)
            ]
        )


def contexts(bars: Bars, spec: WindowSpec, warm_up: int, positions: np.ndarray) -> Contexts:
    """Inputs at the given cutoff positions; `warm_up` closes (M) go before the C of the context.

    The arrays are copies: callers with many cutoffs ask for a chunk of positions at a time.
    """
    length = warm_up + spec.context
    if len(positions) and positions.min() < length - 1:
        raise DataError(_too_short(bars, length, int(positions.min()) + 1))
    closes = np.lib.stride_tricks.sliding_window_view(bars.closes, length)
    times = np.lib.stride_tricks.sliding_window_view(bars.times, length)
    first = positions - (length - 1)
    cutoffs = bars.times[positions]
    return Contexts(
        unique_id=bars.instrument.unique_id,
        cutoffs=cutoffs,
        closes=closes[first],
        times=times[first],
        ahead=bars.calendar.following_many(cutoffs, spec.horizon),
    )


def targets(bars: Bars, spec: WindowSpec, positions: np.ndarray) -> np.ndarray:
    """The closes that came after each cutoff, float64 [N, H]; NaN beyond the last bar."""
    padded = np.concatenate([bars.closes, np.full(spec.horizon, np.nan)])
    return padded[positions[:, None] + np.arange(1, spec.horizon + 1)]


def split(bars: Bars, spec: WindowSpec, parts: SplitSpec, warm_up: int) -> Split:
    """Cutoff positions of each part.

    Test holds every bar from test_start on: without a test_end also those whose targets are still to come, with one
    those whose targets, H bars of the series, all lie before it. Validation and train hold every bar more than
    `embargo` bars before the next part's first cutoff, which keeps their targets before it. Raises DataError where a
    part is empty.
    """
    embargo = spec.horizon if parts.embargo < 0 else parts.embargo
    if embargo < spec.horizon:
        raise ConfigError(
            f"split.embargo is {embargo} bars, less than the horizon of {spec.horizon}: targets of one part would lie "
            f"in the next; give at least {spec.horizon}, or -1"
        )
    times = bars.times
    earliest = warm_up + spec.context - 1

    def at(date: str, default: int) -> int:
        return int(np.searchsorted(times, _utc(date))) if date else default

    test_first, end = at(parts.test_start, len(bars)), at(parts.test_end, len(bars))
    validation_first, train_first = at(parts.validation_start, 0), at(parts.train_start, 0)
    if _utc(parts.test_start) <= _utc(parts.validation_start):
        raise ConfigError(
            f"split.test_start {parts.test_start} is not after split.validation_start {parts.validation_start}"
        )
    result = Split(
        train=np.arange(max(train_first, earliest), validation_first - embargo),
        validation=np.arange(max(validation_first, earliest), test_first - embargo),
        test=np.arange(max(test_first, earliest), end - spec.horizon if parts.test_end else end),
    )
    for name in ("train", "validation", "test"):
        if len(getattr(result, name)) == 0:
            span = f"from {_day(times[0])} to {_day(times[-1])}, " if len(times) else ""
            raise DataError(
                f"{bars.instrument.source}: no {name} windows: {len(bars)} bars {span}each window needs "
                f"{earliest + 1 + spec.horizon} bars; move split.{name}_start or use a longer series"
            )
    return result


def _day(time: np.datetime64) -> str:
    return str(time.astype("datetime64[D]"))


def _utc(date: str) -> np.datetime64:
    stamp = pd.Timestamp(date)
    return np.datetime64(stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo else stamp, "ns")


def _too_short(bars: Bars, length: int, available: int) -> str:
    return (
        f"{bars.instrument.source}: a context of {length} closes (warm-up included) was asked for where only "
        f"{available} exist; use a longer series, a shorter windows.context or a later start"
    )
