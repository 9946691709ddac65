"""Desks for a child process: a random walk that needs no model, on an hourly calendar."""

import os
import time
from dataclasses import replace

import numpy as np

from bridge.desk import Desk
from forecasting.calendars import RoundTheClock
from forecasting.errors import UserError
from forecasting.forecasts import Forecasts
from forecasting.windows import WindowSpec
from strategies.signals import SignalRules

HOUR = 3_600_000


class Drift:
    """Each step adds one pip. A close of 7 takes a moment, one of 8 fails, one of 9 ends the process."""

    sha = "drift"
    warm_up = 2

    def predict(self, contexts, progress=None):
        closes = contexts.closes[:, -1:]
        if (closes == 7.0).any():
            time.sleep(1.5)
        if (closes == 8.0).any():
            raise RuntimeError("a price nobody has seen")
        if (closes == 9.0).any():
            os._exit(3)
        mean = closes + 0.0001 * np.arange(1, contexts.ahead.shape[1] + 1)
        none = np.zeros_like(mean)
        quantiles = mean[:, None] + np.linspace(-0.003, 0.003, 7)[None, :, None]
        sigma = np.full(len(contexts), 0.01)
        forecasts = Forecasts(
            contexts.unique_id, contexts.cutoffs, contexts.ahead, closes[:, 0], sigma, mean, none, quantiles,
            none + 0.6, none, contexts.hashes(),
        )  # fmt: skip
        return type("Prediction", (), {"forecasts": forecasts})


def desk(unique_id="X-H1", model_id="drift/1", horizon=2):
    """A desk for any series of hours."""
    return Desk(
        unique_id=unique_id,
        model_id=model_id,
        forecaster=Drift(),
        windows=WindowSpec(context=3, horizon=horizon),
        calendar=RoundTheClock("H1"),
        tf_sec=3600,
        signal=SignalRules("threshold", threshold_k=1.0, lots=0.3),
        spread=0.00005,
        point=0.00001,
        close_only=False,
    )


class Momentum(Drift):
    """Up after a rise, down after a fall: a target that changes at every other bar and depends on closes alone."""

    sha = "momentum"

    def predict(self, contexts, progress=None):
        forecasts = super().predict(contexts).forecasts
        step = np.sign(contexts.closes[:, -1:] - contexts.closes[:, -2:-1]) * 0.002
        forecasts.mean[:] = contexts.closes[:, -1:] + step
        return type("Prediction", (), {"forecasts": forecasts})


def momentum(names):
    """Desks whose trades change sides."""
    return [replace(desk(name, "momentum/1"), forecaster=Momentum()) for name in names]


def desks(names):
    """A desk for each name; "bad" is the user's error."""
    print("what a library prints must not reach the answers")
    if "bad" in names:
        raise UserError("bad: no such run")
    return [desk(name) for name in names]
