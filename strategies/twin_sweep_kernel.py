"""Compiled code of `strategies.twin_sweep`: lays the plan of each setting, runs the account and sums it up.

A worker has one set of buffers for all of its settings, so memory grows with threads and bars and not with settings.
"""

import numpy as np
from numba import njit

from strategies.twin_kernel import Record, leaving, run
from strategies.twin_records import MarketArrays, PlanArrays, ViewArrays


@njit(cache=True, error_model="numpy")
def lay(setting: Record, views: ViewArrays, market: MarketArrays, close_only: bool, plan: PlanArrays) -> None:
    """The plan of a setting, into the arrays of `plan`."""
    move, band, hurdle, reach, size, decided, flat = views
    closes, spread = market.close, market.spread
    sides, lots, lots_per_money, stops, profits, trailing = plan[:6]
    for t in range(len(closes)):
        at = decided[t]
        side = 0
        if at >= 0 and not flat[t] and abs(move[at]) > max(band[at], setting.threshold * hurdle[at]):
            side = 1 if move[at] > 0 else -1
        sides[t] = side
        if side == 0:
            continue
        now = leaving(closes[at], side, spread[at], close_only)
        stops[t] = now - side * (setting.stop * reach[at])
        profits[t] = now + side * (setting.take_profit * reach[at])
        trailing[t] = setting.trailing * reach[at]
        lots[t], lots_per_money[t] = setting.lots * size[at], setting.lots_per_money * size[at]


@njit(cache=True, error_model="numpy", nogil=True)
def sum_up(
    row: Record, account: Record, curves: np.ndarray, ends: np.ndarray, years: float, deposit: float, daily: np.ndarray
) -> None:
    """Figures of a run into `row`, its daily returns into `daily` [D]; ends [D + 1]: bars between which days are."""
    peak, fall = deposit, 0.0
    for t in range(len(curves)):
        peak = max(peak, curves[t].equity)
        fall = max(fall, 1 - curves[t].equity / peak)
    row.net_profit = curves[-1].equity - deposit
    row.costs, row.trades, row.refused, row.max_drawdown = curves[-1].paid, account.trades, account.refused, fall
    count = len(ends) - 1
    mean = 0.0
    for day in range(count):
        before = curves[ends[day]].equity
        daily[day] = curves[ends[day + 1]].equity / before - 1 if before > 0 else np.nan
        mean += daily[day] / count
    square = 0.0
    for day in range(count):
        square += (daily[day] - mean) ** 2
    row.sharpe = np.nan
    if square > 0 and years > 0:
        row.sharpe = mean / np.sqrt(square / (count - 1)) * np.sqrt(count / years)


@njit(cache=True, error_model="numpy", nogil=True)
def run_settings(
    fresh: np.ndarray,
    account: np.ndarray,
    tickets: np.ndarray,
    order: Record,
    fill: Record,
    market: MarketArrays,
    views: ViewArrays,
    settings: np.ndarray,
    plan: PlanArrays,
    curves: np.ndarray,
    trades: np.ndarray,
    ends: np.ndarray,
    years: float,
    rows: np.ndarray,
    daily: np.ndarray,
) -> None:
    """Each of `settings` in turn into `rows`; daily [S, D], or [1, D] where returns need not be kept."""
    for number in range(len(settings)):
        account[0] = fresh[0]
        order.leave = order.steps = 0
        lay(settings[number], views, market, fresh[0].close_only, plan)
        run(account[0], tickets, order, fill, market, plan, curves, trades)
        returns = daily[min(number, len(daily) - 1)]
        sum_up(rows[number], account[0], curves, ends, years, fresh[0].balance, returns)
