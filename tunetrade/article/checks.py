"""The printed figures recomputed from the printed sequences: which agree, which cannot, and what aligning changes."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tunetrade.article.comparison import aligned, echo_share, errors, last_price, misaligned
from tunetrade.article.published import COMPARED, GENERATED, INPUTS, TABLE, TRUTH

AGREES, OPEN, DIFFERS = "agrees", "cannot be checked", "differs"
POINT = 1e-5
"""Of the articles' prices; their squares are whole multiples of POINT ** 2."""

CLOSE = 1e-9
"""Relative difference up to which two figures printed in full are the same."""

ABSURD = 0.6
"""A price about 1,200 points below all others, for what it does to their NRMSE."""


@dataclass(frozen=True)
class Check:
    """A printed figure beside what its sequences give."""

    figure: str
    printed: float | None
    recomputed: float | None
    verdict: str
    note: str


def checks() -> list[Check]:
    """Every figure of the articles' table of errors, and the counts behind them."""
    found = []
    for name, row in TABLE.items():
        generated = np.array([*INPUTS, *GENERATED[name]])
        whole = round(row.mse * COMPARED / POINT**2)
        found += [
            _same(f"{name}: RMSE", row.rmse, row.mse**0.5, "the square root of the printed MSE"),
            _same(
                f"{name}: NRMSE",
                row.nrmse,
                row.rmse / (max(TRUTH) - generated.min()),
                "RMSE / (highest true price - lowest generated price), the prompt's echo counted as generated",
            ),
            _same(
                f"{name}: MSE as a mean of 40 values",
                row.mse,
                whole * POINT**2 / COMPARED,
                f"{whole} square points over 40: the comparison had 40 values",
            ),
            _printed_part(name),
        ]
        count = len(INPUTS) + len(GENERATED[name])
        found.append(
            Check(
                f"{name}: values in the list called generated", float(COMPARED), float(count),
                AGREES if count == COMPARED else DIFFERS,
                f"{len(INPUTS)} of them are the prompt; {len(GENERATED[name])} are the model's",
            )
        )  # fmt: skip
    return found


def _same(figure: str, printed: float, recomputed: float, note: str) -> Check:
    verdict = AGREES if abs(recomputed / printed - 1) < CLOSE else DIFFERS
    return Check(figure, printed, recomputed, verdict, note)


def _printed_part(name: str) -> Check:
    """The MSE itself needs 40 true prices, of which 30 are printed; the ten others must leave squares to be had."""
    row, part = TABLE[name], misaligned(INPUTS, GENERATED[name], TRUTH)
    left = (row.mse * COMPARED - part.mse * part.values) / (COMPARED - part.values)
    return Check(
        f"{name}: MSE", row.mse, part.mse, OPEN if left >= 0 else DIFFERS,
        f"over the {part.values} true prices that are printed; the {COMPARED - part.values} that are not would have to "
        f"average {left:.4g}",
    )  # fmt: skip


def side_by_side() -> dict[str, Any]:
    """For each method and the last price: misaligned on the 30 printed truths, aligned on 20, the echo's share."""
    found: dict[str, Any] = {}
    for name, written in (
        *GENERATED.items(),
        ("last price", tuple(last_price(INPUTS, len(GENERATED["full"])).tolist())),
    ):
        found[name] = {
            "misaligned": asdict(misaligned(INPUTS, written, TRUTH)),
            "aligned": asdict(aligned(written, TRUTH)),
            "echo_share": echo_share(INPUTS, written, TRUTH),
        }
    return found


def absurd_price() -> dict[str, float]:
    """What one absurd price does to the adapter's misaligned errors on the printed truths."""
    written = np.array([*INPUTS, *GENERATED["adapter"]])[: len(TRUTH)]
    before = errors(TRUTH, written)
    written[-1] = ABSURD
    after = errors(TRUTH, written)
    return {
        "rmse_before": before.rmse,
        "rmse_after": after.rmse,
        "nrmse_before": before.nrmse,
        "nrmse_after": after.nrmse,
    }
