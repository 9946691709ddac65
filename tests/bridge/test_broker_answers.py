"""The Expert Advisor's own code under what brokers answer against all rules: no order doubled, none lost.

Each line of `answer` is what the simulated broker says to the next order: code, share of it that he does, after so
many ms (bridge/terminal/README.md).
"""

import pytest
from scripted import HOUR, START, Script, bars, close_ms, traded
from test_expert import FIRST, csv_of, in_tester

REQUOTE, PLACED, DONE, PARTIAL, TIMEOUT, NO_MONEY, CLOSED, PRICE_OFF, FILLING = (
    10004, 10008, 10009, 10010, 10012, 10019, 10018, 10021, 10030,
)  # fmt: skip
FLAT = {"position": 0.0, "lots": 0.0, "stop": None, "reason": "flat: because"}
SHORT = {"position": -1.0, "stop": 1.2}


def sides(journal):
    return [(deal["side"], deal["lots"]) for deal in journal.deals]


def net(journal):
    return round(sum(deal["side"] * deal["lots"] for deal in journal.deals), 8)


def test_a_requote_is_asked_again_and_opens_once(tmp_path):
    outcome = traded(tmp_path, Script(bars(5)), answer=[REQUOTE, REQUOTE, DONE])
    assert outcome.codes == ["TAKEN"] and sides(outcome.journal) == [(1, 0.1)]
    assert len(outcome.journal.of("answered")) == 3


@pytest.mark.parametrize("code", [REQUOTE, NO_MONEY, CLOSED, PRICE_OFF, FILLING, TIMEOUT])
def test_an_entry_that_is_refused_is_told_and_not_sent_again_later(tmp_path, code):
    outcome = traded(tmp_path, Script(bars(5)), answer=[f"{code} 0"] * 20)
    assert outcome.codes == ["FAILED"] and str(code) in outcome.texts[0]
    assert outcome.journal.deals == []
    assert len(outcome.journal.of("answered")) == (3 if code == REQUOTE else 1)


def test_an_entry_filled_in_part_is_kept_and_closed_as_it_is(tmp_path):
    script = Script(bars(7), {FIRST + 2 * HOUR: FLAT})
    outcome = traded(tmp_path, script, answer=[f"{PARTIAL} 0.5"])
    assert outcome.codes == ["TAKEN", "NOOP", "TAKEN"]
    assert sides(outcome.journal) == [(1, 0.05), (-1, 0.05)]
    assert [deal["lots"] for deal in script.of("exec")] == [0.05, 0.05]


@pytest.mark.parametrize("answers", [[DONE, f"{PARTIAL} 0.5"], [DONE, CLOSED], [DONE, f"{TIMEOUT} 0"]])
def test_a_close_that_was_not_done_or_half_done_is_finished_at_the_next_tick(tmp_path, answers):
    script = Script(bars(7), {START + i * HOUR: FLAT for i in range(4, 7)})
    journal = in_tester(tmp_path, csv_of(script), script, answer=answers)
    assert net(journal) == 0 and {deal["side"] for deal in journal.deals[1:]} == {-1}
    assert {deal["bar"] for deal in journal.deals[1:]} == {5}


def test_what_a_forecast_gave_up_is_told_as_not_done(tmp_path):
    script = Script(bars(6), {FIRST + HOUR: FLAT})
    outcome = traded(tmp_path, script, answer=[DONE, f"{PARTIAL} 0.5"])
    assert outcome.codes == ["TAKEN", "FAILED"] and "0.05 of 0.10 lots are still held" in outcome.texts[1]


def test_the_other_side_is_not_opened_before_all_is_closed(tmp_path):
    short = {START + i * HOUR: SHORT for i in range(4, 7)}
    journal = in_tester(tmp_path, csv_of(Script(bars(7), short)), Script(bars(7)), answer=[DONE, f"{PARTIAL} 0.5"])
    assert sides(journal)[:3] == [(1, 0.1), (-1, 0.05), (-1, 0.05)]
    assert [deal["bar"] for deal in journal.deals[:3]] == [4, 5, 5]
    assert sides(journal)[3:] == [(-1, 0.1)]  # on the next forecast


def test_a_reversal_done_in_part_on_a_netting_account_leaves_nothing_of_the_old_side(tmp_path):
    short = {START + i * HOUR: SHORT for i in range(4, 7)}
    journal = in_tester(
        tmp_path, csv_of(Script(bars(7), short)), Script(bars(7)), hedging=0, answer=[DONE, f"{PARTIAL} 0.25"]
    )
    assert sides(journal) == [(1, 0.1), (-1, 0.05), (-1, 0.05), (-1, 0.1)]
    assert [deal["bar"] for deal in journal.deals] == [4, 5, 5, 6]


def test_a_reversal_that_is_done_after_the_terminal_gave_up_waiting_is_not_doubled(tmp_path):
    """The broker's answer is lost and the order was done: closing what the books still show would open it twice."""
    script = Script(bars(6), {FIRST + HOUR: SHORT})
    outcome = traded(tmp_path, script, hedging=0, answer=[DONE, f"{TIMEOUT} 1 20"], terminal={"WATCH": '"type":"exec"'})
    assert outcome.codes == ["TAKEN", "FAILED"] and sides(outcome.journal) == [(1, 0.1), (-1, 0.2)]


LATE = [(f"{DONE} 1 150", 1), (f"{PLACED} 1 150", 1), (f"{DONE} 1 150", 0), (f"{PLACED} 1 150", 0)]


@pytest.mark.parametrize(("answer", "hedging"), LATE)
def test_books_that_lag_behind_the_brokers_answer_do_not_close_twice(tmp_path, answer, hedging):
    """At the weekend's first bar the guard closes, and the forecast that comes then finds it still held."""
    start = START + 3 * 24 * HOUR + 15 * HOUR  # Friday, 18:00
    script = Script(bars(7, start))
    inputs = {"InpFridayClose": "23:30", "InpTimerMs": 2}
    outcome = traded(tmp_path, script, inputs, hedging=hedging, answer=[DONE, answer], terminal={"LINGER_MS": 300})
    assert "GUARD:friday_close" in outcome.codes
    assert sides(outcome.journal) == [(1, 0.1), (-1, 0.1)]
    assert len(outcome.journal.of("answered")) == 2 and outcome.journal.of("refused") == []


@pytest.mark.parametrize(("answer", "hedging"), LATE)
def test_a_position_that_appears_late_keeps_its_trailing_distance_and_its_reason(tmp_path, answer, hedging):
    trailing = {"stop": None, "trailing": 0.00045}
    script = Script(bars(7), default=trailing)
    where = {"WATCH": '"type":"exec"|"code":"NOOP"', "BAR_MS": 600}
    outcome = traded(tmp_path, script, hedging=hedging, answer=[answer], terminal=where)
    assert outcome.codes[0] == "TAKEN" and sides(outcome.journal)[0] == (1, 0.1)
    assert outcome.journal.of("modify")
    (entry,) = [deal for deal in script.of("exec") if deal["entry"] == "in"]
    assert entry["reason"] == "signal" and entry["requested"] > 0 and entry["bar_time_ms"] == close_ms(FIRST)


def test_what_expires_is_closed_each_time_in_the_strategy_tester(tmp_path):
    """Many bars pass there within the seconds that a terminal waits before it tries to close again."""
    rows = bars(40)
    script = Script(rows, default={"expiry_ms": 0})
    lines = csv_of(script).splitlines()
    every = [line.split(",") for line in lines[2::6]]
    expiring = [",".join([*row[:12], str(int(row[0]) + 3 * HOUR), row[13]]) for row in every]
    journal = in_tester(tmp_path, "\n".join([*lines[:2], *expiring]) + "\n", script)
    assert [deal["bar"] for deal in journal.deals if deal["side"] > 0] == [7, 13, 19, 25, 31, 37]
    assert [deal["bar"] for deal in journal.deals if deal["side"] < 0] == [9, 15, 21, 27, 33, 39]
