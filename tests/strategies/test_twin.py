"""The fast twin: the same account as the Backtrader engine's on random cases, and what no strategy may earn or lose."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from forecasting.errors import UserError
from strategies.contract import BrokerRules
from strategies.market import Market
from strategies.metrics import figures
from strategies.plan import NEVER, plain_plan
from strategies.run import REASONS, equity_frame, trades_frame
from strategies.twin import simulate
from strategies.twin_sweep import Views, settings_of, sweep, sweep_views

HOUR = np.timedelta64(3_600_000_000_000, "ns")
START = np.datetime64("2021-03-01T00:00", "ns")
EXACT = ("entry_bar", "exit_bar", "decided_bar", "units", "entry_price", "exit_price", "why")
QUOTES = ("quote_in", "quote_out")
MONEY = ("result", "spread_cost", "slippage_cost", "commission", "swap", "mfe", "mae")


def make_market(closes, opens, high, low, *, close_only=False, **others):
    """A market of hourly bars; spread, slippage, nights and the rest are nothing unless given."""
    count = len(closes)
    others.setdefault("finer", np.array([opens, high, low]))
    others.setdefault("begin", np.arange(count + 1))
    nothing = {"spread": np.zeros(count), "slippage": np.zeros(count), "conversion": np.ones(count)}
    nothing |= {"nights": np.zeros(count, np.int64), "nights_end": 0, "point": 1e-5}
    times = START + HOUR * np.arange(1, count + 1)
    return Market(times, opens, high, low, closes, close_only=close_only, **(nothing | others))


def random_market(rng, count):
    """Bars with gaps, wide spreads, slippage and nights; with finer bars, close-only or plain."""
    wild = 10 ** rng.uniform(-3.5, -1.7)
    paths = rng.choice([1, 1, 4])
    moves = rng.normal(0, wild, (count, paths, 3))
    gaps = rng.normal(0, wild, count) * (rng.random(count) < rng.choice([0.1, 1.0]))
    inner = 1.2 * np.exp(
        np.cumsum(np.concatenate([gaps[:, None], moves.reshape(count, -1)], axis=1)).reshape(count, -1)
    )
    opens, closes = inner[:, 0], inner[:, -1]
    close_only = rng.random() < 0.15
    if close_only:
        opens = closes
        inner = closes[:, None]
    high, low = inner.max(axis=1), inner.min(axis=1)
    others = {}
    if paths > 1 and not close_only:
        pieces = inner[:, :-1].reshape(count, paths, 3)
        tops = np.maximum(pieces.max(axis=2), inner[:, 3::3])
        bottoms = np.minimum(pieces.min(axis=2), inner[:, 3::3])
        kept = rng.integers(1, paths + 1, count)
        kept[rng.random(count) < 0.5] = paths
        rows = np.arange(paths) < kept[:, None]
        others = {
            "finer": np.array([pieces[:, :, 0][rows], tops[rows], bottoms[rows]]),
            "begin": np.concatenate([[0], np.cumsum(kept)]),
        }
    spread = rng.uniform(0, 2, count) * wild * rng.choice([0.05, 0.5])
    if rng.random() < 0.5:
        others["conversion"] = 0.8 * np.exp(np.cumsum(rng.normal(0, 0.01, count)))
    return make_market(
        closes,
        opens,
        high,
        low,
        close_only=close_only,
        spread=spread,
        slippage=rng.uniform(0, wild, count) * rng.choice([0, 0.3]),
        nights=rng.choice([0, 0, 1, 3], count) * (np.arange(count) > 0),
        nights_end=int(rng.choice([0, 1, 3])),
        **others,
    )


def random_broker(rng):
    """Rules in which margins, least sizes and stop-outs matter."""
    return BrokerRules(
        deposit=float(10 ** rng.uniform(2.5, 4.5)),
        account=str(rng.choice(["netting", "hedging"])),
        leverage=float(rng.choice([30, 300, 1000])),
        stop_out=float(rng.choice([0, 0.5, 0.9, 1.2])),
        margin_call=float(rng.choice([0.5, 1, 3])),
        commission_per_lot=float(rng.choice([0, 7, 100])),
        swap_long=float(rng.normal(0, 30)),
        swap_short=float(rng.normal(0, 30)),
        lot_min=float(rng.choice([0.01, 0.03])),
        lot_max=float(rng.choice([0.05, 100])),
    )


def random_plan(rng, market):
    """Signals that last, with any mixture of stops, sizes, hours and targets decided earlier."""
    count = len(market)
    length = rng.choice([1, 4, 12])
    side = np.repeat(rng.integers(-1, 2, count), length)[:count]
    typical = np.median(market.high - market.low) if not market.close_only else np.median(np.abs(np.diff(market.close)))
    now = np.where(side > 0, market.close, market.close + market.spread)
    reach = typical * 10 ** rng.uniform(-1, 1, (3, count)) * rng.choice([0.3, 1, 3])
    some = rng.random((3, count)) < rng.choice([0.0, 0.0, 0.7, 1.0], (3, 1))
    stop, profit, trailing = np.where(some, [now - side * reach[0], now + side * reach[1], reach[2]], np.nan)
    by_equity = rng.random() < 0.4
    lots = (
        rng.choice([0.004, 0.05, 0.2, 1.0], count)
        if rng.random() < 0.6
        else np.full(count, 10 ** rng.uniform(-1.9, 0.3))
    )
    return replace(
        plain_plan(side, 0.0, tuple(f"bar {t}" for t in range(count))),
        lots=np.zeros(count) if by_equity else lots,
        lots_per_money=np.full(count, 10 ** rng.uniform(-5, -3.2))
        if by_equity or rng.random() < 0.1
        else np.zeros(count),
        stop=stop,
        take_profit=profit,
        trailing=trailing,
        entry=rng.random(count) < rng.choice([0.6, 1.0]),
        decided=np.arange(count) // (every := rng.choice([1, 3, 10])) * every,
        resize=bool(rng.random() < 0.5),
    )


def random_case(seed):
    """Market, plan and broker."""
    rng = np.random.default_rng(seed)
    market = random_market(rng, int(rng.integers(2, 40)))
    return market, random_plan(rng, market), random_broker(rng)


def differences(ours, other, deposit):
    """What two runs disagree about: everything exactly, money to a billionth of what passed through the account."""
    found = [name for name in ("deals", "refused", "margin_calls") if getattr(ours, name) != getattr(other, name)]
    if len(ours.trades) != len(other.trades):
        return [*found, f"{len(ours.trades)} and {len(other.trades)} trades"]
    for number, (a, b) in enumerate(zip(ours.trades, other.trades, strict=True)):
        for name in (*EXACT, *QUOTES, *MONEY):
            one, two = getattr(a, name), getattr(b, name)
            near = 1e-12 if name in QUOTES else 1e-9
            size = abs(a.units) * 1e-9 * near if name in MONEY else 0.0  # differences of prices keep fewer digits
            if one != two and (name in EXACT or not math.isclose(one, two, rel_tol=near, abs_tol=max(size, 1e-12))):
                found.append(f"trade {number} {name}: {one!r} and {two!r}")
    for name in ("equity", "balance", "margin", "paid"):
        one, two = getattr(ours, name), getattr(other, name)
        if not np.allclose(one, two, rtol=1e-9, atol=1e-9 * deposit):
            at = int(np.flatnonzero(~np.isclose(one, two, rtol=1e-9, atol=1e-9 * deposit))[0])
            found.append(f"{name} at {at}: {one[at]!r} and {two[at]!r}")
    if not np.array_equal(ours.position, other.position):
        found.append("position")
    return found


def compare(seeds):
    """Both engines on random cases; how often each way of closing was met."""
    from strategies.broker import run_plan

    met = dict.fromkeys((*REASONS, "refused", "margin calls"), 0)
    for seed in seeds:
        market, plan, broker = random_case(seed)
        ours = simulate(market, plan, broker)
        assert differences(ours, run_plan(market, plan, broker), broker.deposit) == [], f"case {seed}"
        for trade in ours.trades:
            met[REASONS[trade.why]] += 1
        met["refused"] += ours.refused
        met["margin calls"] += ours.margin_calls
    return met


def test_both_engines_agree_on_random_cases():
    met = compare(range(2_000))
    assert min(met.values()) > 100, met


@pytest.mark.slow
def test_both_engines_agree_on_many_random_cases():
    compare(range(10_000, 30_000))


def plain_market(closes, opens=None, **others):
    """Bars of nothing but open and close; each opens where the last closed unless `opens` are given."""
    opens = np.concatenate([closes[:1], closes[:-1]]) if opens is None else opens
    return make_market(closes, opens, np.maximum(opens, closes), np.minimum(opens, closes), **others)


COSTLY = BrokerRules(
    deposit=1e6, commission_per_lot=7.0, swap_long=-6.0, swap_short=2.0, account="hedging", leverage=100.0
)


def interval(values):
    """Mean and three standard errors."""
    return np.mean(values), 3 * np.std(values, ddof=1) / math.sqrt(len(values))


def test_random_signals_on_a_martingale_earn_minus_their_costs():
    net, paid = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        closes = 1.2 * np.exp(np.cumsum(rng.normal(-0.5e-6, 1e-3, 600)))
        market = plain_market(
            closes,
            spread=rng.uniform(0, 4e-4, 600),
            slippage=rng.uniform(0, 4e-5, 600),
            nights=np.tile([0, 0, 0, 1], 150),
        )
        sides = np.repeat(rng.integers(-1, 2, 300), 2)
        plan = replace(plain_plan(sides, 0.0), lots=rng.choice([0.5, 1.0, 1.5], 600), resize=True)
        run = simulate(market, plan, COSTLY)
        net.append(run.equity[-1] - COSTLY.deposit)
        paid.append(run.paid[-1])
    mean, error = interval(np.add(net, paid))
    assert abs(mean) < error
    assert np.mean(net) < -3 * error  # so costs left out, or counted twice, would show


def test_a_planted_edge_is_found_and_its_profit_predicted():
    # The drift of every other bar is known at the close before; a threshold of one round-trip cost is best.
    spread, count, thresholds = 2e-4, 4_000, np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    broker = BrokerRules(deposit=1e6, commission_per_lot=5.0)
    cost = spread + 2 * broker.commission_per_unit
    earned, surprise = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        known = np.where(np.arange(count) % 2 == 0, rng.normal(0, 3e-4, count), 0.0)
        noise = rng.normal(0, 4e-4, count)
        noise[1:] += known[:-1]
        closes = 1.2 + np.cumsum(noise)
        always, nothing = np.ones(count), np.zeros(count)
        views = Views(
            move=known,
            band=nothing,
            hurdle=always * cost,
            reach=always,
            size=always,
            decided=np.where(np.arange(count) % 2 == 0, np.arange(count), NEVER),
            entry=always > 0,
            flat=nothing > 0,
        )
        market = plain_market(closes, spread=always * spread)
        found = sweep_views(market, views, settings_of(5, threshold=thresholds, lots=1.0), broker)
        moves = np.abs(known[:-2:2])  # the last decision has no bar of its own left
        predicted = [1e5 * np.sum((moves - cost)[moves > k * cost]) for k in thresholds]
        earned.append(found.net_profit)
        surprise.append(found.net_profit - predicted)
    for k, column in zip(thresholds, np.transpose(surprise), strict=True):
        mean, error = interval(column)
        assert abs(mean) < error, f"threshold {k}"
    assert np.argmax(np.mean(earned, axis=0)) == 2
    mean, error = interval(np.array(earned)[:, 2])
    assert mean > 2 * error


def opinions(market, rng):
    """Views of forecasts made every few bars."""
    count = len(market)
    every = int(rng.choice([1, 3]))
    decided = np.arange(count) // every * every
    decided[: every * int(rng.integers(0, 3))] = NEVER
    typical = float(np.median(np.abs(np.diff(market.close, prepend=market.close[0] * 0.999))))
    return Views(
        move=rng.normal(0, typical, count),
        band=np.full(count, typical / 10),
        hurdle=market.spread,
        reach=typical * rng.uniform(1, 3, count),
        size=rng.uniform(0.5, 1.5, count),
        decided=decided,
        entry=rng.random(count) < 0.9,
        flat=rng.random(count) < 0.1,
    )


def laid_by_hand(market, views, setting):
    """The plan of a setting (threshold, lots, lots per money, stop, profit, trailing), one bar at a time."""
    threshold, lots, by_money, stop, profit, trailing = setting
    plan = replace(plain_plan(np.zeros(len(market)), 0.0), decided=views.decided, entry=views.entry)
    columns = {name: getattr(plan, name).copy() for name in ("side", "lots", "lots_per_money")}
    columns |= {name: np.full(len(market), np.nan) for name in ("stop", "take_profit", "trailing")}
    for t, at in enumerate(views.decided):
        if at == NEVER or views.flat[t] or abs(views.move[at]) <= max(views.band[at], threshold * views.hurdle[at]):
            continue
        side, half = np.sign(views.move[at]), market.spread[at] / 2
        ask = market.close[at] + (half if market.close_only else 2 * half)
        bid = market.close[at] - (half if market.close_only else 0.0)
        now, reach, size = bid if side > 0 else ask, views.reach[at], views.size[at]
        values = (side, lots * size, by_money * size)
        values += (now - side * stop * reach, now + side * profit * reach, trailing * reach)
        for name, value in zip(columns, values, strict=True):
            columns[name][t] = value
    return replace(plan, **columns)


@pytest.mark.parametrize("seed", range(6))
def test_sweeps_give_the_figures_of_single_runs(seed):
    rng = np.random.default_rng(seed)
    market, broker = random_market(rng, 200), replace(random_broker(rng), deposit=1e5, leverage=200.0)
    views = opinions(market, rng)
    values = rng.uniform([0, 0.01, 0, 1, 1, 1], [2, 0.2, 1e-6, 9, 9, 9], (20, 6))
    values[rng.random((20, 6)) < [0, 0, 0, 0.3, 0.3, 0.5]] = np.nan
    names = ("threshold", "lots", "lots_per_money", "stop", "take_profit", "trailing")
    settings = settings_of(20, **dict(zip(names, values.T, strict=True)))
    plans = [laid_by_hand(market, views, setting) for setting in values]

    found = sweep_views(market, views, settings, broker, daily=True, threads=1)

    for other in (
        sweep_views(market, views, settings, broker, daily=True, threads=3),
        sweep(market, iter(plans), broker, daily=True),
    ):
        for name in ("net_profit", "costs", "max_drawdown", "sharpe", "trades", "refused", "daily", "days"):
            np.testing.assert_allclose(
                getattr(found, name).astype(float), getattr(other, name).astype(float), rtol=1e-9, atol=1e-9
            )
    for number, plan in enumerate(plans):
        run = simulate(market, plan, broker)
        trades, equity = trades_frame(run, market, broker.lot_units, plan.reasons), equity_frame(run, market)
        single = figures(trades, equity, broker.deposit)
        for name in ("net_profit", "costs", "max_drawdown", "sharpe", "trades"):
            one = getattr(found, name)[number]
            assert one == pytest.approx(single[name], rel=1e-9, abs=1e-7, nan_ok=True), name


def test_a_view_from_a_later_bar_is_refused():
    market = plain_market(np.linspace(1.0, 1.1, 5))
    views = replace(opinions(market, np.random.default_rng(0)), decided=np.array([0, 1, 3, 3, 4]))
    with pytest.raises(UserError, match="look-ahead"):
        sweep_views(market, views, settings_of(1, lots=0.1), BrokerRules())


@pytest.mark.parametrize(("name", "value"), [("lots", -0.1), ("threshold", math.nan), ("stop", 0.0)])
def test_settings_that_cannot_be_are_refused(name, value):
    market = plain_market(np.linspace(1.0, 1.1, 5))
    with pytest.raises(UserError, match=name):
        sweep_views(market, opinions(market, np.random.default_rng(0)), settings_of(2, **{name: value}), BrokerRules())


def test_importing_the_twin_loads_no_compiler():
    code = "import sys, strategies.twin, strategies.twin_sweep; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
