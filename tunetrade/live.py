"""Run folders -> desks of the live link; called in the process of the models (`bridge.worker`)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bridge.desk import Desk
from forecasting.bars import Bars, load_bars
from forecasting.cache import ForecastCache, cache_folder, limit_bytes
from forecasting.calendars import MINUTES
from forecasting.errors import ConfigError, UserError
from strategies.contract import FROM_DATA, BrokerRules
from strategies.plans import bars_per_year
from strategies.signals import SignalRules
from tunetrade.cell import Cell, read_cell
from tunetrade.provenance import code_of
from tunetrade.walk import latest_forecaster


def desks(runs: Sequence[str]) -> list[Desk]:
    """A desk for each run folder, under the trading and broker rules of its study."""
    cells = [_cell(run) for run in runs]
    names = Counter((cell.paths.folder.parts[-3], _name(cell, 2)) for cell in cells)
    made = [_desk(cell, 4 if names[cell.paths.folder.parts[-3], _name(cell, 2)] > 1 else 2) for cell in cells]
    twice = [key for key, count in Counter(desk.facts.key for desk in made).items() if count > 1]
    if twice:
        raise ConfigError(f"{twice[0]} is named twice; name each run once")
    return made


def _cell(run: str) -> Cell:
    folder = Path(run).resolve()
    if not (folder / "run.json").is_file():
        raise UserError(f"{run} is no run folder: it has no run.json; name one such as runs/demo/EURUSD-D1/lora/1")
    cell = read_cell(folder)
    if cell.kind not in ("method", "baseline"):
        raise UserError(f"{run} is of kind {cell.kind} and forecasts nothing by itself; name the run of a model")
    return cell


def _name(cell: Cell, parts: int) -> str:
    """Method and seed, and study and series before them where others are of the same name."""
    return "/".join(cell.paths.folder.parts[-parts:])


def _desk(cell: Cell, parts: int) -> Desk:
    study = cell.study
    bars = load_bars(cell.source, study.source)
    instrument = bars.instrument
    return Desk(
        unique_id=instrument.unique_id,
        model_id=_name(cell, parts),
        forecaster=latest_forecaster(cell, bars, ForecastCache(cache_folder(), limit_bytes(), code_of("forecast"))),
        windows=study.windows,
        calendar=bars.calendar,
        tf_sec=60 * MINUTES[instrument.timeframe],
        signal=signal_rules(study.trading.signal_rules, study.broker, bars),
        spread=usual_spread(bars, study.broker),
        point=instrument.point,
        close_only=instrument.close_only,
        resize=study.trading.resize,
    )


def signal_rules(rules: SignalRules, broker: BrokerRules, bars: Bars) -> SignalRules:
    """The rules with what the backtest adds to them."""
    years = bars_per_year(bars.calendar) if rules.sizing == "volatility" else np.nan
    return replace(rules, broker=broker, bars_per_year=years)


def usual_spread(bars: Bars, broker: BrokerRules) -> float:
    """Spread in price that stands in where a terminal does not tell its own: the study's, or the data's median."""
    if broker.spread_points != FROM_DATA:
        return float(broker.spread_points) * bars.instrument.point
    known = bars.frame["spread"].to_numpy(np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        raise ConfigError(f'{bars.instrument.unique_id} has no spreads and broker.spread_points is "{FROM_DATA}"')
    return float(np.median(known)) * bars.instrument.point
