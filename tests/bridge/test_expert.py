"""The Expert Advisor as it ships, in the simulated terminal, against a scripted server."""

import pytest
from scripted import EPOCH, HOUR, START, TRADING, Script, bars, close_ms, market_file, traded
from simulated import built, ran

from bridge.terminal.build import EXPERT
from strategies.targets import COLUMNS, HEADER

FIRST = START + 3 * HOUR
"""Open of the bar that has closed last when the EA starts."""


def test_it_greets_backfills_trades_and_tells(tmp_path):
    rows = bars(7)
    flat = {"position": 0.0, "lots": 0.0, "stop": None, "reason": "flat: because"}
    script = Script(rows, {START + 5 * HOUR: flat}, secret="correct horse battery")
    outcome = traded(tmp_path, script, {"InpSecret": "correct horse battery"}, commission=3.5)
    assert outcome.codes == ["TAKEN", "NOOP", "TAKEN"]
    hello = script.of("hello")[0]
    assert (
        hello["symbol"] == "EURUSD" and hello["tf_sec"] == HOUR and hello["is_demo"] and hello["account"] == "hedging"
    )
    assert hello["utc_offset_sec"] == 7200 and hello["point"] == 1e-05
    (fill,) = script.of("bars")
    assert fill["restart"] and not fill["more"] and fill["times_ms"] == [close_ms(row[0]) for row in rows[1:4]]
    assert [fill[name] for name in ("opens", "highs", "lows", "closes")] == [
        [row[i] for row in rows[1:4]] for i in (1, 2, 3, 4)
    ]
    first, second = script.of("bar")
    assert (first["prev_ms"], first["time_ms"]) == (close_ms(FIRST), close_ms(FIRST + HOUR))
    assert first["spread"] == 8 and first["position"] == 0.1 and second["position"] == 0.1
    bought = round(rows[4][1] + 8e-5, 6)
    assert first["equity"] == pytest.approx(10_000 - 0.35 + 10_000 * (rows[4][4] - bought), abs=0.01)
    assert outcome.deals() == [(4, 1, 0.1, bought), (6, -1, 0.1, rows[6][1])]
    entry, leave = script.of("exec")
    assert (entry["side"], entry["entry"]) == ("buy", "in")
    assert entry["price"] == entry["requested"] == pytest.approx(bought)
    assert (entry["bar_time_ms"], entry["reason"]) == (close_ms(FIRST), "signal")
    assert entry["commission"] == pytest.approx(-0.35)
    assert (leave["side"], leave["entry"], leave["reason"]) == ("sell", "out", "signal")
    assert leave["profit"] == pytest.approx(10_000 * (rows[6][1] - bought), abs=1e-3)
    assert outcome.journal.end["longest_call_us"] < 500_000


def one(tmp_path, inputs=None, *, target=None, rows=None, **how):
    """The outcome of a single forecast, for a long position unless said otherwise."""
    rows = rows or bars(5)
    return traded(tmp_path, Script(rows, {FIRST: target or {}}), inputs, **how)


REAL = {"demo": 0}
GUARDS = {
    "max_spread": ({"InpMaxSpread": 7}, {}, {}, "spread 8 points, at most 7"),
    "feed_mismatch": ({}, {"close_ref": 1.09}, {}, "the forecast is of a close 1.09"),
    "hours": ({"InpHours": "08:00-20:00"}, {}, {}, "outside 08:00-20:00"),
    "kill": ({"InpKill": True}, {}, {}, "the kill switch is on"),
    "demo_only": ({}, {}, REAL, "a real account"),
    "no_stop": ({}, {"stop": None}, {}, "has no stop loss"),
    "not_allowed": ({}, {}, {"trade_allowed": 0}, "algorithmic trading is switched off"),
}


@pytest.mark.parametrize("rule", GUARDS)
def test_a_guard_forbids_the_order_and_the_ack_says_why(tmp_path, rule):
    inputs, target, market, text = GUARDS[rule]
    outcome = one(tmp_path, inputs, target=target, **market)
    assert outcome.codes == [f"GUARD:{rule}"]
    assert text in outcome.texts[0]
    assert outcome.journal.deals == [] and outcome.script.of("exec") == []


def test_with_the_guards_satisfied_the_same_order_is_sent(tmp_path):
    inputs = {
        "InpMaxSpread": 8,
        "InpMaxAge": 30,
        "InpHours": "22:00-08:00",
        "InpAllowReal": True,
        "InpDefaultStop": 300,
    }
    outcome = one(tmp_path, inputs, target={"stop": None}, **REAL)
    assert outcome.codes == ["TAKEN"]
    assert len(outcome.journal.deals) == 1


def test_the_kill_file_stops_everything(tmp_path):
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "TuneTrade.kill").touch()
    outcome = one(tmp_path)
    assert outcome.codes == ["GUARD:kill"] and outcome.journal.deals == []


def test_an_entry_too_long_after_the_close_is_forbidden(tmp_path):
    rows = [*bars(4), (START + 5 * HOUR, 1.1, 1.101, 1.099, 1.1, 8)]  # an hour without ticks
    valid = {"valid_until_ms": close_ms(START + 9 * HOUR)}
    outcome = one(tmp_path, {"InpMaxAge": 30}, target=valid, rows=rows)
    assert outcome.codes == ["GUARD:max_age"] and "3600 s ago, at most 30" in outcome.texts[0]
    assert outcome.journal.deals == []


def test_positions_with_our_number_are_counted_and_those_of_others_left_alone(tmp_path):
    rows = bars(6)
    larger = {"lots": 0.3, "resize": True}
    outcome = traded(tmp_path, Script(rows, {FIRST + HOUR: larger}), {"InpMaxPositions": 1}, held=["-1 0.5 1.1 7"])
    assert outcome.codes == ["TAKEN", "GUARD:max_positions"]
    assert [deal["lots"] for deal in outcome.journal.deals] == [0.1]


def test_the_daily_loss_closes_and_ends_the_day(tmp_path):
    rows = [
        *bars(5),
        (START + 5 * HOUR, 1.09, 1.0905, 1.0895, 1.09, 8),
        (START + 6 * HOUR, 1.09, 1.0905, 1.0895, 1.09, 8),
    ]
    stop = {"stop": 1.05}
    script = Script(rows, default=stop)
    outcome = traded(tmp_path, script, {"InpDailyLoss": 0.5, "InpFeedPoints": 2000}, warm=4)
    assert outcome.codes[0] == "TAKEN" and "GUARD:daily_loss" in outcome.codes[1:]
    assert [deal["side"] for deal in outcome.journal.deals] == [1, -1]
    assert outcome.script.of("exec")[-1]["reason"] == "guard"


def test_on_friday_evening_all_is_closed_and_nothing_opened(tmp_path):
    start = START + 3 * 24 * HOUR + 15 * HOUR  # Friday, 18:00
    rows = bars(7, start)
    outcome = traded(tmp_path, Script(rows), {"InpFridayClose": "23:30"})
    friday = [code for code in outcome.codes if code != "NOOP"]
    assert friday[0] == "TAKEN" and "GUARD:friday_close" in friday[1:]
    assert [deal["side"] for deal in outcome.journal.deals] == [1, -1]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ({"valid_until_ms": 1000}, "STALE"),
        ({"bar_time_ms": close_ms(FIRST) - HOUR * 1000}, "STALE"),
        ({"position": 0.0, "lots": 0.0, "stop": None}, "NOOP"),
        ({"lots": 0.0, "stop": None}, "NOOP"),
    ],
)
def test_what_is_stale_or_wants_nothing_sends_no_order(tmp_path, target, code):
    outcome = one(tmp_path, target=target)
    assert outcome.codes == [code] and outcome.journal.deals == []


def test_a_dry_run_sends_nothing_and_tells_what_it_would_have_done(tmp_path):
    rows = bars(6)
    script = Script(rows, {FIRST + HOUR: {"position": -1.0, "stop": 1.2}})
    outcome = traded(tmp_path, script, {"InpDryRun": True})
    assert outcome.codes == ["TAKEN", "TAKEN"] and outcome.journal.deals == []
    assert all(message["dry_run"] for message in script.of("ack") + script.of("exec"))
    told = [(deal["side"], deal["entry"], deal["lots"]) for deal in script.of("exec")]
    assert told == [("buy", "in", 0.1), ("sell", "out", 0.1), ("sell", "in", 0.1)]


@pytest.mark.parametrize(("hedging", "sides"), [(1, [(1, 0.1), (-1, 0.1), (-1, 0.2)]), (0, [(1, 0.1), (-1, 0.3)])])
def test_a_reversal_closes_first_or_turns_round_in_one_deal(tmp_path, hedging, sides):
    short = {"position": -1.0, "lots": 0.2, "stop": 1.2}
    outcome = traded(tmp_path, Script(bars(6), {FIRST + HOUR: short}), hedging=hedging)
    assert outcome.codes == ["TAKEN", "TAKEN"]
    assert [(deal["side"], deal["lots"]) for deal in outcome.journal.deals] == sides


def test_a_position_follows_the_lots_wanted_only_where_it_may(tmp_path):
    wanted = {
        FIRST + HOUR: {"lots": 0.3},
        FIRST + 2 * HOUR: {"lots": 0.3, "resize": True},
        FIRST + 3 * HOUR: {"lots": 0.15, "resize": True},
    }
    outcome = traded(tmp_path, Script(bars(8), wanted))
    assert outcome.codes == ["TAKEN", "NOOP", "TAKEN", "TAKEN"]
    assert [(deal["side"], deal["lots"]) for deal in outcome.journal.deals] == [
        (1, 0.1),
        (1, 0.2),
        (-1, 0.1),
        (-1, 0.05),
    ]


@pytest.mark.parametrize(
    ("inputs", "lots"),
    [
        ({"InpSizing": 1, "InpLots": 0.257}, 0.25),
        ({"InpSizing": 2, "InpRiskPercent": 1.0}, 0.19),  # 100 lost over 508 points of 1 a lot
        ({"InpMaxLots": 0.05}, 0.05),
    ],
)
def test_lots_are_floored_to_steps_and_bounded(tmp_path, inputs, lots):
    outcome = one(tmp_path, inputs)
    assert [deal["lots"] for deal in outcome.journal.deals] == [lots]


@pytest.mark.parametrize(("filling", "execution"), [(1, 2), (2, 2), (0, 3)])
def test_the_filling_mode_is_the_symbols_own(tmp_path, filling, execution):
    assert one(tmp_path, filling=filling, execution=execution).codes == ["TAKEN"]


def test_a_refusal_of_the_broker_is_told(tmp_path):
    outcome = one(tmp_path, answer=[10018])
    assert outcome.codes == ["FAILED"] and "10018" in outcome.texts[0]


def test_a_stop_nearer_than_the_brokers_least_distance_is_not_sent(tmp_path):
    outcome = one(tmp_path, stops_level=600)
    assert outcome.codes == ["FAILED"] and "least distance" in outcome.texts[0]
    assert outcome.journal.of("refused") == []


def test_a_stop_that_is_hit_is_told_and_a_trailing_stop_follows(tmp_path):
    rows = bars(7)
    outcome = traded(tmp_path, Script(rows, default={"stop": None, "trailing": 0.00045}))
    moved = [float(text.split()[1]) for text in outcome.journal.of("modify")]
    assert outcome.codes[0] == "TAKEN"
    assert moved and moved == sorted(moved)
    tight = traded(tmp_path / "b", Script(bars(7), {FIRST: {"stop": round(bars(7)[4][1] - 2e-4, 5)}}))
    deals = tight.journal.deals
    assert (deals[1]["side"], deals[1]["reason"]) == (-1, 4)
    assert deals[1]["price"] == round(rows[4][1] - 2e-4, 5)
    told = next(deal for deal in tight.script.of("exec") if deal["entry"] == "out")
    assert told["reason"] == "stop" and told["requested"] is None


@pytest.mark.parametrize(("opens", "why"), [(1.09995, "trailing"), (1.099, "stop")])
def test_a_stop_that_is_leapt_over_closes_and_the_same_side_waits_for_the_next_bar(tmp_path, opens, why):
    """The close would have moved the stop from 1.0999 to 1.1; beyond the first the broker closes, between them we."""
    rows = [*bars(5), (START + 5 * HOUR, opens, 1.1, 1.0988, 1.099, 8)]
    outcome = traded(tmp_path, Script(rows, default={"stop": None, "trailing": 0.0005}))
    assert outcome.codes == ["TAKEN", "NOOP"] and "stopped just now" in outcome.texts[1]
    assert outcome.deals()[1] == (5, -1, 0.1, opens)
    assert outcome.script.of("exec")[1]["reason"] == why


def test_each_position_keeps_its_own_trailing_distance_over_a_restart(tmp_path):
    """Positions 1 and 2, 50 and 30 points behind the closes, as a state file says that an earlier run left."""
    state = tmp_path / "local" / "TuneTrade" / "EURUSD-H1-20240101-1.state"
    state.parent.mkdir(parents=True)
    state.write_text("3;0;0;0;0;0;0;0;0;0;0;0;0;0;0;0;2;1;0.0005;2;0.0003;end")
    rows = [(*row[:3], round(row[1] - 1e-4, 5), *row[4:]) for row in bars(7)]
    outcome = traded(tmp_path, Script(rows), held=["1 0.1 1.1 20240101"] * 2)
    moved = [[float(word) for word in text.split()[:2]] for text in outcome.journal.of("modify")]
    levels = [[ticket, round(rows[at][4] - away, 5)] for at in (4, 5) for ticket, away in ((1, 5e-4), (2, 3e-4))]
    assert sorted(moved) == sorted(levels)
    kept = state.read_text().split(";")
    assert kept[16:] == ["2", "1", "0.00050000000000000001", "2", "0.00029999999999999997", "end"]


def test_an_expired_target_waits_a_moment_for_the_forecast_that_may_renew_it(tmp_path):
    rows = bars(7)
    soon = {FIRST: {"expiry_ms": close_ms(FIRST) + HOUR * 1000}}
    later = {START + i * HOUR: {"valid_until_ms": 1} for i in range(4, 7)}
    outcome = traded(tmp_path, Script(rows, soon | later), terminal={"LINGER_MS": 0})
    assert outcome.codes[:2] == ["TAKEN", "STALE"]
    assert [deal["side"] for deal in outcome.journal.deals] == [1]


def test_a_restart_neither_doubles_the_order_nor_forgets_the_deal(tmp_path):
    script = Script(bars(5))
    first = traded(tmp_path, script)
    again = Script(bars(5), epoch=EPOCH + 1)
    second = traded(tmp_path, again)
    assert first.codes == ["TAKEN"] and second.codes == ["DUP"]
    assert second.journal.deals == []
    assert (again.of("hello")[0]["last_epoch"], again.of("hello")[0]["last_seq"]) == (EPOCH, 2)


def test_a_lost_message_is_noticed_and_only_the_snapshot_is_traded(tmp_path):
    rows = bars(6)
    lost = []

    def spoil(message):
        if message["type"] == "ok" and not lost:
            lost.append(message)
            return []
        return [message]

    script = Script(rows, {FIRST + HOUR: {"position": -1.0, "stop": 1.2}}, spoil=spoil)
    outcome = traded(tmp_path, script, terminal={"WATCH": '"code":"TAKEN"'})
    assert script.of("resync")
    assert set(outcome.codes) <= {"TAKEN", "GAP", "DUP"}
    assert [deal["side"] for deal in outcome.journal.deals] == [1, -1, -1]


def test_a_message_that_comes_twice_is_traded_once(tmp_path):
    outcome = one(tmp_path, rows=bars(5))
    script = Script(bars(5), spoil=lambda message: [message] * (2 if message["type"] == "forecast" else 1))
    outcome = traded(tmp_path / "b", script)
    assert outcome.codes == ["TAKEN", "DUP"] and len(outcome.journal.deals) == 1


def test_a_forecast_of_another_run_of_the_server_is_stale(tmp_path):
    def spoil(message):
        if message["type"] == "forecast" and not script.codes:
            return [{**message, "epoch": EPOCH + 5}]
        return [message]

    script = Script(bars(5), spoil=spoil)
    outcome = traded(tmp_path, script, terminal={"WATCH": '"code":"TAKEN"'})
    assert outcome.codes == ["STALE", "TAKEN"] and len(outcome.journal.deals) == 1


def test_a_server_that_falls_silent_is_left_and_found_again(tmp_path):
    def spoil(message):
        silent = len(script.of("ack")) >= 1 and len(script.of("hello")) == 1
        return [] if silent else [message]

    script = Script(bars(7), heartbeat_ms=100, spoil=spoil)
    outcome = traded(tmp_path, script)
    assert len(script.of("hello")) == 2
    assert any("does not answer" in text for text in outcome.journal.prints)
    assert outcome.codes[0] == "TAKEN" and set(outcome.codes[1:]) <= {"NOOP", "DUP"}
    assert [deal["side"] for deal in outcome.journal.deals] == [1]
    assert [deal["deal"] for deal in script.of("exec")][-1] == 1


def test_a_server_that_does_not_know_the_secret_is_not_trusted(tmp_path):
    script = Script(bars(5), secret="another secret than ours")
    script.proof = lambda side: "0" * 64 if side == "server" else script.of("proof")[-1]["proof"]
    outcome = traded(tmp_path, script, {"InpSecret": "correct horse battery"}, terminal={"BAR_MS": 400})
    assert outcome.codes == [] and outcome.journal.deals == []
    assert any("does not know the secret" in text for text in outcome.journal.prints)


@pytest.mark.parametrize("secret", ["", "correct horse battery"])
def test_only_the_answer_to_the_last_hello_counts(tmp_path, secret):
    """A server whose models still load keeps every hello, and then answers them all: one backfill, and one proof."""

    def earlier_too(answer):
        if answer["type"] == "challenge":
            return [{**answer, "re": answer["re"] - 1, "nonce": "0" * 32}, answer]
        if answer["type"] == "welcome":
            return [{**answer, "re": answer["re"] - 1}, answer]
        return [answer]

    script = Script(bars(6), secret=secret, spoil=earlier_too)
    outcome = traded(tmp_path, script, {"InpSecret": secret})
    assert [len(script.of(kind)) for kind in ("hello", "proof", "bars")] == [1, bool(secret), 1]
    assert outcome.codes == ["TAKEN", "NOOP"]


def csv_of(script, series="EURUSD-H1"):
    lines = [f"{HEADER} {series}", ",".join(COLUMNS)]
    for row in script.rows:
        said = script.forecast(row[0])
        levels = [said[name] or 0 for name in ("stop", "take_profit", "trailing")]
        numbers = [row[0], said["close_ref"], said["position"], said["lots"], 0, 0, *levels, int(said["resize"])]
        expiry = said["expiry_ms"] // 1000 + 7200
        lines.append(",".join(map(repr, [*numbers, 1, row[0], expiry])) + ",because")
    return "\n".join(lines) + "\n"


def in_tester(folder, text, script, inputs=None, *, warm=4, **market):
    (folder / "common" / "TuneTrade").mkdir(parents=True)
    if text:
        (folder / "common" / "TuneTrade" / "EURUSD-H1.csv").write_text(text)
    path = market_file(folder / "market", script.rows, warm, **{"close_at_end": 0, **market})
    return ran(built(EXPERT), {**TRADING, **(inputs or {})}, {"MARKET": path, "FILES": folder, "IN_TESTER": 1})


def test_the_strategy_tester_trades_the_file_as_the_link_trades_the_server(tmp_path):
    rows = bars(30)
    short = {"position": -1.0, "stop": 1.2, "lots": 0.2}
    targets = {FIRST + i * HOUR: short if i % 3 else {"position": 0.0, "lots": 0.0} for i in range(20) if i % 7 > 2}
    script = Script(rows, targets)
    live = traded(tmp_path / "live", script)
    journal = in_tester(tmp_path / "tester", csv_of(script), script)
    assert len(live.journal.deals) > 10
    assert journal.deals == live.journal.deals
    assert "30 targets of TuneTrade\\EURUSD-H1.csv" in journal.prints


def test_the_strategy_tester_has_the_same_guards(tmp_path):
    script = Script(bars(6))
    assert in_tester(tmp_path / "a", csv_of(script), script, {"InpMaxSpread": 7}).deals == []
    wrong = Script(script.rows, default={"close_ref": 1.2})
    journal = in_tester(tmp_path / "b", csv_of(wrong), script)
    assert journal.deals == [] and "GUARD:feed_mismatch" in journal.prints[-1]


def test_a_target_that_nothing_renews_is_closed_at_the_open_after_its_expiry(tmp_path):
    script = Script(bars(9), {FIRST: {"expiry_ms": close_ms(FIRST) + 2 * HOUR * 1000}})
    text = "\n".join(csv_of(script).splitlines()[:6]) + "\n"  # the last target is that of FIRST
    journal = in_tester(tmp_path / "a", text, script)
    assert [(deal["bar"], deal["side"]) for deal in journal.deals] == [(4, 1), (6, -1)]
    assert journal.deals[1]["price"] == script.rows[6][1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "make it by tunetrade export-tester"),
        (f"{HEADER} GBPUSD-H1\nx\n", "begins with"),
        (f"{HEADER} EURUSD-H1\nx\n1,2,3\n", "line 3 is no target"),
    ],
)
def test_the_strategy_tester_refuses_another_file(tmp_path, text, why):
    program = built(EXPERT)
    path = market_file(tmp_path / "market", bars(6), 4)
    (tmp_path / "common" / "TuneTrade").mkdir(parents=True)
    if text:
        (tmp_path / "common" / "TuneTrade" / "EURUSD-H1.csv").write_text(text)
    out, _ = program.start({}, {"MARKET": path, "FILES": tmp_path, "IN_TESTER": 1}).communicate(timeout=10)
    assert why in out and "init 1" in out


@pytest.mark.slow
@pytest.mark.parametrize("dry", [False, True])
def test_sanitizers_find_nothing_in_the_expert(tmp_path, dry):
    script = Script(
        bars(30), {FIRST + i * HOUR: {"position": -1.0, "stop": 1.2, "resize": True} for i in range(0, 26, 3)}
    )
    outcome = traded(tmp_path, script, {"InpDryRun": dry, "InpFridayClose": ""}, sanitize=True)
    assert len(script.of("exec")) > 10 and set(outcome.codes) <= {"TAKEN", "NOOP"}
