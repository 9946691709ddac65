"""Errors of a series with intervals, tests against the references, and sets of models: arrays in, plain values out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from forecasting.bootstrap import block_length, means, weights
from forecasting.long_run import cosines, share_seen, standard_errors
from forecasting.model_sets import bootstrap_chance, cosine_chance, model_confidence_set, superior_ability
from forecasting.significance import diebold_mariano, mean_test
from forecasting.widening import widened
from tunetrade.evidence.figures import LEVEL, SIZE, Json, as_test, figure, verdicts
from tunetrade.evidence.losses import LOSSES, Losses

FEWEST = 30
"""Origins below which nothing is resampled."""

MEASURES = {"point": "squared", "density": "crps"}
"""What is tested, and the loss it is tested by."""

SHARES = ("coverage50", "coverage80", "coverage90", "directional_accuracy")
"""Figures that cannot exceed 1, nor can an end of their interval."""

BY_STEP = ("mse", "mae", "crps", "coverage80", "directional_accuracy", "mse_ratio", "crps_ratio")


@dataclass(frozen=True)
class References:
    """Names of the methods that others are measured against; empty where the series has none."""

    point: str
    density: str
    untuned: str


def errors_of(losses: Losses, references: References, groups: Mapping[str, str], replications: int, seed: int) -> Json:
    """The part `errors` of a series. `groups`: a family of tests for each method, over which Holm corrects."""
    count = len(losses.cutoffs)
    if count < FEWEST:
        return {"reason": f"{count} origins are too few to resample; at least {FEWEST} are needed"}
    block = _block(losses, references)
    drawn = weights(count, block, replications, seed)
    shared = {
        "anchored": _sums(np.abs(losses.y - losses.anchor), losses),
        "known": _sums(losses.known.astype(np.float64), losses),
    }
    shared |= {
        f"{loss} of {name}": _sums(losses.of(loss, name), losses)
        for name in dict.fromkeys((references.point, references.density, references.untuned)) if name
        for loss in MEASURES.values()
    }  # fmt: skip
    resampled = {name: means(drawn, sums) for name, sums in shared.items()}
    ratios = _ratios(references)
    tests = _tests(losses, references, groups)
    found: Json = {}
    for method in losses.methods:
        own = {name: _sums(losses.of(name, method), losses) for name in LOSSES if name != "clark_west"}
        replicates = {name: means(drawn, sums) for name, sums in own.items()}
        pairs_of = {
            name: ratio_of_means(own[top], (own | shared)[bottom], replicates[top], (replicates | resampled)[bottom])
            for name, (top, bottom) in ratios.items()
        }
        pairs_of |= {name: (pairs_of[name][0], np.minimum(pairs_of[name][1], 1.0)) for name in SHARES}
        pairs_of |= _derived(pairs_of, losses)
        found[method] = {
            "figures": {name: figure(value[0], spread[:, 0]) for name, (value, spread) in pairs_of.items()},
            "by_step": {
                str(step): {name: figure(value[step], spread[:, step]) for name, (value, spread) in pairs_of.items()
                            if name in BY_STEP}
                for step in range(1, losses.horizon + 1)
            },
            "seeds": _seeds(losses, method, references),
            "tests": {name: of[method] for name, of in tests["overall"].items() if method in of},
            "tests_by_step": {name: of[method] for name, of in tests["by_step"].items() if method in of},
        }  # fmt: skip
    return {
        "origins": count,
        "origins_left_out": losses.dropped,
        "horizon": losses.horizon,
        "first": str(losses.cutoffs[0])[:19],
        "last": str(losses.cutoffs[-1])[:19],
        "block_length": block,
        "methods": found,
        "model_sets": {
            name: sets_of(
                _complete(losses, loss),
                losses.methods,
                getattr(references, name),
                losses.horizon,
                block,
                replications,
                seed,
            )
            for name, loss in MEASURES.items()
        },
    }


def _block(losses: Losses, references: References) -> float:
    """Mean block length: the largest that Politis and White choose for a loss difference, at least the horizon."""
    chosen = []
    for measure, loss in MEASURES.items():
        table = _complete(losses, loss)
        base = losses.methods.index(getattr(references, measure)) if getattr(references, measure) else 0
        chosen.append(float(block_length(table - table[:, [base]]).max()))
    return max(float(losses.horizon), *chosen)


def _complete(losses: Losses, loss: str) -> np.ndarray:
    """Mean loss over the steps of every origin whose truth is all known, [T, M]."""
    return np.asarray(losses.values[loss][:, losses.complete].mean(axis=2).T, np.float64)


def _sums(values: np.ndarray, losses: Losses) -> np.ndarray:
    """Column 0: sum over the steps of each origin; columns 1..H: each step. [N, 1 + H], 0 where not known."""
    values = np.where(losses.known, values, 0.0)
    return np.column_stack([values.sum(axis=1), values])


Pair = tuple[np.ndarray, np.ndarray]


def _ratios(references: References) -> dict[str, tuple[str, str]]:
    """Error figures that are a mean over another, by the names of the two.

    Named as in `forecasting.metrics`; beside those, ratios to the references and to the untuned model.
    """
    found = {
        "mse": ("squared", "known"),
        "mae": ("absolute", "known"),
        "rmae": ("absolute", "anchored"),
        "crps": ("crps", "known"),
        **{f"coverage{share}": (f"covered{share}", "known") for share in (50, 80, 90)},
        "directional_accuracy": ("right", "moved"),
    }
    for name, loss, reference in (
        ("mse_ratio", "squared", references.point),
        ("crps_ratio", "crps", references.density),
        ("mse_untuned", "squared", references.untuned),
        ("crps_untuned", "crps", references.untuned),
    ):
        if reference:
            found[name] = loss, f"{loss} of {reference}"
    return found


def ratio_of_means(top: np.ndarray, bottom: np.ndarray, tops: np.ndarray, bottoms: np.ndarray) -> Pair:
    """Ratio of mean sums [N, 1 + H], [1 + H], and its replicates [R, 1 + H], widened for overlap; none below 0.

    Column 0 overlaps by H, column h by h.
    """
    horizon = top.shape[1] - 1
    return widened_ratio(top, bottom, tops, bottoms, [horizon, *range(1, horizon + 1)])


def widened_ratio(
    top: np.ndarray, bottom: np.ndarray, tops: np.ndarray, bottoms: np.ndarray, overlaps: Sequence[int]
) -> Pair:
    """The same of columns [N, K] that overlap by `overlaps`."""
    rows = len(top)
    used = [cosines(rows, overlap) for overlap in overlaps]
    seen = [share_seen(rows, max(1, count), overlap) for count, overlap in zip(used, overlaps, strict=True)]
    with np.errstate(invalid="ignore", divide="ignore"):
        below = bottom.mean(axis=0)
        value = top.mean(axis=0) / below
        influence = (top - value * bottom) / below
        errors = standard_errors(influence, used) / np.sqrt(seen)
        return value, np.maximum(widened(value, tops / bottoms, errors, np.array(used), LEVEL), 0.0)


def _derived(found: Mapping[str, Pair], losses: Losses) -> dict[str, Pair]:
    """Figures that are a function of one ratio: rmse, nrmse of mse; mase of mae."""
    (mse, mses), (mae, maes) = found["mse"], found["mae"]
    reach = float(np.ptp(losses.y[losses.known]))
    return {
        "rmse": (np.sqrt(mse), np.sqrt(mses)),
        "nrmse": (np.sqrt(mse) / reach, np.sqrt(mses) / reach),
        "mase": (mae / losses.naive, maes / losses.naive),
    }


def _seeds(losses: Losses, method: str, references: References) -> Json:
    """Spread across training seeds of the two ratios: mean, standard deviation (n - 1), least, largest, each seed's."""
    found: Json = {}
    for measure, loss in MEASURES.items():
        reference = getattr(references, measure)
        if not reference:
            continue
        base = fmean(each[loss] for each in losses.by_seed[reference].values())
        ratios = {seed: each[loss] / base for seed, each in losses.by_seed[method].items()} if base > 0 else {}
        found[measure] = spread_of(ratios)
    return found


def spread_of(values: Mapping[int, float]) -> Json:
    """Mean and spread of a figure over seeds."""
    known = list(values.values())
    if not known:
        return {"reason": "no seed has this figure"}
    return {
        "mean": fmean(known),
        "deviation": stdev(known) if len(known) > 1 else float("nan"),
        "least": min(known),
        "largest": max(known),
        "by_seed": {str(seed): value for seed, value in sorted(values.items())},
    }


def _tests(losses: Losses, references: References, groups: Mapping[str, str]) -> dict[str, dict[str, dict[str, Json]]]:
    """Tests by name and method, over all steps with verdicts, and p-values by step."""
    overall: dict[str, dict[str, Json]] = {}
    by_step: dict[str, dict[str, Json]] = {}
    complete, horizon = losses.complete, losses.horizon
    for name, loss, reference in pairs(references):
        overall[name], by_step[name] = {}, {}
        for method in losses.methods:
            if method == reference:
                continue
            own, other = losses.of(loss, method), losses.of(loss, reference)
            found = diebold_mariano(own[complete].mean(axis=1), other[complete].mean(axis=1), horizon)
            overall[name][method] = as_test(found, reference, int(complete.sum()))
            by_step[name][method] = {
                str(step + 1): diebold_mariano(own[known, step], other[known, step], step + 1).p_value
                for step, known in enumerate(losses.known.T)
            }
    if references.point:
        overall["clark_west"] = {}
        for method in (name for name in losses.methods if name != references.point):
            values = losses.of("clark_west", method)[complete].mean(axis=1, dtype=np.float64)
            overall["clark_west"][method] = as_test(mean_test(values, horizon), references.point, int(complete.sum()))
    for of in overall.values():
        for family in dict.fromkeys(groups.values()):
            verdicts({method: of[method] for method in of if groups[method] == family})
    return {"overall": overall, "by_step": by_step}


def pairs(references: References) -> list[tuple[str, str, str]]:
    """Name of each test, the loss it compares, and what it compares with."""
    found = []
    for measure, loss in MEASURES.items():
        if getattr(references, measure):
            found.append((measure, loss, getattr(references, measure)))
        if references.untuned:
            found.append((f"{measure}_untuned", loss, references.untuned))
    return found


def sets_of(
    table: np.ndarray,
    methods: Sequence[str],
    reference: str,
    horizon: int,
    block: float,
    replications: int,
    seed: int,
    variances: np.ndarray | None = None,
) -> Json:
    """Model confidence set and test of superior ability over all methods, from losses [T, M] of overlap `horizon`.

    variances [T]: see `long_run.resolution`.
    """
    if len(methods) < 2:
        return {"reason": "a set of models needs at least two"}
    chance = cosine_chance(table, horizon, replications, seed, variances)
    if chance is None:
        return {"reason": f"{len(table)} origins are too few for forecasts {horizon} steps ahead"}
    drawn = bootstrap_chance(chance.means, means(weights(len(table), block, replications, seed), table))
    kept = model_confidence_set(chance, SIZE)
    found: Json = {
        "confidence_set": {
            "size": SIZE,
            "included": [name for name, inside in zip(methods, kept.included, strict=True) if inside],
            "p_values": dict(zip(methods, kept.p_values, strict=True)),
            "p_values_bootstrap": dict(zip(methods, model_confidence_set(drawn, SIZE).p_values, strict=True)),
        }
    }
    if not reference:
        return found | {"superior_ability": {"reason": "the reference has no finished run"}}
    base = list(methods).index(reference)
    tested = superior_ability(chance, base, len(table))
    return found | {
        "superior_ability": {
            "reference": reference,
            "statistic": tested.statistic,
            "p_value": tested.consistent,
            "p_lower": tested.lower,
            "p_upper": tested.upper,
            "p_value_bootstrap": superior_ability(drawn, base, len(table)).consistent,
            "best": methods[tested.best] if tested.best >= 0 else None,
        }
    }
