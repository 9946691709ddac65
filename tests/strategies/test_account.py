"""An account under random plans: it adds up, knows nothing ahead of time, and wins nothing on a martingale."""

from dataclasses import replace

import numpy as np
import pytest
from made import make_bars, make_forecasts, random_account, random_plan

from forecasting.errors import ConfigError, DataError, OptionError, UserError
from strategies.backtest import run_backtest
from strategies.broker import run_plan
from strategies.contract import BrokerRules
from strategies.market import market_of
from strategies.plan import plain_plan
from strategies.rules import TradingRules
from strategies.run import REASONS

END = REASONS.index("end of data")


def exit_quote(market, bar, side):
    """What a position closes at, at a bar's close."""
    if market.close_only:
        return market.close[bar] - side * market.spread[bar] / 2
    return market.close[bar] + (side < 0) * market.spread[bar]


def swap_until(market, broker, trade, bar):
    """Swap of a trade up to a bar, night by night."""
    points = broker.swap_long if trade.units > 0 else broker.swap_short
    nights = [(market.nights[j], market.conversion[j - 1]) for j in range(trade.entry_bar + 1, bar + 1)]
    if bar == len(market) - 1 and trade.why == END:
        nights.append((market.nights_end, market.conversion[bar - 1]))
    return sum(abs(trade.units) * n * points * market.point * c for n, c in nights)


def equity_from_trades(market, broker, trades):
    """Deposit, closed trades and open results at every close, from the list of trades alone."""
    fee = broker.commission_per_lot / broker.lot_units
    found = []
    for bar in range(len(market)):
        money = broker.deposit
        for trade in trades:
            if trade.exit_bar <= bar:
                money += trade.result - trade.commission + trade.swap
            elif trade.entry_bar <= bar:
                price = exit_quote(market, bar, np.sign(trade.units))
                money += trade.units * (price - trade.entry_price) * market.conversion[bar]
                money += swap_until(market, broker, trade, bar) - abs(trade.units) * fee
        found.append(money)
    return found


@pytest.mark.parametrize("seed", range(60))
def test_the_account_adds_up_at_every_bar(seed):
    market, plan, broker = random_account(seed)
    if broker.account == "netting":  # its average price would hide what was held before it was enlarged
        plan = replace(plan, resize=False)
    run = run_plan(market, plan, broker)
    assert run.equity.tolist() == pytest.approx(equity_from_trades(market, broker, run.trades), abs=0.005)
    fee = broker.commission_per_lot / broker.lot_units
    for t in run.trades:
        rate = market.conversion[t.exit_bar - (t.why != END)]
        assert t.result == pytest.approx(t.units * (t.exit_price - t.entry_price) * rate, abs=1e-6)
        by_quotes = t.units * (t.quote_out - t.quote_in) * rate
        assert by_quotes == pytest.approx(t.result + t.spread_cost + t.slippage_cost, abs=1e-6)
        assert t.commission == pytest.approx(2 * abs(t.units) * fee)
        assert t.swap == pytest.approx(swap_until(market, broker, t, t.exit_bar), abs=1e-9)
        assert t.mae - 1e-9 <= min(0, t.result) <= max(0, t.result) <= t.mfe + 1e-9
        assert min(t.spread_cost, t.slippage_cost) >= 0
    net = sum(t.result - t.commission + t.swap for t in run.trades)
    costs = sum(t.spread_cost + t.slippage_cost + t.commission - t.swap for t in run.trades)
    assert run.equity[-1] == run.balance[-1] == pytest.approx(broker.deposit + net, abs=0.005)
    assert run.paid[-1] == pytest.approx(costs, abs=1e-6)
    assert run.position[-1] == run.margin[-1] == 0


def test_the_random_accounts_meet_what_they_are_meant_to():
    runs = [run_plan(*random_account(seed)) for seed in range(30)]
    reasons = {REASONS[t.why] for run in runs for t in run.trades}
    assert reasons == set(REASONS)
    assert sum(run.refused for run in runs) > 10
    assert sum(run.margin_calls for run in runs) > 1


@pytest.mark.parametrize("seed", range(20))
def test_netting_and_hedging_own_the_same_money_without_stops(seed):
    never = {"stop": np.nan, "take_profit": np.nan, "trailing": np.nan, "lots_per_money": 0.0}
    equity, deals = [], []
    for account in ("netting", "hedging"):
        market, plan, broker = random_account(seed, account=account, deposit=1e7, currency="")
        none = {name: np.full(len(plan), value) for name, value in never.items()}
        run = run_plan(market, replace(plan, resize=True, **none), broker)
        equity.append(run.equity.tolist())
        deals.append(run.deals)
    assert equity[0] == pytest.approx(equity[1], abs=0.005)
    assert deals[0] < deals[1]


@pytest.mark.parametrize("seed", range(30))
def test_nothing_after_t_changes_anything_up_to_t(seed):
    market, plan, broker = random_account(seed)
    rng = np.random.default_rng(seed)
    bar = int(rng.integers(5, 70))
    after = np.arange(len(market)) > bar
    shocks = np.exp(rng.normal(0, 0.05, len(market)))
    first = market.begin[bar + 1]
    finer = market.finer.copy()
    finer[:, first:] *= np.repeat(shocks, np.diff(market.begin))[first:]
    changed = {
        name: np.where(after, getattr(market, name) * shocks, getattr(market, name))
        for name in ("open", "high", "low", "close", "spread", "slippage", "conversion")
    }
    other_market = replace(market, finer=finer, nights_end=9, **changed)
    fresh = random_plan(rng, market.close)
    names = ("side", "lots", "lots_per_money", "stop", "take_profit", "trailing", "entry", "decided")
    rows = {name: np.where(after, getattr(fresh, name), getattr(plan, name)) for name in names}
    one, two = run_plan(market, plan, broker), run_plan(other_market, replace(plan, **rows), broker)
    for name in ("equity", "balance", "position", "margin", "paid"):
        assert getattr(one, name)[: bar + 1].tolist() == getattr(two, name)[: bar + 1].tolist()
    closed = [[t for t in run.trades if t.exit_bar <= bar] for run in (one, two)]
    assert closed[0] == closed[1]


def test_random_sides_on_martingales_earn_minus_the_costs():
    # Finer bars that are points of the path: what lies beyond a stop fills at the path's own price, as fair as any.
    broker = BrokerRules(deposit=1e6, spread_points=30.0, commission_per_lot=3.5, slippage_points=2.0)
    blank = replace(market_of(make_bars(np.ones(40), np.ones(40)), broker), begin=np.arange(0, 161, 4))
    net, costs = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        path = 1.1 * np.cumprod(np.where(rng.random(160) < 0.5, 1.001, 0.999))
        market = replace(blank, open=path[::4], close=path[3::4], finer=np.stack([path] * 3))
        side = rng.integers(-1, 2, 40)
        stop = market.close * (1 - side * 0.004)
        run = run_plan(market, replace(plain_plan(side, 1.0), stop=stop, trailing=np.full(40, 0.006)), broker)
        net.append(run.equity[-1] - broker.deposit)
        costs.append(run.paid[-1])
    before = np.array(net) + costs
    error = before.std(ddof=1) / np.sqrt(200)
    assert abs(before.mean()) < 2 * error
    assert np.mean(costs) > 5 * error  # so that a cost that were not taken would show


@pytest.mark.parametrize("wrong", [{"leverage": 0.0}, {"lot_step": -0.01}, {"deposit": np.nan}, {"lot_min": 0}])
def test_an_account_that_cannot_be_is_refused(wrong):
    with pytest.raises(OptionError, match=f"^{next(iter(wrong))} is .* above 0"):
        BrokerRules(**wrong)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"lot_step": 1.0, "lot_max": 0.5}, "lot_step 1 has no multiple"),
        ({"lot_min": 0.04, "lot_step": 0.03, "lot_max": 0.05}, r"from lot_min 0\.04 to lot_max 0\.05"),
        ({"hours": "08:00-08:00"}, "hours is '08:00-08:00', which lasts no time"),
        ({"spread_sessions": ("22:00-22:00 3",)}, "spread_sessions is '22:00-22:00', which lasts no time"),
    ],
)
def test_rules_under_which_nothing_is_ever_traded_are_refused(wrong, says):
    with pytest.raises(OptionError, match=says):
        BrokerRules(**wrong)


def test_a_spread_above_the_price_names_bar_and_cure():
    bars = make_bars(np.full(5, 1.1), np.full(5, 1.1), [10, 10, 200_000, 10, 10])
    with pytest.raises(DataError, match=r"bar of 2021-03-01T03.* is 200000 points, not below its price; mend"):
        market_of(bars, BrokerRules(spread_points="data"))
    with pytest.raises(ConfigError, match=r"set broker\.conversion"):
        market_of(bars, BrokerRules(currency="JPY"))


def held(bars, trading=None, policy="buy-and-hold", **broker):
    span = (bars.times[0], bars.times[-1])
    settings = BrokerRules(**{"deposit": 1e6, **broker})
    return run_backtest(bars, None, trading or TradingRules(), settings, context=2, policy=policy, span=span)


@pytest.mark.parametrize(
    ("trading", "broker", "says"),
    [
        ({"lots": 0.005}, {}, r"trading\.lots 0\.005 is below the least .* 0\.01 \(broker\.lot_min 0\.01.*raise lots"),
        ({"lots": 0.02}, {"lot_step": 0.03}, r"below the least size that the broker takes, 0\.03"),
        ({}, {"hours": "00:15-00:45"}, r"broker\.hours 00:15-00:45 hold the close of no bar of EURUSD-H1, such as 0"),
        ({}, {"slippage_points": 2e5}, r"slippage_points draws \d+ points for the bar of 2021-03-01T0.* not below its"),
    ],
)
def test_settings_under_which_nothing_can_trade_are_refused(trading, broker, says):
    bars = make_bars(np.full(24, 1.1), np.full(24, 1.1))
    with pytest.raises(ConfigError, match=says):
        held(bars, TradingRules(**trading), **broker)
    if "lots" in trading:
        assert not len(held(bars, TradingRules(**trading), "always-flat", **broker).trades)


def test_settings_that_just_let_something_trade_are_taken():
    bars = make_bars(np.full(24, 1.1), np.full(24, 1.1))
    assert len(held(bars, TradingRules(lots=0.03), lot_step=0.03).trades) == 1
    # The span has no close at 05:00, the series has.
    part = replace(bars, frame=bars.frame.iloc[:3])
    span = (part.times[0], part.times[-1])
    broker = BrokerRules(hours="05:00-05:01", timezone="UTC")
    run = run_backtest(bars, None, TradingRules(), broker, context=2, policy="buy-and-hold", span=span)
    assert not len(run.trades)
    # Draws go up to twice the mean: 54,900 points stay below 1.1, whatever is drawn.
    assert len(held(bars, slippage_points=54_900.0, leverage=30.0).trades) == 1


def test_a_deposit_is_refused_only_where_no_entry_could_be_carried():
    # 0.1 lot ties up 10,000 x open / 30: 400.00 at 1.2, 333.33 at 1.0, where the second forecast is acted on.
    closes = [1.2] * 8 + [1.0] * 8
    bars = make_bars(closes, [1.2] * 9 + [1.0] * 7)
    forecasts = make_forecasts(bars, [3, 9], [[1.3, 1.3], [1.1, 1.1]])
    rules = TradingRules()
    taken = run_backtest(bars, forecasts, rules, BrokerRules(deposit=334.0, spread_points=0.0), context=2)
    assert taken.trades["entry_price"].tolist() == [1.0]
    with pytest.raises(ConfigError, match=r"broker\.deposit 333 is below the margin of 0\.1 lot EURUSD, 333\.33"):
        run_backtest(bars, forecasts, rules, BrokerRules(deposit=333.0, spread_points=0.0), context=2)


def test_a_conversion_rate_older_than_a_week_is_none():
    # Rates until Friday, 5 March, 16:00. Bars of the 12th are a week old at 16:00, and one hour more at 17:00.
    start = np.datetime64("2021-03-12T00:00", "ns")
    rates = make_bars(np.full(16, 130.0), symbol="EURJPY", start=np.datetime64("2021-03-05T00:00", "ns"))
    broker = BrokerRules(currency="EUR", conversion="made")
    bars = make_bars(np.full(16, 150.0), np.full(16, 150.0), digits=3, symbol="USDJPY", start=start)
    assert market_of(bars, broker, rates).conversion.tolist() == [1 / 130.0] * 16
    longer = make_bars(np.full(17, 150.0), np.full(17, 150.0), digits=3, symbol="USDJPY", start=start)
    says = r"EURJPY has no rate for the bar of 2021-03-12T17.* is of 2021-03-05, 7 days before; use a series without"
    with pytest.raises(DataError, match=says):
        market_of(longer, broker, rates)
    weekly = make_bars([130.0, 131.0], symbol="EURJPY", timeframe="W1", start=np.datetime64("2021-02-13T00:00", "ns"))
    assert market_of(longer, broker, weekly).conversion.tolist() == [1 / 131.0] * 17  # of the 27th


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("lots", np.nan, "lots of bar 2 is nan; it must be a number of 0 or more"),
        ("lots_per_money", -1.0, "lots_per_money of bar 2 is -1.0"),
        ("side", np.nan, "side of bar 2 is nan; it must be 1, -1 or 0"),
        ("trailing", 0.0, "trailing of bar 2 is 0.0; it must be above 0"),
        ("stop", np.inf, "stop of bar 2 is inf"),
        ("decided", 3, "decided of bar 2 is 3; it must be a bar no later than its own"),
    ],
)
def test_a_plan_that_cannot_be_followed_names_the_bar(column, value, says):
    market = market_of(make_bars(np.full(5, 1.1), np.full(5, 1.1)), BrokerRules())
    plan = plain_plan(np.ones(5), 0.1)
    rows = getattr(plan, column).astype(type(value))
    rows[2] = value
    with pytest.raises(UserError, match=says):
        run_plan(market, replace(plan, **{column: rows}), BrokerRules())
    with pytest.raises(UserError, match="the plan's side has 4 rows for 5 bars"):
        run_plan(market, replace(plan, side=plan.side[:4]), BrokerRules())
