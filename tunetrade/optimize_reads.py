"""Which keys of a point its study reads: those of its method, its signal and its sizing.

All points have the same genes, so that NSGA-II can cross any two. A gene that the point's own method, signal or sizing
does not read is no setting: points that differ in such genes alone are one trial, tried and counted once.
"""

import math
from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING

from forecasting.errors import ConfigError
from forecasting.methods import method
from strategies.user_signal import is_user_signal

if TYPE_CHECKING:
    from tunetrade.config import StudyConfig
    from tunetrade.optimize_space import Point, Space, Value

METHOD, SIGNAL, SIZING = "method", "trading.signal", "trading.sizing"
GATES = (METHOD, SIGNAL, SIZING)
"""Keys whose value decides which others are read."""

READ_WITH: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "trading.threshold_k": (SIGNAL, ("threshold",)),
    "trading.probability_margin": (SIGNAL, ("probability",)),
    "trading.quantile_level": (SIGNAL, ("quantile",)),
    "trading.lots": (SIZING, ("fixed",)),
    "trading.risk_percent": (SIZING, ("risk",)),
    "trading.target_volatility": (SIZING, ("volatility",)),
    "trading.kelly_fraction": (SIZING, ("kelly",)),
    "trading.max_leverage": (SIZING, ("risk", "volatility", "kelly")),
}
"""The signals or sizings that read a key; a signal of the user's own may read those of all signals."""


def gate_of(key: str) -> str | None:
    """The key whose value decides whether this one is read; None where it always is."""
    if key.startswith(("method.", "training.")):
        return METHOD
    return READ_WITH[key][0] if key in READ_WITH else None


def reads(value: "Value", key: str) -> bool:
    """Whether a key is read where its gate has this value.

    >>> reads("threshold", "trading.threshold_k"), reads("mean-vs-last", "trading.threshold_k")
    (True, False)
    """
    name = str(value)
    if key.startswith("method."):
        return key.startswith(f"method.{name}.")
    if key.startswith("training."):
        return method(name).trains
    gate, values = READ_WITH[key]
    return name in values or (gate == SIGNAL and is_user_signal(name))


def in_use(point: "Point", key: str) -> bool:
    """Whether a point reads a key; also where the study decides its gate, see `check_reads`."""
    gate = gate_of(key)
    return gate is None or gate not in point or reads(point[gate], key)


def used(point: "Point") -> "dict[str, Value]":
    """The keys of a point that its study reads, by name."""
    return {key: point[key] for key in sorted(point) if in_use(point, key)}


def gates_of(study: "StudyConfig") -> "dict[str, Value]":
    """What the study itself has under the keys that decide."""
    return {METHOD: study.methods[0], SIGNAL: study.trading.signal, SIZING: study.trading.sizing}


def check_reads(study: "StudyConfig", space: "Space") -> None:
    """Refuse a key that no point of the space reads."""
    own = gates_of(study)
    for key in space:
        gate = gate_of(key)
        if gate is None:
            continue
        values = space[gate].choices if gate in space else (own[gate],)
        if not any(reads(value, key) for value in values):
            at = " or ".join(READ_WITH[key][1]) if key in READ_WITH else "one that trains"
            raise ConfigError(
                f"optimize.space.{key} is read only where {gate} is {at}, and here it is {_either(values)}; leave it "
                f"out, or search {gate} too"
            )


def _either(values: "tuple[Value, ...]") -> str:
    return " or ".join(map(str, values))


def size_of(space: "Space") -> float:
    """How many points differ in what they read; infinite where that has no end."""
    gates = [gate for gate in GATES if gate in space]
    total = 0.0
    for values in product(*(space[gate].choices for gate in gates)):
        head = dict(zip(gates, values, strict=True))
        total += math.prod(space[key].size for key in space if key not in head and in_use(head, key))
    return total
