"""Token rows of a base that never saw its codec's tokens: what they begin as, who trains them, where they are kept.

The 50,257 rows of GPT-2 stand for pieces of text that the `bins` codec can never produce, so its model keeps blocks,
positions and last norm, and gets a fresh table with a row for each bin. Whatever the method, such rows have to be
trained, or the model cannot learn what a token means; they are stored beside what the method stores. Nothing else is
added to a method: it gets a GPT-2 of a small vocabulary and need not know where that comes from.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from forecasting.errors import CheckpointError
from forecasting.files import reading

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

ROWS_FILE = "tokens.safetensors"
RECIPE = "cosine rows 1"
"""Names how fresh rows are made; it is part of a base's hash and changes whenever they would."""

WAVES = 8
SEED = 0
BESIDE = "trains_beside_the_method"
"""Attribute of a table that the method itself leaves frozen."""


def smooth_rows(table: Tensor, count: int) -> Tensor:
    """Fresh rows [count, d] in the place of `table` [V, d], close for neighbouring tokens.

    row_i = mean + a sum_k cos(pi k (i + 1/2) / count) / k (table[j_k] - mean), k = 1 .. WAVES, j_k drawn at random:
    each wave goes in the direction of one old token. So the mean is the table's, the covariance is the table's in
    expectation over the draw, and `a` makes its trace the table's. Float64 without products of matrices, so that the
    bytes are the same with any number of threads.
    """
    values = table.detach().to(torch.float32).cpu().numpy()
    mean = values.mean(axis=0, dtype=np.float64)
    spread = sum(float(((part - mean) ** 2).sum()) for part in np.array_split(values, -(-len(values) // 4096)))
    chosen = np.random.default_rng(SEED).choice(len(values), WAVES, replace=len(values) < WAVES)
    order = np.arange(1, WAVES + 1)
    waves = np.cos(np.pi * order * (np.arange(count)[:, None] + 0.5) / count) / order
    rows = np.einsum("ik,kd->id", waves, values[chosen] - mean, optimize=False)
    rows *= np.sqrt(spread / len(values) / np.mean((rows**2).sum(axis=1)))
    return torch.from_numpy((mean + rows).astype(np.float32))


def replace_rows(model: "GPT2LMHeadModel", count: int, tied: bool) -> "GPT2LMHeadModel":
    """The model with `count` fresh rows; tied, the head is that table, else a head of its own that begins at zero.

    A zero head makes all tokens equally likely: with bins of equal probability that is the random walk.
    """
    table = nn.Embedding(count, model.config.n_embd)
    table.weight.data = smooth_rows(model.transformer.wte.weight, count)
    head = nn.Linear(model.config.n_embd, count, bias=False)
    if tied:
        head.weight = table.weight
    else:
        nn.init.zeros_(head.weight)
    model.transformer.wte, model.lm_head = table, head
    model.config.update({"vocab_size": count, "tie_word_embeddings": tied, "bos_token_id": None, "eos_token_id": None})
    return model


def load_rows(model: "GPT2LMHeadModel", file: Path, cure: str) -> None:
    """Put stored rows in their place; CheckpointError where they are not of the model's shapes.

    Tables that the file lacks stay as they are: the method stores those itself.
    """
    with reading(file, cure):
        stored: dict[str, Tensor] = load_file(file)
    tables = _tables(model)
    if any(name not in tables or value.shape != tables[name].weight.shape for name, value in stored.items()):
        raise CheckpointError(f"{file} does not fit the base's token rows; {cure}")
    with torch.no_grad():
        for name, value in stored.items():
            tables[name].weight.copy_(value)


def train_rows(model: nn.Module) -> None:
    """Let the rows of a model that a method has wrapped train, also where the method freezes them."""
    tables = _tables(model)
    assert tables, "no GPT-2 inside whose rows could train"
    for table in tables.values():
        setattr(table, BESIDE, not table.weight.requires_grad)
        table.weight.requires_grad_(True)


def row_rates(model: nn.Module, factor: float) -> dict[str, float]:
    """A factor of the learning rate for each parameter that holds rows, by its name in the wrapped model."""
    rows = {id(table.weight) for table in _tables(model).values()}
    return {name: factor for name, value in model.named_parameters() if id(value) in rows}


@contextlib.contextmanager
def rows_aside(model: nn.Module) -> Iterator[None]:
    """Within the block rows that train beside the method are frozen, so that it stores what is its own."""
    beside = _beside(model)
    for table in beside.values():
        table.weight.requires_grad_(False)
    try:
        yield
    finally:
        for table in beside.values():
            table.weight.requires_grad_(True)


def save_rows(model: nn.Module, folder: Path) -> list[str]:
    """Store the tables that train beside the method; gives their names."""
    tensors = {name: table.weight.detach().contiguous() for name, table in _beside(model).items()}
    if tensors:
        save_file(tensors, folder / ROWS_FILE)
    return sorted(tensors)


def check_rows(file: Path, names: list[str], cure: str) -> None:
    """CheckpointError unless the file has these tables and no others."""
    with reading(file, cure), safe_open(file, framework="pt") as stored:
        if sorted(stored.keys()) != names:
            raise ValueError(f"it has {', '.join(stored.keys()) or 'nothing'} where {', '.join(names)} was stored")


def _beside(model: nn.Module) -> dict[str, Any]:
    return {name: table for name, table in _tables(model).items() if getattr(table, BESIDE, False)}


def _tables(model: nn.Module) -> dict[str, Any]:
    """The token table, and the head where it has weights of its own; none in a model without a GPT-2."""
    from transformers import GPT2LMHeadModel

    inner = next((module for module in model.modules() if isinstance(module, GPT2LMHeadModel)), None)
    if inner is None:
        return {}
    tables = {"wte.weight": inner.transformer.wte}
    if inner.lm_head.weight is not inner.transformer.wte.weight:
        tables["lm_head.weight"] = inner.lm_head
    return tables
