"""Trades and equity -> figures. Imports nothing internal; fractions stay fractions, money is money.

An undefined figure (no trade, no loss, no movement) is NaN. Money is in the account's currency.

| figure | definition |
|---|---|
| net_profit | final equity less the deposit |
| profit_before_costs, costs | the same without, and only, spread, slippage and commission less swap |
| spread, slippage, commission, swap | what each took from closed trades, swap signed: negative where it was paid |
| gross_profit, gross_loss | sums of the net results of winning, of losing trades (negative), as in MetaTrader |
| total_return | net_profit / deposit |
| annual_return | (final equity / deposit) ** (1 / years) - 1, a year being 365.25 days |
| annual_volatility | standard deviation (n - 1) of daily returns x sqrt(observed trading days a year) |
| sharpe | mean / standard deviation of daily returns, risk-free rate 0, x sqrt(observed trading days a year) |
| sortino | as sharpe, over the root of the mean square of the negative returns, zeros counted (target 0) |
| max_drawdown, max_drawdown_money | largest fall of equity from its running peak: as a share of that peak; in money |
| max_drawdown_days | longest time from a peak until equity regains it, or until the data end, in calendar days |
| profit_factor | gross_profit / -gross_loss |
| trades, long_trades, short_trades | closed trades |
| win_rate | share of trades with a net result above zero |
| average_trade | mean net result |
| exposure | share of bars that close with a position open |
| turnover | value bought and sold / mean equity / years |
| min_margin_level | least equity / margin at a close with a position open |
| stop_outs | trades closed because equity fell to the stop-out level |
| years | from the first day with a return to the last, both counted, in years of 365.25 days |
"""

import numpy as np
import pandas as pd

COSTS = {"spread": "spread_cost", "slippage": "slippage_cost", "commission": "commission", "swap": "swap"}
"""Columns of trades that the figures of single costs add up."""

DAYS_A_YEAR = 365.25
_DAY = np.timedelta64(86_400_000_000_000, "ns")


def figures(trades: pd.DataFrame, equity: pd.DataFrame, deposit: float) -> dict[str, float]:
    """All figures of the module's table.

    `trades`: a row for each closed trade with direction, units, entry_price, exit_price, costs, swap, net_profit and
    exit_reason. `equity`: a row for each bar with time (UTC), equity, position (units), margin, costs (cumulative); it
    starts flat at the deposit.
    """
    times, money = _times(equity), equity["equity"].to_numpy(np.float64)
    costs = float(equity["costs"].iloc[-1])
    net = float(money[-1] - deposit)
    years, growth = years_between(times), money[-1] / deposit
    return {
        "net_profit": net,
        "profit_before_costs": net + costs,
        "costs": costs,
        "total_return": net / deposit,
        "annual_return": float(growth ** (1 / years) - 1) if growth > 0 and years > 0 else float("nan"),
        **return_figures(daily_returns(equity).to_numpy(), years),
        **drawdowns(times, money, deposit),
        **trade_figures(trades),
        **{name: float(trades[column].sum()) for name, column in COSTS.items()},
        "min_margin_level": margin_level(money, equity["margin"].to_numpy(np.float64)),
        "stop_outs": float((trades["exit_reason"] == "stop out").sum()),
        "exposure": float(np.mean(equity["position"].to_numpy() != 0)),
        "turnover": ratio(ratio(_traded(trades), float(money.mean())), years),
        "years": years,
    }


def daily_returns(equity: pd.DataFrame) -> pd.Series:
    """Simple return of each UTC day that has a bar, indexed by the day; the first bar's equity is the start.

    A bar that closes at midnight belongs to the day it ends. A first day of one bar holds no return and is left out. A
    day after equity fell to zero or below has no return: NaN.
    """
    days, ends = day_ends(_times(equity))
    index = pd.DatetimeIndex(days.astype("datetime64[ns]"), name="day").tz_localize("UTC")
    return pd.Series(returns_between(equity["equity"].to_numpy(np.float64), ends), index, name="return")


def day_ends(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """UTC days with a return, datetime64[D] [D], and the bars from which to which they go, int64 [D + 1]; times [T]."""
    days = (times - np.timedelta64(1, "ns")).astype("datetime64[D]")
    last = np.flatnonzero(np.append(days[1:] != days[:-1], True))
    return (days[last[1:]], last) if last[0] == 0 else (days[last], np.concatenate([[0], last]))


def returns_between(equity: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Simple returns from each of the bars `ends` [D + 1] to the next, [D]; NaN from zero or below. equity [T]."""
    before, after = equity[ends[:-1]], equity[ends[1:]]
    return np.asarray(after / np.where(before > 0, before, np.nan) - 1)


def return_figures(returns: np.ndarray, years: float) -> dict[str, float]:
    """Volatility, Sharpe and Sortino of daily returns [D] observed over `years`."""
    scale = np.sqrt(ratio(len(returns), years))
    deviation = float(np.std(returns, ddof=1)) if len(returns) > 1 else float("nan")
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2))) if len(returns) else float("nan")
    mean = float(np.mean(returns)) if len(returns) else float("nan")
    return {
        "annual_volatility": float(deviation * scale),
        "sharpe": float(ratio(mean, deviation) * scale),
        "sortino": float(ratio(mean, downside) * scale),
    }


def drawdowns(times: np.ndarray, equity: np.ndarray, deposit: float) -> dict[str, float]:
    """Depth (share of the running peak, and money) and longest duration of the falls of equity [T] at times [T]."""
    money, share = falls(equity, deposit)
    below = money > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], below, [False]]).astype(np.int8)))
    starts, ends = np.maximum(edges[::2] - 1, 0), np.minimum(edges[1::2], len(times) - 1)
    longest = (times[ends] - times[starts]).max() / _DAY if len(starts) else 0.0
    return {
        "max_drawdown": float(share.max()),
        "max_drawdown_money": float(money.max()),
        "max_drawdown_days": float(longest),
    }


def falls(curve: np.ndarray, deposit: float) -> tuple[np.ndarray, np.ndarray]:
    """How far money [T] is below its running peak, at least the deposit: in money, and as a share of that peak."""
    peak = np.maximum(np.maximum.accumulate(curve), deposit)
    return peak - curve, 1 - curve / peak


def margin_level(equity: np.ndarray, margin: np.ndarray) -> float:
    """Least equity / margin [T] where anything is tied up; NaN where nothing ever is."""
    tied = margin > 0
    return float((equity[tied] / margin[tied]).min()) if tied.any() else float("nan")


def trade_figures(trades: pd.DataFrame) -> dict[str, float]:
    """Figures of closed trades alone."""
    net = trades["net_profit"].to_numpy(np.float64)
    profit, loss = float(net[net > 0].sum()), float(net[net < 0].sum())
    return {
        "gross_profit": profit,
        "gross_loss": loss,
        "profit_factor": ratio(profit, -loss),
        "trades": float(len(net)),
        "long_trades": float((trades["direction"] > 0).sum()),
        "short_trades": float((trades["direction"] < 0).sum()),
        "win_rate": ratio(float((net > 0).sum()), len(net)),
        "average_trade": ratio(float(net.sum()), len(net)),
    }


def years_of(days: np.ndarray) -> float:
    """Years of 365.25 days that `days` [D], days with a return in order, span: the first and the last count whole."""
    if not len(days):
        return 0.0
    return float((days[-1].astype("datetime64[D]") - days[0].astype("datetime64[D]")).astype(int) + 1) / DAYS_A_YEAR


def years_between(times: np.ndarray) -> float:
    """`years_of` the days that bars at `times` [T] have a return for."""
    return years_of(day_ends(times)[0])


def _times(equity: pd.DataFrame) -> np.ndarray:
    return np.asarray(equity["time"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[ns]"))


def _traded(trades: pd.DataFrame) -> float:
    return float((trades["units"] * (trades["entry_price"] + trades["exit_price"])).sum())


def ratio(numerator: float, denominator: float) -> float:
    """A quotient, NaN unless the denominator is positive."""
    return float(numerator) / denominator if denominator > 0 else float("nan")
