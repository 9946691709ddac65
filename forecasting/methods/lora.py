"""LoRA (Hu et al. 2021): W + (alpha / rank) B A, with A random and B zero; merged into the base before decoding."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from forecasting.base import Base, load_model
from forecasting.decoder import DecoderWeights, weights_of
from forecasting.errors import CheckpointError, ConfigError
from forecasting.methods.method import Method, MethodOptions


@dataclass(frozen=True)
class LoraOptions(MethodOptions):
    """Defaults of the source articles: rank 8, alpha 32, dropout 0.1, on the attention's fused projection.

    targets: comma-separated module names; `c_proj` alone would name both attention and MLP, so qualify it
    (`attn.c_proj`).
    """

    learning_rate: float = 1e-3
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
        if not self.targets.strip():
            raise ConfigError("lora.targets is empty; name modules such as c_attn,attn.c_proj,mlp.c_fc")


def _prepare(model: nn.Module, options: LoraOptions) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=[name.strip() for name in options.targets.split(",")],
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"lora.targets is {options.targets!r}: {reason}; GPT-2 has c_attn, attn.c_proj, mlp.c_fc"
        ) from error


def _save(model: nn.Module, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(base model|config).*")
        model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)


def _load(base: Base, _: LoraOptions, folder: Path) -> nn.Module:
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():
        raise CheckpointError(f"{folder} lacks adapter_model.safetensors; train it anew with `tunetrade train`")
    return PeftModel.from_pretrained(load_model(base), folder).eval()


def _weights(model: nn.Module) -> DecoderWeights:
    """Merging keeps the decode as cheap as the base's. The model is merged in place and then unmerged."""
    model.merge_adapter()
    try:
        return _plain_weights(model)
    finally:
        model.unmerge_adapter()


def _plain_weights(model: nn.Module) -> DecoderWeights:
    """Weights under GPT-2's own names: peft files each wrapped matrix under `base_layer`."""
    inner = model.get_base_model()
    state = {name.replace(".base_layer", ""): value.clone() for name, value in inner.state_dict().items()}
    return weights_of(inner, state={name: value for name, value in state.items() if ".lora_" not in name})


METHOD = Method("lora", True, True, LoraOptions, _prepare, _save, _load, _weights)
