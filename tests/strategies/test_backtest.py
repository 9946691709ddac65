import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import make_bars, make_forecasts, random_case

from forecasting.errors import ConfigError, DataError, UserError
from strategies.backtest import run_backtest, span_of
from strategies.contract import BrokerRules
from strategies.plans import targets
from strategies.rules import TradingRules
from strategies.signals import SIGNALS

SIGNAL_NAMES = sorted(SIGNALS)
CASES = {
    "seed": st.integers(0, 10_000),
    "signal": st.sampled_from(SIGNAL_NAMES),
    "close_only": st.booleans(),
    "yen": st.booleans(),
}


def case(seed, close_only, yen):
    price, digits = (150.0, 3) if yen else (1.1, 5)
    return random_case(seed, close_only=close_only, price=price, digits=digits)


def rules_for(bars, signal, lots=0.1, **changes):
    """Rules of trading and of a broker."""
    deposit = 10_000.0 * (100 if bars.instrument.quote == "JPY" else 1)
    settings = {"deposit": deposit, "spread_points": "data", "commission_per_lot": 3.5}
    return TradingRules(signal=signal, lots=lots), BrokerRules(**settings | changes)


def after(bars, bar, rng):
    """The same bars with everything after `bar` replaced at random."""
    frame = bars.frame.copy()
    tail = slice(bar + 1, None)
    for name in ("open", "close"):
        frame.iloc[tail, frame.columns.get_loc(name)] *= np.exp(rng.normal(0, 0.05, len(frame) - bar - 1))
    if bars.instrument.close_only:
        frame["open"] = frame["close"]
    frame["high"], frame["low"] = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    frame.iloc[tail, frame.columns.get_loc("spread")] = rng.uniform(0, 50, len(frame) - bar - 1)
    return dataclasses.replace(bars, frame=frame)


@settings(max_examples=60, deadline=None)
@given(bar=st.integers(12, 55), **CASES)
def test_nothing_after_t_changes_anything_up_to_t(seed, signal, close_only, yen, bar):
    bars, forecasts = case(seed, close_only, yen)
    rng = np.random.default_rng(seed + 1)
    other_bars = after(bars, bar, rng)
    known = forecasts.cutoff <= bars.times[bar]
    where = np.searchsorted(bars.times, forecasts.cutoff)
    mean = np.where(
        known[:, None], forecasts.mean, other_bars.closes[where, None] * rng.uniform(0.99, 1.01, (len(where), 3))
    )
    other = make_forecasts(other_bars, where, mean, forecasts.mean_se)
    rules, broker = rules_for(bars, signal, leverage=500.0)

    before, changed = targets(bars, forecasts, rules, 10, broker), targets(other_bars, other, rules, 10, broker)
    assert before[: known.sum()] == changed[: known.sum()]

    one = run_backtest(bars, forecasts, rules, broker, context=10)
    two = run_backtest(other_bars, other, rules, broker, context=10)
    stamp = bars.frame.index[bar]
    past = one.equity["time"] <= stamp
    pd.testing.assert_frame_equal(one.equity[past], two.equity[past])
    entries = [run.trades.loc[run.trades["entry_time"] <= stamp, ["direction", "entry_price"]] for run in (one, two)]
    pd.testing.assert_frame_equal(*entries)
    closed = [run.trades[run.trades["exit_time"] <= stamp] for run in (one, two)]
    pd.testing.assert_frame_equal(*closed)


@settings(max_examples=15, deadline=None)
@given(commission=st.floats(0, 20), lots=st.floats(0.01, 1.0), **CASES)
def test_the_account_adds_up_at_every_bar(seed, signal, close_only, yen, commission, lots):
    bars, forecasts = case(seed, close_only, yen)
    rules, broker = rules_for(bars, signal, lots, commission_per_lot=commission, deposit=1e8)
    result = run_backtest(bars, forecasts, rules, broker, context=10)
    trades, equity = result.trades, result.equity
    spreads = bars.frame["spread"] * bars.instrument.point
    for row in equity.itertuples():
        spread = spreads[row.time] / 2 if close_only else spreads[row.time]
        closed = trades[trades["exit_time"] <= row.time]
        held = trades[(trades["entry_time"] <= row.time) & (trades["exit_time"] > row.time)]
        assert len(held) <= 1
        open_result = sum(
            t.direction * t.units * (row.price - t.entry_price)
            - t.units * spread * (close_only or t.direction < 0)
            - commission * t.lots
            for t in held.itertuples()
        )
        assert row.balance == pytest.approx(1e8 + closed["net_profit"].sum(), abs=1e-6)
        assert row.equity == pytest.approx(row.balance + open_result, abs=1e-6)
        assert row.position == pytest.approx(sum(t.direction * t.units for t in held.itertuples()), abs=1e-6)
    costs = trades["spread_cost"].sum() + trades["commission"].sum()
    assert equity["costs"].iloc[-1] == pytest.approx(costs, abs=1e-6)
    assert trades["net_profit"].sum() == pytest.approx(trades["profit_before_costs"].sum() - costs, abs=1e-6)
    by_prices = trades["direction"] * trades["units"] * (trades["exit_price"] - trades["entry_price"])
    assert (by_prices - trades["commission"]).tolist() == pytest.approx(trades["net_profit"].tolist(), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), close_only=st.booleans())
def test_equity_before_costs_is_the_run_without_costs(seed, close_only):
    bars, forecasts = case(seed, close_only, yen=False)
    costly = {"slippage_points": 5.0, "swap_long": -4.0, "swap_short": -4.0}
    free = rules_for(bars, "mean-vs-last", spread_points=0.0, commission_per_lot=0.0)
    with_costs = run_backtest(bars, forecasts, *rules_for(bars, "mean-vs-last", **costly), context=10)
    without = run_backtest(bars, forecasts, *free, context=10)
    expected = without.equity["equity"].tolist()
    assert with_costs.equity["equity_before_costs"].tolist() == pytest.approx(expected, abs=1e-6)
    assert (without.equity["costs"] == 0).all()


def test_trades_equal_those_of_another_engine():
    from backtesting import Backtest, Strategy

    bars, forecasts = random_case(7, length=200)
    rules, broker = rules_for(bars, "mean-vs-last", spread_points=0.0, commission_per_lot=0.0)
    ours = run_backtest(bars, forecasts, rules, broker, context=10, span=(bars.times[0], bars.times[-1])).trades
    wanted = {
        stamp: t.position
        for stamp, t in zip(forecasts.cutoff, targets(bars, forecasts, rules, 10, broker), strict=True)
    }  # fmt: skip

    class Follow(Strategy):
        def init(self):
            pass

        def next(self):
            position = wanted.get(self.data.index[-1].to_datetime64())
            held = np.sign(self.position.size)
            if position is None or held == position:
                return
            self.position.close()
            if position:
                (self.buy if position > 0 else self.sell)(size=10_000)

    frame = bars.frame.rename(columns=str.capitalize).tz_localize(None)
    theirs = Backtest(frame, Follow, cash=10_000, margin=1 / 30, finalize_trades=True).run()["_trades"]
    whole = len(ours) - 1  # how the last one is cut short differs
    assert whole > 20
    assert ours["profit_before_costs"][:whole].tolist() == pytest.approx(theirs["PnL"][:whole].tolist(), abs=1e-6)
    assert ours["entry_price"][:whole].tolist() == theirs["EntryPrice"][:whole].tolist()
    assert ours["exit_time"][:whole].tolist() == theirs["ExitTime"][:whole].dt.tz_localize("UTC").tolist()


def test_the_span_runs_from_the_first_cutoff_to_the_end_of_the_last_horizon():
    bars = make_bars(np.linspace(1.1, 1.2, 20), np.linspace(1.1, 1.2, 20))
    mean = np.full((4, 3), 2.0)
    forecasts = make_forecasts(bars, [5, 6, 7, 8], mean)
    assert span_of(bars, forecasts) == (bars.times[5], bars.times[11])
    assert len(run_backtest(bars, forecasts, TradingRules(), context=2).equity) == 7
    late = make_forecasts(bars, [15, 18], mean[:2])
    assert span_of(bars, late) == (bars.times[15], bars.times[19])


def test_a_position_ends_when_its_forecast_expires():
    bars = make_bars(np.full(20, 1.1), np.full(20, 1.1))
    forecasts = make_forecasts(bars, [5, 12], np.full((2, 3), 2.0))
    result = run_backtest(bars, forecasts, TradingRules(), context=2)
    # Expires at the close of bar 8, so it is sold at the open of bar 9; the second holds to its own end, bar 15.
    assert result.trades["entry_time"].tolist() == [bars.frame.index[6], bars.frame.index[13]]
    assert result.trades["exit_time"].tolist() == [bars.frame.index[9], bars.frame.index[15]]


def test_a_bad_deposit_is_refused_before_the_run():
    bars = make_bars(np.full(20, 150.0), digits=3, symbol="USDJPY")
    forecasts = make_forecasts(bars, [5, 6], np.full((2, 3), 1.0) * [150, 151, 151])
    with pytest.raises(
        ConfigError, match=r"broker\.deposit 10000 .* 0\.1 lot .* 50000\.00 at leverage 30; both are in JPY"
    ):
        run_backtest(bars, forecasts, TradingRules(), context=2)


@pytest.mark.parametrize("direction", [1, -1])
def test_an_order_short_of_margin_is_refused_and_counted_on_both_sides(direction):
    # 10,000 units at 1.10 and leverage 30 tie up 366.67. The first trade loses 100; the next finds 300,
    # at the closes of bars 4, 5 and 6: a refused order is asked for again while its forecast lives.
    closes = [1.10, 1.10, 1.10, 1.10 - direction * 0.01] + [1.10 - direction * 0.01] * 4
    bars = make_bars(closes, [1.10, *closes[:-1]])
    mean = np.array([[closes[i] + direction * move] * 2 for i, move in ((1, 0.01), (3, 0.0), (4, 0.01), (5, 0.01))])
    broker = BrokerRules(deposit=400.0, spread_points=0.0)
    result = run_backtest(bars, make_forecasts(bars, [1, 3, 4, 5], mean), TradingRules(), broker, context=2)
    assert result.trades["net_profit"].tolist() == pytest.approx([-100.0])
    assert result.figures["orders_refused"] == 3
    assert result.equity["equity"].iloc[-1] == pytest.approx(300.0)


def test_a_reversal_without_margin_still_closes():
    closes = [1.10, 1.10, 1.10, 1.08, 1.08, 1.08]
    bars = make_bars(closes, [1.10, *closes[:-1]])
    forecasts = make_forecasts(bars, [1, 3], [[1.2, 1.2], [1.0, 1.0]])
    result = run_backtest(bars, forecasts, TradingRules(), BrokerRules(deposit=400.0, spread_points=0.0), context=2)
    assert result.trades["net_profit"].tolist() == pytest.approx([-200.0])
    assert result.figures["orders_refused"] == 2
    assert result.equity["position"].iloc[-1] == 0


def test_nan_spread_names_the_bar_and_the_cure():
    spread = np.full(20, 10.0)
    spread[9] = np.nan
    bars = make_bars(np.full(20, 1.1), np.full(20, 1.1), spread)
    forecasts = make_forecasts(bars, range(5, 15), np.full((10, 3), 1.2))
    with pytest.raises(DataError, match=r"bar of 2021-03-01T10.* has no spread.*set broker\.spread_points"):
        run_backtest(bars, forecasts, TradingRules(), BrokerRules(spread_points="data"), context=2)
    run_backtest(bars, forecasts, TradingRules(), BrokerRules(spread_points=10), context=2)
    early = dataclasses.replace(bars, frame=bars.frame.iloc[:9])
    run_backtest(
        early, make_forecasts(early, [5], [[1.2] * 3]), TradingRules(), BrokerRules(spread_points="data"), context=2
    )


def test_horizon_1_is_refused_on_fixings_alone():
    closes = np.full(20, 1.1)
    for opens in (closes, None):
        bars = make_bars(closes, opens)
        forecasts = make_forecasts(bars, [5, 6], [[1.2], [1.2]])
        if opens is None:
            with pytest.raises(UserError, match="horizon 1"):
                run_backtest(bars, forecasts, TradingRules(), context=2)
        else:
            assert len(run_backtest(bars, forecasts, TradingRules(), context=2).trades) == 1


def test_forecasts_of_other_bars_are_refused():
    bars, forecasts = random_case(1)
    with pytest.raises(UserError, match="other closes"):
        targets(bars, dataclasses.replace(forecasts, anchor=forecasts.anchor * 1.001), TradingRules(), 10)
    with pytest.raises(UserError, match="no bar of EURUSD-H1 closes at the cutoff"):
        shifted = dataclasses.replace(forecasts, cutoff=forecasts.cutoff + np.timedelta64(60_000_000_000, "ns"))
        targets(bars, shifted, TradingRules(), 10)
    with pytest.raises(UserError, match=r"has 10 closes behind it and the context mean needs 11"):
        targets(bars, forecasts, TradingRules(), 11)


def test_what_is_missing_is_named():
    bars, _ = random_case(1)
    span = (bars.times[0], bars.times[-1])
    with pytest.raises(ConfigError, match="did you mean 'buy-and-hold'"):
        run_backtest(bars, None, TradingRules(), context=10, policy="buy-hold", span=span)
    with pytest.raises(UserError, match="needs forecasts"):
        run_backtest(bars, None, TradingRules(), context=10, span=span)
    with pytest.raises(UserError, match="pass the span"):
        run_backtest(bars, None, TradingRules(), context=10, policy="always-flat")
    with pytest.raises(UserError, match="has 1 bars"):
        run_backtest(bars, None, TradingRules(), context=10, policy="always-flat", span=(bars.times[3], bars.times[3]))


def test_the_context_mean_is_that_of_the_last_closes():
    bars, forecasts = random_case(3)
    for row, wanted in enumerate(targets(bars, forecasts, TradingRules(signal="mean-vs-context"), 5)):
        bar = 9 + row
        move = sum(forecasts.mean[row]) / 3 - sum(bars.closes[bar - j] for j in range(5)) / 5
        flat = abs(move) <= 2 * sum(forecasts.mean_se[row]) / 3
        assert wanted.position == (0 if flat else np.sign(move))
