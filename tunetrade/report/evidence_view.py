"""evidence.json as the report reads it: what is compared, what came of it, and nothing where a block has a reason.

docs/EVIDENCE.md describes the file. Keys that are missing are figures that do not exist: a study made by older code, or
one too short for a test, still has a report.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunetrade.report.load import Json, number

BEATS, NOT_SHOWN, LOSES = "BEATS", "NOT SHOWN", "LOSES"
OVERALL = "All series"


@dataclass(frozen=True)
class Comparison:
    """What is compared: key of the test, label of the column, the ratio that shows it, which sign is better.

    Errors are shown as skill, 1 - ratio, so that more is better everywhere; money as a difference.
    """

    key: str
    label: str
    ratio: str
    meaning: str


ERRORS = (
    Comparison("density", "CRPS skill", "crps_ratio", "against the volatility cone (EWMA-t, seasonal intraday)"),
    Comparison("point", "MSE skill", "mse_ratio", "against the random walk"),
    Comparison("density_untuned", "CRPS skill, untuned", "crps_untuned", "against the same model untuned"),
    Comparison("point_untuned", "MSE skill, untuned", "mse_untuned", "against the same model untuned"),
)
MONEY = (
    Comparison("random_walk", "Money, random walk", "", "net profit less the random walk's through the same signal"),
    Comparison("untuned", "Money, untuned", "", "net profit less the untuned model's through the same signal"),
)


@dataclass(frozen=True)
class Outcome:
    """One comparison of one method: estimate with interval (more is better), and its test; NaN where not known."""

    value: float
    low: float
    high: float
    p_value: float
    p_holm: float
    verdict: str
    more: float
    observations: int
    reference: str
    worse_holm: float = math.nan


def evidence_for(study_folder: Path) -> Json:
    """evidence.json of a study's folder where it is of the present files and code, else the same made anew."""
    from tunetrade import evidence

    known = evidence._known(study_folder / evidence.FILE)
    if known.get("inputs_sha") == evidence.inputs_of(study_folder):
        return known
    return evidence.evidence_of(study_folder)


def part(tree: Any, *path: str) -> Json:
    """The block under a path of keys; empty where one is missing, or where the block only has a reason."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) and "reason" not in tree else {}


def reason(tree: Any, *path: str) -> str:
    """Why a block could not be computed; empty where it was, or where it is missing altogether."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
        if isinstance(tree, Mapping) and "reason" in tree:
            return str(tree["reason"])
    return ""


def interval(block: Any) -> tuple[float, float, float]:
    """Value, low and high of a figure; NaN where not known."""
    block = block if isinstance(block, Mapping) else {}
    return number(block, "value"), number(block, "low"), number(block, "high")


def outcomes(evidence: Json, series: str) -> dict[str, dict[str, Outcome]]:
    """Outcome of each comparison by method and key, of a series or of OVERALL; absent where there is none."""
    errors, money = blocks(evidence, series)
    found: dict[str, dict[str, Outcome]] = {}
    for method, block in part(errors, "methods").items():
        of_method: dict[str, Outcome] = {}
        for each in ERRORS:
            shown = _skill(block, each, series == OVERALL)
            test = part(block, "tests", each.key)
            if math.isfinite(shown[0]) and test:
                of_method[each.key] = _outcome(shown, test)
        found[method] = of_method
    for method, block in money.items():
        for each in MONEY:
            test = part(block, "tests", each.key)
            if test:
                shown = number(test, "difference"), number(test, "low"), number(test, "high")
                found.setdefault(method, {})[each.key] = _outcome(shown, test)
    return found


def blocks(evidence: Json, series: str) -> tuple[Json, Json]:
    """The errors of a series (or OVERALL), and its money by method."""
    if series == OVERALL:
        return part(evidence, "overall", "errors"), part(evidence, "overall", "money", "methods")
    return part(evidence, "series", series, "errors"), part(evidence, "series", series, "money", "methods")


def figure_of(evidence: Json, series: str, method: str, key: str) -> tuple[float, float, float]:
    """An error figure of a method on a series with its interval."""
    return interval(part(evidence, "series", series, "errors", "methods", method, "figures", key))


def money_of(evidence: Json, series: str, method: str, key: str) -> tuple[float, float, float]:
    """A money figure of a method on a series with its interval."""
    return interval(part(evidence, "series", series, "money", "methods", method, "figures", key))


def steps_of(evidence: Json, series: str, method: str, key: str) -> list[tuple[int, float, float, float]]:
    """Step, value, low and high of an error figure at each step ahead; steps without a value are left out."""
    by_step = part(evidence, "series", series, "errors", "methods", method, "by_step")
    found = [(int(step), *interval(part(by_step[step], key))) for step in sorted(by_step, key=int)]
    return [each for each in found if math.isfinite(each[1])]


def has_cone(evidence: Json, series: str, method: str) -> bool:
    """Whether a method predicts a spread at all; the random walk does not, and would put others off any scale."""
    inside = figure_of(evidence, series, method, "coverage90")[0]
    return not math.isfinite(inside) or inside > 0.05


def counted(found: Mapping[str, Mapping[str, Outcome]], key: str, methods: Sequence[str]) -> dict[str, list[str]]:
    """Methods by verdict of one comparison, among those that were compared."""
    by_verdict: dict[str, list[str]] = {BEATS: [], NOT_SHOWN: [], LOSES: []}
    for method in methods:
        outcome = found.get(method, {}).get(key)
        if outcome is not None and outcome.verdict in by_verdict:
            by_verdict[outcome.verdict].append(method)
    return by_verdict


def _skill(block: Json, comparison: Comparison, overall: bool) -> tuple[float, float, float]:
    """Estimate and interval as skill; the ends change places where a ratio becomes one."""
    if overall:
        return interval(part(block, "skill", comparison.key))
    value, low, high = interval(part(block, "figures", comparison.ratio))
    return 1 - value, 1 - high, 1 - low


def _outcome(shown: tuple[float, float, float], test: Json) -> Outcome:
    count = number(test, "observations")
    return Outcome(
        *shown,
        p_value=number(test, "p_value"),
        p_holm=number(test, "p_holm"),
        verdict=str(test.get("verdict") or ""),
        more=number(test, "more"),
        observations=int(count) if math.isfinite(count) else 0,
        reference=str(test.get("reference") or ""),
        worse_holm=number(test, "p_worse_holm"),
    )
