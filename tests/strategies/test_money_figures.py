"""Each figure against a plain loop, and against another library where it has the same definition."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import random_case

from strategies.backtest import run_backtest
from strategies.metrics import daily_returns, drawdowns, figures
from strategies.rules import TradingRules

DEPOSIT = 10_000.0


def curve(values, freq="D", start="2021-03-01T15:00Z"):
    values = np.asarray(values, np.float64)
    time = pd.date_range(start, periods=len(values), freq=freq).as_unit("ns")
    return pd.DataFrame({"time": time, "equity": values, "position": 0.0, "margin": 0.0, "costs": 0.0})


def ledger(nets, directions=None, units=1000.0, entry=1.0, leave=1.1):
    count = len(nets)
    return pd.DataFrame(
        {
            "direction": np.ones(count, int) if directions is None else directions,
            "units": units,
            "entry_price": entry,
            "exit_price": leave,
            "net_profit": np.asarray(nets, np.float64),
            "exit_reason": "signal",
            **dict.fromkeys(("spread_cost", "slippage_cost", "commission", "swap"), 0.0),
        }
    )


def walk(seed, length=300, scale=0.01):
    steps = np.random.default_rng(seed).normal(0.0003, scale, length - 1)
    return DEPOSIT * np.concatenate([[1.0], np.cumprod(1 + steps)])


@pytest.mark.parametrize("seed", range(3))
def test_returns_risk_and_ratios_against_a_loop(seed):
    values = walk(seed)
    got = figures(ledger([]), curve(values), DEPOSIT)
    returns = [values[i] / values[i - 1] - 1 for i in range(1, len(values))]
    years = 299 / 365.25
    a_year = len(returns) / years
    mean, deviation = statistics.fmean(returns), statistics.stdev(returns)
    downside = math.sqrt(sum(r * r for r in returns if r < 0) / len(returns))
    assert got["years"] == pytest.approx(years)
    assert got["net_profit"] == pytest.approx(values[-1] - DEPOSIT)
    assert got["total_return"] == pytest.approx(values[-1] / DEPOSIT - 1)
    assert got["annual_return"] == pytest.approx((values[-1] / DEPOSIT) ** (365.25 / 299) - 1)
    assert got["annual_volatility"] == pytest.approx(deviation * math.sqrt(a_year))
    assert got["sharpe"] == pytest.approx(mean / deviation * math.sqrt(a_year))
    assert got["sortino"] == pytest.approx(mean / downside * math.sqrt(a_year))


def slow_drawdowns(times, values):
    """Depth as a share, depth in money, longest duration in days: every pair of a peak and a later bar."""
    share = money = days = 0.0
    for i, peak in enumerate(values):
        end = next((j for j in range(i + 1, len(values)) if values[j] >= peak), len(values) - 1)
        lowest = min(values[i : end + 1])
        share, money = max(share, (peak - lowest) / peak), max(money, peak - lowest)
        if lowest < peak:
            days = max(days, (times[end] - times[i]) / np.timedelta64(1, "D"))
    return share, money, days


@settings(max_examples=50, deadline=None)
@given(moves=st.lists(st.sampled_from([-300.0, -100.0, 0.0, 100.0, 250.0]), min_size=1, max_size=25))
def test_drawdown_against_every_peak(moves):
    values = DEPOSIT + np.concatenate([[0.0], np.cumsum(moves)])
    times = curve(values)["time"].dt.tz_localize(None).to_numpy("datetime64[ns]")
    got = drawdowns(times, values, DEPOSIT)
    share, money, days = slow_drawdowns(times, values)
    assert got["max_drawdown"] == pytest.approx(share)
    assert got["max_drawdown_money"] == pytest.approx(money)
    assert got["max_drawdown_days"] == pytest.approx(days)


@pytest.mark.parametrize("seed", range(3))
def test_against_the_statistics_of_backtesting_py(seed):
    from backtesting._stats import compute_stats

    values, rng = walk(seed), np.random.default_rng(seed)
    nets = rng.normal(0, 10, 40)
    frame = curve(values)
    index = pd.DatetimeIndex(frame["time"]).tz_localize(None)
    entries = np.arange(40)
    trades = pd.DataFrame(
        {
            "Size": 1,
            "EntryBar": entries,
            "ExitBar": entries + 1,
            "PnL": nets,
            "ReturnPct": nets,
            "Duration": index[1] - index[0],
        }
    )
    theirs = compute_stats(trades, values, pd.DataFrame({"Close": values}, index=index), None)
    ours = figures(ledger(nets), frame, DEPOSIT)
    assert ours["max_drawdown"] == pytest.approx(-theirs["Max. Drawdown [%]"] / 100)
    assert ours["max_drawdown_days"] == pytest.approx(theirs["Max. Drawdown Duration"] / pd.Timedelta(days=1))
    assert ours["annual_return"] == pytest.approx(theirs["CAGR [%]"] / 100)
    assert ours["total_return"] == pytest.approx(theirs["Return [%]"] / 100)
    assert ours["profit_factor"] == pytest.approx(theirs["Profit Factor"])
    assert ours["win_rate"] == pytest.approx(theirs["Win Rate [%]"] / 100)


def test_trade_figures_by_hand():
    got = figures(ledger([30.0, -10.0, 0.0, -20.0], directions=[1, -1, 1, 1]), curve([10_000, 10_000]), DEPOSIT)
    assert (got["gross_profit"], got["gross_loss"], got["profit_factor"]) == (30.0, -30.0, 1.0)
    assert (got["trades"], got["long_trades"], got["short_trades"]) == (4, 3, 1)
    assert (got["win_rate"], got["average_trade"]) == (0.25, 0.0)
    # 4 trades of 1,000 units bought at 1.0 and sold at 1.1: 8,400 traded, over equity 10,000 and one day.
    assert got["turnover"] == pytest.approx(0.84 * 365.25)


def test_costs_and_exposure_come_from_the_curve():
    frame = curve([10_000, 10_010, 10_005, 10_020]).assign(position=[0, 5, -5, 0], costs=[0, 1.0, 1.5, 2.5])
    got = figures(ledger([20.0]), frame, DEPOSIT)
    assert (got["costs"], got["net_profit"], got["profit_before_costs"], got["exposure"]) == (2.5, 20, 22.5, 0.5)


def test_single_costs_margin_and_stop_outs_are_counted():
    trades = ledger([-5.0, 1.0, 2.0]).assign(
        spread_cost=[1.0, 2.0, 4.0], slippage_cost=[0.5, 0, 0], commission=1.0, swap=[-3.0, 1.0, 0],
        exit_reason=["stop out", "signal", "stop loss"],
    )  # fmt: skip
    got = figures(trades, curve([10_000, 9_000, 12_000]).assign(margin=[0, 3_000, 5_000]), DEPOSIT)
    assert [got[name] for name in ("spread", "slippage", "commission", "swap", "stop_outs")] == [7, 0.5, 3, -2, 1]
    assert got["min_margin_level"] == pytest.approx(2.4)
    assert math.isnan(figures(ledger([]), curve([10_000, 9_000]), DEPOSIT)["min_margin_level"])


def test_days_are_utc_and_midnight_belongs_to_the_day_it_ends():
    frame = curve([100.0, 110.0, 99.0, 198.0, 99.0], freq="12h", start="2021-03-01T12:00Z")
    # Closes at 1st 12:00, 1st 24:00, 2nd 12:00, 2nd 24:00, 3rd 12:00.
    returns = daily_returns(frame)
    assert [str(day)[:10] for day in returns.index] == ["2021-03-01", "2021-03-02", "2021-03-03"]
    assert returns.tolist() == pytest.approx([0.1, 0.8, -0.5])


def test_the_first_day_of_a_daily_curve_has_no_return():
    returns = daily_returns(curve([100.0, 110.0, 99.0]))
    assert [str(day)[:10] for day in returns.index] == ["2021-03-02", "2021-03-03"]
    assert returns.tolist() == pytest.approx([0.1, -0.1])


def test_daily_returns_compound_to_the_total():
    bars, forecasts = random_case(5, length=400)
    result = run_backtest(bars, forecasts, TradingRules(), context=10)
    total = float(np.prod(1 + daily_returns(result.equity))) - 1
    assert total == pytest.approx(result.figures["total_return"])


@pytest.mark.parametrize(
    "values", [[10_000, 10_000], [10_000, -5.0, 20.0], [10_000, 0.0], [10_000] * 3, [10_000, 9_000]]
)
def test_nothing_divides_by_zero(values, recwarn):
    got = figures(ledger([]), curve(values), DEPOSIT)
    assert all(isinstance(value, float) and not math.isinf(value) for value in got.values())
    assert not recwarn.list


def test_ruin_has_no_annual_return_or_sharpe():
    got = figures(ledger([]), curve([10_000, -5.0, 20.0, 30.0]), DEPOSIT)
    assert math.isnan(got["sharpe"])
    assert got["max_drawdown"] == pytest.approx(10_005 / 10_000)
    assert math.isnan(figures(ledger([]), curve([10_000, -5.0]), DEPOSIT)["annual_return"])
