"""A dry run without MetaTrader: the Expert Advisor's own code in the simulated terminal, on the last bars of a run.

    python -m tunetrade.dry_run RUN [--port 5757] [--bars 20] [--seconds 30] [--folder dry-run]

connects to the server that `tunetrade serve RUN` started in another window and prints what the chart and the Experts
tab would show. A bar lasts until it was decided on, or so many seconds. The server may be stopped and started again
meanwhile, and so may this: state, account and the bar that was reached lie in the folder. Whether what is traded
equals the backtest, `tunetrade replay` says.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.terminal.build import build
from forecasting.errors import ConfigError, UserError
from strategies.market import account_currency, market_of
from tunetrade.beside import series_beside
from tunetrade.replay_market import broker_clock, check_replayable, market_text
from tunetrade.replay_run import cell_of, own_bars
from tunetrade.verbs_live import SECRET

WARM = 2_000
"""Bars before the first that is shown, as a chart has them."""

SETTLED = '"code":"TAKEN"|"code":"NOOP"|"code":"GUARD:'
SHOWN = ("print", "comment", "critical")


def settings(run: str, port: int, count: int, seconds: float, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs of the Expert Advisor, its own where they can be, and settings of the terminal, whose market is written.

    Bars of the past are always too old for InpMaxAge, and targets without a stop would all end at a guard.
    """
    if count < 1 or seconds <= 0:
        raise ConfigError("--bars and --seconds must be above 0")
    cell = cell_of(run)
    bars, broker = own_bars(cell, run), cell.study.broker
    kept = replace(bars, frame=bars.frame.iloc[-(WARM + count) :])
    shown = replace(bars, frame=bars.frame.iloc[-(count + 1) :])
    check_replayable(kept, broker)
    clock = broker_clock(kept, broker.timezone)
    market = market_of(shown, broker, *series_beside(cell.study))
    text = market_text(kept, market, clock, broker, account_currency(bars.instrument, broker), "Dry-run")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "market"
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{folder} holds a dry run of other bars; name another --folder, or delete it")
    file.write_text(text, encoding="utf-8")
    inputs = {
        "InpPort": port, "InpSeries": bars.instrument.unique_id, "InpSecret": os.environ.get(SECRET, "").strip(),
        "InpClock": clock.rule, "InpMaxAge": 0, "InpDefaultStop": 500,
    }  # fmt: skip
    terminal = {
        "MARKET": file, "FILES": folder, "BOOKS": folder / "books", "WATCH": SETTLED,
        "BAR_MS": int(1000 * seconds), "RUN_MS": 86_400_000, "LINGER_MS": 1_000,
    }  # fmt: skip
    return inputs, terminal


def main(words: Sequence[str] | None = None) -> int:
    """Command line; 0 once the last bar was shown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder that `tunetrade serve` serves")
    parser.add_argument("--port", type=int, default=5757, help="of the server (default: 5757)")
    parser.add_argument("--bars", type=int, default=20, help="how many of the run's last bars (default: 20)")
    parser.add_argument("--seconds", type=float, default=30.0, help="longest time of a bar (default: 30)")
    parser.add_argument("--folder", default="dry-run", help="where its state is kept (default: dry-run)")
    asked = parser.parse_args(words)
    try:
        chosen = settings(asked.run, asked.port, asked.bars, asked.seconds, Path(asked.folder).resolve())
        print("building the terminal ...", file=sys.stderr, flush=True)
        process = build().start(*chosen)
    except UserError as error:
        print(f"dry_run: error: {error}", file=sys.stderr)
        return 2
    return _shown(process)


def _shown(process: "subprocess.Popen[str]") -> int:
    """Print what it says until it ends, or Ctrl-C, which ends it too."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            kind, _, text = line.rstrip("\n").partition("\t")
            if kind in SHOWN:
                print(text.replace("\\n", "\n"), flush=True)
    except KeyboardInterrupt:
        return 130
    finally:
        process.kill()
        process.wait()
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
