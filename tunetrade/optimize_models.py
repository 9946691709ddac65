"""The models of a search: each trained and made to forecast the validation part once, however many trials trade it.

The part of a point that a model depends on names a folder by its hash. Whoever needs the folder first makes it, under
its lock; others wait for it and read. Cells are those of studies, so a killed training goes on where it stopped.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from forecasting.bars import Bars, load_bars
from forecasting.base import find_base
from forecasting.calendars import MINUTES
from forecasting.codecs.fit import scale_codec
from forecasting.errors import ConfigError, UserError
from forecasting.files import sha256_of
from forecasting.train import TrainingOptions
from forecasting.windows import WindowSpec, split
from strategies.contract import BrokerRules
from strategies.rules import TradingRules
from strategies.signals import check_horizon
from tunetrade.cell import Cell, fingerprints
from tunetrade.checks import check_methods
from tunetrade.config import StudyConfig, as_plain
from tunetrade.layout import CellPaths, safe_name, update
from tunetrade.locks import in_turn
from tunetrade.optimize_space import Space, shortest_horizon, widest
from tunetrade.progress import Board
from tunetrade.study import is_done, open_cell
from tunetrade.validation import blind
from tunetrade.workers import ENDED, run_cells

SEARCH = "optimize"
LOCKS = "locks"

Span = tuple[np.datetime64, np.datetime64]
"""Close times, UTC, of the first and the last cutoff."""


@dataclass
class Series:
    """A series of a search: its bars without the test part, for each horizon, and the cutoffs that all points share."""

    source: str
    unique_id: str
    span: Span
    yardstick: str
    _bars: Bars
    _blind: dict[WindowSpec, Bars]

    def bars(self, study: StudyConfig) -> Bars:
        """The bars up to one window into the test part, blank there."""
        if study.windows not in self._blind:
            self._blind[study.windows] = blind(self._bars, study)
        return self._blind[study.windows]


def load_search(study: StudyConfig, space: Space) -> list[Series]:
    """The series of a study, checked for every length of window in the space before any work."""
    check_methods(study)
    longest, least = WindowSpec(*widest(space, study)), shortest_horizon(space, study)
    found: list[Series] = []
    for source in study.series:
        bars = load_bars(source, study.source)
        check_horizon(least, bars.instrument.close_only, study.trading.expiry_bars)
        name = bars.instrument.unique_id
        twin = next((other.source for other in found if other.unique_id == name), None)
        if twin:
            raise ConfigError(f"series {twin} and {source} are both {name}; leave one out")
        seasonal = study.codec.hour_of_week and MINUTES[bars.instrument.timeframe] < MINUTES["D1"]
        yardstick = "seasonal-ewma-t" if seasonal else "ewma-t"
        found.append(Series(source, name, _span(study, bars, longest), yardstick, bars, {}))
    return found


def _span(study: StudyConfig, bars: Bars, longest: WindowSpec) -> Span:
    """The validation cutoffs that windows of every length have."""
    codec = scale_codec(find_base(study.base).codec, bars, study.codec, longest.context + longest.horizon)
    cutoffs = split(bars, longest, study.split, codec.warm_up).validation
    if len(cutoffs) < 2:
        raise ConfigError(
            f"{bars.instrument.source}: {len(cutoffs)} validation windows of context {longest.context} and horizon "
            f"{longest.horizon}; lower the longest in [optimize.space], or move split.validation_start"
        )
    return bars.times[cutoffs[0]], bars.times[cutoffs[-1]]


def model_study(study: StudyConfig, source: str) -> StudyConfig:
    """The part of a point's study that its model on one series depends on."""
    return replace(
        study,
        series=(source,),
        baselines=(),
        benchmarks=(),
        seeds=study.seeds[:1],
        trading=TradingRules(),
        broker=BrokerRules(),
    )


def model_cell(study: StudyConfig, series: Series, runs: Path) -> Cell:
    """The cell of a point's model on a series, in the folder that its settings name."""
    return _cell(model_study(study, series.source), series, runs, "model", study.methods[0])


def yardstick_cell(study: StudyConfig, series: Series, runs: Path) -> Cell:
    """The cell of the baseline that forecasts beside it, which depends on the windows alone."""
    own = model_study(study, series.source)
    plain = replace(own, methods=("untuned",), method={}, training=TrainingOptions())
    return _cell(plain, series, runs, "yardstick", series.yardstick)


def _cell(study: StudyConfig, series: Series, runs: Path, kind: str, name: str) -> Cell:
    digest = sha256_of(json.dumps(as_plain(study), sort_keys=True, default=str))[:16]
    folder = runs / study.name / SEARCH / safe_name(series.unique_id) / name / digest
    return Cell(CellPaths(folder), study, series.source, kind, name, study.seeds[0])


def ensure(
    cells: Sequence[Cell], series: Sequence[Series], locks: Path, slots: int, jobs: int, board: Board
) -> dict[str, str]:
    """Make the models that are not there, `slots` at a time; gives why some could not be, by cell name.

    UserError where somebody killed a cell's process, or the system for want of memory: that is no verdict on it.
    """
    bars = {each.source: each for each in series}
    base = find_base(cells[0].study.base)
    wanted = {cell.paths.folder: fingerprints(cell, _sha(cell, bars), base) for cell in cells}
    unique = {cell.paths.folder: cell for cell in cells}
    missing = [cell for folder, cell in unique.items() if not is_done(cell, wanted[folder])]
    failed: dict[str, str] = {}
    with contextlib.ExitStack() as held:
        for cell in sorted(missing, key=lambda cell: cell.paths.folder):
            held.enter_context(in_turn(locks / "-".join(cell.paths.folder.parts[-3:])))
        todo = [cell for cell in missing if not is_done(cell, wanted[cell.paths.folder])]
        for cell in todo:
            open_cell(cell, bars[cell.source].bars(cell.study), base.card)
        if not todo:
            return {}
        with contextlib.closing(run_cells(todo, max(1, min(slots, len(todo))), jobs, board)) as ended:
            for cell, failure in ended:
                update(cell.paths, status="failed" if failure else "done", failure=failure)
                if failure and failure.startswith(ENDED):
                    raise UserError(f"{cell.name}: {failure}; the same command goes on from there")
                if failure:
                    failed[cell.name] = failure
    return failed


def _sha(cell: Cell, series: dict[str, Series]) -> str:
    return series[cell.source].bars(cell.study).instrument.sha256
