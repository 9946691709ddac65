"""Reconciliation: equal is said to be equal, each planted difference is found, named and paid for to the cent."""

import mt5_files as mt5
import pandas as pd
import pytest
from traded import DEPOSIT, random_run, trade_row, trades_of

from forecasting.errors import DataError
from forecasting.zones import from_utc
from strategies.deals import deals_of
from strategies.differences import Account, Tolerances
from strategies.exports import read_export
from strategies.reconcile import our_trades, reconcile
from strategies.tester import fill_times

ACCOUNT = Account("EURUSD", 5, 60.0, False, True, "us-dst", DEPOSIT, "USD")
LIMITS = Tolerances(minutes=30.0)
SPAN = pd.Timestamp("2021-02-01", tz="UTC"), pd.Timestamp("2021-06-30", tz="UTC")
OPEN, LATER = "2021-03-03 09:00", "2021-03-03 15:00"
"""Closes of the bars in which the orders filled: at 08:00 and 14:00 UTC, 10:00 and 16:00 on the server."""

COSTS = {"spread_cost": 1.0, "commission": 0.7, "swap": 0.0}


def ours(**more):
    """One long trade of 0.1 lots, 1.20000 to 1.20500."""
    return trades_of([trade_row(1, 1, 0.1, OPEN, 1.2, LATER, 1.205, **COSTS | more)])


def theirs(
    kind="buy", lots=0.1, entry=("10:00:02", 1.2), leave=("16:00:01", 1.205), commission=-0.35, swap=0.0, profit=None,
    comment="", symbol="EURUSD",
):  # fmt: skip
    """The deals of that trade in a report."""
    side = 1 if kind == "buy" else -1
    money = side * lots * 100_000 * (leave[1] - entry[1]) if profit is None else profit
    other = "sell" if kind == "buy" else "buy"
    return [
        mt5.deal(f"2021.03.03 {entry[0]}", 2, kind, "in", lots, entry[1], commission, symbol=symbol),
        mt5.deal(f"2021.03.03 {leave[0]}", 3, other, "out", lots, leave[1], commission, swap, money, comment, symbol),
    ]


def compare(tmp_path, trades, deals, account=ACCOUNT, limits=LIMITS, **facts):
    export = read_export(mt5.write(tmp_path / "ReportTester.html", mt5.tester_html(deals, **facts)))
    found = reconcile(trades, SPAN, export, account, limits)
    assert sum(found.money.values()) == pytest.approx(found.theirs_net - found.ours_net)
    return found


def test_the_same_trade_is_equal(tmp_path):
    found = compare(tmp_path, ours(), theirs())
    assert (found.matched, found.equal, found.same, list(found.notes)) == (1, 1, True, [])


@pytest.mark.parametrize(
    ("deals", "kind", "money", "words"),
    [
        (theirs(lots=0.2, commission=-0.7), "lots", 50.0 - 0.7, "0.2 lots there, 0.1 here"),
        (theirs(entry=("10:00:02", 1.2001)), "entry price", -1.0, "10 points worse: about one spread; bid and ask"),
        (theirs(entry=("10:00:02", 1.1999)), "entry price", 1.0, "10 points better: about one spread; this side paid"),
        (theirs(entry=("10:00:02", 1.20004)), "entry price", -0.4, "4 points worse: slippage or a wider spread there"),
        (theirs(leave=("16:00:01", 1.20530)), "exit price", 3.0, "exit at 1.20530 there, 1.20500 here, 30 points"),
        (theirs(commission=-0.5), "commission", -0.3, "commission -1.00 there, -0.70 here: 5.00 for each lot and side"),
        (theirs(swap=-1.5), "swap", -1.5, "swap -1.50 there, 0.00 here"),
        (theirs(profit=42.5), "conversion", -7.5, "-7.50 USD that neither prices nor lots explain"),
        (theirs(entry=("11:00:02", 1.2)), "entry time", 0.0, "entered 1 h later there: one hour, as where two clocks"),
        (theirs(leave=("17:30:00", 1.205)), "exit time", 0.0, "closed 1 h 30 min later there"),
        (
            theirs(leave=("12:40:00", 1.199), comment="sl 1.19900"), "closed otherwise", -60.0,
            "closed there by stop loss at 1.19900, 2021.03.03 12:40, here by an order at 1.20500, 2021.03.03 16:00",
        ),
        (
            theirs(leave=("12:40:00", 1.206), comment="tp 1.20600"), "closed otherwise", 10.0,
            "closed there by take profit at 1.20600",
        ),
    ],
)  # fmt: skip
def test_each_difference_is_named_and_paid_for(tmp_path, deals, kind, money, words):
    found = compare(tmp_path, ours(), deals)
    (difference,) = found.differences
    assert difference.kind == kind
    assert difference.money == pytest.approx(money, abs=1e-6)
    assert words in difference.text
    assert difference.text.startswith("trade 1 (long 2021.03.03 10:00): ")


def test_other_side_missing_here_and_missing_there(tmp_path):
    (found,) = compare(tmp_path, ours(), theirs(kind="sell")).differences
    assert (found.kind, found.money) == ("other side", pytest.approx(-50.7 - 49.3))
    assert "the signals disagree" in found.text
    late = [trade_row(2, -1, 0.1, "2021-05-03 09:00", 1.2, "2021-05-03 10:00", 1.2)]
    (found,) = compare(tmp_path, trades_of([ours().iloc[0].to_dict(), *late]), theirs()).differences
    assert found.kind == "missing there"
    assert "it is from after the export's trades end" in found.text
    refused = [trade_row(2, -1, 0.1, "2021-03-03 12:00", 1.2, "2021-03-03 13:00", 1.2)]
    (found,) = compare(tmp_path, trades_of([ours().iloc[0].to_dict(), *refused]), theirs()).differences
    assert "refused there (margin" in found.text
    extra = [
        mt5.deal("2021.03.09 10:00:00", 8, "buy", "in", 0.1, 1.2),
        mt5.deal("2021.03.09 11:00:00", 9, "sell", "out", 0.1, 1.3),
    ]
    (found,) = compare(tmp_path, ours(), [*theirs(), *extra]).differences
    assert (found.kind, found.ours, found.theirs) == ("missing here", "", "8")


def test_an_empty_export_misses_every_trade(tmp_path):
    found = compare(tmp_path, ours(), [])
    assert [d.kind for d in found.differences] == ["missing there"]
    assert "the export holds no closed trade" in found.differences[0].text


def exits(*parts):
    """The deals of our trade, closed in parts: time, lots and price, comment."""
    deals = [mt5.deal("2021.03.03 10:00:02", 2, "buy", "in", 0.1, 1.2, -0.35)]
    for number, (time, lots, price, comment) in enumerate(parts, start=3):
        money = lots * 100_000 * (price - 1.2)
        stamp = f"2021.03.03 {time}"
        deals.append(mt5.deal(stamp, number, "sell", "out", lots, price, -3.5 * lots, 0.0, money, comment))
    return deals


@pytest.mark.parametrize("second", ["16:00:01", "16:00:02"])
def test_halves_closed_together_are_one_trade(tmp_path, second):
    found = compare(tmp_path, ours(), exits(("16:00:01", 0.05, 1.205, ""), (second, 0.05, 1.205, "")))
    assert (found.ours, found.theirs, found.matched, found.equal, found.same) == (1, 2, 1, 1, True)


def test_parts_closed_apart_are_told_in_one_sentence(tmp_path):
    deals = exits(("12:40:00", 0.04, 1.203, "tp 1.20300"), ("16:00:01", 0.06, 1.205, ""))
    (found,) = compare(tmp_path, ours(), deals).differences
    assert (found.kind, found.ours, found.theirs) == ("closed in parts", "1", "2")
    assert found.money == pytest.approx(-0.04 * 100_000 * 0.002)
    assert found.text == (
        "trade 1 (long 2021.03.03 10:00): closed in 2 parts (0.04 lots by take profit at 1.20300, 2021.03.03 12:40; "
        "0.06 lots by an order at 1.20500, 2021.03.03 16:00) there, whole (0.1 lots by an order at 1.20500, "
        "2021.03.03 16:00) here"
    )


def test_parts_here_and_a_whole_there_are_one_sentence_too(tmp_path):
    parts = [
        trade_row(1, 1, 0.04, OPEN, 1.2, "2021-03-03 12:00", 1.198, commission=0.28, exit_reason="stop loss"),
        trade_row(2, 1, 0.06, OPEN, 1.2, LATER, 1.205, commission=0.42),
    ]
    found = compare(tmp_path, trades_of(parts), theirs())
    (difference,) = found.differences
    assert (found.ours, found.matched, found.equal) == (2, 2, 0)
    assert (difference.kind, difference.ours) == ("closed in parts", "1+2")
    assert difference.money == pytest.approx(0.04 * 100_000 * 0.007)
    assert "0.04 lots by stop loss at 1.19800, 2021.03.03 14:00; 0.06 lots by an order at" in difference.text
    apart = exits(("13:40:00", 0.04, 1.198, "sl 1.198"), ("16:00:01", 0.06, 1.205, ""))
    assert compare(tmp_path, trades_of(parts), apart).equal == 2


def test_a_half_is_not_taken_for_the_next_trade(tmp_path):
    """A second entry two hours later, missing there, is not paired with the first trade's second half."""
    later = trade_row(2, 1, 0.05, "2021-03-03 11:00", 1.2, LATER, 1.205)
    trades = trades_of([ours().iloc[0].to_dict(), later])
    found = compare(tmp_path, trades, exits(("16:00:01", 0.05, 1.205, ""), ("16:00:01", 0.05, 1.205, "")))
    assert [(d.kind, d.ours) for d in found.differences] == [("missing there", "2")]


def test_an_entry_never_closed_there_is_still_open(tmp_path):
    found = compare(tmp_path, ours(), theirs()[:1])
    (difference,) = found.differences
    assert (difference.kind, difference.theirs, difference.money) == ("still open", "2", pytest.approx(-49.3))
    assert "is still open there: deal 2, 0.1 lots, 2021.03.03 10:00 at 1.20000, was not closed" in difference.text
    (difference,) = compare(tmp_path, ours(), exits(("16:00:01", 0.05, 1.205, ""))).differences
    assert (difference.kind, difference.money) == ("still open", pytest.approx(-49.3 / 2))
    assert "0.05 lots closed there, 0.1 here: 0.05 are still open there" in difference.text


def test_other_lots_explain_their_share_of_commission_and_swap(tmp_path):
    """Thrice the lots at our rates is a size setting alone; another rate a lot is told for as many lots."""
    trades = ours(swap=-0.4, net_profit=50.0 - 0.7 - 0.4)
    found = compare(tmp_path, trades, theirs(lots=0.3, commission=-1.05, swap=-1.2))
    assert [(d.kind, d.money) for d in found.differences] == [("lots", pytest.approx(2 * 48.9))]
    assert found.notes == ()
    found = compare(tmp_path, trades, theirs(lots=0.3, commission=-1.5, swap=-2.0))
    assert {d.kind: d.money for d in found.differences} == pytest.approx(
        {"lots": 97.8, "commission": -0.9, "swap": -0.8}
    )
    texts = {d.kind: d.text for d in found.differences}
    assert (
        "commission -3.00 there, -2.10 for as many lots here: 5.00 for each lot and side there" in texts["commission"]
    )
    assert "swap -2.00 there, -1.20 for as many lots here" in texts["swap"]


def test_a_rate_is_not_taken_from_rounding_noise():
    """Of a price that stood still but for its last bit the ratio of money and movement means nothing."""
    costs = {"spread_cost": 1.0}
    still = trade_row(1, 1, 0.1, OPEN, 1.2, LATER, 1.2 + 4e-16, profit_before_costs=1.0 - 3e-9, **costs)
    moved = trade_row(2, -1, 0.1, "2021-03-04 09:00", 1.2, "2021-03-04 15:00", 1.21, profit_before_costs=-89.0, **costs)
    found = our_trades(trades_of([still, moved]), ACCOUNT)
    assert found["rate"].tolist() == pytest.approx([0.9, 0.9])
    assert found["spread"].iloc[0] == pytest.approx(1.0 / 10_000 / 0.9)


def report_of(trades, account, shift=0, entry_slip=0.0, commission=None):
    """A run's trades as a tester would report them on a hedging account: in and out deals of each, in order of time."""
    deals = []
    for trade in trades.to_dict("records"):
        inside = trade["exit_reason"] != "signal"
        moments = (
            trade["entry_time"] - pd.Timedelta("1h"),
            trade["exit_time"] - pd.Timedelta("20min" if inside else "1h"),
        )
        times = [
            pd.Timestamp(from_utc(pd.DatetimeIndex([m]).tz_localize(None).to_numpy(), account.timezone)[0])
            + pd.Timedelta(hours=shift, seconds=3) for m in moments
        ]  # fmt: skip
        stamps = [time.strftime("%Y.%m.%d %H:%M:%S") for time in times]
        kinds = ("buy", "sell") if trade["direction"] > 0 else ("sell", "buy")
        paid = -trade["commission"] / 2 if commission is None else -commission * trade["lots"]
        entry = trade["entry_price"] + trade["direction"] * entry_slip
        profit = trade["direction"] * trade["units"] * (trade["exit_price"] - entry)
        note = {"signal": "", "stop loss": "sl", "end of data": "end of test"}[trade["exit_reason"]]
        deals.append((times[0], 1, mt5.deal(stamps[0], 0, kinds[0], "in", trade["lots"], entry, paid)))
        deals.append((times[1], 0, mt5.deal(stamps[1], 0, kinds[1], "out", trade["lots"], trade["exit_price"], paid,
                                            trade["swap"], profit, note)))  # fmt: skip
    ordered = [row for _, _, row in sorted(deals, key=lambda each: each[:2])]
    return [[row[0], str(n), *row[2:]] for n, row in enumerate(ordered, start=2)]


def test_a_whole_run_reported_by_the_tester_has_no_difference(tmp_path):
    trades, _ = random_run(4, 1500)
    found = compare(tmp_path, trades, report_of(trades, ACCOUNT))
    assert found.same, found.differences[:3]
    assert found.equal == len(trades) > 100


def test_a_netting_report_with_reversals_has_no_difference(tmp_path):
    trades, _ = random_run(8, 900)
    entered, left = fill_times(trades, 60.0, close_only=False)
    table = deals_of(trades.assign(entry_time=entered, exit_time=left), "EURUSD", DEPOSIT, netting=True).iloc[1:]
    server = from_utc(table["time"].dt.tz_localize(None).to_numpy(), "us-dst")
    stamps = pd.DatetimeIndex(server).strftime("%Y.%m.%d %H:%M:%S")
    names = ("deal", "type", "direction", "volume", "price", "commission", "swap", "profit", "comment")
    rows = zip(stamps, *(table[name] for name in names), strict=True)
    found = compare(tmp_path, trades, [mt5.deal(*row) for row in rows])
    assert (table["direction"] == "in/out").sum() > 10
    assert found.same, found.differences[:3]


@pytest.mark.parametrize("shift", [-7, 1, 3])
def test_another_clock_is_found_and_set_right(tmp_path, shift):
    trades, _ = random_run(4, 600)
    found = compare(tmp_path, trades, report_of(trades, ACCOUNT, shift=shift))
    assert found.same
    (note,) = found.notes
    assert f"{abs(shift)} h {'ahead of' if shift > 0 else 'behind'} us-dst" in note


def test_what_all_trades_share_is_one_note(tmp_path):
    trades, _ = random_run(4, 600)
    found = compare(tmp_path, trades, report_of(trades, ACCOUNT, entry_slip=0.0001, commission=3.0))
    assert "all commissions fit with broker.commission_per_lot = 3.00" in found.notes
    assert sum(note.endswith("compare broker.spread_points with the spread of the test") for note in found.notes) == 2
    assert {d.kind for d in found.differences} == {"entry price", "commission"}


def test_lost_and_altered_deals_never_break_the_sum(tmp_path):
    trades, _ = random_run(6, 900)
    altered = report_of(trades.drop(index=[3, 8, 20]).assign(lots=trades["lots"] * 2), ACCOUNT)
    found = compare(tmp_path, trades, altered)
    assert sum(d.kind == "missing there" for d in found.differences) == 3
    assert sum(d.kind == "lots" for d in found.differences) == len(trades) - 3
    assert any(note.startswith("all lots there are 2 times those here") for note in found.notes)


def test_accounts_that_differ_are_noted_and_other_symbols_refused(tmp_path):
    found = compare(tmp_path, ours(), theirs(), deposit=5000.0)
    assert found.notes == ("initial deposit 5,000.00 there, 10,000.00 here (broker.deposit)",)
    table = "Initial Deposit:;10 000,00\n" + mt5.deals_csv(theirs(), ";", decimal_comma=True)
    export = read_export(mt5.write(tmp_path / "deals.csv", table, "utf-8"))
    assert reconcile(ours(), SPAN, export, ACCOUNT, LIMITS).notes == ()
    assert compare(tmp_path, ours(), theirs(symbol="EURUSD.m")).same
    with pytest.raises(DataError, match=r"trades of GBPUSD, none of EURUSD; .* --symbol"):
        compare(tmp_path, ours(), theirs(symbol="GBPUSD"))
    with pytest.raises(DataError, match=r"trades name no symbol; write EURUSD"):
        compare(tmp_path, ours(), theirs(symbol=""))


def test_positions_of_a_hedging_history_are_compared(tmp_path):
    cells = ["2021.03.03 10:00:02", "77", "EURUSD", "buy", "0.10", "1.20000", "", "", "2021.03.03 16:00:01", "1.20500",
             "-0.70", "0.00", "50.00"]  # fmt: skip
    export = read_export(mt5.write(tmp_path / "ReportHistory.html", mt5.history_html([cells])))
    assert reconcile(ours(), SPAN, export, ACCOUNT, LIMITS).same
