"""One traded run, read for the Tester's report and for `reconcile`: trades, equity and what is known of the account.

A run folder has all of it; a folder written by `tunetrade backtest --out` all but run.json. One of an older version
names no instrument: its symbol then has to be given, and digits and bars' length are read off prices and stamps.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forecasting.calendars import MINUTES
from forecasting.errors import UserError
from forecasting.files import read_json
from forecasting.zones import US_DST, check_zone, from_utc
from strategies.differences import Account
from strategies.run import EQUITY_COLUMNS, FILL_COLUMNS, TRADE_COLUMNS
from strategies.tester import bar_minutes

Json = Mapping[str, Any]


@dataclass(frozen=True)
class TradedRun:
    """A run that was traded. rules: trading and broker settings by their bare names; record: backtest.json."""

    folder: Path
    name: str
    timeframe: str
    trades: pd.DataFrame
    equity: pd.DataFrame
    account: Account
    rules: Json
    record: Json
    run: Json

    @property
    def figures(self) -> Json:
        """Money figures of the backtest."""
        return _mapping(self.record.get("figures"))

    def local(self, times: pd.Series) -> pd.Series:
        """Times with a zone on the server's clock, without zone."""
        utc = times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[ns]")
        return pd.Series(from_utc(utc, self.account.timezone), index=times.index)


def read_traded_run(folder: Path, symbol: str = "", timezone: str = "") -> TradedRun:
    """Read a traded run; symbol and timezone replace the run's own. UserError where something needed is missing."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder; name one such as runs/demo/EURUSD-D1/lora/1")
    record = _json(folder / "backtest.json")
    run = _json(folder / "run.json")
    if not record:
        raise UserError(
            f"{folder} was not traded (no backtest.json); run its study, or `tunetrade backtest RUN --out FOLDER`"
        )
    trades = _table(folder / "trades.parquet", TRADE_COLUMNS, FILL_COLUMNS)
    equity = _table(folder / "equity.parquet", EQUITY_COLUMNS)
    if not len(equity):
        raise UserError(f"{folder / 'equity.parquet'} holds no bar; run the study again")
    config = _mapping(run.get("config"))
    rules: dict[str, Any] = {}
    for part in (config.get("trading"), config.get("broker"), record.get("rules"), record.get("broker")):
        rules |= _mapping(part)
    instrument = _mapping(run.get("instrument") or record.get("instrument"))
    name, _, timeframe = str(run.get("unique_id") or record.get("unique_id") or "").rpartition("-")
    named = symbol or str(instrument.get("symbol") or name)
    timeframe = str(instrument.get("timeframe") or timeframe)
    account = Account(
        symbol=named,
        digits=int(instrument["digits"]) if "digits" in instrument else _digits(equity),
        minutes=float(MINUTES.get(timeframe, 0)) or bar_minutes(equity),
        close_only=bool(instrument.get("close_only", record.get("illustrative", False))),
        netting=str(rules.get("account", "netting")) != "hedging",
        timezone=check_zone(timezone or str(rules.get("timezone") or US_DST)),
        deposit=float(rules.get("deposit") or equity["equity"].iloc[0]),
        currency=str(record.get("currency") or ""),
    )
    title = "/".join(str(run[key]) for key in ("unique_id", "method", "seed") if key in run) or folder.name
    return TradedRun(folder, title, timeframe, trades, equity, account, rules, record, run)


def _table(file: Path, columns: tuple[str, ...], perhaps: tuple[str, ...] = ()) -> pd.DataFrame:
    """The columns of a file, and those of `perhaps` that it has."""
    if not file.is_file():
        raise UserError(f"{file} is missing; run the study again, or `tunetrade backtest RUN --out FOLDER`")
    try:
        table = pd.read_parquet(file)
    except (OSError, ValueError) as fault:
        raise UserError(f"{file}: cannot be read ({fault}); run the study again") from fault
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise UserError(f"{file} has no {', '.join(missing)}: an older version traded it; run the study again")
    return table[[*columns, *(name for name in perhaps if name in table.columns)]].reset_index(drop=True)


def _json(file: Path) -> Json:
    try:
        value = read_json(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}); run the study again") from None
    return _mapping(value)


def _mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _digits(equity: pd.DataFrame) -> int:
    """Decimals of a price: three of quotes above 20, such as those in yen, else five."""
    price = float(np.nanmedian(equity["price"].to_numpy(np.float64)))
    return 3 if not math.isnan(price) and price > 20 else 5
