"""Forecast -> target position: the one function that the backtest and the live bridge both call.

Pure: a signal sees a forecast and what was known at its cutoff, and nothing else. It trades variety for that property:
no signal keeps state, so whatever it decided yesterday cannot change what it decides today.

A signal stays flat where the predicted move is about zero: within twice its Monte Carlo standard error, where another
sampling seed could turn it round, or within one point, the least move a quote can show. `probability` asks for the
chance of a rise instead of a move, so its band is the standard error and a margin.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from forecasting.errors import ConfigError, UserError, unknown
from forecasting.forecasts import Forecast

STANDARD_ERRORS = 2.0
"""Half-width of the band around zero in which a signal stays flat, in Monte Carlo standard errors of its move."""

POINTS = 1.0
"""The same in points: less than the least move of a quote is no move."""


@dataclass(frozen=True)
class MarketState:
    """What a signal may know at the cutoff beside the forecast; prices in quote currency.

    context_mean: mean of the last C closes, the cutoff's included. round_trip_cost: spread and both commissions for one
    unit of base currency. point: price of one point. close_only: an order fills at the *next* close, not at this one.
    """

    context_mean: float
    last_close: float
    round_trip_cost: float
    point: float
    close_only: bool


@dataclass(frozen=True)
class Target:
    """The position wanted from the next fill on.

    position: share of `size` held, in [-1, 1], negative is short. stop, take_profit: prices, None for none. size: lots
    (0 when flat). expiry: UTC time at which the target turns flat unless a newer one has replaced it. reason: for
    people.
    """

    position: float
    stop: float | None
    take_profit: float | None
    size: float
    expiry: np.datetime64
    reason: str


@dataclass(frozen=True)
class SignalRules:
    """Settings of a signal: its name, k of `threshold`, the fixed lots of a position, the margin of `probability`."""

    signal: str
    threshold_k: float
    lots: float
    probability_margin: float = 0.02


@dataclass(frozen=True)
class View:
    """A signal's opinion: the move it expects, that move's standard error, and the move it asks for.

    In price units; or, where `in_price` is False, of a chance of a rise beyond one half.
    """

    move: float
    standard_error: float
    hurdle: float = 0.0
    in_price: bool = True


Signal = Callable[[Forecast, MarketState, SignalRules], View]


def target_position(forecast: Forecast, market: MarketState, rules: SignalRules) -> Target:
    """The position that the signal named by `rules` wants at the forecast's cutoff: fully long, fully short or flat."""
    signal = find_signal(rules.signal)
    check_horizon(forecast.horizon, market.close_only)
    if not all(np.isfinite(v).all() for v in (forecast.mean, forecast.mean_se, forecast.p_up, forecast.p_up_se)):
        raise UserError(
            f"forecast of {forecast.unique_id} at {forecast.cutoff} holds NaN; make it anew: `tunetrade forecast`"
        )
    view = signal(forecast, market, rules)
    least = POINTS * market.point if view.in_price else 0.0
    band = float(np.max([STANDARD_ERRORS * view.standard_error, least, view.hurdle]))
    if not np.isfinite([view.move, band]).all():
        raise UserError(
            f"{rules.signal} at {forecast.cutoff}: NaN among context, close or cost; check the bars' prices and spread"
        )
    position = float(np.sign(view.move)) if abs(view.move) > band else 0.0
    return Target(
        position=position,
        stop=None,
        take_profit=None,
        size=rules.lots if position else 0.0,
        expiry=forecast.ds[-1],
        reason=_reason(rules.signal, position, view.move, band),
    )


def mean_vs_context(forecast: Forecast, market: MarketState, rules: SignalRules) -> View:
    """Mean of the predicted closes against the mean of the last C closes (the sources' rule; it follows the trend)."""
    earned = slice(_first(market), None)
    return View(float(forecast.mean[earned].mean()) - market.context_mean, float(forecast.mean_se[earned].mean()))


def mean_vs_last(forecast: Forecast, market: MarketState, rules: SignalRules) -> View:
    """Mean of the predicted closes against the price an order fills at."""
    earned = slice(_first(market), None)
    price, price_se = _fill(forecast, market)
    return View(float(forecast.mean[earned].mean()) - price, float(forecast.mean_se[earned].mean()) + price_se)


def threshold(forecast: Forecast, market: MarketState, rules: SignalRules) -> View:
    """Last predicted close against the price an order fills at; the move must exceed k times the round-trip cost."""
    price, price_se = _fill(forecast, market)
    standard_error = float(forecast.mean_se[-1]) + price_se
    return View(float(forecast.mean[-1]) - price, standard_error, rules.threshold_k * market.round_trip_cost)


def probability(forecast: Forecast, market: MarketState, rules: SignalRules) -> View:
    """Chance of closes above the price an order fills at, mean over steps, beyond one half by more than the margin."""
    chance, standard_error = _chance_of_rise(forecast, market)
    return View(chance - 0.5, standard_error, rules.probability_margin, in_price=False)


SIGNALS: dict[str, Signal] = {
    "mean-vs-context": mean_vs_context,
    "mean-vs-last": mean_vs_last,
    "threshold": threshold,
    "probability": probability,
}


def find_signal(name: str) -> Signal:
    """The signal of a name; ConfigError names the known ones."""
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


def _first(market: MarketState) -> int:
    """Index of the first step whose close can be earned."""
    return 1 if market.close_only else 0


def _fill(forecast: Forecast, market: MarketState) -> tuple[float, float]:
    """Price an order decided at the cutoff is expected to fill at, and its standard error.

    The last close where bars have opens: the next open is about that. On a close-only series the predicted t+1.

    Standard errors of steps of the same paths are positively correlated, by an unknown amount; the error of an average
    or a difference is therefore bounded by the average or the sum of the errors, not by their root of squares.
    """
    return (float(forecast.mean[0]), float(forecast.mean_se[0])) if market.close_only else (market.last_close, 0.0)


LEAST_CHANCE = 1e-6
"""Chances are kept so far from 0 and 1, where a normal move would be endless."""

NORMAL = NormalDist()


def _chance_of_rise(forecast: Forecast, market: MarketState) -> tuple[float, float]:
    """Mean over the steps that can be earned of the chance to close above the fill, and its standard error.

    p_up speaks of the last close. On a close-only series an order fills at t+1, and what is believed of step 1 must not
    be earned: with normal moves, p_up[h] = Phi(m_h / sqrt(h)) gives the drifts m_h in one-bar deviations, and the
    chance to close above t+1 is Phi((m_h - m_1) / sqrt(h - 1)). So a rise in step 1 alone earns nothing.
    """
    p_up, errors = forecast.p_up, forecast.p_up_se
    if not market.close_only:
        return float(p_up.mean()), float(errors.mean())
    bars = np.sqrt(np.arange(1, len(p_up) + 1))
    score = [NORMAL.inv_cdf(p) for p in np.clip(p_up, LEAST_CHANCE, 1 - LEAST_CHANCE).tolist()]
    drift, drift_se = bars * score, bars * errors / [NORMAL.pdf(z) for z in score]
    earned, earned_se = (drift[1:] - drift[0]) / bars[:-1], (drift_se[1:] + drift_se[0]) / bars[:-1]
    chances, errors = [NORMAL.cdf(z) for z in earned.tolist()], NORMAL.pdf(0) * earned_se
    return float(np.mean(chances)), float(errors.mean())


def _reason(signal: str, position: float, move: float, band: float) -> str:
    side = {1.0: "long", -1.0: "short"}.get(position, "flat")
    return f"{side}: {signal} {move:+.3g} {'beyond' if position else 'within'} {band:.3g}"
