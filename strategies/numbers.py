"""What counts as a number in settings. Imports nothing internal."""

import math


def finite(value: object) -> bool:
    """Whether a setting is a finite number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
