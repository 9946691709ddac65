"""The base as it is: what every tuning method must beat to be worth its cost."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from forecasting.base import Base, load_model
from forecasting.decoder import weights_of
from forecasting.methods.method import Method, MethodOptions

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


def _freeze(model: nn.Module, _: MethodOptions) -> nn.Module:
    return model.requires_grad_(False)


def _save(_: nn.Module, __: Path) -> None:
    """Nothing to store: the base is the model."""


def _load(base: Base, _: MethodOptions, __: Path) -> "GPT2LMHeadModel":
    return load_model(base).eval()


METHOD = Method("untuned", MethodOptions, _freeze, _save, _load, weights_of, trains=False, merges=True)
