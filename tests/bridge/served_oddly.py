"""The real server in a process, of another version or with another clock: `python served_oddly.py version|clock N`."""

import sys

import stub

import bridge.messages
import bridge.server
from bridge.journal import Journal
from bridge.models import Inline

if __name__ == "__main__":
    what, number = sys.argv[1], int(sys.argv[2])
    if what == "version":
        bridge.messages.VERSION = number
    else:
        true_ms = bridge.server._now_ms
        bridge.server._now_ms = lambda: true_ms() + 1000 * number
    with Journal(":memory:") as kept:
        options = bridge.server.Options(port=0)
        bridge.server.run(Inline([stub.desk()]), kept, options, ready=lambda port: print(port, flush=True))
