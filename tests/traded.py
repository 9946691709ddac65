"""Runs traded by a plain ledger of their own, as frames and as run folders: no engine of the project is used."""

from pathlib import Path

import numpy as np
import pandas as pd

from forecasting.files import write_json, write_parquet
from strategies.run import EQUITY_COLUMNS, TRADE_COLUMNS

LOT = 100_000
SPREAD, COMMISSION, SWAP = 0.00010, 3.5, -0.00002
DEPOSIT = 10_000.0


def trade_row(number, direction, lots, entry_time, entry_price, exit_time, exit_price, **more) -> dict:
    """A row of TRADE_COLUMNS in an account of the quote currency; costs that are not given are none."""
    units = lots * LOT
    paid = {name: more.get(name, 0.0) for name in ("spread_cost", "slippage_cost", "commission", "swap")}
    result = direction * units * (exit_price - entry_price)
    before = result + paid["spread_cost"] + paid["slippage_cost"]
    row = {
        "trade": number, "direction": direction, "lots": lots, "units": units,
        "entry_time": pd.Timestamp(entry_time, tz="UTC"), "entry_price": entry_price,
        "exit_time": pd.Timestamp(exit_time, tz="UTC"), "exit_price": exit_price, "profit_before_costs": before, **paid,
        "net_profit": result - paid["commission"] + paid["swap"], "mfe": max(result, 0.0), "mae": min(result, 0.0),
        "bars_held": 1, "reason": "", "exit_reason": "signal",
    }  # fmt: skip
    return row | {name: value for name, value in more.items() if name in row}


def trades_of(rows) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(TRADE_COLUMNS))
    return frame.astype({"trade": "int64", "direction": "int64", "bars_held": "int64"}) if len(frame) else _empty(frame)


def _empty(frame):
    for name in ("entry_time", "exit_time"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    texts = ("entry_time", "exit_time", "reason", "exit_reason")
    return frame.astype({name: "float64" for name in TRADE_COLUMNS if name not in texts})


def equity_of(times, equity, **columns) -> pd.DataFrame:
    money = np.asarray(equity, float)
    zero = np.zeros(len(money))
    given = {
        "time": pd.DatetimeIndex(times).tz_localize("UTC"), "equity": money, "balance": money, "position": zero,
        "price": zero + 1.1, "margin": zero, "costs": zero, "equity_before_costs": money,
    }  # fmt: skip
    return pd.DataFrame({name: columns.get(name, given[name]) for name in EQUITY_COLUMNS})


def random_run(seed=0, bars=600, minutes=60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trades and equity of random positions on a random walk, netting, with every cost; some closed by a stop."""
    rng = np.random.default_rng(seed)
    times = pd.bdate_range("2021-02-01", periods=bars // 24 + 2).to_numpy("datetime64[ns]")
    times = np.concatenate([day + np.arange(1, 25) * np.timedelta64(60, "m") for day in times])[:bars]
    opens = np.round(1.2 * np.exp(np.cumsum(rng.normal(0, 0.0008, bars + 1))), 5)
    rows, equity, side, entry, balance = [], [], 0, 0, DEPOSIT
    margin, held, best, worst = np.zeros(bars), np.zeros(bars), 0.0, 0.0

    def close(t, price, reason):
        nonlocal side, balance
        units = 0.1 * LOT
        swap = units * SWAP * ((t - entry) // 24)
        paid = {"spread_cost": units * SPREAD, "commission": 2 * 0.1 * COMMISSION, "swap": swap}
        fill = price + (SPREAD if side < 0 else 0)
        paid_in = opens[entry] + (SPREAD if side > 0 else 0)
        result = side * units * (fill - paid_in)
        extremes = {"mfe": max(best, result, 0.0), "mae": min(worst, result, 0.0)}
        held = t - entry + (reason != "signal")
        rows.append(
            trade_row(len(rows) + 1, side, 0.1, times[entry], paid_in, times[t], fill, **paid, **extremes,
                      bars_held=held, reason="random", exit_reason=reason)
        )  # fmt: skip
        balance += rows[-1]["net_profit"]
        side = 0

    for t in range(bars):
        wanted = int(rng.integers(-1, 2)) if rng.random() < 0.2 else side
        if wanted != side:
            if side:
                close(t, opens[t], "signal")
            if wanted:
                side, entry, best, worst = wanted, t, 0.0, 0.0
        value = lambda price: side * 0.1 * LOT * (price - opens[entry]) - 0.1 * LOT * SPREAD  # noqa: E731, B023
        if side:
            best, worst = max(best, value(opens[t + 1]) + 3), min(worst, value(opens[t + 1]) - 3)
            if rng.random() < 0.03:
                close(t, opens[t] - side * 0.001, "stop loss")
        held[t] = side * 0.1 * LOT
        margin[t] = 0.1 * LOT * opens[t] / 30 if side else 0.0
        equity.append(balance + (value(opens[t + 1]) if side else 0.0))
    if side:
        close(bars - 1, opens[bars], "end of data")
        equity[-1], held[-1] = balance, 0.0
    return trades_of(rows), equity_of(times, equity, price=opens[1:], margin=margin, position=held)


def write_run(folder: Path, trades, equity, symbol="EURUSD", timeframe="H1", **rules) -> Path:
    """A run folder as far as its backtest goes."""
    write_parquet(folder / "trades.parquet", trades)
    write_parquet(folder / "equity.parquet", equity)
    broker = {"deposit": DEPOSIT, "leverage": 30.0, "account": "netting", "timezone": "us-dst", **rules}
    write_json(
        folder / "backtest.json",
        {
            "signal": "mean-vs-last", "rules": {"signal": "mean-vs-last", "lots": 0.1}, "broker": broker,
            "illustrative": False, "currency": "USD", "figures": {},
        },
    )  # fmt: skip
    instrument = {"symbol": symbol, "digits": 5, "timeframe": timeframe, "close_only": False}
    run = {"unique_id": f"{symbol}-{timeframe}", "method": "lora", "seed": 1, "instrument": instrument, "config": {}}
    write_json(folder / "run.json", run)
    return folder
