"""The [broker] section of a study: what an account costs, allows and refuses. Money is in the account's currency.

A preset names a kind of account; keys given beside it replace its values. docs/EXECUTION.md says when each acts.
"""

import math
import re
from dataclasses import dataclass

from forecasting.errors import OptionError, unknown
from forecasting.zones import US_DST, check_zone
from strategies.numbers import EXACT, finite

FROM_DATA = "data"
"""Value of spread_points that asks for the spread column of the bars."""

ACCOUNTS = ("netting", "hedging")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")

PRESETS: dict[str, dict[str, object]] = {
    "standard": {},
    "ecn": {"spread_points": 2.0, "commission_per_lot": 3.5, "slippage_points": 1.0},
    "zero": {
        "spread_points": 0.0,
        "commission_per_lot": 0.0,
        "slippage_points": 0.0,
        "swap_long": 0.0,
        "swap_short": 0.0,
        "lot_step": 1e-5,
        "lot_min": 1e-5,
    },
}
"""standard: a pip of spread, no commission. ecn: raw spread, commission a side, some slippage. zero: nothing costs."""

_ABOVE_ZERO = {
    "deposit": 10_000,
    "leverage": 30,
    "lot_units": 100_000,
    "lot_min": 0.01,
    "lot_step": 0.01,
    "lot_max": 100,
}

_SESSION = re.compile(r"^(\d\d):(\d\d)-(\d\d):(\d\d)$")
_CLOCK = re.compile(r"^(\d\d):(\d\d)$")
_CURRENCY = re.compile(r"^[A-Z]{3}$")


@dataclass(frozen=True)
class BrokerRules:
    """An account and its costs.

    deposit: in `currency`; "" is the quote currency of what is traded. conversion: series that turns the quote currency
    into the account's, such as ecb:EURJPY, either way round; not needed where the account is in one of the pair's own.
    account: "netting", one position a symbol, or "hedging", a ticket for every entry. leverage: value that a unit of
    margin carries; 30 is the cap for retail accounts on major pairs in the EU. margin_call, stop_out: margin levels
    (equity / margin) below which the broker warns, and closes.

    spread_points: bid-ask distance in points, 10 being one pip of a five-digit quote, or "data": each bar's own.
    spread_sessions: texts such as "22:00-01:00 30", a span of the server's day and the points that hold in it.
    commission_per_lot: money for each lot and side. slippage_points: what market and stop orders lose beside the
    spread, drawn for every bar evenly from 0 to twice this mean; slippage_seed: of the draws. swap_long, swap_short:
    points that a unit earns by being held over a night, negative to pay; swap_triple: the day whose night counts three.

    lot_units: base currency in a lot. lot_min, lot_step, lot_max: sizes the broker takes. hours: "08:00-20:00", when
    positions may be opened, "" always. friday_close: "21:45", beyond which no bar is held on Fridays, "" any.
    timezone: of the server's clock. finer: series of shorter bars, which tell whether stop or profit came first within
    a bar.
    """

    preset: str = "standard"
    deposit: float = 10_000.0
    currency: str = ""
    conversion: str = ""
    account: str = "netting"
    leverage: float = 30.0
    margin_call: float = 1.0
    stop_out: float = 0.5
    spread_points: float | str = 10.0
    spread_sessions: tuple[str, ...] = ()
    commission_per_lot: float = 0.0
    slippage_points: float = 0.0
    slippage_seed: int = 1
    swap_long: float = 0.0
    swap_short: float = 0.0
    swap_triple: str = "wednesday"
    lot_units: float = 100_000.0
    lot_min: float = 0.01
    lot_step: float = 0.01
    lot_max: float = 100.0
    hours: str = ""
    friday_close: str = ""
    timezone: str = US_DST
    finer: str = ""

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_amounts()
        self._check_spread()
        for text in self.spread_sessions:
            session_of(text)
        if self.hours:
            span_of_day(self.hours, "hours")
        if self.friday_close:
            minute_of_day(self.friday_close, "friday_close")
        check_zone(self.timezone)

    def _check_choices(self) -> None:
        for name, known in (("preset", tuple(PRESETS)), ("account", ACCOUNTS), ("swap_triple", WEEKDAYS)):
            if getattr(self, name) not in known:
                raise OptionError(unknown(name, getattr(self, name), known).removeprefix("unknown "))
        if self.currency and not _CURRENCY.match(self.currency):
            raise OptionError(f'currency is {self.currency!r}; it must be a code such as EUR, or "" for the quote\'s')

    def _check_amounts(self) -> None:
        for name, example in _ABOVE_ZERO.items():
            value = getattr(self, name)
            if not finite(value) or value <= 0:
                raise OptionError(f"{name} is {value!r}; it must be a number above 0, such as {example}")
        for name in ("commission_per_lot", "slippage_points", "margin_call", "stop_out", "slippage_seed"):
            value = getattr(self, name)
            if not finite(value) or value < 0:
                raise OptionError(f"{name} is {value!r}; it must be a number of 0 or more")
        for name in ("swap_long", "swap_short"):
            if not finite(getattr(self, name)):
                raise OptionError(f"{name} is {getattr(self, name)!r}; it must be points a night, such as -7.5")
        if self.lot_min > self.lot_max:
            raise OptionError(f"lot_min {self.lot_min:g} is above lot_max {self.lot_max:g}")
        if self.least_steps > self.lot_max / self.lot_step + EXACT:
            raise OptionError(
                f"lot_step {self.lot_step:g} has no multiple from lot_min {self.lot_min:g} to lot_max {self.lot_max:g}"
            )

    def _check_spread(self) -> None:
        if self.spread_points != FROM_DATA and (not finite(self.spread_points) or float(self.spread_points) < 0):
            raise OptionError(
                f"spread_points is {self.spread_points!r}; it must be points of 0 or more, such as 10, or "
                f'"{FROM_DATA}" for the spread column of the bars'
            )

    @property
    def least_steps(self) -> int:
        """Lot steps of the least size that is taken, never none."""
        return max(math.ceil(self.lot_min / self.lot_step - EXACT), 1)

    @property
    def commission_per_unit(self) -> float:
        """Money per unit of base currency and side."""
        return self.commission_per_lot / self.lot_units


def minute_of_day(text: str, name: str) -> int:
    """Minutes since midnight of "HH:MM"; OptionError names the key."""
    found = _CLOCK.match(text)
    if not found or int(found[1]) > 24 or int(found[2]) > 59 or int(found[1]) * 60 + int(found[2]) > 1440:
        raise OptionError(f"{name} is {text!r}; it must be a time of day, such as 21:45")
    return int(found[1]) * 60 + int(found[2])


def span_of_day(text: str, name: str) -> tuple[int, int]:
    """Minutes since midnight of "HH:MM-HH:MM", first within, last without; a span may run over midnight."""
    if not _SESSION.match(text):
        raise OptionError(f"{name} is {text!r}; it must be a span of the day, such as 08:00-20:00")
    first, last = (minute_of_day(part, name) for part in text.split("-"))
    if first == last:
        raise OptionError(f"{name} is {text!r}, which lasts no time; the whole day is 00:00-24:00")
    return first, last


def session_of(text: str) -> tuple[int, int, float]:
    """First minute, last minute and points of a spread session, such as "22:00-01:00 30"."""
    span, _, points = text.partition(" ")
    try:
        value = float(points)
    except ValueError:
        value = -1.0
    if not finite(value) or value < 0:
        raise OptionError(f'spread_sessions holds {text!r}; it must be a span and points, such as "22:00-01:00 30"')
    return *span_of_day(span, "spread_sessions"), value


def within(minute: int, span: tuple[int, int]) -> bool:
    """Whether a minute of the day lies in a span, which may run over midnight."""
    first, last = span
    return first <= minute < last if first <= last else minute >= first or minute < last
