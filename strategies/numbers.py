"""What counts as a number in settings, and as a whole one. Imports nothing internal."""

import math

EXACT = 1e-9
"""How far below a whole number of lot steps a size still counts as whole: 0.29 / 0.01 is 28.999999999999996."""


def finite(value: object) -> bool:
    """Whether a setting is a finite number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def points_of_one(point: float) -> float:
    """Points in a price of 1; prices of whole points are whole numbers divided by it, each the nearest double.

    >>> points_of_one(1e-05), 110001 / points_of_one(1e-05)
    (100000.0, 1.10001)
    """
    return float(max(round(1 / point), 1))
