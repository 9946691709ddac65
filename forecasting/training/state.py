"""Where a training stands, on disk: one file with weights, best weights, optimiser and history, never half of each."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from forecasting.files import atomic, reading
from forecasting.training.options import TrainingOptions


@dataclass
class Progress:
    """Where a training stands; `stale` counts validations since the best, `losses` are those since the last one.

    processes: how many made its steps, on which the dropout in them and the order of sums depend.
    """

    processes: int = 1
    step: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    stale: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def finished(self, options: TrainingOptions) -> bool:
        """Whether nothing was gained for so long that it stops before the last step."""
        return self.step >= options.min_steps and self.stale >= options.patience


_NUMBERS = ("processes", "step", "best_step", "best_loss", "stale", "seconds", "history", "losses")


def save_state(
    file: Path,
    progress: Progress,
    trainable: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    of_plan: Mapping[str, Tensor],
) -> None:
    """Write all that a resumed run needs; `of_plan` is what the method carries along."""
    tensors = {f"plan.{name}": value.contiguous() for name, value in of_plan.items()}
    for name, value in trainable.items():
        tensors[f"model.{name}"] = value.detach().contiguous()
        tensors[f"best.{name}"] = progress.best[name].contiguous()
        for key, moment in optimizer.state[value].items():
            kind = "moment" if isinstance(moment, Tensor) else "number"  # some count their steps in Python
            tensors[f"{kind}.{name}.{key}"] = torch.as_tensor(moment).cpu().contiguous()
    numbers = {name: getattr(progress, name) for name in _NUMBERS}
    with atomic(file) as partial:
        save_file(tensors, partial, {"progress": json.dumps(numbers), "scaler": json.dumps(scaler.state_dict())})


def load_state(
    file: Path,
    trainable: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    restore: Callable[[dict[str, Tensor]], None],
) -> Progress:
    """Put weights, moments and what the method carried back where `save_state` took them."""
    with reading(file, "remove it to train from the start"), safe_open(file, framework="pt") as stored, torch.no_grad():
        numbers: dict[str, Any] = stored.metadata()
        progress = Progress(**json.loads(numbers["progress"]))
        scaler.load_state_dict(json.loads(numbers["scaler"]))
        for name, value in trainable.items():
            value.copy_(stored.get_tensor(f"model.{name}"))
            progress.best[name] = stored.get_tensor(f"best.{name}").to(value.device)
            moments = {key: part.to(value.device) for key, part in _below(f"moment.{name}.", stored).items()}
            counts = {key: part.item() for key, part in _below(f"number.{name}.", stored).items()}
            optimizer.state[value] = {**moments, **counts}  # empty where fp16 skipped every step
        restore(_below("plan.", stored))
    return progress


def _below(prefix: str, stored: Any) -> dict[str, Tensor]:
    """Tensors of an open file whose names begin so, without that beginning."""
    names: list[str] = stored.keys()
    return {name.removeprefix(prefix): stored.get_tensor(name) for name in names if name.startswith(prefix)}


def save_trained(file: Path, model: nn.Module) -> None:
    """The parameters that train, by name: what another training may begin with, whatever its method stores."""
    tensors = {name: value.detach().contiguous() for name, value in model.named_parameters() if value.requires_grad}
    with atomic(file) as partial:
        save_file(tensors, partial)


def load_trained(file: Path, model: nn.Module) -> None:
    """Put what `save_trained` wrote into a model of the same make; CheckpointError unless every tensor fits."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    with reading(file, "remove it to train its fold again"):
        stored = load_file(file)
        if {name: value.shape for name, value in stored.items()} != {name: v.shape for name, v in trained.items()}:
            raise ValueError("its parameters are not those that this method trains")
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(stored[name])
