"""The [trading] section of a study: what is traded by which signal, with whose money and at what cost."""

from dataclasses import dataclass

import numpy as np

from forecasting.errors import ConfigError
from strategies.signals import SignalRules, find_signal

FROM_DATA = "data"
"""Value of spread_points that asks for the spread column of the bars."""


@dataclass(frozen=True)
class TradingRules:
    """Signal, size and costs.

    signal: a name in `strategies.signals.SIGNALS`. threshold_k: least expected move of `threshold`, in round-trip
    costs. lots: size of every position; lot_units: base currency in a lot. deposit: in quote currency, as all money
    here. leverage: 30 is the cap for retail accounts on major pairs in the EU. spread_points: bid-ask distance in
    points, 10 being one pip, a usual spread of an account without commission; or "data": each bar's own.
    commission_per_lot: money per lot and side; an account with raw spreads charges about 3.5 at 1 to 3 points.
    probability_margin: how far from one half the chance of a rise must lie for `probability` to trade.
    """

    signal: str = "mean-vs-last"
    threshold_k: float = 1.0
    lots: float = 0.1
    lot_units: float = 100_000.0
    deposit: float = 10_000.0
    leverage: float = 30.0
    spread_points: float | str = 10.0
    commission_per_lot: float = 0.0
    probability_margin: float = 0.02

    def __post_init__(self) -> None:
        find_signal(self.signal)
        for name, example in (("lots", 0.1), ("lot_units", 100_000), ("deposit", 10_000), ("leverage", 30)):
            value = getattr(self, name)
            if not _number(value) or value <= 0:
                raise ConfigError(f"trading.{name} is {value!r}; it must be a number above 0, such as {example}")
        for name, example in (("threshold_k", 1.0), ("commission_per_lot", 3.5)):
            value = getattr(self, name)
            if not _number(value) or value < 0:
                raise ConfigError(f"trading.{name} is {value!r}; it must be a number of 0 or more, such as {example}")
        margin = self.probability_margin
        if not _number(margin) or not 0 <= margin < 0.5:
            raise ConfigError(f"trading.probability_margin is {margin!r}; it must be from 0 to below 0.5, such as 0.02")
        spread = self.spread_points
        if spread != FROM_DATA and (not _number(spread) or float(spread) < 0):
            raise ConfigError(
                f"trading.spread_points is {spread!r}; it must be points of 0 or more, such as 10, or "
                f'"{FROM_DATA}" for the spread column of the bars'
            )

    @property
    def units(self) -> float:
        """Base currency in a full position."""
        return self.lots * self.lot_units

    @property
    def commission_per_unit(self) -> float:
        """Money per unit of base currency and side."""
        return self.commission_per_lot / self.lot_units

    @property
    def signal_rules(self) -> SignalRules:
        """The part of the rules that a signal may see."""
        return SignalRules(self.signal, self.threshold_k, self.lots, self.probability_margin)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
