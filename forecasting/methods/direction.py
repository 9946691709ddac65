"""The direction head: will the close be down, flat or up, h bars from now, asked of the last token's hidden state.

A linear classifier, d -> H x 3, on the state after ln_f, trained with cross-entropy over all steps. A move over h bars
is flat within `band` standard deviations of it, sigma sqrt(f_1^2 + ... + f_h^2) with sigma as known at the cutoff and f
the codec's factors of the bars ahead: sigma sqrt(h) on daily bars. At 0.4 the three classes are about equally frequent.

The forecast keeps the base's own density: paths, mean, quantiles and CRPS are those of `untuned` to the last byte, so
they stay comparable. The head gives p_up alone: P(up) + P(flat) / 2, a move inside the band being anybody's guess.
Where the base is trained along (`train_base`), that is a copy of it which serves the head only; the cost is a second
base in memory.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from forecasting.base import Base, load_gpt2, load_model, save_gpt2
from forecasting.classification import CLASSES
from forecasting.codecs import AnyCodec, BinsCodec
from forecasting.decoder import DecoderWeights, Product, weights_of
from forecasting.direction import DirectionForecaster, scores, true_classes
from forecasting.errors import ConfigError, OptionError
from forecasting.forecaster import Forecaster, PathForecaster
from forecasting.methods.method import CURE, Method, MethodOptions, Objective, load_tensors
from forecasting.sampler import gpt2_decoders
from forecasting.train import Plan
from forecasting.windows import Contexts, WindowSpec

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

ONLY_BINS = "direction reads the codec 'bins' only; take another method, or a base of that codec such as 'embedded'"


@dataclass(frozen=True)
class DirectionOptions(MethodOptions):
    """A linear probe takes larger steps than a base; dropout as before the heads of BERT and GPT-2.

    band: half-width of flat, in standard deviations of the move. train_base: train a copy of the base along, at
    base_rate times the head's learning rate. horizon: steps classified; 0 takes windows.horizon.
    """

    learning_rate: float = 1e-3
    band: float = 0.4
    dropout: float = 0.1
    train_base: bool = False
    base_rate: float = 0.02
    horizon: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.band <= 10:
            raise OptionError(f"band is {self.band}; give a number of standard deviations from 0 to 10")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout is {self.dropout}; give a number from 0 to below 1")
        if not 0 < self.base_rate <= 1:
            raise OptionError(f"base_rate is {self.base_rate}; give a factor above 0 and at most 1")
        if self.horizon < 0:
            raise OptionError(f"horizon is {self.horizon}; give 0, which takes windows.horizon")


class DirectedGPT2(nn.Module):
    """A frozen GPT-2 for the density, and a head on its last state or on that of a copy that trains along."""

    def __init__(self, base: "GPT2LMHeadModel", options: DirectionOptions) -> None:
        super().__init__()
        if not options.horizon:
            raise ConfigError(
                "method.direction.horizon is 0, which stands for windows.horizon; give the number of steps"
            )
        self.options = options
        self.base: Any = base.requires_grad_(False)
        self.tuned: Any = _trainable(deepcopy(base)) if options.train_base else None
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(base.config.n_embd, options.horizon * len(CLASSES))
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def read(self) -> Any:
        """The GPT-2 whose last state the head reads."""
        return self.base if self.tuned is None else self.tuned

    def forward(self, input_ids: Tensor, classify: bool = False, **options: Any) -> SimpleNamespace:
        """Logits of token ids [N, L], as `.logits`: of the next token, [N, L, V], or of the classes, [N, H, 3]."""
        if not classify:
            return SimpleNamespace(logits=self.base(input_ids=input_ids, **options).logits)
        last = self.read.transformer(input_ids=input_ids, **options).last_hidden_state[:, -1]
        return SimpleNamespace(logits=self.head(self.dropout(last)).unflatten(1, (-1, len(CLASSES))))

    def classifier(self) -> DecoderWeights:
        """What the decode engine runs to classify: the head in the place of the tokens' one."""
        weight, bias = (value.detach().to(torch.float32) for value in (self.head.weight, self.head.bias))
        return replace(weights_of(self.read), head=Product(weight.T, bias))


@dataclass(frozen=True)
class KeptHead:
    """What a forecaster needs of a `DirectedGPT2`, without it."""

    weights: DecoderWeights
    options: DirectionOptions

    def classifier(self) -> DecoderWeights:
        """What the decode engine runs to classify."""
        return self.weights


def _trainable(model: Any) -> Any:
    """All but a head of the tokens' own, which bears on nothing here."""
    model.requires_grad_(True)
    if model.lm_head.weight is not model.transformer.wte.weight:
        model.lm_head.requires_grad_(False)
    return model


def _save(model: DirectedGPT2, folder: Path) -> None:
    save_file(model.head.state_dict(), folder / "direction.safetensors")
    if model.tuned is not None:
        save_gpt2(model.tuned, folder)


def _load(base: Base, options: DirectionOptions, folder: Path) -> DirectedGPT2:
    model = DirectedGPT2(load_model(base), options)
    if options.train_base:
        model.tuned = _trainable(load_gpt2(folder, base.codec, CURE))
    model.head.load_state_dict(load_tensors(folder / "direction.safetensors", like=model.head.state_dict()))
    return model.eval()


def _weights(model: DirectedGPT2) -> DecoderWeights:
    """The base's: the density is not what is tuned."""
    return weights_of(model.base)


def _loss(model: nn.Module, rows: Tensor, horizon: int) -> Tensor:
    """Mean cross-entropy of the classes that stand behind the context's tokens, nats; rows int64 [n, C + H]."""
    logits = model(input_ids=rows[:, :-horizon], classify=True, use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), rows[:, -horizon:].flatten())


def _plan(model: DirectedGPT2, options: DirectionOptions, _: int) -> Plan:
    rates = {name: options.base_rate for name, _ in model.named_parameters() if name.startswith("tuned.")}
    return Plan(rates, loss=partial(_loss, horizon=options.horizon))


def _settle(options: DirectionOptions, spec: WindowSpec) -> DirectionOptions:
    if options.horizon not in (0, spec.horizon):
        raise ConfigError(
            f"method.direction.horizon is {options.horizon}, windows.horizon {spec.horizon}; leave the former out"
        )
    return replace(options, horizon=spec.horizon)


def _rows(inputs: Contexts, truth: np.ndarray, codec: AnyCodec, context: int, options: DirectionOptions) -> np.ndarray:
    """Tokens of the context, and the classes that followed, int64 [N, C + H]."""
    if not isinstance(codec, BinsCodec):
        raise ConfigError(ONLY_BINS)
    ids, state = codec.encode(inputs.closes, inputs.times, context)
    return np.concatenate([ids, true_classes(inputs, truth, codec, state, options.band)], axis=1)


def _forecaster(density: Forecaster, model: DirectedGPT2 | KeptHead) -> DirectionForecaster:
    if not isinstance(density, PathForecaster):
        raise ConfigError(ONLY_BINS)
    classifier = density.options.place(model.classifier())
    options = model.options
    return DirectionForecaster(density, options.horizon, options.band, gpt2_decoders(classifier, 2, 1))


def _check(_: DirectionOptions, base: Base) -> None:
    if not isinstance(base.codec, BinsCodec):
        raise ConfigError(ONLY_BINS)


METHOD = Method(
    "direction",
    DirectionOptions,
    DirectedGPT2,
    _save,
    _load,
    _weights,
    trains=True,
    merges=False,
    plan=_plan,
    objective=Objective(_settle, _rows, _forecaster, DirectedGPT2.classifier, KeptHead, scores),
    check=_check,
)
