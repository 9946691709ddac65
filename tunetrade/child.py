"""The process of one cell, on a leash: it ends when its parent does, so no orphan outlives a killed study.

Standard input is the leash, a pipe that closes with the parent; standard output carries JSON lines to it. Nothing heavy
is imported before the leash is on. Ctrl-C in a terminal reaches parent and child alike: the child ignores it, for the
parent decides.

    python -m tunetrade.child runs/demo/EURUSD-D1/lora/1
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any


def main() -> int:
    """Run the cell of a folder; 0 done, 1 failed: {"failed": why, "defect": whether stderr holds a traceback}."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        from tunetrade.cell import run_cell

        run_cell(Path(sys.argv[1]), _emit)
    except Exception as error:  # a user's fault, a defect of ours or of a library: the study records it and goes on
        import traceback

        from tunetrade.faults import told

        message = told(error)
        if message is None:
            traceback.print_exc(file=sys.stderr)
        _emit({"failed": message or f"{type(error).__name__}: {error}", "defect": message is None})
        return 1
    return 0


def _emit(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def end_with_parent() -> None:
    """Blocks on the raw descriptor: a buffered read would hold a lock that the interpreter needs to shut down."""
    while os.read(0, 1024):
        pass
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
