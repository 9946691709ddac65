"""What must hold whatever prices do, each from a stated principle rather than from what our code happens to give."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from strategies.market import Market
from strategies.plan import Plan


@dataclass(frozen=True)
class Expectation:
    """One expectation: whether it was met, what was seen, what was asked."""

    name: str
    met: bool
    seen: Any
    bound: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


COVERED = (0.05, 0.95)
CLAIM = 1.0
"""Standard deviations of its own horizon that a predicted mean may lie from the last close: a forecast that claims more
claims a Sharpe ratio above 1 a bar."""

WIDENS = 10.0
"""Times by which sigma must grow in the bar of a break of some hundred sigmas: an exponential window gives the newest
return a weight of 1 - 2^(-1 / half-life), so any root of a mean square of half-life up to 250 bars has at least 5 % of
its size, which of 360 sigmas is 18."""

PRECISE = 1e-9


def sane(forecasts: Forecasts) -> Expectation:
    """Finite, positive, quantiles in order, chances from 0 to 1."""
    numbers = (forecasts.mean, forecasts.mean_se, forecasts.quantiles, forecasts.p_up, forecasts.sigma)
    faults = {
        "not finite": sum(int((~np.isfinite(values)).sum()) for values in numbers),
        "prices not above zero": int((forecasts.mean <= 0).sum() + (forecasts.quantiles <= 0).sum()),
        "quantiles out of order": int((np.diff(forecasts.quantiles, axis=1) < 0).sum()),
        "chances beyond 0 and 1": int(((forecasts.p_up < 0) | (forecasts.p_up > 1)).sum()),
        "sigma not above zero": int((forecasts.sigma <= 0).sum()),
    }
    found = {name: count for name, count in faults.items() if count}
    return Expectation("sane numbers", not found, found or "none", "none at fault")


def modest(forecasts: Forecasts) -> Expectation:
    """No mean further from the last close than CLAIM standard deviations of its horizon."""
    steps = np.sqrt(np.arange(1, forecasts.horizon + 1))
    width = forecasts.anchor[:, None] * forecasts.sigma[:, None] * steps
    claim = np.abs(forecasts.mean - forecasts.anchor[:, None]) / width
    most = float(np.nanmax(claim))
    return Expectation("modest means", most <= CLAIM, round(most, 3), f"at most {CLAIM:g} sigma from the last close")


def covers(forecasts: Forecasts, truth: np.ndarray) -> Expectation:
    """The central 90 % of step 1 holds at least 90 % of closes less three binomial standard errors; more is no fault.

    truth: closes after each cutoff, [N].
    """
    known = np.isfinite(truth)
    low, high = (forecasts.quantiles[known, QUANTILE_LEVELS.index(level), 0] for level in COVERED)
    held = float(((truth[known] >= low) & (truth[known] <= high)).mean())
    nominal = COVERED[1] - COVERED[0]
    least = nominal - 3 * float(np.sqrt(nominal * (1 - nominal) / known.sum()))
    return Expectation("coverage of the 90 % band", held >= least, round(held, 3), f"at least {least:.3f}")


def unmoved(forecasts: Forecasts, other: Forecasts, what: str) -> Expectation:
    """Forecasts equal to the bit."""
    same = all(
        getattr(forecasts, name).tobytes() == getattr(other, name).tobytes() for name in ("mean", "quantiles", "p_up")
    )
    return Expectation(what, same, "equal" if same else "different", "equal to the bit")


def scales(forecasts: Forecasts, other: Forecasts, factor: float) -> Expectation:
    """`other`, of prices times `factor`, is `forecasts` times it: a price's unit says nothing of its moves."""
    width = forecasts.anchor * forecasts.sigma
    off = np.abs(other.mean / factor - forecasts.mean) / width[:, None]
    most = float(np.nanmax(off))
    return Expectation("same in another unit", most <= 0.05, round(most, 6), "means within 0.05 sigma")


def widens(before: float, after: float) -> Expectation:
    """Sigma after a break against sigma before it."""
    return Expectation("sigma follows the break", after >= WIDENS * before, round(after / before, 2), f"x{WIDENS:g}")


def narrow(forecasts: Forecasts) -> Expectation:
    """Of a feed that stands still, the central 90 % at the horizon is no wider than a thousandth of the price."""
    low, high = (forecasts.quantiles[:, QUANTILE_LEVELS.index(level), -1] for level in COVERED)
    widest = float(((high - low) / forecasts.anchor).max())
    return Expectation("no width where nothing moves", widest <= 1e-3, widest, "at most 0.001 of the price")


def no_entries(trades: pd.DataFrame, why: str) -> Expectation:
    """Nothing was entered."""
    return Expectation(why, not len(trades), len(trades), "no entry")


def stops_hold(trades: pd.DataFrame, market: Market, plan: Plan) -> Expectation:
    """No stop filled worse than its level, or the open of its bar where that lay beyond, less spread and slippage."""
    where = {time: bar for bar, time in enumerate(pd.DatetimeIndex(market.times).tz_localize("UTC"))}
    worst = 0.0
    stopped = trades[trades["exit_reason"] == "stop loss"]
    for trade in stopped.itertuples():
        entered, left, side = where[trade.entry_time], where[trade.exit_time], trade.direction
        level, spread = plan.stop[entered - 1], market.spread[left - 1]
        lost = spread / 2 if market.close_only else spread * (side < 0)
        opened = market.open[left] - side * lost
        bound = side * min(side * opened, side * level) - side * market.slippage[left]
        worst = max(worst, float(side * (bound - trade.exit_price)) / float(bound))
    seen = f"{len(stopped)} stops, worst {worst:.2g} of the price beyond"
    return Expectation("stops hold", worst <= PRECISE, seen, "level or open, less costs")


def losses_bounded(equity: pd.DataFrame, trades: pd.DataFrame, market: Market, deposit: float) -> Expectation:
    """Equity falls in no bar by more than what is held times the bar's whole range, gap included, and twice the costs.

    What is held: the position at either end of the bar, both where it is reversed, and what came and went within it.
    """
    position = equity["position"].to_numpy(np.float64)
    size = np.maximum(np.maximum(np.abs(position[1:]), np.abs(position[:-1])), np.abs(np.diff(position)))
    brief = trades[trades["entry_time"] == trades["exit_time"]].groupby("entry_time")["units"].sum()
    size = size + equity["time"].map(brief).fillna(0.0).to_numpy(np.float64)[1:]
    top = np.maximum(market.high[1:], market.close[:-1])
    reach = top - np.minimum(market.low[1:], market.close[:-1])
    costs = 2 * (np.maximum(market.spread[1:], market.spread[:-1]) + market.slippage[1:])
    most = size * (reach + costs) * np.maximum(market.conversion[1:], market.conversion[:-1])
    fall = -np.diff(equity["equity"].to_numpy(np.float64))
    over = float((fall - most).max()) / deposit
    return Expectation("losses within the move", over <= 1e-6, round(over, 9), "none of the deposit beyond it")


def refused(error: str | None, what: str, why: str) -> Expectation:
    """A clear refusal: an error of ours in one line, with the words `why`."""
    met = error is not None and why in error
    return Expectation(f"{what} is refused", met, error or "accepted", f"an error that says: {why}")


def pays_for_itself(moves: Sequence[tuple[str, float, float]]) -> Expectation:
    """No entry whose expected move is below the spread it pays; moves: time, expected move, spread, in price."""
    bad = [(time, move, spread) for time, move, spread in moves if abs(move) < spread]
    seen = f"{len(bad)} of {len(moves)} entries" + (f", first at {bad[0][0]}" if bad else "")
    return Expectation("no entry the spread eats", not bad, seen, "expected move above the spread")
