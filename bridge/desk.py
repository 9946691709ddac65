"""From a job to the forecast message: the half of the link that has the model, in a process of its own.

The bars of a session reach the model in the same `Contexts` record as the backtest's windows, and its target comes from
the same signal function: a live forecast has the bytes of the one made offline, alone or among those of other peers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge import messages
from bridge.messages import MAX_HISTORY, MAX_HORIZON, QUANTILES
from bridge.service import Facts, Job
from forecasting.calendars import SessionCalendar
from forecasting.errors import ConfigError
from forecasting.forecasts import QUANTILE_COLUMNS, Forecast
from forecasting.windows import Contexts, WindowSpec
from strategies.signals import (
    ATR_BARS,
    MarketState,
    SignalRules,
    Target,
    average_true_range,
    check_horizon,
    find_signal,
    round_trip_cost,
    target_position,
)  # fmt: skip

if TYPE_CHECKING:
    from forecasting.forecaster import Forecaster

assert QUANTILES == QUANTILE_COLUMNS


@dataclass(frozen=True)
class Desk:
    """One series served by one model under one signal.

    model_id: its name among those of the series. tf_sec: length of a bar. spread: in price, used where a bar does not
    tell its own. point: price of one point, of the signal. close_only: orders fill at the next close. resize: whether
    a position held follows changes of the size wanted.
    """

    unique_id: str
    model_id: str
    forecaster: "Forecaster"
    windows: WindowSpec
    calendar: SessionCalendar
    tf_sec: int
    signal: SignalRules
    spread: float
    point: float
    close_only: bool
    resize: bool = False

    def __post_init__(self) -> None:
        find_signal(self.signal.signal)
        check_horizon(self.windows.horizon, self.close_only, self.signal.expiry_bars)
        if self.signal.asks_atr and self.history <= ATR_BARS:
            raise ConfigError(
                f"{self.unique_id}: stops in ATR need {ATR_BARS + 1} bars, the model sees {self.history}; use points "
                "or quantiles"
            )
        if self.windows.horizon > MAX_HORIZON or self.history > MAX_HISTORY:
            raise ConfigError(
                f"{self.unique_id}: a live forecast has at most {MAX_HORIZON} steps and {MAX_HISTORY} bars of history, "
                f"not {self.windows.horizon} and {self.history}; serve a model of a shorter horizon or half-life"
            )

    @property
    def history(self) -> int:
        """Bars a forecast needs, M + C."""
        return self.forecaster.warm_up + self.windows.context

    @property
    def facts(self) -> Facts:
        """What the process of the sockets is told."""
        return Facts(
            unique_id=self.unique_id,
            model_id=self.model_id,
            model_sha=self.forecaster.sha,
            history=self.history,
            horizon=self.windows.horizon,
            tf_sec=self.tf_sec,
            max_lots=self.signal.max_lots,
        )


def forecast_jobs(jobs: Sequence[Job], desks: Mapping[str, Desk]) -> list[messages.Forecast | Exception]:
    """The forecast of each job, or what prevented it; jobs of one desk go through the model together."""
    done: dict[int, messages.Forecast | Exception] = {}
    for key in dict.fromkeys(job.desk for job in jobs):
        at = [index for index, job in enumerate(jobs) if job.desk == key]
        done |= dict(zip(at, _of_desk([jobs[index] for index in at], desks[key]), strict=True))
    return [done[index] for index in range(len(jobs))]


def _of_desk(jobs: Sequence[Job], desk: Desk) -> list[messages.Forecast | Exception]:
    try:
        contexts = contexts_of(jobs, desk)
        forecasts = desk.forecaster.predict(contexts).forecasts
        rows = [forecasts.row(index) for index in range(len(jobs))]
    except Exception as error:
        if len(jobs) == 1:
            return [error]
        return [_of_desk([job], desk)[0] for job in jobs]  # one peer's bars must not cost the others their forecast
    answers: list[messages.Forecast | Exception] = []
    for job, row in zip(jobs, rows, strict=True):
        try:
            target = target_position(row, market_of(job, desk), rules_of(job, desk))
            answers.append(forecast_message(row, target, desk, job))
        except Exception as error:
            answers.append(error)
    return answers


def contexts_of(jobs: Sequence[Job], desk: Desk) -> Contexts:
    """The windows that the backtest would have cut at the jobs' last bars."""
    times = np.array([[row[0] for row in job.rows] for job in jobs], dtype="datetime64[ms]").astype("datetime64[ns]")
    return Contexts(
        unique_id=desk.unique_id,
        cutoffs=times[:, -1],
        closes=np.array([[row[4] for row in job.rows] for job in jobs], dtype=np.float64),
        times=times,
        ahead=desk.calendar.following_many(times[:, -1], desk.windows.horizon),
    )


def market_of(job: Job, desk: Desk) -> MarketState:
    """What the signal may know: as in the backtest, with the spread, equity and conversion that came with the bar."""
    high, low, close = (np.array([row[at] for row in job.rows], np.float64) for at in (2, 3, 4))
    points = job.rows[-1][6]
    spread = desk.spread if points < 0 else points * job.point
    return MarketState(
        context_mean=float(close[-desk.windows.context :].mean()),
        last_close=float(close[-1]),
        round_trip_cost=float(round_trip_cost(desk.signal.broker, spread, job.conversion, desk.point)),
        point=desk.point,
        close_only=desk.close_only,
        spread=spread,
        conversion=job.conversion,
        atr=float(average_true_range(high, low, close)[-1]),
        equity=job.equity,
    )


def rules_of(job: Job, desk: Desk) -> SignalRules:
    """The desk's rules, with lots as the peer's broker takes them; commission stays what it is for a unit."""
    own = desk.signal.broker
    if (own.lot_units, own.lot_min, own.lot_step, own.lot_max) == (
        job.lot_units,
        job.lot_min,
        job.lot_step,
        job.lot_max,
    ):
        return desk.signal
    broker = replace(
        own,
        commission_per_lot=own.commission_per_unit * job.lot_units,
        lot_units=job.lot_units,
        lot_min=job.lot_min,
        lot_step=job.lot_step,
        lot_max=job.lot_max,
    )
    return replace(desk.signal, broker=broker)


def forecast_message(forecast: Forecast, target: Target, desk: Desk, job: Job) -> messages.Forecast:
    """A forecast and its target as they go over the wire; it is valid until the next bar should close."""
    quantiles: dict[str, Any] = dict(zip(QUANTILES, map(tuple, forecast.quantiles.tolist()), strict=True))
    return messages.Forecast(
        unique_id=forecast.unique_id,
        model_id=desk.model_id,
        model_sha=desk.forecaster.sha,
        input_sha=forecast.input_sha,
        bar_time_ms=_ms(forecast.cutoff),
        broker_time=job.broker_time,
        tf_sec=desk.tf_sec,
        close_ref=forecast.anchor,
        issued_ms=job.now_ms,
        valid_until_ms=_ms(forecast.ds[0]),
        position=target.position,
        lots=target.size,
        stop=target.stop,
        take_profit=target.take_profit,
        trailing=target.trailing,
        resize=desk.resize,
        expiry_ms=_ms(target.expiry),
        reason=target.reason[:300],
        horizon=forecast.horizon,
        mean=tuple(forecast.mean.tolist()),
        **quantiles,
        p_up=tuple(forecast.p_up.tolist()),
    )


def _ms(stamp: np.datetime64) -> int:
    return int(stamp.astype("datetime64[ms]").astype(np.int64))
