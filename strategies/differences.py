"""What may differ between two trades, in a trader's words: tolerances, sentences, and the money of each difference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from forecasting.zones import from_utc
from strategies.exports import UNKNOWN
from strategies.tester import AT_OPEN

KINDS = (
    "missing there", "missing here", "still open", "other side", "entry time", "exit time", "closed otherwise",
    "closed in parts", "lots", "entry price", "exit price", "commission", "swap", "conversion",
)  # fmt: skip
"""What may differ. lots: what other lots make of the same prices and costs. conversion: what prices and lots do not
explain: rate into the account's currency, contract size."""

REASONS = {"sl": "stop loss", "tp": "take profit", "so": "stop out", "end of test": "end of data"}
"""Beginnings of MetaTrader's comments, and what they say of an exit."""

MINUTE = 60.0


@dataclass(frozen=True)
class Account:
    """What must be known of the run. minutes: of a bar. point: price of a point. timezone: of the export's clock."""

    symbol: str
    digits: int
    minutes: float
    close_only: bool
    netting: bool
    timezone: str
    deposit: float
    currency: str

    @property
    def point(self) -> float:
        """Price of one point."""
        return float(10.0**-self.digits)


@dataclass(frozen=True)
class Tolerances:
    """Up to where two trades count as equal: minutes of a fill's time, points of a price, lots, money."""

    minutes: float
    points: float = 1.0
    lots: float = 1e-6
    money: float = 0.02


@dataclass(frozen=True)
class Difference:
    """One difference. ours, theirs: numbers of trade and ticket, "" for none; money: its part of theirs less ours."""

    kind: str
    ours: str
    theirs: str
    money: float
    text: str


class Words:
    """Puts differences of two trades into sentences, with their money."""

    def __init__(self, account: Account, limits: Tolerances) -> None:
        self.account, self.limits = account, limits

    def of_pair(self, ours: pd.Series, theirs: pd.Series) -> list[Difference]:
        """All differences of a pair beyond the tolerances."""
        factor = float(theirs["lots"] / ours["lots"])
        value = ours["direction"] * ours["units"] * ours["rate"] * factor
        money = {
            "lots": ours["net"] * (factor - 1),
            "entry price": -value * (theirs["entry_price"] - ours["entry_price"]),
            "exit price": value * (theirs["exit_price"] - ours["exit_price"]),
        }
        rest = theirs["profit"] - ours["profit"] * factor - money["entry price"] - money["exit price"]
        found = [
            *self._entry_time(ours, theirs),
            *self._lots(ours, theirs, money["lots"]),
            *self._price("entry", ours, theirs, money["entry price"]),
            *self._exit(ours, theirs, money["exit price"]),
            *self._conversion(rest, theirs, abs(value) * self.account.point),
            *self._cost("commission", ours, theirs, factor),
            *self._cost("swap", ours, theirs, factor),
        ]
        label = f"trade {ours['ticket']} ({self._side(ours)} {self.time(ours['entry_time'])}): "
        return [replace(d, ours=ours["ticket"], theirs=theirs["ticket"], text=label + d.text) for d in found]

    def time(self, utc: pd.Timestamp) -> str:
        """A moment on the server's clock, as MetaTrader writes it."""
        local = from_utc(np.array([utc.to_datetime64()]), self.account.timezone)[0]
        return str(pd.Timestamp(local).strftime("%Y.%m.%d %H:%M"))

    def price(self, value: float) -> str:
        """A price with the digits of the symbol."""
        return f"{value:.{self.account.digits}f}"

    def lone(self, trade: pd.Series) -> str:
        """A trade that has no counterpart."""
        return (
            f"{self._side(trade)} {trade['lots']:.2f} lots, {self.time(trade['entry_time'])} at "
            f"{self.price(trade['entry_price'])} to {self.time(trade['exit_time'])} at "
            f"{self.price(trade['exit_price'])}"
        )

    @staticmethod
    def _side(trade: pd.Series) -> str:
        return "long" if trade["direction"] > 0 else "short"

    def held(self, ticket: pd.Series) -> str:
        """A ticket that was not closed."""
        at = f"{self.time(ticket['entry_time'])} at {self.price(ticket['entry_price'])}"
        return f"deal {ticket['ticket']}, {ticket['lots']:g} lots, {at},"

    def _entry_time(self, ours: pd.Series, theirs: pd.Series) -> list[Difference]:
        away = (theirs["entry_time"] - ours["entry_time"]).total_seconds()
        if abs(away) <= self.limits.minutes * MINUTE:
            return []
        return [_difference("entry time", f"entered {_apart(away)} there{_why(away)}")]

    def _exit_time(self, ours: pd.Series, theirs: pd.Series) -> list[Difference]:
        """Ours can have been at any moment from `earliest` to `exit_time`."""
        early = (ours["earliest"] - theirs["exit_time"]).total_seconds()
        late = (theirs["exit_time"] - ours["exit_time"]).total_seconds()
        if max(early, late) <= self.limits.minutes * MINUTE:
            return []
        away = late if late > 0 else -early
        return [_difference("exit time", f"closed {_apart(away)} there{_why(away)}")]

    def _lots(self, ours: pd.Series, theirs: pd.Series, money: float) -> list[Difference]:
        if abs(theirs["lots"] - ours["lots"]) <= self.limits.lots:
            return []
        if theirs["open"] > 0:
            text = (
                f"{theirs['lots']:g} lots closed there, {ours['lots']:g} here: {theirs['open']:g} are still open there"
            )
            return [_difference("still open", text, money)]
        text = (
            f"{theirs['lots']:g} lots there, {ours['lots']:g} here: another size setting, lot step or limit, or "
            "equity had parted by then"
        )
        return [_difference("lots", text, money)]

    def _price(self, where: str, ours: pd.Series, theirs: pd.Series, money: float) -> list[Difference]:
        """A price that differs; worse is dearer for what is bought and cheaper for what is sold."""
        name, point = f"{where}_price", self.account.point
        buys = ours["direction"] * (1 if where == "entry" else -1)
        worse = buys * (theirs[name] - ours[name]) / point
        if abs(worse) <= self.limits.points + 1e-6:
            return []
        points = f"{abs(worse):.{self._tenths(worse)}f}"
        text = (
            f"{where} at {self.price(theirs[name])} there, {self.price(ours[name])} here, {points} "
            f"points {'worse' if worse > 0 else 'better'}: {self._price_why(worse, ours['spread'] / point)}"
        )
        return [_difference(f"{where} price", text, money)]

    def _price_why(self, worse: float, spread: float) -> str:
        known = spread > 0
        room = max(self.limits.points, 0.25 * spread) if known else 0.0
        if known and abs(worse - spread) <= room:
            return (
                "about one spread; bid and ask were further apart there, or a side is charged there that is free here"
            )
        if known and abs(worse + spread) <= room:
            return "about one spread; this side paid bid to ask here but not there (compare broker.spread_points)"
        if worse > 0:
            return "slippage or a wider spread there"
        return "less spread or slippage there than broker.spread_points and broker.slippage_points ask, or other quotes"

    @staticmethod
    def _tenths(value: float) -> int:
        return 0 if abs(value - round(value)) < 0.05 else 1

    def _exit(self, ours: pd.Series, theirs: pd.Series, money: float) -> list[Difference]:
        here, there = (each["parts"] or (each,) for each in (ours, theirs))
        if len(here) + len(there) > 2:
            same = all(self._same_exit(a, b) for a in here for b in there)
            exits_here = [(part, part["comment"]) for part in here]
            exits_there = [(part, _reason(part["comment"])) for part in there]
            text = f"{self._closed(exits_there)} there, {self._closed(exits_here)} here"
            return [] if same else [_difference("closed in parts", text, money)]
        reason = _reason(theirs["comment"])
        if reason in (ours["comment"], UNKNOWN):
            return [*self._exit_time(ours, theirs), *self._price("exit", ours, theirs, money)]
        hint = {
            "stop loss": "set the same stop here, or look whether the price passed it between the bars' prices",
            "take profit": "set the same target here, or look whether the price passed it between the bars' prices",
            "stop out": "margin ran out there: compare deposit, leverage and stop-out level",
            "end of data": "the test ended there while the position was open",
            "signal": "an order closed it there before that happened, or a comment was lost",
        }[reason]
        text = (
            f"closed there by {_by(reason)} at {self.price(theirs['exit_price'])}, {self.time(theirs['exit_time'])}, "
            f"here by {_by(ours['comment'])} at {self.price(ours['exit_price'])}, {self.time(ours['exit_time'])}: "
            f"{hint}"
        )
        return [_difference("closed otherwise", text, money)]

    def _same_exit(self, ours: pd.Series, theirs: pd.Series) -> bool:
        same_reason = _reason(theirs["comment"]) in (ours["comment"], UNKNOWN)
        return same_reason and not self._exit_time(ours, theirs) and not self._price("exit", ours, theirs, 0.0)

    def _closed(self, parts: Sequence[tuple[pd.Series, str]]) -> str:
        """Parts and their reasons of exit in words."""
        ends = [
            f"{part['lots']:g} lots {'' if reason == UNKNOWN else f'by {_by(reason)} '}at "
            f"{self.price(part['exit_price'])}, {self.time(part['exit_time'])}"
            for part, reason in parts
        ]
        return f"closed in {len(parts)} parts ({'; '.join(ends)})" if len(parts) > 1 else f"whole ({ends[0]})"

    def _conversion(self, rest: float, theirs: pd.Series, a_point: float) -> list[Difference]:
        """Exports round prices: each may be half a point from what its money was made of."""
        if abs(rest) <= self.limits.money + 1e-3 * abs(theirs["profit"]) + a_point:
            return []
        text = (
            f"{rest:+.2f} {self.account.currency} that neither prices nor lots explain: another rate into the "
            "account's currency, or another contract size"
        )
        return [_difference("conversion", text, rest)]

    def _cost(self, name: str, ours: pd.Series, theirs: pd.Series, factor: float) -> list[Difference]:
        """A cost that differs for as many lots; what other lots make of it is told with them."""
        money = theirs[name] - ours[name] * factor
        if abs(money) <= self.limits.money:
            return []
        if name == "commission":
            a_lot = -theirs[name] / theirs["lots"] / 2
            cure = f"{a_lot:.2f} for each lot and side there (broker.commission_per_lot)"
        else:
            days = (theirs["exit_time"] - theirs["entry_time"]) / pd.Timedelta(days=1)
            cure = f"held {days:.1f} days there (broker.swap_long, broker.swap_short, broker.swap_triple)"
        same_lots = abs(theirs["lots"] - ours["lots"]) <= self.limits.lots
        here = f"{ours[name]:.2f}" if same_lots else f"{ours[name] * factor:.2f} for as many lots"
        return [_difference(name, f"{name} {theirs[name]:.2f} there, {here} here: {cure}", money)]


def _difference(kind: str, text: str, money: float = 0.0) -> Difference:
    return Difference(kind, "", "", float(money), text)


def _reason(comment: str) -> str:
    """Why a trade was closed, by the comment of its last deal; `signal` where it says nothing."""
    text = str(comment).strip().lower().lstrip("[")
    if text == UNKNOWN:
        return UNKNOWN
    return next((reason for start, reason in REASONS.items() if text == start or text.startswith(f"{start} ")), AT_OPEN)


def _by(reason: str) -> str:
    return {"signal": "an order", "end of data": "the end of the data"}.get(reason, reason)


def _apart(seconds: float) -> str:
    return f"{hours_text(seconds)} {'later' if seconds > 0 else 'earlier'}"


def hours_text(seconds: float) -> str:
    """A span without its sign, in minutes or hours.

    >>> hours_text(-900), hours_text(5400)
    ('15 min', '1 h 30 min')
    """
    minutes = round(abs(seconds) / MINUTE)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def _why(seconds: float) -> str:
    whole = abs(abs(seconds) - 3600) < 5 * MINUTE
    return ": one hour, as where two clocks change to summer time on different days" if whole else ""
