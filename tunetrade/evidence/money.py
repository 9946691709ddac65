"""Money of a series with intervals and tests: daily returns and trades in, plain values out.

Days are drawn in blocks, the same for all methods and seeds, so that differences are paired. A method of several seeds
has the mean of their figures: an account that holds all seeds at once would look steadier than any of them is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from forecasting.bootstrap import block_length, counts, indices, means
from forecasting.bootstrap_t import Projected, apart, mean_of, project
from forecasting.long_run import LEAST, cosines, standard_errors
from forecasting.significance import DieboldMariano
from forecasting.widening import widened
from strategies.deflated import probabilistic_sharpe
from strategies.metrics import daily_returns, years_of
from strategies.sharpe import probability_above, sharpe_errors
from tunetrade.evidence.errors import spread_of
from tunetrade.evidence.figures import LEVEL, Json, as_test, figure, verdicts
from tunetrade.evidence.tables import read_table
from tunetrade.report.load import RANDOM_WALK, Cell, number

FEWEST_DAYS = 30
FEWEST_TRADES = 10


@dataclass(frozen=True)
class Account:
    """What a cell earned: daily returns [D], daily gains [D] as shares of the deposit, closed trades, figures."""

    method: str
    seed: int
    returns: np.ndarray
    gains: np.ndarray
    trades: pd.DataFrame
    deposit: float
    spread_points: float
    figures: Mapping[str, object]


@dataclass(frozen=True)
class Accounts:
    """All accounts of a series on the days [D] that they share."""

    days: np.ndarray
    of: tuple[Account, ...]
    currency: str

    @property
    def methods(self) -> list[str]:
        """Names, each once."""
        return list(dict.fromkeys(account.method for account in self.of))

    def gains(self, method: str) -> np.ndarray:
        """Mean daily gain over seeds, [D]."""
        return np.asarray(np.mean([each.gains for each in self.of if each.method == method], axis=0))


def read_accounts(cells: Sequence[Cell]) -> Accounts | None:
    """Accounts of a series' finished cells that traded; None where there are none, or where they share no day."""
    read = []
    for cell in cells:
        equity = read_table(cell.folder / "equity.parquet", ["time", "equity"])
        trades = read_table(cell.folder / "trades.parquet", ["net_profit", "spread_cost"])
        if equity is not None and trades is not None and len(equity):
            read.append((cell, daily_returns(equity), _gains(equity), trades))
    if not read:
        return None
    days = read[0][1].index
    for _, returns, _, _ in read[1:]:
        if not days.equals(returns.index):
            days = days.intersection(returns.index)
    if not len(days):
        return None
    accounts = []
    for cell, returns, gains, trades in read:
        deposit = number(cell.backtest.get("broker") or {}, "deposit")
        deposit = deposit if deposit > 0 else 1.0
        broker = cell.backtest.get("broker") or {}
        accounts.append(
            Account(
                cell.method,
                cell.seed,
                np.nan_to_num(returns.reindex(days).to_numpy(np.float64)),
                gains.reindex(days).to_numpy(np.float64) / deposit,
                trades,
                deposit,
                number(broker, "spread_points"),
                cell.figures,
            )
        )
    currency = next((str(cell.backtest["currency"]) for cell in cells if cell.backtest.get("currency")), "")
    return Accounts(days.tz_localize(None).to_numpy("datetime64[D]"), tuple(accounts), currency)


def _gains(equity: pd.DataFrame) -> pd.Series:
    """Money won on each day of `daily_returns`, indexed like it."""
    returns = daily_returns(equity)
    ends = equity.assign(day=(equity["time"] - pd.Timedelta(1, "ns")).dt.floor("D")).groupby("day")["equity"].last()
    ends = ends.reindex(returns.index)
    before = ends.shift(1)
    if len(before):
        before.iloc[0] = _start(equity, returns.index[0])
    return ends - before


def _start(equity: pd.DataFrame, day: pd.Timestamp) -> float:
    """Equity from which the first day with a return goes."""
    earlier = equity.loc[(equity["time"] - pd.Timedelta(1, "ns")).dt.floor("D") < day, "equity"]
    return float(earlier.iloc[-1] if len(earlier) else equity["equity"].iloc[0])


def money_of(accounts: Accounts, groups: Mapping[str, str], untuned: str, replications: int, seed: int) -> Json:
    """The part `money` of a series."""
    count = len(accounts.days)
    if count < FEWEST_DAYS:
        return {"reason": f"{count} days are too few to resample; at least {FEWEST_DAYS} are needed"}
    years = years_of(accounts.days)
    table = np.column_stack([accounts.gains(name) for name in accounts.methods])
    block = money_block(table)
    order = indices(np.random.default_rng(seed), count, block, replications)
    drawn, projected = counts(order, count), project(table, order)
    found: Json = {}
    for name in accounts.methods:
        own = [account for account in accounts.of if account.method == name]
        figures = [_figures(account, drawn, order, years, seed) for account in own]
        found[name] = {
            "figures": {key: averaged([each[key] for each in figures]) for key in figures[0]},
            "sharpe": _sharpe(own, count / years),
            "break_even": _break_even(own),
            "seeds": {
                "net_profit": spread_of({account.seed: float(account.gains.sum() * account.deposit) for account in own})
            },
            "tests": {},
        }
    deposit = accounts.of[0].deposit
    for key, reference in (("random_walk", RANDOM_WALK), ("untuned", untuned)):
        if reference in accounts.methods:
            base = accounts.methods.index(reference)
            family = {
                name: money_test(projected, column, base, reference, deposit)
                for column, name in enumerate(accounts.methods)
                if name != reference
            }
            for group in dict.fromkeys(groups.values()):
                verdicts({name: family[name] for name in family if groups[name] == group})
            for name, each in family.items():
                found[name]["tests"][key] = each
    return {
        "days": count,
        "years": years,
        "first": str(accounts.days[0]),
        "last": str(accounts.days[-1]),
        "currency": accounts.currency,
        "deposit": deposit,
        "block_length": block,
        "methods": found,
        "differences": _differences(accounts.methods, projected, deposit),
    }


def money_block(gains: np.ndarray) -> float:
    """Mean block length for daily gains [D, M]: the largest Politis and White choose, at least the cube root of D.

    Gains themselves hardly depend on each other; their size does, and figures such as volatility need blocks for it.
    """
    return float(max(len(gains) ** (1 / 3), block_length(gains).max()))


class Estimate(NamedTuple):
    """A figure, its replicates [R] and, where it follows from means of days, what each day adds to it [D]."""

    value: float
    replicates: np.ndarray
    influence: np.ndarray | None = None

    def times(self, factor: float) -> "Estimate":
        """The figure in another unit."""
        influence = self.influence
        return Estimate(
            factor * self.value, factor * self.replicates, None if influence is None else factor * influence
        )


def averaged(seeds: Sequence[Estimate]) -> Json:
    """The mean of a figure over seeds with its interval."""
    value = float(np.mean([each.value for each in seeds]))
    replicates = np.mean([each.replicates for each in seeds], axis=0)
    parts = [each.influence for each in seeds if each.influence is not None]
    if len(parts) == len(seeds):
        replicates = widened_by_days(value, replicates, np.mean(parts, axis=0))
    return figure(value, replicates)


def widened_by_days(value: float, replicates: np.ndarray, influence: np.ndarray) -> np.ndarray:
    """Replicates [R] as far from the value as the long-run error of the days' influence [D] asks for.

    The number of cosines follows from the dependence found: those of an overlap a quarter longer than the blocks of
    Politis and White, which are short for it. Replicates are centred first: a ratio is resampled with a bias.
    """
    rows = len(influence)
    if cosines(rows) < LEAST or not np.isfinite(influence).all():
        return replicates
    overlap = max(1, math.ceil(1.25 * float(block_length(influence[:, None])[0]) - 0.5))
    used = np.array([max(LEAST, cosines(rows, overlap))])
    error = standard_errors(influence[:, None], used.tolist())
    centred = value + replicates - np.nanmean(replicates)
    return widened(np.array([value]), centred[:, None], error, used, LEVEL)[:, 0]


def sum_of_days(gains: np.ndarray, means: np.ndarray) -> Json:
    """The sum of daily gains [D] with its interval, from replicates [R] of their mean."""
    value, count = float(gains.sum()), len(gains)
    return figure(value, widened_by_days(value, means * count, (gains - gains.mean()) * count))


def _figures(account: Account, drawn: np.ndarray, order: np.ndarray, years: float, seed: int) -> dict[str, Estimate]:
    """Each figure with its replicates [R]."""
    g = account.gains
    found = day_figures(account.returns, g, drawn, years)
    found["net_profit"] = found["net_profit"].times(account.deposit)
    share, money = _falls(g[None])
    falls = _falls(g[order])
    found["max_drawdown"] = Estimate(float(share[0]), falls[0])
    found["max_drawdown_money"] = Estimate(float(money[0] * account.deposit), falls[1] * account.deposit)
    return found | _trade_figures(account, len(drawn), seed)


def day_figures(returns: np.ndarray, gains: np.ndarray, drawn: np.ndarray, years: float) -> dict[str, Estimate]:
    """Figures of daily returns and gains [D] under counts [R, D]; gains and net profit as shares of the deposit."""
    columns = np.column_stack([returns, returns**2, np.minimum(returns, 0.0) ** 2, gains])
    count, centre = len(columns), columns.mean(axis=0)
    step = 1e-4 * np.maximum(columns.std(axis=0), 1e-12)
    nudged = np.concatenate([centre[None], centre + np.diag(step), centre - np.diag(step)])
    near, replicates = _of_days(nudged, count, years), _of_days(means(drawn, columns), count, years)
    found = {}
    for name, values in near.items():
        slopes = (values[1:5] - values[5:]) / (2 * step)  # the delta method
        found[name] = Estimate(float(values[0]), replicates[name], (columns - centre) @ slopes)
    return found


def _of_days(sums: np.ndarray, count: int, years: float) -> dict[str, np.ndarray]:
    """Figures of `strategies.metrics` from means [R, 4] of returns, their squares, squared losses, and gains."""
    mean, square, downside, gain = sums.T
    yearly = math.sqrt(count / years)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.sqrt(np.maximum(square - mean**2, 0.0) * count / (count - 1))
        deviation = np.where(deviation > 1e-12, deviation, np.nan)
        total = gain * count
        return {
            "net_profit": total,
            "total_return": total,
            "annual_return": np.where(total > -1, np.maximum(1 + total, 0.0) ** (1 / years) - 1, np.nan),
            "annual_volatility": np.nan_to_num(deviation) * yearly,
            "sharpe": mean / deviation * yearly,
            "sortino": mean / np.where(downside > 0, np.sqrt(downside), np.nan) * yearly,
        }


def _falls(gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Deepest fall of 1 + accumulated gains [R, D] from its running peak: share [R], and in deposits [R]."""
    curve = 1 + np.cumsum(gains, axis=1)
    peak = np.maximum(np.maximum.accumulate(curve, axis=1), 1.0)
    gap = peak - curve
    return (gap / peak).max(axis=1), gap.max(axis=1)


def _trade_figures(account: Account, replications: int, seed: int) -> dict[str, Estimate]:
    """Figures of closed trades, drawn in blocks of successive trades; without intervals where there are few."""
    net = account.trades["net_profit"].to_numpy(np.float64)
    count = len(net)
    columns = np.column_stack([np.maximum(net, 0), np.minimum(net, 0), net > 0, net]) if count else np.zeros((1, 4))
    value = _of_trades(columns.mean(axis=0)[None], count)
    replicates = {name: np.full(replications, np.nan) for name in value}
    if count >= FEWEST_TRADES:
        block = float(block_length(net[:, None])[0])
        drawn = counts(indices(np.random.default_rng(seed), count, block, replications), count)
        replicates = _of_trades(means(drawn, columns), count)
    return {name: Estimate(float(value[name][0]), replicates[name]) for name in value}


def _of_trades(sums: np.ndarray, count: int) -> dict[str, np.ndarray]:
    won, lost, wins, net = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "gross_profit": won * count,
            "gross_loss": lost * count,
            "profit_factor": won / np.where(lost < 0, -lost, np.nan),
            "win_rate": wins if count else np.full(len(sums), np.nan),
            "average_trade": net if count else np.full(len(sums), np.nan),
        }


def _sharpe(own: Sequence[Account], days_a_year: float) -> Json:
    """Sharpe ratios of each seed, yearly, with standard errors and the chance that the true one lies above 0."""
    by_seed: Json = {}
    yearly = math.sqrt(days_a_year)
    for account in own:
        errors = sharpe_errors(account.returns)
        found = errors.found
        if not math.isfinite(found.sharpe):
            by_seed[str(account.seed)] = {"reason": "its returns never move"}
            continue
        reach = errors.dependent * float(stdtrit(max(errors.degrees, 1), 0.5 + LEVEL / 2))
        by_seed[str(account.seed)] = {
            "value": found.sharpe * yearly,
            "low": (found.sharpe - reach) * yearly,
            "high": (found.sharpe + reach) * yearly,
            "error_lo": errors.lo * yearly,
            "error_mertens": errors.mertens * yearly,
            "error_dependent": errors.dependent * yearly,
            "skewness": found.skewness,
            "kurtosis": found.kurtosis,
            "probabilistic": probabilistic_sharpe(found),
            "probabilistic_dependent": probability_above(errors),
        }
    return {"days_a_year": days_a_year, "by_seed": by_seed}


def _break_even(own: Sequence[Account]) -> Json:
    """Spread at which the trades as they are would have ended at zero, all other costs as they were.

    Trades of several seeds are mostly the same decisions, so they do not make up for few trades of each.
    """
    most = max(len(account.trades) for account in own)
    if most < FEWEST_TRADES:
        return {"reason": f"{most} trades are too few; at least {FEWEST_TRADES} are needed"}
    spread = math.fsum(float(account.trades["spread_cost"].sum()) for account in own)
    net = math.fsum(float(account.trades["net_profit"].sum()) for account in own)
    if not spread > 0:
        return {"reason": "no trade paid a spread"}
    times = 1 + net / spread
    points = [account.spread_points for account in own]
    known = math.isfinite(points[0]) and len(set(points)) == 1
    return {"times": times, "paid_points": points[0] if known else math.nan,
            "points": times * points[0] if known else math.nan}  # fmt: skip


def money_test(projected: Projected, one: int, other: int, reference: str, deposit: float) -> Json:
    """Whether column `one` of daily gains sums to more than column `other`, by a bootstrap of days; in money."""
    rows = len(projected.columns)
    found = mean_of(projected, one, other)
    if found is None:
        gap = float(apart(projected.columns[:, one], projected.columns[:, other]).sum())
        return as_test(DieboldMariano(gap * deposit, math.nan, math.nan), reference, rows)
    tested = DieboldMariano(found.value * rows * deposit, found.statistic, found.p_above, degrees=found.used)
    low, high = found.interval(LEVEL)
    return as_test(tested, reference, rows) | {
        "low": low * rows * deposit,
        "high": high * rows * deposit,
        "p_worse": found.p_below,
    }


def sum_of_differences(projected: Projected, one: int, other: int, deposit: float = 1.0) -> Json:
    """Sum of column `one` of daily gains less that of `other`: a figure with its two-sided p-value, in money."""
    found, scale = mean_of(projected, one, other), len(projected.columns) * deposit
    if found is None:
        gap = float(apart(projected.columns[:, one], projected.columns[:, other]).sum())
        return {"value": gap * deposit, "low": math.nan, "high": math.nan, "p_value": math.nan}
    low, high = found.interval(LEVEL)
    return {"value": found.value * scale, "low": low * scale, "high": high * scale, "p_value": found.p_both}


def _differences(names: Sequence[str], projected: Projected, deposit: float) -> list[Json]:
    """Net profit of each method less that of each other that differs, with its interval and two-sided p-value."""
    pairs = []
    for one, other in combinations(range(len(names)), 2):
        found = sum_of_differences(projected, one, other, deposit)
        if math.isfinite(found["p_value"]):
            pairs.append({"one": names[one], "other": names[other], **found})
    return pairs
