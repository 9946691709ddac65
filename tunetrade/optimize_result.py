"""From the trials of a search to what they show: front, winner, importance, neighbours, and what luck would give."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from strategies.deflated import SIGNIFICANT, deflated_sharpe, expected_maximum, moments
from strategies.metrics import years_of
from tunetrade.ledger import Trial, trials
from tunetrade.optimize_journal import DIRECTIONS
from tunetrade.optimize_reads import used
from tunetrade.optimize_sampler import distributions
from tunetrade.optimize_space import Point, Space
from tunetrade.optimize_trial import Verdict, Workplace
from tunetrade.study import LEDGER

RULE = (
    "Of the trials that meet the constraints and that no other one beats on both objectives: those whose CRPS skill is "
    "not below 0, the yardstick's, or all of them where there is none; of these the highest Sharpe ratio."
)

FIGURES = ("skill", "sharpe", "trades", "max_drawdown", "total_return")
LEAST_IN_TOP = 5
"""Trials that PED-ANOVA's upper quantile should hold at least."""

Json = dict[str, Any]


def result_of(place: Workplace, found: Sequence[FrozenTrial]) -> Json:
    """The content of optimize.json, but for what the winner's neighbours tell."""
    rows = [_row(trial) for trial in found]
    front = pareto_front(rows)
    for row in rows:
        row["front"] = row["number"] in front
    winner = chosen(rows)
    failed = sum(row["state"] == "failed" for row in rows)
    return {
        "study": place.study.name,
        "series": [each.unique_id for each in place.series],
        "spans": {each.unique_id: [str(time)[:10] for time in each.span] for each in place.series},
        "yardsticks": {each.unique_id: each.yardstick for each in place.series},
        "training_seed": place.study.seeds[0],
        "search_seed": place.options.seed,
        "population": place.options.population,
        "min_trades": place.options.min_trades,
        "max_drawdown": place.options.max_drawdown,
        "space": {key: _values(place.options.space, key) for key in place.options.space},
        "rows": rows,
        "failed": failed,
        "front": front,
        "winner": winner,
        "rule": RULE,
        "importance": importance(place.options.space, found),
        "robustness": [],
        "deflated": None,
        "warnings": _warnings(rows, winner, failed, place),
    }


def _row(trial: FrozenTrial) -> Json:
    head = {"number": trial.number, "settings": used(trial.params)}
    if trial.state != TrialState.COMPLETE:
        return head | {"state": "failed", "failure": trial.user_attrs.get("failure", ""), "feasible": False}
    meets = all(value <= 0 for value in trial.constraints.values())
    return head | {"state": "done", "feasible": meets, **trial.user_attrs["figures"]}


def _values(space: Space, key: str) -> Any:
    own = space[key]
    if own.choices:
        return list(own.choices)
    return (
        {"low": own.low, "high": own.high}
        | ({"step": own.step} if own.step else {})
        | ({"log": True} if own.log else {})
    )


def pareto_front(rows: Sequence[Json]) -> list[int]:
    """Numbers of the trials that meet the constraints and that none of these is at least equal to on both objectives.

    Of trials with the same two figures the first stands for all.
    """
    able = [row for row in rows if row["feasible"]]
    return [row["number"] for row in able if not any(_beats(other, row) for other in able)]


def _beats(one: Json, other: Json) -> bool:
    better = one["skill"] >= other["skill"] and one["sharpe"] >= other["sharpe"]
    same = (one["skill"], one["sharpe"]) == (other["skill"], other["sharpe"])
    return better and (not same or one["number"] < other["number"])


def chosen(rows: Sequence[Json]) -> int | None:
    """The winner's number by `RULE`; None where no trial meets the constraints."""
    front = [row for row in rows if row["front"]]
    skilled = [row for row in front if row["skill"] >= 0] or front
    best = max(skilled, key=lambda row: (row["sharpe"], row["skill"], -row["number"]), default=None)
    return None if best is None else int(best["number"])


def importance(space: Space, found: Sequence[FrozenTrial]) -> Json:
    """Share of each key in what sets the best trials apart (PED-ANOVA): of the front, of skill, of Sharpe ratio.

    A method's keys count among the trials of that method. Empty where there are too few trials to tell.
    """
    done = [trial for trial in found if trial.state == TrialState.COMPLETE]
    top = max(0.1, LEAST_IN_TOP / max(1, len(done)))
    if top > 0.5:
        return {}
    kinds = distributions(space)
    study = optuna.create_study(directions=DIRECTIONS)
    for trial in done:
        own = used(trial.params)
        study.add_trial(
            create_trial(
                values=trial.values,
                params=dict(own),
                distributions={key: kinds[key] for key in own},
                constraints=trial.constraints,
            )
        )
    evaluator = PedAnovaImportanceEvaluator(target_quantile=top)
    targets = {"front": None, "skill": lambda trial: -trial.values[0], "sharpe": lambda trial: -trial.values[1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = {
            name: get_param_importances(study, evaluator=evaluator, target=target) for name, target in targets.items()
        }
    shares["skill"] = _of_models(shares["skill"])
    return {name: {key: float(share) for key, share in of.items()} for name, of in shares.items()}


def _of_models(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares of the keys that a forecast depends on; what trading keys have of skill is noise."""
    kept = {key: share for key, share in shares.items() if not key.startswith(("trading.", "broker."))}
    total = sum(kept.values())
    return {key: share / total for key, share in kept.items()} if total else {}


def with_robustness(place: Workplace, result: Json, around: Sequence[tuple[str, Point, Verdict]]) -> Json:
    """The result with the winner's neighbours and its deflated Sharpe ratio, which counts them as trials too."""
    rows = [_neighbour(place, key, point, verdict) for key, point, verdict in around]
    winner = result["rows"][result["winner"]]
    deflated = deflation(place.runs / LEDGER, winner["key"], result["series"])
    said = [*result["warnings"], *_robust_words(winner, rows), *_deflated_words(deflated)]
    return result | {"robustness": rows, "deflated": deflated, "warnings": said}


def _neighbour(place: Workplace, key: str, point: Point, verdict: Verdict) -> Json:
    head = {"key": key, "value": point[key]}
    if verdict.portfolio is None:
        return head | {"state": "failed", "failure": verdict.failure}
    meets = all(value <= 0 for value in verdict.constraints(place.options).values())
    return head | {"state": "done", "feasible": meets, **{name: verdict.figures[name] for name in FIGURES}}


def deflation(ledger: Path, key: str, series: Sequence[str]) -> Json:
    """The winner's Sharpe ratio against the best of as many lucky trials as the ledger has on this data.

    On this data: lines that share a series and a day with the winner's, whoever tried them; benchmarks, which nobody
    chose among, left out. Trials that earned the same on every day are one, by whatever settings; one that never traded
    counts with a Sharpe ratio of 0.
    """
    lines = [line for line in trials(ledger) if line.get("daily_returns") and line["kind"] != "benchmark"]
    own = next(line for line in lines if line["key"] == key)
    beside = [line for line in lines if _shares(line, own, set(series))]
    beside = list({(*line["days"], *line["daily_returns"]): line for line in beside}.values())
    ratios = [_sharpe(line) for line in beside]
    variance = float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0
    found = moments(np.array(own["daily_returns"]))
    days = len(own["days"]) / years_of(np.array(own["days"], "datetime64[D]"))
    probability = deflated_sharpe(found, len(beside), variance)
    return {
        "trials": len(beside),
        "sharpe": found.sharpe * math.sqrt(days),
        "expected_of_luck": expected_maximum(len(beside), variance) * math.sqrt(days),
        "days": found.observations,
        "skewness": found.skewness,
        "kurtosis": found.kurtosis,
        "probability": probability,
        "significant": bool(probability >= SIGNIFICANT),
    }


def _shares(line: Trial, own: Trial, series: set[str]) -> bool:
    overlap = line["days"][0] <= own["days"][-1] and own["days"][0] <= line["days"][-1]
    return overlap and bool(series & set(line["unique_id"].split("+")))


def _sharpe(line: Trial) -> float:
    found = moments(np.array(line["daily_returns"], np.float64)).sharpe
    return found if math.isfinite(found) else 0.0


def _warnings(rows: Sequence[Json], winner: int | None, failed: int, place: Workplace) -> list[str]:
    said = [f"{failed} of {len(rows)} trials failed; the first: {_first_failure(rows)}"] if failed else []
    if winner is None:
        return [*said, _none_able(rows, place)]
    if rows[winner]["skill"] < 0:
        said.append(
            "No trial of the front forecasts better than the yardstick: whatever the winner earned, it did not earn by "
            "forecasting well."
        )
    return said


def _first_failure(rows: Sequence[Json]) -> str:
    return next(str(row["failure"]) for row in rows if row["state"] == "failed")


def _none_able(rows: Sequence[Json], place: Workplace) -> str:
    done = [row for row in rows if row["state"] == "done"]
    if not done:
        return "Every trial failed, so there is no winner."
    most = max(row["trades"] for row in done)
    least = min(row["max_drawdown"] for row in done)
    return (
        f"No trial meets the constraints, so there is no winner: at most {most} trades ({place.options.min_trades} "
        f"asked for), drawdowns from {100 * least:.1f} % ({100 * place.options.max_drawdown:.1f} % allowed); change "
        "optimize.min_trades, optimize.max_drawdown or the space."
    )


def _robust_words(winner: Json, rows: Sequence[Json]) -> list[str]:
    done = [row for row in rows if row["state"] == "done"]
    worse = [row for row in done if row["sharpe"] < winner["sharpe"] / 2 or not row["feasible"]]
    if winner["sharpe"] <= 0 or len(worse) * 2 <= len(done):
        return []
    return [
        f"{len(worse)} of {len(done)} neighbours of the winner keep less than half of its Sharpe ratio, or miss a "
        "constraint: it stands on a peak, and peaks are mostly luck."
    ]


def _deflated_words(found: Json) -> list[str]:
    if found["significant"]:
        return []
    chance = "unknown" if math.isnan(found["probability"]) else f"{100 * found['probability']:.0f} %"
    return [
        f"Not significant: the winner's Sharpe ratio of {found['sharpe']:.2f} a year is the best of {found['trials']} "
        f"different trials on this data, the best of as many without any skill shows {found['expected_of_luck']:.2f} "
        f"on average, and the probability that its true one lies above that is {chance}, less than "
        f"{100 * SIGNIFICANT:.0f} %. Do not trade it."
    ]
