"""The script: each case a scene, what is asked in it, and what must hold. docs/ROBUSTNESS.md says why."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from forecasting.bars import Bars, load_bars
from forecasting.errors import UserError
from forecasting.forecaster import Forecaster
from forecasting.forecasts import Forecasts
from forecasting.sources.options import SourceOptions
from forecasting.sources.table import PRICES
from forecasting.windows import contexts
from strategies.backtest import BacktestResult, run_backtest
from strategies.broker import run_plan
from strategies.contract import FROM_DATA, BrokerRules
from strategies.market import Market
from strategies.plan import Plan
from strategies.rules import TradingRules
from strategies.run import Run
from tunetrade.config import StudyConfig
from tunetrade.robustness import scenes
from tunetrade.robustness.expectations import (
    Expectation,
    covers,
    losses_bounded,
    modest,
    narrow,
    no_entries,
    pays_for_itself,
    refused,
    sane,
    scales,
    stops_hold,
    unmoved,
    widens,
)
from tunetrade.robustness.scenes import Scene

USUAL_POINTS = 10.0
"""Spread where a study takes it from data that do not tell."""

STOP = "atr:2.0"
"""Stop loss where the study sets none."""


@dataclass(frozen=True, eq=False)
class Patient:
    """A tuned model, its study, and the undisturbed scene of its own series."""

    forecaster: Forecaster
    study: StudyConfig
    scene: Scene

    def forecasts(self, scene: Scene, cutoffs: np.ndarray | None = None) -> Forecasts:
        """Forecasts of a scene, of all its cutoffs unless others are named."""
        at = scene.cutoffs if cutoffs is None else cutoffs
        inputs = contexts(scene.bars, self.study.windows, self.forecaster.warm_up, at)
        return self.forecaster.predict(inputs).forecasts

    @cached_property
    def undisturbed(self) -> Forecasts:
        """Forecasts of the scene as it is."""
        return self.forecasts(self.scene)

    def traded(self, scene: Scene, forecasts: Forecasts, stop: str = "", **broker: object) -> "Traded":
        """A backtest of the scene's cutoffs under the study's rules, with that stop loss where it sets none."""
        rules = self.study.trading
        rules = rules if rules.stop or rules.trailing else replace(rules, stop=stop)
        account = BrokerRules(
            deposit=self.study.broker.deposit, leverage=self.study.broker.leverage,
            slippage_points=self.study.broker.slippage_points, **{"spread_points": self.points, **broker},  # type: ignore[arg-type]
        )  # fmt: skip
        return traded(scene, forecasts, rules, account, self.study.windows.context)

    @property
    def points(self) -> float:
        """Usual spread."""
        asked = self.study.broker.spread_points
        if asked != FROM_DATA:
            return float(asked) or USUAL_POINTS
        return float(np.nanmedian(self.scene.bars.frame["spread"])) or USUAL_POINTS


@dataclass(frozen=True)
class Traded:
    """What an account met and did."""

    market: Market
    plan: Plan
    result: BacktestResult


def traded(scene: Scene, forecasts: Forecasts, rules: TradingRules, broker: BrokerRules, context: int) -> Traded:
    """A backtest from the first to the last cutoff."""
    kept: list[tuple[Market, Plan]] = []

    def engine(market: Market, plan: Plan, account: BrokerRules) -> Run:
        kept.append((market, plan))
        return run_plan(market, plan, account)

    span = scene.bars.times[scene.event], scene.bars.times[scene.last]
    result = run_backtest(scene.bars, forecasts, rules, broker, context=context, span=span, engine=engine)
    return Traded(*kept[0], result)


def _truth(scene: Scene) -> np.ndarray:
    """Close after each cutoff, NaN beyond the last bar."""
    return np.asarray(np.append(scene.bars.closes, np.nan)[scene.cutoffs + 1])


def _account(patient: Patient, scene: Scene, forecasts: Forecasts) -> list[Expectation]:
    done = patient.traded(scene, forecasts, STOP)
    return [
        stops_hold(done.result.trades, done.market, done.plan),
        losses_bounded(done.result.equity, done.result.trades, done.market, patient.study.broker.deposit),
    ]


def calm(patient: Patient) -> list[Expectation]:
    """The control: what a case asks beside its own must hold where nothing is wrong."""
    scene, found = patient.scene, patient.undisturbed
    return [sane(found), modest(found), covers(found, _truth(scene)), *_account(patient, scene, found)]


def flash_crash(patient: Patient) -> list[Expectation]:
    """One close 6 % below its place."""
    scene = scenes.flash_crash(patient.scene)
    found = patient.forecasts(scene)
    before = patient.scene.event - 1 - np.arange(3)[::-1]
    past = unmoved(patient.forecasts(patient.scene, before), patient.forecasts(scene, before), "the past stays")
    later = covers(replace_rows(found, 2), _truth(scene)[2:])
    return [sane(found), past, modest(found), later, *_account(patient, scene, found)]


def peg_break(patient: Patient) -> list[Expectation]:
    """EURCHF, 15 January 2015."""
    scene = scenes.peg_break(patient.scene)
    found = patient.forecasts(scene)
    last_calm = patient.forecasts(scene, np.array([scene.event - 1]))
    return [
        sane(found),
        widens(float(last_calm.sigma[0]), float(found.sigma[0])),
        modest(found),
        covers(replace_rows(found, 1), _truth(scene)[1:]),
        *_account(patient, scene, found),
    ]


def dead_feed(patient: Patient) -> list[Expectation]:
    """A feed that stands still."""
    scene = scenes.dead_feed(patient.scene)
    found = patient.forecasts(scene)
    entries = patient.traded(scene, found).result.trades
    return [sane(found), narrow(found), no_entries(entries, "nothing is traded on it")]


def doubled_scale(patient: Patient) -> list[Expectation]:
    """A feed that changes its unit at a bar; and one in another unit throughout."""
    scene = scenes.doubled_scale(patient.scene)
    found = patient.forecasts(scene)
    whole = patient.forecasts(scenes.doubled_throughout(patient.scene))
    return [sane(found), modest(found), scales(patient.undisturbed, whole, 2.0), *_account(patient, scene, found)]


def swapped_pair(patient: Patient) -> list[Expectation]:
    """The inverse quote: another pair, as good as any."""
    scene = scenes.swapped_pair(patient.scene)
    found = patient.forecasts(scene)
    return [sane(found), modest(found), covers(found, _truth(scene))]


def wrong_timeframe(patient: Patient) -> list[Expectation]:
    """Bars of a longer timeframe: a file of them is refused; where stamps lie too, the scale must follow."""
    scene = scenes.longer_bars(patient.scene)
    found = patient.forecasts(scene)
    return [
        refused(loaded(patient.scene.bars), "a file named by another timeframe", "minutes apart"),
        sane(found),
        modest(found),
        covers(found, _truth(scene)),
    ]


def loaded(bars: Bars) -> str | None:
    """The error that a file of every STEP-th bar, named by the timeframe of all, is refused with; None if it is not."""
    every = bars.frame.iloc[:: scenes.STEP]
    instrument = bars.instrument
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{instrument.symbol[:6]}_{instrument.timeframe}.csv"
        stamps = every.index.strftime("%Y-%m-%d %H:%M:%S+00:00")
        every[list(PRICES)].set_axis(pd.Index(stamps, name="time")).to_csv(file, float_format="%.6f")
        try:
            load_bars(str(file), SourceOptions())
        except UserError as error:
            return str(error)
    return None


def spread_explosion(patient: Patient) -> list[Expectation]:
    """Fifty times the spread for ten bars."""
    scene = scenes.wide_spread(patient.scene, patient.points)
    found = patient.forecasts(scene)
    done = patient.traded(scene, found, spread_points=FROM_DATA)
    return [
        unmoved(patient.undisturbed, found, "forecasts know nothing of it"),
        pays_for_itself(_entries(done, found)),
        losses_bounded(done.result.equity, done.result.trades, done.market, patient.study.broker.deposit),
    ]


def _entries(done: Traded, forecasts: Forecasts) -> list[tuple[str, float, float]]:
    """Entries decided while the spread was wide: time, move expected over the horizon, spread."""
    where = {time: bar for bar, time in enumerate(pd.DatetimeIndex(done.market.times).tz_localize("UTC"))}
    found = []
    for trade in done.result.trades.itertuples():
        decided = where[trade.entry_time] - 1
        if decided < scenes.WIDE_BARS:
            start = forecasts.mean[decided, 0] if done.market.close_only else forecasts.anchor[decided]
            move = float(forecasts.mean[decided, -1] - start)
            found.append((str(done.market.times[decided])[:16], move, float(done.market.spread[decided])))
    return found


def replace_rows(forecasts: Forecasts, first: int) -> Forecasts:
    """The forecasts from the one at `first` on."""
    from tunetrade.audit.subject import sliced

    return sliced(forecasts, np.arange(len(forecasts)) >= first)


CASES: dict[str, Callable[[Patient], list[Expectation]]] = {
    "calm": calm,
    "flash-crash": flash_crash,
    "peg-break": peg_break,
    "dead-feed": dead_feed,
    "doubled-scale": doubled_scale,
    "swapped-pair": swapped_pair,
    "wrong-timeframe": wrong_timeframe,
    "spread-explosion": spread_explosion,
}
