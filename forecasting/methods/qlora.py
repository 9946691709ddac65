"""QLoRA (Dettmers et al. 2023): LoRA on a base in 4 bits (NF4 in blocks of 64, their scales in 8 bits), frozen.

The matrices of the blocks are quantised one by one as they lie in memory, on the CPU, wherever the training runs: the
base is the same on every machine, and two copies of it never stand side by side. Embeddings, norms and head stay in
float32. On CUDA the moments of the optimiser are in 8 bits and may be paged out to main memory. The engine decodes what
was tuned: the dequantised base with the low-rank part merged in.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from forecasting.base import Base, load_model
from forecasting.decoder import DecoderWeights
from forecasting.errors import ConfigError
from forecasting.methods.lora import LoraOptions
from forecasting.methods.method import Method
from forecasting.methods.wrapped import ADAPTER, check_rank, load_folder, replaced, save_folder, tuned_layers, wrap
from forecasting.train import Plan

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GPT2LMHeadModel

BLOCK, WIDE_BLOCK = 64, 2048
"""Weights that share a scale. The wide one is for matrices whose inputs are no multiple of 64: on processors with
AVX-512, bitsandbytes 0.50 mixes up the scales of smaller blocks that run on from one row into the next."""


@dataclass(frozen=True)
class QloraOptions(LoraOptions):
    """As the source: alpha 16, dropout 0.1, on every matrix of a block; its rank 64 and rate 2e-4 are for 7 B."""

    learning_rate: float = 1e-4
    alpha: float = 16.0
    targets: str = "c_attn,attn.c_proj,mlp.c_fc,mlp.c_proj"


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ModuleNotFoundError:
        raise ConfigError("method 'qlora' needs bitsandbytes; pip install bitsandbytes, or take 'lora'") from None
    except (ImportError, OSError, RuntimeError) as error:  # its own library, or CUDA's, does not load
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"method 'qlora' needs bitsandbytes, which does not load here ({reason}); install it anew with "
            f"pip install --force-reinstall bitsandbytes, or take 'lora'"
        ) from error
    return bitsandbytes


def _prepare(model: "GPT2LMHeadModel", options: QloraOptions) -> "PeftModel":
    from peft import prepare_model_for_kbit_training

    quantise(model)
    prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # that is the training loop's to decide
    return wrap(model, options.config(fan_in_fan_out=False))


def quantise(model: "GPT2LMHeadModel") -> None:
    """Put the matrices of the blocks in 4 bits, in place."""
    from transformers.pytorch_utils import Conv1D

    for name in [name for name, module in model.named_modules() if isinstance(module, Conv1D)]:
        model.set_submodule(name, _in_nf4(model.get_submodule(name)))
    for value in model.parameters():
        if value.is_floating_point():  # a view into the file that was read would keep all of it in memory
            value.data = value.data.clone()
    model.is_loaded_in_4bit = True  # what PEFT goes by


def _in_nf4(layer: Any) -> nn.Module:
    """The same layer in 4 bits, its matrix turned to [out, in]."""
    layers = _bitsandbytes().nn
    kind = {"compress_statistics": True, "quant_type": "nf4"}
    block = BLOCK if layer.weight.shape[0] % BLOCK == 0 else WIDE_BLOCK
    with torch.device("meta"):
        quantised = layers.Linear4bit(*layer.weight.shape, compute_dtype=torch.float32, **kind)
    matrix = layer.weight.detach().T.contiguous()
    quantised.weight = layers.Params4bit(matrix, requires_grad=False, blocksize=block, module=quantised, **kind).to(
        "cpu"
    )
    quantised.bias = layer.bias.requires_grad_(False)
    quantised.support_avx512bf16_for_cpu = False  # in half precision, and it repacks the weights for good
    return quantised  # type: ignore[no-any-return]


def dequantised(layer: Any) -> Tensor:
    """The matrix that a layer in 4 bits stands for, float32 [out, in]."""
    matrix: Tensor = _bitsandbytes().functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return matrix.to(torch.float32)


def _plan(_: "PeftModel", __: QloraOptions, ___: int) -> Plan:
    return Plan(optimizer=_bitsandbytes().optim.PagedAdamW8bit)


def _load(base: Base, options: QloraOptions, folder: Path) -> "PeftModel":
    return load_folder(_prepare(load_model(base), options), folder)


def _weights(model: "PeftModel") -> DecoderWeights:
    layers = _bitsandbytes().nn
    tuned = tuned_layers(model)
    parts = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, layers.Linear4bit):
            own = name.removesuffix(".base_layer")
            matrix = dequantised(module)
            parts[own] = {"weight": _tuned(matrix, tuned[own]) if own in tuned else matrix, "bias": module.bias}
    parts = {name: part | {"weight": part["weight"].T} for name, part in parts.items()}
    return replaced(model, parts)


def _tuned(matrix: Tensor, layer: Any) -> Tensor:
    """W + s B A, DoRA's sizes put in where there are any; [out, in]."""
    change = layer.lora_B[ADAPTER].weight @ layer.lora_A[ADAPTER].weight
    moved: Tensor = (matrix + layer.scaling[ADAPTER] * change).detach()
    if ADAPTER not in layer.lora_magnitude_vector:
        return moved
    size: Tensor = layer.lora_magnitude_vector[ADAPTER].weight.detach()
    moved *= (size / torch.linalg.norm(moved, dim=1))[:, None]
    return moved


def _check(options: QloraOptions, base: Base) -> None:
    check_rank("qlora.rank", options.rank, base)
    _bitsandbytes()


METHOD = Method(
    "qlora", QloraOptions, _prepare, save_folder, _load, _weights, trains=True, merges=True, plan=_plan, check=_check
)
