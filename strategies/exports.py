"""What MetaTrader 5 saves of an account: Strategy Tester reports and account histories, as HTML or as tables in CSV.

MetaTrader writes HTML in UTF-16 with a byte order mark, one wide table whose sections begin with a title row and a row
of headings, thousands apart by spaces or hard spaces, hidden cells in some rows and cells over several columns.
Terminals of other languages write other headings: those are refused by name rather than guessed. Built from published
descriptions and reports: no export of a terminal was at hand.
"""

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

from forecasting.errors import DataError
from strategies.deals import CLOSED_COLUMNS, DEAL_COLUMNS

Row = tuple[str, ...]

UNKNOWN = "?"
"""Comment of a position whose row does not tell what closed it."""

DEAL_HEADINGS = ("time", "deal", "symbol", "type", "direction", "volume", "price", "commission", "swap", "profit")
POSITION_HEADINGS = ("time", "position", "symbol", "type", "volume", "price", "time", "price", "swap", "profit")
FACTS = ("expert", "symbol", "period", "company", "currency", "initial deposit", "leverage", "account", "name")

_TIME = re.compile(r"^(\d{4})[.\-/](\d\d)[.\-/](\d\d)[ T]+(\d\d):(\d\d)(?::(\d\d))?(?:\.\d+)?$")
_SPACES = re.compile(r"[\s\u00a0\u2009\u202f]+")
_COMMA_DECIMAL = re.compile(r"^-?[\d ]+,(\d{1,2}|\d{4,})$")
_POINT_DECIMAL = re.compile(r"^-?[\d ,]*\d\.\d+$")
_CURE = (
    "save it in MetaTrader 5 from the Strategy Tester (Backtest > Report > HTML) or from the history of the account "
    "(Report > HTML) with the terminal in English (View > Languages)"
)


@dataclass(frozen=True)
class Export:
    """What an export tells. facts: such as symbol, currency, initial deposit, by heading in small letters.

    deals: DEAL_COLUMNS in order, all symbols, or None. positions: CLOSED_COLUMNS and symbol, of an account history, or
    None. Times are of the server's clock, without zone. decimal_comma: how its numbers are written, those of facts too.
    """

    facts: Mapping[str, str]
    deals: pd.DataFrame | None
    positions: pd.DataFrame | None
    decimal_comma: bool = False

    @property
    def hedging(self) -> bool | None:
        """What an account history says of the account; None where it says nothing, as a tester's report."""
        account = self.facts.get("account", "").lower()
        return True if "hedge" in account else False if "netting" in account else None


def read_export(file: Path) -> Export:
    """Read a report or a history; DataError names the file and what is missing."""
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; name a report that MetaTrader 5 saved") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); name a report that MetaTrader 5 saved") from None
    if raw.startswith(b"PK"):
        raise DataError(f"{file} is an Excel workbook (Open XML); {_CURE}, or save its sheet as CSV")
    text = decoded(raw)
    rows = html_rows(text) if re.search(r"<\s*(html|table|tr)\b", text, re.IGNORECASE) else csv_rows(text)
    deals, positions = _section(rows, DEAL_HEADINGS), _section(rows, POSITION_HEADINGS)
    if deals is None and positions is None:
        raise DataError(
            f"{file} holds neither a Deals table ({', '.join(DEAL_HEADINGS)}) nor a Positions table "
            f"({', '.join(POSITION_HEADINGS)}); {_CURE}"
        )
    decimal_comma = _writes_commas([*(deals or ((), ()))[1], *(positions or ((), ()))[1]])
    return Export(
        facts(rows),
        None if deals is None else _deals(*deals, file, decimal_comma),
        None if positions is None else _positions(*positions, file, decimal_comma),
        decimal_comma,
    )


def decoded(raw: bytes) -> str:
    """Text of a file in UTF-16 or UTF-8, with byte order mark or without, else in Windows' western code page."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", errors="replace")
    head = raw[:400]
    if head.count(0) > len(head) // 4:
        return raw.decode("utf-16-be" if head[:1] == b"\x00" else "utf-16-le", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def html_rows(text: str) -> list[Row]:
    """Cells of every table row, hidden ones left out, spaces made plain."""
    reader = _Tables()
    reader.feed(text)
    reader.close()
    return reader.finished()


def csv_rows(text: str) -> list[Row]:
    """Cells of every line of a table saved as text, the separator being that of its heading."""
    lines = text.splitlines()
    heading = next((line for line in lines if "time" in line.lower() and "profit" in line.lower()), text[:200])
    separator = max("\t;,", key=heading.count)
    return [tuple(_plain(cell) for cell in row) for row in csv.reader(lines, delimiter=separator)]


def facts(rows: Iterable[Row]) -> dict[str, str]:
    """Settings that stand before the tables: a heading with a colon, then the first cell that is not empty."""
    found: dict[str, str] = {}
    for row in rows:
        for place, cell in enumerate(row):
            name = cell.rstrip(":").strip().lower()
            if cell.endswith(":") and name in FACTS:
                value = next((other for other in row[place + 1 :] if other), "")
                if value and not value.endswith(":"):
                    found.setdefault(name, value)
    return found


def number(text: str, decimal_comma: bool = False) -> float:
    """A number with whatever stands between its thousands; 0 of an empty cell. ValueError where there is none.

    >>> number("-10 000.50"), number("1,234.5"), number("1,1025", decimal_comma=True)
    (-10000.5, 1234.5, 1.1025)
    """
    bare = _SPACES.sub("", text).replace("\u2212", "-").replace("'", "")
    if decimal_comma:
        bare = bare.replace(".", "").replace(",", ".")
    found = float(bare.replace(",", "")) if bare else 0.0
    if not math.isfinite(found):
        raise ValueError(f"{text!r} is no number")
    return found


def moment(text: str) -> pd.Timestamp | None:
    """A time of the server's clock, or None where the text is none."""
    found = _TIME.match(text)
    if not found:
        return None
    try:
        return pd.Timestamp(*(int(part or 0) for part in found.groups()))
    except ValueError:
        return None


class _Tables(HTMLParser):
    """Collects rows; an opening tag ends whatever its forerunner left open, as browsers do."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[Row] = []
        self.row: list[str] | None = None
        self.cell: list[str] | None = None
        self.hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self._end_row()
            self.row = []
        elif tag in ("td", "th") and self.row is not None:
            self._end_cell()
            self.cell = []
            self.hidden = "hidden" in str(dict(attrs).get("class") or "").split()

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._end_cell()
        elif tag in ("tr", "table"):
            self._end_row()

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell.append(data)

    def finished(self) -> list[Row]:
        self._end_row()
        return self.rows

    def _end_cell(self) -> None:
        if self.cell is not None and self.row is not None and not self.hidden:
            self.row.append(_plain("".join(self.cell)))
        self.cell, self.hidden = None, False

    def _end_row(self) -> None:
        self._end_cell()
        if self.row:
            self.rows.append(tuple(self.row))
        self.row = None


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text).strip()


def _section(rows: Sequence[Row], headings: Sequence[str]) -> tuple[list[str], list[Row]] | None:
    """Headings and the rows that begin with a time, of the last section whose headings hold all those asked for."""
    found = current = None
    for row in rows:
        names = [cell.lower() for cell in row]
        if {"time", "symbol", "type"} <= set(names):
            wanted = all(names.count(name) >= headings.count(name) for name in headings)
            current = (_stripped(names), list[Row]()) if wanted else None
            found = current or found
        elif current is not None and moment(row[0] if row else "") is not None:
            current[1].append(row)
    return found


def _stripped(names: list[str]) -> list[str]:
    while names and not names[-1]:
        names.pop()
    return names


def _aligned(row: Row, names: list[str]) -> dict[str, str]:
    """Cells by heading; a row may have an empty cell more after its type, and empty ones at its end.

    A heading that stands twice (time, price) gets a 2 the second time.
    """
    cells = list(row)
    at = names.index("type") + 1
    while len(cells) > len(names) and not cells[-1]:
        cells.pop()
    if len(cells) > len(names) and not cells[at]:
        del cells[at]
    cells += [""] * (len(names) - len(cells))
    found: dict[str, str] = {}
    for name, cell in zip(names, cells, strict=False):
        found[name if name not in found else f"{name} 2"] = cell
    return found


def _writes_commas(rows: Iterable[Row]) -> bool:
    cells = [cell for row in rows for cell in row]
    return any(_COMMA_DECIMAL.match(cell) for cell in cells) and not any(_POINT_DECIMAL.match(cell) for cell in cells)


def _values(
    cells: Mapping[str, str], wanted: Iterable[str], file: Path, table: str, decimal_comma: bool
) -> dict[str, float]:
    found = {}
    for name in wanted:
        try:
            found[name] = number(cells.get(name, ""), decimal_comma)
        except ValueError:
            number_of = cells.get("deal") or cells.get("position") or cells["time"]
            raise DataError(
                f"{file}: {name} of {table} {number_of} is {cells[name]!r}, which is no number; {_CURE}"
            ) from None
    return found


def _deals(names: list[str], rows: list[Row], file: Path, decimal_comma: bool) -> pd.DataFrame:
    found = []
    for row in rows:
        cells = _aligned(row, names)
        money = _values(
            cells, ("volume", "price", "commission", "fee", "swap", "profit", "balance"), file, "deal", decimal_comma
        )
        found.append(
            {
                **money, "time": moment(cells["time"]), "deal": cells["deal"], "symbol": cells["symbol"],
                "type": cells["type"].lower(), "direction": cells["direction"].lower(), "order": cells.get("order", ""),
                "comment": cells.get("comment", ""), "commission": money["commission"] + money["fee"],
                "position": cells.get("position", ""),
            }
        )  # fmt: skip
    frame = pd.DataFrame(found, columns=list(DEAL_COLUMNS))
    trading = frame["type"].isin(("buy", "sell"))
    wrong = trading & ~frame["direction"].isin(("in", "out", "in/out", "out by"))
    if wrong.any():
        first = frame[wrong].iloc[0]
        raise DataError(f"{file}: deal {first['deal']} has the direction {first['direction']!r}; {_CURE}")
    return frame.sort_values("time", kind="stable").reset_index(drop=True)


def _positions(names: list[str], rows: list[Row], file: Path, decimal_comma: bool) -> pd.DataFrame:
    found = []
    for row in rows:
        cells = _aligned(row, names)
        if cells["type"].lower() not in ("buy", "sell") or moment(cells["time 2"]) is None:
            continue
        wanted = ("volume", "price", "price 2", "commission", "fee", "swap", "profit", "s / l", "t / p")
        money = _values(cells, wanted, file, "position", decimal_comma)
        commission = money["commission"] + money["fee"]
        found.append(
            {
                "symbol": cells["symbol"], "ticket": cells["position"],
                "direction": 1 if cells["type"].lower() == "buy" else -1, "lots": money["volume"],
                "entry_time": moment(cells["time"]), "entry_price": money["price"],
                "exit_time": moment(cells["time 2"]), "exit_price": money["price 2"], "commission": commission,
                "swap": money["swap"], "profit": money["profit"], "net": money["profit"] + commission + money["swap"],
                "comment": _stopped(money["price 2"], money["s / l"], money["t / p"]),
            }
        )  # fmt: skip
    frame = pd.DataFrame(found, columns=["symbol", *CLOSED_COLUMNS])
    return frame.sort_values("exit_time", kind="stable").reset_index(drop=True)


def _stopped(price: float, stop: float, profit: float) -> str:
    """The comment a deal would have: a position's row has its stops but not what closed it."""
    if stop and price == stop:
        return f"sl {stop:g}"
    return f"tp {profit:g}" if profit and price == profit else UNKNOWN
