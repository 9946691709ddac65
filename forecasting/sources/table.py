"""The plain table that every file source yields: rows as they stand in the file, not yet checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from forecasting.errors import DataError

PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Table:
    """Rows of a file in its own order.

    Parameters
    ----------
    path, sha256, unit
        The file, the hash of its bytes, and what a row is called in messages ("line", or "row" of a Parquet file).
    lines : int64 [T]
        1-based line of each row in the file.
    stamps : datetime64[ns] [T]
        Stamps as written; instants in UTC where `zoned`, else on the clock of a server. NaT is refused earlier.
    days_only
        Stamps are days without a time.
    zone
        Clock that the format prescribes for stamps without a zone.
    columns
        open, high, low, close, volume, spread: float64 [T], NaN where a cell holds no number.
    digits
        Decimals seen in prices.
    close_only
        The file has closes alone; open, high and low repeat them.
    """

    path: Path
    sha256: str
    unit: str
    lines: np.ndarray
    stamps: np.ndarray
    zoned: bool
    days_only: bool
    zone: str
    columns: pd.DataFrame
    digits: int
    close_only: bool

    def error(self, row: int, problem: str) -> DataError:
        """The error that names the file and the line of `row`."""
        return DataError(f"{self.path.name}, {self.unit} {self.lines[row]}: {problem}")


def numbers(path: Path, unit: str, lines: np.ndarray, cells: Mapping[str, pd.Series]) -> tuple[pd.DataFrame, int]:
    """Cells of the six columns as float64, and the decimals of the prices; a cell that is no number is an error.

    Columns that a file lacks become: open, high and low the close; volume 0; spread NaN (unknown).
    """
    found: dict[str, np.ndarray] = {}
    for name, column in cells.items():
        parsed = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        bad = np.flatnonzero(np.isnan(parsed))
        if len(bad) and name in PRICES:
            seen = str(column.iloc[bad[0]]).strip()
            problem = f"{name} is {seen!r}, not a number" if seen not in ("", "nan", "None") else f"{name} is missing"
            hint = "; prices need a decimal point, not a comma" if "," in seen else ""
            raise DataError(f"{path.name}, {unit} {lines[bad[0]]}: {problem}; correct or delete that {unit}{hint}")
        found[name] = parsed
    for name in PRICES:
        found.setdefault(name, found["close"])
    found.setdefault("volume", np.zeros(len(lines)))
    found.setdefault("spread", np.full(len(lines), np.nan))
    found["volume"] = np.nan_to_num(found["volume"], nan=0.0)
    frame = pd.DataFrame({name: found[name] for name in (*PRICES, "volume", "spread")})
    return frame, max(decimals(column) for name, column in cells.items() if name in PRICES)


def decimals(column: pd.Series, most: int = 8) -> int:
    """Decimals of prices: those written in text, or as many as floats need, at most `most`."""
    if not pd.api.types.is_numeric_dtype(column):
        text = column.str.strip()
        point = text.str.find(".")
        written = int((text.str.len() - point - 1).where(point >= 0, 0).max())
        if written <= most and not text.str.contains("e", case=False, regex=False).any():
            return written
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    values = values[np.isfinite(values)]
    for digits in range(most):
        if np.allclose(values, np.round(values, digits), rtol=0.0, atol=10.0 ** -(most + 1)):
            return digits
    return most
