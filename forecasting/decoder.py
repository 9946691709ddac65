"""A GPT-2 forward pass written as plain functions over named weights, made for sampling many paths from one context.

transformers' `generate` recomputes or copies the context for each path. Here the context of a window is run once and its
keys and values are shared by all paths, each of which keeps only its own few steps in a preallocated cache.

Every product has one fixed shape: one window alone, its paths padded to a full tile, one thread. Products of other shapes
differ in the last bits, so this is what makes a forecast independent of batch composition, order and thread count;
parallelism comes from running windows side by side (see `sampler`). Tiles of several windows would raise arithmetic
intensity a little but tie a window's bytes to its place in the tile.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class BlockWeights:
    """One transformer block; matrices are [inputs, outputs] as GPT-2's Conv1D stores them."""

    ln_1: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor]
    attention_out: tuple[Tensor, Tensor]
    ln_2: tuple[Tensor, Tensor]
    mlp_in: tuple[Tensor, Tensor]
    mlp_out: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Adapter:
    """A residual bottleneck: h + up(relu(down(h))); `down` [d, bottleneck], `up` [bottleneck, d]."""

    down: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Apply to hidden states [n, d]."""
        inner = torch.relu(torch.addmm(self.down[1], hidden, self.down[0]))
        return hidden + torch.addmm(self.up[1], inner, self.up[0])


@dataclass(frozen=True)
class DecoderWeights:
    """All a decode needs: embeddings [V, d] and [P, d], blocks, final norm, head [d, V], adapters after the norm."""

    tokens: Tensor
    positions: Tensor
    blocks: tuple[BlockWeights, ...]
    ln_f: tuple[Tensor, Tensor]
    head: Tensor
    heads: int
    epsilon: float
    adapters: tuple[Adapter, ...] = ()

    @property
    def width(self) -> int:
        """Size of the hidden state, d."""
        return self.tokens.shape[1]

    @property
    def vocabulary(self) -> int:
        """Number of tokens, V."""
        return self.head.shape[1]


def weights_of(
    model: nn.Module, adapters: tuple[Adapter, ...] = (), state: dict[str, Tensor] | None = None
) -> DecoderWeights:
    """Weights of a transformers `GPT2LMHeadModel`, detached, contiguous, float32; `state` overrides its own."""
    named = model.state_dict() if state is None else state
    state = {name: value.detach().to(torch.float32).contiguous() for name, value in named.items()}
    config = model.config

    def pair(name: str) -> tuple[Tensor, Tensor]:
        return state[f"{name}.weight"], state[f"{name}.bias"]

    blocks = tuple(
        BlockWeights(
            ln_1=pair(f"{block}.ln_1"),
            qkv=pair(f"{block}.attn.c_attn"),
            attention_out=pair(f"{block}.attn.c_proj"),
            ln_2=pair(f"{block}.ln_2"),
            mlp_in=pair(f"{block}.mlp.c_fc"),
            mlp_out=pair(f"{block}.mlp.c_proj"),
        )
        for block in (f"transformer.h.{i}" for i in range(config.n_layer))
    )
    return DecoderWeights(
        tokens=state["transformer.wte.weight"],
        positions=state["transformer.wpe.weight"],
        blocks=blocks,
        ln_f=pair("transformer.ln_f"),
        head=state["lm_head.weight"].T.contiguous(),
        heads=config.n_head,
        epsilon=config.layer_norm_epsilon,
        adapters=adapters,
    )


class Decoder:
    """One window's decode: `start` with the context, then `advance` all its paths a token at a time.

    paths: rows of a tile, S; steps: most tokens a path will take. The path caches are allocated once and reused from
    window to window.
    """

    def __init__(self, weights: DecoderWeights, paths: int, steps: int) -> None:
        self._w = weights
        head_width = weights.width // weights.heads
        shape = (len(weights.blocks), weights.heads, paths, max(steps, 1), head_width)
        self._keys, self._values = torch.zeros(shape), torch.zeros(shape)
        self._context: list[tuple[Tensor, Tensor]] = []
        self._length = 0
        self._taken = 0

    def start(self, ids: Tensor) -> Tensor:
        """Run the context, ids int64 [C]; gives logits of the next token, [V]."""
        w = self._w
        self._length, self._taken, self._context = len(ids), 0, []
        hidden = w.tokens[ids] + w.positions[: len(ids)]
        for block in w.blocks:
            query, key, value = self._project(block, hidden)
            self._context.append((key, value))
            mixed = F.scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)[0]
            hidden = self._finish(block, hidden, mixed)
        return self._logits(hidden[-1:])[0]

    def advance(self, ids: Tensor) -> Tensor:
        """Take one more token on every path, ids int64 [S]; gives logits of the next, [S, V]."""
        w = self._w
        t = self._taken
        self._taken = t + 1
        hidden = w.tokens[ids] + w.positions[self._length + t]
        for i, block in enumerate(w.blocks):
            query, key, value = self._project(block, hidden)
            keys, values = self._keys[i], self._values[i]
            keys[:, :, t], values[:, :, t] = key, value
            hidden = self._finish(block, hidden, self._attend(self._context[i], query, keys, values, t + 1))
        return self._logits(hidden)

    def _project(self, block: BlockWeights, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all heads, each [heads, n, width of a head]."""
        w = self._w
        normed = F.layer_norm(hidden, (w.width,), *block.ln_1, w.epsilon)
        fused = torch.addmm(block.qkv[1], normed, block.qkv[0])
        query, key, value = fused.view(len(hidden), 3, w.heads, -1).permute(1, 2, 0, 3)
        return query, key, value

    @staticmethod
    def _attend(context: tuple[Tensor, Tensor], query: Tensor, keys: Tensor, values: Tensor, taken: int) -> Tensor:
        """Attention of each path over the shared context and its own `taken` steps, [heads, S, width]."""
        shared_keys, shared_values = context
        scale = query.shape[-1] ** -0.5
        own_keys, own_values = keys[:, :, :taken], values[:, :, :taken]
        on_shared = torch.matmul(query, shared_keys.transpose(1, 2))
        on_own = (own_keys * query[:, :, None]).sum(-1)
        weight = torch.softmax(torch.cat([on_shared, on_own], dim=2) * scale, dim=2)
        split = shared_keys.shape[1]
        mixed = torch.matmul(weight[:, :, :split], shared_values)
        return mixed + (own_values * weight[:, :, split:, None]).sum(2)

    def _finish(self, block: BlockWeights, hidden: Tensor, mixed: Tensor) -> Tensor:
        w = self._w
        merged = mixed.permute(1, 0, 2).reshape(len(hidden), w.width)
        hidden = hidden + torch.addmm(block.attention_out[1], merged, block.attention_out[0])
        normed = F.layer_norm(hidden, (w.width,), *block.ln_2, w.epsilon)
        inner = F.gelu(torch.addmm(block.mlp_in[1], normed, block.mlp_in[0]), approximate="tanh")
        return hidden + torch.addmm(block.mlp_out[1], inner, block.mlp_out[0])

    def _logits(self, hidden: Tensor) -> Tensor:
        w = self._w
        hidden = F.layer_norm(hidden, (w.width,), *w.ln_f, w.epsilon)
        for adapter in w.adapters:
            hidden = adapter(hidden)
        return hidden @ w.head
