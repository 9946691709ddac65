"""From a cell to its forecaster: a checkpoint read back from disk, or a baseline."""

from forecasting.baselines import baseline
from forecasting.checkpoint import load_checkpoint
from forecasting.forecaster import Forecaster
from tunetrade.cell import Cell
from tunetrade.prepared import Prepared


def forecaster_of(cell: Cell, prepared: Prepared) -> Forecaster:
    """The forecaster of a trained or baseline cell."""
    if cell.kind == "baseline":
        return baseline(cell.method, prepared.codec, cell.study.windows, cell.study.sampling)
    return load_checkpoint(cell.paths.checkpoint, cell.study.sampling)[0]
