"""Many settings on one market by the fast twin: what a search asks for.

`sweep_views` lays plans itself from the forecasts' opinions, computed once: thresholds, sizes, stops and profits cost
nothing but the run. `sweep` takes any plans. Settings run in threads without Python's lock; each is independent of the
others, so results do not depend on how many threads there are.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from forecasting.errors import UserError
from strategies.contract import BrokerRules
from strategies.market import Market
from strategies.plan import NEVER, Plan, check_plan, plain_plan
from strategies.run import CLOSED
from strategies.twin import account_of, most_tickets
from strategies.twin_records import (
    CURVES,
    FIGURES,
    FILL,
    ORDER,
    SETTING,
    TICKET,
    PlanArrays,
    ViewArrays,
    market_arrays,
    plan_arrays,
)

SHARE = 16
"""Settings that a thread takes at a time."""

_DAY = np.timedelta64(86_400_000_000_000, "ns")
_DAYS_A_YEAR = 365.25


@dataclass(frozen=True)
class Views:
    """Opinions of forecasts along T bars, as every setting sees them; float64 [T] unless said otherwise.

    At bars that have a forecast, anything elsewhere: move, expected; band, least move that counts; hurdle, what a
    threshold multiplies (round-trip cost); reach, the unit of stop distances in price (a point, an average true
    range); size, what multiplies lots. Of every bar: decided, int64, bar whose forecast governs it, NEVER for none;
    entry, bool, whether a position may be opened; flat, bool, whether all is closed whatever the forecast.
    """

    move: np.ndarray
    band: np.ndarray
    hurdle: np.ndarray
    reach: np.ndarray
    size: np.ndarray
    decided: np.ndarray
    entry: np.ndarray
    flat: np.ndarray


@dataclass(frozen=True)
class Settings:
    """S settings, float64 [S]: long where the move is above max(band, threshold x hurdle), short where below minus it.

    lots, lots_per_money: times `Views.size`, as in `strategies.plan.Plan`. stop, take_profit, trailing: distances in
    `Views.reach` from the price at which the position would close at its forecast's cutoff, NaN for none.
    """

    threshold: np.ndarray
    lots: np.ndarray
    lots_per_money: np.ndarray
    stop: np.ndarray
    take_profit: np.ndarray
    trailing: np.ndarray

    def __len__(self) -> int:
        return len(self.threshold)


@dataclass(frozen=True)
class Figures:
    """Of S settings, [S], defined as in `strategies.metrics`; NaN where undefined.

    net_profit, costs: money, costs including slippage and swap. max_drawdown: share of the running peak. sharpe:
    yearly, of daily returns. trades, refused: int64. daily: returns [S, D] of `days` [D], UTC, where asked for.
    """

    net_profit: np.ndarray
    costs: np.ndarray
    max_drawdown: np.ndarray
    sharpe: np.ndarray
    trades: np.ndarray
    refused: np.ndarray
    days: np.ndarray
    daily: np.ndarray | None


def settings_of(count: int, **values: float | np.ndarray) -> Settings:
    """`count` settings from values or arrays; those not named: no threshold, no lots, no stops."""
    plain = {"threshold": 0.0, "lots": 0.0, "lots_per_money": 0.0}
    names = SETTING.names or ()
    return Settings(*(np.broadcast_to(np.float64(values.get(n, plain.get(n, np.nan))), count) for n in names))


def sweep_views(
    market: Market,
    views: Views,
    settings: Settings,
    broker: BrokerRules,
    *,
    resize: bool = False,
    daily: bool = False,
    threads: int | None = None,
) -> Figures:
    """Figures of every setting; `daily` keeps the returns, 8 bytes for each setting and day."""
    from strategies.twin_sweep_kernel import run_settings

    _check_views(views, market)
    _check_settings(settings)
    asked = np.zeros(len(settings), SETTING)
    for name in SETTING.names or ():
        asked[name] = getattr(settings, name)
    days, ends, years = _days_of(market.times)
    rows = np.zeros(len(settings), FIGURES)
    returns = np.zeros((len(settings), len(days))) if daily else None
    arrays, opinions = market_arrays(market), _view_arrays(views)

    def work(first: int) -> None:
        at = slice(first, first + SHARE)
        desk = _Desk(market, broker, resize)
        kept = np.zeros((1, len(days))) if returns is None else returns[at]
        plan = _blank_plan(market, views, resize)
        state = (desk.fresh, desk.fresh.copy(), desk.tickets, desk.order, desk.fill)
        asks = (arrays, opinions, asked[at], plan)
        run_settings(*state, *asks, desk.curves, desk.trades, ends, years, rows[at], kept)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        list(pool.map(work, range(0, len(settings), SHARE)))
    return _figures_of(rows, days, returns)


def sweep(
    market: Market, plans: Iterable[Plan], broker: BrokerRules, *, daily: bool = False, threads: int | None = None
) -> Figures:
    """Figures of every plan, in order; plans are taken a few at a time, so an iterator may lay them one by one."""
    from strategies.twin_kernel import run
    from strategies.twin_sweep_kernel import sum_up

    days, ends, years = _days_of(market.times)
    arrays = market_arrays(market)

    def work(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
        check_plan(plan, len(market))
        desk, row, returns = _Desk(market, broker, plan.resize), np.zeros(1, FIGURES), np.zeros(len(days))
        account = desk.fresh.copy()
        run(account[0], desk.tickets, desk.order, desk.fill, arrays, plan_arrays(plan), desk.curves, desk.trades)
        sum_up(row[0], account[0], desk.curves, ends, years, broker.deposit, returns)
        return row, returns

    waiting, done = iter(plans), []
    count = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(count) as pool:
        while some := list(islice(waiting, 2 * count)):
            done += [(row, returns if daily else returns[:0]) for row, returns in pool.map(work, some)]
    rows = np.concatenate([row for row, _ in done]) if done else np.zeros(0, FIGURES)
    return _figures_of(rows, days, np.array([returns for _, returns in done]) if daily else None)


@dataclass
class _Desk:
    """What a thread works on."""

    market: Market
    broker: BrokerRules
    resize: bool
    fresh: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.fresh = account_of(self.market, self.broker, keep=False)
        self.tickets = np.zeros(most_tickets(self.market, self.broker, self.resize), TICKET)
        self.order, self.fill = np.zeros(1, ORDER)[0], np.zeros(1, FILL)[0]
        self.curves, self.trades = np.zeros(len(self.market), CURVES), np.empty(1, CLOSED)


def _blank_plan(market: Market, views: Views, resize: bool) -> PlanArrays:
    """Room for the plan of one setting after the other; hours and governing forecasts are the same for all."""
    count = len(market)
    blank = plain_plan(np.zeros(count, np.int8), 0.0)
    stops = {name: np.full(count, np.nan) for name in ("stop", "take_profit", "trailing")}  # not one array for all
    return plan_arrays(replace(blank, entry=views.entry, decided=views.decided, resize=resize, reasons=(), **stops))


def _view_arrays(views: Views) -> ViewArrays:
    kinds = {"decided": np.int64, "flat": np.bool_}
    return ViewArrays(
        *(np.ascontiguousarray(getattr(views, name), kinds.get(name, np.float64)) for name in ViewArrays._fields)
    )


def _check_views(views: Views, market: Market) -> None:
    for name in Views.__dataclass_fields__:
        if len(getattr(views, name)) != len(market):
            raise UserError(f"views.{name} has {len(getattr(views, name))} bars and the market {len(market)}")
    used = np.unique(views.decided[views.decided != NEVER])
    if len(used) and not 0 <= used[0] <= used[-1] < len(market):
        raise UserError(f"views.decided must be {NEVER} or a bar from 0 to {len(market) - 1}")
    if (views.decided > np.arange(len(market))).any():
        raise UserError("views.decided names a bar later than the one that it governs; that is look-ahead")
    for name in ("move", "band", "hurdle", "size"):
        wrong = used[np.isnan(np.asarray(getattr(views, name), np.float64)[used])]
        if len(wrong):
            raise UserError(f"views.{name} at {market.times[wrong[0]]} is NaN; check forecasts, prices and spread")


def _check_settings(settings: Settings) -> None:
    for name in ("threshold", "lots", "lots_per_money"):
        values = getattr(settings, name)
        if not (np.isfinite(values) & (values >= 0)).all():
            raise UserError(f"settings.{name} holds what is no number of 0 or more")
    for name in ("stop", "take_profit", "trailing"):
        values = getattr(settings, name)
        if not (np.isnan(values) | (np.isfinite(values) & (values > 0))).all():
            raise UserError(f"settings.{name} holds what is no distance above 0; NaN stands for none")


def _days_of(times: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Days with a return [D], bars at which they end after the bar at which they start [D + 1], and the years."""
    days = (times - np.timedelta64(1, "ns")).astype("datetime64[D]")
    last = np.flatnonzero(np.append(days[1:] != days[:-1], True))
    years = float((times[-1] - times[0]) / _DAY) / _DAYS_A_YEAR
    if last[0] == 0:
        return days[last[1:]], last, years
    return days[last], np.concatenate([[0], last]), years


def _figures_of(rows: np.ndarray, days: np.ndarray, daily: np.ndarray | None) -> Figures:
    return Figures(**{name: rows[name].copy() for name in FIGURES.names or ()}, days=days, daily=daily)
