"""How long the statistics of a large study take, and how much memory: simulated run folders in, evidence.json out.

    python -m benchmarks.evidence [--quick] [--json]

20 methods beside the two reference baselines, 4 series, 1,500 origins, 20 steps, a ledger of 50 trials a series; on 2
threads, in a process of its own, imports and reading included. Quick: 6 methods, 2 series, 300 origins.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.claims import Claim, main
from forecasting.files import write_json, write_parquet
from forecasting.forecasts import QUANTILE_COLUMNS, QUANTILE_LEVELS

DEPOSIT = 10_000.0
_CODE = """
import resource, sys, time
started = time.perf_counter()
from pathlib import Path
from tunetrade.evidence import write_evidence
file = write_evidence(Path(sys.argv[1]))
kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(time.perf_counter() - started, kilobytes / 1024**2, file.stat().st_size / 1024**2)
"""


def write_study(
    folder: Path, methods: int, series: int, origins: int, horizon: int = 20, seeds: int = 1, trials: int = 50
) -> None:
    """Run folders of a study of random forecasts and random trades of random walks, all alike but for chance."""
    names = ["random-walk", "ewma-t", "untuned", *(f"method-{number:02d}" for number in range(methods - 1))]
    cells, lines = [], []
    for place in range(series):
        rng = np.random.default_rng(place)
        unique_id = f"SIM{place}-D1"
        days = pd.bdate_range("2015-01-01", periods=origins + horizon, tz="UTC").to_numpy("datetime64[ns]")
        closes = np.exp(np.cumsum(rng.standard_t(5, origins + horizon) * 0.005))
        for name in names:
            kind = "baseline" if name in names[:2] else "method"
            for seed in range(1, 1 + seeds) if name.startswith("method") else (0,):
                cell = folder / unique_id / name / str(seed)
                cells.append(cell.relative_to(folder).as_posix())
                walk = name == "random-walk"
                write_parquet(cell / "forecasts.parquet", _forecasts(rng, unique_id, days, closes, origins, walk))
                equity, trades = _money(rng, days[:origins], closes[:origins])
                write_parquet(cell / "equity.parquet", equity)
                write_parquet(cell / "trades.parquet", trades)
                _records(cell, folder.name, unique_id, name, kind, seed)
        lines += [_trial(rng, unique_id, number, days[1:origins]) for number in range(trials)]
    write_json(folder / "study.json", {"cells": cells})
    (folder.parent / "ledger.jsonl").write_text("".join(lines), encoding="utf-8")


def _forecasts(rng, unique_id, days, closes, origins, walk) -> pd.DataFrame:
    horizon = len(days) - origins
    at = np.arange(origins)[:, None] + np.arange(1, horizon + 1)
    anchor, y = np.repeat(closes[:origins], horizon), closes[at].ravel()
    spread = anchor * 0.0065 * np.sqrt(np.tile(np.arange(1, horizon + 1), origins))
    mean = anchor + (0 if walk else 0.05) * spread * np.repeat(rng.standard_normal(origins), horizon)
    width = 0.0 if walk else 1.0
    table = {
        "unique_id": unique_id,
        "cutoff": pd.DatetimeIndex(np.repeat(days[:origins], horizon)).tz_localize("UTC"),
        "ds": pd.DatetimeIndex(days[at].ravel()).tz_localize("UTC"),
        "h": np.tile(np.arange(1, horizon + 1, dtype=np.int16), origins),
        "y": y,
        "mean": mean,
        "mean_se": 0.0,
    }
    # Normal quantiles at 5, 10 ... 95 %: near enough for a benchmark of speed.
    for name, z in zip(QUANTILE_COLUMNS, (-1.645, -1.2816, -0.6745, 0, 0.6745, 1.2816, 1.645), strict=True):
        table[name] = mean + width * z * spread
    losses = [np.abs(y - table[name]) * np.where(y < table[name], 1 - level, level)
              for name, level in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, strict=True)]  # fmt: skip
    table |= {"p_up": 0.5, "p_up_se": 0.0, "crps": 2 * np.mean(losses, axis=0), "anchor": anchor, "sigma": 0.0065,
              "input_sha": "0" * 64, "crps_noise": 0.0}  # fmt: skip
    return pd.DataFrame(table)


def _money(rng, days, closes) -> tuple[pd.DataFrame, pd.DataFrame]:
    held = np.repeat(rng.integers(-1, 2, len(days) // 5 + 1), 5)[: len(days)]
    gains = np.concatenate([[0.0], held[:-1] * np.diff(closes) * 10_000])
    money = DEPOSIT + np.cumsum(gains)
    equity = pd.DataFrame({"time": pd.DatetimeIndex(days).tz_localize("UTC"), "equity": money})
    net = np.add.reduceat(gains, np.arange(0, len(gains), 5)) - 1.0
    return equity, pd.DataFrame({"net_profit": net, "spread_cost": 1.0})


def _records(cell: Path, study: str, unique_id: str, name: str, kind: str, seed: int) -> None:
    head = {"study": study, "unique_id": unique_id, "method": name, "kind": kind, "seed": seed}
    write_json(cell / "run.json", head | {"status": "done", "failure": None, "stages": {}})
    write_json(cell / "forecast.json", {"metrics": {"overall": {"mae": 0.01, "mase": 2.5}, "by_step": {}}})
    broker = {"deposit": DEPOSIT, "spread_points": 10.0}
    write_json(cell / "backtest.json", {"broker": broker, "currency": "USD", "figures": {}})


def _trial(rng, unique_id: str, number: int, days) -> str:
    returns = ", ".join(f"{value:.6g}" for value in rng.standard_normal(len(days)) * 0.005)
    stamps = ", ".join(f'"{str(day)[:10]}"' for day in days)
    return (
        f'{{"key": "{unique_id}-{number}", "kind": "method", "unique_id": "{unique_id}", "days": [{stamps}], '
        f'"daily_returns": [{returns}]}}\n'
    )


def measure(quick: bool) -> dict[str, Claim]:
    """Seconds, memory and size of evidence.json."""
    shape = (6, 2, 300) if quick else (20, 4, 1500)
    with tempfile.TemporaryDirectory() as place:
        study = Path(place) / "runs" / "simulated"
        write_study(study, *shape)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
        done = subprocess.run(
            [sys.executable, "-c", _CODE, str(study)],
            capture_output=True, text=True, check=True, timeout=900, env=os.environ | threads,
        )  # fmt: skip
    seconds, gigabytes, megabytes = map(float, done.stdout.split())
    return {
        "statistics": Claim(seconds, "s", 60, at_most=True),
        "peak memory": Claim(gigabytes, "GB", 2, at_most=True),
        "evidence.json": Claim(megabytes, "MB"),
    }


if __name__ == "__main__":
    main(measure, __doc__)
