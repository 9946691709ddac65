"""The base as it is: what every tuning method must beat to be worth its cost."""

from pathlib import Path

from torch import nn

from forecasting.base import Base, load_model
from forecasting.decoder import weights_of
from forecasting.methods.method import Method, MethodOptions


def _freeze(model: nn.Module, _: MethodOptions) -> nn.Module:
    return model.requires_grad_(False)


def _save(_: nn.Module, folder: Path) -> None:
    """Nothing to store: the base is the model."""
    folder.mkdir(parents=True, exist_ok=True)


def _load(base: Base, _: MethodOptions, __: Path) -> nn.Module:
    return load_model(base).eval()


METHOD = Method("untuned", False, False, MethodOptions, _freeze, _save, _load, weights_of)
