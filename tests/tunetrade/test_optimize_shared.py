"""One search in several processes: kills, torn journals and company change no trial."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from searching import journal, start, write_case

from tunetrade.ledger import trials
from tunetrade.optimize_journal import JournalFile, Search
from tunetrade.optimize_space import Dimension, OptimizeOptions, Point

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

SPACE = {
    "a": Dimension("a", (), 0.0, 1.0),
    "b": Dimension("b", ("x", "y", "z")),
    "c": Dimension("c", (), 1, 9, whole=True),
}
OPTIONS = OptimizeOptions(trials=24, population=6, space=SPACE)


def opened(folder: Path, options: OptimizeOptions = OPTIONS) -> Search:
    return Search(folder, options, None, lambda point: point["b"] != "z" or int(point["c"]) < 5)


def done(search: Search, number: int, point: Point) -> None:
    """A trial whose objectives pull apart, and whose constraint cuts a corner off."""
    a, c = float(point["a"]), int(point["c"])
    values = (a - c / 10 + (point["b"] == "y"), c - 5 * a * a)
    search.complete(number, values, {"corner": a + c / 9 - 1.5}, {"a": a})


def told(folder: Path) -> list[tuple[Any, ...]]:
    return [(t.number, t.state.name, t.params, t.values, t.constraints) for t in opened(folder).trials()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    search = opened(folder)
    for claim in search.claims():
        done(search, claim.number, claim.point)
    return folder


def test_later_generations_are_better_and_nothing_comes_twice(alone: Path) -> None:
    found = opened(alone).trials()
    assert len(found) == len({json.dumps(trial.params, sort_keys=True) for trial in found}) == 24
    assert all(trial.params["b"] != "z" or trial.params["c"] < 5 for trial in found)
    sums = [trial.values[0] + trial.values[1] / 9 - 9 * max(0.0, trial.constraints["corner"]) for trial in found]
    assert sum(sums[18:]) / 6 > sum(sums[:6]) / 6
    longer = opened(alone, OptimizeOptions(trials=24, population=6, seed=2, space=SPACE))
    assert longer.finished()


@pytest.mark.parametrize("seed", range(3))
def test_whoever_does_which_trial_in_whatever_order_they_come_out_the_same(
    seed: int, alone: Path, tmp_path: Path
) -> None:
    """Three workers; now and then one dies with a trial in hand and half a line in the journal, and another comes."""
    rng = random.Random(seed)
    workers: list[Any] = []
    held: list[Any] = []
    while not opened(tmp_path).finished():
        while len(workers) < 3:
            search = opened(tmp_path)
            workers.append((search, search.claims()))
            held.append(None)
        at = rng.randrange(3)
        search, claims = workers[at]
        if held[at] is None:
            free = [t for t in search.trials() if t.state.name == "RUNNING"]
            busy = {claim.number for claim in held if claim}
            number = len(search.trials())
            begun = search.trials()[: number - number % 6]
            open_before = any(not t.state.is_finished() for t in begun)
            if {t.number for t in free} <= busy and (open_before or number == 24):
                continue  # it would wait for the others
            held[at] = next(claims)
        elif rng.random() < 0.3:
            claims.close()
            del workers[at], held[at]
            with (tmp_path / "journal.log").open("ab") as torn:
                torn.write(b'{"op_code":5,"trial_id":0,"par')
        else:
            done(search, held[at].number, held[at].point)
            held[at] = None
    assert told(tmp_path) == told(alone)


def test_a_trial_told_while_another_looks_for_one_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the list of trials and asking for a lock, its holder tells the trial and lets go."""
    first, second = opened(tmp_path), opened(tmp_path)
    claims = first.claims()
    claim = next(claims)
    ask = second._hold

    def late(number: int, held: Any) -> bool:
        if not first.trials()[0].state.is_finished():
            done(first, claim.number, claim.point)
            claims.close()
        return ask(number, held)

    monkeypatch.setattr(second, "_hold", late)
    other = next(second.claims())
    assert (claim.number, other.number) == (0, 1)
    done(second, other.number, other.point)


def test_a_search_waits_for_its_own_trials_whatever_a_longer_one_has_done(tmp_path: Path) -> None:
    slow, fast = opened(tmp_path).claims(), opened(tmp_path)
    assert next(slow).number == 0
    for claim in fast.claims():
        done(fast, claim.number, claim.point)
        if claim.number == 2:
            break
    assert not opened(tmp_path, replace(OPTIONS, trials=2)).finished()


@pytest.mark.parametrize("able", [(), (1,), (1, 4)])
def test_trials_are_drawn_however_few_came_to_anything(able: tuple[int, ...], tmp_path: Path) -> None:
    search = opened(tmp_path)
    for claim in search.claims():
        if claim.number in able:
            done(search, claim.number, claim.point)
        else:
            search.fail(claim.number, "no account")
    assert [trial.number for trial in search.trials() if trial.state.name == "COMPLETE"] == list(able)
    assert len({json.dumps(trial.params, sort_keys=True) for trial in search.trials()}) == 24


def test_a_journal_cut_at_any_byte_is_a_shorter_journal(alone: Path, tmp_path: Path) -> None:
    whole = (alone / "journal.log").read_bytes()
    lines = list(JournalFile(alone / "journal.log").read_logs(0))
    file = tmp_path / "journal.log"
    rng = random.Random(1)
    for cut in [0, 1, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(30))]:
        file.write_bytes(whole[:cut])
        kept = list(JournalFile(file).read_logs(0))
        assert kept == lines[: len(kept)]
        backend = JournalFile(file)
        assert list(backend.read_logs(len(kept))) == []
        backend.append_logs([{"op_code": 99}, {"op_code": 98}])
        after = list(backend.read_logs(0))
        assert after[-2:] == [{"op_code": 99}, {"op_code": 98}]
        assert len(after) - len(kept) in (2, 3)  # a line whole but for its end counts once it is ended
        assert list(backend.read_logs(len(after) - 1)) == after[-1:]


def models_from(searched: Path, folder: Path) -> None:
    """The models of the undisturbed search, so that only trading is left to do."""
    shutil.copytree(searched / "runs/small/optimize/EURUSD-D1", folder / "runs/small/optimize/EURUSD-D1")


def compare(folder: Path, searched: Path) -> None:
    assert journal(folder) == journal(searched)
    keys = [line["key"] for line in trials(folder / "runs/ledger.jsonl")]
    assert len(keys) == len(set(keys))
    assert set(keys) == {line["key"] for line in trials(searched / "runs/ledger.jsonl")}
    for name in ("optimize.json", "optimized.toml", "optimize.csv"):
        assert (folder / "runs/small" / name).read_bytes() == (searched / "runs/small" / name).read_bytes()


def test_one_of_two_processes_killed_the_other_does_its_trial(
    tmp_path: Path,
    tiny_base: Path,
    searched: Path,
) -> None:
    """The other has two workers, which read the search from its own file."""
    write_case(tmp_path, tiny_base)
    models_from(searched, tmp_path)
    both = [start(tmp_path), start(tmp_path, jobs=2)]
    log = tmp_path / "stderr.txt"
    while "trial " not in log.read_text():
        assert both[0].poll() is None, log.read_text()
        time.sleep(0.02)
    os.killpg(both[0].pid, signal.SIGKILL)
    assert both[1].wait(60) == 0, log.read_text()
    both[0].wait(10)
    compare(tmp_path, searched)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_again_and_again_from_nothing_it_ends_as_undisturbed(
    seed: int,
    tmp_path: Path,
    tiny_base: Path,
    searched: Path,
) -> None:
    """Models are trained too; two processes, one of them with two workers; everything dies at once, several times."""
    write_case(tmp_path, tiny_base)
    rng = random.Random(seed)
    for _ in range(3):
        running = [start(tmp_path), start(tmp_path, jobs=2)]
        time.sleep(rng.uniform(3, 15))
        for each in running:
            if each.poll() is None:
                os.killpg(each.pid, signal.SIGKILL)
            each.wait(10)
    last = start(tmp_path, jobs=1 + seed % 2)
    try:
        assert last.wait(200) == 0, (tmp_path / "stderr.txt").read_text()
    except subprocess.TimeoutExpired:
        os.killpg(last.pid, signal.SIGKILL)
        raise
    compare(tmp_path, searched)
