"""Skill that no honest forecast of closing prices has.

The part of the variance of price changes that a forecast explains, 1 - MSE / MSE of the last close, is a few
thousandths where anything is predictable at all. A forecast that explains R2 of one-bar changes trades at a Sharpe
ratio of about sqrt(bars a year x R2 / (1 - R2)) before costs (Campbell and Thompson 2008): a tenth is above 5 on daily
bars. Beyond that a leak is the likelier cause.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tunetrade.audit.result import Check, Offence, failed, passed, skipped
from tunetrade.audit.subject import Subject

NAME = "skill"

ERRORS = 3.0
"""Standard errors by which skill must exceed what is plausible."""

FEWEST = 30
"""Origins below which skill says nothing."""


@dataclass(frozen=True)
class Skill:
    """R2 of a step, and the least it plausibly is: ERRORS standard errors below."""

    step: int
    r2: float
    least: float
    origins: int


def skill_of(table: pd.DataFrame, step: int) -> Skill | None:
    """Of one step of a long table; None where too few truths are known or nothing moves."""
    rows = table[(table["h"] == step) & table["y"].notna()]
    y, mean, anchor = (rows[name].to_numpy(np.float64) for name in ("y", "mean", "anchor"))
    naive = (y - anchor) ** 2
    if len(rows) < FEWEST or not naive.mean() > 0:
        return None
    gain = naive - (y - mean) ** 2
    r2 = float(gain.mean() / naive.mean())
    error = _standard_error(gain - r2 * naive, step) / float(naive.mean())  # of a ratio of means, delta method
    return Skill(step, r2, r2 - ERRORS * error, len(rows))


def _standard_error(values: np.ndarray, step: int) -> float:
    """Of a mean of overlapping steps: Newey and West's, with Bartlett weights."""
    count, centred = len(values), values - values.mean()
    lags = min(max(step - 1, int(4 * (count / 100) ** (2 / 9))), count - 1)
    variance = centred @ centred / count
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag]) / count
    return float(np.sqrt(max(variance, 0.0) / count))


def implausible(table: pd.DataFrame, limit: float) -> list[Skill]:
    """First and last steps whose R2 is above `limit` by more than chance."""
    found = (skill_of(table, step) for step in sorted({1, int(table["h"].max())}))
    return [skill for skill in found if skill and skill.least > limit]


def plausible_skill(subject: Subject) -> Check:
    """The run's own skill against what is plausible."""
    if not subject.forecasts_made:
        return skipped(NAME, "a benchmark forecasts nothing")
    first = skill_of(subject.table, 1)
    if first is None:
        return skipped(NAME, f"fewer than {FEWEST} known truths, or closes that never move")
    limit = subject.options.plausible_r2
    rows = [
        Offence(f"{skill.origins} origins", f"R2[h={skill.step}]", skill.r2, f"at most {limit:g}")
        for skill in implausible(subject.table, limit)
    ]
    measured = {"r2": first.r2, "least": first.least, "limit": limit}
    if rows:
        return failed(
            NAME, f"forecasts explain {first.r2:.0%} of one-bar changes, which looks like a leak", rows, **measured
        )
    return passed(
        NAME, f"forecasts explain {first.r2:.2%} of one-bar changes, at most {limit:.0%} is plausible", **measured
    )
