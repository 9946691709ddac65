"""What a tuning method is: a handful of functions, and settings with defaults from the literature."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from forecasting.base import Base
from forecasting.decoder import DecoderWeights
from forecasting.errors import CheckpointError, ConfigError
from forecasting.files import reading
from forecasting.train import Plan

CURE = "train it anew with `tunetrade train`"


@dataclass(frozen=True)
class MethodOptions:
    """Settings every method has; each method adds its own. batch_size: windows a step, 0 for the study's."""

    learning_rate: float = 1e-4
    batch_size: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 0:
            raise ConfigError(f"batch_size is {self.batch_size}; give windows a step, or 0 for the study's")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate is {self.learning_rate}; give a positive number below 1")


@dataclass(frozen=True)
class Method:
    """One way of tuning.

    prepare(model, options) wraps a freshly loaded base and sets which parameters train; random initialisation draws
    from torch's generator, which the caller seeds. save(model, folder) writes what load(base, options, folder) needs
    to give the same model back. weights(model) gives what the decode engine runs, merged where the method merges, and
    leaves the model as it was. plan(model, options, steps) is what it asks of the training loop for so many steps.
    taken(options) counts the positions its virtual tokens use up; checkpointing says whether activations can be
    recomputed in the backward pass. Each method knows the class of its models, hence `Any`.
    """

    name: str
    trains: bool
    merges: bool
    options: type[MethodOptions]
    prepare: Callable[[Any, Any], nn.Module]
    save: Callable[[Any, Path], None]
    load: Callable[[Base, Any, Path], nn.Module]
    weights: Callable[[Any], DecoderWeights]
    plan: Callable[[Any, Any, int], Plan] = lambda model, options, steps: Plan()
    taken: Callable[[Any], int] = lambda options: 0
    checkpointing: bool = True


def trained_parameters(model: nn.Module) -> int:
    """Number of parameters the optimiser changes."""
    return sum(value.numel() for value in model.parameters() if value.requires_grad)


def load_tensors(file: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a safetensors file; CheckpointError unless their names and shapes are those of `like`."""
    with reading(file, CURE):
        tensors: dict[str, Tensor] = load_file(file)
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in like.items()}:
        raise CheckpointError(f"{file} does not fit the base or its settings; {CURE}")
    return tensors


def stored_bytes(folder: Path) -> int:
    """Size of a checkpoint folder on disk."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
