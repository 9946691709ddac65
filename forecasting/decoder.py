"""A GPT-2 forward pass written as plain functions over named weights, made for sampling many paths from one context.

transformers' `generate` recomputes or copies the context for each path. Here the context of a window is run once and
its keys and values are shared by all paths, each of which keeps only its own few steps in a preallocated cache.

A call takes one window or a tile of several, on one thread; rows of different windows never meet in a sum. Whether a
window's bytes are the same alone and anywhere in a tile is then up to the libraries beneath: a product that splits its
sums differently for more rows would change the last bits. `sampler` tries it out before it uses tiles.

How tuned models enter. What merges into a matrix is merged (LoRA and its kin, IA3, layer norms). What stands beside the
matrices enters as functions: adapters after a block's halves or after the last norm. What stands before the context
enters as keys and values that every window shares: a trained prefix as it is, prompt and P-tuning embeddings after one
pass through the blocks, since nothing that follows can change them.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forecasting.errors import ConfigError


class Product:
    """x W + b, W [inputs, outputs] packed once for skinny x, with the GELU of GPT-2 fused in where asked for.

    oneDNN's packed products take about half the time of plain ones on 64 rows (docs/LOG.md); where torch lacks oneDNN
    the plain product is used. The operators are those that torch's own compiler emits for frozen weights.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, gelu: bool = False) -> None:
        self._bias = bias
        self.gelu = gelu
        self._packed: Tensor | None = None
        self._weight = weight.T.contiguous()
        if torch.backends.mkldnn.is_available() and weight.device.type == "cpu" and weight.dtype == torch.float32:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight, 64)

    @property
    def weight(self) -> Tensor:
        """W, [inputs, outputs]."""
        return self._weight.T

    @property
    def bias(self) -> Tensor | None:
        """The bias, [outputs]."""
        return self._bias

    @property
    def tensors(self) -> list[Tensor]:
        """All that it keeps in memory."""
        return [value for value in (self._weight, self._bias, self._packed) if value is not None]

    def to(self, device: torch.device, dtype: torch.dtype) -> "Product":
        """The same on another device, in another precision."""
        return Product(self._weight.to(device, dtype).T, _moved(self._bias, device, dtype), self.gelu)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to rows [n, inputs]; gives [n, outputs]."""
        if self._packed is not None:
            kind, algorithm = ("gelu", "tanh") if self.gelu else ("none", "")
            result: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, kind, [], algorithm)
            return result
        plain = F.linear(x, self._weight, self._bias)
        return F.gelu(plain, approximate="tanh") if self.gelu else plain


@dataclass(frozen=True)
class Adapter:
    """A residual bottleneck: h + up(f(down(h))), f the ReLU, or the GELU where `down` has it fused in."""

    down: Product
    up: Product

    def __call__(self, hidden: Tensor) -> Tensor:
        """Apply to hidden states [n, d]."""
        inner = self.down(hidden)
        return hidden + self.up(inner if self.down.gelu else torch.relu(inner))


@dataclass(frozen=True)
class BlockWeights:
    """One transformer block, with adapters of what attention and MLP add to the stream, where there are any."""

    ln_1: tuple[Tensor, Tensor]
    qkv: Product
    attention_out: Product
    ln_2: tuple[Tensor, Tensor]
    mlp_in: Product
    mlp_out: Product
    after_attention: Adapter | None = None
    after_mlp: Adapter | None = None


Prefix = tuple[tuple[Tensor, Tensor], ...]
"""For each block the keys and values, [heads, P, width of a head] each, of what stands before every context."""


@dataclass(frozen=True)
class DecoderWeights:
    """All a decode needs: embeddings [V, d] and [L, d], blocks, final norm, head, adapters after the norm, prefix."""

    tokens: Tensor
    positions: Tensor
    blocks: tuple[BlockWeights, ...]
    ln_f: tuple[Tensor, Tensor]
    head: Product
    heads: int
    epsilon: float
    adapters: tuple[Adapter, ...] = ()
    prefix: Prefix = ()

    @property
    def taken(self) -> int:
        """Positions that the prefix uses up, P."""
        return self.prefix[0][0].shape[1] if self.prefix else 0

    @property
    def room(self) -> int:
        """Most tokens of context and path together."""
        return len(self.positions) - self.taken

    @property
    def width(self) -> int:
        """Size of the hidden state, d."""
        return self.tokens.shape[1]

    @property
    def vocabulary(self) -> int:
        """Number of tokens, V."""
        return self.tokens.shape[0]

    def to(self, device: torch.device, dtype: torch.dtype) -> "DecoderWeights":
        """The same on another device, in another precision; what is in place already is not copied."""
        if self.tokens.device == device and self.tokens.dtype == dtype:
            return self
        moved: DecoderWeights = _moved(self, device, dtype)
        return moved


def _moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Weights, however nested, on another device in another precision; numbers and None as they are."""
    if isinstance(value, Tensor | Product):
        return value.to(device, dtype)
    if isinstance(value, tuple):
        return tuple(_moved(part, device, dtype) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{field.name: _moved(getattr(value, field.name), device, dtype) for field in fields(value)}
        )
    return value


def weights_of(
    model: nn.Module,
    adapters: tuple[Adapter, ...] = (),
    state: dict[str, Tensor] | None = None,
    in_blocks: tuple[tuple[Adapter | None, Adapter | None], ...] = (),
) -> DecoderWeights:
    """Weights of a transformers `GPT2LMHeadModel`, detached, contiguous, float32; `state` overrides its own.

    adapters: after the last norm. in_blocks: for each block those after attention and after the MLP.
    """
    named = model.state_dict() if state is None else state
    state = {name: value.detach().to(torch.float32).contiguous() for name, value in named.items()}
    config: Any = model.config

    def pair(name: str) -> tuple[Tensor, Tensor]:
        return state[f"{name}.weight"], state[f"{name}.bias"]

    blocks = tuple(
        BlockWeights(
            ln_1=pair(f"{block}.ln_1"),
            qkv=Product(*pair(f"{block}.attn.c_attn")),
            attention_out=Product(*pair(f"{block}.attn.c_proj")),
            ln_2=pair(f"{block}.ln_2"),
            mlp_in=Product(*pair(f"{block}.mlp.c_fc"), gelu=True),
            mlp_out=Product(*pair(f"{block}.mlp.c_proj")),
            after_attention=inside[0],
            after_mlp=inside[1],
        )
        for block, inside in zip(
            (f"transformer.h.{i}" for i in range(config.n_layer)),
            in_blocks or [(None, None)] * config.n_layer,
            strict=True,
        )
    )
    return DecoderWeights(
        tokens=state["transformer.wte.weight"],
        positions=state["transformer.wpe.weight"],
        blocks=blocks,
        ln_f=pair("transformer.ln_f"),
        head=Product(state["lm_head.weight"].T),
        heads=config.n_head,
        epsilon=config.layer_norm_epsilon,
        adapters=adapters,
    )


def with_prompt(weights: DecoderWeights, prompt: Tensor) -> DecoderWeights:
    """The weights with embeddings [P, d] before every context, as prompt and P-tuning put them.

    They see only each other, so their keys and values are the same for all windows and are worked out here. ConfigError
    where they leave no room for a context, or are none.
    """
    if not 0 < len(prompt) < len(weights.positions):
        raise ConfigError(
            f"a prompt of {len(prompt)} tokens; give 1 to {len(weights.positions) - 1}, the model's positions but one"
        )
    decoder = Decoder(weights, 1, 1)
    with torch.inference_mode():
        decoder.run(prompt.to(weights.tokens)[None])
    return replace(weights, prefix=tuple((key[0].mT.contiguous(), value[0]) for key, value in decoder.context))


class Decoder:
    """Decode of one window, or of several at once: `start` with contexts, then `advance` all paths a token at a time.

    paths: of a window, S; steps: most tokens a path will take. The path caches are allocated once and reused as long
    as the number of windows stays the same. Logits come where the weights lie, in their precision. `context` holds for
    each block the keys, transposed, and the values of the contexts last started, [windows, heads, width of a head,
    P + C] and [windows, heads, P + C, width of a head].
    """

    def __init__(self, weights: DecoderWeights, paths: int, steps: int) -> None:
        self._w = weights
        self._paths = paths
        self._steps = max(steps, 1)
        self.context: list[tuple[Tensor, Tensor]] = []
        self._length = 0
        self._taken = 0
        self._windows = 0

    def start(self, ids: Tensor) -> Tensor:
        """Run contexts of equal length, ids int64 [..., C]; gives logits of the next token, [..., V]."""
        last = self.run(self._w.tokens[ids.view(-1, ids.shape[-1]).to(self._w.tokens.device)])
        return self._logits(last).view(*ids.shape[:-1], -1)

    def run(self, embedded: Tensor) -> Tensor:
        """Run embedded contexts [windows, C, d], keeping keys and values; gives the last hidden states [windows, d].

        Of the last block only the last place is finished: keys and values are all that the others are needed for.
        """
        w = self._w
        count, length = embedded.shape[:2]
        self._length, self._taken, self.context = w.taken + length, 0, []
        hidden = (embedded + w.positions[w.taken : self._length]).view(-1, w.width)
        mask = _causal(w.taken, length).to(hidden.device) if w.taken else None
        for i, block in enumerate(w.blocks):
            query, key, value = self._project(block, hidden).view(count, length, 3, w.heads, -1).unbind(2)
            query, key, value = (part.transpose(1, 2).contiguous() for part in (query, key, value))
            if w.prefix:
                key, value = (
                    torch.cat([before.expand(count, -1, -1, -1), own], dim=2)
                    for before, own in zip(w.prefix[i], (key, value), strict=True)
                )
            self.context.append((key.transpose(2, 3), value))
            if i + 1 < len(w.blocks):
                mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
                hidden = self._finish(block, hidden, mixed.transpose(1, 2))
        ends = hidden.view(count, length, -1)[:, -1]
        mixed = F.scaled_dot_product_attention(query[:, :, -1:], key, value)
        return self._finish(block, ends, mixed)

    def advance(self, ids: Tensor) -> Tensor:
        """Take one more token on every path, ids int64 [..., S]; gives logits of the next, [..., S, V]."""
        w = self._w
        if not self._taken:
            self._make_room(len(self.context[0][0]))
        t = self._taken
        self._taken = t + 1
        hidden = w.tokens[ids.reshape(-1).to(w.tokens.device)] + w.positions[self._length + t]
        for i, block in enumerate(w.blocks):
            query, key, value = self._project(block, hidden).view(len(hidden), 3, w.heads, -1).unbind(1)
            self._keys[i][t], self._values[i][t] = key, value
            hidden = self._finish(block, hidden, self._attend(i, query))
        return self._logits(hidden).view(*ids.shape, -1)

    def _make_room(self, windows: int) -> None:
        if windows == self._windows:
            return
        w = self._w
        self._windows = windows
        shape = (self._steps, windows * self._paths, w.heads, w.width // w.heads)
        self._keys = [w.tokens.new_zeros(shape) for _ in w.blocks]
        self._values = [w.tokens.new_zeros(shape) for _ in w.blocks]
        self._scratch = w.tokens.new_empty(shape)

    def _project(self, block: BlockWeights, hidden: Tensor) -> Tensor:
        """Queries, keys and values side by side, [n, 3 d]."""
        return block.qkv(F.layer_norm(hidden, (self._w.width,), *block.ln_1, self._w.epsilon))

    def _attend(self, i: int, query: Tensor) -> Tensor:
        """Attention of block i over the shared contexts and each path's own steps.

        query [windows x S, heads, width of a head]; gives [windows, S, heads, width of a head].

        The caches are laid out step by step, so that what is taken is one contiguous block; products land in scratch
        memory, because fresh temporaries of this size cost more in page faults than in arithmetic.
        """
        taken, (keys, values) = self._taken, self.context[i]
        scratch, split = self._scratch[:taken], self._length
        on_context = torch.matmul(query.view(self._windows, self._paths, *query.shape[1:]).transpose(1, 2), keys)
        on_own = dot(self._keys[i][:taken], query, -1, scratch)
        on_own = on_own.view(taken, self._windows, self._paths, -1).permute(1, 3, 2, 0)
        scores = torch.cat([on_context, on_own], dim=3).mul_(query.shape[-1] ** -0.5)
        weight = torch.softmax(scores, dim=3)
        own = weight[..., split:].permute(3, 0, 2, 1).reshape(taken, *query.shape[:2], 1)
        mixed = dot(self._values[i][:taken], own, 0, scratch)
        shared = torch.matmul(weight[..., :split], values).transpose(1, 2)
        return mixed.view(shared.shape).add_(shared)

    def _finish(self, block: BlockWeights, hidden: Tensor, mixed: Tensor) -> Tensor:
        w = self._w
        attended = block.attention_out(mixed.reshape(hidden.shape))
        hidden = hidden + (block.after_attention(attended) if block.after_attention else attended)
        computed = block.mlp_out(block.mlp_in(F.layer_norm(hidden, (w.width,), *block.ln_2, w.epsilon)))
        return hidden + (block.after_mlp(computed) if block.after_mlp else computed)

    def _logits(self, hidden: Tensor) -> Tensor:
        w = self._w
        hidden = F.layer_norm(hidden, (w.width,), *w.ln_f, w.epsilon)
        for adapter in w.adapters:
            hidden = adapter(hidden)
        return w.head(hidden)


def _causal(before: int, length: int) -> Tensor:
    """What each of `length` places may see: all that stands `before`, and no place after its own, bool."""
    return torch.ones(length, before + length, dtype=torch.bool).tril(before)


def dot(one: Tensor, other: Tensor, dim: int, scratch: Tensor) -> Tensor:
    """Sum over `dim` of one x other: attention's product with a path's own steps; no batched one is faster."""
    return torch.mul(one, other, out=scratch).sum(dim)
