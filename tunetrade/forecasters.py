"""From a cell to its forecaster: a checkpoint read back from disk, or a baseline."""

import numpy as np

from forecasting.bars import Bars
from forecasting.baselines import Asked, baseline
from forecasting.cache import ForecastCache
from forecasting.checkpoint import load_checkpoint
from forecasting.forecaster import Forecaster
from tunetrade.cell import Cell
from tunetrade.prepared import Prepared


def forecaster_of(cell: Cell, prepared: Prepared, bars: Bars, cache: ForecastCache | None = None) -> Forecaster:
    """The forecaster of a trained or baseline cell; a baseline is fitted on `bars`. cache: see `load_checkpoint`."""
    if cell.kind in ("baseline", "yardstick"):
        return baseline(cell.method, asked_of(cell, prepared, bars))
    return load_checkpoint(cell.paths.checkpoint, cell.study.sampling, cache)[0]


def asked_of(cell: Cell, prepared: Prepared, bars: Bars) -> Asked:
    """What a baseline cell may use: the models' windows, and their training part to fit on."""
    spec, parts, warm_up = cell.study.windows, prepared.split, prepared.codec.warm_up
    return Asked(
        bars=bars,
        spec=spec,
        options=cell.study.sampling,
        hours=prepared.hours,
        warm_up=warm_up,
        train=(int(parts.train[0]) - warm_up - spec.context + 1, int(parts.train[-1]) + spec.horizon),
        refit=cell.study.refit,
        planned=bars.times[np.concatenate([parts.validation, parts.test])],
    )
