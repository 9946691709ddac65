"""What an account does to a position, one rule a test, worked by hand in the comments."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made import make_bars

from forecasting.calendars import MINUTES, FxWeek, TargetDays
from forecasting.errors import ConfigError, DataError
from forecasting.zones import from_utc
from strategies.backtest import run_backtest
from strategies.broker import run_plan
from strategies.contract import BrokerRules
from strategies.market import bar_starts, market_of, weekend_ahead
from strategies.plan import plain_plan
from strategies.rules import TradingRules
from strategies.run import REASONS, trades_frame, with_fills
from strategies.tester import fill_times

FREE = BrokerRules(spread_points=0.0)
# 0.1 lot = 10,000 units, so a move of 0.0001 is worth 1.00 of the quote currency.


def follow(bars, sides, broker=FREE, lots=0.1, conversion=None, finer=None, **columns):
    """A run of a plan with these sides; `columns` replace those of the plan, one value for all bars or one a bar."""
    market = market_of(bars, broker, conversion, finer)
    plan = plain_plan(np.array(sides), 0.0)
    columns["lots"] = lots
    rows = {k: v if k == "resize" else np.broadcast_to(np.array(v, np.float64), len(bars)) for k, v in columns.items()}
    return run_plan(market, replace(plan, **rows), broker)


def why(run):
    return [REASONS[trade.why] for trade in run.trades]


def net(run):
    return [trade.result - trade.commission + trade.swap for trade in run.trades]


def flat_bars(price, count, **changes):
    prices = np.full(count, price)
    return make_bars(prices, prices, **changes)


@pytest.mark.parametrize(("side", "points", "a_night"), [(1, "swap_long", -0.6), (-1, "swap_short", 0.2)])
def test_swap_over_a_wednesday_counts_three(side, points, a_night):
    # Bars of four hours from Tuesday, 8 June 2021, 16:00 UTC. The trading day ends at 17:00 in New York, 21:00 UTC.
    bars = flat_bars(1.1, 11, timeframe="H4", start=np.datetime64("2021-06-08T16:00", "ns"))
    # Decided at Tuesday 20:00, filled there, at the open of bar 1. Tuesday's night ends within bar 1 and is paid as bar
    # 2 begins; Wednesday's, three, within bar 7: paid as bar 8 begins. Flat is decided at the close of bar 8.
    # -6 points of 0.00001 on 10,000 units: -0.60 a night; +2 points: +0.20.
    broker = BrokerRules(spread_points=0.0, swap_long=-6.0, swap_short=2.0)
    run = follow(bars, [side] * 8 + [0] * 3, broker)
    assert (run.equity - 10_000).tolist() == pytest.approx([0, 0, *[a_night] * 6, *[4 * a_night] * 3])
    assert [t.swap for t in run.trades] == pytest.approx([4 * a_night])
    assert run.balance.tolist() == pytest.approx([10_000] * 9 + [10_000 + 4 * a_night] * 2)
    # Held to the end, 12:00 on Thursday, nothing is added: its night ends at 21:00.
    assert net(follow(bars, [side] * 11, broker)) == pytest.approx([4 * a_night])
    # A day longer, the last bar is Thursday 20:00 to 24:00, and its night is paid before the last close.
    longer = flat_bars(1.1, 14, timeframe="H4", start=np.datetime64("2021-06-08T16:00", "ns"))
    assert net(follow(longer, [side] * 14, broker)) == pytest.approx([5 * a_night])
    assert getattr(broker, points) * 0.1 == pytest.approx(a_night)


@pytest.mark.parametrize(("spread", "slippage_points"), [(0.0, 0.0), (10.0, 0.0), (10.0, 4.0)])
@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_out_closes_where_equity_is_half_of_the_margin(side, spread, slippage_points):
    # 10,000 units at 1.10, leverage 30: margin 366.67 of a deposit of 400. Half of it, 183.33, is left after a loss of
    # 216.67: 216.67 points of a pip, at 1.0783333 for the long, 1.1216667 for the short. That is the exit price; the
    # entry price moves it. Slippage is lost beyond.
    extreme = {"lows": [1.1, 1.1, 1.07, 1.07]} if side > 0 else {"highs": [1.1, 1.1, 1.13, 1.13]}
    bars = make_bars([1.1, 1.1, 1.08, 1.08] if side > 0 else [1.1, 1.1, 1.12, 1.12], [1.1] * 3 + [1.1], **extreme)
    broker = BrokerRules(deposit=400.0, spread_points=spread, slippage_points=slippage_points)
    slip = market_of(bars, broker).slippage
    run = follow(bars, [side] * 4, broker, decided=0)
    entry = 1.1 + (side > 0) * spread * 1e-5 + side * slip[1]
    assert run.margin[1] == pytest.approx(10_000 * entry / 30)
    level = entry - side * (400 - run.margin[1] / 2) / 10_000
    (trade,) = run.trades
    assert (why(run), trade.exit_bar) == (["stop out"], 2)
    assert trade.exit_price == pytest.approx(level - side * slip[2])
    assert run.equity[2] == pytest.approx(run.margin[1] / 2 - 10_000 * slip[2])
    if not spread:
        assert (trade.exit_price, run.equity[2]) == pytest.approx((1.1 - side * 0.02166667, 183.333333))
    # The only target is of bar 0, so nothing is opened again.
    assert run.position.tolist() == [0, side * 10_000, 0, 0]


def test_a_stop_out_closes_the_largest_loss_and_keeps_the_rest():
    # Two tickets of 10,000, at 1.10 and 1.05, leverage 10: margins 1,100 and 1,050. Deposit 2,700.
    # Equity 2,700 + 20,000 p - 21,500 is half of 2,150 at p = 0.99375. There the first has lost 1,062.50, the second
    # 562.50: the first goes. Left are 1,637.50 and one ticket, stopped out at 1,637.50 + 10,000 p - 10,500 = 525, that
    # is 0.93875, beyond the low. At the close of 0.99 equity is 1,637.50 - 600 = 1,037.50, above its margin of 1,050
    # times one half, below the margin: a margin call.
    bars = make_bars([1.1, 1.05, 0.99, 0.99], [1.1, 1.1, 1.05, 0.99], lows=[1.1, 1.05, 0.98, 0.99])
    broker = BrokerRules(deposit=2700.0, leverage=10.0, account="hedging", spread_points=0.0)
    run = follow(bars, [1] * 4, broker, lots=[0.1, 0.2, 0.2, 0.2], resize=True, decided=0)
    assert why(run) == ["stop out", "end of data"]
    assert [(t.entry_price, t.exit_price) for t in run.trades] == [(1.10, pytest.approx(0.99375)), (1.05, 0.99)]
    assert run.equity.tolist() == pytest.approx([2700, 2200, 1037.5, 1037.5])
    assert run.margin.tolist() == pytest.approx([0, 1100, 1050, 0])
    assert run.margin_calls == 1


def test_a_reversal_is_one_deal_when_netting_and_two_when_hedging():
    # Long at 1.10, reversed at 1.11: +100 and a short at 1.11, closed by the data at 1.12: -100.
    bars = make_bars([1.1, 1.11, 1.12, 1.12], [1.1, 1.1, 1.11, 1.12])
    for account, deals in (("netting", 3), ("hedging", 4)):
        run = follow(bars, [1, -1, -1, -1], BrokerRules(spread_points=0.0, account=account))
        assert net(run) == pytest.approx([100.0, -100.0])
        assert (run.deals, run.position.tolist()) == (deals, [0, 10_000, -10_000, 0])


def test_stop_and_profit_in_one_bar_lose_unless_finer_bars_tell_otherwise():
    # Bar 2 runs from 1.10 down to 1.09 and up to 1.12; stop 1.095, profit 1.115. Each hour has two half hours.
    opens, closes = [1.1, 1.1, 1.1, 1.11], [1.1, 1.1, 1.11, 1.11]
    bars = make_bars(closes, opens, highs=[1.1, 1.1, 1.12, 1.11], lows=[1.1, 1.1, 1.09, 1.11])
    stops = {"stop": 1.095, "take_profit": 1.115, "decided": 0}
    lost = follow(bars, [1] * 4, **stops)
    assert (why(lost), net(lost)) == (["stop loss"], pytest.approx([-50.0]))
    half_hours = make_bars(
        [1.1] * 5 + [1.11] * 3, [1.1] * 4 + [1.1, 1.1, 1.11, 1.11], timeframe="M30",
        highs=[1.1] * 4 + [1.12, 1.11, 1.11, 1.11], lows=[1.1] * 4 + [1.1, 1.09, 1.11, 1.11],
    )  # fmt: skip
    won = follow(bars, [1] * 4, finer=half_hours, **stops)
    assert (why(won), net(won)) == (["take profit"], pytest.approx([150.0]))
    # The excursions end where the profit closed it: the low of the second half hour is no longer its own.
    assert (won.trades[0].mfe, won.trades[0].mae) == pytest.approx((150.0, 0.0))
    assert (lost.trades[0].mfe, lost.trades[0].mae) == pytest.approx((0.0, -50.0))


@pytest.mark.parametrize("side", [1, -1])
def test_a_gap_through_a_stop_fills_at_the_open_and_worse(side):
    # Entered at the open of bar 1, 1.10; bar 2 opens 0.02 against it, beyond the stop at 0.01. The short buys at the
    # ask, 10 points above: its stop is in asks. Slippage comes on top.
    gap = 1.1 - side * 0.02
    bars = make_bars([1.1, 1.1, gap, gap], [1.1, 1.1, gap, gap])
    broker = BrokerRules(slippage_points=3.0)
    slip = market_of(bars, broker).slippage
    run = follow(bars, [side] * 4, broker, stop=1.1 - side * 0.01, decided=0)
    (trade,) = run.trades
    ask = 0.0001 if side < 0 else 0.0
    assert trade.exit_price == pytest.approx(gap + ask - side * slip[2])
    assert trade.quote_out == pytest.approx(gap)
    assert trade.slippage_cost == pytest.approx(10_000 * (slip[1] + slip[2]))
    assert trade.spread_cost == pytest.approx(1.0)
    assert why(run) == ["stop loss"]
    # A profit beyond which the market opens fills at its level, no better.
    over = 1.1 + side * 0.02
    jump = make_bars([1.1, 1.1, over, over], [1.1, 1.1, over, over])
    won = follow(jump, [side] * 4, broker, take_profit=1.1 + side * 0.01, decided=0)
    assert (why(won), won.trades[0].exit_price) == (["take profit"], pytest.approx(1.1 + side * 0.01))


def test_an_entry_beyond_its_stop_is_refused():
    # Decided at 1.10 with a stop at 1.09; the next bar opens at 1.085. So with a profit at 1.105 that opens at 1.11.
    low, high = make_bars([1.1, 1.085, 1.085], [1.1, 1.085, 1.085]), make_bars([1.1, 1.11, 1.11], [1.1, 1.11, 1.11])
    for bars, column in ((low, {"stop": 1.09}), (high, {"take_profit": 1.105})):
        run = follow(bars, [1] * 3, **column)
        assert (len(run.trades), run.refused, run.deals) == (0, 2, 0)


def test_a_trailing_stop_follows_closes_and_never_goes_back():
    # Long at 1.10, distance 0.01, no first stop: 1.09. Close 1.12 of bar 2 brings 1.11, close 1.115 leaves it there,
    # and bar 4 falls through it: +100. The low of bar 2, 1.095, came before its close and stops nothing.
    bars = make_bars(
        [1.1, 1.1, 1.12, 1.115, 1.105, 1.105], [1.1, 1.1, 1.1, 1.12, 1.115, 1.105],
        lows=[1.1, 1.1, 1.095, 1.115, 1.1, 1.105],
    )  # fmt: skip
    run = follow(bars, [1] * 6, trailing=0.01, decided=0)
    assert (why(run), net(run), run.trades[0].exit_bar) == (["stop loss"], pytest.approx([100.0]), 4)
    # The short of the mirrored path, 20 points of spread: its stop follows asks, close + 0.0002 + 0.01.
    mirror = make_bars(
        [1.1, 1.1, 1.08, 1.085, 1.095, 1.095], [1.1, 1.1, 1.1, 1.08, 1.085, 1.095],
        highs=[1.1, 1.1, 1.105, 1.085, 1.1, 1.095],
    )  # fmt: skip
    short = follow(mirror, [-1] * 6, BrokerRules(spread_points=20.0), trailing=0.01, decided=0)
    assert (why(short), short.trades[0].exit_price) == (["stop loss"], pytest.approx(1.0902))


def test_after_a_stop_only_a_newer_forecast_opens():
    # The stop of bar 2 ends the target of bar 0, which is held out until bar 4. The forecast made at the close of the
    # very bar of the stop is newer.
    bars = make_bars([1.1, 1.1, 1.09, 1.09, 1.09, 1.09, 1.09], [1.1, 1.1, 1.1] + [1.09] * 4)
    stop = [1.095, 1.095, *[1.0] * 5]
    assert [t.entry_bar for t in follow(bars, [1] * 7, stop=stop, decided=[0, 0, 0, 0, 4, 4, 4]).trades] == [1, 5]
    assert [t.entry_bar for t in follow(bars, [1] * 7, stop=stop, decided=[0, 0, 2, 2, 2, 2, 2]).trades] == [1, 3]


@pytest.mark.parametrize(
    ("lots", "changes", "units"),
    [
        (0.257, {"lot_step": 0.1, "lot_min": 0.1}, 20_000),  # cut down to two tenths
        (0.29, {}, 29_000),  # 0.29 / 0.01 is 28.999... in floating point
        (0.1 + 0.2, {"lot_step": 0.1}, 30_000),
        (7.0, {"lot_max": 0.5}, 50_000),
        (0.04, {"lot_min": 0.05}, 0),  # below the least
        (0.009, {}, 0),
    ],
)
def test_lots_are_cut_to_what_the_broker_takes(lots, changes, units):
    run = follow(flat_bars(1.1, 4), [1] * 4, BrokerRules(spread_points=0.0, deposit=1e6, **changes), lots=lots)
    assert run.position[1] == pytest.approx(units)
    assert run.refused == (0 if units else 3)


def test_a_pair_quoted_in_yen_in_an_account_of_euros():
    # 10,000 dollars bought at 150.00 + 0.02, when a euro is 160 yen at the last close: margin 1,500,200 / 160 / 30.
    # Marked at 151 with a euro of 162: 9,800 / 162. Sold at 152.00 after that close: 19,800 / 162. Commission in euros.
    bars = make_bars([150, 151, 152, 152], [150, 150, 152, 152], 20, digits=3, symbol="USDJPY")
    rates = make_bars([160, 162, 164, 165], spread=0, digits=3, symbol="EURJPY")
    broker = BrokerRules(currency="EUR", conversion="EURJPY.csv", spread_points="data", commission_per_lot=5.0)
    run = follow(bars, [1, 0, 0, 0], broker, conversion=rates)
    assert run.margin[1] == pytest.approx(1_500_200 / 160 / 30)
    assert (run.equity - 10_000).tolist() == pytest.approx([0, 9_800 / 162 - 0.5, 19_800 / 162 - 1, 19_800 / 162 - 1])
    (trade,) = run.trades
    assert trade.spread_cost == pytest.approx(200 / 162)
    assert trade.result + trade.spread_cost == pytest.approx(20_000 / 162)
    # In dollars the pair's own closes convert: 1 / 151 at the close of bar 1.
    own = follow(bars, [1, 0, 0, 0], replace(broker, currency="USD"))
    assert own.equity[2] - 10_000 == pytest.approx(19_800 / 151 - 1)


def test_resizing_a_hedged_position_closes_the_oldest_first():
    # 0.1 at 1.10, 0.2 more at 1.11, then down to 0.15 at 1.12: the first ticket whole, +200, and 0.05 of the second,
    # +50. The last 0.15 end at 1.13: +300. Netting averages: 30,000 at 1.1066667, of which 15,000 go at 1.12: +200.
    bars = make_bars([1.1, 1.11, 1.12, 1.13, 1.13], [1.1, 1.1, 1.11, 1.12, 1.13])
    lots = [0.1, 0.3, 0.15, 0.15, 0.15]
    rules = BrokerRules(spread_points=0.0, account="hedging")
    run = follow(bars, [1] * 5, rules, lots=lots, resize=True)
    assert [(t.entry_bar, t.units) for t in run.trades] == [(1, 10_000), (2, pytest.approx(5_000)), (2, 15_000)]
    assert net(run) == pytest.approx([200.0, 50.0, 300.0])
    netted = follow(bars, [1] * 5, replace(rules, account="netting"), lots=lots, resize=True)
    assert net(netted) == pytest.approx([200.0, 350.0])
    assert netted.trades[0].entry_price == pytest.approx((1.10 + 2 * 1.11) / 3)
    assert run.equity.tolist() == pytest.approx(netted.equity.tolist())
    assert (run.deals, netted.deals) == (5, 4)
    frame = trades_frame(run, market_of(bars, rules), 100_000, ("first", "more", "", "", ""))
    assert frame["reason"].tolist() == ["first", "more", "more"]
    assert frame["exit_reason"].tolist() == ["signal", "signal", "end of data"]


@pytest.mark.parametrize(
    ("timeframe", "close", "closed"),
    [("H1", "21:45", "21:00"), ("H1", "23:30", "23:00"), ("H4", "21:45", "20:00"), ("D1", "21:45", "00:00")],
)
def test_nothing_is_held_over_the_weekend_whatever_the_bars(timeframe, close, closed):
    # Three weeks of March 2021. On the server's clock the week begins on Monday at 00:00 and ends with Friday's 24:00.
    calendar = FxWeek(timeframe)
    times = calendar.between(np.datetime64("2021-03-01", "ns"), np.datetime64("2021-03-20", "ns"))
    bars = flat_bars(1.1, len(times), timeframe=timeframe)
    bars = replace(bars, frame=bars.frame.set_index(pd.DatetimeIndex(times, tz="UTC")), calendar=calendar)
    broker = BrokerRules(friday_close=close, spread_points=0.0, swap_long=-1.0)
    span = (times[0], times[-1])
    result = run_backtest(bars, None, TradingRules(), broker, context=2, policy="buy-and-hold", span=span)
    entered, left = fill_times(result.trades, MINUTES[timeframe], close_only=False)
    begun, ended = (pd.DatetimeIndex(from_utc(t.dt.tz_localize(None).to_numpy(), "us-dst")) for t in (entered, left))
    assert ended.strftime("%a %d %H:%M").tolist() == [f"Fri {day} {closed}" for day in ("05", "12", "19")]
    assert begun[1:].strftime("%a %d %H:%M").tolist() == ["Mon 08 00:00", "Mon 15 00:00"]
    assert result.trades["swap"].tolist()[1:] == pytest.approx([-0.6] * 2)  # Monday to Thursday, Wednesday counts three
    with pytest.raises(ConfigError, match="cannot be kept on bars of a week"):
        weekend_ahead(replace(bars, instrument=replace(bars.instrument, timeframe="W1")), broker)


@pytest.mark.parametrize(
    ("timeframe", "alignment", "begins"),
    [
        ("W1", "us-dst", ["Sun 22:00", "Sun 22:00", "Sun 21:00"]),
        ("W1", "UTC", ["Sun 22:00", "Sun 22:00", "Sun 21:00"]),
        ("D1", "us-dst", ["Sun 22:00", "Mon 22:00", "Tue 22:00"]),
        ("D1", "UTC", ["Sun 22:00", "Mon 00:00", "Tue 00:00"]),
        ("H4", "us-dst", ["Sun 22:00", "Mon 02:00", "Mon 06:00"]),
        ("H12", "Europe/Athens", ["Sun 22:00", "Mon 10:00", "Mon 22:00"]),
    ],
)
def test_orders_fill_where_the_trading_of_a_bar_begins(timeframe, alignment, begins):
    # New York's 17:00 on Sunday, 28 February 2021, is 22:00 UTC; summer time begins on 14 March.
    calendar = FxWeek(timeframe, alignment)
    times = calendar.between(np.datetime64("2021-02-24", "ns"), np.datetime64("2021-03-23", "ns"))
    bars = flat_bars(1.1, len(times), timeframe=timeframe)
    bars = replace(bars, frame=bars.frame.set_index(pd.DatetimeIndex(times, tz="UTC")), calendar=calendar)
    starts = bar_starts(bars)
    week = pd.DatetimeIndex(starts[starts > np.datetime64("2021-02-28", "ns")][:3])
    assert week.strftime("%a %H:%M").tolist() == begins
    # Held from the first bar to the last open: entry and exit stand where the trading of their bars begins.
    side = np.arange(len(times)) < len(times) - 2
    market = market_of(bars, BrokerRules(swap_long=-1.0))
    run = run_plan(market, plain_plan(side.astype(np.int8), 0.1), BrokerRules(swap_long=-1.0))
    trades = with_fills(trades_frame(run, market, 1e5, ("",) * len(times)), bars.times, starts)
    entered, left = fill_times(trades, MINUTES[timeframe], close_only=False)
    assert [entered[0], left[0]] == [*pd.DatetimeIndex(starts[[1, -1]], tz="UTC")]
    if timeframe == "W1":  # from Sunday to Sunday a week has five nights, Wednesday's counting three: 7 x 0.10
        assert run.trades[0].swap == pytest.approx(-0.7 * (len(times) - 2))


@pytest.mark.parametrize("close", ["21:00", "21:45"])
def test_the_clock_of_the_bar_dealt_in_decides_over_the_weekend(close):
    """Server's clock, UTC+2: a hole over the close, a bar beyond the week, a Friday that ends early."""
    dealt = {
        "2021-03-05T17:00": True,  # 19:00; the next bar is that from 22:00 on
        "2021-03-05T21:00": True,  # Friday's last bar is next
        "2021-03-05T22:00": True,  # 24:00; a bar of Saturday follows, which the calendar does not have
        "2021-03-05T23:00": False,  # Saturday; Monday's first is next
        "2021-03-07T23:00": False,  # Monday, 1:00
        "2021-03-12T17:00": False,  # 20:00 to 21:00 is next, which ends in time
        "2021-03-12T19:00": False,  # 21:00; no bar follows at which to close before Monday
        "2021-03-14T22:00": False,
    }
    times = pd.DatetimeIndex(list(dealt), tz="UTC")
    bars = flat_bars(1.1, len(times))
    bars = replace(bars, frame=bars.frame.set_index(times), calendar=FxWeek("H1"))
    assert weekend_ahead(bars, BrokerRules(friday_close=close)).tolist() == list(dealt.values())


def test_nothing_is_held_over_the_weekend_on_fixings():
    # Fixings at 17:00 on the server's clock: what is decided on Thursday fills on Friday, and then not before Monday.
    calendar = TargetDays()
    times = calendar.between(np.datetime64("2021-03-01", "ns"), np.datetime64("2021-03-13", "ns"))
    bars = make_bars(np.full(10, 1.1), timeframe="D1")
    bars = replace(bars, frame=bars.frame.set_index(pd.DatetimeIndex(times, tz="UTC")), calendar=calendar)
    flat = weekend_ahead(bars, BrokerRules(friday_close="21:45"))
    assert flat.tolist() == [False, False, False, True, False] * 2


def test_a_bar_whose_finer_bars_do_not_reach_its_range_is_its_own():
    # The low of bar 2, 1.09, was in its second half hour, which is missing; then the first is missing too.
    bars = make_bars([1.1] * 4, [1.1] * 4, highs=[1.1, 1.1, 1.12, 1.1], lows=[1.1, 1.1, 1.09, 1.1])
    half_hours = make_bars([1.1] * 8, [1.1] * 8, timeframe="M30", highs=[1.1] * 4 + [1.12] + [1.1] * 3)
    for lost in ([5], [4, 5]):
        finer = replace(half_hours, frame=half_hours.frame.drop(half_hours.frame.index[lost]))
        run = follow(bars, [1] * 4, finer=finer, stop=1.095, decided=0)
        assert (why(run), net(run)) == (["stop loss"], pytest.approx([-50.0]))


def test_finer_bars_of_another_feed_are_refused():
    bars = make_bars([1.1] * 4, [1.1] * 4)
    with pytest.raises(DataError, match=r"broker\.finer: 4 of 4 bars of EURUSD-H1 have finer prices beyond"):
        follow(bars, [1] * 4, finer=make_bars([1.15] * 8, [1.15] * 8, timeframe="M30"))


def test_a_profit_that_the_bar_opens_beyond_comes_first():
    # Bar 2 opens at 1.12, beyond the profit at 1.11, and falls through the stop later.
    bars = make_bars([1.1, 1.1, 1.12, 1.12], [1.1, 1.1, 1.12, 1.12], lows=[1.1, 1.1, 1.08, 1.12])
    run = follow(bars, [1] * 4, stop=1.09, take_profit=1.11, decided=0)
    assert (why(run), net(run), run.trades[0].mfe) == (["take profit"], pytest.approx([100.0]), pytest.approx(100.0))


def test_hours_keep_entries_out_and_friday_closes_all():
    # Hourly bars from Friday, 5 March 2021, 00:00 UTC. Entries from 10:00; all is closed from 20:00 on, until Sunday.
    bars = flat_bars(1.1, 96, start=np.datetime64("2021-03-05T00:00", "ns"))
    broker = BrokerRules(hours="10:00-18:00", friday_close="20:00", timezone="UTC", spread_points=0.0)
    span = (bars.times[0], bars.times[-1])
    result = run_backtest(bars, None, TradingRules(), broker, context=2, policy="buy-and-hold", span=span)
    stamps = result.trades[["entry_time", "exit_time"]].map(lambda time: str(time)[:16])
    # Decided at the close of 10:00, filled in the bar that closes at 11:00; again on Sunday; Monday is the end.
    assert stamps.to_numpy().tolist() == [
        ["2021-03-05 11:00", "2021-03-05 21:00"],
        ["2021-03-07 11:00", "2021-03-09 00:00"],
    ]
    assert result.trades["exit_reason"].tolist() == ["signal", "end of data"]
    assert result.figures["orders_refused"] == 0
