"""A claim is a measured value beside its target; a table of claims is what a benchmark prints."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Claim:
    """`value` in `unit`; with a target it holds where value >= target (`at_most`: <=), without one it only informs."""

    value: float
    unit: str
    target: float | None = None
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the target is met."""
        if self.target is None:
            return True
        return self.value <= self.target if self.at_most else self.value >= self.target

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"value": round(self.value, 4), "target": self.target, "unit": self.unit, "holds": self.holds}


def show(claims: dict[str, Claim]) -> str:
    """A Markdown table."""
    rows = ["| claim | measured | target | holds |", "|---|---|---|---|"]
    for name, claim in claims.items():
        sign = "at most" if claim.at_most else "at least"
        target = "" if claim.target is None else f"{sign} {claim.target:g}"
        holds = "" if claim.target is None else ("yes" if claim.holds else "NO")
        rows.append(f"| {name} | {claim.value:.4g} {claim.unit} | {target} | {holds} |")
    return "\n".join(rows)


def main(measure: Callable[[bool], dict[str, Claim]], about: str | None) -> None:
    """Command line of one benchmark: a table, or JSON; exit status 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under 50 s")
    parser.add_argument("--json", action="store_true", help="print name -> {value, target, unit, holds}")
    asked = parser.parse_args()
    claims = measure(asked.quick)
    print(to_json(claims) if asked.json else show(claims))
    sys.exit(0 if all(claim.holds for claim in claims.values()) else 1)


def to_json(claims: dict[str, Claim]) -> str:
    """JSON of name -> {value, target, unit, holds}."""
    return json.dumps({name: claim.as_dict() for name, claim in claims.items()}, indent=2)
