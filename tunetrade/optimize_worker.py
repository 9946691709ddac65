"""Processes that share a search, on a leash: they end when the one that began them does.

Standard input is the leash, standard output carries JSON lines: what to show, and why a worker gave up.

    python -m tunetrade.optimize_worker runs study 2 64
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunetrade.child import end_with_parent
from tunetrade.progress import Board

if TYPE_CHECKING:
    from tunetrade.optimize_trial import Workplace

GRACE_SECONDS = 5.0


class Relay(Board):
    """A board whose lines another process draws."""

    def __init__(self) -> None:
        super().__init__(1)

    def show(self, slot: int, what: str, done: int, total: int, note: str = "") -> None:
        """Job `what` has done so many of a total."""
        emit({"what": what, "done": done, "total": total, "note": note})

    def rest(self, slot: int) -> None:
        """Nothing runs now."""
        emit({"rest": True})

    def say(self, line: str) -> None:
        """A line that stays."""
        emit({"say": line})


def main() -> int:
    """Do trials of the search in RUNS/STUDY until all are done; 0 done, 1 given up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        from forecasting.files import read_json
        from tunetrade.optimize import SEARCHED, open_search, work, workplace

        runs, name, jobs, trials = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        values = read_json(runs / name / "optimize" / SEARCHED)["values"]
        values["optimize"]["trials"] = trials
        place = workplace(values, runs, 1, jobs, Relay())
        work(place, open_search(place, values))
    except Exception as error:
        import traceback

        from tunetrade.faults import told

        message = told(error)
        if message is None:
            traceback.print_exc(file=sys.stderr)
        emit({"failed": message or f"{type(error).__name__}: {error}", "defect": message is None})
        return 1
    return 0


def emit(message: dict[str, Any]) -> None:
    """Tell the parent; lines are whole, since threads of `run_cells` speak too."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def work_together(place: "Workplace", workers: int) -> None:
    """Do the trials of an opened search in `workers` processes; UserError where all gave up before the end."""
    from forecasting.errors import UserError

    failures: list[str] = []
    children = [_start(place) for _ in range(workers)]
    listeners = [
        threading.Thread(target=_listen, args=(child, slot, place.board, failures), daemon=True)
        for slot, child in enumerate(children)
    ]
    try:
        for listener in listeners:
            listener.start()
        for listener in listeners:
            while listener.is_alive():
                listener.join(0.2)
        codes = [child.wait() for child in children]
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
        for child in children:
            try:
                child.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
    if all(codes):
        raise UserError(failures[0] if failures else f"all {workers} workers ended with code {codes[0]}")


def _start(place: "Workplace") -> "subprocess.Popen[str]":
    threads = str(max(1, (os.cpu_count() or 1) // place.jobs))
    return subprocess.Popen(
        [
            sys.executable, "-m", "tunetrade.optimize_worker", str(place.runs), place.study.name, str(place.jobs),
            str(place.options.trials),
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1", "OMP_NUM_THREADS": threads},
    )  # fmt: skip


def _listen(child: "subprocess.Popen[str]", slot: int, board: Board, failures: list[str]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if "say" in message:
            board.say(message["say"])
        elif "rest" in message:
            board.rest(slot)
        elif "failed" in message:
            failures.append(message["failed"])
            board.say(f"a worker gave up: {message['failed']}")
        elif "what" in message:
            board.show(slot, message["what"], message["done"], message["total"], message["note"])
    board.rest(slot)


if __name__ == "__main__":
    sys.exit(main())
