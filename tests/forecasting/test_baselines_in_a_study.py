"""A study hands a baseline its own training part, and knows what its forecasts depend on."""

from pathlib import Path

import numpy as np
import pytest

from forecasting.base import find_base
from forecasting.baselines import BASELINES
from tunetrade.cell import Cell, fingerprints
from tunetrade.config import study_from
from tunetrade.forecasters import asked_of, forecaster_of
from tunetrade.layout import CellPaths
from tunetrade.prepared import prepare


def cell_of(name, base, **settings):
    parts = {"validation_start": "2015-01-01", "test_start": "2016-01-01", "test_end": "2016-12-01"}
    values = {"name": "s", "series": ["ecb:EURUSD"], "base": str(base), "methods": [], "split": parts, **settings}
    study = study_from({**values, "windows": {"context": 12, "horizon": 3}, "sampling": {"paths": 8}})
    return Cell(CellPaths(Path("runs/s/EURUSD-D1") / name / "0"), study, "ecb:EURUSD", "baseline", name, 0)


def test_a_baseline_is_fitted_on_the_training_part(eurusd, tiny_base):
    cell = cell_of("ar1", tiny_base, refit="never")
    prepared = prepare(cell.study, eurusd)
    asked = asked_of(cell, prepared, eurusd)
    first, last = asked.train
    assert first == 0
    assert eurusd.times[last] < np.datetime64("2015-01-01")
    assert last == prepared.split.train[-1] + 3
    assert (asked.planned > eurusd.times[last]).all()
    assert len(asked.planned) == len(prepared.split.validation) + len(prepared.split.test)
    assert asked.refit == "never"
    assert forecaster_of(cell, prepared, eurusd).warm_up == prepared.codec.warm_up


@pytest.mark.parametrize("name", BASELINES)
def test_refits_are_part_of_what_a_fitted_forecast_depends_on(tiny_base, name):
    base = find_base(str(tiny_base))
    yearly, never = (
        fingerprints(cell_of(name, tiny_base, refit=refit), "0", base)["forecast"] for refit in ("yearly", "never")
    )
    assert (yearly != never) == BASELINES[name].fitted


def test_versions_of_libraries_are_too(tiny_base, monkeypatch):
    base = find_base(str(tiny_base))
    cells = {name: cell_of(name, tiny_base) for name in ("garch-t", "theta", "ewma-t")}
    before = {name: fingerprints(cell, "0", base)["forecast"] for name, cell in cells.items()}
    monkeypatch.setattr("tunetrade.cell.package_version", lambda name: "9" if name == "arch" else "1")
    after = {name: fingerprints(cell, "0", base)["forecast"] for name, cell in cells.items()}
    monkeypatch.setattr("tunetrade.cell.package_version", lambda name: "1")
    same = {name: fingerprints(cell, "0", base)["forecast"] for name, cell in cells.items()}
    assert after["garch-t"] not in (before["garch-t"], same["garch-t"])
    assert after["theta"] == same["theta"]
    assert after["ewma-t"] == same["ewma-t"]
