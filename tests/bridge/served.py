"""The real server in a process: `python served.py PORT JOURNAL [worker]`."""

import sys

import stub

from bridge.journal import Journal
from bridge.models import Inline, Worker
from bridge.server import Options, run

if __name__ == "__main__":
    port, journal, how = sys.argv[1:]
    models = Worker("stub:desks", ["X-H1"]) if how == "worker" else Inline([stub.desk()])
    with Journal(journal) as kept:
        run(models, kept, Options(port=int(port)), ready=lambda bound: print(bound, flush=True))
    models.close()
