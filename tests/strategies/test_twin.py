"""The fast twin: the same account as the Backtrader engine's on random cases, and what no strategy may earn or lose."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from strategies.contract import BrokerRules
from strategies.market import Market
from strategies.plan import plain_plan
from strategies.run import REASONS
from strategies.twin import simulate

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


def test_importing_the_twin_loads_no_compiler():
    code = "import sys, strategies.twin, strategies.search; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
