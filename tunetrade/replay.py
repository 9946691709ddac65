"""Live against backtest, trade for trade: a run's bars through the real server and the Expert Advisor's own code.

The server runs in a thread of this process, the models in a process of their own, the Expert Advisor in the simulated
terminal; between them are the sockets, messages and guards of a live day. What it trades is held to Backtrader's run
of the same bars, and what came over the wire to the forecasts stored. What this proves and what it cannot:
bridge/terminal/README.md.
"""

import asyncio
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bridge.journal import Journal
from bridge.messages import QUANTILES
from bridge.models import Answer, Models
from bridge.server import Options, serve
from bridge.service import Facts, Job
from bridge.terminal.build import Program
from forecasting.bars import Bars
from forecasting.calendars import MINUTES
from forecasting.errors import UserError
from forecasting.forecasts import Forecasts
from strategies.backtest import Span, bars_between, check_deposit
from strategies.broker import run_plan
from strategies.contract import BrokerRules
from strategies.market import Market, account_currency, market_of
from strategies.plan import Plan
from strategies.plans import plan_of
from strategies.rules import TradingRules
from strategies.run import Run
from strategies.sizing import capped
from tunetrade.replay_market import Trade, broker_clock, check_replayable, market_text, trades_of_deals
from tunetrade.replay_report import Parity, compared

ACK = '"type":"ack"'
PER_BAR_MS = 60_000
"""Time after which a bar without an answer counts as unsettled."""

OFF = {
    "InpDryRun": False, "InpStopAlways": False, "InpMaxAge": 0, "InpMaxSpread": 0, "InpDailyLoss": 0, "InpMaxLots": 0,
    "InpMaxPositions": 0, "InpTimerMs": 2, "InpBackoffMs": 50,
}  # fmt: skip
"""Inputs that switch off the guards a backtest does not have."""


@dataclass(frozen=True)
class Case:
    """What is replayed.

    bars: the span and the history before it that its first forecast needs. forecasts: at every close of the span, but
    for the last. context: closes of a signal's context mean. model: the desk's name. history: bars of a forecast.
    magic: number of the Expert Advisor, one for each that runs beside others.
    """

    bars: Bars
    span: Span
    forecasts: Forecasts
    context: int
    trading: TradingRules
    broker: BrokerRules
    model: str
    history: int
    conversion: Bars | None = None
    finer: Bars | None = None
    magic: int = 1


@dataclass(frozen=True)
class Offline:
    """Backtrader's run of a case."""

    market: Market
    plan: Plan
    run: Run
    traded: Bars


def offline(case: Case) -> Offline:
    """The backtest of a case's span; its last bar closes what is open."""
    broker = capped(case.broker, case.trading.max_lots)
    traded = bars_between(case.bars, case.span)
    market = market_of(traded, broker, case.conversion, case.finer)
    plan = plan_of(case.bars, traded, case.forecasts, case.trading, broker, market, case.context)
    check_deposit(case.bars, market, plan, broker)
    return Offline(market, plan, run_plan(market, plan, broker), traded)


@dataclass
class Host:
    """A server that runs: where, and what it keeps."""

    port: int
    journal: Path
    listeners: list[Callable[[Mapping[str, Any]], None]] = field(default_factory=list)


@dataclass(frozen=True)
class Ready:
    """Models that have been started already."""

    models: Models
    facts: Mapping[str, Facts]

    def start(self) -> Mapping[str, Facts]:
        """What they serve."""
        return self.facts

    def ask(self, jobs: Sequence[Job]) -> list[Answer]:
        """The answer to each job."""
        return self.models.ask(jobs)

    def close(self) -> None:
        """Not these: whoever started them does."""


@contextlib.contextmanager
def hosted(models: Models, folder: Path) -> Iterator[Host]:
    """The real server on a free port of loopback, in a thread, until the block ends; its journal lies in `folder`."""
    host = Host(0, folder / "journal.sqlite")
    ready, failure = threading.Event(), []
    loop = asyncio.SelectorEventLoop()
    tasks: list[asyncio.Task[None]] = []

    def started(port: int) -> None:
        host.port = port
        ready.set()

    def tell(event: Mapping[str, Any]) -> None:
        for listener in host.listeners:
            listener(event)

    def work() -> None:
        try:
            with contextlib.closing(loop), Journal(host.journal) as journal:
                tasks.append(loop.create_task(serve(models, journal, Options(port=0), ready=started, tell=tell)))
                with contextlib.suppress(asyncio.CancelledError):
                    loop.run_until_complete(tasks[0])
        except Exception as error:
            failure.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="server")
    thread.start()
    ready.wait()
    try:
        if failure:
            raise failure[0]
        yield host
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(tasks[0].cancel)
        thread.join()


def replay(case: Case, host: Host, program: Program, progress: Callable[[int, int], None] | None = None) -> Parity:
    """Replay a case against a server that serves its model, and compare. program: the Expert Advisor, built."""
    wanted = offline(case)
    begun = time.perf_counter()
    deals, end, troubles = _through_terminal(case, wanted, program, host, progress)
    seconds = time.perf_counter() - begun
    broker = case.broker
    ours = [
        Trade(
            int(t.entry_bar), int(t.exit_bar), t.units / broker.lot_units, float(t.entry_price), float(t.exit_price),
            float(t.result - t.commission + t.swap), int(t.why),
        )
        for t in wanted.run.trades
    ]  # fmt: skip
    first = len(_kept(case)) - len(wanted.market)
    live = trades_of_deals(deals, first)
    checked, wrong = _forecasts_apart(case, host.journal, wanted)
    return compared(
        ours,
        live,
        wanted.market.times,
        balances=(float(wanted.run.balance[-1]), float(end.get("balance", float("nan")))),
        forecasts=(checked, wrong),
        troubles=troubles,
        seconds=seconds,
        point=wanted.market.point,
    )


def _kept(case: Case) -> Bars:
    """The bars of the span and as many before it as a forecast needs, or more."""
    times, ends = case.bars.times, np.array(case.span, "datetime64[ns]")
    first = int(np.searchsorted(times, ends[0]))
    if first + 1 < case.history:
        raise UserError(
            f"{case.bars.instrument.unique_id}: {first + 1} bars up to {times[first]}, and a forecast needs "
            f"{case.history}; replay from a later day, or give earlier bars too"
        )
    last = int(np.searchsorted(times, ends[1], side="right"))
    return replace(case.bars, frame=case.bars.frame.iloc[first + 1 - case.history : last])


def _through_terminal(
    case: Case, wanted: Offline, program: Program, host: Host, progress: Callable[[int, int], None] | None
) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """Deals of the Expert Advisor in order, what the terminal said at its end, and what went wrong on the way."""
    kept, instrument = _kept(case), case.bars.instrument
    check_replayable(kept, case.broker)
    clock = broker_clock(kept, _zone(kept, case.broker))
    total, done = len(wanted.market) - 1, 0

    def listen(event: Mapping[str, Any]) -> None:
        nonlocal done
        if event["event"] == "forecast" and event["model_id"] == case.model:
            done += 1
            if progress:
                progress(min(done, total), total)

    inputs = OFF | {
        "InpPort": host.port, "InpSeries": instrument.unique_id, "InpModel": case.model,
        "InpMagic": case.magic, "InpClock": clock.rule, "InpHours": case.broker.hours,
        "InpFridayClose": case.broker.friday_close,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        market = Path(folder) / "market"
        currency = account_currency(instrument, case.broker)
        market.write_text(market_text(kept, wanted.market, clock, case.broker, currency), encoding="utf-8")
        terminal = {
            "MARKET": market, "FILES": folder, "WATCH": ACK, "EAGER": 1, "BAR_MS": PER_BAR_MS,
            "RUN_MS": 600_000 + 1_000 * len(wanted.market), "LINGER_MS": 0,
        }  # fmt: skip
        host.listeners.append(listen)
        process = program.start(inputs, terminal)
        try:
            assert process.stdout is not None
            events = [line.rstrip("\n").partition("\t") for line in process.stdout]
        finally:
            host.listeners.remove(listen)
            process.kill()
            process.wait()
    deals = [json.loads(text) for kind, _, text in events if kind == "deal"]
    ends = [text for kind, _, text in events if kind == "end" and text.startswith("{")]
    troubles = [f"{kind}: {text}" for kind, _, text in events if kind in ("critical", "unsettled")]
    if not ends:
        troubles += ["the terminal ended early: " + " | ".join("".join(event) for event in events[-3:])]
    return deals, json.loads(ends[-1]) if ends else {}, troubles


def _zone(bars: Bars, broker: BrokerRules) -> str:
    """The server's clock: broker.timezone, but that by which longer bars were cut where no guard goes by the clock."""
    cut = str(getattr(bars.calendar, "alignment", broker.timezone))
    longer = MINUTES[bars.instrument.timeframe] > 60 and not bars.instrument.close_only
    return cut if longer and not (broker.hours or broker.friday_close) else broker.timezone


def _forecasts_apart(case: Case, journal: Path, wanted: Offline) -> tuple[int, list[str]]:
    """How many forecasts of the wire were held to those stored, and the cutoffs of those of other bytes."""
    import sqlite3

    asked = wanted.market.times[:-1]
    with contextlib.closing(sqlite3.connect(journal)) as base:
        rows = base.execute(
            "SELECT bar_time_ms, body FROM forecasts WHERE model_id = ? ORDER BY bar_time_ms", (case.model,)
        ).fetchall()
    told = {np.datetime64(time_ms, "ms").astype("datetime64[ns]"): body for time_ms, body in rows}
    at = {cutoff: n for n, cutoff in enumerate(case.forecasts.cutoff)}
    wrong = []
    for cutoff in asked:
        body = told.get(cutoff)
        if body is None or cutoff not in at or not same_forecast(json.loads(body), case.forecasts, at[cutoff]):
            wrong.append(str(cutoff))
    return len(asked), wrong


def same_forecast(told: Mapping[str, Any], stored: Forecasts, row: int) -> bool:
    """Whether a forecast message holds the bytes of a row: mean, chances, quantiles, and what they were made of."""
    numbers = [told["mean"], told["p_up"], *(told[name] for name in QUANTILES)]
    own = [stored.mean[row], stored.p_up[row], *stored.quantiles[row]]
    same = all(
        np.array(a, np.float64).tobytes() == np.ascontiguousarray(b, np.float64).tobytes()
        for a, b in zip(numbers, own, strict=True)
    )
    return same and told["close_ref"] == float(stored.anchor[row])
