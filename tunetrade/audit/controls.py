"""Controls: an audit that cannot catch a leak proves nothing, and an account that earns on shuffled prices is broken.

Shuffled futures keep the bars as they are but not their order: blocks of bars change places, and in each block all
moves keep or change their sign together, by lot. Simple returns of random sign make prices a martingale, so whatever
was wanted without knowing them earns nothing on average before costs, exactly, whatever the sizes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from forecasting.bars import Bars
from forecasting.forecasts import QUANTILE_COLUMNS
from strategies.contract import BrokerRules
from strategies.market import Market
from strategies.plan import Plan, plain_plan
from strategies.sizing import capped
from strategies.twin import simulate
from tunetrade.audit.result import Check, Offence, failed, judged, passed, skipped
from tunetrade.audit.skill import implausible
from tunetrade.audit.subject import Subject
from tunetrade.audit.truncation import parity

POSITIVE, NEGATIVE = "positive-control", "negative-control"

BLOCK = 10
"""Bars that keep their order."""

LARGEST_MOVE = 0.9
"""A move of a bar beyond which its opposite would leave no price."""

LIMIT = 4.0
"""Standard errors from zero beyond which shuffled futures are held to earn: 6 in 100,000 by chance."""

LEAKED_SHUFFLES = 20
LEAKED_UNITS = 1000.0


def shuffled(market: Market, rng: np.random.Generator) -> Market:
    """The market with its moves shuffled after the first bar, free of costs, at one conversion throughout."""
    count = len(market)
    before = market.close[:-1]
    moves = np.stack([getattr(market, name)[1:] / before - 1 for name in ("open", "high", "low", "close")])
    order = np.concatenate([np.arange(first, min(first + BLOCK, count - 1)) for first in _starts(count - 1, rng)])
    sign = np.repeat(rng.choice([-1.0, 1.0], -(-(count - 1) // BLOCK)), BLOCK)[: count - 1]
    opened, high, low, close = moves[:, order] * sign
    high, low = np.maximum(high, low), np.minimum(high, low)
    closes = market.close[0] * np.concatenate([[1.0], np.cumprod(1 + close)])
    prices: dict[str, Any] = {
        name: np.concatenate([getattr(market, name)[:1], closes[:-1] * (1 + move)])
        for name, move in (("open", opened), ("high", high), ("low", low))
    }
    none = np.zeros(count)
    return replace(
        market,
        **prices,
        close=closes,
        spread=none,
        slippage=none,
        nights=np.zeros(count, np.int64),
        nights_end=0,
        conversion=np.full(count, market.conversion[0]),
        finer=np.ascontiguousarray(np.stack([prices["open"], prices["high"], prices["low"]])),
        begin=np.arange(count + 1),
    )


def _starts(count: int, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.permutation(np.arange(0, count, BLOCK)))


@dataclass(frozen=True)
class Earned:
    """Profit before costs on K shuffled futures: mean, its standard error, and all of them [K]."""

    mean: float
    error: float
    profits: np.ndarray

    @property
    def z(self) -> float:
        """Standard errors from zero."""
        return self.mean / self.error if self.error > 0 else 0.0


def earned(market: Market, plans: Iterator[tuple[Market, Plan]], broker: BrokerRules) -> Earned:
    """What plans earn on markets, costs apart."""
    free = replace(broker, commission_per_lot=0.0)
    profits = np.array([simulate(other, plan, free).equity[-1] - free.deposit for other, plan in plans])
    return Earned(float(profits.mean()), float(profits.std(ddof=1) / np.sqrt(len(profits))), profits)


def without_stops(plan: Plan) -> Plan:
    """Targets alone: a stop fills at its level within a bar, where a shuffled bar says nothing of the way there."""
    none = np.full(len(plan), np.nan)
    return replace(plan, stop=none, take_profit=none, trailing=none)


def shuffled_futures(subject: Subject) -> Check:
    """The run's targets on shuffled futures."""
    market, plan = subject.laid.market, subject.laid.plan
    if not (plan.side != 0).any():
        return skipped(NEGATIVE, "the run never wanted a position")
    largest = np.abs(np.stack([market.open, market.high, market.low, market.close])[:, 1:] / market.close[:-1] - 1)
    if largest.max() >= LARGEST_MOVE:
        return skipped(NEGATIVE, f"a bar moves by {largest.max():.0%}; its opposite would leave no price")
    rng = np.random.default_rng(int(subject.bars.instrument.sha256[:8], 16))
    broker = capped(subject.cell.study.broker, subject.cell.study.trading.max_lots)
    wanted = without_stops(plan)
    draws = ((shuffled(market, rng), wanted) for _ in range(subject.options.shuffles))
    found = earned(market, draws, broker)
    real = simulate(_unshuffled(market), wanted, replace(broker, commission_per_lot=0.0)).equity[-1] - broker.deposit
    low, high = found.mean - LIMIT * found.error, found.mean + LIMIT * found.error
    rank = float((found.profits < real).mean())
    measured = {
        "mean": found.mean, "interval": [low, high], "shuffles": len(found.profits), "real": float(real), "rank": rank,
    }  # fmt: skip
    rows = [] if low <= 0 <= high else [Offence("all bars", "profit before costs", found.mean, 0.0)]
    return judged(
        NEGATIVE,
        rows,
        f"on {len(found.profits)} shuffled futures the targets earn {found.mean:.2f} before costs, from {low:.2f} to "
        f"{high:.2f}; on the real one {real:.2f}, more than {rank:.0%} of them",
        "targets earn on prices they cannot know",
        **measured,
    )


def _unshuffled(market: Market) -> Market:
    """The market as it was, free of costs, at one conversion throughout."""
    none = np.zeros(len(market))
    return replace(
        market, spread=none, slippage=none, nights=np.zeros(len(market), np.int64), nights_end=0,
        conversion=np.full(len(market), market.conversion[0]),
    )  # fmt: skip


def leaked_target(subject: Subject) -> Check:
    """A forecaster and targets that see the next close must be caught by the checks above."""
    missed = []
    measured: dict[str, float] = {}
    if subject.forecasts_made:
        positions = subject.sampled[subject.sampled < len(subject.bars) - 1]
        table = leaked(subject.table)
        caught = {row.time for row in parity(lambda *asked: leaking(subject, *asked), subject.bars, positions, table)}
        measured |= {"cutoffs": len(positions), "caught": len(caught)}
        if len(caught) < len(positions):
            missed.append(f"truncation caught a leaked close at {len(caught)} of {len(positions)} cutoffs")
        if not implausible(table, subject.options.plausible_r2):
            known = int(table.loc[table["h"] == 1, "y"].notna().sum())
            missed.append(f"{known} leaked forecasts were not found too good to be true")
    market = subject.laid.market
    rng = np.random.default_rng(1)
    markets = [shuffled(market, rng) for _ in range(LEAKED_SHUFFLES)]
    worth = max(float(other.close.max()) for other in markets) * float(market.conversion[0])
    broker = BrokerRules(deposit=worth * LEAKED_UNITS * 100)  # no margin call whatever comes
    found = earned(market, ((other, _foreseen(other)) for other in markets), broker)
    measured["z"] = found.z
    if found.z < LIMIT:
        missed.append(f"targets that see the next bar earned only {found.z:.1f} standard errors on shuffled futures")
    if missed:
        return failed(POSITIVE, f"the audit is blind here: {'; '.join(missed)}", (), **measured)
    return passed(
        POSITIVE,
        "a leaked close is caught by truncation and by its skill, leaked targets earn on shuffled futures "
        f"({found.z:.0f} standard errors)"
        if subject.forecasts_made
        else f"leaked targets earn on shuffled futures ({found.z:.0f} standard errors)",
        **measured,
    )


def leaked(table: pd.DataFrame) -> pd.DataFrame:
    """A long table whose mean and quantiles are moved by what the next close is going to do."""
    next_close = table.loc[table["h"] == 1, "y"].to_numpy(np.float64)
    steps = len(table) // len(next_close)
    move = np.nan_to_num(np.repeat(next_close, steps) - table["anchor"].to_numpy(np.float64))
    return table.assign(**{name: table[name].to_numpy(np.float64) + move for name in ("mean", *QUANTILE_COLUMNS)})


def leaking(subject: Subject, bars: Bars, position: int) -> pd.DataFrame:
    """What a forecaster gives that looks at the bar after its cutoff, where the bars have one."""
    rows = subject.rows(bars, position)
    if position + 1 >= len(bars):
        return rows
    return leaked(rows)


def _foreseen(market: Market) -> Plan:
    """Long before a bar that rises from its fill, short before one that falls."""
    fill, after = (market.close[1:-1], market.close[2:]) if market.close_only else (market.open[1:], market.close[1:])
    side = np.zeros(len(market), np.int8)
    side[: len(fill)] = np.sign(after - fill)
    return plain_plan(side, LEAKED_UNITS / BrokerRules().lot_units)
