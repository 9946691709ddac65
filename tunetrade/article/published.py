"""What the articles printed: settings, figures and sequences, of one forecast of NZDUSD on M5 bars.

The sequences are printed to the figure; everything else that this package says of the articles is computed from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CLOSES, WINDOW, HELD_BACK, BLOCK, EPOCHS, BATCH = 2500, 60, 10, 60, 3, 32
"""Closes read; closes of a window; rows kept out of training; tokens of a training row; passes; rows of a step."""

PROMPT, COMPARED, MOST_TOKENS = 19, 40, 200
"""Closes given to the models; values compared; tokens of prompt and answer together."""

RATE, LORA_RANK, LORA_ALPHA, LORA_DROPOUT, BOTTLENECK = 5e-5, 8, 32.0, 0.1, 64


@dataclass(frozen=True)
class Printed:
    """A row of the articles' table: seconds, gigabytes and errors, as printed."""

    train_seconds: float
    memory_gb: float
    generate_seconds: float
    mse: float
    rmse: float
    nrmse: float


TABLE: Mapping[str, Printed] = {
    "full": Printed(101.7946, 5.67, 0.876525, 1.257374999999991e-07, 0.00035459483921794336, 0.43243273075362537),
    "lora": Printed(69.5605, 4.10, 1.242877, 1.0161999999999925e-07, 0.0003187789202566557, 0.3887547808008319),
    "adapter": Printed(104.4355, 5.52, 0.882792, 1.5644499999999023e-07, 0.00039553128826932293, 0.4944141103367081),
}

INPUTS = (
    0.61163, 0.61162, 0.61191, 0.61195, 0.61209, 0.61231, 0.61224, 0.61207, 0.61187, 0.61184, 0.6119, 0.61169, 0.61168,
    0.61162, 0.61181, 0.61184, 0.61184, 0.6118, 0.61176,
)  # fmt: skip
"""The 19 closes of the prompt."""

TRUTH = (
    0.6119, 0.61197, 0.61201, 0.61242, 0.61237, 0.6123, 0.61229, 0.61242, 0.61212, 0.61197, 0.61201, 0.61213, 0.61212,
    0.61206, 0.61203, 0.61206, 0.6119, 0.61193, 0.61191, 0.61202, 0.61197, 0.6121, 0.61211, 0.61214, 0.61203, 0.61203,
    0.61213, 0.61218, 0.61227, 0.61226,
)  # fmt: skip
"""The first 30 of the 40 true closes, from the 21st of the window on: the 20th is in neither list."""

GENERATED: Mapping[str, tuple[float, ...]] = {
    "full": (
        0.61165, 0.61169, 0.61186, 0.61171, 0.61171, 0.6116, 0.61165, 0.61168, 0.61165, 0.61169, 0.61173, 0.61184,
        0.61176, 0.61171, 0.61176, 0.61171, 0.61207, 0.61208, 0.61202, 0.6117, 0.61207,
    ),
    "lora": (
        0.61191, 0.61187, 0.6121, 0.61187, 0.61193, 0.61195, 0.61176, 0.61194, 0.61171, 0.61198, 0.61171, 0.61171,
        0.61198, 0.61172, 0.61202, 0.6116, 0.61173, 0.61199, 0.61169, 0.61171, 0.61171,
    ),
    "adapter": (
        0.61173, 0.61168, 0.61165, 0.61178, 0.61173, 0.61164, 0.61174, 0.61163, 0.61174, 0.61163, 0.61174, 0.61162,
        0.61162, 0.61167, 0.61168, 0.61165, 0.61167, 0.61168, 0.61162, 0.61167, 0.61174,
    ),
}  # fmt: skip
"""What each model wrote after repeating the prompt: its forecast of the 20th close and on."""
