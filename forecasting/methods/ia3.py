"""IA3 (Liu et al. 2022): a factor for each key, each value and each activation inside the MLP, all one at the start.

GPT-2 keeps queries, keys and values in one matrix, so here, as in PEFT, the queries get factors too. Those of a
matrix's outputs and those of its inputs alike merge into it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forecasting.base import Base, load_model
from forecasting.methods.method import Method, MethodOptions
from forecasting.methods.wrapped import TARGETS, load_folder, merged, names_in, save_folder, wrap

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GPT2LMHeadModel

INPUTS = ("mlp.c_proj",)
"""Matrices whose inputs are scaled, which are the MLP's activations; of all others the outputs are."""


@dataclass(frozen=True)
class Ia3Options(MethodOptions):
    """Learning rate and places of the source, all three fused or not; targets: comma-separated, out of TARGETS."""

    learning_rate: float = 3e-3
    targets: str = "c_attn,mlp.c_proj"

    def __post_init__(self) -> None:
        super().__post_init__()
        names_in(self.targets, TARGETS)


def _prepare(model: "GPT2LMHeadModel", options: Ia3Options) -> "PeftModel":
    from peft import IA3Config

    targets = names_in(options.targets, TARGETS)
    config = IA3Config(
        target_modules=targets,
        feedforward_modules=[name for name in targets if name in INPUTS],
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    return wrap(model, config)


def _load(base: Base, options: Ia3Options, folder: Path) -> "PeftModel":
    return load_folder(_prepare(load_model(base), options), folder)


METHOD = Method("ia3", Ia3Options, _prepare, save_folder, _load, merged, trains=True, merges=True)
