"""What the Expert Advisor keeps over restarts, whose it is, and what it does before the terminal knows its account."""

import pytest
from scripted import HOUR, Script, bars, close_ms, traded
from test_expert import FIRST, csv_of, in_tester

STATE = "EURUSD-H1-20240101-1.state"
TRAILING = {"stop": None, "trailing": 0.0005}


def kept(folder, name=STATE):
    return folder / "local" / "TuneTrade" / name


def left(folder, name=STATE, decided=0, following=()):
    """A state as an earlier run leaves it: the bar decided on, and (position, distance) of stops that follow."""
    pairs = [word for pair in following for word in pair]
    words = [3, 0, 0, decided, *[0] * 12, len(following), *pairs, "end"]
    kept(folder).parent.mkdir(parents=True)
    kept(folder, name).write_text(text := ";".join(map(str, words)))
    return text


def test_each_account_has_a_state_of_its_own(tmp_path):
    """Decisions, deals and the day's equity of one account say nothing of another that the terminal changes to."""
    assert [traded(tmp_path, Script(bars(5)), login=login).codes for login in (1, 2, 1)] == [
        ["TAKEN"], ["TAKEN"], ["DUP"],
    ]  # fmt: skip


def test_a_disk_that_is_full_leaves_the_state_before_whole_and_nothing_is_traded(tmp_path):
    before = left(tmp_path, decided=7)
    outcome = traded(tmp_path, Script(bars(5)), terminal={"DISK_FULL": 1})
    assert outcome.codes == ["GUARD:state"] and outcome.journal.deals == []
    assert kept(tmp_path).read_text() == before


def test_a_state_that_was_not_moved_into_place_is_read_where_it_is(tmp_path):
    left(tmp_path, f"{STATE}.new", decided=close_ms(FIRST))
    assert traded(tmp_path, Script(bars(5))).codes == ["DUP"]


@pytest.mark.parametrize("dry", [False, True])
def test_what_an_order_changed_is_on_the_disk_before_the_server_knows_of_it(tmp_path, dry):
    """A terminal that dies after the order must find its paper, or how far behind its stop follows, again."""
    states, rows = [], bars(5)
    name = "EURUSD-H1-20240101-1.dry.state" if dry else STATE

    def look(message):
        if message["type"] == "ok" and not states:
            states.append(kept(tmp_path, name).read_text().split(";"))
        return [message]

    outcome = traded(tmp_path, Script(rows, default=TRAILING, spoil=look), {"InpDryRun": dry})
    assert outcome.codes == ["TAKEN"]
    (state,) = states
    assert float(state[9]) == (0.1 if dry else 0) and state[14] == ("1" if dry else "0")
    assert state[16:] == (["0", "end"] if dry else ["1", "1", "0.00050000000000000001", "end"])


def test_a_terminal_that_does_not_know_its_account_yet_is_waited_for(tmp_path):
    outcome = traded(tmp_path, Script(bars(6)), connect_ms=150)
    assert outcome.codes == ["TAKEN", "NOOP"] and len(outcome.journal.deals) == 1
    assert kept(tmp_path).exists() and not kept(tmp_path, "EURUSD-H1-20240101-0.state").exists()


def test_a_deal_has_one_time_whenever_it_is_told(tmp_path):
    """The broker's seconds and the machine's do not begin together, and the server knows deals by their time."""
    outcome = traded(tmp_path, Script(bars(5)), terminal={"AHEAD_MS": 999})
    (entry,) = outcome.script.of("exec")
    assert entry["time_ms"] == close_ms(FIRST)


@pytest.mark.parametrize("inputs", [{"InpMagic": 0}, {"InpPort": 0}, {"InpBackoffMs": 0}, {"InpDailyLoss": 100}])
def test_inputs_that_cannot_be_meant_are_refused(tmp_path, inputs):
    journal = in_tester(tmp_path, csv_of(Script(bars(6))), Script(bars(6)), inputs)
    assert journal.prints[0].startswith("inputs: ") and journal.deals == []


@pytest.mark.parametrize("inputs", [{"InpKill": True, "InpKillCloses": True}, {}])
def test_on_a_real_account_that_is_not_allowed_nothing_is_sent_for_what_is_held_either(tmp_path, inputs):
    """Not by the kill switch, and no stop is moved: these too are orders."""
    left(tmp_path, following=[(1, 0.0005)])
    outcome = traded(tmp_path, Script(bars(7)), inputs, demo=0, held=["1 0.1 1.1 20240101"])
    assert set(outcome.codes) == {"GUARD:demo_only"}
    assert outcome.journal.deals == [] and outcome.journal.of("modify") == []


def test_the_kill_switch_also_holds_stops_that_would_follow(tmp_path):
    left(tmp_path, following=[(1, 0.0005)])
    outcome = traded(tmp_path, Script(bars(7)), {"InpKill": True}, held=["1 0.1 1.1 20240101"])
    assert outcome.journal.of("modify") == [] and outcome.journal.deals == []


def test_the_testers_account_is_nobodys_money(tmp_path):
    journal = in_tester(tmp_path, csv_of(Script(bars(6))), Script(bars(6)), demo=0, trade_allowed=1)
    assert [deal["side"] for deal in journal.deals] == [1]


def test_a_symbol_that_no_file_can_be_called_is_traded(tmp_path):
    script = Script(bars(5))
    outcome = traded(tmp_path, script, {"InpSeries": "EURUSD-H1"}, symbol="EUR/USD:x")
    assert outcome.codes == ["TAKEN"]
    assert kept(tmp_path, "EUR_USD_x-H1-20240101-1.state").exists()
    assert script.of("hello")[0]["symbol"] == "EUR/USD:x" and script.of("hello")[0]["tf_sec"] == HOUR


def test_a_bar_whose_ticks_have_not_all_come_is_not_sent(tmp_path):
    rows = bars(7)
    script = Script(rows)
    outcome = traded(tmp_path, script, sync_ms=120)
    assert outcome.codes == ["TAKEN", "NOOP", "NOOP"]
    (fill,) = script.of("bars")
    assert fill["closes"][-1] == rows[3][4]
    assert [bar["close"] for bar in script.of("bar")] == [rows[4][4], rows[5][4]]
