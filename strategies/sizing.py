"""How large a position is, and the one rounding of lots that both engines and the live link share.

Sizes are linear in equity, `lots + lots_per_money * equity`, so that a plan can be laid before an account exists.
Pure float arithmetic, element by element: a row alone gives the bytes it gives among others.
"""

import math
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from forecasting.errors import ConfigError, UserError
from forecasting.forecasts import QUANTILE_LEVELS
from strategies.contract import BrokerRules
from strategies.numbers import EXACT

if TYPE_CHECKING:
    from strategies.signals import SignalRules

SIZINGS = ("fixed", "risk", "volatility", "kelly")

_SCORES = [NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS]


def lots_per_money_of(
    rules: "SignalRules",
    *,
    entry: np.ndarray,
    conversion: np.ndarray,
    loss: np.ndarray | None,
    sigma: np.ndarray,
    gain: np.ndarray | None,
    deviation: np.ndarray | None,
) -> np.ndarray:
    """Lots for each unit of account currency of equity, float64 [N], of a sizing that follows equity.

    entry: price paid; loss: of one unit at the stop, spread included; gain: expected of one unit after a round trip's
    cost; deviation: of that gain; all in quote currency. conversion: account currency for one unit of it. sigma:
    one-bar volatility of simple returns.

    risk: risk_percent of equity is lost at the stop, both commissions included. volatility: exposure x sigma x
    sqrt(bars a year) is target_volatility of equity. kelly: exposure is kelly_fraction x mean / variance of the return,
    which maximises the expected logarithm where moves are small (Thorp 2006); 0 where no gain is expected. None goes
    beyond exposure / equity = max_leverage.
    """
    units = rules.broker.lot_units
    exposure = entry * conversion * units  # of a lot, in account currency
    with np.errstate(divide="ignore", invalid="ignore"):
        if rules.sizing == "volatility":
            if not math.isfinite(rules.bars_per_year):
                raise UserError("a volatility target needs SignalRules.bars_per_year; strategies.plans has it")
            wanted = rules.target_volatility / (exposure * sigma * math.sqrt(rules.bars_per_year))
        elif rules.sizing == "kelly" and gain is not None and deviation is not None:
            share = rules.kelly_fraction * gain * entry / (deviation * deviation)
            wanted = np.where(gain > 0, share / exposure, 0.0)
        elif loss is not None:
            wanted = rules.risk_percent / 100 / ((loss * conversion + 2 * rules.broker.commission_per_unit) * units)
        else:
            raise UserError(f'sizing "{rules.sizing}" needs a stop; set trading.stop, such as "atr:2.0"')
    return np.asarray(np.minimum(wanted, rules.max_leverage / exposure))


def deviation_of(quantiles: np.ndarray) -> np.ndarray:
    """Standard deviation of a distribution from its quantiles: [N, Q] at QUANTILE_LEVELS -> [N].

    The slope of the normal probability plot, sum(z q) / sum(z^2) with z the normal quantiles of the levels; exact for
    a normal distribution. It leaves out what lies beyond the outer levels, so heavy tails count less than they weigh.
    """
    slope = np.zeros(len(quantiles))
    for level, score in enumerate(_SCORES):
        slope = slope + score * quantiles[:, level]
    return slope / sum(score * score for score in _SCORES)


def lot_steps(lots: float, rules: BrokerRules) -> int:
    """Whole lot steps of a size wanted, `lot_max` at most."""
    return math.floor(min(lots, rules.lot_max) / rules.lot_step + EXACT)


def steps_of(lots: float, rules: BrokerRules) -> int:
    """`lot_steps`, or 0 where they are below `lot_min`, which means refused.

    >>> steps_of(0.129, BrokerRules())
    12
    """
    steps = lot_steps(lots, rules)
    return steps if steps >= rules.least_steps else 0


def check_lots(lots: float, broker: BrokerRules) -> None:
    """ConfigError where fixed lots are refused whenever they are asked for."""
    if not steps_of(lots, broker):
        least = broker.least_steps * broker.lot_step
        raise ConfigError(
            f"trading.lots {lots:g} is below the least size that the broker takes, {least:g} (broker.lot_min "
            f"{broker.lot_min:g}, lot_step {broker.lot_step:g}), so nothing would be opened; raise lots"
        )


def capped(broker: BrokerRules, max_lots: float) -> BrokerRules:
    """The broker's rules under `trading.max_lots`: its `lot_max` where that is less. Engines must be given these."""
    if max_lots >= broker.lot_max:
        return broker
    if max_lots < broker.lot_min:
        raise ConfigError(f"trading.max_lots {max_lots:g} is below broker.lot_min {broker.lot_min:g}; raise the former")
    return replace(broker, lot_max=max_lots)
