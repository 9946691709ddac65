"""The article adapter: as many residual bottlenecks as layers, all applied in turn to the output of the last block.

Linear(d -> 64), ReLU, dropout, Linear(64 -> d), weights N(0, 0.02), biases zero; h <- h + adapter_i(h) after ln_f.
The source trains the base along with them, though it speaks of adapter-tuning; here the base is frozen unless
`train_base` asks for the original. Sitting after the last block, the adapters cannot merge, but cost one small
product per token.
"""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from forecasting.base import Base, load_model
from forecasting.decoder import Adapter, DecoderWeights, Product, weights_of
from forecasting.errors import CheckpointError, ConfigError
from forecasting.methods.method import Method, MethodOptions


@dataclass(frozen=True)
class AdapterOptions(MethodOptions):
    """bottleneck and dropout as in the source; train_base True gives its unfrozen original."""

    learning_rate: float = 1e-3
    bottleneck: int = 64
    dropout: float = 0.1
    train_base: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bottleneck < 1:
            raise ConfigError(f"adapter.bottleneck is {self.bottleneck}; give a whole number of at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"adapter.dropout is {self.dropout}; give a number from 0 to below 1")


class AdaptedGPT2(nn.Module):
    """GPT-2 with residual adapters between ln_f and the head."""

    def __init__(self, base: nn.Module, options: AdapterOptions) -> None:
        super().__init__()
        self.base = base
        self.options = options
        width = base.config.n_embd
        self.adapters = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, options.bottleneck),
                nn.ReLU(),
                nn.Dropout(options.dropout),
                nn.Linear(options.bottleneck, width),
            )
            for _ in range(base.config.n_layer)
        )
        for adapter in self.adapters:
            for layer in (adapter[0], adapter[3]):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, input_ids: Tensor, **options: Any) -> SimpleNamespace:
        """Logits [N, L, V] of token ids [N, L], as `.logits`."""
        hidden = self.base.transformer(input_ids=input_ids, **options).last_hidden_state
        for adapter in self.adapters:
            hidden = hidden + adapter(hidden)
        return SimpleNamespace(logits=self.base.lm_head(hidden))


def _prepare(model: nn.Module, options: AdapterOptions) -> nn.Module:
    model.requires_grad_(options.train_base)
    return AdaptedGPT2(model, options)


def _save(model: nn.Module, folder: Path) -> None:
    save_file(model.adapters.state_dict(), folder / "adapters.safetensors")
    if model.options.train_base:
        model.base.save_pretrained(folder, safe_serialization=True)
        (folder / "generation_config.json").unlink(missing_ok=True)


def _load(base: Base, options: AdapterOptions, folder: Path) -> nn.Module:
    file = folder / "adapters.safetensors"
    if not file.is_file():
        raise CheckpointError(f"{folder} lacks adapters.safetensors; train it anew with `tunetrade train`")
    inside = Base(folder, base.codec, base.card, base.sha) if options.train_base else base
    model = AdaptedGPT2(load_model(inside), options)
    try:
        model.adapters.load_state_dict(load_file(file))
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{file}: does not fit the base or its settings; train it anew") from error
    return model.eval()


def _weights(model: nn.Module) -> DecoderWeights:
    def product(layer: nn.Linear) -> Product:
        return Product(layer.weight.detach().to(torch.float32).T, layer.bias.detach().to(torch.float32))

    adapters = tuple(Adapter(product(adapter[0]), product(adapter[3])) for adapter in model.adapters)
    return weights_of(model.base, adapters=adapters)


METHOD = Method("adapter", True, False, AdapterOptions, _prepare, _save, _load, _weights)
