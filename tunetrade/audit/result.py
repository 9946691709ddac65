"""What a check finds: PASS, FAIL, WARN or SKIPPED, why, what was measured, and the rows that offend."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

PASS, FAIL, WARN, SKIPPED = "PASS", "FAIL", "WARN", "SKIPPED"

SHOWN = 20
"""Offending rows kept of a check; `offences` counts them all."""


@dataclass(frozen=True)
class Offence:
    """A row that offends: UTC, column, the value the run holds, the value found here."""

    time: str
    column: str
    seen: Any
    recomputed: Any

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.time} {self.column}: {_short(self.seen)} in the run, {_short(self.recomputed)} recomputed"


@dataclass(frozen=True)
class Check:
    """Outcome of one check; `said` is a sentence for people, `measured` figures for programs."""

    name: str
    status: str
    said: str
    offending: tuple[Offence, ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for audit.json."""
        rows = [asdict(row) for row in self.offending[:SHOWN]]
        return {
            "name": self.name, "status": self.status, "said": self.said, "offences": len(self.offending),
            "offending": rows, "measured": self.measured,
        }  # fmt: skip


def passed(name: str, said: str, **measured: Any) -> Check:
    """A check that holds."""
    return Check(name, PASS, said, (), measured)


def failed(name: str, said: str, offending: Sequence[Offence] = (), **measured: Any) -> Check:
    """A check that does not."""
    return Check(name, FAIL, said, tuple(offending), measured)


def warned(name: str, said: str, offending: Sequence[Offence] = (), **measured: Any) -> Check:
    """A check that holds as far as can be known."""
    return Check(name, WARN, said, tuple(offending), measured)


def skipped(name: str, why: str) -> Check:
    """A check that does not apply, or cannot be made."""
    return Check(name, SKIPPED, why)


def judged(name: str, offending: Sequence[Offence], fine: str, broken: str, **measured: Any) -> Check:
    """PASS where nothing offends."""
    return failed(name, broken, offending, **measured) if offending else passed(name, fine, **measured)


def verdict(checks: Sequence[Check]) -> str:
    """The worst of all: FAIL, then WARN, else PASS."""
    found = {check.status for check in checks}
    return next((status for status in (FAIL, WARN) if status in found), PASS)


def _short(value: Any) -> str:
    return f"{value:.17g}" if isinstance(value, float) else str(value)
