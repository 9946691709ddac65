"""Forecasts -> target positions: the one function that the backtest, a search and the live bridge all call.

Pure: a signal sees a forecast and what was known at its cutoff, and nothing else. It trades variety for that property:
no signal keeps state, so whatever it decided yesterday cannot change what it decides today. All of it works on arrays
[N], one row a cutoff, element by element and step by step, so that a row alone (N = 1, the live link) gives the bytes
it gives among 100,000 others.

A signal stays flat where the predicted move is about zero: within twice its Monte Carlo standard error, where another
sampling seed could turn it round, or within one point, the least move a quote can show. `probability` asks for the
chance of a rise instead of a move, so its band is the standard error and a margin.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from forecasting.errors import ConfigError, UserError, unknown
from forecasting.forecasts import QUANTILE_LEVELS, Forecast, Forecasts
from strategies.contract import BrokerRules
from strategies.sizing import capped, deviation_of, lots_per_money_of, steps_of
from strategies.stops import ATR_BARS, average_true_range, distance_of, level_of, quantile_price
from strategies.user_signal import asked, is_user_signal, user_moves

__all__ = [
    "ATR_BARS", "SIGNALS", "Ballot", "Decisions", "MarketState", "MarketStates", "SignalRules", "Target", "View",
    "average_true_range", "check_forecasts", "check_horizon", "decide", "find_signal", "target_position",
]  # fmt: skip

STANDARD_ERRORS = 2.0
"""Half-width of the band around zero in which a signal stays flat, in Monte Carlo standard errors of its move."""

POINTS = 1.0
"""The same in points: less than the least move of a quote is no move."""


@dataclass(frozen=True)
class MarketState:
    """What a signal may know at the cutoff beside the forecast; prices in quote currency.

    context_mean: mean of the last C closes, the cutoff's included. round_trip_cost: spread and both commissions for one
    unit of base currency. point: price of one point. close_only: an order fills at the *next* close, not at this one.
    spread: of the cutoff's bar, in price. conversion: account currency for one unit of quote currency. atr: mean of the
    last 14 true ranges, which stops in ATR need. equity: of the account, which sizes that follow it need.
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


@dataclass(frozen=True)
class MarketStates:
    """`MarketState` at N cutoffs, float64 [N] each; without equity, which no decision but the last rounding needs."""

    context_mean: np.ndarray
    last_close: np.ndarray
    round_trip_cost: np.ndarray
    spread: np.ndarray
    conversion: np.ndarray
    atr: np.ndarray
    point: float
    close_only: bool


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
class SignalRules:
    """What decides: the settings of [trading] that `strategies.rules.TradingRules` explains, and two facts beside them.

    broker: the account's rules, of which lots and commission are used. bars_per_year: for a volatility target.
    """

    signal: str
    threshold_k: float
    lots: float
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
    broker: BrokerRules = field(default_factory=BrokerRules)
    bars_per_year: float = math.nan

    @property
    def asks_atr(self) -> bool:
        """Whether a stop, profit or trailing stop is so many average true ranges away."""
        return any(text.startswith("atr:") for text in (self.stop, self.take_profit, self.trailing))


@dataclass(frozen=True)
class View:
    """A signal's opinion: the move it expects, that move's standard error, and the move it asks for; [N] or one number.

    In price units; or, where `in_price` is False, of a chance of a rise beyond one half.
    """

    move: np.ndarray
    standard_error: np.ndarray | float
    hurdle: np.ndarray | float = 0.0
    in_price: bool = True


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

Signal = Callable[[Forecasts, MarketStates, SignalRules], View]


def target_position(forecast: Forecast, market: MarketState, rules: SignalRules) -> Target:
    """The position that the signal named by `rules` wants at the forecast's cutoff: fully long, fully short or flat."""
    forecasts, states = _alone(forecast, Forecasts), _alone(market, MarketStates)
    check_horizon(forecasts.horizon, market.close_only)
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
    last = _last_step(forecasts.horizon, rules.expiry_bars)
    vote = isinstance(forecasts, Ballot)
    side, move, band = (_majority if vote else _sides)(forecasts, market, rules)
    exits = _exits(forecasts, market, rules, side)
    gain, per_money = _size(forecasts, market, rules, side, exits, last)
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
        expiry=forecasts.ds[:, last],
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
            return np.asarray(quantile_price(level, side, forecasts.quantiles[:, :, -1]) + cost)
        return np.asarray(now + away * side * distance_of(level, market.point, market.atr))

    trailing = level_of(rules.trailing, "trailing")
    follow = distance_of(trailing, market.point, market.atr) if trailing else None
    return _Exits(now, price("stop", -1), price("take_profit", 1), follow)


def _size(
    forecasts: Forecasts, market: MarketStates, rules: SignalRules, side: np.ndarray, exits: _Exits, last: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Gain expected, where the size depends on it, and lots for each unit of equity, None where they are fixed."""
    if rules.sizing == "fixed":
        return None, None
    gain = deviation = None
    if rules.sizing == "kelly":
        gain, deviation = _earned(forecasts, market, side, last)
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


def mean_vs_context(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> View:
    """Mean of the predicted closes against the mean of the last C closes (the sources' rule; it follows the trend)."""
    first = _first(market)
    return View(_mean(forecasts.mean, first) - market.context_mean, _mean(forecasts.mean_se, first))


def mean_vs_last(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> View:
    """Mean of the predicted closes against the price an order fills at."""
    first = _first(market)
    price, price_se = _fill(forecasts, market)
    return View(_mean(forecasts.mean, first) - price, _mean(forecasts.mean_se, first) + price_se)


def threshold(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> View:
    """Last predicted close against the price an order fills at; the move must exceed k times the round-trip cost."""
    price, price_se = _fill(forecasts, market)
    standard_error = forecasts.mean_se[:, -1] + price_se
    return View(forecasts.mean[:, -1] - price, standard_error, rules.threshold_k * market.round_trip_cost)


def probability(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> View:
    """Chance of closes above the price an order fills at, mean over steps, beyond one half by more than the margin."""
    chance, standard_error = _chance_of_rise(forecasts, market)
    return View(chance - 0.5, standard_error, rules.probability_margin, in_price=False)


def quantile(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> View:
    """Low quantile of the last step above the price of the fill, or the high one below it, by the round-trip cost.

    Monte Carlo errors of quantiles are not known; that of the mean, the least they can be, stands in for them.
    """
    price, price_se = _fill(forecasts, market)
    at = QUANTILE_LEVELS.index(rules.quantile_level)
    low = forecasts.quantiles[:, at, -1] - price
    high = forecasts.quantiles[:, len(QUANTILE_LEVELS) - 1 - at, -1] - price
    move = np.where(low > 0, low, np.where(high < 0, high, 0.0))
    return View(move, forecasts.mean_se[:, -1] + price_se, market.round_trip_cost)


SIGNALS: dict[str, Signal] = {
    "mean-vs-context": mean_vs_context,
    "mean-vs-last": mean_vs_last,
    "threshold": threshold,
    "probability": probability,
    "quantile": quantile,
}


def find_signal(name: str) -> Signal:
    """The signal of a name, or of a file and a function; ConfigError names the known ones or what is wrong."""
    if is_user_signal(name):
        user_moves(name)
        return lambda forecasts, market, rules: View(asked(name, forecasts, market, rules), 0.0)
    if name not in SIGNALS:
        raise ConfigError(unknown("signal", name, SIGNALS))
    return SIGNALS[name]


def check_horizon(horizon: int, close_only: bool) -> None:
    """Refuse horizon 1 on a close-only series: its only step is already past when an order fills."""
    if close_only and horizon < 2:
        raise UserError(
            "horizon 1 cannot be traded on a close-only series: an order fills at the next fixing, so step 1 is never "
            "earned; set windows.horizon to 2 or more, or use bars with open prices"
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


def _last_step(horizon: int, expiry_bars: int) -> int:
    """Index of the step at whose close a target expires."""
    if expiry_bars > horizon:
        raise UserError(
            f"expiry_bars is {expiry_bars}, beyond the forecast's horizon of {horizon}; set trading.expiry_bars to at "
            f"most {horizon}, or 0 for its end"
        )
    return (expiry_bars or horizon) - 1


def _mean(values: np.ndarray, first: int) -> np.ndarray:
    """Mean over steps from `first` on, [N, H] -> [N]; summed step by step, the same for a row alone or among others."""
    total = values[:, first]
    for step in range(first + 1, values.shape[1]):
        total = total + values[:, step]
    return np.asarray(total / (values.shape[1] - first))


def _first(market: MarketStates) -> int:
    """Index of the first step whose close can be earned."""
    return 1 if market.close_only else 0


def _fill(forecasts: Forecasts, market: MarketStates) -> tuple[np.ndarray, np.ndarray | float]:
    """Price an order decided at the cutoff is expected to fill at, and its standard error.

    The last close where bars have opens: the next open is about that. On a close-only series the predicted t+1.

    Standard errors of steps of the same paths are positively correlated, by an unknown amount; the error of an average
    or a difference is therefore bounded by the average or the sum of the errors, not by their root of squares.
    """
    return (forecasts.mean[:, 0], forecasts.mean_se[:, 0]) if market.close_only else (market.last_close, 0.0)


def _to_close(side: np.ndarray, market: MarketStates) -> np.ndarray:
    """What a position of that side is closed at beyond the price shown, [N]; it is opened a spread worse."""
    return -side * market.spread / 2 if market.close_only else np.where(side < 0, market.spread, 0.0)


def _earned(forecasts: Forecasts, market: MarketStates, side: np.ndarray, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Gain expected of one unit up to the expiry, a round trip's cost paid, and its standard deviation, [N].

    On a close-only series the first of the h bars is not earned: h - 1 of h parts of the variance are.
    """
    gain = side * (forecasts.mean[:, last] - _fill(forecasts, market)[0]) - market.round_trip_cost
    part = last / (last + 1) if market.close_only else 1.0
    return gain, deviation_of(forecasts.quantiles[:, :, last]) * math.sqrt(part)


LEAST_CHANCE = 1e-6
"""Chances are kept so far from 0 and 1, where a normal move would be endless."""


def _chance_of_rise(forecasts: Forecasts, market: MarketStates) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the steps that can be earned of the chance to close above the fill, and its standard error.

    p_up speaks of the last close. On a close-only series an order fills at t+1, and what is believed of step 1 must not
    be earned: with normal moves, p_up[h] = Phi(m_h / sqrt(h)) gives the drifts m_h in one-bar deviations, and the
    chance to close above t+1 is Phi((m_h - m_1) / sqrt(h - 1)). So a rise in step 1 alone earns nothing.
    """
    p_up, errors = forecasts.p_up, forecasts.p_up_se
    if not market.close_only:
        return _mean(p_up, 0), _mean(errors, 0)
    from scipy.special import exp2, ndtr, ndtri  # element by element, unlike numpy's, whose exp depends on the layout

    bars = np.sqrt(np.arange(1, p_up.shape[1] + 1))
    score = ndtri(np.clip(p_up, LEAST_CHANCE, 1 - LEAST_CHANCE))
    density = exp2(-score * score / 2 / math.log(2)) / math.sqrt(2 * math.pi)
    drift, drift_se = bars * score, bars * errors / density
    earned, earned_se = (drift[:, 1:] - drift[:, :1]) / bars[:-1], (drift_se[:, 1:] + drift_se[:, :1]) / bars[:-1]
    return _mean(ndtr(earned), 0), _mean(earned_se, 0) / math.sqrt(2 * math.pi)
