"""The run under audit: its folder, its bars read anew from their source, its checkpoint read back from disk.

Whatever is recomputed is recomputed by the functions that made the run, on bars that differ from the run's only after
some moment: cut off there, or with other prices.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from forecasting.bars import Bars
from forecasting.errors import ConfigError
from forecasting.forecaster import Forecaster
from forecasting.forecasts import Forecasts
from forecasting.sources.table import PRICES
from strategies.backtest import BacktestResult, run_backtest
from strategies.contract import BrokerRules
from strategies.market import Market
from strategies.plan import Plan
from strategies.run import CLOSED, Run
from tunetrade.audit.options import AuditOptions
from tunetrade.beside import series_beside
from tunetrade.cell import Cell
from tunetrade.ensembles import combined, forecasts_of, members_of
from tunetrade.prepared import Prepared, prepare


class UnavailableError(Exception):
    """A check that cannot be made on this machine, which lacks a device that the run was made on."""


Engine = Callable[[Market, Plan, BrokerRules], Run]


@dataclass(frozen=True)
class Captured:
    """What a backtest was run on, and what it left."""

    market: Market
    plan: Plan
    result: BacktestResult


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished cell: what run.json says, and the bars its source holds now."""

    cell: Cell
    run: dict[str, Any]
    bars: Bars
    options: AuditOptions

    @property
    def forecasts_made(self) -> bool:
        """Whether the cell forecasts; benchmarks only trade."""
        return self.cell.kind != "benchmark"

    @cached_property
    def prepared(self) -> Prepared:
        """Codec and split of the whole series."""
        return prepare(self.cell.study, self.bars)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The run's long table."""
        return pd.read_parquet(self.cell.paths.forecasts)

    @cached_property
    def forecasts(self) -> Forecasts:
        """The run's forecasts as they are traded."""
        return forecasts_of(self.cell)

    @cached_property
    def trades(self) -> pd.DataFrame:
        """The run's ledger."""
        return pd.read_parquet(self.cell.paths.trades)

    @cached_property
    def equity(self) -> pd.DataFrame:
        """The run's equity."""
        return pd.read_parquet(self.cell.paths.equity)

    @cached_property
    def members(self) -> "tuple[Subject, ...]":
        """Those an ensemble is made of."""
        if self.cell.kind != "ensemble":
            return ()
        return tuple(replace(self, cell=member) for member in members_of(self.cell))

    @cached_property
    def weights(self) -> list[float]:
        """What each member counts."""
        from forecasting.files import read_json

        given = read_json(self.cell.paths.forecast)["members"]
        return [float(given[member.cell.method]) for member in self.members]

    @cached_property
    def sampled(self) -> np.ndarray:
        """Positions of sampled cutoffs: the first, the last and others between, the same at every audit; int64."""
        test = self.prepared.split.test
        most = min(self.options.sample, len(test))
        rng = np.random.default_rng(int(self.bars.instrument.sha256[:8], 16))
        between = rng.permutation(np.arange(1, len(test) - 1))[: max(most - 2, 0)]
        return np.asarray(test[np.unique([0, *between, len(test) - 1]).astype(np.int64)])

    @cached_property
    def tuned(self) -> Forecaster:
        """The checkpoint of a method, read from disk."""
        from forecasting.checkpoint import load_checkpoint

        try:
            self.cell.study.sampling.check_device()
        except ConfigError as error:
            raise UnavailableError(str(error)) from None
        return load_checkpoint(self.cell.paths.checkpoint, self.cell.study.sampling)[0]

    @cached_property
    def whole(self) -> Forecaster:
        """The forecaster on all bars."""
        return self.forecaster(self.bars)

    def forecaster(self, bars: Bars) -> Forecaster:
        """The forecaster as it would have been with these bars alone: a baseline is fitted anew, a model is read."""
        from tunetrade.forecasters import forecaster_of

        if self.cell.kind == "method":
            return self.tuned
        study = self.cell.study
        endless = replace(study, split=replace(study.split, test_end=""))
        return forecaster_of(self.cell, prepare(endless, bars), bars)

    def rows(self, bars: Bars, position: int) -> pd.DataFrame:
        """Rows of the long table for the cutoff at `position`, forecast from `bars` alone."""
        from forecasting.evaluate import rolling_forecasts

        if self.members:
            return combined([member.rows(bars, position) for member in self.members], self.weights)
        forecaster = self.whole if bars is self.bars else self.forecaster(bars)
        return rolling_forecasts(forecaster, bars, self.cell.study.windows, np.array([position]))

    def captured(self, bars: Bars, forecasts: Forecasts | None, engine: Engine | None = None) -> Captured:
        """The backtest of `bars` up to their end under the study's rules; without an engine nothing is traded.

        Series of conversion and of finer bars are cut where `bars` end.
        """
        study, kept = self.cell.study, []
        first, last = self.prepared.test_span(self.bars)
        until = min(last, bars.times[-1])

        def spy(market: Market, plan: Plan, broker: BrokerRules) -> Run:
            kept.append((market, plan))
            return engine(market, plan, broker) if engine else idle(market, broker)

        conversion, finer = series_beside(study)
        result = run_backtest(
            bars,
            forecasts,
            study.trading,
            study.broker,
            context=study.windows.context,
            policy="signal" if self.forecasts_made else self.cell.method,
            span=(first, until),
            conversion=conversion and until_time(conversion, bars.times[-1]),
            finer=finer and until_time(finer, bars.times[-1]),
            engine=spy,
        )
        return Captured(*kept[0], result)

    @cached_property
    def laid(self) -> Captured:
        """Market and plan of the run, laid anew from its forecasts."""
        return self.captured(self.bars, self.forecasts if self.forecasts_made else None)


def idle(market: Market, broker: BrokerRules) -> Run:
    """An account that never trades."""
    flat, money = np.zeros(len(market)), np.full(len(market), float(broker.deposit))
    return Run(np.zeros(0, CLOSED).view(np.recarray), money, money.copy(), flat, flat, flat, 0, 0, 0)


def until(bars: Bars, position: int) -> Bars:
    """The bars up to and including `position`."""
    return replace(bars, frame=bars.frame.iloc[: position + 1])


def until_time(bars: Bars, time: np.datetime64) -> Bars:
    """The bars that close at `time` or before."""
    return replace(bars, frame=bars.frame[bars.times <= time])


def sliced(forecasts: Forecasts, kept: np.ndarray) -> Forecasts:
    """Some cutoffs of forecasts, those of a vote's members too; kept: bool [N]."""
    values: dict[str, Any] = {}
    for field in fields(forecasts):
        value = getattr(forecasts, field.name)
        if isinstance(value, np.ndarray):
            values[field.name] = value[kept]
        elif isinstance(value, tuple):
            values[field.name] = tuple(sliced(member, kept) for member in value)
    return replace(forecasts, **values)


def other_prices(bars: Bars, first: int, last: int, seed: int = 0) -> Bars:
    """Bars whose prices from position `first` to `last` are multiplied by a random walk; all others stay.

    The four prices of a bar share a factor, so bars stay bars.
    """
    rng = np.random.default_rng(seed)
    count = last - first + 1
    factor = np.exp(np.cumsum(rng.standard_t(5, count) * 0.01))
    frame = bars.frame.copy()
    place = slice(first, last + 1)
    for name in PRICES:
        column = frame[name].to_numpy(np.float64).copy()
        column[place] *= factor
        frame[name] = column
    return replace(bars, frame=frame)


def stamp(time: Any) -> str:
    """UTC to the second, ISO."""
    return str(pd.Timestamp(time).strftime("%Y-%m-%dT%H:%M:%S"))
