"""How good the base's densities are: CRPS of the next close and of the fifth, beside GARCH-t's, on twelve ECB pairs.

    python -m benchmarks.density [--part validation|test] [--context 64] [--base embedded] [--json]

The base has seen data up to 2014-12-31. Everything was chosen on the validation part, 2015 and 2016; the test part is
2017 to the end of the snapshot. GARCH(1,1)-t is refitted every January on all that came before. Scores are divided by
the last close; a pair's skill is 1 minus the ratio of mean scores, the mean over pairs a geometric one. Diebold-Mariano
statistics (HAC, one-sided) are those of each pair; negative means lower than GARCH-t's.
"""

import argparse
import json
import sys
from dataclasses import dataclass

import numpy as np

from forecasting.bars import Bars, load_bars
from forecasting.base import find_base, load_model
from forecasting.baselines import Asked, baseline
from forecasting.codecs.fit import CodecOptions, scale_codec
from forecasting.decoder import weights_of
from forecasting.evaluate import rolling_forecasts
from forecasting.forecaster import Forecaster, PathForecaster
from forecasting.sampler import SamplingOptions, gpt2_decoders
from forecasting.significance import DieboldMariano, diebold_mariano
from forecasting.windows import WindowSpec
from tunetrade.progress import Board

PAIRS = (
    "EURUSD", "NZDUSD", "AUDUSD", "GBPUSD", "USDJPY", "USDCHF", "USDCAD", "EURGBP", "EURJPY", "EURSEK", "USDZAR",
    "EURNOK",
)  # fmt: skip
PARTS = {"validation": ("2015-01-01", "2017-01-01"), "test": ("2017-01-01", "2100-01-01")}
RIVALS = ("garch-t", "ewma-t")
STEPS, PATHS = 5, 64


@dataclass(frozen=True)
class Scores:
    """Of one forecaster on one pair: CRPS over the last close at steps 1 and 5, and coverage of the 80 % interval."""

    crps: np.ndarray
    covered: float

    @staticmethod
    def of(forecaster: Forecaster, bars: Bars, spec: WindowSpec, positions: np.ndarray) -> "Scores":
        """Over all cutoffs whose targets are known, crps [T, 2]."""
        table = rolling_forecasts(forecaster, bars, spec, positions)
        score = (table["crps"] / table["anchor"]).to_numpy().reshape(-1, spec.horizon)[:, [0, spec.horizon - 1]]
        first = table[table["h"] == 1]
        return Scores(score, float(np.mean((first["q10"] <= first["y"]) & (first["y"] <= first["q90"]))))


def cutoffs(bars: Bars, part: str) -> np.ndarray:
    """Positions of cutoffs whose targets lie in the part."""
    first, last = (int(np.searchsorted(bars.times, np.datetime64(day, "ns"))) for day in PARTS[part])
    return np.arange(first - 1, last - STEPS)


def model(base_name: str, bars: Bars, context: int) -> PathForecaster:
    """The base as it is, nothing tuned."""
    base = find_base(base_name)
    return PathForecaster(
        model_sha=base.sha,
        codec=scale_codec(base.codec, bars, CodecOptions()),
        context=context,
        options=SamplingOptions(paths=PATHS),
        make_model=gpt2_decoders(weights_of(load_model(base)), PATHS, STEPS),
    )


def compare(pair: str, part: str, context: int, base: str) -> dict[str, Scores]:
    """The base and its rivals on one pair, on the same cutoffs."""
    bars = load_bars(f"ecb:{pair}")
    spec, positions = WindowSpec(context=context, horizon=STEPS), cutoffs(bars, part)
    own = model(base, bars, context)
    rivals = {
        name: baseline(
            name,
            Asked(
                bars, spec, own.options, own.codec, own.warm_up, (0, int(positions[0])), planned=bars.times[positions]
            ),
        )
        for name in RIVALS
    }
    return {name: Scores.of(each, bars, spec, positions) for name, each in ({"base": own} | rivals).items()}


def against(one: Scores, other: Scores, step: int) -> tuple[float, DieboldMariano]:
    """Log ratio of mean scores in percent (negative: `one` is better) and the test; step 0 or 1 of those kept."""
    a, b = one.crps[:, step], other.crps[:, step]
    return 100 * float(np.log(a.mean() / b.mean())), diebold_mariano(a, b, (1, STEPS)[step])


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="validation")
    parser.add_argument("--context", type=int, default=64, help="closes that become tokens")
    parser.add_argument("--base", default="embedded", help="embedded, or a folder")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    board, rows = Board(1), {}
    for number, pair in enumerate(PAIRS):
        rows[pair] = compare(pair, asked.part, asked.context, asked.base)
        board.show(0, "density", number + 1, len(PAIRS), pair)
    board.close()
    summary = {pair: report(found) for pair, found in rows.items()}
    means = {
        name: float(np.mean([row[name] for row in summary.values()])) for name in ("step 1", "step 5", "ewma-t step 1")
    }
    better = {name: sum(row[name] < 0 for row in summary.values()) for name in ("step 1", "step 5")}
    if asked.json:
        print(json.dumps({"pairs": summary, "mean": means, "better": better}, indent=2))
        return
    print("| pair | CRPS 1e-4 | GARCH-t | step 1 % | DM | step 5 % | DM | EWMA-t over GARCH-t % | coverage 80 % |")
    print("|---|---|---|---|---|---|---|---|---|")
    for pair, row in summary.items():
        print(
            f"| {pair} | {row['crps']:.3f} | {row['garch']:.3f} | {row['step 1']:+.3f} | {row['dm 1']:+.2f} | "
            f"{row['step 5']:+.3f} | {row['dm 5']:+.2f} | {row['ewma-t step 1']:+.3f} | {row['coverage']:.1%} |"
        )
    print(
        f"mean of log ratios: step 1 {means['step 1']:+.3f} % (better on {better['step 1']} of {len(rows)}), "
        f"step 5 {means['step 5']:+.3f} % (better on {better['step 5']}), EWMA-t {means['ewma-t step 1']:+.3f} %"
    )


def report(found: dict[str, Scores]) -> dict[str, float]:
    """One pair's row."""
    (one, test_1), (five, test_5) = (against(found["base"], found["garch-t"], step) for step in (0, 1))
    return {
        "crps": 1e4 * float(found["base"].crps[:, 0].mean()),
        "garch": 1e4 * float(found["garch-t"].crps[:, 0].mean()),
        "step 1": one, "dm 1": test_1.statistic, "step 5": five, "dm 5": test_5.statistic,
        "ewma-t step 1": against(found["ewma-t"], found["garch-t"], 0)[0],
        "coverage": found["base"].covered,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
