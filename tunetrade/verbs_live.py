"""Verbs of the live link: `serve` models to trading terminals, `replay` a run through it, `export-tester`."""

import argparse
import json
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from forecasting.errors import ConfigError, UserError
from tunetrade.live_table import LiveTable, event_line

if TYPE_CHECKING:
    from bridge.curve import Curve

Arguments = argparse.Namespace

LONG = 1_000
"""Bars from which on a replay is worth a program that takes longer to build."""

KEPT = 10_000
"""Events that wait for a reader at most."""

SECRET = "TUNETRADE_SECRET"

MAKER = "tunetrade.live:desks"
"""What makes the desks, imported in the process of the models alone."""


def serve(asked: Arguments) -> int:
    """Serve until Ctrl-C."""
    from bridge.journal import Journal
    from bridge.models import Worker
    from bridge.server import Options, run
    from forecasting.sources.journal import journal_path

    options = Options(
        host=asked.host, port=asked.port, secret=secret_of(asked), publish=asked.publish, curve=_curve(asked)
    )
    file = Path(asked.journal) if asked.journal else journal_path()
    with Journal(file) as journal:
        for name in asked.runs:
            if not Path(name).is_dir():
                raise UserError(f"{name}: no such run folder; name one such as runs/demo/EURUSD-D1/lora/1")
        many = f"{len(asked.runs)} models" if len(asked.runs) > 1 else "the model"
        print(f"loading {many} ...", file=sys.stderr, flush=True)
        models = Worker(MAKER, [str(Path(name).resolve()) for name in asked.runs])
        show = Show(asked.log_json)
        try:
            run(models, journal, options, tell=show.take)
        finally:
            models.close()
            show.close()
    return 0


def curve_key(asked: Arguments) -> int:
    """Make a key."""
    from bridge.curve import make_key

    print(make_key(Path(asked.file)))
    return 0


def _curve(asked: Arguments) -> "Curve | None":
    """How to listen for CURVE peers, None where they are not expected."""
    from bridge.curve import Curve, read_clients, read_key

    if not asked.curve_key:
        if asked.curve_clients:
            raise ConfigError("--curve-clients without --curve-key; make one with `tunetrade curve-key FILE`")
        return None
    clients = read_clients(asked.curve_clients) if asked.curve_clients else frozenset()
    return Curve(read_key(asked.curve_key), asked.curve_host, asked.curve_port, clients)


def secret_of(asked: Arguments) -> str:
    """The shared secret, from a file or the environment: on a command line everybody on the machine could read it."""
    if not asked.secret_file:
        return os.environ.get(SECRET, "").strip()
    try:
        secret = Path(asked.secret_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--secret-file {asked.secret_file}: {error}; write the secret into a text file") from None
    if not secret:
        raise ConfigError(f"--secret-file {asked.secret_file} is empty; write at least 16 random characters into it")
    return secret


def replay(asked: Arguments) -> int:
    """Replay a run through server and Expert Advisor; 1 where they trade otherwise than the backtest."""
    import tempfile

    from bridge.models import Worker
    from bridge.terminal.build import build, compiler
    from forecasting.files import write_json
    from tunetrade.cli import emit_json
    from tunetrade.progress import Board
    from tunetrade.replay import Ready, hosted
    from tunetrade.replay import replay as replayed
    from tunetrade.replay_run import Asked, case_of_run, check_asked, count_trial

    compiler()
    wish = Asked(asked.run, asked.bars or "", asked.first or "", asked.last or "", asked.account or "")
    cell = check_asked(wish)
    count_trial(wish)
    print("loading the model ...", file=sys.stderr, flush=True)
    models = Worker(MAKER, [str(Path(asked.run).resolve())])
    board = Board(1)
    try:
        facts = models.start()
        (desk,) = facts.values()
        case = case_of_run(wish, desk.history)
        print("building the terminal ...", file=sys.stderr, flush=True)
        program = build(optimised=len(case.forecasts) > LONG)
        with (
            tempfile.TemporaryDirectory(prefix="replay-") as folder,
            hosted(Ready(models, facts), Path(folder)) as host,
        ):
            parity = replayed(case, host, program, lambda done, of: board.show(0, f"{cell.name} replay", done, of))
    finally:
        board.close()
        models.close()
    facts_of_run = {
        "run": asked.run, "unique_id": case.bars.instrument.unique_id, "model": case.model,
        "from": str(case.span[0]), "to": str(case.span[1]), "account": case.broker.account,
        "signal": case.trading.signal, "sizing": case.trading.sizing,
    }  # fmt: skip
    record = facts_of_run | parity.record()
    out = Path(asked.out) if asked.out else cell.paths.folder / "replay.json"
    write_json(out, record)
    if asked.json:
        emit_json(record)
    else:
        first, last = (str(end)[:16] for end in case.span)
        print(f"{record['unique_id']} {case.model}, {first} to {last}, {case.broker.account} account")
        print("\n".join(parity.lines()))
        print(f"report: {out}")
    return 0 if parity.equal else 1


def export_tester(asked: Arguments) -> int:
    """Write a run's targets for the Strategy Tester."""
    from forecasting.files import write_text
    from tunetrade.cli import emit_json
    from tunetrade.replay_run import targets_of_run

    unique_id, text, rows = targets_of_run(asked.run, asked.server_tz or "")
    out = Path(asked.out) if asked.out else Path(asked.run) / f"{unique_id}.csv"
    write_text(out, text)
    if asked.json:
        emit_json({"file": str(out), "unique_id": unique_id, "rows": rows})
        return 0
    print(f"{out}: {rows:,} targets of {unique_id}")
    print(f"put it into TuneTrade/{unique_id}.csv of the terminals' common Files folder (bridge/mt5/README.md)")
    return 0


class Show:
    """Events on standard output: a table that is drawn anew every second on a terminal, lines elsewhere, or JSON.

    A thread of its own writes, so that a reader that does not read (a full pipe, Ctrl-S at a terminal) never holds up
    the link; the oldest events are dropped then. A reader that has left is missed no more than that.
    """

    def __init__(self, as_json: bool, stream: TextIO | None = None) -> None:
        self._json, self._stream = as_json, stream or sys.stdout
        self._live = self._stream.isatty() and not as_json
        self._events: deque[Mapping[str, Any]] = deque(maxlen=KEPT)
        self._table = LiveTable()
        self._drawn = 0
        self._wake, self._stopped = threading.Event(), False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def take(self, event: Mapping[str, Any]) -> None:
        """Note an event; returns at once."""
        self._events.append(event)
        if not self._live:
            self._wake.set()

    def close(self) -> None:
        """Write what is left, but wait for no reader; a table stays as it was drawn last."""
        self._stopped = True
        self._wake.set()
        self._thread.join(1.0)

    def _work(self) -> None:
        try:
            while not self._stopped:
                self._wake.wait(1.0 if self._live else None)
                self._wake.clear()
                self._write()
        except (OSError, ValueError):
            return

    def _write(self) -> None:
        text = []
        while self._events:
            event = self._events.popleft()
            if self._live:
                self._table.take(event)
            else:
                text.append(json.dumps(event, allow_nan=False) if self._json else event_line(event))
        if self._live:
            size = shutil.get_terminal_size()
            text = self._table.lines(time.time_ns() // 1_000_000, size.columns, max(1, size.lines - 1))
            self._stream.write(f"\x1b[{self._drawn}F" if self._drawn else "")
            self._stream.write("\x1b[J")
            self._drawn = len(text)
        self._stream.write("".join(f"{line}\n" for line in text))
        self._stream.flush()
