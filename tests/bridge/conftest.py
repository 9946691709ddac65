import numpy as np
import pytest
from live import Offline

from bridge.service import Desk
from forecasting.baselines import baseline
from forecasting.codecs import BinsCodec
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec, contexts
from strategies.signals import SignalRules


@pytest.fixture(scope="session")
def offline(eurusd):
    bars = eurusd
    spec = WindowSpec(context=16, horizon=3)
    codec = BinsCodec()
    forecaster = baseline("ewma-t", codec, spec, SamplingOptions(paths=16))
    desk = Desk(
        unique_id=bars.instrument.unique_id,
        forecaster=forecaster,
        windows=spec,
        calendar=bars.calendar,
        signal=SignalRules(signal="mean-vs-context", threshold_k=1.0, lots=0.1),
        round_trip_cost=0.0001,
        point=bars.instrument.point,
        close_only=bars.instrument.close_only,
    )
    times_ms = (bars.times.astype(np.int64) // 1_000_000).tolist()
    windows = contexts(bars, spec, forecaster.warm_up, np.arange(len(bars) - 30, len(bars)))
    return Offline(desk, times_ms, bars.closes.tolist(), windows)
