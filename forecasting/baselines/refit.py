"""When parameters are fitted, on what, and which of them a cutoff uses.

Fit dates are the end of the training part and, where `refit` is yearly, every 1 January (UTC). A fit uses all bars from
the start of the training part that closed before its date, and nothing else; a cutoff uses the newest fit at or before
it. So nothing after a cutoff reaches its forecast, whatever is forecast beside it.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from forecasting.baselines.asked import Asked
from forecasting.baselines.cache import Values, remembered, version
from forecasting.errors import DataError
from forecasting.files import sha256_of

Fit = Callable[[np.ndarray, np.ndarray], Values]
"""Parameters from closes [T] and the weekly pattern [T] at them; no values where the fit did not converge."""

_TICK = np.timedelta64(1, "ns")


@dataclass(frozen=True, eq=False)
class Refits:
    """The fits of one model on one series, made when first needed and kept.

    least: closes below which a fit is refused. most: newest closes used, 0 for all. packages: those the values depend
    on. fallback: values where neither a fit nor any before it converged. kept: whether fits go to disk; those that
    take no time do not.
    """

    name: str
    asked: Asked
    fit: Fit
    least: int
    packages: tuple[str, ...] = ()
    seasonal: bool = False
    most: int = 0
    fallback: Fit | None = None
    kept: bool = True
    _made: dict[np.datetime64, Values] = field(default_factory=dict)

    @property
    def sha(self) -> str:
        """Hash of all that fits depend on: data, training part, policy, model, versions."""
        bars, (first, last) = self.asked.bars, self.asked.train
        return sha256_of(self._settings(), f"{self.asked.refit}|{first}|{last}", bars.closes, bars.times)

    def dates(self, cutoffs: np.ndarray) -> np.ndarray:
        """Fit date of each cutoff, datetime64[ns] [N]; DataError before the only date there is."""
        bars = self.asked.bars
        trained = bars.times[self.asked.train[1]] + _TICK
        if self.asked.refit == "never":
            if len(cutoffs) and cutoffs.min() < trained:
                raise DataError(
                    f"{self.name} is fitted once, on {bars.instrument.source} up to {_day(trained)}; it cannot "
                    f"forecast at {_day(cutoffs.min())} before that: ask for later bars, or set refit to yearly"
                )
            return np.full(len(cutoffs), trained)
        new_year = cutoffs.astype("datetime64[Y]").astype("datetime64[ns]")
        return np.where((new_year < trained) & (trained <= cutoffs), trained, new_year)

    def of(self, cutoffs: np.ndarray) -> list[np.datetime64]:
        """Fit date of each cutoff, after all fits of these and the planned cutoffs are made."""
        found = self.dates(cutoffs)
        wanted = set(found)
        if not wanted <= self._made.keys():
            planned = self.dates(self.asked.planned)
            self._make(wanted | {date for date in planned if self._closes_before(date) >= self.least})
        return list(found)

    def at(self, date: np.datetime64) -> Values:
        """Parameters of a fit date: its own, else those of the newest date before it whose fit converged."""
        earlier = date
        while not self._values(earlier):
            before = self.dates(np.array([earlier - _TICK])) if self.asked.refit == "yearly" else [earlier]
            if before[0] == earlier or self._closes_before(before[0]) < self.least:
                return self._fallen_back(date)
            earlier = before[0]
        return self._values(earlier)

    def _make(self, dates: set[np.datetime64]) -> None:
        missing = sorted(dates - self._made.keys())
        with warnings.catch_warnings():  # an optimiser's remarks on its way; whether it arrived is checked
            warnings.simplefilter("ignore")
            with ThreadPoolExecutor(max(1, min(self.asked.options.workers, len(missing)))) as pool:
                list(pool.map(self._values, missing))

    def _values(self, date: np.datetime64) -> Values:
        if date not in self._made:
            first, end = self.asked.train[0], self._end(date)
            if end - first < self.least:
                raise DataError(
                    f"{self.name} needs {self.least} closes before its fit of {_day(date)}, "
                    f"{self.asked.bars.instrument.source} has {max(end - first, 0)} from the start of training; "
                    f"forecast later bars, or use a longer series"
                )
            closes, factors = self._seen(max(first, end - self.most) if self.most else first, end)
            key = sha256_of(self._settings(), closes, factors)
            self._made[date] = (
                remembered(key, lambda: self.fit(closes, factors)) if self.kept else self.fit(closes, factors)
            )
        return self._made[date]

    def _seen(self, first: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Closes [T] of the bars first..end - 1, and the weekly pattern [T] at them."""
        part = slice(first, end)
        closes = np.ascontiguousarray(self.asked.bars.closes[part])
        factors = self.asked.hours.factors(self.asked.bars.times[part]) if self.seasonal else np.ones(len(closes))
        return closes, factors

    def _settings(self) -> str:
        packages = " ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", *self.packages))
        return f"{self.name}|{FORMAT}|{self.least}|{self.most}|{packages}"

    def _end(self, date: np.datetime64) -> int:
        return int(np.searchsorted(self.asked.bars.times, date, side="left"))

    def _closes_before(self, date: np.datetime64) -> int:
        return self._end(date) - self.asked.train[0]

    def _fallen_back(self, date: np.datetime64) -> Values:
        if self.fallback is None:
            raise DataError(
                f"{self.name}: the fit of {_day(date)} on {self.asked.bars.instrument.source} and those before it did "
                f"not converge; leave {self.name} out for this series"
            )
        return self.fallback(*self._seen(self.asked.train[0], self._end(date)))


FORMAT = 1
"""Raised when what a fit computes changes, so that no older file on disk is taken for it."""


def _day(time: np.datetime64) -> str:
    return str(time.astype("datetime64[D]"))
