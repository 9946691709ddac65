"""The series a broker asks for beside those traded are part of what a backtest depends on, a trial's up to the test."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecasting.errors import UserError
from tunetrade.beside import _series, series_beside
from tunetrade.cell import Cell, backtest_fingerprint
from tunetrade.config import study_from
from tunetrade.layout import CellPaths
from tunetrade.study import load_series

FILE = "EURGBP_D1.csv"


def write(last: float) -> None:
    days = pd.date_range("2019-01-01", "2021-06-30", freq="B")
    closes = np.full(len(days), 0.9)
    closes[-1] = last
    frame = pd.DataFrame({"time": days.strftime("%Y-%m-%d"), **dict.fromkeys(("open", "high", "low", "close"), closes)})
    frame.to_csv(FILE, index=False)
    _series.cache_clear()


def test_the_fingerprint_follows_the_conversion_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"name": "s", "series": ["ecb:EURUSD"], "broker": {"currency": "GBP", "conversion": FILE}}
    study = study_from(values, ["split.test_start=2021-01-01"])

    def prints() -> list[str]:
        kinds = ("benchmark", "trial")
        cells = [Cell(CellPaths(tmp_path), study, "ecb:EURUSD", kind, "buy-and-hold", 0) for kind in kinds]
        return [backtest_fingerprint(cell, "") for cell in cells]

    write(0.9)
    first = prints()
    write(0.91)
    second = prints()
    assert (first[0] != second[0], first[1] == second[1]) == (True, True)
    conversion, finer = series_beside(study)
    assert (conversion.instrument.symbol, finer) == ("EURGBP", None)  # type: ignore[union-attr]


def test_an_account_that_cannot_be_converted_is_refused_before_any_work() -> None:
    values = {"name": "s", "series": ["ecb:EURUSD"], "broker": {"currency": "JPY"}}
    with pytest.raises(UserError, match=r"set broker\.conversion to a series of both, such as ecb:JPYUSD"):
        load_series(study_from(values))
    with pytest.raises(UserError, match="does not turn USD into JPY"):
        load_series(study_from(values, ["broker.conversion=ecb:EURJPY"]))
