"""Tables of the Tester's page: settings, costs, sides, times, deals, trades. Raw values, no markup."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from strategies.deals import deals_of, enlargements
from strategies.tester import AT_OPEN, fill_times, profits, report_figures
from tunetrade.report.tester_run import TradedRun

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
COSTS = (("spread_cost", "Spread"), ("slippage_cost", "Slippage"), ("commission", "Commission"))
PERIODS = ("hour", "weekday", "month")
PERIOD_HEADS = ("entries", "won", "net_of_entries", "profit_of_exits", "loss_of_exits")


@dataclass(frozen=True)
class TesterTables:
    """Everything the page and the CSV hold. Times of trades and deals are of the server's clock, UTC beside."""

    title: str
    settings: Sequence[tuple[str, str]]
    figures: Mapping[str, float]
    costs: Sequence[tuple[str, float]]
    sides: Mapping[str, Mapping[str, float]]
    periods: Mapping[str, pd.DataFrame]
    trades: pd.DataFrame
    deals: pd.DataFrame


def tester_tables(run: TradedRun) -> TesterTables:
    """All tables of a run."""
    account = run.account
    counted = run.figures.get("deals")
    figures = report_figures(
        run.trades,
        run.equity,
        account.deposit,
        close_only=account.close_only,
        minutes=account.minutes,
        deals=float(counted) if isinstance(counted, int | float) else None,
    )
    entered, left = fill_times(run.trades, account.minutes, account.close_only)
    filled = run.trades.assign(entry_time=entered, exit_time=left)
    deals = deals_of(filled, account.symbol, account.deposit, account.netting, _opened(run))
    shown = filled.assign(entry_utc=entered, exit_utc=left, entry_time=run.local(entered), exit_time=run.local(left))
    return TesterTables(
        title=run.name,
        settings=settings(run),
        figures=figures,
        costs=costs(run.trades),
        sides=sides(run.trades),
        periods=periods(shown),
        trades=shown,
        deals=deals.assign(utc=deals["time"], time=run.local(deals["time"])),
    )


def _opened(run: TradedRun) -> pd.DataFrame | None:
    """Enlargements of a netting account, timed as filled, of which its trades keep no trace."""
    if not run.account.netting:
        return None
    found = enlargements(run.trades, run.equity)
    orders = found.assign(entry_time=found["time"], exit_time=found["time"], exit_reason=AT_OPEN)
    return found.assign(time=fill_times(orders, run.account.minutes, run.account.close_only)[0])


def settings(run: TradedRun) -> list[tuple[str, str]]:
    """The Tester's settings: label and text."""
    account, rules = run.account, run.rules
    first, last = run.equity["time"].iloc[0], run.equity["time"].iloc[-1]
    period = f"{run.timeframe} ({first:%Y.%m.%d} - {last:%Y.%m.%d})".strip()
    expert = " ".join(str(part) for part in (run.run.get("method", ""), run.record.get("signal", "")) if part)
    of_account = {"deposit", "currency", "leverage", "account", "preset", "timezone", "conversion"}
    inputs = ", ".join(f"{name}={_setting(value)}" for name, value in sorted(rules.items()) if name not in of_account)
    lines = [
        ("Expert", f"TuneTrade {expert}".strip()),
        ("Symbol", account.symbol),
        ("Period", period),
        ("Inputs", inputs),
        ("Company", f"broker preset {rules['preset']}" if "preset" in rules else ""),
        ("Account", "netting" if account.netting else "hedging"),
        ("Currency", account.currency),
        ("Initial Deposit", f"{account.deposit:.2f}"),
        ("Leverage", f"1:{rules['leverage']:g}" if "leverage" in rules else ""),
        ("Clock", f"{account.timezone}, UTC beside it where there is room"),
    ]
    return [(label, text) for label, text in lines if text]


def costs(trades: pd.DataFrame) -> list[tuple[str, float]]:
    """From the profit before costs to the net profit, money; what costs is negative."""
    lines = [("Profit before costs", float(trades["profit_before_costs"].sum()))]
    lines += [(label, -float(trades[name].sum())) for name, label in COSTS]
    return [*lines, ("Swap", float(trades["swap"].sum())), ("Net profit", float(trades["net_profit"].sum()))]


def sides(trades: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Figures of all trades, of long and of short ones, by name of the side."""
    parts = {"All": trades, "Long": trades[trades["direction"] > 0], "Short": trades[trades["direction"] < 0]}
    return {name: _side(part) for name, part in parts.items()}


def _side(trades: pd.DataFrame) -> dict[str, float]:
    found = profits(trades["net_profit"].to_numpy(np.float64))
    names = ("total_trades", "profit_share", "total_net_profit", "gross_profit", "gross_loss", "profit_factor")
    return {
        **{name: found[name] for name in (*names, "expected_payoff", "average_profit", "average_loss")},
        "profit_before_costs": float(trades["profit_before_costs"].sum()),
        "costs": float(trades[[name for name, _ in COSTS]].to_numpy(np.float64).sum() - trades["swap"].sum()),
        "bars_held": float(trades["bars_held"].mean()) if len(trades) else math.nan,
    }


def periods(trades: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Entries and money by hour, weekday and month of the server's clock, PERIOD_HEADS by name of the period.

    net_of_entries: results of the trades entered then. profit_of_exits, loss_of_exits: of those closed then, which is
    what MetaTrader draws.
    """
    return {
        "hour": _period(trades, lambda times: times.dt.hour, tuple(f"{hour:02d}" for hour in range(24)), 0),
        "weekday": _period(trades, lambda times: times.dt.day_of_week, WEEKDAYS, 0),
        "month": _period(trades, lambda times: times.dt.month, MONTHS, 1),
    }


def _period(
    trades: pd.DataFrame, part: Callable[[pd.Series], pd.Series], names: Sequence[str], first: int
) -> pd.DataFrame:
    net = trades["net_profit"].to_numpy(np.float64)
    count = len(names)
    entry, leave = (part(trades[name]).to_numpy(np.int64) - first for name in ("entry_time", "exit_time"))

    def summed(places: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.bincount(places, values, minlength=count)

    columns = {
        "entries": np.bincount(entry, minlength=count),
        "won": summed(entry, (net >= 0).astype(np.float64)),
        "net_of_entries": summed(entry, net),
        "profit_of_exits": summed(leave, np.maximum(net, 0)),
        "loss_of_exits": summed(leave, np.minimum(net, 0)),
    }
    return pd.DataFrame({name: columns[name] for name in PERIOD_HEADS}, index=list(names))


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(_setting, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'
