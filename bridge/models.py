"""Where forecasts are made, as the server sees it: in a process of its own, or (tests, small scripts) in this one.

The models of `Worker` live in a child process, so that neither a forecast nor a crash of the model's libraries holds up
heartbeats, and the process of the sockets imports none of them. The two talk over pipes in lines of JSON: floats in
their shortest exact form arrive bit for bit, and nothing is pickled. A child that dies is started again at the next
forecast; what it was working on fails. `ask` blocks and belongs in a thread.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any, Protocol

from bridge.messages import Forecast, Message, ProtocolError, decode, encode
from bridge.service import Facts, Job
from forecasting.errors import UserError

if TYPE_CHECKING:
    from bridge.desk import Desk

Answer = tuple[Forecast | str, float]
"""A forecast or what prevented it, and the seconds that the whole batch took."""


class Models(Protocol):
    """Whatever makes forecasts of jobs."""

    def start(self) -> Mapping[str, Facts]:
        """Get ready, which may take long; facts of each desk, by key. UserError where it cannot be."""
        ...

    def ask(self, jobs: Sequence[Job]) -> list[Answer]:
        """The answer to each job; never raises for what a model does."""
        ...

    def close(self) -> None:
        """End at once."""
        ...


class Inline:
    """Desks of this process."""

    def __init__(self, desks: Sequence["Desk"]) -> None:
        self._desks = {desk.facts.key: desk for desk in desks}

    def start(self) -> Mapping[str, Facts]:
        """Ready at once."""
        return {key: desk.facts for key, desk in self._desks.items()}

    def ask(self, jobs: Sequence[Job]) -> list[Answer]:
        """In the calling thread."""
        return answers_of(jobs, self._desks)

    def close(self) -> None:
        """Nothing to end."""


def answers_of(jobs: Sequence[Job], desks: Mapping[str, "Desk"]) -> list[Answer]:
    """Forecasts of jobs with their seconds; a failure is logged where the model is."""
    import logging
    import time

    from bridge.desk import forecast_jobs

    begun = time.perf_counter()
    made = forecast_jobs(jobs, desks)
    seconds = time.perf_counter() - begun
    for job, answer in zip(jobs, made, strict=True):
        if isinstance(answer, Exception):
            logging.getLogger(__name__).error("no forecast of %s", job.desk, exc_info=answer)
    return [
        (f"{type(answer).__name__}: {answer}" if isinstance(answer, Exception) else answer, seconds) for answer in made
    ]


class Worker:
    """Desks of a child process.

    maker: "module:function" that makes them from `arguments`, in the child.
    """

    def __init__(self, maker: str, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", "bridge.worker", maker, *arguments]
        self._lock = threading.Lock()
        self._closed = False
        self._child = self._spawn()

    @property
    def pid(self) -> int:
        """Process id of the child, for measurements."""
        return self._child.pid

    def start(self) -> Mapping[str, Facts]:
        """Wait until the child has loaded its models."""
        return self._told()

    def ask(self, jobs: Sequence[Job]) -> list[Answer]:
        """Send jobs, wait for their answers."""
        try:
            with self._lock:
                if self._child.poll() is not None and not self._closed:
                    self._child = self._spawn()
                    self._told()
            self._send([_plain(job) for job in jobs])
            told = self._receive()
        except (OSError, EOFError, UserError) as error:
            with self._lock:
                self._child.kill()
                self._child.wait()
            return [(f"the process of the models ended: {error}", 0.0)] * len(jobs)
        return [(one["error"] if "error" in one else _forecast(one), told["seconds"]) for one in told["answers"]]

    def close(self) -> None:
        """Kill the child: it keeps nothing that could be lost."""
        with self._lock:
            self._closed = True
            self._child.kill()
            self._child.wait()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        # A session of its own: Ctrl-C at the terminal is for the server, which then ends the child.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        return subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )

    def _told(self) -> dict[str, Facts]:
        """The child's first words: what it serves, or why it cannot."""
        try:
            told = self._receive()
        except EOFError:
            raise UserError("the process of the models ended before it was ready; its message stands above") from None
        if "error" in told:
            raise UserError(told["error"])
        facts = [Facts(**values) for values in told["facts"]]
        return {desk.key: desk for desk in facts}

    def _send(self, value: Any) -> None:
        write_line(_open(self._child.stdin), value)

    def _receive(self) -> Any:
        return read_line(_open(self._child.stdout))


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def write_line(pipe: IO[bytes], value: Any) -> None:
    """One value as a line of JSON."""
    pipe.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")
    pipe.flush()


def read_line(pipe: IO[bytes]) -> Any:
    """The next value; EOFError where the other side has ended."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError("end of the pipe")
    return json.loads(line)


def _plain(job: Job) -> dict[str, Any]:
    return vars(job)


def job_of(values: dict[str, Any]) -> Job:
    """A job back from JSON."""
    return Job(**values | {"rows": tuple(tuple(row) for row in values["rows"])})


def told_of(answers: Sequence[Answer]) -> dict[str, Any]:
    """Answers for JSON."""
    return {"answers": [_told(made) for made, _ in answers], "seconds": answers[0][1]}


def _told(made: Forecast | str) -> dict[str, str]:
    try:
        return {"error": made} if isinstance(made, str) else {"frame": encode(made)[1].decode()}
    except ProtocolError as error:
        return {"error": error.text}


def facts_told(facts: Mapping[str, Facts]) -> dict[str, Any]:
    """Facts for JSON."""
    return {"facts": [asdict(desk) for desk in facts.values()]}


def _forecast(values: dict[str, str]) -> Forecast:
    message: Message = decode([b"forecast", values["frame"].encode()])
    assert isinstance(message, Forecast)
    return message
