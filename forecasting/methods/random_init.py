"""Ablation: the base's architecture with fresh weights, trained as `full` is, at a rate for fresh weights.

It tells what the pretraining of the base is worth (Tan et al. 2024 found language models of series worth little). The
fresh weights are drawn from torch's generator, so a study's seed sets them too.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forecasting.decoder import weights_of
from forecasting.methods import full
from forecasting.methods.method import Method, MethodOptions

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True)
class RandomInitOptions(MethodOptions):
    """learning_rate: that of the base's own pretraining, as fresh weights hardly move at that of `full`."""

    learning_rate: float = 3e-4


def _prepare(model: "GPT2LMHeadModel", _: RandomInitOptions) -> "GPT2LMHeadModel":
    return type(model)(model.config).requires_grad_(True)


METHOD = Method(
    "random-init",
    RandomInitOptions,
    _prepare,
    full.METHOD.save,
    full.METHOD.load,
    weights_of,
    trains=True,
    merges=True,
)
