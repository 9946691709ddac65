"""Run folders for a replay and for the Strategy Tester: which bars, which forecasts, under which rules."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forecasting.bars import Bars, load_bars
from forecasting.errors import ConfigError, UserError, unknown
from forecasting.files import read_json
from forecasting.forecasts import Forecasts
from forecasting.sources.options import AUTO
from forecasting.zones import check_zone, from_utc
from strategies.backtest import Span, bars_between
from strategies.contract import ACCOUNTS
from strategies.market import check_hours, market_of
from strategies.plans import expiries, lay_out, plan_on
from strategies.sizing import capped, check_lots
from strategies.targets import targets_text
from tunetrade.beside import series_beside
from tunetrade.cell import Cell, read_cell
from tunetrade.ensembles import forecasts_of
from tunetrade.replay_market import broker_opens, check_replayable

if TYPE_CHECKING:
    from tunetrade.replay import Case


@dataclass(frozen=True)
class Asked:
    """What a replay was asked for: run folder, bars in place of its own, first and last day, account; "" for none."""

    run: str
    bars: str = ""
    first: str = ""
    last: str = ""
    account: str = ""


def cell_of(folder: str, ensembles: bool = False) -> Cell:
    """The cell of a run folder that has forecasts; UserError says what else it is."""
    path = Path(folder).resolve()
    if not (path / "run.json").is_file():
        raise UserError(f"{folder} is no run folder: it has no run.json; name one such as runs/demo/EURUSD-D1/lora/1")
    cell = read_cell(path)
    if cell.kind == "ensemble" and not ensembles:
        names = ", ".join(cell.study.ensemble[cell.method].members)
        raise UserError(f"{folder} is an ensemble, of {names}, and has no live forecast; name the run of a member")
    if cell.kind not in ("method", "baseline", "ensemble"):
        raise UserError(f"{folder} is of kind {cell.kind} and forecasts nothing; name the run of a model")
    return cell


def own_bars(cell: Cell, folder: str) -> Bars:
    """The bars a run was made from; UserError where its source holds others by now."""
    bars = load_bars(cell.source, cell.study.source)
    if bars.instrument.sha256 != read_json(cell.paths.run)["data_sha"]:
        raise UserError(
            f"{cell.source} holds other bars than those {folder} was made from; run its study again, or put the old "
            "bars back"
        )
    return bars


def stored_forecasts(cell: Cell, folder: str) -> Forecasts:
    """The forecasts of a run; UserError where they are not there or not finished."""
    if not (cell.paths.forecasts.is_file() and read_json(cell.paths.run)["stages"].get("forecast")):
        raise UserError(f"{cell.paths.forecasts} is missing or unfinished; run `tunetrade forecast {folder}` first")
    return forecasts_of(cell)


def span_between(cutoffs: np.ndarray, first: str, last: str) -> Span:
    """First and last of the cutoffs on days from `first` to `last`, both included; ConfigError where they are few."""
    low, high = (_day(text, name) for text, name in ((first, "--from"), (last, "--to")))
    inside = np.ones(len(cutoffs), bool)
    if low is not None:
        inside &= cutoffs >= low
    if high is not None:
        inside &= cutoffs < high + np.timedelta64(1, "D")
    chosen = cutoffs[inside]
    if len(chosen) < 2:
        raise ConfigError(
            f"{len(chosen)} bars with a forecast from {first or 'the first'} to {last or 'the last'}; there are some "
            f"from {cutoffs[0].astype('datetime64[D]')} to {cutoffs[-1].astype('datetime64[D]')}; choose such days"
        )
    return chosen[0], chosen[-1]


def _day(text: str, name: str) -> np.datetime64 | None:
    if not text:
        return None
    try:
        days = np.array([text], "datetime64[D]").astype("datetime64[ns]")
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; it must be a day, such as 2024-03-01") from None
    day: np.datetime64 = days[0]
    return day


def other_bars(cell: Cell, own: Bars, source: str) -> Bars:
    """Bars of the same series from elsewhere, on the calendar of the run's own."""
    bars = load_bars(source, cell.study.source)
    if bars.instrument.unique_id != own.instrument.unique_id:
        raise ConfigError(
            f"--bars is {bars.instrument.unique_id}, the run was made on {own.instrument.unique_id}; give the same "
            "series"
        )
    instrument = replace(bars.instrument, digits=own.instrument.digits, close_only=own.instrument.close_only)
    return Bars(bars.frame, instrument, own.calendar)


def account_of(cell: Cell, account: str) -> Cell:
    """The cell with another kind of account, where one is asked for."""
    if not account:
        return cell
    if account not in ACCOUNTS:
        raise ConfigError(unknown("account", account, ACCOUNTS))
    return replace(cell, study=replace(cell.study, broker=replace(cell.study.broker, account=account)))


def count_trial(asked: Asked) -> None:
    """Put another kind of account into the ledger, as `tunetrade backtest --set` of the whole run does.

    Whatever days or bars are replayed: what has been looked at is the rule, and a part of it is no trial of its own.
    """
    from tunetrade.cell import trade
    from tunetrade.trials import record

    if not asked.account:
        return
    cell = account_of(cell_of(asked.run), asked.account)
    result, _ = trade(cell, own_bars(cell, asked.run))
    record(cell, read_json(cell.paths.run), result.equity)


def targets_of_run(folder: str, zone: str = "") -> tuple[str, str, int]:
    """The targets file of a run's stored forecasts: series, text, rows. zone: of the tester's clock, "" the run's."""
    cell = cell_of(folder, ensembles=True)
    study = cell.study
    bars, forecasts = own_bars(cell, folder), stored_forecasts(cell, folder)
    if bars.instrument.close_only:
        raise UserError(
            f"{folder} trades {bars.instrument.unique_id}, fixings that no terminal has bars of; export a run of a "
            "broker's own bars, such as a study of an MT5 export"
        )
    rules, broker = study.trading, capped(study.broker, study.trading.max_lots)
    if rules.sizing == "fixed":
        check_lots(rules.lots, broker)
    check_hours(bars, broker)
    zone = check_zone(zone or (study.source.server_tz if study.source.server_tz != AUTO else study.broker.timezone))
    traded = bars_between(bars, (forecasts.cutoff[0], forecasts.cutoff[-1]))
    conversion, finer = series_beside(study)
    market = market_of(traded, broker, conversion, finer)
    layout = lay_out(bars, traded, forecasts, broker, market, study.windows.context)
    plan = plan_on(layout, rules)
    ends = from_utc(expiries(layout, rules), zone).astype("datetime64[s]").astype(np.int64)
    unique_id = bars.instrument.unique_id
    text = targets_text(unique_id, broker_opens(traded, zone), traded.closes, plan, ends, broker.lot_max)
    return unique_id, text, len(plan)


def check_asked(asked: Asked) -> Cell:
    """The cell of a replay, once all that can be refused without its model has been looked at."""
    cell = account_of(cell_of(asked.run), asked.account)
    own = own_bars(cell, asked.run)
    check_replayable(own, cell.study.broker)
    if asked.bars:
        span_between(other_bars(cell, own, asked.bars).times, asked.first, asked.last)
    else:
        span_between(stored_forecasts(cell, asked.run).cutoff, asked.first, asked.last)
    return cell


def case_of_run(asked: Asked, history: int) -> "Case":
    """The case of a replay; `history`: bars that a forecast of the run's model needs."""
    from tunetrade.replay import Case

    cell = account_of(cell_of(asked.run), asked.account)
    own, study = own_bars(cell, asked.run), cell.study
    if asked.bars:
        bars = other_bars(cell, own, asked.bars)
        forecasts = _made(cell, own, bars, history, asked)
    else:
        bars, forecasts = own, stored_forecasts(cell, asked.run)
    conversion, finer = series_beside(study)
    return Case(
        bars=bars,
        span=span_between(forecasts.cutoff, asked.first, asked.last),
        forecasts=forecasts,
        context=study.windows.context,
        trading=study.trading,
        broker=study.broker,
        model=model_name(cell),
        history=history,
        conversion=conversion,
        finer=finer,
    )


def model_name(cell: Cell) -> str:
    """The name under which a server of this run alone has its model."""
    return "/".join(cell.paths.folder.parts[-2:])


def _made(cell: Cell, own: Bars, bars: Bars, history: int, asked: Asked) -> Forecasts:
    """Forecasts of other bars, made here as a study makes them."""
    from forecasting.forecasts import concatenate
    from forecasting.windows import contexts
    from tunetrade.forecasters import forecaster_of
    from tunetrade.prepared import prepare

    cutoffs = bars.times[history - 1 :]
    if len(cutoffs) < 2:
        raise UserError(
            f"{asked.bars} has {len(bars)} bars and a forecast needs {history}; give {history + 1} at least"
        )
    first, last = span_between(cutoffs, asked.first, asked.last)
    positions = np.flatnonzero((bars.times >= first) & (bars.times <= last))
    forecaster = forecaster_of(cell, prepare(cell.study, own), own)
    size = cell.study.sampling.chunk
    parts = [positions[n : n + size] for n in range(0, len(positions), size)]
    made = [
        forecaster.predict(contexts(bars, cell.study.windows, forecaster.warm_up, part)).forecasts for part in parts
    ]
    return concatenate(made)
