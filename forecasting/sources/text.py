"""Text files as they come from Windows, spreadsheets and vendors: encodings, separators, quotes, blank lines."""

import csv
import difflib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from forecasting.errors import DataError

LARGEST = 2 * 1024**3
"""Bytes of the largest file that is read; twelve years of one-minute bars are about 0.3 GB."""

ENDINGS = ("", ".csv", ".txt", ".tsv", ".tab", ".prn", ".dat", ".parquet", ".pq")
"""Of files that are proposed in the place of one that does not exist; a file that does is read whatever its ending."""

_NUMBERS_ONLY = re.compile(r"^[\d\s.,:/+T-]+$")
_QUOTED_LINE = re.compile(r'^"[^"]+"$')
_FIELDS = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")


@dataclass(frozen=True)
class Text:
    """Cells of a text file, all of them strings: [T, columns]; `header` is empty where the file has none."""

    header: tuple[str, ...]
    cells: pd.DataFrame
    lines: np.ndarray
    separator: str
    first_line: str


def read_bytes(path: Path) -> bytes:
    """Bytes of a file that exists, is not empty and not too large."""
    if not path.exists():
        raise DataError(f"{path}: no such file{_nearest(path)}")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name the file of bars inside it")
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path.name} is empty; export the bars again")
    if size > LARGEST:
        raise DataError(f"{path.name} has {size / 1e9:.1f} GB, more than 2 GB; split it or use a longer timeframe")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}; check its permissions") from None


def read_text(path: Path, raw: bytes) -> Text:
    """Cells of a CSV file in any of the encodings and separators that exports come in."""
    content = _utf8(raw)
    blank, first_line = _first_line(content)
    if not first_line:
        raise DataError(f"{path.name} holds only blank lines; export the bars again")
    separator = max("\t;,", key=first_line.count)
    if separator not in first_line:
        raise DataError(
            f"{path.name}, line {blank + 1}: saw {first_line[:60]!r}, which is not a table; columns are separated by "
            "tab, semicolon or comma"
        )
    if _QUOTED_LINE.match(first_line.strip()):
        content, first_line = content.replace(b'"', b""), first_line.replace('"', "")
    cells = _cells(path, content, separator, blank)
    lines = np.arange(blank + 1, blank + 1 + len(cells))
    fields = tuple(next(csv.reader([first_line], delimiter=separator)))
    header = () if all(_NUMBERS_ONLY.match(field.strip()) or not field.strip() for field in fields) else fields
    start = 1 if header else 0
    filled = (cells[start:] != "").any(axis=1).to_numpy()
    cells, lines = cells[start:][filled], lines[start:][filled]
    if not len(cells):
        raise DataError(f"{path.name} has a header but no bars; export the bars again")
    return Text(header, cells.reset_index(drop=True), lines, separator, first_line)


def _cells(path: Path, content: bytes, separator: str, blank: int) -> pd.DataFrame:
    """All cells as strings, header included; a row with another number of fields is an error."""
    try:
        cells = pd.read_csv(
            io.BytesIO(content),
            sep=separator,
            header=None,
            dtype=str,
            skiprows=blank,
            skip_blank_lines=False,
            keep_default_na=False,
            encoding="utf-8",
            encoding_errors="replace",
            engine="c",
        )
    except pd.errors.ParserError as error:
        match = _FIELDS.search(str(error))
        problem = f"line {match[2]}: {match[3]} columns instead of {match[1]}" if match else str(error).strip()
        raise DataError(f"{path.name}, {problem}; correct or delete that line") from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{path.name}, line {blank + 1}: no columns; export the bars again") from None
    lines = content.count(b"\n") + (not content.endswith(b"\n")) - blank
    if lines != len(cells):
        raise DataError(f"{path.name}: a quoted cell goes on over several lines; remove the quotes or close them")
    # The parser fills short rows up with empty cells, so that only the text itself tells them from empty last cells.
    suspects = np.flatnonzero(((cells.iloc[:, -1] == "") & (cells.iloc[:, 0] != "")).to_numpy())
    written = content.split(b"\n") if len(suspects) else []
    for row in suspects.tolist():
        columns = written[blank + row].count(separator.encode()) + 1
        if columns < cells.shape[1]:
            problem = f"line {blank + 1 + row}: {columns} columns instead of {cells.shape[1]}"
            raise DataError(f"{path.name}, {problem}; correct or delete that line")
    return cells


def _utf8(raw: bytes) -> bytes:
    """The file's text in UTF-8 without a byte-order mark, lines ended by a line feed alone."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raw = raw.decode("utf-16", errors="replace").encode("utf-8")
    elif raw[1:2] == b"\x00" and raw[3:4] == b"\x00":
        raw = raw.decode("utf-16-le", errors="replace").encode("utf-8")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in raw else raw


def _first_line(content: bytes) -> tuple[int, str]:
    """Number of blank lines at the top, and the first line that is not."""
    for number, line in enumerate(io.BytesIO(content)):
        if line.strip():
            return number, line.decode("utf-8", errors="replace").rstrip("\r\n")
    return 0, ""


def _nearest(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; the folder {folder} does not exist either"
    tables = [entry.name for entry in folder.iterdir() if entry.suffix.lower() in ENDINGS and entry.is_file()]
    close = difflib.get_close_matches(path.name, tables, n=1, cutoff=0.5)
    return f" (did you mean {folder / close[0]}?)" if close else "; check the path"
