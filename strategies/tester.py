"""Figures of MetaTrader 5's Strategy Tester, from a run's trades and equity. Imports only strategies.metrics.

`strategies.tester_fields` defines each in words, in the order of the Tester's report. A trade is a row of the trades
frame (a closed part of a position counts, as in MetaTrader), its result is `net_profit`: after spread, slippage, both
commissions and swap. A result of exactly zero counts as a profit, which is what terminals do. Series run in order of
closing. An undefined figure (no trade, no loss, no movement) is NaN, where MetaTrader prints 0.00 or a huge number.

Equity is known at the closes of bars, so its drawdown and the margin level miss what happened between; MetaTrader looks
at every tick and may show a deeper fall. Sources: the help pages "Testing Report" and ENUM_STATISTICS, MetaQuotes'
articles 1492 (Z-score, holding period returns) and 9171 (Sharpe). Where those are silent or differ from what terminals
print, published reports decide; docs/TESTER.md says where.
"""

import math
from collections.abc import Mapping
from itertools import groupby

import numpy as np
import pandas as pd

from strategies.metrics import falls, margin_level, ratio
from strategies.run import left_at_open

TRADING_DAYS = 252
TRADING_DAYS_A_WEEK = 5
LEAST_SHARPE = -5.0
"""Terminals print no Sharpe ratio below this."""

MINUTES_A_DAY = 1440
AT_OPEN = "signal"
"""Reason of exits that fill at a bar's open; all others happen within the bar or at its close."""


def report_figures(
    trades: pd.DataFrame,
    equity: pd.DataFrame,
    deposit: float,
    *,
    close_only: bool = False,
    minutes: float | None = None,
    deals: float | None = None,
) -> dict[str, float]:
    """All figures of the report; shares are fractions, spans seconds, money account currency.

    trades, equity: frames of strategies.run (TRADE_COLUMNS, EQUITY_COLUMNS). close_only: fills happen at the closes
    that stamp them, not at the start of that bar. minutes: length of a bar; from the stamps unless given. deals: orders
    executed, where the run counted them; else counted from the trades, in which enlarging a position of a netting
    account leaves no trace.
    """
    closed = in_order(trades)
    net = closed["net_profit"].to_numpy(np.float64)
    money = equity["equity"].to_numpy(np.float64)
    length = bar_minutes(equity) if minutes is None else minutes
    figures = {
        "bars": float(len(equity)),
        "deposit": float(deposit),
        **profits(net),
        **_named("balance", drawdowns(np.concatenate([[deposit], deposit + np.cumsum(net)]))),
        **_named("equity", drawdowns(np.concatenate([[deposit], money]))),
        **growth(net, deposit),
        **regression(np.concatenate([[deposit], deposit + np.cumsum(net)])),
        "sharpe_ratio": sharpe(money, length),
        "margin_level": margin_level(money, equity["margin"].to_numpy(np.float64)),
        **z_score(net >= 0),
        **counts(closed),
        **streaks(net),
        **correlations(closed),
        **holding_times(closed, length, close_only),
    }
    figures["recovery_factor"] = ratio(figures["total_net_profit"], figures["equity_dd_maximal"])
    figures["total_deals"] = _deals(closed) if deals is None else float(deals)
    return figures


def in_order(trades: pd.DataFrame) -> pd.DataFrame:
    """Trades in order of closing, those of one bar in order of entry."""
    return trades.sort_values("exit_time", kind="stable").reset_index(drop=True)


def bar_minutes(equity: pd.DataFrame) -> float:
    """The commonest distance of the stamps of an equity frame, minutes; NaN of a single bar."""
    gaps = np.diff(equity["time"].to_numpy("datetime64[ns]")) / np.timedelta64(1, "m")
    if not len(gaps):
        return math.nan
    values, count = np.unique(gaps, return_counts=True)
    return float(values[np.argmax(count)])


def fill_times(trades: pd.DataFrame, minutes: float, close_only: bool) -> tuple[pd.Series, pd.Series]:
    """UTC at which each trade was entered and left, as nearly as bars tell.

    As the run noted it (FILL_COLUMNS), from its calendar. Else fills at an open, stamped with that bar's close, are
    taken to have happened a bar earlier. What was closed within a bar or at its end has that end, the latest moment it
    can have been.
    """
    if "entry_filled" in trades:
        return trades["entry_filled"], trades["exit_filled"]
    if close_only or math.isnan(minutes):
        return trades["entry_time"], trades["exit_time"]
    length = pd.Timedelta(minutes=minutes)
    return trades["entry_time"] - length, trades["exit_time"].where(~left_at_open(trades), trades["exit_time"] - length)


def profits(net: np.ndarray) -> dict[str, float]:
    """Sums, averages and extremes of the results [N] of trades."""
    won, lost = net[net >= 0], net[net < 0]
    gain, loss = float(won.sum()), float(lost.sum())
    return {
        "total_net_profit": gain + loss,
        "gross_profit": gain,
        "gross_loss": loss,
        "profit_factor": ratio(gain, -loss),
        "expected_payoff": ratio(gain + loss, len(net)),
        "total_trades": float(len(net)),
        "profit_trades": float(len(won)),
        "loss_trades": float(len(lost)),
        "profit_share": ratio(len(won), len(net)),
        "loss_share": ratio(len(lost), len(net)),
        "largest_profit": float(won.max()) if len(won) else math.nan,
        "largest_loss": float(lost.min()) if len(lost) else math.nan,
        "average_profit": ratio(gain, len(won)),
        "average_loss": ratio(loss, len(lost)),
    }


def drawdowns(curve: np.ndarray) -> dict[str, float]:
    """Absolute, maximal and relative drawdown of money [1 + N] that begins with the deposit."""
    fall, share = falls(curve, float(curve[0]))
    deepest, steepest = int(np.argmax(fall)), int(np.argmax(share))
    return {
        "absolute": float(curve[0] - curve.min()),
        "maximal": float(fall[deepest]),
        "maximal_share": float(share[deepest]),
        "relative": float(share[steepest]),
        "relative_money": float(fall[steepest]),
    }


def growth(net: np.ndarray, deposit: float) -> dict[str, float]:
    """Arithmetic and geometric mean of the holding period returns, balance after a trade / balance before it."""
    balance = np.concatenate([[deposit], deposit + np.cumsum(net)])
    if not len(net) or (balance <= 0).any():
        return {"ahpr": math.nan, "ghpr": math.nan}
    return {
        "ahpr": float(np.mean(balance[1:] / balance[:-1])),
        "ghpr": float((balance[-1] / deposit) ** (1 / len(net))),
    }


def regression(balance: np.ndarray) -> dict[str, float]:
    """Correlation of a balance [1 + N] with its least-squares line over 0 ... N, and the error about that line."""
    count = len(balance)
    x = np.arange(count) - (count - 1) / 2
    y = balance - balance.mean()
    xx, xy, yy = float(x @ x), float(x @ y), float(y @ y)
    rest = max(yy - ratio(xy * xy, xx), 0.0)
    return {
        "lr_correlation": ratio(xy, math.sqrt(xx * yy)),
        "lr_standard_error": math.sqrt(rest / (count - 2)) if count > 2 else math.nan,
    }


def sharpe(equity: np.ndarray, minutes: float) -> float:
    """Annualised Sharpe ratio of equity [T] at the closes of bars of a length, as terminals since build 3210 have it.

    Logarithmic returns of the bars in which equity changed; mean / population standard deviation x
    sqrt(252 trading days / those of a bar); no lower than `LEAST_SHARPE`.
    """
    if len(equity) < 2 or (equity <= 0).any():
        return math.nan
    moved = equity[1:] != equity[:-1]
    returns = np.log(equity[1:][moved] / equity[:-1][moved])
    if len(returns) < 2:
        return math.nan
    found = ratio(float(returns.mean()), float(returns.std())) * math.sqrt(TRADING_DAYS / trading_days(minutes))
    return found if math.isnan(found) else max(LEAST_SHARPE, found)


def trading_days(minutes: float) -> float:
    """Trading days in a bar, as a share up to a day; a week of bars longer than a day has five of them.

    >>> trading_days(60) * 24, trading_days(1440), trading_days(10080)
    (1.0, 1.0, 5.0)
    """
    days = minutes / MINUTES_A_DAY
    return days if days <= 1 else days * TRADING_DAYS_A_WEEK / 7


def z_score(won: np.ndarray) -> dict[str, float]:
    """Runs test of wins and losses, bool [N], and the confidence that they are not independent.

    Z = (N (R - 0.5) - P) / sqrt(P (P - N) / (N - 1)), P = 2 x wins x losses, R runs. Confidence: 2 Phi(|Z|) - 1 of Z to
    two decimals, from which terminals take it.
    """
    count, wins = len(won), int(won.sum())
    p = 2 * wins * (count - wins)
    if count < 2 or p <= count:
        return {"z_score": math.nan, "z_confidence": math.nan}
    runs = 1 + int((won[1:] != won[:-1]).sum())
    z = (count * (runs - 0.5) - p) / math.sqrt(p * (p - count) / (count - 1))
    return {"z_score": z, "z_confidence": math.erf(round(abs(z), 2) / math.sqrt(2))}


def counts(trades: pd.DataFrame) -> dict[str, float]:
    """Long and short trades and the shares of them that won."""
    long, won = trades["direction"].to_numpy() > 0, trades["net_profit"].to_numpy(np.float64) >= 0
    return {
        "short_trades": float((~long).sum()),
        "short_won": ratio(float((won & ~long).sum()), float((~long).sum())),
        "long_trades": float(long.sum()),
        "long_won": ratio(float((won & long).sum()), float(long.sum())),
    }


def streaks(net: np.ndarray) -> dict[str, float]:
    """Series of consecutive wins and losses of results [N]: the longest, the richest, the average length."""
    runs = [(won, np.array(list(group))) for won, group in groupby(net.tolist(), key=lambda result: result >= 0)]
    found: dict[str, float] = {}
    for name, side, sign in (("wins", True, 1.0), ("losses", False, -1.0)):
        series = [run for won, run in runs if won == side]
        longest = max(series, key=len, default=np.zeros(0))
        richest = max(series, key=lambda run: sign * float(run.sum()), default=np.zeros(0))
        found[f"longest_{name}"] = float(len(longest))
        found[f"longest_{name}_money"] = float(longest.sum())
        found[f"richest_{name}"] = float(len(richest))
        found[f"richest_{name}_money"] = float(richest.sum())
        found[f"average_{name}"] = ratio(float(sum(map(len, series))), len(series))
    return found


def correlations(trades: pd.DataFrame) -> dict[str, float]:
    """Correlations of results and excursions of trades."""
    net, mfe, mae = (trades[name].to_numpy(np.float64) for name in ("net_profit", "mfe", "mae"))
    return {
        "correlation_profits_mfe": _correlation(net, mfe),
        "correlation_profits_mae": _correlation(net, mae),
        "correlation_mfe_mae": _correlation(mfe, mae),
    }


def holding_times(trades: pd.DataFrame, minutes: float, close_only: bool) -> dict[str, float]:
    """Shortest, longest and mean time from opening a position to closing the last of it, seconds."""
    entered, left = fill_times(trades, minutes, close_only)
    spans = pd.DataFrame({"from": entered, "side": trades["direction"], "until": left})
    last = spans.groupby(["from", "side"], sort=False)["until"].max().reset_index()
    seconds = (last["until"] - last["from"]).dt.total_seconds().to_numpy(np.float64)
    if not len(seconds):
        return dict.fromkeys(("holding_minimal", "holding_maximal", "holding_average"), math.nan)
    return {
        "holding_minimal": float(seconds.min()),
        "holding_maximal": float(seconds.max()),
        "holding_average": float(seconds.mean()),
    }


def _deals(trades: pd.DataFrame) -> float:
    """Entries and exits, an exit and the opposite entry at the same open being one deal."""
    entries = trades.groupby(["entry_time", "direction"], sort=False).size().index
    exits = trades[trades["exit_reason"] == AT_OPEN]
    reversed_at = {(time, -side) for time, side in zip(exits["exit_time"], exits["direction"], strict=True)}
    return float(len(entries) + len(trades) - len(reversed_at & set(entries)))


def _named(prefix: str, found: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}_dd_{name}": value for name, value in found.items()}


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 2:
        return math.nan
    a, b = x - x.mean(), y - y.mean()
    return ratio(float(a @ b), math.sqrt(float(a @ a) * float(b @ b)))
