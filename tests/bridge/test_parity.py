"""Every signal, size and exit over the real wire: the targets of the backtest, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from live import running

from bridge.client import Account, Client, ClosedBar
from bridge.desk import Desk
from forecasting.baselines import Asked, baseline
from forecasting.codecs import BinsCodec
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec, contexts
from strategies.contract import BrokerRules
from strategies.plans import bars_per_year, targets
from strategies.rules import TradingRules
from strategies.signals import SIGNALS

BROKER = BrokerRules(spread_points="data", commission_per_lot=3.5, deposit=25_000.0, lot_step=0.01)
RULES = [
    *(TradingRules(signal=name, threshold_k=0.01, probability_margin=0.0, quantile_level=0.25) for name in SIGNALS),
    *(
        TradingRules(signal="mean-vs-context", sizing=sizing, stop=stop, take_profit=profit, trailing=trailing)
        for sizing, stop, profit, trailing in (
            ("risk", "atr:2.0", "points:300", ""),
            ("risk", "", "", "atr:1.5"),
            ("volatility", "points:150", "quantile:0.95", "points:90"),
            ("kelly", "quantile:0.05", "", ""),
        )
    ),
    TradingRules(signal="mean-vs-context", expiry_bars=2, resize=True, lots=0.37),
]
SHOWN = 6


@pytest.fixture(scope="module")
def ranged(hourly):
    """Hourly bars with highs, lows and a spread of their own."""
    frame, draw = hourly.frame.copy(), np.random.default_rng(3)
    frame["high"] += draw.uniform(0, 2e-3, len(frame))
    frame["low"] -= draw.uniform(0, 2e-3, len(frame))
    frame["spread"] = draw.integers(5, 40, len(frame)).astype(float)
    return replace(hourly, frame=frame)


def desk_of(bars, rules, name, forecaster, spec):
    years = bars_per_year(bars.calendar) if rules.sizing == "volatility" else np.nan
    return Desk(
        unique_id="EURUSD-H1",
        model_id=name,
        forecaster=forecaster,
        windows=spec,
        calendar=bars.calendar,
        tf_sec=3600,
        signal=replace(rules.signal_rules, broker=BROKER, bars_per_year=years),
        spread=0.0,
        point=bars.instrument.point,
        close_only=False,
        resize=rules.resize,
    )


def test_every_signal_and_sizing_rule_gives_the_targets_of_the_backtest(ranged):
    spec, codec = WindowSpec(context=16, horizon=5), BinsCodec()
    asked = Asked(ranged, spec, SamplingOptions(paths=16), codec, codec.warm_up, (0, 1000))
    forecaster = baseline("ewma-t", asked)
    desks = [desk_of(ranged, rules, str(at), forecaster, spec) for at, rules in enumerate(RULES)]
    at = np.arange(len(ranged) - SHOWN, len(ranged))
    forecasts = forecaster.predict(contexts(ranged, spec, forecaster.warm_up, at)).forecasts
    times = ranged.times.astype(np.int64) // 1_000_000
    rows = [ClosedBar(*row) for row in zip(times.tolist(), *ranged.frame.to_numpy().T.tolist(), strict=True)]
    sides = set()
    with running(*desks) as address:
        for rules, desk in zip(RULES, desks, strict=True):
            with Client.connect(address, "EURUSD-H1", model=desk.model_id) as client:
                client.account = Account(equity=BROKER.deposit)
                got = [client.backfill(rows[: 1 - SHOWN]), *map(client.send_bar, rows[1 - SHOWN :])]
            wanted = targets(ranged, forecasts, rules, spec.context, BROKER)
            for answer, target in zip(got, wanted, strict=True):
                exits = (answer.stop, answer.take_profit, answer.trailing)
                assert exits == (target.stop, target.take_profit, target.trailing), desk.signal
                assert (answer.position, answer.lots) == (target.position, target.size), desk.signal
                assert np.datetime64(answer.expiry_ms, "ms") == target.expiry
                assert (answer.reason, answer.resize) == (target.reason[:300], rules.resize)
                sides.add(answer.position)
    assert len(sides) > 1
