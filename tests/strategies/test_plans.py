"""Plans against a plain loop over bars, and the property that nothing after t changes what is wanted at t."""

from dataclasses import replace

import numpy as np
import pytest
from made import HOUR, START, make_bars, make_forecasts, random_case

from forecasting.calendars import FxWeek, RoundTheClock, TargetDays
from forecasting.errors import UserError
from strategies.contract import BrokerRules
from strategies.market import market_of
from strategies.plan import NEVER
from strategies.plans import bars_per_year, lay_out, plan_of, plan_on
from strategies.rules import TradingRules
from strategies.signals import Ballot, MarketState, target_position
from strategies.stops import average_true_range

CONTEXT = 8
BROKER = BrokerRules(spread_points="data", commission_per_lot=4.0, currency="EUR")
RULES = TradingRules("quantile", stop="atr:2.0", trailing="points:30", sizing="risk", expiry_bars=2)


def case(seed, every=1, close_only=False):
    """Random bars and forecasts at every so many of them; cones of random width around a random mean."""
    bars, forecasts = random_case(seed, close_only=close_only)
    rng = np.random.default_rng(seed)
    kept = np.arange(5, len(forecasts), every)
    arrays = {name: getattr(forecasts, name)[kept] for name in vars(forecasts) if name != "unique_id"}
    cone = np.sort(rng.normal(0, 0.002, (len(kept), 7, forecasts.horizon)), axis=1)
    return bars, replace(forecasts, **{**arrays, "quantiles": arrays["mean"][:, None] + cone})


def part(bars, first, last):
    return replace(bars, frame=bars.frame.iloc[first:last])


def plan(bars, forecasts, rules=RULES, first=0, last=None, broker=BROKER):
    traded = part(bars, first, last or len(bars))
    return plan_of(bars, traded, forecasts, rules, broker, market_of(traded, broker), CONTEXT)


@pytest.mark.parametrize(
    ("every", "close_only", "first", "rules"),
    [
        (1, False, 0, RULES),
        (5, False, 17, RULES),
        (4, True, 30, replace(RULES, signal="threshold", expiry_bars=0, trailing="")),
        (3, False, 20, TradingRules("probability", sizing="kelly", take_profit="quantile:0.95")),
    ],
)
def test_a_plan_is_the_newest_live_target_at_each_close(every, close_only, first, rules):
    bars, forecasts = case(11, every, close_only)
    found = plan(bars, forecasts, rules, first)
    market = market_of(part(bars, first, len(bars)), BROKER)
    ranges = average_true_range(*(bars.frame[name].to_numpy() for name in ("high", "low", "close")))
    settings = replace(rules.signal_rules, broker=BROKER)
    entered = 0
    for t, time in enumerate(bars.times[first:]):
        earlier = np.flatnonzero(forecasts.cutoff <= time)
        if not len(earlier):
            assert (found.side[t], found.decided[t], found.reasons[t]) == (0, NEVER, "no forecast")
            continue
        row = int(earlier[-1])
        bar = int(np.flatnonzero(bars.times == forecasts.cutoff[row])[0])
        known = max(bar - first, 0)  # of an earlier cutoff the spread and rate of the first bar traded
        spread, rate = market.spread[known], market.conversion[known]
        context = bars.closes[bar - CONTEXT + 1 : bar + 1].mean()
        state = MarketState(
            context, bars.closes[bar], spread + 2 * 4e-5 / rate, 1e-5, close_only, spread, rate, ranges[bar], 1e6
        )
        wanted = target_position(forecasts.row(row), state, settings)
        if time >= wanted.expiry:
            assert (found.side[t], found.lots[t], found.reasons[t]) == (0, 0.0, "forecast expired")
            continue
        entered += wanted.position != 0
        assert (found.side[t], found.decided[t], found.reasons[t]) == (wanted.position, known, wanted.reason)
        prices = [found.stop[t], found.take_profit[t], found.trailing[t]]
        assert [None if np.isnan(p) else p for p in prices] == [wanted.stop, wanted.take_profit, wanted.trailing]
        size = found.lots[t] + found.lots_per_money[t] * 1e6
        assert min(np.floor(size * 100 + 1e-9) / 100, 100.0) == pytest.approx(wanted.size)
    assert entered > 3


@pytest.mark.parametrize("signal", ["quantile", "mean-vs-context", "probability"])
def test_nothing_after_t_changes_what_is_wanted_up_to_t(signal):
    rules = replace(RULES, signal=signal, sizing="risk", take_profit="quantile:0.95")
    bars, forecasts = case(3)
    other_bars, other = case(4)
    t = 35
    frame = bars.frame.copy()
    frame.iloc[t + 1 :] = other_bars.frame.iloc[t + 1 :].to_numpy()
    later = forecasts.cutoff > bars.times[t]
    mixed = {
        name: np.where(later.reshape(-1, *[1] * (values.ndim - 1)), getattr(other, name), values)
        for name, values in vars(forecasts).items()
        if name != "unique_id"
    }
    before = plan(bars, forecasts, rules)
    after = plan(replace(bars, frame=frame), replace(forecasts, **mixed), rules)
    for name in ("side", "lots", "lots_per_money", "stop", "take_profit", "trailing", "decided"):
        one, two = getattr(before, name), getattr(after, name)
        assert one[: t + 1].tobytes() == two[: t + 1].tobytes(), name
    assert before.reasons[: t + 1] == after.reasons[: t + 1]
    assert before.stop[t + 1 :].tobytes() != after.stop[t + 1 :].tobytes()


def test_one_layout_serves_every_setting():
    bars, forecasts = case(8)
    market = market_of(bars, BROKER)
    layout = lay_out(bars, bars, forecasts, BROKER, market, CONTEXT)
    for rules in (RULES, TradingRules("threshold", 0.3), TradingRules(sizing="volatility")):
        fast, whole = plan_on(layout, rules, reasons=False), plan(bars, forecasts, rules)
        assert fast.side.tobytes() == whole.side.tobytes()
        assert fast.lots_per_money.tobytes() == whole.lots_per_money.tobytes()
        assert set(fast.reasons) == {""}
    assert plan_on(layout, TradingRules(resize=True)).resize


def test_a_round_trip_costs_spread_two_commissions_and_two_mean_slippages():
    # 12 points of spread, 2 x 3 of slippage on average, 2 x 4 of commission a lot at 0.8: 1e-4 in quote currency.
    bars, forecasts = case(9)
    broker = replace(BROKER, spread_points=12.0, slippage_points=3.0, currency="GBP", conversion="made")
    market = market_of(bars, broker, make_bars(np.full(60, 1.25), symbol="GBPUSD"))
    layout = lay_out(bars, bars, forecasts, broker, market, CONTEXT)
    cost = 12e-5 + 2 * 3e-5 + 2 * 4e-5 / 0.8
    assert layout.states.round_trip_cost.tolist() == pytest.approx([cost] * len(forecasts), rel=1e-12)
    moves = np.where(np.arange(len(forecasts)) % 2, 1.01 * cost, 0.99 * cost)
    known = make_forecasts(
        bars, np.searchsorted(bars.times, forecasts.cutoff), forecasts.anchor[:, None] + moves[:, None]
    )
    taken = plan_of(bars, bars, known, TradingRules("threshold"), broker, market, CONTEXT).side[14:-3]
    assert taken.tolist() == [n % 2 for n in range(len(taken))]


def test_trading_hours_and_the_weekend_bind_a_plan():
    bars, forecasts = case(2)
    broker = replace(BROKER, hours="08:00-20:00", friday_close="21:00", timezone="UTC")
    free, bound = plan(bars, forecasts), plan(bars, forecasts, broker=broker)
    hour = (bars.times - START) // HOUR % 24
    assert bound.entry.tolist() == [8 <= h < 20 for h in hour.tolist()]
    assert free.entry.all()
    assert bound.side.tolist() == free.side.tolist()


def test_a_ballot_goes_by_its_members():
    bars, forecasts = case(6)
    falls = replace(forecasts, mean=forecasts.mean - 0.05, quantiles=forecasts.quantiles - 0.05)
    arrays = {name: getattr(forecasts, name) for name in vars(forecasts)}
    rules = TradingRules()
    voted = plan(bars, Ballot(**arrays, members=(forecasts, falls, falls)), rules, 20)
    assert voted.side.tolist() == plan(bars, falls, rules, 20).side.tolist()
    assert voted.reasons[0] == "short: vote of mean-vs-last -" + voted.reasons[0].rpartition("-")[2]
    assert plan(bars, forecasts, rules, 20).side.tolist() != voted.side.tolist()


def test_what_does_not_belong_together_is_refused():
    bars, forecasts = case(9)
    with pytest.raises(UserError, match="were made from other closes"):
        plan(bars, replace(forecasts, anchor=forecasts.anchor * 1.001))
    with pytest.raises(UserError, match=r"no bar of EURUSD-H1 closes at the cutoff 2021-03-01T15:30"):
        plan(bars, replace(forecasts, cutoff=forecasts.cutoff + HOUR // 2))
    with pytest.raises(UserError, match="has 15 closes behind it and the context mean needs 16"):
        plan_of(bars, bars, forecasts, RULES, BROKER, market_of(bars, BROKER), 16)
    with pytest.raises(UserError, match="stops in ATR need 15 bars"):
        early = make_forecasts(bars, [10], bars.closes[[10], None] * [[1.01, 1.01]])
        plan(bars, early)
    with pytest.raises(UserError, match="expiry_bars is 4, beyond the forecast's horizon of 3"):
        plan(bars, forecasts, replace(RULES, expiry_bars=4))
    broken = forecasts.quantiles.copy()
    broken[7, 3, 1] = np.nan
    with pytest.raises(UserError, match=r"forecast of EURUSD-H1 at 2021-03-01T22:00:00.* holds NaN"):
        plan(bars, replace(forecasts, quantiles=broken))
    horizon = make_forecasts(make_bars([1.1] * 12), [9], [[1.2]])
    with pytest.raises(UserError, match="horizon 1 cannot be traded"):
        plan(make_bars([1.1] * 12), horizon)


def test_without_a_forecast_in_time_nothing_is_wanted():
    bars, forecasts = case(9)
    found = plan(bars, forecasts, last=14)
    assert not found.side.any()
    assert set(found.decided.tolist()) == {NEVER}
    assert set(found.reasons) == {"no forecast"}


def test_a_year_has_as_many_bars_as_its_calendar_says():
    assert bars_per_year(RoundTheClock("H1")) == pytest.approx(365.25 * 24)
    assert bars_per_year(FxWeek("D1")) == pytest.approx(259, abs=3)
    assert bars_per_year(TargetDays()) == pytest.approx(256, abs=2)
