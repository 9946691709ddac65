"""The whole way from series to equity: bars, rates, finer bars, costs, signal, sizes, stops, account."""

from dataclasses import replace

import numpy as np
import pytest
from made import make_bars, make_forecasts

from strategies.backtest import run_backtest
from strategies.contract import BrokerRules
from strategies.rules import TradingRules
from strategies.twin import simulate

COUNT, FIRST, CONTEXT = 150, 10, 8
CURVES = ["equity", "balance", "position", "margin", "costs"]


def series(seed, symbol="EURUSD", timeframe="H1", times_finer=1):
    """A random series with opens off the closes before, wicks and spreads."""
    rng = np.random.default_rng(seed)
    count = COUNT * times_finer
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 0.002, count)))
    opens = np.concatenate([close[:1], close[:-1]]) * np.exp(rng.normal(0, 0.0005, count))
    highs, lows = np.maximum(opens, close) * 1.0007, np.minimum(opens, close) * 0.9993
    spread = rng.uniform(0, 30, count)
    return make_bars(close, opens, spread, symbol=symbol, timeframe=timeframe, highs=highs, lows=lows)


def hours_of(quarters):
    """Hourly bars of bars of 15 minutes."""
    hours = quarters.frame.to_numpy().reshape(COUNT, 4, -1)
    names = list(quarters.frame.columns)
    opens, highs, lows, closes, spread = (
        hours[:, :, names.index(name)] for name in ("open", "high", "low", "close", "spread")
    )
    return make_bars(closes[:, -1], opens[:, 0], spread[:, -1], highs=highs.max(axis=1), lows=lows.min(axis=1))


def joined(early, late, cut):
    """One series up to `cut`, another after it."""
    frame = early.frame.copy()
    frame.loc[early.times > cut] = late.frame.loc[early.times > cut].to_numpy()
    return replace(early, frame=frame)


def with_gaps(bars, lost):
    return replace(bars, frame=bars.frame[~lost])


def believed(bars, where, seed, cut, late):
    """Forecasts with cones; those made after `cut` are of another seed where `late`."""
    arrays = []
    for draw in (seed, seed + 500):
        rng = np.random.default_rng(draw)
        mean = bars.closes[where][:, None] * np.exp(rng.normal(0, 0.003, (len(where), 3)))
        made = make_forecasts(bars, where, mean, np.abs(rng.normal(0, 2e-4, mean.shape)))
        cone = np.sort(rng.normal(0, 0.001, (len(where), 7, 1)), axis=1)
        arrays.append(replace(made, quantiles=made.quantiles + cone, sigma=rng.uniform(5e-4, 3e-3, len(where))))
    new = (arrays[0].cutoff > cut) & late
    mixed = {
        name: np.where(new.reshape(-1, *[1] * (value.ndim - 1)), getattr(arrays[1], name), value)
        for name, value in vars(arrays[0]).items()
        if name != "unique_id"
    }
    return replace(arrays[0], **mixed)


@pytest.mark.parametrize("seed", range(24))
def test_nothing_after_t_changes_anything_up_to_t_on_the_whole_way(seed):
    """Later bars of the pair, of its rate and of its finer bars are others, as later forecasts are."""
    rng = np.random.default_rng(seed)
    bar = int(rng.integers(40, 85))
    rates, finer = series(seed + 2000, "GBPUSD"), series(seed + 4000, "EURUSD", "M15", 4)
    pair = hours_of(finer)
    lost, torn = rng.random(COUNT) < 0.4, rng.random(4 * COUNT) < 0.2
    lost[0] = False
    cut = pair.times[bar]
    other = hours_of(joined(finer, series(seed + 5000, "EURUSD", "M15", 4), cut))
    where = np.arange(20, COUNT - 3, int(rng.choice([1, 4])))
    rules = TradingRules(
        signal=str(rng.choice(["threshold", "quantile", "probability", "mean-vs-context"])),
        sizing=("risk", "kelly", "volatility", "fixed")[seed % 4],
        stop=str(rng.choice(["atr:1.0", "quantile:0.05", "points:200"])),
        trailing=str(rng.choice(["", "atr:2.0"])),
        expiry_bars=int(rng.choice([0, 2])),
        resize=True,
        threshold_k=0.2,
    )
    broker = BrokerRules(
        currency="GBP",
        conversion="made",
        finer="made",
        account=str(rng.choice(["netting", "hedging"])),
        spread_points="data",
        spread_sessions=("22:00-02:00 40",),
        slippage_points=3.0,
        commission_per_lot=3.5,
        hours=str(rng.choice(["", "06:00-18:00"])),
        friday_close="21:00",
        swap_long=-5.0,
        swap_short=1.0,
    )
    runs, plans = [], []

    def engine(market, plan, rules):
        plans.append(plan)
        return simulate(market, plan, rules)

    for late, bars in ((False, pair), (True, other)):
        changed = [
            joined(one, two, cut) if late else one
            for one, two in (
                (rates, series(seed + 3000, "GBPUSD")),
                (finer, series(seed + 5000, "EURUSD", "M15", 4)),
            )
        ]
        runs.append(
            run_backtest(
                bars,
                believed(bars, where, seed, cut, late),
                rules,
                broker,
                context=CONTEXT,
                span=(pair.times[FIRST], pair.times[-1]),
                conversion=with_gaps(changed[0], lost),
                finer=with_gaps(changed[1], torn),
                engine=engine,
            )
        )
    past = bar - FIRST + 1
    for name in ("side", "lots", "lots_per_money", "stop", "take_profit", "trailing", "entry", "decided"):
        assert getattr(plans[0], name)[:past].tobytes() == getattr(plans[1], name)[:past].tobytes(), name
    assert plans[0].reasons[:past] == plans[1].reasons[:past]
    one, two = (run.equity[CURVES].to_numpy() for run in runs)
    assert one[:past].tobytes() == two[:past].tobytes()
    assert one[past:].tobytes() != two[past:].tobytes()
    closed = [run.trades[run.trades["exit_time"] <= pair.frame.index[bar]].drop(columns="trade") for run in runs]
    assert closed[0].equals(closed[1])
