"""Walk-forward: the test part cut into folds, each forecast by a model that was fitted on what closed before it.

A fold is the study's own split moved along: train, embargo, validation slice, embargo, test, the same gaps each time.
Its fit is handed bars cut off before its first forecast, so that it cannot look ahead whatever the code below it does.
The forecasts of all folds, laid end to end, are one out-of-sample series, in which every origin is forecast once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forecasting.bars import Bars
from forecasting.errors import ConfigError
from forecasting.files import read_json, sha256_of, write_json
from forecasting.windows import Split
from tunetrade.config import StudyConfig
from tunetrade.layout import CellPaths
from tunetrade.prepared import Prepared, prepare, prepare_split
from tunetrade.walk_options import WalkOptions

if TYPE_CHECKING:
    from forecasting.base import Base
    from forecasting.cache import ForecastCache
    from forecasting.forecaster import Forecaster
    from tunetrade.cell import Cell, Emit

FOLDS = "folds"
MARK = "fold.json"
TRAINED = "trained.safetensors"
"""Parameters that a fold trained, as they ended, for the next to begin with."""

Learn = Callable[["Cell", Bars, Prepared, str, "Emit", Path | None, Path | None], None]
"""`cell.learn`: tune a model into a folder, beginning with the weights of a file, keeping those it ends with."""


@dataclass(frozen=True)
class Fold:
    """One fold: its number from 1, and the positions of its cutoffs in the series."""

    number: int
    split: Split

    @property
    def known(self) -> int:
        """How many bars of the series had closed when its model was fitted: all before its first forecast."""
        return int(self.split.test[0])


def folds(plain: Split, options: WalkOptions) -> list[Fold]:
    """The folds of a test part, in time, from the study's own split; ConfigError where a rolling window is too long."""
    length = options.refit or -(-len(plain.test) // options.folds)
    earliest, longest = int(plain.train[0]), options.train_windows or len(plain.test) + int(plain.test[0])
    if options.train_windows > len(plain.train):
        raise ConfigError(
            f"walk.window is {options.window!r}, and fold 1 has {len(plain.train)} windows to train on; give at "
            f"most rolling:{len(plain.train)}, an earlier split.train_start, or 'expanding'"
        )
    starts = list(range(0, len(plain.test), length))[: options.folds or None]
    found = []
    for number, (first, after) in enumerate(zip(starts, [*starts[1:], len(plain.test)], strict=True), start=1):
        end = int(plain.train[-1]) + 1 + first
        train = np.arange(max(earliest, end - longest), end)
        found.append(Fold(number, Split(train, plain.validation + first, plain.test[first:after])))
    return found


def folds_of(study: StudyConfig, bars: Bars) -> list[Fold]:
    """The folds of a study on a series."""
    return folds(prepare(study, bars).split, study.walk)


def until(bars: Bars, count: int) -> Bars:
    """The first `count` bars, with a hash of their own: what was known then."""
    frame = bars.frame.iloc[:count]
    sha = sha256_of(frame.index.asi8, *(frame[name].to_numpy(np.float64) for name in frame.columns))
    return replace(bars, frame=frame, instrument=replace(bars.instrument, sha256=sha))


def fold_cell(cell: "Cell", fold: Fold) -> "Cell":
    """The cell that trains and holds the model of a fold, in a folder of its own below the cell's."""
    study, options = cell.study, cell.study.walk
    if options.warm_start and options.warm_steps and fold.number > 1:
        few = replace(study.training, steps=options.warm_steps)
        study = replace(study, training=few)
    return replace(cell, study=study, paths=CellPaths(cell.paths.folder / FOLDS / f"{fold.number:03d}"))


def learn_folds(cell: "Cell", bars: Bars, base: "Base", emit: "Emit", learn: Learn) -> None:
    """Train the models of all folds that are not there yet, in time; the last one's is the cell's own checkpoint.

    A fold's model hangs on nothing but its settings and the bars before it, so that of an earlier run serves a series
    that has grown since.
    """
    import shutil

    from forecasting.files import write_folder
    from forecasting.training.processes import joined

    if joined().count > 1:
        raise ConfigError("walk: folds are trained by one process; start `tunetrade` without a launcher")
    every = folds_of(cell.study, bars)
    before: CellPaths | None = None
    sha = ""
    for fold in every:
        own, seen = fold_cell(cell, fold), until(bars, fold.known)
        start = before.folder / TRAINED if before and cell.study.walk.warm_start else None
        sha = fingerprint_of(own, fold, seen, base, sha if start else "")
        if not _is_learnt(own.paths, sha):
            (own.paths.folder / MARK).unlink(missing_ok=True)
            prepared = prepare_split(cell.study, seen, fold.split)

            def tell(message: dict[str, Any], number: int = fold.number) -> None:
                emit({**message, "stage": f"train fold {number}/{len(every)}"})

            learn(own, seen, prepared, sha, tell, start, own.paths.folder / TRAINED)
            write_json(own.paths.folder / MARK, {"fingerprint": sha, "started_from": _sha(start)})
        for state in own.paths.training_states:
            state.unlink()
        before = own.paths
    for stale in sorted((cell.paths.folder / FOLDS).iterdir())[len(every) :]:
        shutil.rmtree(stale)
    assert before is not None
    last = before.checkpoint
    write_folder(cell.paths.checkpoint, lambda partial: _copy(last, partial))
    write_json(cell.paths.train, _all_trainings([fold_cell(cell, fold).paths for fold in every]))


def fingerprint_of(own: "Cell", fold: Fold, seen: Bars, base: "Base", before: str) -> str:
    """Hash of all that a fold's model hangs on; `before`: that of the fold whose weights it begins with."""
    import json
    from dataclasses import asdict

    from tunetrade.cell import training_parts
    from tunetrade.provenance import code_of

    study = own.study
    settings = [asdict(study.windows), asdict(study.codec), study.split.embargo, training_parts(own)]
    positions = [
        [int(part[0]), int(part[-1])] for part in (fold.split.train, fold.split.validation, fold.split.test[:1])
    ]
    facts = replace(seen.instrument, source="")
    told = [settings, positions, asdict(facts), seen.calendar.timezone, base.sha, base.card, before, code_of("train")]
    return sha256_of(json.dumps(told, sort_keys=True))


def _is_learnt(paths: CellPaths, sha: str) -> bool:
    files = paths.folder / MARK, paths.checkpoint / "model.json", paths.train, paths.folder / TRAINED
    return all(file.is_file() for file in files) and read_json(files[0])["fingerprint"] == sha


def _sha(file: Path | None) -> str | None:
    return sha256_of(file) if file else None


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target, dirs_exist_ok=True)


def _all_trainings(held: list[CellPaths]) -> dict[str, Any]:
    """train.json of the cell: that of its last fold, whose model it holds, with the time and memory of all."""
    each = [read_json(paths.train) for paths in held]
    most = max(record["peak_memory_bytes"] for record in each)
    return {**each[-1], "seconds": sum(record["seconds"] for record in each), "peak_memory_bytes": most}


@dataclass(frozen=True)
class Part:
    """Origins that one model forecasts, and the cell and what it is made of; a study without a walk has one part."""

    cell: "Cell"
    prepared: Prepared
    origins: np.ndarray
    fold: Fold | None = None

    def forecaster(self, bars: Bars) -> "Forecaster":
        """The part's model: a fold's checkpoint, or a baseline fitted on what closed before the fold."""
        from forecasting.baselines import baseline
        from tunetrade.forecasters import asked_of, forecaster_of

        if self.fold is None or self.cell.kind != "baseline":
            return forecaster_of(self.cell, self.prepared, bars)
        asked = asked_of(self.cell, self.prepared, bars)
        last = self.fold.known - 1
        planned = bars.times[self.fold.split.test]
        return baseline(self.cell.method, replace(asked, train=(asked.train[0], last), refit="never", planned=planned))


def parts(cell: "Cell", bars: Bars, prepared: Prepared) -> list[Part]:
    """What forecasts the test part of a cell: one model, or one a fold."""
    if not cell.study.walk.on:
        return [Part(cell, prepared, prepared.split.test)]
    found = []
    for fold in folds(prepared.split, cell.study.walk):
        own = fold_cell(cell, fold) if cell.kind == "method" else cell
        fitted = prepare_split(cell.study, until(bars, fold.known), fold.split)
        found.append(Part(own, fitted, fold.split.test, fold))
    return found


def latest_forecaster(cell: "Cell", bars: Bars, cache: "ForecastCache | None" = None) -> "Forecaster":
    """The forecaster of a cell for bars to come: its model, of a walk the last fold's. cache: see `load_checkpoint`."""
    from tunetrade.forecasters import forecaster_of

    prepared = prepare(cell.study, bars)
    if cell.study.walk.on and cell.kind == "baseline":
        return parts(cell, bars, prepared)[-1].forecaster(bars)
    return forecaster_of(cell, prepared, bars, cache)


def chosen_until(study: StudyConfig, bars: Bars) -> int:
    """Position of the last bar that had a part in choosing a run's model: the last validation target."""
    last = folds_of(study, bars)[-1].split if study.walk.on else prepare(study, bars).split
    return int(last.validation[-1]) + study.windows.horizon
