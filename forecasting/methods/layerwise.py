"""Full fine-tuning with a learning rate that falls from the head to the embeddings (Howard and Ruder 2018).

With L blocks the factor of ln_f, and of a head of its own, is 1, of block i decay^(L - i), of the embeddings
decay^(L + 1). A head tied to the embeddings is the embeddings, and moves as slowly as they do.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forecasting.decoder import weights_of
from forecasting.errors import OptionError
from forecasting.methods import full
from forecasting.methods.method import Method, MethodOptions
from forecasting.train import Plan

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True)
class LayerwiseOptions(MethodOptions):
    """learning_rate: of the top, that of `full`. decay: factor from a layer to the one below; 1 is `full`."""

    learning_rate: float = full.FullOptions.learning_rate
    decay: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.decay <= 1:
            raise OptionError(f"decay is {self.decay}; give a factor above 0 and up to 1")


def _below(name: str, layers: int) -> int:
    """Layers between a parameter and the top."""
    if block := re.match(r"transformer\.h\.(\d+)\.", name):
        return layers - int(block[1])
    return layers + 1 if name.startswith(("transformer.wte.", "transformer.wpe.")) else 0


def _plan(model: "GPT2LMHeadModel", options: LayerwiseOptions, _steps: int) -> Plan:
    layers = model.config.n_layer
    return Plan({name: options.decay ** _below(name, layers) for name, _ in model.named_parameters()})


METHOD = Method(
    "layerwise",
    LayerwiseOptions,
    full.METHOD.prepare,
    full.METHOD.save,
    full.METHOD.load,
    weights_of,
    trains=True,
    merges=True,
    plan=_plan,
)
