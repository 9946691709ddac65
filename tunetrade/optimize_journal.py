"""One search shared by several processes: Optuna's journal in a file no kill can spoil, and who does which trial.

A trial is written RUNNING with all its parameters in one line, by a process that holds the lock of its number as long
as it works on it. The system frees the lock when that process dies, and whoever looks next takes the trial up again.
"""

import contextlib
import json
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from tunetrade.ledger import append_line
from tunetrade.locks import if_free, in_turn
from tunetrade.optimize_models import LOCKS
from tunetrade.optimize_sampler import distributions, next_point
from tunetrade.optimize_space import OptimizeOptions, Point

JOURNAL = "journal.log"
POLL_SECONDS = 0.2
DIRECTIONS: list[Literal["maximize", "minimize"]] = ["maximize", "maximize"]

Json = dict[str, Any]


class JournalFile(BaseJournalBackend):
    """Optuna's operations as JSON lines, appended whole; a line torn by a kill is ended by the next one and skipped."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._at = (0, 0)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Operations from a number on, torn lines not counted."""
        if not self._file.is_file():
            return
        number, offset = self._at if self._at[0] <= log_number_from else (0, 0)
        with self._file.open("rb") as lines:
            lines.seek(offset)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                operation = _operation(line)
                if operation is not None:
                    if number >= log_number_from:
                        self._at = (number, offset)
                        yield operation
                    number += 1
                offset += len(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Put operations on disk; on failure (a full disk) the file is as it was."""
        with in_turn(self._file.with_name(".journal.lock")):
            append_line(self._file, "\n".join(json.dumps(log, separators=(",", ":")) for log in logs))


def _operation(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "op_code" in found else None


@dataclass(frozen=True)
class Claim:
    """A trial to do: its number and its point."""

    number: int
    point: Point


class Search:
    """The trials of a search in its folder, as one process sees them."""

    def __init__(
        self, folder: Path, options: OptimizeOptions, own: Point | None, fits: Callable[[Point], bool]
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._folder, self._options, self._own, self._fits = folder, options, own, fits
        folder.mkdir(parents=True, exist_ok=True)
        with self._claiming():
            self.study = optuna.create_study(
                storage=JournalStorage(JournalFile(folder / JOURNAL)),
                sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: `next_point` draws
                study_name="optimize",
                directions=DIRECTIONS,
                load_if_exists=True,
            )

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return sorted(self.study.get_trials(deepcopy=False), key=lambda trial: trial.number)

    def claims(self) -> Generator[Claim, None, None]:
        """Trials for this process to do, one at a time, until all are done; each must be told before the next.

        Waits while other processes do the last trials of a generation.
        """
        while not self.finished():
            with contextlib.ExitStack() as held:
                claim = self._claim(held)
                if claim:
                    yield claim
                    continue
            time.sleep(POLL_SECONDS)

    def finished(self) -> bool:
        """Whether all trials asked for are done; later ones, of a process that was asked for more, do not count."""
        asked = self.trials()[: self._options.trials]
        return len(asked) == self._options.trials and all(trial.state.is_finished() for trial in asked)

    def complete(self, number: int, values: tuple[float, float], constraints: dict[str, float], figures: Json) -> None:
        """Record what came of a trial: objectives, constraints (above 0: not met), and figures for people."""
        trial = self._trial(number)
        trial.set_user_attr("figures", figures)
        for name, value in constraints.items():
            if name not in trial.constraints:
                trial.set_constraint(name, value)
        self.study.tell(number, list(values), TrialState.COMPLETE)

    def fail(self, number: int, why: str) -> None:
        """Record that a trial came to nothing."""
        self._trial(number).set_user_attr("failure", why)
        self.study.tell(number, state=TrialState.FAIL)

    def _trial(self, number: int) -> Trial:
        """A trial that can be written to, also where another process began it; Optuna has no public way to that."""
        return Trial(self.study, self.trials()[number]._trial_id)

    def _claiming(self) -> contextlib.AbstractContextManager[None]:
        return in_turn(self._folder / LOCKS / "claim")

    def _claim(self, held: contextlib.ExitStack) -> Claim | None:
        """A trial whose process is gone, or the next; its lock goes into `held`."""
        with self._claiming():
            trials = self.trials()
            for trial in trials:
                if trial.state == TrialState.RUNNING and self._hold(trial.number, held):
                    if not self.trials()[trial.number].state.is_finished():
                        return Claim(trial.number, trial.params)
                    held.close()  # its process told it and let go after the list was read
            number = len(trials)
            first = number - number % self._options.population
            open_before = any(not trial.state.is_finished() for trial in trials[:first])
            if number >= self._options.trials or open_before or not self._hold(number, held):
                return None
            point = next_point(self.study, number, self._options.space, self._options, self._own, self._fits)
            kinds = distributions(self._options.space)
            new = create_trial(state=TrialState.RUNNING, params=dict(point), distributions=kinds)
            self.study.add_trial(new)
            return Claim(number, point)

    def _hold(self, number: int, held: contextlib.ExitStack) -> bool:
        with contextlib.ExitStack() as own:
            if own.enter_context(if_free(self._folder / LOCKS / str(number))):
                held.push(own.pop_all())
                return True
        return False
