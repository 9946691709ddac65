"""The child process that holds the models: `python -m bridge.worker MODULE:FUNCTION ARGUMENT ...`.

FUNCTION makes the desks. It reads jobs and writes forecasts, a line of JSON each, and ends when its input does, so that
it never outlives a server that was killed.
"""

import gc
import importlib
import os
import signal
import sys

from bridge.models import Inline, facts_told, job_of, read_line, told_of, write_line
from forecasting.errors import UserError


def main(maker: str, arguments: list[str]) -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries print to standard output; the answers keep a way out of their own.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs = sys.stdin.buffer
    module, _, function = maker.partition(":")
    gc.disable()  # looking for garbage while libraries are imported finds none and takes a seventh of the time
    try:
        models = Inline(getattr(importlib.import_module(module), function)(arguments))
    except UserError as error:
        write_line(out, {"error": str(error)})
        return
    gc.freeze()
    gc.enable()
    write_line(out, facts_told(models.start()))
    while True:
        try:
            asked = read_line(jobs)
        except EOFError:
            return
        write_line(out, told_of(models.ask([job_of(job) for job in asked])))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
