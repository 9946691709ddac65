"""A small GPT-2 that writes prices as text, for machines without the real one: a tokenizer of numbers, random weights.

It has read no language, only numbers, so it stands in for GPT-2's way of cutting prices, not for what GPT-2 knows. The
tokenizer joins digits in pairs, and a space with the digit it precedes, which gives a close about as many tokens as
GPT-2's does (5 for ` 0.61163`).
"""

from itertools import product
from pathlib import Path
from typing import Any

import torch

from forecasting.base import save_base
from forecasting.codecs import TextCodec

LAYERS, WIDTH, HEADS = 2, 64, 4


def number_codec(digits: int) -> TextCodec:
    """Closes with so many decimals as text: single characters, ` d` and all pairs of digits."""
    figures = "0123456789"
    merges = [(" ", one) for one in figures] + list(product(figures, figures))
    pieces = (" ", ".", *figures, *("".join(pair) for pair in merges))
    return TextCodec(
        digits, len(pieces), pieces, tuple(range(len(pieces))), tuple(merges), half_lives=(5.0,), weights=(1.0,)
    )


def save_number_base(folder: Path, codec: TextCodec, positions: int, seed: int, card: dict[str, Any]) -> None:
    """Write a GPT-2 of random weights as a base of that codec."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=codec.vocabulary, n_positions=positions, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    save_base(folder, model, codec, {**card, "parameters": sum(value.numel() for value in model.parameters())})
