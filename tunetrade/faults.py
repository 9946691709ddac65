"""Which failures a user can cure, and how to say so in one line; all others are defects and keep their traceback."""

import errno

from forecasting.errors import UserError

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_FULL_IN_WORDS = ("no space left on device", "file too large", "disk quota exceeded")


_NO_MEMORY = "DefaultCPUAllocator: "
"""How torch says that memory is short."""


def told(error: BaseException) -> str | None:
    """What to tell a user of an error that is theirs to cure; None for a defect of ours."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if _disk_is_full(error):
        where = getattr(error, "filename", None)
        return f"{f'{where}: ' if where else ''}the disk is full; free some space and run the same command again"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        cure = "; see that it is yours to read and write" if isinstance(error, PermissionError) else ""
        return f"{where}{' '.join(str(error.strerror or error).split())}{cure}"
    if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
        return "out of memory; run with --jobs 1, or lower sampling.paths, training.batch_size or windows.context"
    return None


def _disk_is_full(error: BaseException) -> bool:
    """Also where a library (safetensors, pyarrow) wraps the system's error in one of its own."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return any(words in str(error).lower() for words in _FULL_IN_WORDS)
