"""One trial: a point becomes models, their forecasts two figures, and a line of the ledger."""

import json
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forecasting.base import find_base
from forecasting.errors import UserError
from forecasting.files import sha256_of
from forecasting.forecasts import from_table
from strategies.user_signal import signal_sha
from tunetrade.beside import series_beside, sha_until
from tunetrade.cell import Cell, fingerprints
from tunetrade.config import StudyConfig, as_plain
from tunetrade.ledger import Ledger
from tunetrade.optimize_models import LOCKS, SEARCH, Series, ensure, model_cell, yardstick_cell
from tunetrade.optimize_money import Judged, Portfolio, money, once, portfolio
from tunetrade.optimize_reads import used
from tunetrade.optimize_space import OptimizeOptions, Point, study_at
from tunetrade.progress import Board
from tunetrade.study import LEDGER
from tunetrade.trials import SETTINGS

KIND = "search"
"""Kind of a search's trials in the ledger."""

KEPT = 8
"""Models of each series whose forecasts stay laid out in a process, for the next trial that trades them."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Workplace:
    """What every trial of a search shares: its study, its series without their test part, and where it runs.

    slots: models made at once by this process. jobs: shares of the machine, which set the threads of each. shelf: what
    trials of this process share.
    """

    study: StudyConfig
    options: OptimizeOptions
    series: Sequence[Series]
    runs: Path
    code: str
    slots: int
    jobs: int
    board: Board
    shelf: dict[Hashable, Judged] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the search keeps its journal, locks and models."""
        return self.runs / self.study.name / SEARCH


@dataclass(frozen=True)
class Verdict:
    """What came of a point: failure, or skill, portfolio and CRPS by series; key: of its line in the ledger."""

    key: str
    failure: str
    skill: float
    crps: dict[str, float]
    portfolio: Portfolio | None

    @property
    def figures(self) -> Json:
        """The verdict as plain values, daily returns left to the ledger."""
        own = self.portfolio
        assert own is not None
        return {
            "key": self.key,
            "skill": self.skill,
            "crps": self.crps,
            "sharpe": own.sharpe,
            "trades": own.trades,
            "max_drawdown": own.max_drawdown,
            "total_return": own.total_return,
        }

    def values(self) -> tuple[float, float]:
        """The two objectives: CRPS skill and net Sharpe ratio."""
        assert self.portfolio is not None
        return self.skill, self.portfolio.sharpe

    def constraints(self, options: OptimizeOptions) -> dict[str, float]:
        """How far the point is from what is asked of it; above 0 is not met."""
        assert self.portfolio is not None
        return {
            "trades": float(options.min_trades - self.portfolio.trades),
            "drawdown": self.portfolio.max_drawdown - options.max_drawdown,
        }


def evaluate(place: Workplace, point: Point) -> Verdict:
    """Make the models of a point where they are not there, trade them, and put the trial into the ledger."""
    study = study_at(place.study, point)
    models = {each.source: model_cell(study, each, place.runs) for each in place.series}
    others = {each.source: yardstick_cell(study, each, place.runs) for each in place.series}
    cells = [*models.values(), *others.values()]
    failed = ensure(cells, place.series, place.folder / LOCKS, place.slots, place.jobs, place.board)
    key = _key(place, study, list(models.values()))
    if failed:
        name, why = next(iter(failed.items()))
        verdict = _failed(key, f"{name}: {why}")
    else:
        try:
            verdict = _judged(place, study, key, models, others)
        except UserError as error:  # an account that cannot be is this point's fault alone
            verdict = _failed(key, " ".join(str(error).split()))
    _count(place, study, point, verdict)
    return verdict


def _failed(key: str, why: str) -> Verdict:
    return Verdict(f"{key}-failed", why, 0.0, {}, None)


def prepare_models(place: Workplace, points: Sequence[Point]) -> None:
    """Make the models of several points at once, as many side by side as the workplace has slots."""
    studies = [study_at(place.study, point) for point in points]
    cells = [
        cell(study, each, place.runs)
        for study in studies
        for each in place.series
        for cell in (model_cell, yardstick_cell)
    ]
    if cells:
        ensure(cells, place.series, place.folder / LOCKS, place.slots, place.jobs, place.board)


def _judged(
    place: Workplace, study: StudyConfig, key: str, models: dict[str, Cell], others: dict[str, Cell]
) -> Verdict:
    errors, ratios, earned = {}, [], []
    for each in place.series:
        model, other = models[each.source], others[each.source]
        shared = (model.paths.folder, other.paths.folder, study.windows, study.broker)
        judged = once(place.shelf, shared, KEPT * len(place.series), partial(_judge, study, each, model, other))
        errors[each.unique_id] = judged.crps
        ratios.append(judged.crps / judged.yardstick)
        earned.append(money(judged.ready, study.trading))
    skill = 1 - float(np.exp(np.mean(np.log(ratios))))
    if not np.isfinite(skill):
        return _failed(key, f"the CRPS of its forecasts is no number above 0: {errors}")
    return Verdict(key, "", skill, errors, portfolio(earned))


def _judge(study: StudyConfig, series: Series, model: Cell, yardstick: Cell) -> Judged:
    from strategies.search import prepared

    table, (conversion, finer) = _between(model, series), series_beside(study)
    ready = prepared(
        series.bars(study),
        from_table(table),
        study.broker,
        context=study.windows.context,
        span=series.span,
        conversion=conversion,
        finer=finer,
    )
    return Judged(_mean_crps(table), _mean_crps(_between(yardstick, series)), ready)


def _between(cell: Cell, series: Series) -> pd.DataFrame:
    """The long table of the cutoffs that all points share."""
    table = pd.read_parquet(cell.paths.validation_table)
    first, last = (pd.Timestamp(time, tz="UTC") for time in series.span)
    return table[(table["cutoff"] >= first) & (table["cutoff"] <= last)].reset_index(drop=True)


def _mean_crps(table: pd.DataFrame) -> float:
    return float(table["crps"].mean())


def _key(place: Workplace, study: StudyConfig, models: Sequence[Cell]) -> str:
    """Names all that a trial's figures depend on."""
    base = find_base(study.base)
    bars = {each.source: each for each in place.series}
    parts = [fingerprints(cell, bars[cell.source].bars(cell.study).instrument.sha256, base) for cell in models]
    spans = [[str(time) for time in each.span] for each in place.series]
    signal = signal_sha(study.trading.signal)
    trading = [asdict(study.trading), asdict(study.broker), study.windows.context, beside_shas(study), signal]
    return sha256_of(KIND, json.dumps([parts, spans, trading, place.code], sort_keys=True))


def beside_shas(study: StudyConfig) -> list[str]:
    """Hashes of the series that the broker calls for, up to the test part."""
    return [sha_until(bars, study.split.test_start) if bars else "" for bars in series_beside(study)]


def _count(place: Workplace, study: StudyConfig, point: Point, verdict: Verdict) -> None:
    """Append the trial to the ledger, once for what is the same trial under other names."""
    ledger = Ledger(place.runs / LEDGER)
    if verdict.key in ledger:
        return
    config = as_plain(study)
    name = study.methods[0]
    settings = {section: config[section] for section in (*SETTINGS, "broker")} | {"method": config["method"][name]}
    line: Json = {
        "key": verdict.key,
        "study": place.study.name,
        "unique_id": "+".join(each.unique_id for each in place.series),
        "kind": KIND,
        "method": name,
        "seed": study.seeds[0],
        "data_sha": sha256_of(*(each.bars(study).instrument.sha256 for each in place.series)),
        "settings": settings,
        "searched": used(point),
    }
    signal = signal_sha(study.trading.signal)
    line |= {"signal_sha": signal} if signal else {}
    own = verdict.portfolio
    if own is None:
        ledger.add(line | {"failed": verdict.failure})
        return
    ledger.add(
        line
        | {
            "validation": {"crps_skill": verdict.skill, "crps": verdict.crps},
            "days": list(own.days),
            "daily_returns": [round(float(value), 10) for value in own.returns],
        }
    )
