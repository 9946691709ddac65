"""What a training costs, and its live log."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil


def peak_memory_bytes() -> int:
    """Largest resident memory this process has had.

    On Linux from VmHWM: `ru_maxrss` of a new process begins at the peak of the one that started it.
    """
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform != "linux":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak if sys.platform == "darwin" else peak * 1024)
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@contextlib.contextmanager
def tensorboard(folder: Path) -> Iterator[Callable[[int, float, float | None], None]]:
    """A function (step, train loss, validation loss or None) that logs to TensorBoard; a resumed run adds a file."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def log(step: int, loss: float, validation: float | None) -> None:
        writer.add_scalar("loss/train", loss, step)
        if validation is not None:
            writer.add_scalar("loss/validation", validation, step)
            writer.add_scalar("perplexity/validation", math.exp(min(validation, 700.0)), step)

    try:
        yield log
    finally:
        writer.close()
