"""One file of bars, whatever wrote it, becomes a `Table`; its name tells symbol and timeframe where it can."""

import hashlib
import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd

from forecasting.errors import DataError
from forecasting.sources import generic, metatrader
from forecasting.sources.options import SourceOptions
from forecasting.sources.stamps import parse
from forecasting.sources.table import PRICES, Table, numbers
from forecasting.sources.text import Text, read_bytes, read_text

_LONG_NAMES = {
    "DAILY": "D1",
    "WEEKLY": "W1",
    "1DAY": "D1",
    "1D": "D1",
    "HOURLY": "H1",
    "1HOUR": "H1",
    "4HOURS": "H4",
    "1MIN": "M1",
}
_FRAME = re.compile(r"^(?:M(?:[1-6]|1[025]|20|30)|H(?:[123468]|12)|D1|W1)$")
_MT4_NAME = re.compile(r"^([A-Z]{6})(1|5|15|30|60|240|1440|10080)$")
_MT4_FRAMES = {"1": "M1", "5": "M5", "15": "M15", "30": "M30", "60": "H1", "240": "H4", "1440": "D1", "10080": "W1"}


def read_table(path: Path, options: SourceOptions) -> Table:
    """Rows of a CSV or Parquet file, in its own order and not yet checked."""
    raw = read_bytes(path)
    sha = hashlib.sha256(raw).hexdigest()
    if raw[:4] == b"PAR1":
        return _from_parquet(path, sha, options)
    return _from_text(path, sha, read_text(path, raw), options)


def of_name(path: Path) -> tuple[str | None, str | None]:
    """Symbol and timeframe that a file name tells, such as `EURUSD_H1_200701012100_201812312100.csv`."""
    match = _MT4_NAME.match(path.stem.upper())
    if match:
        return match[1], _MT4_FRAMES[match[2]]
    words = [word for word in re.split(r"[_\s-]+", path.stem) if word]
    joined = [*words, *(a + b for a, b in itertools.pairwise(words))]
    frames = [_LONG_NAMES.get(word.upper(), word.upper()) for word in joined]
    timeframe = next((frame for frame in frames if _FRAME.match(frame)), None)
    pair = next((word for word in words if re.fullmatch(r"[A-Z]{6}[.#a-z]{0,6}", word)), None)
    if pair is None and timeframe and words and not _FRAME.match(words[0].upper()):
        pair = words[0]
    return pair, timeframe


def _from_text(path: Path, sha: str, text: Text, options: SourceOptions) -> Table:
    roles = metatrader.roles(text)
    zone = metatrader.zone(path.name)
    if roles is None:
        roles = generic.histdata(text) or generic.roles(text.header, options)
        zone = generic.zone(text)
    if roles is None or "close" not in roles:
        kind = "header not recognised" if text.header else "no header, and not a known format without one"
        raise DataError(f"{path.name}: {kind}, saw {text.first_line[:80]!r}; {generic.UNDERSTOOD}")
    return _table(path, sha, text.cells, roles, lines=text.lines, unit="line", zone=zone)


def _from_parquet(path: Path, sha: str, options: SourceOptions) -> Table:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{path.name} is no readable Parquet file ({first}); write it again") from None
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    if not len(frame):
        raise DataError(f"{path.name} has columns but no bars; export the bars again")
    roles = generic.roles([str(name) for name in frame.columns], options)
    if roles is None:
        raise DataError(f"{path.name}: columns not recognised, saw {list(frame.columns)[:8]}; {generic.UNDERSTOOD}")
    cells = frame.set_axis(range(frame.shape[1]), axis="columns")
    return _table(path, sha, cells, roles, lines=np.arange(1, len(frame) + 1), unit="row", zone="UTC")


def _table(
    path: Path, sha: str, cells: pd.DataFrame, roles: dict[str, int], *, lines: np.ndarray, unit: str, zone: str
) -> Table:
    if "stamp" in roles:
        written = cells[roles["stamp"]]
    elif "time" in roles:
        written = cells[roles["date"]].astype(str).str.strip() + " " + cells[roles["time"]].astype(str).str.strip()
    else:
        written = cells[roles["date"]]
    stamps, zoned, days_only = parse(written, lines, path, unit)
    found = {name: cells[at] for name, at in roles.items() if name in (*PRICES, "volume", "spread")}
    columns, digits = numbers(path, unit, lines, found)
    return Table(path, sha, unit, lines, stamps, zoned, days_only, zone, columns, digits, "open" not in roles)
