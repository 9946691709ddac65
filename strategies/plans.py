"""Forecasts laid along bars: from targets at cutoffs to what is wanted at every close.

Two steps, so that a search pays for the first one once: `lay_out` finds what every setting shares (which forecast
governs which bar, what was known at its cutoff), `plan_on` asks the signal under given rules. What a bar wants depends
on nothing after it.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from forecasting.bars import Bars
from forecasting.calendars import SessionCalendar
from forecasting.errors import UserError
from forecasting.forecasts import Forecasts
from strategies.contract import BrokerRules
from strategies.market import Market, entries_allowed, market_of, weekend_ahead
from strategies.plan import NEVER, Plan, plain_plan, restricted
from strategies.rules import TradingRules
from strategies.signals import (
    Ballot,
    MarketStates,
    SignalRules,
    Target,
    check_forecasts,
    check_horizon,
    decide,
    round_trip_cost,
    state_at,
    target_position,
)
from strategies.stops import average_true_range


@dataclass(frozen=True)
class Layout:
    """What plans of all rules share, over T bars traded and the N cutoffs that govern them.

    forecasts, states: of these cutoffs. row: int64 [T], the newest cutoff at or before each close, -1 for none. times:
    UTC closes [T]. decided: int64 [T], bar of that cutoff; the first bar for an earlier one. entry, flat: bool [T],
    trading hours and the weekend.
    """

    forecasts: Forecasts
    states: MarketStates
    row: np.ndarray
    times: np.ndarray
    decided: np.ndarray
    entry: np.ndarray
    flat: np.ndarray
    broker: BrokerRules
    calendar: SessionCalendar


def plan_of(
    bars: Bars,
    traded: Bars,
    forecasts: Forecasts,
    rules: TradingRules,
    broker: BrokerRules,
    market: Market,
    context: int,
) -> Plan:
    """What is wanted at the close of each of the T bars of `traded`.

    bars: all that may be known, T bars among them. market: of `traded`. context: closes of the context mean. The newest
    target at or before a close holds until its expiry, then flat. UserError where forecasts and bars do not belong
    together, or too few bars lie before the first cutoff.
    """
    return plan_on(lay_out(bars, traded, forecasts, broker, market, context), rules)


def lay_out(
    bars: Bars, traded: Bars, forecasts: Forecasts, broker: BrokerRules, market: Market, context: int
) -> Layout:
    """The part of `plan_of` that does not depend on the trading rules."""
    check_horizon(forecasts.horizon, bars.instrument.close_only)
    check_forecasts(forecasts)
    where = _positions(bars, forecasts)
    _check_same(bars, forecasts, where, context)
    times = traded.times
    row = np.searchsorted(forecasts.cutoff, times, side="right") - 1
    first, last = max(int(row[0]), 0), int(row[-1])
    kept = np.arange(first, last + 1)
    row = np.maximum(row - first, NEVER)
    chosen, at = _rows(forecasts, kept), where[kept]
    decided = np.searchsorted(times, chosen.cutoff)
    return Layout(
        forecasts=chosen,
        states=_states(bars, market, broker, at, decided, context),
        row=row,
        times=times,
        decided=np.where(row < 0, NEVER, decided[row]) if len(decided) else row,
        entry=entries_allowed(traded, broker),
        flat=weekend_ahead(traded, broker),
        broker=broker,
        calendar=bars.calendar,
    )


def plan_on(layout: Layout, rules: TradingRules, reasons: bool = True) -> Plan:
    """The plan of a layout under trading rules; without `reasons` the texts, which take longest, are left empty."""
    row, count = layout.row, len(layout.times)
    if not len(layout.forecasts):
        nothing = plain_plan(np.zeros(count), 0.0, ("no forecast",) * count)
        return replace(nothing, decided=np.full(count, NEVER), resize=rules.resize)
    decided = decide(layout.forecasts, layout.states, _settings(layout, rules))
    live = (row >= 0) & (layout.times < decided.expiry[row])

    def along(values: np.ndarray, none: float, asked: bool = True) -> np.ndarray:
        return np.where(live, values[row], none) if asked else np.full(count, none)

    texts = _texts(row, live, [decided.reason(n) for n in range(len(layout.forecasts))]) if reasons else ("",) * count
    plan = Plan(
        side=along(decided.side, 0).astype(np.int8),
        lots=along(decided.lots, 0.0),
        lots_per_money=along(decided.lots_per_money, 0.0, rules.sizing != "fixed"),
        stop=along(decided.stop, np.nan, rules.stop != ""),
        take_profit=along(decided.take_profit, np.nan, rules.take_profit != ""),
        trailing=along(decided.trailing, np.nan, rules.trailing != ""),
        entry=np.ones(count, bool),
        decided=np.where(live, layout.decided, NEVER),
        resize=rules.resize,
        reasons=texts,
    )
    return restricted(plan, layout.entry, layout.flat) if layout.flat.any() or not layout.entry.all() else plan


def expiries(layout: Layout, rules: TradingRules) -> np.ndarray:
    """UTC at which the target of each of the T closes turns flat by itself, datetime64[ns]; its own close for none."""
    if not len(layout.forecasts):
        return layout.times
    step = (rules.expiry_bars or layout.forecasts.horizon) - 1
    return np.where(layout.row < 0, layout.times, layout.forecasts.ds[layout.row, step])


def targets(
    bars: Bars, forecasts: Forecasts, rules: TradingRules, context: int, broker: BrokerRules | None = None
) -> list[Target]:
    """The target at each of the N cutoffs as the live link asks for it, one at a time; sizes of the deposit's equity.

    For accounts in a currency of the pair.
    """
    broker = broker or BrokerRules()
    layout = lay_out(bars, bars, forecasts, broker, market_of(bars, broker), context)
    settings, states = _settings(layout, rules), layout.states
    return [
        target_position(forecasts.row(n), replace(state_at(states, n), equity=broker.deposit), settings)
        for n in range(len(forecasts))
    ]


def _settings(layout: Layout, rules: TradingRules) -> SignalRules:
    years = bars_per_year(layout.calendar) if rules.sizing == "volatility" else np.nan
    return replace(rules.signal_rules, broker=layout.broker, bars_per_year=years)


def bars_per_year(calendar: SessionCalendar) -> float:
    """Bars a year has by rule, on average over the four years from 2021 on."""
    stamps = calendar.between(np.datetime64("2021-01-01", "ns"), np.datetime64("2024-12-31T23:59:59", "ns"))
    return len(stamps) / 4


def _texts(row: np.ndarray, live: np.ndarray, reasons: list[str]) -> tuple[str, ...]:
    return tuple(
        "no forecast" if n < 0 else reasons[n] if active else "forecast expired"
        for n, active in zip(row.tolist(), live.tolist(), strict=True)
    )


def _states(
    bars: Bars, market: Market, broker: BrokerRules, at: np.ndarray, decided: np.ndarray, context: int
) -> MarketStates:
    """What was known at the bars `at` [N]; spread and conversion of the bars `decided` [N] of the market."""
    closes, spread, conversion = bars.closes, market.spread[decided], market.conversion[decided]
    high, low = (bars.frame[name].to_numpy(np.float64) for name in ("high", "low"))
    return MarketStates(
        context_mean=np.array([closes[bar - context + 1 : bar + 1].mean() for bar in at.tolist()], np.float64),
        last_close=closes[at],
        round_trip_cost=np.asarray(round_trip_cost(broker, spread, conversion, bars.instrument.point)),
        spread=spread,
        conversion=conversion,
        atr=average_true_range(high, low, closes)[at],
        point=bars.instrument.point,
        close_only=bars.instrument.close_only,
    )


def _positions(bars: Bars, forecasts: Forecasts) -> np.ndarray:
    """Index of the bar that closes at each cutoff, int64 [N]."""
    times, cutoffs = bars.times, forecasts.cutoff
    where = np.minimum(np.searchsorted(times, cutoffs), len(times) - 1)
    strange = cutoffs[times[where] != cutoffs]
    if len(strange):
        raise UserError(
            f"no bar of {bars.instrument.unique_id} closes at the cutoff {strange[0]}; "
            "use the bars that the forecasts were made from"
        )
    return where


def _check_same(bars: Bars, forecasts: Forecasts, where: np.ndarray, context: int) -> None:
    if where[0] + 1 < context:
        raise UserError(
            f"the first forecast, at {forecasts.cutoff[0]}, has {where[0] + 1} closes behind it and the context mean "
            f"needs {context}; load earlier bars or lower windows.context"
        )
    if not np.allclose(forecasts.anchor, bars.closes[where], rtol=1e-9, atol=0):
        raise UserError(
            f"forecasts of {forecasts.unique_id} were made from other closes than these bars hold; "
            "make them anew: `tunetrade forecast`"
        )


def _rows(forecasts: Forecasts, kept: np.ndarray) -> Forecasts:
    """Some cutoffs, in an order of memory in which the cutoffs of a step or a quantile, read together, lie together."""
    names = [field.name for field in fields(Forecasts) if field.name != "unique_id"]
    arrays: dict[str, Any] = {name: np.asfortranarray(getattr(forecasts, name)[kept]) for name in names}
    if isinstance(forecasts, Ballot):
        arrays["members"] = tuple(_rows(member, kept) for member in forecasts.members)
    return replace(forecasts, **arrays)
