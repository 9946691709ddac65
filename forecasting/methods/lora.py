"""LoRA (Hu et al. 2021): W + s B A, A random and B zero at the start, s = alpha / rank; merged before decoding.

rsLoRA (Kalajdzievski 2023) takes s = alpha / sqrt(rank), so that a higher rank does not learn more slowly. DoRA (Liu
et al. 2024) trains direction and size apart: m (W + s B A) / |W + s B A|, m and the norm one number for each output,
m the norm of W at the start.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forecasting.base import Base, load_model
from forecasting.errors import OptionError, unknown
from forecasting.methods.method import Method, MethodOptions
from forecasting.methods.wrapped import (
    TARGETS,
    check_low_rank,
    check_rank,
    load_folder,
    merged,
    names_in,
    save_folder,
    wrap,
)

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import GPT2LMHeadModel

INITS = {"kaiming": True, "gaussian": "gaussian"}
"""How A begins, in PEFT's words: uniform as in the authors' code, or N(0, 1 / rank^2), of PEFT's making."""


@dataclass(frozen=True)
class LoraOptions(MethodOptions):
    """Defaults of the source articles: rank 8, alpha 32, dropout 0.1, on the attention's fused projection.

    targets: comma-separated names out of TARGETS. dora, rslora: the variants above, together if wanted. init: of A,
    a name out of INITS.
    """

    learning_rate: float = 1e-4
    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.1
    targets: str = "c_attn"
    dora: bool = False
    rslora: bool = False
    init: str = "kaiming"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_low_rank(self.alpha, self.dropout, rank=self.rank)
        names_in(self.targets, TARGETS)
        if self.init not in INITS:
            raise OptionError(f"init: {unknown('initialisation', self.init, INITS)}")

    def config(self, fan_in_fan_out: bool) -> "LoraConfig":
        """The same for PEFT; fan_in_fan_out: matrices are [in, out], as GPT-2 keeps them."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=names_in(self.targets, TARGETS),
            use_dora=self.dora,
            use_rslora=self.rslora,
            init_lora_weights=INITS[self.init],
            fan_in_fan_out=fan_in_fan_out,
            task_type="CAUSAL_LM",
        )


def _prepare(model: "GPT2LMHeadModel", options: LoraOptions) -> "PeftModel":
    return wrap(model, options.config(fan_in_fan_out=True))


def _load(base: Base, options: LoraOptions, folder: Path) -> "PeftModel":
    return load_folder(_prepare(load_model(base), options), folder)


def _check(options: LoraOptions, base: Base) -> None:
    check_rank("lora.rank", options.rank, base)


METHOD = Method("lora", LoraOptions, _prepare, save_folder, _load, merged, trains=True, merges=True, check=_check)
