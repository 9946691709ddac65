"""What prefix, prompt and P-tuning share: virtual tokens before every context, held by peft and stored in its layout.

They use up positions: the first token of a context stands at position P, where P virtual tokens are. Whatever computes
them in training, only what comes out is stored, `prompt_embeddings` [P, ...], so a loaded model holds no encoder.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from forecasting.base import Base, load_model
from forecasting.decoder import DecoderWeights, weights_of, with_prompt
from forecasting.errors import ConfigError, OptionError, unknown
from forecasting.methods.method import Method, MethodOptions, load_tensors
from forecasting.methods.wrapped import save_folder, wrap

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import GPT2LMHeadModel


class PromptedGPT2(nn.Module):
    """GPT-2 with embeddings before every context; peft gives logits at their places too, which nothing here wants."""

    def __init__(self, tuned: "PeftModel") -> None:
        super().__init__()
        self.tuned: Any = tuned

    def forward(self, input_ids: Tensor, **options: Any) -> SimpleNamespace:
        """Logits [N, L, V] of token ids [N, L], as `.logits`."""
        found = self.tuned(input_ids=input_ids, logits_to_keep=input_ids.shape[1], **options)
        return SimpleNamespace(logits=found.logits)


def check(tokens: int, learning: dict[str, tuple[str, tuple[str, ...]]]) -> None:
    """OptionError for no virtual tokens, or a choice {option: (value, known)} that is none."""
    if tokens < 1:
        raise OptionError(f"tokens is {tokens}; give a whole number of at least 1")
    for option, (value, known) in learning.items():
        if value not in known:
            raise OptionError(f"{option}: {unknown('choice', value, known)}")


def wrapped(name: str, model: "GPT2LMHeadModel", config: "PeftConfig") -> "PeftModel":
    """The model, frozen, with peft's virtual tokens; ConfigError where they leave no position for a context."""
    most = model.config.n_positions - 1
    if config.num_virtual_tokens > most:
        raise ConfigError(
            f"method.{name}.tokens is {config.num_virtual_tokens}: the base has {most + 1} positions, contexts and "
            f"paths included; give at most {most}"
        )
    return wrap(model, config)


@contextlib.contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Evaluation without gradients: in training torch runs an LSTM by other code, whose last bits differ."""
    training = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(training)


def save(model: "PeftModel", folder: Path) -> None:
    """Store the virtual tokens in PEFT's own layout."""
    with at_rest(model):
        save_folder(model, folder)


def restored(model: "PeftModel", folder: Path) -> "PeftModel":
    """The stored virtual tokens in a model whose peft configuration is for inference, hence without an encoder."""
    held = model.prompt_encoder["default"].embedding.weight
    stored = load_tensors(folder / "adapter_model.safetensors", like={"prompt_embeddings": held})
    with torch.no_grad():
        held.copy_(stored["prompt_embeddings"])
    return model.eval()


def save_prompted(model: PromptedGPT2, folder: Path) -> None:
    """Store a prompt as `save` does."""
    save(model.tuned, folder)


def prompted_weights(model: PromptedGPT2) -> DecoderWeights:
    """The base's, with the keys and values that the blocks make of the prompt."""
    with at_rest(model):
        prompt = model.tuned.get_prompt(1)[0]
    return with_prompt(weights_of(model.tuned.get_base_model()), prompt)


Wrap = Callable[["GPT2LMHeadModel", Any, bool], "PeftModel"]
"""A GPT-2 with peft's virtual tokens: the model, settings, and whether it is for inference, without an encoder."""


def prompted(name: str, options: type[MethodOptions], wrap_model: Wrap) -> Method:
    """A method whose virtual tokens are embeddings before the context."""

    def prepare(model: "GPT2LMHeadModel", chosen: Any) -> PromptedGPT2:
        return PromptedGPT2(wrap_model(model, chosen, False))

    def load(base: Base, chosen: Any, folder: Path) -> PromptedGPT2:
        return PromptedGPT2(restored(wrap_model(load_model(base), chosen, True), folder)).eval()

    return Method(
        name,
        options,
        prepare,
        save_prompted,
        load,
        prompted_weights,
        trains=True,
        merges=False,
        taken=lambda chosen: chosen.tokens,
    )
