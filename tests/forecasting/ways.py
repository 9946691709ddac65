"""Ways in which tuned models enter the decode engine, made of any GPT-2, each with the library's own forward beside it.

A way is a model with random tuned parameters, far from neutral.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import peft
import torch
from oracles import forward_of
from torch import nn
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from forecasting.decoder import Adapter, DecoderWeights, Prefix, Product, weights_of, with_prompt


@dataclass(frozen=True)
class Way:
    """The engine's weights, and logits [N, L, V] of tokens [N, L] as the library works them out."""

    weights: DecoderWeights
    logits: Callable[[torch.Tensor], torch.Tensor]


def shaken(model: nn.Module, seed: int, spread: float) -> nn.Module:
    """All that trains moved at random: no bias zero, no norm or IA3 factor one, no adapter without effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(torch.randn(value.shape, generator=generator), alpha=spread)
    return model.eval()


def prefix_of(model: peft.PeftModel) -> Prefix:
    """Keys and values that prefix tuning trained, after its projection where it has one."""
    with torch.no_grad():
        layers = model.get_prompt(1).layers
    return tuple((layer.keys[0].contiguous(), layer.values[0].contiguous()) for layer in layers)


def with_prefix(model: GPT2LMHeadModel, tokens: int = 5, **options: object) -> Way:
    """Prefix tuning, its virtual tokens at random."""
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=tokens, **options)
    model = shaken(peft.get_peft_model(model, config), 3, 0.3)
    return Way(replace(weights_of(model.get_base_model()), prefix=prefix_of(model)), forward_of(model))


def with_prompt_of(model: GPT2LMHeadModel, config: peft.PeftConfig) -> Way:
    """Prompt or P-tuning: embeddings, the latter's out of its encoder."""
    model = shaken(peft.get_peft_model(model, config), 3, 0.3)
    with torch.no_grad():
        embeddings = model.get_prompt(1)[0]
    weights = with_prompt(weights_of(model.get_base_model()), embeddings)
    return Way(weights, forward_of(model, config.num_virtual_tokens))


Side = tuple[nn.Linear, nn.Linear, bool]


def bottleneck(width: int, seed: int, gelu: bool) -> Side:
    """Down, up, and whether GELU stands between them, else ReLU."""
    layers = (nn.Linear(width, 6), nn.Linear(6, width))
    for i, layer in enumerate(layers):
        shaken(layer, 100 * seed + i, 0.3)
    return (*layers, gelu)


def hooked(place: nn.Module, side: Side) -> None:
    """Put the bottleneck behind a module's output: h + up(f(down(h)))."""
    down, up, gelu = side

    def behind(_module: nn.Module, _inputs: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> object:
        first = output[0] if isinstance(output, tuple) else output
        inner = F.gelu(down(first), approximate="tanh") if gelu else F.relu(down(first))
        changed = first + up(inner)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    place.register_forward_hook(behind)


def packed(side: Side) -> Adapter:
    down, up, gelu = side
    return Adapter(
        Product(down.weight.detach().T, down.bias.detach(), gelu=gelu), Product(up.weight.detach().T, up.bias.detach())
    )


def with_blocks(
    model: GPT2LMHeadModel, gelu: bool = True, only_mlp_of: int | None = None
) -> tuple[GPT2LMHeadModel, DecoderWeights]:
    """Bottlenecks after both halves of every block (Houlsby 2019), or after one block's MLP alone (Pfeiffer 2021)."""
    width, inside = model.config.n_embd, []
    for i, block in enumerate(model.transformer.h):
        after_attention = bottleneck(width, 2 * i, gelu) if only_mlp_of is None else None
        after_mlp = bottleneck(width, 2 * i + 1, gelu) if only_mlp_of in (None, i) else None
        for place, side in ((block.attn, after_attention), (block.mlp, after_mlp)):
            if side:
                hooked(place, side)
        inside.append((after_attention and packed(after_attention), after_mlp and packed(after_mlp)))
    return model, weights_of(model, in_blocks=tuple(inside))
