"""LoRA (Hu et al. 2021): W + (alpha / rank) B A, with A random and B zero; merged into the base before decoding."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forecasting.base import Base, load_model
from forecasting.decoder import DecoderWeights, weights_of
from forecasting.errors import ConfigError, unknown
from forecasting.files import read_json, write_json
from forecasting.methods.method import Method, MethodOptions, load_tensors

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GPT2LMHeadModel

TARGETS = ("c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
"""Matrices of a GPT-2 block. The embeddings are left out: the head is tied to them, so a merge would change both."""


@dataclass(frozen=True)
class LoraOptions(MethodOptions):
    """Defaults of the source articles: rank 8, alpha 32, dropout 0.1, on the attention's fused projection.

    targets: comma-separated names out of TARGETS.
    """

    learning_rate: float = 1e-4
    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.1
    targets: str = "c_attn"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ConfigError(f"lora.rank is {self.rank}; give a whole number of at least 1")
        if self.alpha <= 0:
            raise ConfigError(f"lora.alpha is {self.alpha}; give a positive number")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"lora.dropout is {self.dropout}; give a number from 0 to below 1")
        for name in self.modules:
            if name not in TARGETS:
                raise ConfigError(f"lora.targets: {unknown('module', name, TARGETS)}")

    @property
    def modules(self) -> list[str]:
        """The names in `targets`."""
        return [name.strip() for name in self.targets.split(",")]


def _prepare(model: "GPT2LMHeadModel", options: LoraOptions) -> "PeftModel":
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=options.modules,
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():  # peft reads an attribute that transformers is about to rename
        warnings.filterwarnings("ignore", category=FutureWarning)
        return get_peft_model(model, config)


def _save(model: "PeftModel", folder: Path) -> None:
    """PEFT's own layout, without the path of the base on this machine."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(base model|config).*")
        model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    write_json(config, read_json(config) | {"base_model_name_or_path": None})


def _load(base: Base, options: LoraOptions, folder: Path) -> "PeftModel":
    """Not through PEFT's own loader, which leaves a missing matrix at its random start."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    model = _prepare(load_model(base), options)
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    set_peft_model_state_dict(model, load_tensors(folder / "adapter_model.safetensors", like=expected))
    return model.eval()


def _weights(model: "PeftModel") -> DecoderWeights:
    """Merged, which keeps the decode as cheap as the base's; under GPT-2's names, as PEFT wraps each matrix."""
    inner = model.get_base_model()
    state = {
        name.replace(".base_layer", ""): value for name, value in inner.state_dict().items() if ".lora_" not in name
    }
    for name, module in inner.named_modules():
        if hasattr(module, "get_delta_weight"):
            state[f"{name}.weight"] = module.base_layer.weight + module.get_delta_weight("default")
    return weights_of(inner, state=state)


METHOD = Method("lora", True, True, LoraOptions, _prepare, _save, _load, _weights)
