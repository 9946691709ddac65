"""A backtest's market as the simulated terminal reads it, and the terminal's deals as trades again.

The clock of the bars is the broker's: the Expert Advisor turns it into UTC by its own rule (Clock.mqh), which must give
the closes that the bars have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forecasting.bars import Bars
from forecasting.calendars import MINUTES
from forecasting.errors import ConfigError, UserError
from forecasting.zones import from_utc, rule_to_utc
from strategies.contract import BrokerRules
from strategies.market import Market

PERIODS = {"M1": 1, "M5": 5, "M15": 15, "M30": 30, "H1": 16385, "H4": 16388, "D1": 16408, "W1": 32769}
"""MetaTrader's numbers of the timeframes that the simulated terminal has."""

CLOCKS = (("UTC", 2), ("us-dst", 0), ("Europe/Athens", 1))
"""Zones whose changes of summer time InpClock names, and its number."""

SIGNAL, STOP_LOSS, TAKE_PROFIT, STOP_OUT, END = range(5)
_REASONS = {0: END, 3: SIGNAL, 4: STOP_LOSS, 5: TAKE_PROFIT, 6: STOP_OUT}
"""MetaTrader's reason of a deal -> row of `strategies.run.REASONS`; a trailing stop that was leapt over is an order."""


@dataclass(frozen=True)
class Clock:
    """A broker's clock along T bars.

    opens: int64 [T], seconds since 1970 by it. zones: from which open on which offset to UTC holds, s. rule: InpClock.
    """

    opens: np.ndarray
    zones: tuple[tuple[int, int], ...]
    rule: int


def broker_clock(bars: Bars, zone: str) -> Clock:
    """The clock of a server in `zone` along bars; UserError where the Expert Advisor would read other bars from it."""
    hour = np.timedelta64(1, "h")
    hours = np.arange(bars.times[0].astype("datetime64[h]") - 400 * hour, bars.times[-1] + 400 * hour, hour)
    offsets = _offsets(hours, zone)
    changes = np.flatnonzero(np.diff(offsets, prepend=offsets[0] - 1))
    local = hours[changes].astype("datetime64[s]").astype(np.int64) + offsets[changes]
    zones = tuple(zip(local.tolist(), offsets[changes].tolist(), strict=True))
    opens = broker_opens(bars, zone)
    wrong = np.flatnonzero(closes_of(opens, bars, zone) != bars.times)
    if len(wrong) or (np.diff(opens) <= 0).any():
        at = bars.times[wrong[0] if len(wrong) else int(np.flatnonzero(np.diff(opens) <= 0)[0]) + 1]
        raise UserError(
            f"{bars.instrument.unique_id}: the bar of {at} is none of a server whose clock is {zone}; set "
            "broker.timezone to the clock that the bars were cut by"
        )
    return Clock(opens, zones, _rule(hours, offsets, zone))


def closes_of(opens: np.ndarray, bars: Bars, zone: str) -> np.ndarray:
    """UTC closes that the Expert Advisor makes of opens on a server's clock (CloseMs of Clock.mqh), datetime64[ns]."""
    minutes = MINUTES[bars.instrument.timeframe]
    length = np.timedelta64(6 * 1440 if bars.instrument.timeframe == "W1" else minutes, "m")
    local = opens.astype("datetime64[s]").astype("datetime64[ns]")
    if minutes <= 60:
        return np.asarray(rule_to_utc(local, zone) + length)
    return rule_to_utc(local + length, zone)


def broker_opens(bars: Bars, zone: str) -> np.ndarray:
    """Opens of bars as a terminal stamps them, seconds since 1970 by the server's clock, int64 [T].

    Fixings have none: each counts as the end of a day that began 24 hours before.
    """
    minutes = MINUTES[bars.instrument.timeframe]
    if bars.instrument.close_only:
        return np.asarray(from_utc(bars.times, zone).astype("datetime64[s]").astype(np.int64) - 60 * minutes)
    if minutes <= 60:
        local = from_utc(bars.times - np.timedelta64(minutes, "m"), zone)
        return np.asarray(local.astype("datetime64[s]").astype(np.int64))
    closed = from_utc(bars.times, zone).astype("datetime64[s]").astype(np.int64)
    length = 60 * minutes
    if bars.instrument.timeframe == "W1":
        return np.asarray((closed - 1) // 86_400 * 86_400 - 5 * 86_400)
    # A bar that a change of summer time or the week's end made shorter opens on its boundary all the same.
    day = (closed - 1) // 86_400 * 86_400
    return np.asarray(day + (closed - 1 - day) // length * length)


def _offsets(times: np.ndarray, zone: str) -> np.ndarray:
    return np.asarray((from_utc(times, zone) - times.astype("datetime64[ns]")) // np.timedelta64(1, "s"))


def _rule(times: np.ndarray, offsets: np.ndarray, zone: str) -> int:
    for name, rule in CLOCKS:
        if len(np.unique(offsets - _offsets(times, name))) == 1:
            return rule
    raise UserError(
        f"the server's clock {zone!r} changes neither with New York nor with Europe, which the Expert Advisor cannot "
        "follow; set broker.timezone to one that does, such as us-dst"
    )


def market_text(
    bars: Bars, market: Market, clock: Clock, broker: BrokerRules, currency: str, server: str = "Replay"
) -> str:
    """The market file of the simulated terminal (bridge/terminal/README.md).

    bars: those of `market`, and before them the history that a forecast needs; clock: of all of them.
    """
    instrument, first = bars.instrument, len(bars) - len(market)
    if instrument.timeframe not in PERIODS:
        raise ConfigError(
            f"the simulated terminal has no bars of {instrument.timeframe}, only of {', '.join(PERIODS)}; replay one "
            "of those"
        )
    facts: dict[str, Any] = {
        "symbol": instrument.symbol.replace(" ", "_"), "server": server, "currency": currency,
        "digits": instrument.digits, "point": instrument.point, "period": PERIODS[instrument.timeframe],
        "close_only": int(instrument.close_only), "in_price": 1, "prelude": 1, "warm": first + 1,
        "contract": broker.lot_units, "lot_min": broker.lot_min, "lot_step": broker.lot_step,
        "lot_max": broker.lot_max, "balance": broker.deposit, "commission": broker.commission_per_lot,
        "leverage": broker.leverage, "hedging": int(broker.account == "hedging"), "swap_long": broker.swap_long,
        "swap_short": broker.swap_short, "stop_out": broker.stop_out, "nights_end": market.nights_end,
    }  # fmt: skip
    lines = [f"{name} {value!r}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items()]
    lines += [f"zone {opens} {offset}" for opens, offset in clock.zones]
    opens = clock.opens.tolist()
    prices = bars.frame[["open", "high", "low", "close"]].to_numpy(np.float64).tolist()
    lines += [f"bar {at} " + " ".join(map(repr, row)) + " 0" for at, row in zip(opens[:first], prices, strict=False)]
    names = ("open", "high", "low", "close", "spread", "conversion", "slippage", "nights")
    columns = zip(*(getattr(market, name).tolist() for name in names), strict=True)
    finer, begin = market.finer.T.tolist(), market.begin.tolist()
    for t, (at, row) in enumerate(zip(opens[first:], columns, strict=True)):
        lines.append(f"bar {at} " + " ".join(map(repr, row)))
        pieces = finer[begin[t] : begin[t + 1]]
        if len(pieces) > 1:
            lines += ["fine " + " ".join(map(repr, piece)) for piece in pieces]
    return "\n".join(lines) + "\n"


def check_replayable(bars: Bars, broker: BrokerRules) -> None:
    """ConfigError or UserError where the simulated terminal cannot have these bars."""
    instrument = bars.instrument
    if instrument.timeframe not in PERIODS:
        raise ConfigError(
            f"the simulated terminal has no bars of {instrument.timeframe}, only of {', '.join(PERIODS)}; replay a run "
            "of one of those"
        )
    if instrument.close_only and broker.friday_close:
        raise ConfigError("broker.friday_close cannot be kept on fixings in a terminal; leave it out")
    prices = bars.frame[["open", "high", "low", "close"]].to_numpy(np.float64)
    whole = np.floor(prices * 10.0**instrument.digits + 0.5) / 10.0**instrument.digits
    if (whole != prices).any():
        at = int(np.argwhere(whole != prices)[0][0])
        raise UserError(
            f"{instrument.unique_id}: the bar of {bars.times[at]} has prices of more than {instrument.digits} "
            "decimals, which no terminal shows; set source.digits to those of the data"
        )


@dataclass(frozen=True)
class Trade:
    """A closed part of a position: bars of entry and exit, signed lots, prices as paid, money, why it was closed."""

    entry_bar: int
    exit_bar: int
    lots: float
    entry_price: float
    exit_price: float
    net: float
    why: int


def trades_of_deals(deals: Sequence[Mapping[str, Any]], first: int = 0) -> list[Trade]:
    """Trades from the terminal's deals in order; `first`: of its bars, the one that is the market's row 0.

    Commission of an entry is shared out by lots; swap and profit are those of the deals that close.
    """
    held: dict[int, list[float]] = {}  # bar, signed lots, average price, commission
    trades = []
    for deal in deals:
        key, bar, lots, price = int(deal["position"]), int(deal["bar"]) - first, deal["lots"], deal["price"]
        side, paid, entry = int(deal["side"]), float(deal["commission"]), int(deal["entry"])
        if entry == 0:
            before, had, average, owed = held.get(key, [bar, 0.0, 0.0, 0.0])
            held[key] = [
                before,
                had + side * lots,
                (average * abs(had) + price * lots) / (abs(had) + lots),
                owed + paid,
            ]
            continue
        before, had, average, owed = held.pop(key)
        closing = min(lots, abs(had))
        share, own = closing / abs(had), paid * closing / lots
        net = deal["profit"] + deal["swap"] + owed * share + own
        trades.append(
            Trade(int(before), bar, -side * closing, average, price, net, _REASONS.get(int(deal["reason"]), SIGNAL))
        )
        if abs(had) - closing > 1e-9:
            held[key] = [before, had + side * closing, average, owed * (1 - share)]
        elif entry == 2:
            held[key] = [bar, side * (lots - closing), price, paid - own]
    return trades
