"""A small synthetic study, written as docs/ARCHITECTURE.md lays out run folders."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from forecasting.files import write_json
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts, to_table

KINDS = {
    "untuned": "method",
    "full": "method",
    "lora": "method",
    "adapter": "method",
    "random-walk": "baseline",
    "ewma-t": "baseline",
    "buy-and-hold": "benchmark",
    "always-flat": "benchmark",
}
COST = {"untuned": (0, 0.0), "full": (860_160, 41.2), "lora": (16_384, 33.9), "adapter": (66_304, 22.4)}
FAILED = ("NZDUSD-D1", "adapter", 1)
FAILURE = "validation loss is NaN at step 40; lower --set train.learning_rate <1e-4>"
DEPOSIT = 10_000.0


def write_study(
    root: Path, series=("EURUSD-D1", "NZDUSD-D1"), methods=tuple(KINDS), seeds=(0, 1), origins=80, horizon=5
) -> Path:
    """Write a study of every series, method and seed (baselines and benchmarks: the first seed only)."""
    study = root / "demo"
    for index, name in enumerate(series):
        closes = (1.1, 0.65)[index % 2] * np.exp(
            np.cumsum(np.random.default_rng(index).normal(0, 0.005, origins + horizon + 1))
        )
        times = pd.bdate_range("2021-01-04 15:15", periods=len(closes)).to_numpy("datetime64[ns]")
        for method in methods:
            for seed in seeds if KINDS.get(method, "method") == "method" else seeds[:1]:
                write_cell(study / name / method / str(seed), name, method, seed, closes, times, origins, horizon)
    return study


def write_cell(folder, series, method, seed, closes, times, origins, horizon) -> None:
    rng = np.random.default_rng([seed, *method.encode(), *series.encode()])
    kind = KINDS.get(method, "method")
    failed = (series, method, seed) == FAILED
    write_json(
        folder / "run.json",
        {
            "study": "demo",
            "source": f"ecb:{series[:6]}",
            "unique_id": series,
            "kind": kind,
            "method": method,
            "seed": seed,
            "status": "failed" if failed else "done",
            "failure": FAILURE if failed else None,
            "config": {
                "split": {
                    "train_start": "",
                    "validation_start": "2019-01-01",
                    "test_start": "2021-01-01",
                    "test_end": "",
                    "embargo": -1,
                },
                "base": "embedded",
                "windows": {"context": 20, "horizon": horizon},
                "train": {
                    "steps": 200,
                    "learning_rate": {"full": 3e-4, "lora": 2e-3}.get(method, 1e-3),
                    "method": method,
                },
                "sampler": {"paths": 64, "seed": 7},
            },
            "versions": {"python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0", "tunetrade": "0.1.0"},
            "data_sha": "9f" * 32,
            "git": {"commit": "d9413a6" + "0" * 33, "dirty": True},
            "base": {"cutoff": "2014-12-31", "seed": 1},
            "data_range": ["1999-01-04T15:15", "2026-09-25T15:15"],
            "bars": 7100,
            "instrument": {"symbol": series[:6], "source": "ECB euro reference rates", "close_only": True, "digits": 5},
            "stages": {},
        },
    )
    if failed:
        return
    skill = {"full": 0.9991, "lora": 0.9986, "adapter": 1.0004, "untuned": 1.0012}.get(method, 1.0) + rng.normal(
        0, 2e-4
    )
    if kind == "method":
        write_training(folder, method, rng)
    if kind != "benchmark":
        write_forecasts(folder, series, method, skill, closes, times, origins, horizon, rng)
    write_backtest(folder, method, kind, closes, times, origins, rng)


def write_training(folder, method, rng) -> None:
    parameters, seconds = COST.get(method, (1000, 10.0))
    steps = range(0, 201, 20) if parameters else [0]
    history = [
        {
            "step": step,
            "train_loss": 5.3 - 0.06 * (1 - np.exp(-step / 60)) + rng.normal(0, 0.012) if step else None,
            "validation_loss": (
                value := 5.32 - 0.04 * (1 - np.exp(-step / 50)) + 1e-6 * step**2 + rng.normal(0, 0.001)
            ),
            "validation_perplexity": np.exp(value),
        }
        for step in steps
    ]
    best = min(history, key=lambda entry: entry["validation_loss"])["step"]
    write_json(
        folder / "train.json",
        {
            "seconds": seconds * rng.uniform(0.95, 1.05),
            "peak_memory_bytes": int(9e8 * rng.uniform(0.8, 1.4)),
            "trained_parameters": parameters,
            "total_parameters": 860_160,
            "stored_bytes": 4 * parameters + 600,
            "steps": len(history) * 20,
            "best_step": best,
            "stopped_early": False,
            "history": history,
        },
    )


def write_forecasts(folder, series, method, skill, closes, times, origins, horizon, rng) -> None:
    anchor = closes[:origins]
    y = np.stack([closes[h : h + origins] for h in range(1, horizon + 1)], axis=1)
    ds = np.stack([times[h : h + origins] for h in range(1, horizon + 1)], axis=1)
    spread = 0.005 * np.sqrt(np.arange(1, horizon + 1))
    drift = rng.normal(0, 2e-4, (origins, horizon)) * (method not in ("random-walk", "ewma-t"))
    mean = anchor[:, None] * np.exp(drift)
    z = np.array([-1.645, -1.28, -0.67, 0, 0.67, 1.28, 1.645])
    quantiles = mean[:, None, :] * np.exp(z[None, :, None] * spread[None, None, :])
    assert len(z) == len(QUANTILE_LEVELS)
    forecasts = Forecasts(
        series,
        times[:origins],
        ds,
        anchor,
        np.full(origins, 0.005),
        mean,
        0 * mean,
        quantiles,
        0.5 + 20 * drift,
        0 * mean,
        np.array(["ab" * 8] * origins),
    )
    crps = 0.56 * spread * anchor[:, None] * skill * np.ones_like(y)
    folder.mkdir(parents=True, exist_ok=True)
    to_table(forecasts, y, crps, 0 * crps).to_parquet(folder / "forecasts.parquet", index=False)
    error = y - mean
    random_walk = y - anchor[:, None]

    def figures(pick) -> dict:
        mse = float(np.mean(random_walk[:, pick] ** 2)) * (
            1.0 if method in ("random-walk", "ewma-t") else 2 * skill - 1
        )
        mae = float(np.mean(np.abs(error[:, pick])))
        return {
            "mse": mse,
            "rmse": mse**0.5,
            "nrmse": mse**0.5 / float(np.ptp(y)),
            "mae": mae,
            "mase": mae / 0.004,
            "rmae": mae / float(np.mean(np.abs(random_walk[:, pick]))),
            "crps": float(crps[:, pick].mean()),
            "coverage50": 0.51,
            "coverage80": 0.8 + rng.normal(0, 0.01),
            "coverage90": 0.9,
            "directional_accuracy": None if method in ("random-walk", "ewma-t") else 0.5 + rng.normal(0, 0.01),
            "rows": origins,
            "crps_mc_se": 0.0 if method == "random-walk" else 1e-7,
            "mse_mc_error": 0.0 if method == "random-walk" else 1e-12,
        }

    steps = {str(h): figures(slice(h - 1, h)) for h in range(1, horizon + 1)}
    write_json(
        folder / "forecast.json",
        {
            "model_sha": "cd" * 32,
            "origins": origins,
            "horizon": horizon,
            "paths": 64,
            "seconds": origins * 0.011,
            "paths_per_second": 5800.0 if method != "random-walk" else 2.4e6,
            "latency_p50_ms": 12.1 + rng.normal(0, 0.5),
            "latency_p99_ms": 19.8,
            "metrics": {"overall": figures(slice(None)), "by_step": steps},
            "validation": {},
        },
    )


def write_backtest(folder, method, kind, closes, times, origins, rng) -> None:
    position = {"buy-and-hold": np.ones(origins), "always-flat": np.zeros(origins)}.get(
        method, np.repeat(np.sign(rng.normal(size=origins // 4 + 1)), 4)[:origins]
    )
    moves = np.diff(closes[: origins + 1])
    units = 10_000.0
    costs = np.cumsum(np.abs(np.diff(np.concatenate([[0.0], position]))) * units * 0.5e-4)
    before = DEPOSIT + np.cumsum(position * moves * units)
    equity = before - costs
    trades = int(np.count_nonzero(np.diff(np.concatenate([[0.0], position, [0.0]]))))
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(
        {
            "time": pd.DatetimeIndex(times[:origins]).tz_localize("UTC"),
            "equity": equity,
            "balance": equity,
            "position": position,
            "price": closes[:origins],
            "costs": costs,
            "equity_before_costs": before,
        }
    ).to_parquet(folder / "equity.parquet", index=False)
    trades_of(position, closes, times, units).to_parquet(folder / "trades.parquet", index=False)
    net = float(equity[-1] - DEPOSIT)
    returns = np.diff(equity) / equity[:-1]
    peak = np.maximum.accumulate(equity)
    sharpe = float(returns.mean() / returns.std() * 252**0.5) if returns.std() else None
    write_json(
        folder / "backtest.json",
        {
            "signal": method if kind == "benchmark" else "mean-vs-context",
            "rules": {"signal": "mean-vs-context", "lots": 0.1},
            "broker": {"leverage": 30.0, "spread_points": 8.0, "commission_per_lot": 3.5, "deposit": DEPOSIT},
            "illustrative": True,
            "currency": "USD",
            "figures": {
                "net_profit": net,
                "profit_before_costs": float(before[-1] - DEPOSIT),
                "costs": float(costs[-1]),
                "spread": float(costs[-1]),
                "slippage": 0.0,
                "commission": 0.0,
                "swap": 0.0,
                "gross_profit": 100.0,
                "gross_loss": -80.0,
                "total_return": net / DEPOSIT,
                "annual_return": net / DEPOSIT,
                "annual_volatility": 0.05,
                "sharpe": sharpe,
                "sortino": None if sharpe is None else 1.4 * sharpe,
                "max_drawdown": float(np.max(1 - equity / peak)),
                "max_drawdown_money": float(np.max(peak - equity)),
                "max_drawdown_days": 31.0 if trades else 0.0,
                "profit_factor": 1.25 if trades else None,
                "trades": trades,
                "win_rate": 0.51 if trades else None,
                "average_trade": net / trades if trades else None,
                "exposure": float(np.mean(position != 0)),
                "turnover": 12.3 if trades else 0.0,
            },
        },
    )


def trades_of(position, closes, times, units) -> pd.DataFrame:
    """A trade for each stretch of one position, with the columns that the engine's ledger has and pages show."""
    edges = [0, *(np.flatnonzero(np.diff(position)) + 1), len(position)]
    rows = []
    for start, end in pairwise(edges):
        side = int(position[start])
        if side:
            cost = units * 0.5e-4 * 2
            rows.append(
                {
                    "trade": len(rows) + 1, "direction": side, "lots": 0.1, "entry_time": times[start],
                    "entry_price": closes[start], "exit_time": times[end], "exit_price": closes[end],
                    "spread_cost": cost, "slippage_cost": 0.0, "commission": 0.0, "swap": 0.0,
                    "net_profit": side * (closes[end] - closes[start]) * units - cost, "bars_held": int(end - start),
                    "reason": "signal", "exit_reason": "signal",
                }
            )  # fmt: skip
    columns = ["direction", "lots", "entry_time", "entry_price", "exit_time", "exit_price", "spread_cost",
               "slippage_cost", "commission", "swap", "net_profit", "bars_held", "reason", "exit_reason"]  # fmt: skip
    table = pd.DataFrame(rows, columns=["trade", *columns])
    return table.astype({"net_profit": float, "spread_cost": float})


def edit_json(path: Path, change) -> None:
    """Read a JSON file, let `change` alter it, write it back."""
    value = json.loads(path.read_text())
    change(value)
    write_json(path, value)
