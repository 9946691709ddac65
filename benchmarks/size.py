"""How often does each test of `evidence.json` reject where nothing is true? It should be as often as it says: 5 %.

    python -m benchmarks.size [--quick] [--json] [--replications 10000] [--only spa] [--seed 7]

Studies without any true difference are simulated. `independent`: normal losses or gains without memory. `overlapping`:
moving averages of 20 terms, as losses 20 steps ahead have at most; gains of a day with them are a hard case, since real
gains hardly depend on each other. What is to hold: 4 to 6 % for independent losses, 3 to 8 % for overlapping ones.
"For information" are forms that evidence does not rest on, and what they would do.

Draws of the bootstrap are made once for each block length, as a study makes them once for all its methods.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from scipy import stats

from forecasting.bootstrap import block_length, counts, indices, means
from forecasting.bootstrap_t import mean_of, project
from forecasting.long_run import cosines, long_run_variance
from forecasting.model_sets import (
    Chance,
    bootstrap_chance,
    cosine_chance,
    model_confidence_set,
    superior_ability,
)
from forecasting.significance import clark_west_differences, mean_test
from strategies.agreement import chance_of, kendall
from strategies.deflated import moments, probabilistic_sharpe
from strategies.sharpe import probability_above, sharpe_errors
from tunetrade.evidence.errors import References, ratio_of_means
from tunetrade.evidence.money import averaged, day_figures
from tunetrade.evidence.panel import Daily, contributions, panel_of

SIZE, HORIZON, MODELS, RESAMPLED = 0.05, 20, 10, 500
INDEPENDENT, OVERLAPPING = (4.0, 6.0), (3.0, 8.0)

Rng = np.random.Generator


@dataclass(frozen=True)
class Rate:
    """How often a test rejected, in percent, of so many simulated studies; what it should be within."""

    percent: float
    studies: int
    within: tuple[float, float]

    @property
    def holds(self) -> bool:
        """Whether the rate lies within."""
        return self.within[0] <= self.percent <= self.within[1]

    @property
    def error(self) -> float:
        """Standard error of the rate, in percent."""
        return float(100 * np.sqrt(max(self.percent, 0.1) / 100 * (1 - self.percent / 100) / self.studies))


def noise(rng: Rng, rows: int, columns: int, overlap: int) -> np.ndarray:
    """Standard normal columns [T, K]; with an overlap, moving averages of so many terms, of variance 1."""
    drawn = rng.standard_normal((rows + overlap - 1, columns))
    if overlap == 1:
        return drawn
    sums = np.cumsum(np.vstack([np.zeros((1, columns)), drawn]), axis=0)
    return np.asarray((sums[overlap:] - sums[:-overlap]) / np.sqrt(overlap))


@cache
def order(rows: int, block: int) -> np.ndarray:
    """Rows [R, T] drawn by the bootstrap."""
    return indices(np.random.default_rng(1), rows, block, RESAMPLED)


@cache
def drawn_counts(rows: int, block: int) -> np.ndarray:
    """How often each row was drawn, [R, T]."""
    return counts(order(rows, block), rows)


def mean_tests(values: np.ndarray, horizon: int) -> np.ndarray:
    """`significance.mean_test` of every column [T, K]: whether it rejects."""
    rows = len(values)
    used = cosines(rows, horizon)
    errors = np.sqrt(long_run_variance(values, used, horizon) / rows)
    return np.asarray(stats.t.cdf(values.mean(axis=0) / errors, used) < SIZE)


def diebold_mariano(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """Losses of two equal forecasters."""
    return mean_tests(noise(rng, rows, studies, overlap) - noise(rng, rows, studies, overlap), overlap)


def clark_west(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """A random walk, forecast `overlap` steps ahead by a model that adds a slow noise of its own to the last close."""
    steps = rng.standard_normal((rows + overlap, studies))
    level = np.cumsum(steps, axis=0)
    move = level[overlap:] - level[:-overlap]
    guess = noise(rng, rows, studies, overlap) * 0.1 * np.sqrt(overlap)
    return mean_tests(clark_west_differences(move, np.zeros_like(move), guess), overlap)


def money(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """Daily gains of two equal methods, resampled as `tunetrade.evidence.money` does."""
    values, found = noise(rng, rows, studies, overlap), np.zeros(studies, bool)
    blocks = np.maximum(rows ** (1 / 3), block_length(values)).round().astype(int)
    for block in np.unique(blocks):
        for at in np.array_split(np.flatnonzero(blocks == block), 1 + (blocks == block).sum() // 50):
            projected = project(values[:, at], order(rows, int(block)))
            tested = [mean_of(projected, column) for column in range(len(at))]
            found[at] = [each is not None and each.p_above < SIZE for each in tested]
    return found


def superior(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """Whether any of nine models is told to be better than a tenth, all equal."""
    return _sets(rng, rows, overlap, studies, lambda chance: superior_ability(chance, 0, rows).consistent < SIZE)


def confidence_set(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """Whether the model confidence set leaves out any of ten equal models."""
    return _sets(rng, rows, overlap, studies, lambda chance: not model_confidence_set(chance, SIZE).included.all())


def bootstrap_set(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """The same by stationary bootstrap, as arch has it."""
    return _sets(
        rng, rows, overlap, studies, lambda chance: not model_confidence_set(chance, SIZE).included.all(), True
    )


def _sets(
    rng: Rng, rows: int, overlap: int, studies: int, reject: Callable[[Chance], bool], resampled: bool = False
) -> np.ndarray:
    """Losses of MODELS equal models that share half of their variance."""
    found = np.zeros(studies, bool)
    for study in range(studies):
        table = noise(rng, rows, MODELS, overlap) + noise(rng, rows, 1, overlap)
        if resampled:
            block = round(max(overlap, block_length(table - table[:, :1]).max()))
            chance = bootstrap_chance(table.mean(axis=0), means(counts(order(rows, block), rows), table))
        else:
            drawn = cosine_chance(table, overlap, RESAMPLED, study)
            assert drawn is not None
            chance = drawn
        found[study] = reject(chance)
    return found


def sharpe(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """Whether the probabilistic Sharpe ratio of gains without drift exceeds 95 %."""
    values = noise(rng, rows, studies, overlap)
    return np.array([probabilistic_sharpe(moments(column)) > 1 - SIZE for column in values.T])


def dependent_sharpe(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """The same with an error for dependent gains."""
    values = noise(rng, rows, studies, overlap)
    return np.array([probability_above(sharpe_errors(column)) > 1 - SIZE for column in values.T])


def interval(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """Whether the 95 % interval of the ratio of two equal mean losses, as evidence has it, misses 1."""
    found = np.zeros(studies, bool)
    for study in range(studies):
        top, bottom = (9 + noise(rng, rows, 1, overlap) for _ in range(2))
        block = round(max(overlap, float(block_length(top - bottom)[0])))
        # A column for all steps and one for each, as evidence has them: the first overlaps by their number.
        sides = [np.hstack([side, np.ones((rows, overlap))]) for side in (top, bottom)]
        drawn = counts(order(rows, block), rows)
        _, replicates = ratio_of_means(*sides, *(means(drawn, side) for side in sides))
        low, high = np.percentile(replicates[:, 0], (2.5, 97.5))
        found[study] = not low <= 1 <= high
    return found


def unequal_series(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """Two equal forecasters on four series, of which two end early, by the mean over series as evidence has it."""
    short = max(rows // 8, 125 if overlap > 1 else 30)
    names, found = ("one", "other"), np.zeros(studies, bool)
    for study in range(studies):
        series = {}
        for number, days in enumerate((rows, rows, short, short)):
            losses = {"squared": 9 + noise(rng, days, 2, overlap)}
            series[str(number)] = Daily(
                np.arange(days), np.ones(days, int), losses, names, References("one", "", ""), overlap
            )
        panel = panel_of(series)
        table = contributions(panel, "squared", "point")
        found[study] = mean_test(table[:, 1], overlap, panel.variances(table)).p_value < SIZE
    return found


def day_interval(rng: Rng, rows: int, overlap: int, studies: int, name: str, truth: float) -> np.ndarray:
    """Whether the 95 % interval of a figure of daily gains without drift, as evidence has it, misses the truth."""
    values, found = 0.005 * noise(rng, rows, studies, overlap), np.zeros(studies, bool)
    blocks = np.maximum(rows ** (1 / 3), block_length(values)).round().astype(int)
    for study, block in enumerate(blocks):
        gains = values[:, study]
        estimates = day_figures(gains, gains, drawn_counts(rows, int(block)), rows / 252)
        seen = averaged([estimates[name]])
        found[study] = not seen["low"] <= truth <= seen["high"]
    return found


def agreement(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """Whether errors and money of ten equal methods, drawn apart, are told to agree by the permutation test."""
    found = np.zeros(studies, bool)
    for study in range(studies):
        errors = noise(rng, rows, MODELS, overlap).mean(axis=0)
        gains = noise(rng, rows, MODELS, 1).mean(axis=0)
        found[study] = chance_of(errors[None], gains[None], 1, RESAMPLED) < SIZE
    return found


def agreement_interval(rng: Rng, rows: int, overlap: int, studies: int) -> np.ndarray:
    """Whether the interval of the same tau lies above 0."""
    found, drawn = np.zeros(studies, bool), counts(order(rows, max(overlap, round(rows ** (1 / 3)))), rows)
    for study in range(studies):
        errors, gains = noise(rng, rows, MODELS, overlap), noise(rng, rows, MODELS, 1)
        found[study] = np.percentile(kendall(-means(drawn, errors), means(drawn, gains)), 2.5) > 0
    return found


TESTS = {
    "Diebold-Mariano": diebold_mariano,
    "Clark-West": clark_west,
    "money": money,
    "SPA": superior,
    "MCS": confidence_set,
    "PSR": dependent_sharpe,
    "Kendall": agreement,
    "interval of a ratio": interval,
    "series of unequal length": unequal_series,
    "interval of net profit": partial(day_interval, name="net_profit", truth=0.0),
    "interval of a Sharpe ratio": partial(day_interval, name="sharpe", truth=0.0),
    "for information: interval of volatility": partial(
        day_interval, name="annual_volatility", truth=0.005 * np.sqrt(252)
    ),
    "for information: MCS by bootstrap": bootstrap_set,
    "for information: PSR for independent gains": sharpe,
    "for information: Kendall's interval": agreement_interval,
}
INFORMATION = "for information"
DESIGNS = [("independent", 1, rows, INDEPENDENT) for rows in (250, 1000)] + [
    ("overlapping", HORIZON, rows, OVERLAPPING) for rows in (250, 500, 1500)
]


def rates(studies: int, only: str = "", seed: int = 7) -> dict[str, Rate]:
    """Rate of every test in every design whose name begins with `only`, seeded."""
    found = {}
    for name, test in TESTS.items():
        for kind, overlap, rows, within in DESIGNS:
            label = f"{name}, {kind}, T {rows}"
            if label.lower().startswith(only.lower()):
                rng, rejected, started = np.random.default_rng(seed), 0, time.perf_counter()
                for first in range(0, studies, 1000):
                    rejected += int(test(rng, rows, overlap, min(1000, studies - first)).sum())
                bounds = (0.0, 100.0) if name.startswith(INFORMATION) else within
                found[label] = Rate(100 * rejected / studies, studies, bounds)
                seconds = time.perf_counter() - started
                print(f"{label}: {found[label].percent:.2f} % ({seconds:.0f} s)", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Print a table, or JSON; exit status 1 where a rate is out of its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=10_000, help="simulated studies a test and design")
    parser.add_argument("--quick", action="store_true", help="500 of them")
    parser.add_argument("--only", default="", help="beginning of a test's name")
    parser.add_argument("--seed", type=int, default=7, help="of the studies")
    parser.add_argument("--json", action="store_true", help="print name -> {value, target, unit, holds}")
    asked = parser.parse_args()
    found = rates(500 if asked.quick else asked.replications, asked.only, asked.seed)
    if asked.json:
        plain = {
            name: {"value": each.percent, "target": list(each.within), "unit": "%", "holds": each.holds}
            for name, each in found.items()
        }
        print(json.dumps(plain, indent=2))
    else:
        print("| test, losses, origins | rejects | of | within | holds |\n|---|---|---|---|---|")
        for name, each in found.items():
            informs = name.startswith(INFORMATION)
            bounds = "" if informs else f"{each.within[0]:g} to {each.within[1]:g} %"
            holds = "" if informs else "yes" if each.holds else "NO"
            print(f"| {name} | {each.percent:.2f} % ± {each.error:.2f} | {each.studies:,} | {bounds} | {holds} |")
    sys.exit(0 if all(each.holds for each in found.values()) else 1)


if __name__ == "__main__":
    main()
