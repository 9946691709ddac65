"""Methods of a finished study beside its baselines: CRPS of the first and last step, and whether that is chance.

    tunetrade study studies/hourly.toml --set 'series=["EURUSD_H1.csv", "NZDUSD_H1.csv"]'
    python -m benchmarks.rivals runs/hourly [--json]

Scores are divided by the last close, as in `benchmarks.density`. Differences are log ratios of their means in percent,
negative where the method is better; p is that of the one-sided Diebold-Mariano test with a HAC variance; coverage is of
the 80 % interval at step 1.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from forecasting.files import read_json
from forecasting.significance import diebold_mariano


def tables(study: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """Forecast tables by series and by method or baseline (with its seed), of all finished cells."""
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for file in sorted(study.glob("*/*/*/run.json")):
        run, table = read_json(file), file.parent / "forecasts.parquet"
        if run["status"] == "done" and table.is_file():
            kind = "" if run["kind"] == "baseline" else f"/{run['seed']}"
            found.setdefault(run["unique_id"], {})[run["method"] + kind] = pd.read_parquet(table)
    return found


def at_step(table: pd.DataFrame, step: int) -> pd.DataFrame:
    """Rows of one step whose truth is known, in time order."""
    return table[(table["h"] == step) & table["y"].notna()].sort_values("cutoff")


def compare(own: pd.DataFrame, other: pd.DataFrame, step: int) -> dict[str, float]:
    """Log ratio of mean CRPS in percent, Diebold-Mariano statistic and p-value, on the cutoffs of both."""
    both = at_step(own, step).merge(at_step(other, step), on="cutoff", suffixes=("", "_other"))
    one, two = (both[name].to_numpy() / both["anchor"].to_numpy() for name in ("crps", "crps_other"))
    test = diebold_mariano(one, two, step)
    return {"percent": 100 * float(np.log(one.mean() / two.mean())), "dm": test.statistic, "p": test.p_value}


def main() -> None:
    """Print a table a series, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a finished study")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    result: dict[str, dict[str, dict[str, object]]] = {}
    for series, of in tables(asked.study).items():
        rivals = [name for name in of if "/" not in name and name != "random-walk"]
        for name in (name for name in of if "/" in name):
            last, first = int(of[name]["h"].max()), at_step(of[name], 1)
            row: dict[str, object] = {
                f"{rival} step {step}": compare(of[name], of[rival], step) for rival in rivals for step in (1, last)
            }
            row["coverage"] = float(np.mean((first["q10"] <= first["y"]) & (first["y"] <= first["q90"])))
            result.setdefault(series, {})[name] = row
    if not result:
        sys.exit(f"{asked.study}: no finished cells with forecasts; run `tunetrade study` first")
    if asked.json:
        print(json.dumps(result, indent=2))
        return
    for series, methods in result.items():
        print(f"\n{series}\n\n| method | beside | CRPS % | DM | p |\n|---|---|---|---|---|")
        for name, found in methods.items():
            for rival, row in found.items():
                if isinstance(row, dict):
                    print(f"| {name} | {rival} | {row['percent']:+.3f} | {row['dm']:+.2f} | {row['p']:.4f} |")
            print(f"| {name} | coverage of the 80 % interval | {found['coverage']:.1%} | | |")


if __name__ == "__main__":
    main()
