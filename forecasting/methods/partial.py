"""Partial freezing: only the last n blocks and ln_f train (Lee et al. 2019), and the head where it is asked for.

GPT-2's head is its embeddings. Training it as it stands would move the input of every frozen block, so it stays frozen
unless `head` unties it: then the head is a copy of its own, which trains, and the embeddings stay. Head only is
`blocks = 0` with `head = true`; `blocks = 0` alone trains ln_f. Stored is what trains, nothing else.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import Tensor, nn

from forecasting.base import Base, load_model
from forecasting.decoder import weights_of
from forecasting.errors import ConfigError, OptionError
from forecasting.files import read_json
from forecasting.methods.full import FullOptions
from forecasting.methods.method import Method, MethodOptions, load_tensors

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

FILE = "trained.safetensors"


@dataclass(frozen=True)
class PartialOptions(MethodOptions):
    """learning_rate: that of `full`. blocks: how many of the last ones train. head: train a head of its own."""

    learning_rate: float = FullOptions.learning_rate
    blocks: int = 1
    head: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks < 0:
            raise OptionError(f"blocks is {self.blocks}; give 0 (ln_f alone) or more")


def _check_blocks(options: PartialOptions, layers: int) -> None:
    if options.blocks > layers:
        raise ConfigError(f"method.partial.blocks is {options.blocks}: the base has {layers}; give at most {layers}")


def _check(options: PartialOptions, base: Base) -> None:
    _check_blocks(options, int(read_json(base.folder / "config.json")["n_layer"]))


def _prepare(model: "GPT2LMHeadModel", options: PartialOptions) -> "GPT2LMHeadModel":
    layers = model.config.n_layer
    _check_blocks(options, layers)
    model.requires_grad_(False)
    model.transformer.ln_f.requires_grad_(True)
    model.transformer.h[layers - options.blocks :].requires_grad_(True)
    if options.head:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
        model.config.tie_word_embeddings = False
    return model


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}


def _save(model: nn.Module, folder: Path) -> None:
    save_file(_trained(model), folder / FILE)


def _load(base: Base, options: PartialOptions, folder: Path) -> "GPT2LMHeadModel":
    model = _prepare(load_model(base), options)
    model.load_state_dict(load_tensors(folder / FILE, like=_trained(model)), strict=False)
    return model.eval()


METHOD = Method("partial", PartialOptions, _prepare, _save, _load, weights_of, trains=True, merges=True, check=_check)
