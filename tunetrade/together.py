"""One training shared by several processes, as `accelerate launch ... -m tunetrade train ...` starts them.

Process 0 does what one alone would do, except that its training takes the others along, in the process that was
launched rather than in a child. The others write nothing: they wait for its word, train with it and end.
"""

import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

from forecasting.base import find_base
from forecasting.training.precision import device_of
from forecasting.training.processes import Processes, join, launched, leave
from tunetrade.cell import Cell, fingerprints, run_cell, train
from tunetrade.config import StudyConfig
from tunetrade.faults import told
from tunetrade.progress import Board
from tunetrade.study import Runner, cells, check_machines, load_series
from tunetrade.workers import Finished, run_cells, show

ALONE = (
    "accelerate started a single process: without a GPU give it --multi_gpu too, which needs none, or run "
    "`torchrun --nproc-per-node 2 -m tunetrade ...`"
)


def company(study: StudyConfig) -> Processes | None:
    """The processes that a launcher started along with this one, joined; None where there are none.

    Accelerate leaves the address to meet at also where it then starts only one process, which is worth a line.
    """
    if launched() > 1:
        return join(device_of(study.training).type == "cpu")
    if "ACCELERATE_USE_CPU" in os.environ and "MASTER_ADDR" in os.environ:
        print(f"tunetrade: {ALONE}", file=sys.stderr)
    return None


def leading(processes: Processes) -> Runner:
    """What works off a study's only cell in process 0: its training with the others, all else as ever."""

    def run(todo: list[Cell], slots: int, jobs: int, board: Board) -> Generator[Finished, None, None]:
        called = False

        def tell(message: dict[str, Any]) -> None:
            nonlocal called
            if message.get("stage") == "train":
                called = processes.told(True)
            if "of" in message:
                show(board, 0, f"train in {processes.count} processes", message)

        trained: list[Cell] = []
        failed: list[Finished] = []
        for cell in todo:
            try:
                run_cell(cell.paths.folder, tell, until="train")
                trained.append(cell)
            except Exception as error:  # as in a child: the study records it
                failed.append((cell, told(error) or f"{type(error).__name__}: {error}"))
            board.rest(0)
        if not called:
            processes.told(False)
        leave(together=not (called and failed))  # else the others are still in the training
        yield from failed
        yield from run_cells(trained, slots, jobs, board)

    return run


def follow(study: StudyConfig, runs: Path, processes: Processes) -> NoReturn:
    """Take part in the training of a study's only cell where process 0 finds that there is something to train.

    Ends the process at once: in the clean-up of an interpreter, threads that exchanged gradients were seen to abort it.
    """
    loaded = load_series(study)
    (cell,) = cells(study, runs, loaded)
    check_machines(study, [cell], loaded)
    bars = loaded[cell.source]
    fingerprint = fingerprints(cell, bars.instrument.sha256, find_base(study.base))["train"]
    if processes.told(False):
        train(cell, bars, fingerprint, lambda _: None)
    leave(together=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
