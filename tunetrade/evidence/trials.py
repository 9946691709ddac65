"""Every trial in the ledger counts against the result: deflated Sharpe ratios and the chance of overfitting."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from strategies.deflated import SIGNIFICANT, deflated_sharpe, expected_maximum, moments
from strategies.metrics import years_of
from strategies.overfitting import probability_of_overfitting
from strategies.sharpe import probability_above, sharpe_errors
from tunetrade.evidence.figures import Json
from tunetrade.evidence.money import Accounts
from tunetrade.ledger import Trial, trials

DIGITS = 10
"""Of a daily return in the ledger."""


def read_trials(ledger: Path) -> list[Trial]:
    """All trials, failed ones too; benchmarks are left out: nobody chose among them."""
    return [line for line in trials(ledger) if line.get("kind") != "benchmark"]


def trials_of(lines: Sequence[Trial], series: str, accounts: Accounts, benchmarks: Collection[str] = ()) -> Json:
    """What the ledger says of one series: how many trials, what luck gives the best, each account's deflated ratio.

    All trials on the series count, whatever days they saw and whether or not they failed; those that earned the same on
    the same days are one. The variance between trials is that of those on the tested days, or of all where these are
    fewer than two. A ledger with fewer than the study has accounts (benchmarks apart) has lost some: nobody knows how
    many, and any number put in their place would flatter, so nothing is deflated.
    """
    own = [line for line in lines if series in str(line["unique_id"]).split("+")]
    traded = [line for line in own if line.get("daily_returns")]
    different = list({(*line["days"], *line["daily_returns"]): line for line in traded}.values())
    failed = len(own) - len(traded)
    count = len(different) + failed
    needed = _accounts(accounts, benchmarks)
    lost = len(different) < needed
    days = (str(accounts.days[0]), str(accounts.days[-1]))
    same = [line for line in different if line["days"][0] <= days[1] and days[0] <= line["days"][-1]]
    ratios = [_ratio(line) for line in (same if len(same) > 1 else different)]
    variance = float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0
    yearly = math.sqrt(len(accounts.days) / years_of(accounts.days))
    found: Json = {
        "trials": count,
        "failed": failed,
        "on_these_days": len(same),
        "alike": len(traded) - len(different),
        "deviation_of_sharpe": math.sqrt(variance) * yearly,
        "expected_of_luck": math.nan if lost else expected_maximum(max(count, 1), variance) * yearly,
        "deflated": {},
        "overfitting": _overfitting(same),
    }
    if lost:
        why = f"fewer trials in the ledger ({len(different)}) than accounts in the study ({needed})"
        return found | {"deflated": {"reason": why}}
    for account in accounts.of:
        errors = sharpe_errors(account.returns)
        known = math.isfinite(errors.found.sharpe)
        chance = deflated_sharpe(errors.found, max(count, 1), variance) if known else math.nan
        dependent = probability_above(errors, expected_maximum(max(count, 1), variance))
        found["deflated"].setdefault(account.method, {})[str(account.seed)] = {
            "probability": chance,
            "probability_dependent": dependent,
            "significant": bool(min(chance, dependent) >= SIGNIFICANT),
        }
    return found


def _accounts(accounts: Accounts, benchmarks: Collection[str]) -> int:
    """How many accounts nobody has as a benchmark, those that earned the same once, as the ledger rounds returns."""
    return len({tuple(np.round(each.returns, DIGITS)) for each in accounts.of if each.method not in benchmarks})


def _overfitting(same: Sequence[Trial]) -> Json:
    """Over the trials that saw the same days, the most numerous such group."""
    groups: dict[tuple[str, ...], list[list[float]]] = {}
    for line in same:
        groups.setdefault(tuple(line["days"]), []).append(line["daily_returns"])
    if not groups:
        return {"reason": "no trial in the ledger saw these days"}
    largest = max(groups.values(), key=len)
    returns = np.array([[math.nan if value is None else value for value in each] for each in largest], np.float64)
    found = probability_of_overfitting(np.nan_to_num(returns).T)
    if found is None:
        return {"reason": f"{len(largest)} different trials on {returns.shape[1]} days are too few"}
    return {
        "probability": found.probability,
        "loss": found.loss,
        "slope": found.slope,
        "splits": found.splits,
        "trials": found.trials,
    }


def _ratio(line: Trial) -> float:
    returns = np.array([math.nan if value is None else value for value in line["daily_returns"]], np.float64)
    found = moments(np.nan_to_num(returns)).sharpe
    return found if math.isfinite(found) else 0.0
