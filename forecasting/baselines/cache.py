"""Fitted parameters on disk, so that the next run of a study fits nothing twice.

One small JSON file a fit, named by a hash of all the fit depends on: data, model, settings, library versions. The
folder may be deleted at any time; where it cannot be written or a file is damaged, the fit is made again, in silence:
results never depend on it. A file has a few hundred bytes and a daily series makes one a year, so nothing is evicted.
"""

import contextlib
import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path

from forecasting.cache import cache_folder
from forecasting.files import read_json, write_json

Values = Mapping[str, float | int | str]
"""Parameters of one fit, by name."""


def remembered(key: str, fit: Callable[[], Values]) -> Values:
    """The values of an earlier fit under this key, or those of `fit`, kept for the next time."""
    file: Path | None = None
    with contextlib.suppress(OSError, RuntimeError):  # no home folder
        file = cache_folder() / "fits" / key[:2] / f"{key}.json"
    kept = _read(file) if file else None
    if kept is not None:
        return kept
    values = fit()
    if file:
        with contextlib.suppress(OSError):
            write_json(file, dict(values))
    return values


def _read(file: Path) -> Values | None:
    try:
        kept = read_json(file)
    except (OSError, ValueError):
        return None
    sound = isinstance(kept, dict) and all(isinstance(value, float | int | str) for value in kept.values())
    return kept if sound and kept else None


def version(package: str) -> str:
    """The installed version of a package, part of every key."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
