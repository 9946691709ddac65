"""The real server in a process: `python served.py PORT JOURNAL [inline | worker] [MAKER [SERIES [HEARTBEAT_MS]]]`."""

import contextlib
import sys

import stub

from bridge.journal import Journal
from bridge.models import Inline, Worker
from bridge.server import Options, run

if __name__ == "__main__":
    port, file, how, maker, series, heartbeat = [
        *sys.argv[1:],
        *("", "", "", "desks", "X-H1", "1000")[len(sys.argv) - 1 :],
    ]
    with contextlib.redirect_stdout(sys.stderr):
        models = Worker(f"stub:{maker}", [series]) if how == "worker" else Inline(getattr(stub, maker)([series]))
    with Journal(file) as kept:
        options = Options(port=int(port), heartbeat_ms=int(heartbeat))
        run(models, kept, options, ready=lambda bound: print(bound, flush=True))
    models.close()
