"""Every figure of the Strategy Tester against a hand-worked account, plain loops, or what terminals have printed."""

import math

import numpy as np
import pandas as pd
import pytest
from traded import DEPOSIT, equity_of, random_run, trade_row, trades_of

from strategies.tester import (
    drawdowns,
    fill_times,
    growth,
    in_order,
    regression,
    report_figures,
    sharpe,
    streaks,
    z_score,
)
from strategies.tester_fields import DASH, FIELDS

RESULTS = (100.0, -50.0, -30.0, 60.0, 0.0, -20.0)
START = pd.Timestamp("2021-03-01 10:00")
HOUR = pd.Timedelta(hours=1)


def account():
    """Six trades of an hour each on a deposit of 1000, one after the other, every second one short."""
    rows = [
        trade_row(
            n + 1, 1 if n % 2 == 0 else -1, 0.1, START + n * HOUR, 1.1, START + (n + 1) * HOUR, 1.1,
            net_profit=result, mfe=abs(result) + 10, mae=min(result, 0) - 5,
        )
        for n, result in enumerate(RESULTS)
    ]  # fmt: skip
    equity = [1000, 1150, 1050, 990, 1080, 1080, 1060]
    margin = np.array([0, 100, 0, 300, 100, 0, 0.0])
    return trades_of(rows), equity_of([START + n * HOUR for n in range(7)], equity, margin=margin)


def test_an_account_worked_by_hand():
    trades, equity = account()
    found = report_figures(trades, equity, 1000.0)
    expected = {
        "bars": 7, "total_net_profit": 60, "gross_profit": 160, "gross_loss": -100, "profit_factor": 1.6,
        "expected_payoff": 10, "total_trades": 6, "profit_trades": 3, "loss_trades": 3, "profit_share": 0.5,
        "largest_profit": 100, "largest_loss": -50, "average_profit": 160 / 3, "average_loss": -100 / 3,
        # Balance: 1000 1100 1050 1020 1080 1080 1060; equity: 1000 1150 1050 990 1080 1080 1060.
        "balance_dd_absolute": 0, "balance_dd_maximal": 80, "balance_dd_maximal_share": 80 / 1100,
        "equity_dd_absolute": 10, "equity_dd_maximal": 160, "equity_dd_relative": 160 / 1150,
        "recovery_factor": 60 / 160, "margin_level": 990 / 300,
        "ahpr": (1100 / 1000 + 1050 / 1100 + 1020 / 1050 + 1080 / 1020 + 1 + 1060 / 1080) / 6,
        "ghpr": 1.06 ** (1 / 6),
        # Runs: + | - - | + 0 | -, a result of 0 being won.
        "longest_wins": 2, "longest_wins_money": 60, "richest_wins": 1, "richest_wins_money": 100, "average_wins": 1.5,
        "longest_losses": 2, "longest_losses_money": -80, "richest_losses": 2, "richest_losses_money": -80,
        "average_losses": 1.5, "z_score": (6 * 3.5 - 18) / math.sqrt(18 * 12 / 5),
        "long_trades": 3, "long_won": 2 / 3, "short_trades": 3, "short_won": 1 / 3,
        # Each exit is the next entry, on the other side: five reversals, the first entry and the last exit.
        "total_deals": 7, "holding_minimal": 3600, "holding_maximal": 3600, "holding_average": 3600,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_texts_are_those_of_the_tester():
    trades, equity = account()
    figures = report_figures(trades, equity, 1000.0)
    texts = {field.label: field.text(figures) for field in FIELDS}
    assert texts["Balance Drawdown Maximal"] == "80.00 (7.27%)"
    assert texts["Equity Drawdown Relative"] == "13.91% (160.00)"
    assert texts["Short Trades (won %)"] == "3 (33.33%)"
    assert texts["Maximum consecutive losses ($)"] == "2 (-80.00)"
    assert texts["Maximal consecutive loss (count)"] == "-80.00 (2)"
    assert texts["Margin Level"] == "330.00%"
    assert texts["Average position holding time"] == "1:00:00"
    assert texts["GHPR"] == "1.0098 (0.98%)"


@pytest.mark.parametrize(
    ("wins", "losses", "runs", "printed"), [(286, 472, 355, "-0.13 (10.34%)"), (75, 111, 101, "1.68 (90.70%)")]
)
def test_z_scores_that_terminals_have_printed(wins, losses, runs, printed):
    """Two reports published on mql5.com: the only whole number of runs that fits their Z-score."""
    win_runs, loss_runs = (runs + 1) // 2, runs // 2
    lengths = [wins - win_runs + 1, losses - loss_runs + 1, *[1] * (runs - 2)]
    series = [run % 2 == 0 for run, length in enumerate(lengths) for _ in range(length)]
    assert (series.count(True), series.count(False)) == (wins, losses)
    figures = z_score(np.array(series))
    text = next(field for field in FIELDS if field.label == "Z-Score").text(figures)
    assert text == printed


def test_other_figures_that_terminals_have_printed():
    """Recovery is from the drawdown of equity: of balance, 483.90, the second report would have printed 0.68."""
    recovery = next(field for field in FIELDS if field.label == "Recovery Factor")
    for net, equity_fall, printed in ((2977.06, 1241.70, "2.40"), (327.71, 523.24, "0.63")):
        trades = trades_of([trade_row(1, 1, 0.1, START, 1.1, START + HOUR, 1.1, net_profit=net)])
        times = [START, START + HOUR, START + 2 * HOUR]
        equity = equity_of(times, [25_000, 25_000 - equity_fall, 25_000 + net])
        assert recovery.text(report_figures(trades, equity, 25_000.0)) == printed
    ghpr = next(field for field in FIELDS if field.label == "GHPR")
    assert ghpr.text(growth(np.full(758, 2977.06 / 758), 25_000.0)) == "1.0001 (0.01%)"


def slow_drawdown(curve):
    """Of every pair of an earlier and a later point: largest fall, its share; largest share, its fall."""
    falls = [(a - b, (a - b) / a) for i, a in enumerate(curve) for b in curve[i:]]
    by_money, by_share = max(falls, key=lambda f: f[0]), max(falls, key=lambda f: f[1])
    return {
        "absolute": curve[0] - min(curve), "maximal": by_money[0], "maximal_share": by_money[1],
        "relative": by_share[1], "relative_money": by_share[0],
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_drawdowns_equal_a_search_over_all_pairs(seed):
    rng = np.random.default_rng(seed)
    curve = 1000 + np.cumsum(np.concatenate([[0], rng.normal(0, 20, 150)]))
    slow, fast = slow_drawdown(curve.tolist()), drawdowns(curve)
    assert {k: fast[k] for k in ("absolute", "maximal", "relative")} == pytest.approx(
        {k: slow[k] for k in ("absolute", "maximal", "relative")}
    )
    assert fast["relative_money"] == pytest.approx(slow["relative_money"])


def test_series_equal_a_plain_loop():
    rng = np.random.default_rng(3)
    net = np.round(rng.normal(0, 10, 400), 0)
    runs = []
    for result in net.tolist():
        if runs and (runs[-1][0] >= 0) == (result >= 0):
            runs[-1].append(result)
        else:
            runs.append([result])
    wins, losses = [r for r in runs if r[0] >= 0], [r for r in runs if r[0] < 0]
    found = streaks(net)
    assert found["longest_wins"] == max(map(len, wins))
    assert found["richest_losses_money"] == min(map(sum, losses))
    assert found["average_losses"] == pytest.approx(np.mean([len(r) for r in losses]))


def test_sharpe_follows_the_article_of_metaquotes():
    rng = np.random.default_rng(5)
    equity = 10_000 + np.cumsum(np.where(rng.random(300) < 0.5, rng.normal(1, 10, 300), 0.0))
    returns, before = [], equity[0]
    for value in equity[1:]:
        if value != before:
            returns.append(math.log(value / before))
        before = value
    mean = sum(returns) / len(returns)
    deviation = math.sqrt(sum((r - mean) ** 2 for r in returns) / len(returns))
    assert sharpe(equity, 60.0) == pytest.approx(mean / deviation * math.sqrt(252 * 24))
    assert sharpe(equity, 1440.0) == pytest.approx(mean / deviation * math.sqrt(252))
    assert sharpe(equity, 10_080.0) == pytest.approx(mean / deviation * math.sqrt(252 / 5))  # of five trading days each
    assert sharpe(10_000 - np.arange(1, 50) ** 1.1, 60.0) == -5.0


def test_regression_equals_numpy():
    balance = 1000 + np.cumsum(np.random.default_rng(7).normal(1, 15, 80))
    x = np.arange(80)
    slope, offset = np.polyfit(x, balance, 1)
    rest = balance - slope * x - offset
    found = regression(balance)
    assert found["lr_correlation"] == pytest.approx(np.corrcoef(x, balance)[0, 1])
    assert found["lr_standard_error"] == pytest.approx(math.sqrt(rest @ rest / 78))


def test_correlations_of_a_run_equal_numpy():
    trades, equity = random_run(2)
    found = report_figures(trades, equity, DEPOSIT)
    net, mfe, mae = (trades[name].to_numpy() for name in ("net_profit", "mfe", "mae"))
    assert found["correlation_profits_mfe"] == pytest.approx(np.corrcoef(net, mfe)[0, 1])
    assert found["correlation_profits_mae"] == pytest.approx(np.corrcoef(net, mae)[0, 1])
    assert found["correlation_mfe_mae"] == pytest.approx(np.corrcoef(mfe, mae)[0, 1])
    assert found["total_net_profit"] == pytest.approx(equity["equity"].iloc[-1] - DEPOSIT)


def test_a_position_is_held_until_its_last_part_is_closed_and_stops_count_to_the_bars_end():
    rows = [
        trade_row(1, 1, 0.1, START, 1.1, START + 2 * HOUR, 1.1),
        trade_row(2, 1, 0.1, START, 1.1, START + 5 * HOUR, 1.1),
        trade_row(3, -1, 0.1, START + 5 * HOUR, 1.1, START + 5 * HOUR, 1.1, exit_reason="stop loss"),
    ]
    trades = trades_of(rows)
    entered, left = fill_times(trades, 60.0, close_only=False)
    assert [str(stamp.time()) for stamp in entered] == ["09:00:00", "09:00:00", "14:00:00"]
    assert [str(stamp.time()) for stamp in left] == ["11:00:00", "14:00:00", "15:00:00"]
    equity = equity_of([START, START + HOUR], [1000, 1000])
    found = report_figures(trades, equity, 1000.0)
    assert (found["holding_maximal"], found["holding_minimal"]) == (5 * 3600, 3600)
    assert found["total_deals"] == 4  # in, out, reversal, out by the stop


def test_a_run_without_trades_has_dashes_and_no_fault():
    equity = equity_of([START, START + HOUR, START + 2 * HOUR], [1000, 1000, 1000])
    figures = report_figures(trades_of([]), equity, 1000.0)
    texts = {field.label: field.text(figures) for field in FIELDS}
    assert texts["Profit Factor"] == texts["Margin Level"] == texts["Sharpe Ratio"] == texts["Z-Score"] == DASH
    assert (texts["Total Trades"], texts["Total Net Profit"], texts["Total Deals"]) == ("0", "0.00", "0")


def test_trades_run_in_the_order_of_closing():
    trades, _ = account()
    shuffled = trades.sample(frac=1, random_state=1)
    assert in_order(shuffled)["trade"].tolist() == [1, 2, 3, 4, 5, 6]
