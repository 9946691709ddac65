"""Run every benchmark and say which claims fall short: `python -m benchmarks [--quick] [--json]`."""

import argparse
import json
import sys

from benchmarks import decode
from benchmarks.claims import Claim, show

ALL = {"decode": decode.measure}


def main() -> int:
    """Exit status 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under 50 s each")
    parser.add_argument("--json", action="store_true", help="print name -> {value, target, unit, holds}")
    asked = parser.parse_args()
    claims: dict[str, Claim] = {}
    for name, measure in ALL.items():
        claims |= {f"{name}: {key}": claim for key, claim in measure(quick=asked.quick).items()}
    print(
        json.dumps({name: claim.as_dict() for name, claim in claims.items()}, indent=2) if asked.json else show(claims)
    )
    return 0 if all(claim.holds for claim in claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
