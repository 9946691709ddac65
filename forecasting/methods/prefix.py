"""Prefix tuning (Li and Liang 2021): P trained keys and values in every block, before those of the context.

Recomputing activations in the backward pass drops the cache they enter by, so peft refuses gradient checkpointing.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from forecasting.base import Base, load_model
from forecasting.decoder import DecoderWeights, weights_of
from forecasting.errors import OptionError
from forecasting.methods.method import Method, MethodOptions
from forecasting.methods.virtual import at_rest, check, restored, save, wrapped

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True)
class PrefixOptions(MethodOptions):
    """Starting from real keys and values matters more than any other setting.

    tokens: P. init: `keys` starts from what the base makes of tokens drawn at random, which is the base that has seen
    them; `random` from N(0, 1). projection: compute keys and values by a two-layer network with tanh, as in the paper,
    which is thrown away after training; it has no such real start. hidden: its width, 0 for the base's.
    """

    learning_rate: float = 5e-3
    tokens: int = 10
    init: str = "keys"
    projection: bool = False
    hidden: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.tokens, {"init": (self.init, ("keys", "random"))})
        if self.projection and self.init == "keys":
            raise OptionError(
                'init is "keys", from which a projection cannot start; set init = "random", or projection = false'
            )
        if self.hidden < 0:
            raise OptionError(f"hidden is {self.hidden}; give a width, or 0 for the base's")
        if self.hidden and not self.projection:
            raise OptionError(
                f"hidden is {self.hidden}, the width of a projection there is not; "
                "set projection = true, or leave hidden out"
            )


def _wrap(model: "GPT2LMHeadModel", options: PrefixOptions, trained: bool) -> "PeftModel":
    from peft import PrefixTuningConfig

    config = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=options.tokens,
        prefix_projection=options.projection,
        encoder_hidden_size=options.hidden or None,
        inference_mode=trained,
    )
    return wrapped("prefix", model, config)


def _prepare(model: "GPT2LMHeadModel", options: PrefixOptions) -> "PeftModel":
    tuned = _wrap(model, options, trained=False)
    if options.init == "keys":
        ids = torch.randint(model.config.vocab_size, (options.tokens,))
        with torch.no_grad():
            tuned.prompt_encoder["default"].embedding.weight.copy_(_keys_of(model, ids))
    return tuned


def _keys_of(model: "GPT2LMHeadModel", ids: Tensor) -> Tensor:
    """Keys and values of token ids [P], in peft's order: [P, layers x (key, value) x heads x width of a head]."""
    layers = model.eval()(input_ids=ids[None], use_cache=True).past_key_values.layers
    found = torch.stack([part[0] for layer in layers for part in (layer.keys, layer.values)])
    return found.permute(2, 0, 1, 3).reshape(len(ids), -1)


def _load(base: Base, options: PrefixOptions, folder: Path) -> "PeftModel":
    return restored(_wrap(load_model(base), options, trained=True), folder)


def _weights(model: "PeftModel") -> DecoderWeights:
    with at_rest(model):
        layers = model.get_prompt(1).layers
    prefix = tuple(
        (layer.keys[0].to(torch.float32).contiguous(), layer.values[0].to(torch.float32).contiguous())
        for layer in layers
    )
    return replace(weights_of(model.get_base_model()), prefix=prefix)


METHOD = Method(
    "prefix",
    PrefixOptions,
    _prepare,
    save,
    _load,
    _weights,
    trains=True,
    merges=False,
    taken=lambda options: options.tokens,
    checkpointing=False,
)
