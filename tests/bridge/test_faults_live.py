"""Faults between the real server and the Expert Advisor as it ships, each in a process of its own."""

import random
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

if sys.platform != "linux":
    pytest.skip("signals, limits and the simulated terminal of Linux", allow_module_level=True)

from scene import ANY, WARM, Scene, walk

HOURS = 3600
AT_MOST_S = 5.0
TIMES = 20


def told(what, scenes):
    """Shown with `pytest -rP`."""
    seconds = [second for scene in scenes for second in scene.recovered]
    print(
        f"{what}: {len(seconds)} times, recovered in {statistics.median(seconds):.2f} s, {max(seconds):.2f} s at most"
    )
    return max(seconds)


def disturbed(folder, faults, seed, count, missed=0, pause=0.25, **how):
    """A run with these faults at random moments, a pause at most from one to the next; its invariants checked."""
    draw = random.Random(seed)
    with Scene(folder, walk(count, holes=how.pop("holes", 0)), **how) as scene:
        for fault in faults:
            scene.disturb(draw, getattr(scene, fault), pause)
        scene.finish()
    scene.check(missed)
    return scene


def test_one_fault_of_each_kind_stales_doubles_and_loses_nothing(tmp_path):
    faults = ["cut_up", "cut_down", "half_open", "stall", "stop_server", "mangle", "fill_disk", "jump", "kill_expert"]
    random.Random(1).shuffle(faults)
    faults += ["kill_server"]
    scene = disturbed(tmp_path, faults, 1, WARM + 90, pause=0.1, quick=True, terminal={"JUMP_S": -5 * HOURS})
    assert len(scene.recovered) == 10 and max(scene.recovered) < AT_MOST_S
    assert len(scene.deals()) > 20


def test_bars_that_went_by_unanswered_are_sent_later_and_forecasts_that_came_late_are_not_traded(tmp_path):
    faults = ["stall", "jump", "jump", "stall"]
    where = {"JUMP_S": 5 * HOURS}
    scene = disturbed(tmp_path, faults, 2, WARM + 120, ANY, quick=True, waits=False, terminal=where, holes=8)
    codes = {code for (code,) in scene.kept("SELECT code FROM acks")}
    assert {"TAKEN", "STALE"} <= codes


FAULTS = {
    "kill_server": {},
    "cut_up": {},
    "cut_down": {},
    "kill_expert": {"missed": TIMES},
    "half_open": {},
    "stall": {},
    "stop_server": {},
    "mangle": {},
    "fill_disk": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["inline", "worker"])
@pytest.mark.parametrize("fault", FAULTS)
def test_twenty_faults_at_random_moments(tmp_path, fault, how):
    if how == "worker" and fault != "kill_server":
        pytest.skip("the process of the models has a part in this fault only")
    count = WARM + (900 if fault in ("mangle", "kill_expert") else 400)
    scene = disturbed(tmp_path, [fault] * TIMES, 10, count, how=how, **FAULTS[fault])
    assert len(scene.recovered) == TIMES
    assert fault != "mangle" or scene.relay.mangled > 100
    assert told(f"{fault}, {how}", [scene]) <= AT_MOST_S


@pytest.mark.slow
@pytest.mark.parametrize("hours", [5, -5, 24 * 30, -24 * 30])
def test_a_clock_that_jumps_twenty_times(tmp_path, hours):
    where = {"JUMP_S": hours * HOURS, "BAR_MS": 300}
    scene = disturbed(tmp_path, ["jump"] * TIMES, 11, WARM + 500, ANY if hours > 0 else 0, terminal=where)
    assert told(f"clock jump of {hours} h", [scene]) <= AT_MOST_S


@pytest.mark.slow
def test_gaps_in_the_bars(tmp_path):
    scene = disturbed(tmp_path, ["stall"] * TIMES, 12, WARM + 1500, ANY, waits=False, holes=40)
    assert told("bars that went by unanswered, and 40 holes", [scene]) <= AT_MOST_S


@pytest.mark.slow
def test_stalls_of_thirty_seconds(tmp_path):
    """Twenty at once: ten of the network, ten of the server's process; and four servers that are away for so long."""
    kinds = ["stall"] * 10 + ["stop_server"] * 10 + ["outage"] * 4

    def one(number):
        draw = random.Random(100 + number)
        with Scene(tmp_path / str(number), walk(WARM + 80)) as scene:
            whole = getattr(scene, kinds[number])
            scene.disturb(draw, lambda draw: whole(draw, (30.0, 30.0)), pause=1.0)
            scene.finish()
        scene.check()
        return scene

    with ThreadPoolExecutor(len(kinds)) as pool:
        scenes = list(pool.map(one, range(len(kinds))))
    assert told("30 s stall", scenes[:20]) <= AT_MOST_S
    assert told("30 s without a server", scenes[20:]) <= AT_MOST_S
