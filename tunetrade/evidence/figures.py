"""Plain values of evidence.json: figures with their intervals, tests with their verdicts, and why there is none."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from forecasting.bootstrap import interval
from forecasting.significance import DieboldMariano, holm, origins_needed

Json = dict[str, Any]

LEVEL = 0.95
SIZE = 0.05
POWER = 0.8
BEATS, NOT_SHOWN, LOSES = "BEATS", "NOT SHOWN", "LOSES"


def plain(value: Any) -> Any:
    """A number with 8 significant digits, None where not finite; containers through and through."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value


def figure(value: float, replicates: np.ndarray | None = None) -> Json:
    """A value with the ends of its percentile interval over replicates [R]; those not finite are left out.

    Both ends are None where more than one in ten replicates is not finite.
    """
    low = high = math.nan
    if replicates is not None and math.isfinite(value):
        kept = replicates[np.isfinite(replicates)]
        if len(kept) >= 0.9 * len(replicates):
            low, high = (float(end) for end in interval(kept, LEVEL))
    return {"value": value, "low": low, "high": high}


def as_test(found: DieboldMariano, reference: str, count: int) -> Json:
    """A one-sided test as it stands in the file; `verdicts` adds what many methods make of it.

    more: observations beyond the `count` of now that would show the estimated difference, of whichever sign.
    """
    low, high = found.interval(LEVEL)
    needed = origins_needed(found, count, SIZE, POWER)
    return {
        "reference": reference,
        "difference": found.difference,
        "low": low,
        "high": high,
        "statistic": found.statistic,
        "degrees": found.degrees,
        "p_value": found.p_value,
        "p_worse": found.p_worse,
        "observations": count,
        "needed": needed,
        "more": max(0.0, math.ceil(needed - count)) if math.isfinite(needed) else math.nan,
    }


def verdicts(tests: Mapping[str, Json]) -> None:
    """Add Holm's p-values over the tests of a family, and a verdict each; `tests` by method are changed in place."""
    names = list(tests)
    better = holm(np.array([tests[name]["p_value"] for name in names]))
    worse = holm(np.array([tests[name]["p_worse"] for name in names]))
    for name, low, high in zip(names, better, worse, strict=True):
        tests[name]["p_holm"], tests[name]["p_worse_holm"] = float(low), float(high)
        tests[name]["verdict"] = BEATS if low < SIZE else LOSES if high < SIZE else NOT_SHOWN
