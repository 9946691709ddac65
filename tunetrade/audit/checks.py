"""All checks of a run, in the order in which a reader wants them."""

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from forecasting.errors import UserError
from tunetrade.audit.controls import NEGATIVE, POSITIVE, leaked_target, shuffled_futures
from tunetrade.audit.fills import NAME as FILLS
from tunetrade.audit.fills import trades_follow
from tunetrade.audit.fitting import FIT, ROWS, SCALE, causal_scale, fit_windows, training_rows
from tunetrade.audit.record import RECORD, TRUTH, record, truth
from tunetrade.audit.result import Check, failed, skipped
from tunetrade.audit.skill import NAME as SKILL
from tunetrade.audit.skill import plausible_skill
from tunetrade.audit.splits import BASE, SPLIT, base_cutoff, split_overlap
from tunetrade.audit.subject import Subject, UnavailableError
from tunetrade.audit.truncation import FORECASTS, TARGETS, forecasts_on_cut_data, targets_on_cut_data
from tunetrade.audit.warm_up import NAME as WARM_UP
from tunetrade.audit.warm_up import warm_up

CHECKS: dict[str, Callable[[Subject], Check]] = {
    SPLIT: split_overlap,
    BASE: base_cutoff,
    TRUTH: truth,
    FORECASTS: forecasts_on_cut_data,
    TARGETS: targets_on_cut_data,
    FILLS: trades_follow,
    FIT: fit_windows,
    SCALE: causal_scale,
    ROWS: training_rows,
    WARM_UP: warm_up,
    RECORD: record,
    SKILL: plausible_skill,
    POSITIVE: leaked_target,
    NEGATIVE: shuffled_futures,
}


def run_checks(subject: Subject) -> tuple[list[Check], dict[str, float]]:
    """Every check, and the seconds each took."""
    done, seconds = [], {}
    for name, check in CHECKS.items():
        started = time.perf_counter()
        done.append(_guarded(name, check, subject))
        seconds[name] = round(time.perf_counter() - started, 3)
    return done, seconds


def _guarded(name: str, check: Callable[[Subject], Check], subject: Subject) -> Check:
    """A check that cannot be made has not been passed."""
    try:
        return check(subject)
    except UnavailableError as error:
        return skipped(name, str(error))
    except UserError as error:
        return failed(name, f"could not be checked: {' '.join(str(error).split())}")
    except Exception as error:  # one broken check must not hide what the others find
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return failed(name, f"could not be checked: {type(error).__name__}: {error} ({where})")


def counts(checks: Sequence[Check]) -> dict[str, int]:
    """How many of each status."""
    return {status: sum(check.status == status for check in checks) for status in ("PASS", "WARN", "FAIL", "SKIPPED")}
