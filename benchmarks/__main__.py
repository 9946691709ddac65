"""Run every benchmark and say which claims fall short: `python -m benchmarks [--quick] [--json]`."""

from benchmarks import backtest, bridge, chronos, decode, evidence, growth, training
from benchmarks.claims import Claim, main

ALL = {
    "decode": decode.measure,
    "growth": growth.measure,
    "chronos": chronos.measure,
    "training": training.measure,
    "backtest": backtest.measure,
    "bridge": bridge.measure,
    "evidence": evidence.measure,
}


def measure(quick: bool) -> dict[str, Claim]:
    """The claims of all benchmarks."""
    return {f"{name}: {key}": claim for name, each in ALL.items() for key, claim in each(quick).items()}


if __name__ == "__main__":
    main(measure, __doc__)
