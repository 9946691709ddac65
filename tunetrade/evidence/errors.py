"""Errors of a series with intervals, tests against the references, and sets of models: arrays in, plain values out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from forecasting.bootstrap import block_length, means, weights
from forecasting.model_sets import bootstrap_chance, cosine_chance, model_confidence_set, superior_ability
from forecasting.significance import diebold_mariano, mean_test
from tunetrade.evidence.figures import SIZE, Json, as_test, figure, verdicts
from tunetrade.evidence.losses import LOSSES, Losses

FEWEST = 30
"""Origins below which nothing is resampled."""

MEASURES = {"point": "squared", "density": "crps"}
"""What is tested, and the loss it is tested by."""

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
    shared = {"anchored": _sums(np.abs(losses.y - losses.anchor), losses), "known": _sums(losses.known * 1.0, losses)}
    resampled = {name: _resampled(drawn, sums) for name, sums in shared.items()}
    of_references = {
        name: (_method_sums(losses, name), _method_replicates(losses, name, drawn))
        for name in dict.fromkeys((references.point, references.density, references.untuned))
        if name
    }
    tests = _tests(losses, references, groups)
    found: Json = {}
    for method in losses.methods:
        sums, replicates = (
            of_references[method]
            if method in of_references
            else (_method_sums(losses, method), _method_replicates(losses, method, drawn))
        )
        estimate = _figures(_totals(sums), _totals(shared), _of(of_references, 0), references, losses)
        spread = _figures(replicates, resampled, _of(of_references, 1), references, losses)
        found[method] = {
            "figures": {name: figure(float(value[0]), spread[name][:, 0]) for name, value in estimate.items()},
            "by_step": {
                str(step): {name: figure(float(estimate[name][step]), spread[name][:, step]) for name in BY_STEP
                            if name in estimate}
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


def _method_sums(losses: Losses, method: str) -> dict[str, np.ndarray]:
    return {name: _sums(losses.of(name, method), losses) for name in LOSSES if name != "clark_west"}


def _method_replicates(losses: Losses, method: str, drawn: np.ndarray) -> dict[str, np.ndarray]:
    return {name: _resampled(drawn, sums) for name, sums in _method_sums(losses, method).items()}


def _resampled(drawn: np.ndarray, sums: np.ndarray) -> np.ndarray:
    return np.asarray(means(drawn, sums), np.float32)


def _totals(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values.mean(axis=0) for name, values in sums.items()}


def _of(references: Mapping[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]], which: int) -> dict[str, Json]:
    """Totals (0) or replicates (1) of the references."""
    return {name: _totals(parts[0]) if which == 0 else parts[1] for name, parts in references.items()}


def _figures(
    own: Mapping[str, np.ndarray],
    shared: Mapping[str, np.ndarray],
    others: Mapping[str, Mapping[str, np.ndarray]],
    references: References,
    losses: Losses,
) -> dict[str, np.ndarray]:
    """Error figures from mean sums [..., 1 + H] of an estimate or of its replicates; names as in `forecasting.metrics`.

    Beside those: mse_ratio and crps_ratio to the references, mse_untuned and crps_untuned to the untuned model.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        known = shared["known"]
        mse, mae = own["squared"] / known, own["absolute"] / known
        true = losses.y[losses.known]
        found = {
            "mse": mse,
            "rmse": np.sqrt(mse),
            "nrmse": np.sqrt(mse) / float(np.ptp(true)),
            "mae": mae,
            "mase": mae / losses.naive,
            "rmae": own["absolute"] / shared["anchored"],
            "crps": own["crps"] / known,
            **{f"coverage{share}": own[f"covered{share}"] / known for share in (50, 80, 90)},
            "directional_accuracy": own["right"] / own["moved"],
        }
        if references.point:
            found["mse_ratio"] = own["squared"] / others[references.point]["squared"]
        if references.density:
            found["crps_ratio"] = own["crps"] / others[references.density]["crps"]
        if references.untuned:
            found["mse_untuned"] = own["squared"] / others[references.untuned]["squared"]
            found["crps_untuned"] = own["crps"] / others[references.untuned]["crps"]
    return found


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
    table: np.ndarray, methods: Sequence[str], reference: str, horizon: int, block: float, replications: int, seed: int
) -> Json:
    """Model confidence set and test of superior ability over all methods, from losses [T, M] of overlap `horizon`."""
    if len(methods) < 2:
        return {"reason": "a set of models needs at least two"}
    chance = cosine_chance(table, horizon, replications, seed)
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
