"""The [walk] section of a study: when models are fitted anew within the test part, and on which bars."""

from dataclasses import dataclass

from forecasting.errors import OptionError

EXPANDING, ROLLING = "expanding", "rolling"


@dataclass(frozen=True)
class WalkOptions:
    """Walk-forward evaluation; without `refit` and `folds` a study has one model for its whole test part.

    refit: bars of the test part between two fits, K. folds: without refit, how many folds of equal length to cut the
    test part into; with it, the most fits there are, the last of which forecasts to the end. window: which windows a
    fold trains on, "expanding" from the study's train_start, or "rolling:N", the last N before its validation slice.
    warm_start: whether a fold begins with the weights that the fold before ended with, rather than with the base.
    warm_steps: training steps of such a fold, 0 for training.steps.
    """

    refit: int = 0
    folds: int = 0
    window: str = EXPANDING
    warm_start: bool = False
    warm_steps: int = 0

    def __post_init__(self) -> None:
        if self.refit < 0 or self.folds < 0:
            name = "refit" if self.refit < 0 else "folds"
            raise OptionError(f"{name} is {getattr(self, name)}; give a whole number from 1, or 0 to leave it out")
        if self.warm_steps < 0 or (self.warm_steps and not self.warm_start):
            raise OptionError(
                f"warm_steps is {self.warm_steps}; give steps of a warm-started fold with warm_start = true, or 0"
            )
        if self.window != EXPANDING and self.train_windows < 1:
            raise OptionError(f"window is {self.window!r}; give 'expanding' or 'rolling:N', such as 'rolling:750'")

    @property
    def on(self) -> bool:
        """Whether there is anything to walk."""
        return bool(self.refit or self.folds)

    @property
    def train_windows(self) -> int:
        """Most windows that a fold trains on; 0 where that grows, or cannot be read."""
        kind, _, count = self.window.partition(":")
        return int(count) if kind == ROLLING and count.isascii() and count.isdigit() else 0
