"""The [trading] section of a study: what is traded by which signal, how large, and when it ends."""

from dataclasses import dataclass, fields

from forecasting.errors import OptionError, unknown
from forecasting.forecasts import QUANTILE_LEVELS
from strategies.numbers import finite
from strategies.signals import SignalRules, find_signal
from strategies.sizing import SIZINGS
from strategies.stops import level_of

_ABOVE_ZERO = {
    "lots": 0.1,
    "risk_percent": 1,
    "target_volatility": 0.1,
    "kelly_fraction": 0.25,
    "max_lots": 100,
    "max_leverage": 10,
}


@dataclass(frozen=True)
class TradingRules:
    """Signal, size and exits.

    signal: a name in `strategies.signals.SIGNALS`, or a user's own as "file.py:function". threshold_k: least expected
    move of `threshold`, in round-trip costs. probability_margin: how far from one half the chance of a rise must lie
    for `probability` to trade. quantile_level: lower quantile of `quantile`, the upper one mirrored.

    sizing: "fixed" `lots`; "risk", `risk_percent` of equity lost at the stop; "volatility", `target_volatility` of
    equity a year (0.1 is 10 %); "kelly", `kelly_fraction` of the growth-optimal share. max_lots bounds them all,
    max_leverage (exposure / equity) those that follow equity. docs/EXECUTION.md has the formulas.

    stop, take_profit, trailing: "" none, "points:150", "atr:2.0", and for the first two "quantile:0.05".

    expiry_bars: bars after which a target turns flat unless a newer one has replaced it, 0 the forecast's horizon.
    resize: whether a position held follows changes of the size wanted.
    """

    signal: str = "mean-vs-last"
    threshold_k: float = 1.0
    lots: float = 0.1
    probability_margin: float = 0.02
    quantile_level: float = 0.10
    sizing: str = "fixed"
    risk_percent: float = 1.0
    target_volatility: float = 0.10
    kelly_fraction: float = 0.25
    max_lots: float = 100.0
    max_leverage: float = 10.0
    stop: str = ""
    take_profit: str = ""
    trailing: str = ""
    expiry_bars: int = 0
    resize: bool = False

    def __post_init__(self) -> None:
        find_signal(self.signal)
        for name, example in _ABOVE_ZERO.items():
            value = getattr(self, name)
            if not finite(value) or value <= 0:
                raise OptionError(f"{name} is {value!r}; it must be a number above 0, such as {example}")
        if not finite(self.threshold_k) or self.threshold_k < 0:
            raise OptionError(f"threshold_k is {self.threshold_k!r}; it must be a number of 0 or more, such as 1.0")
        margin = self.probability_margin
        if not finite(margin) or not 0 <= margin < 0.5:
            raise OptionError(f"probability_margin is {margin!r}; it must be from 0 to below 0.5, such as 0.02")
        self._check_size()
        for name in ("stop", "take_profit", "trailing"):
            level_of(getattr(self, name), name)
        if not isinstance(self.expiry_bars, int) or self.expiry_bars < 0:
            raise OptionError(f"expiry_bars is {self.expiry_bars!r}; it must be bars, such as 3, or 0 for the horizon")

    def _check_size(self) -> None:
        low = [level for level in QUANTILE_LEVELS if level < 0.5]
        if self.quantile_level not in low:
            known = ", ".join(f"{level:g}" for level in low)
            raise OptionError(
                f"quantile_level is {self.quantile_level!r}; it must be one of those kept, such as {known}"
            )
        if self.sizing not in SIZINGS:
            raise OptionError(unknown("sizing", self.sizing, SIZINGS).removeprefix("unknown "))
        if self.sizing == "risk" and not (self.stop or self.trailing):
            raise OptionError('sizing is "risk", which needs a stop; set trading.stop, such as "atr:2.0"')
        if self.risk_percent > 100:
            raise OptionError(f"risk_percent is {self.risk_percent!r}; it must be at most 100, such as 1")
        if self.kelly_fraction > 1:
            raise OptionError(f"kelly_fraction is {self.kelly_fraction!r}; it must be at most 1, such as 0.25")
        if self.sizing == "fixed" and self.lots > self.max_lots:
            raise OptionError(f"lots is {self.lots!r}, above max_lots {self.max_lots!r}; lower it, such as 0.1")

    @property
    def signal_rules(self) -> SignalRules:
        """The part of the rules that decides; replace its `broker` and `bars_per_year` by those of what is traded."""
        own = {item.name for item in fields(SignalRules)} & {item.name for item in fields(self)}
        return SignalRules(**{name: getattr(self, name) for name in own})
