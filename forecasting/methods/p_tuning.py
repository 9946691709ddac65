"""P-tuning (Liu et al. 2021): embeddings before the context, computed by a small network that is trained with them.

The network exists for training alone, where it ties the virtual tokens together; what is stored and run is its output,
so a checkpoint is as small as a prompt's however many parameters were trained.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forecasting.errors import OptionError
from forecasting.methods.method import MethodOptions
from forecasting.methods.virtual import check, prompted, wrapped

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GPT2LMHeadModel

ENCODERS = ("mlp", "lstm")


@dataclass(frozen=True)
class PTuningOptions(MethodOptions):
    """The encoder is peft's, without dropout.

    tokens: P. encoder: `mlp`, three layers with ReLU between, or `lstm`, both ways, with two such layers behind, as
    in the paper. hidden: its width, 0 for the base's. layers: of the LSTM.
    """

    learning_rate: float = 1e-3
    tokens: int = 20
    encoder: str = "mlp"
    hidden: int = 0
    layers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.tokens, {"encoder": (self.encoder, ENCODERS)})
        if self.hidden < 0:
            raise OptionError(f"hidden is {self.hidden}; give a width, or 0 for the base's")
        if self.layers < 1:
            raise OptionError(f"layers is {self.layers}; give a whole number of at least 1")
        if self.encoder == "mlp" and self.layers != PTuningOptions.layers:
            raise OptionError(
                f'layers is {self.layers}, which only an LSTM heeds; set encoder = "lstm", or leave layers out'
            )


def _wrap(model: "GPT2LMHeadModel", options: PTuningOptions, trained: bool) -> "PeftModel":
    from peft import PromptEncoderConfig

    config = PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=options.tokens,
        encoder_reparameterization_type=options.encoder.upper(),
        encoder_hidden_size=options.hidden or None,
        encoder_num_layers=options.layers,
        inference_mode=trained,
    )
    return wrapped("p-tuning", model, config)


METHOD = prompted("p-tuning", PTuningOptions, _wrap)
