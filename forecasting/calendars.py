"""Rule-based session calendars: which bars a market should have, from timeframe and trading hours alone.

A calendar never looks at the bars of a series, so the stamps it gives for bars to come are known at the cutoff.
"""

from typing import Protocol

import numpy as np


class SessionCalendar(Protocol):
    """The close times a market's bars should have."""

    @property
    def timezone(self) -> str:
        """IANA name of the market's local time, in which hour-of-week patterns are stable."""
        ...

    def following(self, cutoff: np.datetime64, count: int) -> np.ndarray:
        """Close times of the `count` bars after the bar that closed at `cutoff`: datetime64[ns] UTC, [count]."""
        ...

    def between(self, first: np.datetime64, last: np.datetime64) -> np.ndarray:
        """Close times of all bars with first <= close <= last: datetime64[ns] UTC, [n]."""
        ...
