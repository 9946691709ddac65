"""Full fine-tuning: every weight moves."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from forecasting.base import Base, load_model
from forecasting.decoder import weights_of
from forecasting.errors import CheckpointError
from forecasting.methods.method import Method, MethodOptions


@dataclass(frozen=True)
class FullOptions(MethodOptions):
    """Full fine-tuning wants a small step: the base is already a good density."""

    learning_rate: float = 1e-4


def _prepare(model: nn.Module, _: FullOptions) -> nn.Module:
    return model.requires_grad_(True)


def _save(model: nn.Module, folder: Path) -> None:
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)


def _load(base: Base, _: FullOptions, folder: Path) -> nn.Module:
    if not (folder / "model.safetensors").is_file():
        raise CheckpointError(f"{folder} lacks model.safetensors; train it anew with `tunetrade train`")
    return load_model(Base(folder, base.codec, base.card, base.sha)).eval()


METHOD = Method("full", True, False, FullOptions, _prepare, _save, _load, weights_of)
