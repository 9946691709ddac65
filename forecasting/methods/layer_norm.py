"""LN-tuning (Qi et al. 2022, Zhao et al. 2023): only gains and biases of the layer norms move."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forecasting.base import Base, load_model
from forecasting.methods.method import Method, MethodOptions
from forecasting.methods.wrapped import load_folder, merged, names_in, save_folder, wrap

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GPT2LMHeadModel

NORMS = ("ln_1", "ln_2", "ln_f")
"""Norms of a GPT-2: before attention, before the MLP, and the last."""


@dataclass(frozen=True)
class LayerNormOptions(MethodOptions):
    """All norms, as in the sources; targets: comma-separated names out of NORMS."""

    learning_rate: float = 1e-3
    targets: str = "ln_1,ln_2,ln_f"

    def __post_init__(self) -> None:
        super().__post_init__()
        names_in(self.targets, NORMS)


def _prepare(model: "GPT2LMHeadModel", options: LayerNormOptions) -> "PeftModel":
    from peft import LNTuningConfig

    targets = names_in(options.targets, NORMS)
    return wrap(model, LNTuningConfig(target_modules=targets, task_type="CAUSAL_LM"))


def _load(base: Base, options: LayerNormOptions, folder: Path) -> "PeftModel":
    return load_folder(_prepare(load_model(base), options), folder)


METHOD = Method("ln", LayerNormOptions, _prepare, save_folder, _load, merged, trains=True, merges=True)
