"""Two ledgers of three trades each, worked by hand in the comments, costs included."""

import numpy as np
import pandas as pd
import pytest
from made import make_bars, make_forecasts

from strategies.backtest import run_backtest
from strategies.contract import BrokerRules
from strategies.rules import TradingRules

RULES = TradingRules(signal="mean-vs-last", lots=0.1)
BROKER = BrokerRules(deposit=10_000.0, spread_points="data", commission_per_lot=5.0)
# 0.1 lot = 10,000 units; commission 5 x 0.1 = 0.50 a side, 1.00 a trade.


def ahead(closes, moves, horizon=2):
    """Means [N, H] for cutoffs 1..N: the close plus the move, at every step but a close-only series' first."""
    return np.array([[closes[i + 1] + move] * horizon for i, move in enumerate(moves)])


def test_three_trades_on_bars_of_bids():
    #  bar      0        1        2        3        4        5        6
    opens = [1.10000, 1.10100, 1.10200, 1.10300, 1.10500, 1.10400, 1.10200]
    closes = [1.10050, 1.10150, 1.10250, 1.10450, 1.10350, 1.10250, 1.10100]
    spread = [10, 20, 30, 15, 25, 12, 18]  # points of 0.00001
    bars = make_bars(closes, opens, spread)
    # decided at the close of bar    1: long  2: long  3: short  4: flat  5: short
    forecasts = make_forecasts(bars, range(1, 6), ahead(closes, [0.002, 0.002, -0.002, 0.0, -0.002]))
    result = run_backtest(bars, forecasts, RULES, BROKER, context=2, span=(bars.times[1], bars.times[6]))

    # Trade 1, long: decided at bar 1 (spread 20), bought at the open of bar 2: 1.10200 + 0.00020 = 1.10220.
    #   reversed at bar 3, sold at the open of bar 4, a bid: 1.10500. Before costs 10,000 x (1.10500 - 1.10200) = 30.
    #   Spread 10,000 x 0.00020 = 2.00, commission 1.00, net 27.00. Held bars 2, 3.
    # Trade 2, short: sold at the same open 1.10500, a bid, no spread. Flat decided at bar 4 (spread 25), bought at the
    #   open of bar 5: 1.10400 + 0.00025 = 1.10425. Before costs 10,000 x (1.105 - 1.104) = 10; spread 2.50; net 6.50.
    # Trade 3, short: decided at bar 5, sold at the open of bar 6: 1.10200. The data end there: bought at its close with
    #   its spread of 18: 1.10100 + 0.00018 = 1.10118. Before costs 10; spread 1.80; commission 1.00; net 7.20.
    trades = result.trades
    assert trades["direction"].tolist() == [1, -1, -1]
    assert trades["lots"].tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert trades["units"].tolist() == pytest.approx([10_000] * 3)
    assert trades["entry_price"].tolist() == pytest.approx([1.10220, 1.10500, 1.10200])
    assert trades["exit_price"].tolist() == pytest.approx([1.10500, 1.10425, 1.10118])
    assert trades["profit_before_costs"].tolist() == pytest.approx([30.0, 10.0, 10.0])
    assert trades["spread_cost"].tolist() == pytest.approx([2.0, 2.5, 1.8])
    assert trades["commission"].tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert trades["net_profit"].tolist() == pytest.approx([27.0, 6.5, 7.2])
    assert trades["bars_held"].tolist() == [2, 1, 1]
    stamps = bars.frame.index
    assert trades["entry_time"].tolist() == [stamps[2], stamps[4], stamps[6]]
    assert trades["exit_time"].tolist() == [stamps[4], stamps[5], stamps[6]]
    assert trades["exit_reason"].tolist() == ["signal", "signal", "end of data"]
    assert [text.split(" +")[0].split(" -")[0] for text in trades["reason"]] == [
        "long: mean-vs-last",
        "short: mean-vs-last",
        "short: mean-vs-last",
    ]

    # Equity at closes: bar 1: 10,000. Bar 2: -0.50 + 10,000 x (1.10250 - 1.10220) = +2.50.
    #   bar 3: -0.50 + 10,000 x (1.10450 - 1.10220) = +22.50.
    #   bar 4: 27.00 banked, short opened for 0.50, which would close at the ask, 1.10350 + 0.00025: 27.00 - 0.50 +
    #   10,000 x (1.10500 - 1.10375) = +39.00.
    #   bar 5: 27.00 + 6.50 = +33.50, flat. Bar 6: 33.50 + 7.20 = +40.70, closed at the end.
    equity = result.equity
    assert equity["equity"].tolist() == pytest.approx([10_000, 10_002.5, 10_022.5, 10_039.0, 10_033.5, 10_040.7])
    assert equity["balance"].tolist() == pytest.approx([10_000, 10_000, 10_000, 10_027, 10_033.5, 10_040.7])
    assert equity["position"].tolist() == [0, 10_000, 10_000, -10_000, 0, 0]
    assert equity["price"].tolist() == closes[1:]
    # Paid so far: bar 2: 2.00 + 0.50; bar 4: + 0.50 + 0.50; bar 5: + 2.50 + 0.50; bar 6: + 0.50 + 1.80 + 0.50.
    assert equity["costs"].tolist() == pytest.approx([0, 2.5, 2.5, 3.5, 6.5, 9.3])
    # Without costs the short of bar 4 would also be spared the 2.50 that it still has to pay.
    spared = (equity["equity_before_costs"] - equity["equity"]).tolist()
    assert spared == pytest.approx([0, 2.5, 2.5, 6.0, 6.5, 9.3])
    # Margin: 10,000 x 1.10220 / 30, of the short 10,000 x 1.10500 / 30.
    assert equity["margin"].tolist() == pytest.approx([0, 367.4, 367.4, 368.33333, 0, 0])

    figures = result.figures
    assert figures["net_profit"] == pytest.approx(40.7)
    assert figures["profit_before_costs"] == pytest.approx(50.0)
    assert figures["costs"] == pytest.approx(9.3)
    assert figures["gross_profit"] == pytest.approx(40.7)
    assert figures["gross_loss"] == 0
    assert np.isnan(figures["profit_factor"])
    assert figures["exposure"] == pytest.approx(3 / 6)
    assert [figures[name] for name in ("spread", "slippage", "commission", "swap")] == pytest.approx([6.3, 0, 3, 0])
    # Four orders: in, round, out, in; and the end of the data.
    assert [figures[name] for name in ("deals", "orders_refused", "margin_calls", "stop_outs")] == [5, 0, 0, 0]
    assert figures["min_margin_level"] == pytest.approx(10_002.5 / 367.4)
    assert (result.currency, result.illustrative) == ("USD", False)


def test_three_trades_on_fixings():
    #  bar      0      1      2      3      4      5      6
    closes = [150.0, 150.4, 150.2, 151.0, 150.6, 149.8, 150.0]
    bars = make_bars(closes, spread=np.nan, digits=3, symbol="USDJPY")
    broker = BrokerRules(deposit=100_000.0, spread_points=20, commission_per_lot=500.0)
    # 0.1 lot = 10,000 dollars; spread 20 points x 0.001 = 0.02 yen, 0.01 a side = 100 yen; commission 50 yen a side.
    # Step 1 is the price of the fill: means are (close, close + move).
    moves = [0.5, -0.5, -0.5, 0.0, 0.5]  # decided at bars 1..5: long, short, short, flat, long
    mean = np.array([[closes[i + 1], closes[i + 1] + move] for i, move in enumerate(moves)])
    result = run_backtest(bars, make_forecasts(bars, range(1, 6), mean), RULES, broker, context=2)

    # Trade 1, long: decided at bar 1, bought at the fixing of bar 2: 150.2 + 0.01; reversed at bar 2, sold at bar 3:
    #   151.0 - 0.01. Before costs 10,000 x 0.8 = 8,000; spread 200; commission 100; net 7,700. One bar.
    # Trade 2, short: sold at bar 3: 150.99; flat decided at bar 4, bought at bar 5: 149.81. Before costs 10,000 x 1.2 =
    #   12,000; net 11,700. Two bars.
    # Trade 3, long: decided at bar 5, bought at bar 6, 150.01, where the data end: sold at that fixing, 149.99. -300.
    trades = result.trades
    assert trades["direction"].tolist() == [1, -1, 1]
    assert trades["entry_price"].tolist() == pytest.approx([150.21, 150.99, 150.01])
    assert trades["exit_price"].tolist() == pytest.approx([150.99, 149.81, 149.99])
    assert trades["profit_before_costs"].tolist() == pytest.approx([8_000, 12_000, 0], abs=1e-6)
    assert trades["spread_cost"].tolist() == pytest.approx([200, 200, 200])
    assert trades["commission"].tolist() == pytest.approx([100, 100, 100])
    assert trades["net_profit"].tolist() == pytest.approx([7_700, 11_700, -300])
    assert trades["bars_held"].tolist() == [1, 2, 0]

    # Equity, marked at what closing would get: bar 2: -50 + 10,000 x (150.19 - 150.21) = -250. Bar 3: 7,700 - 50 +
    #   10,000 x (150.99 - 151.01) = 7,450. Bar 4: 7,700 - 50 + 10,000 x (150.99 - 150.61) = 11,450. Bar 5: 19,400.
    #   Bar 6: 19,100.
    wins = [0, -250, 7_450, 11_450, 19_400, 19_100]
    assert (result.equity["equity"] - 100_000).tolist() == pytest.approx(wins)
    figures = result.figures
    assert figures["gross_profit"] == pytest.approx(19_400)
    assert figures["gross_loss"] == pytest.approx(-300)
    assert figures["profit_factor"] == pytest.approx(19_400 / 300)
    assert figures["win_rate"] == pytest.approx(2 / 3)
    assert figures["average_trade"] == pytest.approx(19_100 / 3)
    assert (result.currency, result.illustrative) == ("JPY", True)


def test_buy_and_hold_pays_the_same_costs_once():
    closes = [1.10, 1.11, 1.12, 1.13]
    bars = make_bars(closes, [1.095, 1.105, 1.115, 1.125], spread=10)
    span = (bars.times[0], bars.times[3])
    result = run_backtest(bars, None, RULES, BROKER, context=2, policy="buy-and-hold", span=span)
    # Bought at the open of bar 1, 1.10500 + 0.00010, sold at the last close: 10,000 x 0.0249 - 1.00 = 248.00.
    assert result.trades["net_profit"].tolist() == pytest.approx([248.0])
    assert result.trades["bars_held"].tolist() == [3]
    assert result.trades[["reason", "exit_reason"]].to_numpy().tolist() == [["buy-and-hold", "end of data"]]


def test_always_flat_trades_nothing_and_divides_nothing(recwarn):
    bars = make_bars([1.10, 1.11, 1.12, 1.13])
    span = (bars.times[0], bars.times[3])
    result = run_backtest(bars, None, RULES, BROKER, context=2, policy="always-flat", span=span)
    assert result.trades.empty
    assert isinstance(result.trades["entry_time"].dtype, pd.DatetimeTZDtype)
    assert (result.equity["equity"] == 10_000).all()
    assert [result.figures[name] for name in ("net_profit", "costs", "trades", "max_drawdown", "turnover")] == [0] * 5
    assert all(np.isnan(result.figures[name]) for name in ("sharpe", "sortino", "profit_factor", "win_rate"))
    assert not recwarn.list
