"""The [trading] section of a study: what is traded by which signal."""

from dataclasses import dataclass

from forecasting.errors import OptionError
from strategies.numbers import finite
from strategies.signals import SignalRules, find_signal


@dataclass(frozen=True)
class TradingRules:
    """Signal and size.

    signal: a name in `strategies.signals.SIGNALS`. threshold_k: least expected move of `threshold`, in round-trip
    costs. lots: size of every position. probability_margin: how far from one half the chance of a rise must lie for
    `probability` to trade.
    """

    signal: str = "mean-vs-last"
    threshold_k: float = 1.0
    lots: float = 0.1
    probability_margin: float = 0.02

    def __post_init__(self) -> None:
        find_signal(self.signal)
        if not finite(self.lots) or self.lots <= 0:
            raise OptionError(f"lots is {self.lots!r}; it must be a number above 0, such as 0.1")
        if not finite(self.threshold_k) or self.threshold_k < 0:
            raise OptionError(f"threshold_k is {self.threshold_k!r}; it must be a number of 0 or more, such as 1.0")
        margin = self.probability_margin
        if not finite(margin) or not 0 <= margin < 0.5:
            raise OptionError(f"probability_margin is {margin!r}; it must be from 0 to below 0.5, such as 0.02")

    @property
    def signal_rules(self) -> SignalRules:
        """The part of the rules that a signal may see."""
        return SignalRules(self.signal, self.threshold_k, self.lots, self.probability_margin)
