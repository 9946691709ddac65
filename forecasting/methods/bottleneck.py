"""Bottleneck adapters inside every block (Houlsby et al. 2019): after attention and after the MLP, the base frozen.

What a half adds to the stream passes through Linear(d -> m), GELU, Linear(m -> d), with a skip around: x + adapter(x).
Weights begin near zero, N(0, 0.01) cut at two deviations, so tuning starts from the base. The paper trains the layer
norms as well; here they stay, so that what is compared is the adapters (LN-tuning is a method of its own).
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor, nn

from forecasting.base import Base, load_model
from forecasting.decoder import DecoderWeights, weights_of
from forecasting.errors import OptionError
from forecasting.methods.method import Method, MethodOptions, load_tensors
from forecasting.methods.residual import Bottleneck

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

FILE = "adapters.safetensors"
SPREAD = 0.01


@dataclass(frozen=True)
class BottleneckOptions(MethodOptions):
    """bottleneck: m, the width inside."""

    learning_rate: float = 1e-4
    bottleneck: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bottleneck < 1:
            raise OptionError(f"bottleneck is {self.bottleneck}; give a whole number of at least 1")


def _adapted(half: Any, _inputs: Any, output: Any) -> Any:
    """Hook behind attention, which gives its weights as well, and behind the MLP."""
    if isinstance(output, tuple):
        return half.adapter(output[0]), *output[1:]
    return half.adapter(output)


def _prepare(model: "GPT2LMHeadModel", options: BottleneckOptions) -> "GPT2LMHeadModel":
    model.requires_grad_(False)
    start = partial(nn.init.trunc_normal_, std=SPREAD, a=-2 * SPREAD, b=2 * SPREAD)
    for block in model.transformer.h:
        for half in (block.attn, block.mlp):
            half.adapter = Bottleneck(model.config.n_embd, options.bottleneck, start, gelu=True)
            half.register_forward_hook(_adapted)
    return model


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if ".adapter." in name}


def _save(model: nn.Module, folder: Path) -> None:
    save_file(_tensors(model), folder / FILE)


def _load(base: Base, options: BottleneckOptions, folder: Path) -> "GPT2LMHeadModel":
    model = _prepare(load_model(base), options)
    model.load_state_dict(load_tensors(folder / FILE, like=_tensors(model)), strict=False)
    return model.eval()


def _weights(model: "GPT2LMHeadModel") -> DecoderWeights:
    inside = tuple((block.attn.adapter.packed(), block.mlp.adapter.packed()) for block in model.transformer.h)
    return weights_of(model, in_blocks=inside)


METHOD = Method("bottleneck", BottleneckOptions, _prepare, _save, _load, _weights, trains=True, merges=False)
