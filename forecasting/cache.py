"""Forecasts on disk, so that the same question to the same model is answered by reading.

A chunk of an evaluation is one Parquet file, named by a hash of all its rows depend on: the forecaster (weights, codec,
settings, sampling), every window's input, the closes that came, and the program. A killed evaluation therefore goes on
at its next chunk. The folder may be deleted at any time and nothing depends on it: a damaged file is made again, one
that cannot be written is not. The oldest files give way once the folder exceeds its limit.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from forecasting.errors import ConfigError
from forecasting.files import atomic, sha256_of

LIMIT_MB = 2048
SECONDS = "seconds"


def cache_folder() -> Path:
    """Where what can be made again is kept: $TUNETRADE_CACHE, else the platform's folder for caches."""
    asked = os.environ.get("TUNETRADE_CACHE")
    if asked:
        return Path(asked).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tunetrade" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tunetrade"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunetrade"


def check_folder(folder: Path) -> None:
    """ConfigError where nothing can be kept there; writes a file of no name into the nearest folder that exists."""
    cure = "set TUNETRADE_CACHE to a folder that is yours to write, or unset it"
    nearest = next((place for place in (folder, *folder.absolute().parents) if place.exists()), folder)
    if not nearest.is_dir():
        raise ConfigError(f"{folder} cannot be: {nearest} is a file, not a folder; {cure}")
    try:
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(b"0")
    except OSError as error:
        raise ConfigError(f"{folder} keeps nothing: {nearest} cannot be written ({error.strerror}); {cure}") from None


def limit_bytes() -> int:
    """Most bytes of forecasts and weights kept: $TUNETRADE_CACHE_MB megabytes, else `LIMIT_MB`; 0 keeps none."""
    asked = os.environ.get("TUNETRADE_CACHE_MB", str(LIMIT_MB))
    if not asked.isdecimal():
        raise ConfigError(f"TUNETRADE_CACHE_MB is {asked!r}; give a whole number of megabytes, 0 for no cache")
    return int(asked) * 2**20


@dataclass(frozen=True)
class ForecastCache:
    """Tables and weights by key in `folder`, at most `limit` bytes. `program` stands for the sources that forecast."""

    folder: Path
    limit: int
    program: str

    def file(self, *parts: str) -> Path:
        """Where the table of a question lies."""
        key = sha256_of(self.program, *parts)
        return self.folder / "forecasts" / key[:2] / f"{key}.parquet"

    def read(self, file: Path) -> tuple[pd.DataFrame, float] | None:
        """The table and the seconds it took to make, or None."""
        try:
            table = pd.read_parquet(file)
            seconds = float(table.attrs[SECONDS])
        except Exception:  # whatever is wrong with a file that can be made again
            return None
        self.used(file)
        table.attrs = {}
        return table, seconds

    def write(self, file: Path, table: pd.DataFrame, seconds: float) -> None:
        """Keep a table, if the disk lets us; then make room."""
        kept = table.copy(deep=False)
        kept.attrs = {SECONDS: seconds}
        self.keep(file, lambda partial: kept.to_parquet(partial, index=False))

    def weights_file(self, sha: str) -> Path:
        """Where the weights of a model that is served lie; see `packed`."""
        key = sha256_of(self.program, sha)
        return self.folder / "weights" / key[:2] / f"{key}.safetensors"

    def used(self, file: Path) -> None:
        """Make it the newest, the last to give way."""
        with contextlib.suppress(OSError):  # a folder that may only be read
            os.utime(file)

    def keep(self, file: Path, write: Callable[[Path], None]) -> None:
        """Let `write` fill a file that appears whole, if the disk lets us; then make room."""
        if not self.limit:
            return
        with contextlib.suppress(OSError), atomic(file) as partial:
            write(partial)
        with contextlib.suppress(OSError):
            self._make_room()

    def _make_room(self) -> None:
        places = (self.folder / "forecasts").glob("*/*.parquet"), (self.folder / "weights").glob("*/*.safetensors")
        found = [(file.stat(), file) for place in places for file in place]
        total = sum(state.st_size for state, _ in found)
        for state, file in sorted(found, key=lambda entry: entry[0].st_mtime):
            if total <= self.limit:
                return
            file.unlink(missing_ok=True)
            total -= state.st_size
