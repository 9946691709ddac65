"""What a tuning method is: a handful of functions, and settings with defaults from the literature."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from forecasting.base import Base
from forecasting.decoder import DecoderWeights
from forecasting.errors import ConfigError


@dataclass(frozen=True)
class MethodOptions:
    """Settings every method has; each method adds its own."""

    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate is {self.learning_rate}; give a positive number below 1")


@dataclass(frozen=True)
class Method:
    """One way of tuning.

    prepare(model, options) wraps a freshly loaded base and sets which parameters train; random initialisation draws
    from torch's generator, which the caller seeds. save(model, folder) writes what load(base, options, folder) needs
    to give the same model back. weights(model) gives what the decode engine runs, merged where the method merges.
    """

    name: str
    trains: bool
    merges: bool
    options: type[MethodOptions]
    prepare: Callable[[nn.Module, Any], nn.Module]
    save: Callable[[nn.Module, Path], None]
    load: Callable[[Base, Any, Path], nn.Module]
    weights: Callable[[nn.Module], DecoderWeights]


def trained_parameters(model: nn.Module) -> int:
    """Number of parameters the optimiser changes."""
    return sum(value.numel() for value in model.parameters() if value.requires_grad)


def stored_bytes(folder: Path) -> int:
    """Size of a checkpoint folder on disk."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
