"""Signals: forecast and what was known at its cutoff -> a move expected, its standard error and the move asked for.

A signal sees the steps up to the target's expiry and no others: what lies beyond is never held. It keeps no state, so
whatever it said yesterday cannot change what it says today. Arrays are [N], one row a cutoff, and all is done element
by element and step by step, so that a row alone (N = 1, the live link) gives the bytes it gives among 100,000 others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from forecasting.errors import ConfigError, unknown
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from strategies.contract import BrokerRules
from strategies.user_signal import asked, is_user_signal, user_moves


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


def round_trip_cost(
    broker: BrokerRules, spread: np.ndarray | float, conversion: np.ndarray | float, point: float
) -> np.ndarray | float:
    """What opening and closing one unit of base currency is expected to cost, in quote currency.

    One spread, the mean slippage of two market orders, two commissions. spread: in price; conversion: account currency
    for one unit of quote currency; point: price of one point.
    """
    return spread + 2 * broker.slippage_points * point + 2 * broker.commission_per_unit / conversion


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


Signal = Callable[[Forecasts, MarketStates, SignalRules], View]


def mean_vs_context(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> View:
    """Mean of the predicted closes against the mean of the last C closes (the sources' rule; it follows the trend)."""
    first = _first(market)
    return View(_mean(forecasts.mean, first) - market.context_mean, _mean(forecasts.mean_se, first))


def mean_vs_last(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> View:
    """Mean of the predicted closes against the price an order fills at."""
    first = _first(market)
    price, price_se = fill_price(forecasts, market)
    return View(_mean(forecasts.mean, first) - price, _mean(forecasts.mean_se, first) + price_se)


def threshold(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> View:
    """Predicted close of the last step against the price of the fill; the move must exceed k round-trip costs."""
    move = forecasts.mean[:, -1] - fill_price(forecasts, market)[0]
    return View(move, _error_of_last(forecasts, market), rules.threshold_k * market.round_trip_cost)


def probability(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> View:
    """Chance of closes above the price an order fills at, mean over steps, beyond one half by more than the margin."""
    chance, standard_error = _chance_of_rise(forecasts, market)
    return View(chance - 0.5, standard_error, rules.probability_margin, in_price=False)


def quantile(forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> View:
    """Low quantile of the last step above the price of the fill, or the high one below it, by the round-trip cost.

    Monte Carlo errors of quantiles are not known; that of the mean, the least they can be, stands in for them.
    """
    price, _ = fill_price(forecasts, market)
    at = QUANTILE_LEVELS.index(rules.quantile_level)
    low = forecasts.quantiles[:, at, -1] - price
    high = forecasts.quantiles[:, len(QUANTILE_LEVELS) - 1 - at, -1] - price
    move = np.where(low > 0, low, np.where(high < 0, high, 0.0))
    return View(move, _error_of_last(forecasts, market), market.round_trip_cost)


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
        return lambda forecasts, market, rules: _users(name, forecasts, market, rules)
    if name not in SIGNALS:
        raise ConfigError(unknown("signal", name, SIGNALS))
    return SIGNALS[name]


def _users(name: str, forecasts: Forecasts, market: MarketStates, rules: SignalRules) -> View:
    """A user's moves; where it gives no standard errors, those of the mean of the last step stand in for them."""
    moves, errors = asked(name, forecasts, market, rules)
    return View(moves, _error_of_last(forecasts, market) if errors is None else errors)


def _mean(values: np.ndarray, first: int) -> np.ndarray:
    """Mean over steps from `first` on, [N, H] -> [N]; summed step by step, the same for a row alone or among others."""
    total = values[:, first]
    for step in range(first + 1, values.shape[1]):
        total = total + values[:, step]
    return np.asarray(total / (values.shape[1] - first))


def _first(market: MarketStates) -> int:
    """Index of the first step whose close can be earned."""
    return 1 if market.close_only else 0


def fill_price(forecasts: Forecasts, market: MarketStates) -> tuple[np.ndarray, np.ndarray | float]:
    """Price an order decided at the cutoff is expected to fill at, and its standard error.

    The last close where bars have opens: the next open is about that. On a close-only series the predicted t+1.

    Standard errors of steps of the same paths are positively correlated, by an unknown amount; the error of an average
    or a difference is therefore bounded by the average or the sum of the errors, not by their root of squares.
    """
    return (forecasts.mean[:, 0], forecasts.mean_se[:, 0]) if market.close_only else (market.last_close, 0.0)


def _error_of_last(forecasts: Forecasts, market: MarketStates) -> np.ndarray:
    """Standard error of the move from the fill to the last predicted close, [N]."""
    return np.asarray(forecasts.mean_se[:, -1] + fill_price(forecasts, market)[1])


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
