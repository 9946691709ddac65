"""A replay through the real server and the Expert Advisor: equal to the backtest, or it says what is not."""

import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from simulated import built

from bridge.desk import Desk
from bridge.models import Inline
from bridge.terminal.build import EXPERT
from forecasting.bars import Bars, Instrument
from forecasting.baselines import Asked, baseline
from forecasting.calendars import MINUTES, FxWeek
from forecasting.codecs import BinsCodec
from forecasting.errors import UserError
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec, contexts
from strategies.contract import BrokerRules
from strategies.rules import TradingRules
from tunetrade.live import signal_rules
from tunetrade.replay import Case, hosted, replay
from tunetrade.replay_market import Trade, broker_clock, check_replayable, closes_of, trades_of_deals
from tunetrade.replay_report import compared

SPEC, CODEC = WindowSpec(context=16, horizon=3), BinsCodec(half_lives=(3.0,), weights=(1.0,))
BROKER = BrokerRules(
    deposit=25_000.0, spread_points="data", commission_per_lot=3.5, slippage_points=0.6, swap_long=-7.0
)
CASES = {
    "a": (TradingRules(signal="mean-vs-context", sizing="risk", trailing="atr:1.5", resize=True), BROKER),
    "b": (
        TradingRules(signal="mean-vs-context", sizing="volatility", stop="quantile:0.05", expiry_bars=2),
        replace(BROKER, account="hedging", hours="08:00-20:00", friday_close="21:45"),
    ),
}


@pytest.fixture(scope="module")
def bars():
    """Three weeks of hours of a random walk over the change to summer time, with holes, and jumps over weekends.

    The first week has two bars more than the calendar, on the broker's Saturday; the second none from Friday's 17:00
    UTC, 19:00 by the broker's clock, to 20:00, so that the bar dealt in after it is beyond the Friday close of 21:45.
    """
    rng, calendar = np.random.default_rng(2), FxWeek("H1")
    stamps = calendar.between(np.datetime64("2021-03-02", "ns"), np.datetime64("2021-03-19", "ns"))
    friday = (stamps > np.datetime64("2021-03-12T17:00")) & (stamps <= np.datetime64("2021-03-12T20:00"))
    times = stamps[(rng.random(len(stamps)) > 0.03) & ~friday]
    times = np.sort(np.append(times, np.array(["2021-03-05T23:00", "2021-03-06T00:00"], "datetime64[ns]")))
    path = rng.integers(-25, 26, (len(times), 6))
    path[:, 0] = np.where(np.diff(times, prepend=times[0]) > np.timedelta64(1, "h"), rng.integers(-150, 151), 0)
    walk = 120_000 + np.cumsum(path.ravel()).reshape(-1, 6)
    columns = {"open": walk[:, 0], "high": walk.max(1), "low": walk.min(1), "close": walk[:, -1]}
    frame = pd.DataFrame(columns, index=pd.DatetimeIndex(times, name="time", tz="UTC")) / 1e5
    frame["volume"], frame["spread"] = 1.0, rng.integers(3, 20, len(times)).astype(float)
    return Bars(frame, Instrument("EURUSD", "EUR", "USD", 5, "H1", "made", "0" * 64, close_only=False), calendar)


@pytest.fixture(scope="module")
def forecaster(bars):
    return baseline("ewma-t", Asked(bars, SPEC, SamplingOptions(paths=16), CODEC, CODEC.warm_up, (0, 99)))


@pytest.fixture(scope="module")
def host(bars, forecaster, tmp_path_factory):
    desks = [
        Desk(
            "EURUSD-H1", name, forecaster, SPEC, bars.calendar, 3600, signal_rules(rules.signal_rules, broker, bars),
            1e-4, 1e-5, close_only=False, resize=rules.resize,
        )
        for name, (rules, broker) in CASES.items()
    ]  # fmt: skip
    with hosted(Inline(desks), tmp_path_factory.mktemp("host")) as running:
        yield running


def case_of(bars, forecaster, name, magic=1):
    rules, broker = CASES[name]
    history = forecaster.warm_up + SPEC.context
    at = np.arange(history - 1, len(bars))
    forecasts = forecaster.predict(contexts(bars, SPEC, forecaster.warm_up, at)).forecasts
    span = forecasts.cutoff[0], forecasts.cutoff[-1]
    return Case(bars, span, forecasts, SPEC.context, rules, broker, name, history, magic=magic)


@pytest.mark.parametrize("name", list(CASES))
def test_a_replay_is_equal_to_its_backtest(bars, forecaster, host, name):
    seen = []
    parity = replay(case_of(bars, forecaster, name), host, built(EXPERT), lambda done, of: seen.append((done, of)))
    assert parity.equal, parity.lines()
    assert parity.trades[0] == parity.trades[1] > 10
    assert parity.forecasts == parity.bars - 1 > 200
    assert seen[-1] == (parity.forecasts, parity.forecasts) and seen == sorted(seen)
    assert parity.record()["equal"] and parity.lines()[-1].startswith("equal")


def test_a_replay_tells_other_forecasts_and_other_rules(bars, forecaster, host):
    """The last bit of one stored mean; then a backtest that risks less than the server was told."""
    case = case_of(bars, forecaster, "a", magic=2)
    case = replace(case, span=(case.span[0], bars.times[139]))
    case.forecasts.mean[5, 1] = np.nextafter(case.forecasts.mean[5, 1], 2)
    parity = replay(case, host, built(EXPERT))
    assert parity.forecasts_apart == (str(case.forecasts.cutoff[5]),) and not parity.equal
    shy = replace(case, magic=3, trading=replace(case.trading, risk_percent=0.3))
    parity = replay(shy, host, built(EXPERT))
    assert parity.only_backtest and parity.only_live and not parity.equal
    assert any("Expert Advisor only" in line for line in parity.lines()) and parity.lines()[-1] == "NOT equal"


def test_deals_become_trades():
    """0.3 bought in two parts at 1.10 and 1.13, 0.1 sold, turned round to 0.2 short, and closed by its stop."""
    rows = [
        (7, 5, 1, 0, 0.1, 1.10, -0.5, 0, 0, 3), (7, 6, 1, 0, 0.2, 1.13, -1.0, 0, 0, 3),
        (7, 8, -1, 1, 0.1, 1.15, -0.5, -0.1, 300.0, 5), (7, 9, -1, 2, 0.4, 1.14, -2.0, 0, 400.0, 3),
        (7, 11, 1, 1, 0.2, 1.16, -1.0, 0, -400.0, 4),
    ]  # fmt: skip
    names = ("position", "bar", "side", "entry", "lots", "price", "commission", "swap", "profit", "reason")
    trades = trades_of_deals([dict(zip(names, row, strict=True)) for row in rows], first=5)
    assert [(t.entry_bar, t.exit_bar, t.why) for t in trades] == [(0, 3, 2), (0, 4, 0), (4, 6, 1)]
    assert [t.lots for t in trades] == pytest.approx([0.1, 0.2, -0.2])
    assert [t.entry_price for t in trades] == pytest.approx([1.12, 1.12, 1.14])
    assert [t.net for t in trades] == pytest.approx([300 - 0.1 - 0.5 - 0.5, 400 - 1 - 1, -400 - 1 - 1])


def test_only_equal_trades_are_matched():
    one = Trade(1, 4, 0.1, 1.1, 1.2, 9.0, 0)
    times = np.arange(9).astype("datetime64[h]")

    def apart(ours, live):
        found = compared(
            ours, live, times, balances=(1.0, 1.0), forecasts=(0, ()), troubles=(), seconds=1.0, point=1e-5
        )
        return len(found.only_backtest), len(found.only_live), found.equal

    assert apart([one, one], [one, one]) == (0, 0, True)
    assert apart([one, one], [one]) == (1, 0, False)
    for change in ({"exit_price": 1.20001}, {"lots": 0.11}, {"entry_bar": 2}, {"net": 9.1}, {"entry_price": 1.1000001}):
        assert apart([one], [replace(one, **change)]) == (1, 1, False)


def test_a_clock_that_no_rule_describes_is_refused(bars):
    assert broker_clock(bars, "us-dst").rule == 0 and broker_clock(bars, "+03:00").rule == 2
    year = replace(bars, frame=bars.frame.set_index(pd.date_range("2021-01-04", periods=len(bars), freq="D", tz="UTC")))
    assert broker_clock(year, "Europe/Athens").rule == 1
    with pytest.raises(UserError, match="neither with New York nor with Europe"):
        broker_clock(year, "Australia/Sydney")


@pytest.mark.parametrize(
    ("timeframe", "zone"), [("M15", "us-dst"), ("H4", "us-dst"), ("D1", "+02:00"), ("W1", "us-dst")]
)
def test_the_expert_reads_the_closes_back_from_the_opens(timeframe, zone):
    """Over both changes of a year; a week opens on Sunday, all others within the day before their close."""
    times = FxWeek(timeframe, zone).between(np.datetime64("2021-03-01", "ns"), np.datetime64("2021-11-20", "ns"))
    frame = pd.DataFrame({"close": 1.0}, index=pd.DatetimeIndex(times, name="time", tz="UTC"))
    facts = Instrument("EURUSD", "EUR", "USD", 5, timeframe, "made", "0" * 64, close_only=False)
    made = Bars(frame, facts, FxWeek(timeframe, zone))
    opens = broker_clock(made, zone).opens
    local = opens.astype("datetime64[s]")
    assert (closes_of(opens, made, zone) == times).all()
    if timeframe == "W1":
        assert (
            set(((local.astype("datetime64[D]").astype(int) + 4) % 7).tolist()) == {0} and (opens % 86_400 == 0).all()
        )
    else:
        assert (opens % (60 * MINUTES[timeframe]) == 0).all()
    with pytest.raises(UserError, match="none of a server whose clock"):
        broker_clock(
            replace(made, instrument=replace(facts, timeframe="D1" if timeframe != "D1" else "H4")), "Asia/Tokyo"
        )


def test_prices_that_no_terminal_shows_are_refused(bars):
    check_replayable(bars, BROKER)
    fine = replace(bars, frame=bars.frame.assign(close=bars.frame["close"] + 3e-6))
    with pytest.raises(UserError, match="more than 5 decimals"):
        check_replayable(fine, BROKER)


def test_a_server_that_cannot_start_says_so(tmp_path):
    class Broken(Inline):
        def start(self):
            raise UserError("no such model")

    before = threading.active_count()
    with pytest.raises(UserError, match="no such model"), hosted(Broken([]), tmp_path):
        pass
    assert threading.active_count() == before
