"""The article adapter: as many residual bottlenecks as layers, all applied in turn to the output of the last block.

Linear(d -> 64), ReLU, dropout, Linear(64 -> d), weights N(0, 0.02), biases zero; h <- h + adapter_i(h) after ln_f.
The source trains the base along with them, though it speaks of adapter-tuning; here the base is frozen unless
`train_base` asks for the original. Sitting after the last block, the adapters cannot merge, but cost one small
product per token.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor, nn

from forecasting.base import Base, load_gpt2, load_model, save_gpt2
from forecasting.decoder import DecoderWeights, weights_of
from forecasting.errors import OptionError
from forecasting.methods.method import CURE, Method, MethodOptions, load_tensors
from forecasting.methods.residual import Bottleneck

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True)
class AdapterOptions(MethodOptions):
    """bottleneck and dropout as in the source; train_base True gives its unfrozen original."""

    learning_rate: float = 5e-5
    bottleneck: int = 64
    dropout: float = 0.1
    train_base: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bottleneck < 1:
            raise OptionError(f"bottleneck is {self.bottleneck}; give a whole number of at least 1")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout is {self.dropout}; give a number from 0 to below 1")


class AdaptedGPT2(nn.Module):
    """GPT-2 with residual adapters between ln_f and the head."""

    def __init__(self, base: "GPT2LMHeadModel", options: AdapterOptions) -> None:
        super().__init__()
        self.base: Any = base
        self.options = options
        width, m, start = base.config.n_embd, options.bottleneck, partial(nn.init.normal_, std=0.02)
        self.adapters = nn.Sequential(
            *(Bottleneck(width, m, start, dropout=options.dropout) for _ in range(base.config.n_layer))
        )

    def forward(self, input_ids: Tensor, **options: Any) -> SimpleNamespace:
        """Logits [N, L, V] of token ids [N, L], as `.logits`."""
        hidden = self.base.transformer(input_ids=input_ids, **options).last_hidden_state
        return SimpleNamespace(logits=self.base.lm_head(self.adapters(hidden)))


def _prepare(model: "GPT2LMHeadModel", options: AdapterOptions) -> AdaptedGPT2:
    model.requires_grad_(options.train_base)
    return AdaptedGPT2(model, options)


def _save(model: AdaptedGPT2, folder: Path) -> None:
    save_file(model.adapters.state_dict(), folder / "adapters.safetensors")
    if model.options.train_base:
        save_gpt2(model.base, folder)


def _load(base: Base, options: AdapterOptions, folder: Path) -> AdaptedGPT2:
    inside = load_gpt2(folder, base.codec, CURE) if options.train_base else load_model(base)
    model = AdaptedGPT2(inside, options)
    model.adapters.load_state_dict(load_tensors(folder / "adapters.safetensors", like=model.adapters.state_dict()))
    return model.eval()


def _weights(model: AdaptedGPT2) -> DecoderWeights:
    adapters = tuple(adapter.packed() for adapter in model.adapters if isinstance(adapter, Bottleneck))
    return weights_of(model.base, adapters=adapters)


METHOD = Method("adapter", AdapterOptions, _prepare, _save, _load, _weights, trains=True, merges=False)
