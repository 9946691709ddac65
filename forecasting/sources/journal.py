"""Bars that the live link has kept: `journal:EURUSD,H1` reads the SQLite file that `tunetrade serve` writes.

Closes are those the models saw, in UTC, so a study on them sees the broker's own prices. Opened read only; the server
may be writing at the same time. numpy is imported when bars are read: the process of the sockets, which only writes,
does without.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from forecasting.errors import DataError

if TYPE_CHECKING:
    import numpy as np

SCHEMA_VERSION = 1
VARIABLE = "TUNETRADE_JOURNAL"
DEFAULT = "live/journal.sqlite"


@dataclass(frozen=True)
class Kept:
    """Bars of one feed: times int64 UTC ms [T], columns float64 [T, 6] (open, high, low, close, volume, spread)."""

    feed: str
    symbol: str
    digits: int
    times_ms: "np.ndarray"
    columns: "np.ndarray"
    sha256: str


def journal_path() -> Path:
    """The file: TUNETRADE_JOURNAL, or live/journal.sqlite in the current folder."""
    return Path(os.environ.get(VARIABLE) or DEFAULT)


def read_journal(source: str, name: str) -> tuple[Kept, str]:
    """Bars of `SYMBOL,TIMEFRAME` or `SYMBOL,TIMEFRAME,FEED`, and the timeframe; DataError says what there is."""
    parts = [part.strip() for part in name.split(",", 2)]
    if len(parts) < 2 or not all(parts):
        raise DataError(f"{source}: name symbol and timeframe, such as journal:EURUSD,H1")
    unique_id, path = f"{parts[0]}-{parts[1].upper()}", journal_path()
    if not path.is_file():
        raise DataError(f"{source}: no journal at {path}; set {VARIABLE} to the file of `tunetrade serve --journal`")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as base:
            known = base.execute(
                "SELECT feed, unique_id, symbol, digits FROM series ORDER BY feed, unique_id"
            ).fetchall()
            feed, unique_id, _, digits = _chosen(source, known, unique_id, parts[2] if len(parts) == 3 else None)
            rows = base.execute(
                "SELECT time_ms, open, high, low, close, volume, spread FROM bars WHERE feed = ? AND unique_id = ? "
                "ORDER BY time_ms",
                (feed, unique_id),
            ).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{source}: {path} cannot be read as a journal: {error}; name another in {VARIABLE}") from None
    if not rows:
        raise DataError(f"{source}: {path} has no bars of it yet; attach the Expert Advisor first")
    import numpy as np

    times = np.array([row[0] for row in rows], np.int64)
    columns = np.array([row[1:] for row in rows], np.float64)
    columns[columns[:, 5] < 0, 5] = np.nan
    digest = sha256(times.tobytes() + columns.tobytes()).hexdigest()
    return Kept(feed, unique_id.rpartition("-")[0], digits, times, columns, digest), parts[1].upper()


def _chosen(
    source: str, known: Sequence[tuple[str, str, str, int]], unique_id: str, feed: str | None
) -> tuple[str, str, str, int]:
    found = [row for row in known if row[1].lower() == unique_id.lower() and feed in (None, row[0])]
    if not found:
        there = "; ".join(f"{of.replace('-', ',')},{whose}" for whose, of, _, _ in known) or "nothing"
        raise DataError(f"{source}: the journal at {journal_path()} has {there}")
    if len(found) > 1:
        feeds = ", ".join(row[0] for row in found)
        raise DataError(f"{source}: several feeds have it ({feeds}); name one, such as {source},{found[0][0]}")
    return found[0]
