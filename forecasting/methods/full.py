"""Full fine-tuning: every weight moves."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from forecasting.base import Base, load_gpt2, save_gpt2
from forecasting.decoder import weights_of
from forecasting.methods.method import CURE, Method, MethodOptions

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True)
class FullOptions(MethodOptions):
    """Full fine-tuning wants a small step: the base is already a good density."""

    learning_rate: float = 2e-5


def _prepare(model: nn.Module, _: FullOptions) -> nn.Module:
    return model.requires_grad_(True)


def _load(base: Base, _: FullOptions, folder: Path) -> "GPT2LMHeadModel":
    return load_gpt2(folder, base.codec, CURE).eval()


METHOD = Method("full", FullOptions, _prepare, save_gpt2, _load, weights_of, trains=True, merges=True)
