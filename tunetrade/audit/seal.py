"""Hashes of the files that an audit has judged: a figure changed afterwards no longer stands under its PASS."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forecasting.files import read_json, sha256_of
from tunetrade.layout import VOLATILE

TABLES = ("forecasts.parquet", "trades.parquet", "equity.parquet")
RECORDS = ("forecast.json", "backtest.json")


def seal(folder: Path) -> dict[str, str]:
    """SHA-256 of each audited file that a run folder holds; of JSON without the fields that measure the machine."""
    found = {name: sha256_of(folder / name) for name in TABLES if (folder / name).is_file()}
    return found | {name: _of_record(folder / name) for name in RECORDS if (folder / name).is_file()}


def broken(folder: Path, record: Mapping[str, Any]) -> list[str] | None:
    """Files that changed, came or went since an audit; None where it kept no hashes, being of an earlier version."""
    known = record.get("files")
    if not isinstance(known, Mapping):
        return None
    now = seal(folder)
    return sorted(name for name in {*known, *now} if known.get(name) != now.get(name))


def _of_record(file: Path) -> str:
    try:
        content = read_json(file)
    except ValueError:
        return sha256_of(file)
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if key not in VOLATILE.get(file.name, ())}
    return sha256_of(json.dumps(content, sort_keys=True))
