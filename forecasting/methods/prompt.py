"""Prompt tuning (Lester et al. 2021): P trained embeddings before the context; nothing else moves."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forecasting.methods.method import MethodOptions
from forecasting.methods.virtual import check, prompted, wrapped

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GPT2LMHeadModel

STARTS = {"vocabulary": "SAMPLE_VOCAB", "random": "RANDOM"}
"""Where the embeddings begin, and peft's name for it."""


@dataclass(frozen=True)
class PromptOptions(MethodOptions):
    """Few parameters want a large step.

    tokens: P. init: `vocabulary` starts from embeddings of tokens drawn at random, which is the base that has seen
    them; `random` from N(0, 1), far outside what embeddings are.
    """

    learning_rate: float = 5e-3
    tokens: int = 20
    init: str = "vocabulary"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.tokens, {"init": (self.init, tuple(STARTS))})


def _wrap(model: "GPT2LMHeadModel", options: PromptOptions, trained: bool) -> "PeftModel":
    from peft import PromptTuningConfig

    config = PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=options.tokens,
        prompt_tuning_init=STARTS[options.init],
        inference_mode=trained,
    )
    return wrapped("prompt", model, config)


METHOD = prompted("prompt", PromptOptions, _wrap)
