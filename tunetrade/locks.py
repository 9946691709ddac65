"""One writer at a time, across processes. The system releases a lock when its holder dies, so none is ever left behind.

The lock is advisory and lies beside what it guards. A file system that knows no locks is used without one.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from forecasting.errors import ConfigError


@contextmanager
def only_one(file: Path, busy: str) -> Iterator[None]:
    """Hold the lock of `file`; ConfigError with the text `busy` where another process holds it."""
    with _opened(file) as handle:
        if not _lock(handle, wait=False):
            raise ConfigError(busy)
        yield


@contextmanager
def in_turn(file: Path) -> Iterator[None]:
    """Hold the lock of `file`, waiting for it where need be."""
    with _opened(file) as handle:
        _lock(handle, wait=True)
        yield


@contextmanager
def if_free(file: Path) -> Iterator[bool]:
    """Hold the lock of `file` where no other process does; gives whether."""
    with _opened(file) as handle:
        yield _lock(handle, wait=False)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Closing the file releases the lock."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as handle:
        handle.seek(0)
        yield handle


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: IO[bytes], wait: bool) -> bool:
        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(handle: IO[bytes], wait: bool) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True
