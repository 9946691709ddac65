"""What a tuning method is: a handful of functions, and settings with defaults from the literature."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import Tensor, nn

from forecasting.bars import Bars
from forecasting.base import Base
from forecasting.codecs import AnyCodec
from forecasting.decoder import DecoderWeights
from forecasting.errors import CheckpointError, OptionError
from forecasting.files import reading
from forecasting.forecaster import Forecaster
from forecasting.train import Plan
from forecasting.windows import Contexts, Split, WindowSpec

CURE = "train it anew with `tunetrade train`"


@dataclass(frozen=True)
class MethodOptions:
    """Settings every method has; each method adds its own.

    train_tokens: whether token rows train beside what the method trains: "auto" where they are fresh (`base.rows`),
    "yes", or "no", which leaves them to the method. token_learning_rate: of those rows, whatever the method's own.
    batch_size: windows a step, 0 for the study's. What is out of range raises OptionError.
    """

    learning_rate: float = 1e-4
    train_tokens: str = "auto"
    token_learning_rate: float = 1e-3
    batch_size: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 0:
            raise OptionError(f"batch_size is {self.batch_size}; give windows a step, or 0 for the study's")
        if not 0 < self.learning_rate < 1:
            raise OptionError(f"learning_rate is {self.learning_rate}; give a positive number below 1")
        if self.train_tokens not in ("auto", "yes", "no"):
            raise OptionError(f"train_tokens is {self.train_tokens!r}; give 'auto', 'yes' or 'no'")
        if not 0 < self.token_learning_rate < 1:
            raise OptionError(f"token_learning_rate is {self.token_learning_rate}; give a positive number below 1")


@dataclass(frozen=True)
class Objective:
    """What a method learns where it is not the next token; its loss is in its plan.

    settle(options, spec) completes its settings for the windows of a study. rows(contexts, targets, codec, context,
    options) is what the loop trains on, int64 [N, L]. forecaster(density, model) adds what was learnt to the forecaster
    of the model's paths; of a model it reads what head(model) gives and its options, and kept(head, options) is as good
    as the model, so that serving need not load that. scores(forecaster, bars, spec, split) says how good it is, for
    forecast.json.
    """

    settle: Callable[[Any, WindowSpec], Any]
    rows: Callable[[Contexts, np.ndarray, AnyCodec, int, Any], np.ndarray]
    forecaster: Callable[[Forecaster, Any], Forecaster]
    head: Callable[[Any], DecoderWeights]
    kept: Callable[[DecoderWeights, Any], Any]
    scores: Callable[[Any, Bars, WindowSpec, Split], dict[str, Any]]


@dataclass(frozen=True)
class Method:
    """One way of tuning.

    prepare(model, options) wraps a freshly loaded base and sets which parameters train; random initialisation draws
    from torch's generator, which the caller seeds. save(model, folder) writes what load(base, options, folder) needs
    to give the same model back. weights(model) gives what the decode engine runs, and leaves the model as it was;
    merges says whether that is a plain GPT-2 and the whole forecast, which `tunetrade export --what merged` writes.
    plan(model, options, steps) is what it asks of the training loop for so many steps.
    taken(options) counts the positions its virtual tokens use up; checkpointing says whether activations can be
    recomputed in the backward pass. objective is what it learns instead of the next token. check(options, base) raises
    ConfigError where the method cannot be on that base, or on this machine, without reading its weights. Each method
    knows the class of its models, hence `Any`.
    """

    name: str
    trains: bool = field(kw_only=True)
    merges: bool = field(kw_only=True)
    options: type[MethodOptions]
    prepare: Callable[[Any, Any], nn.Module]
    save: Callable[[Any, Path], None]
    load: Callable[[Base, Any, Path], nn.Module]
    weights: Callable[[Any], DecoderWeights]
    plan: Callable[[Any, Any, int], Plan] = lambda model, options, steps: Plan()
    taken: Callable[[Any], int] = lambda options: 0
    checkpointing: bool = True
    objective: Objective | None = None
    check: Callable[[Any, Base], None] = lambda options, base: None


def trained_parameters(model: nn.Module) -> int:
    """Number of parameters the optimiser changes."""
    return sum(value.numel() for value in model.parameters() if value.requires_grad)


def load_tensors(file: Path, like: Mapping[str, Tensor], cure: str = CURE) -> dict[str, Tensor]:
    """Tensors of a safetensors file; CheckpointError unless their names and shapes are those of `like`."""
    with reading(file, cure):
        tensors: dict[str, Tensor] = load_file(file)
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in like.items()}:
        raise CheckpointError(f"{file} does not fit the base or its settings; {cure}")
    return tensors


def stored_bytes(folder: Path) -> int:
    """Size of a checkpoint folder on disk."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
