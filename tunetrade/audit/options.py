"""The [audit] section: whether studies audit their cells, and how thoroughly."""

from dataclasses import dataclass

from forecasting.errors import OptionError


@dataclass(frozen=True)
class AuditOptions:
    """An [audit] section.

    in_study: audit every cell as it is finished. sample: cutoffs recomputed on cut data, the first and the last among
    them. shuffles: shuffled futures that the run's targets are traded on. plausible_r2: part of the variance of price
    changes above which a forecast's skill is taken for a leak.
    """

    in_study: bool = True
    sample: int = 3
    shuffles: int = 100
    plausible_r2: float = 0.1

    def __post_init__(self) -> None:
        if self.sample < 2:
            raise OptionError(f"sample is {self.sample}; give at least 2 cutoffs, the first and the last")
        if self.shuffles < 20:
            raise OptionError(f"shuffles is {self.shuffles}; give at least 20, such as 100")
        if not 0 < self.plausible_r2 < 1:
            raise OptionError(f"plausible_r2 is {self.plausible_r2}; give a part of the variance, such as 0.1")
