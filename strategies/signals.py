"""Forecasts -> target positions: the one function that the backtest, a search and the live bridge all call.

Pure: a target depends on a forecast and on what was known at its cutoff, and on nothing else. Signals and the records
they see are in `strategies.views`; here their views become sides, exits and sizes, element by element, so that a row
alone (N = 1, the live link) gives the bytes it gives among 100,000 others.

A signal stays flat where the predicted move is about zero: within twice its Monte Carlo standard error, where another
sampling seed could turn it round, or within one point, the least move a quote can show. `probability` asks for the
chance of a rise instead of a move, so its band is the standard error and a margin.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from forecasting.errors import UserError
from forecasting.forecasts import Forecast, Forecasts
from strategies.sizing import capped, deviation_of, lots_per_money_of, steps_of
from strategies.stops import ATR_BARS, average_true_range, distance_of, level_of, on_grid, quantile_price
from strategies.views import SIGNALS, MarketStates, SignalRules, View, fill_price, find_signal, round_trip_cost

__all__ = [
    "ATR_BARS", "SIGNALS", "Ballot", "Decisions", "MarketState", "MarketStates", "SignalRules", "Target", "View",
    "average_true_range", "check_forecasts", "check_horizon", "decide", "find_signal", "round_trip_cost",
    "target_position",
]  # fmt: skip

STANDARD_ERRORS = 2.0
"""Half-width of the band around zero in which a signal stays flat, in Monte Carlo standard errors of its move."""

POINTS = 1.0
"""The same in points: less than the least move of a quote is no move."""


@dataclass(frozen=True)
class MarketState:
    """What a signal may know at the cutoff beside the forecast; prices in quote currency.

    context_mean: mean of the last C closes, the cutoff's included. round_trip_cost: of one unit of base currency, by
    the function of that name. point: price of one point. close_only: an order fills at the *next* close, not at this
    one. spread: of the cutoff's bar, in price. conversion: account currency for one unit of quote currency. atr: mean
    of the last 14 true ranges, which stops in ATR need. equity: of the account, which sizes that follow it need.
    """

    context_mean: float
    last_close: float
    round_trip_cost: float
    point: float
    close_only: bool
    spread: float = 0.0
    conversion: float = 1.0
    atr: float = math.nan
    equity: float = math.nan


def state_at(states: MarketStates, row: int) -> MarketState:
    """One row of `MarketStates`."""
    values = {name: float(value[row]) for name, value in vars(states).items() if isinstance(value, np.ndarray)}
    return MarketState(**values, point=states.point, close_only=states.close_only)


@dataclass(frozen=True)
class Target:
    """The position wanted from the next fill on.

    position: share of `size` held, in [-1, 1], negative is short. stop, take_profit: prices of the side that closes the
    position (bid for longs, ask for shorts), None for none. size: lots, whole steps; 0 when flat, or beside a position
    too small to be opened: what is held on that side stays. expiry: UTC time at which the target turns flat unless a
    newer one has replaced it. reason: for people. trailing: distance in price at which a stop follows the closes.
    """

    position: float
    stop: float | None
    take_profit: float | None
    size: float
    expiry: np.datetime64
    reason: str
    trailing: float | None = None


@dataclass(frozen=True)
class Ballot(Forecasts):
    """Forecasts whose side is decided by the majority of `members`, forecasts of the same cutoffs."""

    members: tuple[Forecasts, ...] = ()


@dataclass(frozen=True)
class Decisions:
    """Targets at N cutoffs, [N] each; NaN prices are none.

    side: int8, 1 long, -1 short, 0 flat. lots, lots_per_money: the size wanted, lots + lots_per_money x equity. stop,
    take_profit, trailing: as in `Target`. expiry: datetime64[ns]. move, band: what was compared; why: int8, row of
    `_REFUSED` where the signal's side was not taken, else 0. label: of what decided.
    """

    side: np.ndarray
    lots: np.ndarray
    lots_per_money: np.ndarray
    stop: np.ndarray
    take_profit: np.ndarray
    trailing: np.ndarray
    expiry: np.ndarray
    move: np.ndarray
    band: np.ndarray
    why: np.ndarray
    label: str

    def reason(self, row: int) -> str:
        """Why the target of a row is what it is, for people."""
        side, move, band = int(self.side[row]), float(self.move[row]), float(self.band[row])
        compared = f"{self.label} {move:+.3g} {'beyond' if abs(move) > band else 'within'} {band:.3g}"
        refused = _REFUSED[int(self.why[row])]
        return f"{_SIDES[side]}: {compared}{refused and ', but '}{refused}"


_SIDES = {1: "long", -1: "short", 0: "flat"}
_REFUSED = (
    "",
    "its stop would not lie beyond the price",
    "its take profit would not lie beyond the price",
    "no gain is expected after costs",
)


def target_position(forecast: Forecast, market: MarketState, rules: SignalRules) -> Target:
    """The position that the signal named by `rules` wants at the forecast's cutoff: fully long, fully short or flat."""
    forecasts, states = _alone(forecast, Forecasts), _alone(market, MarketStates)
    check_horizon(forecasts.horizon, market.close_only, rules.expiry_bars)
    check_forecasts(forecasts)
    decided = decide(forecasts, states, rules)
    side, reason = int(decided.side[0]), decided.reason(0)
    size = 0.0
    if side:
        broker = capped(rules.broker, rules.max_lots)
        lots = float(decided.lots[0])
        if rules.sizing != "fixed":
            if not np.isfinite(market.equity):
                raise UserError(f'sizing "{rules.sizing}" needs the equity of the account; use sizing = "fixed"')
            lots += float(decided.lots_per_money[0]) * market.equity
        size = steps_of(lots, broker) * broker.lot_step
        reason += f"; {lots:.3g} lots are below the least, {broker.lot_min:g}" if not size else ""

    def price(values: np.ndarray) -> float | None:
        return None if np.isnan(values[0]) else float(values[0])

    return Target(
        position=float(side),
        stop=price(decided.stop),
        take_profit=price(decided.take_profit),
        size=size,
        expiry=decided.expiry[0],
        reason=reason,
        trailing=price(decided.trailing),
    )


def decide(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> Decisions:
    """Targets at N cutoffs, from forecasts that passed `check_forecasts`."""
    check_horizon(forecasts.horizon, market.close_only, rules.expiry_bars)
    forecasts = _until_expiry(forecasts, rules.expiry_bars)
    vote = isinstance(forecasts, Ballot)
    side, move, band = (_majority if vote else _sides)(forecasts, market, rules)
    exits = _exits(forecasts, market, rules, side)
    gain, per_money = _size(forecasts, market, rules, side, exits)
    why = _refusals(side, exits, gain)
    taken = (side != 0) & (why == 0)

    def kept(prices: np.ndarray | None) -> np.ndarray:
        return np.full(len(side), np.nan) if prices is None else np.where(taken, prices, np.nan)

    return Decisions(
        side=np.where(taken, side, 0).astype(np.int8),
        lots=np.where(taken, rules.lots if per_money is None else 0.0, 0.0),
        lots_per_money=np.zeros(len(side)) if per_money is None else np.where(taken, per_money, 0.0),
        stop=kept(exits.stop),
        take_profit=kept(exits.take_profit),
        trailing=kept(exits.trailing),
        expiry=forecasts.ds[:, -1],
        move=move,
        band=band,
        why=why,
        label=f"vote of {rules.signal}" if vote else rules.signal,
    )


@dataclass(frozen=True)
class _Exits:
    """now: price at which each side would be closed at the cutoff; stop, take_profit, trailing: None for none; [N]."""

    now: np.ndarray
    stop: np.ndarray | None
    take_profit: np.ndarray | None
    trailing: np.ndarray | None


def _exits(forecasts: Forecasts, market: MarketStates, rules: SignalRules, side: np.ndarray) -> _Exits:
    if rules.asks_atr and not np.isfinite(market.atr).all():
        raise UserError(
            f"stops in ATR need {ATR_BARS + 1} bars up to each cutoff, and {forecasts.cutoff[0]} has fewer behind it; "
            "load earlier bars"
        )
    if rules.sizing == "fixed" and not (rules.stop or rules.take_profit or rules.trailing):
        return _Exits(market.last_close, None, None, None)
    cost = _to_close(side, market)
    now = market.last_close + cost

    def price(name: str, away: int) -> np.ndarray | None:
        level = level_of(getattr(rules, name), name)
        if level is None:
            return None
        if level.kind == "quantile":
            exact = quantile_price(level, side, forecasts.quantiles[:, :, -1]) + cost
        else:
            exact = now + away * side * distance_of(level, market.point, market.atr)
        return on_grid(exact, market.point)

    trailing = level_of(rules.trailing, "trailing")
    follow = on_grid(distance_of(trailing, market.point, market.atr), market.point) if trailing else None
    return _Exits(now, price("stop", -1), price("take_profit", 1), follow)


def _size(
    forecasts: Forecasts, market: MarketStates, rules: SignalRules, side: np.ndarray, exits: _Exits
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Gain expected, where the size depends on it, and lots for each unit of equity, None where they are fixed."""
    if rules.sizing == "fixed":
        return None, None
    gain = deviation = None
    if rules.sizing == "kelly":
        gain, deviation = _earned(forecasts, market, side)
    to_stop = exits.trailing if exits.stop is None else side * (exits.now - exits.stop)
    return gain, lots_per_money_of(
        rules,
        entry=exits.now + side * market.spread,
        conversion=market.conversion,
        loss=None if to_stop is None else to_stop + market.spread,
        sigma=forecasts.sigma,
        gain=gain,
        deviation=deviation,
    )


def _refusals(side: np.ndarray, exits: _Exits, gain: np.ndarray | None) -> np.ndarray:
    """Row of `_REFUSED` of each target that no position is opened for, int8 [N]; 0 for the others."""
    why = np.zeros(len(side), np.int8)
    if gain is not None:
        why[gain <= 0] = 3
    if exits.take_profit is not None:
        why[side * (exits.take_profit - exits.now) <= 0] = 2
    if exits.stop is not None:
        why[side * (exits.now - exits.stop) <= 0] = 1
    if exits.trailing is not None:
        why[exits.trailing <= 0] = 1
    why[side == 0] = 0
    return why


def check_horizon(horizon: int, close_only: bool, expiry_bars: int = 0) -> None:
    """UserError where a target would expire beyond the horizon, or on a close-only series with its first step.

    There that step is already past when an order fills.
    """
    if expiry_bars > horizon:
        raise UserError(
            f"expiry_bars is {expiry_bars}, beyond the forecast's horizon of {horizon}; set trading.expiry_bars to at "
            f"most {horizon}, or 0 for its end"
        )
    if close_only and (expiry_bars or horizon) < 2:
        what, cure = ("expiry_bars", "trading.expiry_bars") if expiry_bars else ("horizon", "windows.horizon")
        raise UserError(
            f"{what} 1 cannot be traded on a close-only series: an order fills at the next fixing, so step 1 is never "
            f"earned; set {cure} to 2 or more, or use bars with open prices"
        )


def check_forecasts(forecasts: Forecasts) -> None:
    """UserError for the first cutoff whose forecast holds a number that is none."""
    for values in (getattr(forecasts, name) for name in ("mean", "mean_se", "p_up", "p_up_se", "quantiles", "sigma")):
        if not np.isfinite(values).all():
            at = int(np.argwhere(~np.isfinite(values))[0][0])
            raise UserError(
                f"forecast of {forecasts.unique_id} at {forecasts.cutoff[at]} holds NaN; make it anew: "
                "`tunetrade forecast`"
            )
    for member in forecasts.members if isinstance(forecasts, Ballot) else ():
        check_forecasts(member)


def _sides(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Side the signal takes, float64 of 1, -1 and 0, its move and the band the move must leave; [N] each."""
    view = find_signal(rules.signal)(forecasts, market, rules)
    least = POINTS * market.point if view.in_price else 0.0
    band = np.maximum(np.maximum(STANDARD_ERRORS * view.standard_error, least), view.hurdle) + np.zeros(len(forecasts))
    wrong = ~np.isfinite(view.move + band)
    if wrong.any():
        at = forecasts.cutoff[int(np.flatnonzero(wrong)[0])]
        raise UserError(f"{rules.signal} at {at}: NaN among context, close or cost; check the bars' prices and spread")
    return np.where(np.abs(view.move) > band, np.sign(view.move), 0.0), view.move, band


def _majority(ballot: Forecasts, market: MarketStates, rules: SignalRules) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same from the sides of the members: that of more than half of them, or flat. The move is their number."""
    assert isinstance(ballot, Ballot)
    sides = [_sides(member, market, rules)[0] for member in ballot.members]
    longs, shorts = (sum((side == wanted).astype(np.float64) for side in sides) for wanted in (1, -1))
    count = np.where(longs >= shorts, longs, -shorts)
    half = np.full(len(count), len(sides) / 2)
    return np.where(np.abs(count) > half, np.sign(count), 0.0), count, half


def _alone(record: Any, kind: type[Any]) -> Any:
    """A record of one cutoff as one of arrays, N = 1."""
    own = {item.name: getattr(record, item.name) for item in fields(kind)}
    single = ("unique_id", "point", "close_only")
    return kind(**{name: value if name in single else np.asarray(value)[None] for name, value in own.items()})


_BY_STEP = ("ds", "mean", "mean_se", "quantiles", "p_up", "p_up_se")
"""Fields of `Forecasts` whose last axis is the step."""


def _until_expiry(forecasts: Forecasts, expiry_bars: int) -> Forecasts:
    """Forecasts of the steps up to that at whose close a target expires; what lies beyond is never held."""
    if expiry_bars in (0, forecasts.horizon):
        return forecasts
    cut: dict[str, Any] = {name: getattr(forecasts, name)[..., :expiry_bars] for name in _BY_STEP}
    if isinstance(forecasts, Ballot):
        cut["members"] = tuple(_until_expiry(member, expiry_bars) for member in forecasts.members)
    return replace(forecasts, **cut)


def _to_close(side: np.ndarray, market: MarketStates) -> np.ndarray:
    """What a position of that side is closed at beyond the price shown, [N]; it is opened a spread worse."""
    return -side * market.spread / 2 if market.close_only else np.where(side < 0, market.spread, 0.0)


def _earned(forecasts: Forecasts, market: MarketStates, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain expected of one unit up to the expiry, a round trip's cost paid, and its standard deviation, [N].

    On a close-only series the first of the h bars is not earned: h - 1 of h parts of the variance are.
    """
    gain = side * (forecasts.mean[:, -1] - fill_price(forecasts, market)[0]) - market.round_trip_cost
    part = (forecasts.horizon - 1) / forecasts.horizon if market.close_only else 1.0
    return gain, deviation_of(forecasts.quantiles[:, :, -1]) * math.sqrt(part)
