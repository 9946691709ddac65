import numpy as np
import pytest
from live import Offline

from bridge.client import ClosedBar
from bridge.desk import Desk
from forecasting.baselines import Asked, baseline
from forecasting.codecs import BinsCodec
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec, contexts
from strategies.contract import BrokerRules
from strategies.rules import TradingRules


@pytest.fixture(scope="session")
def offline(eurusd):
    bars = eurusd
    rules = TradingRules(signal="mean-vs-context")
    spec = WindowSpec(context=16, horizon=3)
    codec = BinsCodec()
    forecaster = baseline("ewma-t", Asked(bars, spec, SamplingOptions(paths=16), codec, codec.warm_up, (0, 1000)))
    desk = Desk(
        unique_id=bars.instrument.unique_id,
        model_id="ewma-t",
        forecaster=forecaster,
        windows=spec,
        calendar=bars.calendar,
        tf_sec=86_400,
        signal=rules.signal_rules,
        spread=BrokerRules().spread_points * bars.instrument.point,
        point=bars.instrument.point,
        close_only=bars.instrument.close_only,
    )
    times_ms = (bars.times.astype(np.int64) // 1_000_000).tolist()
    windows = contexts(bars, spec, forecaster.warm_up, np.arange(len(bars) - 30, len(bars)))
    closed = [ClosedBar.flat(time_ms, close) for time_ms, close in zip(times_ms, bars.closes.tolist(), strict=True)]
    return Offline(bars, rules, desk, closed, windows)
