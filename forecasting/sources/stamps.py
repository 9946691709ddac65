"""Written stamps, in the formats that charts and data vendors use, become datetime64[ns]."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from forecasting.errors import DataError

_EPOCH = {range(9, 12): "s", range(12, 14): "ms", range(15, 17): "us", range(18, 20): "ns"}
_TIME = r"(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?"
_ISO = re.compile(r"^\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?(?: ?(?:Z|[+-]\d{2}:?\d{2}))?$")
_ZONED = re.compile(r"[:\d](?: ?(?:GMT|UTC))?(?: ?[+-]\d{2}:?\d{2}|Z| ?UTC| ?GMT)$")
_YEAR_FIRST = re.compile(rf"^\d{{4}}([./])\d{{1,2}}\1\d{{1,2}}{_TIME}$")
_YEAR_LAST = re.compile(rf"^\d{{1,2}}([./-])\d{{1,2}}\1\d{{4}}{_TIME}$")
_COMPACT = re.compile(r"^(?:19|20)\d{6}(?:[ T]?\d{4}(?:\d{2})?)?$")


def parse(written: pd.Series, lines: np.ndarray, path: Path, unit: str = "line") -> tuple[np.ndarray, bool, bool]:
    """Stamps of a column: datetime64[ns] [T], whether they are UTC instants (zoned), whether days without a time.

    The format is that of the first stamp; a stamp that does not follow it is an error.
    """
    if pd.api.types.is_datetime64_any_dtype(written):
        return _of_datetimes(written)
    if pd.api.types.is_numeric_dtype(written):
        written = written.astype("Int64").astype(str) if (written % 1 == 0).all() else written.astype(str)
    text = written.astype(str).str.strip()
    first = text.iloc[0]
    epoch = _epoch_unit(first)
    if epoch:
        counts = pd.to_numeric(text, errors="coerce")
        stamps, zoned = pd.to_datetime(counts, unit=epoch, errors="coerce"), True
    else:
        zoned = bool(_ZONED.search(first)) and ":" in first
        if zoned:
            text = text.str.replace(r" ?(?:GMT|UTC)(?=[+-])", "", regex=True)
            text = text.str.replace(r" ?(?:UTC|GMT|Z)$", "+0000", regex=True)
        stamps = _parse_text(text, zoned, path, f"{unit} {lines[0]}")
    values = stamps.to_numpy("datetime64[ns]") if not zoned or epoch else _utc(stamps)
    bad = np.flatnonzero(np.isnat(values))
    if len(bad):
        raise DataError(
            f"{path.name}, {unit} {lines[bad[0]]}: stamp {str(written.iloc[bad[0]])[:40]!r} is not written like the "
            f"first one, {first!r}; correct or delete that {unit}"
        )
    days_only = not zoned and ":" not in first and len(first) <= 10
    return values, zoned, days_only


def _epoch_unit(first: str) -> str | None:
    if _COMPACT.match(first) and len(first) != 12:
        return None
    whole = first.split(".", maxsplit=1)[0]
    if not re.fullmatch(r"\d+(?:\.\d*)?", first):
        return None
    return next((unit for lengths, unit in _EPOCH.items() if len(whole) in lengths), None)


def _parse_text(text: pd.Series, zoned: bool, path: Path, where: str) -> pd.Series:
    first = text.iloc[0]
    bare = re.sub(r" ?[+-]\d{2}:?\d{2}$", "", first) if zoned else first
    if _ISO.match(bare):
        try:
            return pd.to_datetime(text, format="ISO8601", errors="coerce", utc=zoned)
        except ValueError:  # some stamps have a zone and the first has none: those are not written like it
            naive = text.str.fullmatch(r"[\d-]{10}(?:[ T][\d:.,]+)?")
            return pd.to_datetime(text.where(naive), format="ISO8601", errors="coerce")
    if _COMPACT.match(bare):
        digits = text.str.replace(r"[ T]", "", n=1, regex=True)
        layout = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}[len(digits.iloc[0].split("+")[0])]
        return pd.to_datetime(digits, format=layout + ("%z" if zoned else ""), errors="coerce", utc=zoned)
    match = _YEAR_FIRST.match(bare) or _YEAR_LAST.match(bare)
    if not match:
        raise DataError(
            f"{path.name}, {where}: stamp {first[:40]!r} is in no known format; write YYYY-MM-DD HH:MM:SS, "
            "YYYY.MM.DD HH:MM or Unix seconds, or name the column with time_column"
        )
    separator = match[1]
    order = ["%Y", "%m", "%d"] if _YEAR_FIRST.match(bare) else _day_or_month_first(text, separator, path)
    tail = bare[len(bare.split("T" if "T" in bare else " ")[0]) :]
    clock = ["", "%H:%M", "%H:%M:%S"][tail.count(":")] + (".%f" if "." in tail else "")
    layout = separator.join(order) + (tail[0] + clock if clock else "")
    if zoned:
        text, layout = text.str.replace(r" ?(?=[+-]\d{2}:?\d{2}$)", "", regex=True), layout + "%z"
    return pd.to_datetime(text, format=layout, errors="coerce", utc=zoned)


def _day_or_month_first(text: pd.Series, separator: str, path: Path) -> list[str]:
    """Order of day and month: with points always the day; else whichever reading the whole column allows."""
    if separator == ".":
        return ["%d", "%m", "%Y"]
    parts = text.str.extract(r"^(\d{1,2})\D(\d{1,2})\D").astype(float).max()
    if parts[0] > 12 >= parts[1]:
        return ["%d", "%m", "%Y"]
    if parts[1] > 12 >= parts[0]:
        return ["%m", "%d", "%Y"]
    raise DataError(f"{path.name}: whether {text.iloc[0]!r} starts with day or month cannot be told; write YYYY-MM-DD")


def _of_datetimes(column: pd.Series) -> tuple[np.ndarray, bool, bool]:
    zoned = getattr(column.dt, "tz", None) is not None
    values = _utc(column) if zoned else column.to_numpy("datetime64[ns]")
    days_only = not zoned and bool((values == values.astype("datetime64[D]")).all())
    return values, zoned, days_only


def _utc(stamps: pd.Series) -> np.ndarray:
    return np.asarray(stamps.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[ns]"))
