"""Two lists of trades side by side: equal, or the first differences."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from strategies.run import REASONS
from tunetrade.replay_market import Trade

SHOWN = 10
"""Differences of a kind that a report lists; all are counted."""

NEAR_LOTS, NEAR_POINTS, NEAR_MONEY = 1e-9, 1e-6, 0.01


@dataclass(frozen=True)
class Parity:
    """What a replay found.

    bars: replayed. trades: of the backtest and of the Expert Advisor. only_backtest, only_live: trades that the other
    has not; of those of the same entry side by side. balances: at the end, backtest's and terminal's. forecasts: held
    to those stored; forecasts_apart: cutoffs of those that differ. troubles: of the terminal.
    """

    bars: int
    trades: tuple[int, int]
    only_backtest: tuple[dict[str, Any], ...]
    only_live: tuple[dict[str, Any], ...]
    balances: tuple[float, float]
    forecasts: int
    forecasts_apart: tuple[str, ...]
    troubles: tuple[str, ...]
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether every trade, every forecast and the balance are the same."""
        same = not (self.only_backtest or self.only_live or self.forecasts_apart or self.troubles)
        return same and abs(self.balances[0] - self.balances[1]) <= NEAR_MONEY

    @property
    def ms_per_bar(self) -> float:
        """Time of a bar from its first tick to its last, all included."""
        return 1000 * self.seconds / max(self.bars, 1)

    def record(self) -> dict[str, Any]:
        """For JSON; differences beyond the first are counted only."""
        values = asdict(self) | {"equal": self.equal, "ms_per_bar": self.ms_per_bar}
        for name in ("only_backtest", "only_live", "forecasts_apart", "troubles"):
            values[name] = {"count": len(values[name]), "first": list(values[name][:SHOWN])}
        return values

    def lines(self) -> list[str]:
        """For people."""
        ours, live = self.trades
        found = [
            f"  {'bars':<22} {self.bars:,} in {self.seconds:.1f} s, {self.ms_per_bar:.2f} ms each",
            f"  {'trades':<22} {ours:,} of the backtest, {live:,} of the Expert Advisor",
            f"  {'forecasts':<22} {self.forecasts:,} over the wire, {len(self.forecasts_apart):,} other than stored",
            f"  {'balance':<22} {self.balances[0]:.2f} and {self.balances[1]:.2f}",
        ]
        if self.equal:
            return [*found, "equal: every trade, price, size and forecast"]
        found += [f"  {trouble}" for trouble in self.troubles[:SHOWN]]
        found += [f"  forecast of {cutoff} differs" for cutoff in self.forecasts_apart[:SHOWN]]
        for name, trades in (("backtest only", self.only_backtest), ("Expert Advisor only", self.only_live)):
            found += [f"  {name + ':':<22} {_line(trade)}" for trade in trades[:SHOWN]]
            if len(trades) > SHOWN:
                found.append(f"  ... and {len(trades) - SHOWN:,} more")
        return [*found, "NOT equal"]


def compared(
    ours: Sequence[Trade],
    live: Sequence[Trade],
    times: np.ndarray,
    *,
    balances: tuple[float, float],
    forecasts: tuple[int, Sequence[str]],
    troubles: Sequence[str],
    seconds: float,
    point: float,
) -> Parity:
    """The report of two lists of trades whose bars are rows of `times`, UTC closes [T]."""
    left, right = _unmatched(ours, live, point)
    return Parity(
        bars=len(times),
        trades=(len(ours), len(live)),
        only_backtest=tuple(_told(trade, times) for trade in left),
        only_live=tuple(_told(trade, times) for trade in right),
        balances=balances,
        forecasts=forecasts[0],
        forecasts_apart=tuple(forecasts[1]),
        troubles=tuple(troubles),
        seconds=seconds,
    )


def _unmatched(ours: Sequence[Trade], live: Sequence[Trade], point: float) -> tuple[list[Trade], list[Trade]]:
    """Trades of each list that the other has not, in order of entry."""
    waiting: dict[tuple[int, int], list[Trade]] = {}
    for trade in sorted(live, key=_order):
        waiting.setdefault((trade.entry_bar, trade.exit_bar), []).append(trade)
    left = []
    for trade in sorted(ours, key=_order):
        same = waiting.get((trade.entry_bar, trade.exit_bar), [])
        found = next((other for other in same if _alike(trade, other, point)), None)
        if found is None:
            left.append(trade)
        else:
            same.remove(found)
    return left, sorted((trade for trades in waiting.values() for trade in trades), key=_order)


def _order(trade: Trade) -> tuple[float, ...]:
    return trade.entry_bar, trade.exit_bar, trade.lots, trade.entry_price, trade.exit_price


def _alike(a: Trade, b: Trade, point: float) -> bool:
    near = NEAR_POINTS * point
    prices = abs(a.entry_price - b.entry_price) <= near and abs(a.exit_price - b.exit_price) <= near
    return prices and abs(a.lots - b.lots) <= NEAR_LOTS and abs(a.net - b.net) <= NEAR_MONEY


def _told(trade: Trade, times: np.ndarray) -> dict[str, Any]:
    return {
        "entry_time": str(times[trade.entry_bar].astype("datetime64[s]")),
        "exit_time": str(times[trade.exit_bar].astype("datetime64[s]")),
        "side": "buy" if trade.lots > 0 else "sell",
        "lots": round(abs(trade.lots), 8),
        "entry_price": trade.entry_price,
        "exit_price": trade.exit_price,
        "net": round(trade.net, 2),
        "exit_reason": REASONS[trade.why],
    }


def _line(trade: dict[str, Any]) -> str:
    return (
        f"{trade['entry_time']} {trade['side']} {trade['lots']:g} at {trade['entry_price']:.7g}, "
        f"{trade['exit_time']} at {trade['exit_price']:.7g} ({trade['exit_reason']}), {trade['net']:+.2f}"
    )
