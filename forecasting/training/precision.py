"""Where and how a training computes: device, mixed precision, activations fused, kept or computed again."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from forecasting.errors import ConfigError
from forecasting.training.options import TrainingOptions

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(options: TrainingOptions) -> torch.device:
    """The device to train on; ConfigError where it is not there, or the precision is not for it."""
    there = torch.cuda.is_available()
    if options.device == "cuda" and not there:
        raise ConfigError(
            'training.device is "cuda", but torch finds no CUDA device; set it to "cpu", or install a torch with CUDA'
        )
    if options.device == "cpu" or not there:
        if options.precision == "fp16":
            raise ConfigError('training.precision is "fp16", which needs a CUDA device; on the CPU take "bf16"')
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def autocast(device: torch.device, precision: str) -> "contextlib.AbstractContextManager[None]":
    """Inside, matrix products run in the precision asked for; weights stay float32."""
    if precision not in TYPES:
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[None] = torch.autocast(device.type, TYPES[precision])
    return context


def scaler_of(precision: str) -> torch.amp.GradScaler:
    """Scales the loss so that small gradients survive fp16; does nothing at other precisions."""
    return torch.amp.GradScaler("cuda", enabled=precision == "fp16")


@contextlib.contextmanager
def fused_gelu(model: nn.Module) -> Iterator[None]:
    """Inside, GPT-2's GELU is one operation, as in the decode engine, where transformers spells it out in eight.

    The same formula up to rounding, in a fraction of the time, and without keeping its intermediate results.
    """
    found = [(part, name, child) for part in model.modules() for name, child in part.named_children()]
    spelt_out = [place for place in found if type(place[2]).__name__ == "NewGELUActivation"]
    for part, name, _ in spelt_out:
        setattr(part, name, nn.GELU(approximate="tanh"))
    try:
        yield
    finally:
        for part, name, child in spelt_out:
            setattr(part, name, child)


@contextlib.contextmanager
def recomputing(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Inside, blocks in training keep only their inputs and compute the rest again in the backward pass.

    ConfigError where the model has no blocks that can. Without re-entry a frozen base needs no gradients of its inputs,
    so those that transformers asks for are taken back: they would cost a backward pass through all of a frozen base.
    """
    if not wanted:
        yield
        return
    inside = list(_recomputable(model))
    if not inside:
        raise ConfigError("this model cannot compute its activations again; set training.checkpointing = false")
    with warnings.catch_warnings():  # the name that all of transformers 5 knows, though newer ones prefer another
        warnings.filterwarnings("ignore", category=FutureWarning)
        for inner in inside:
            inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            inner.disable_input_require_grads()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            for inner in inside:
                inner.gradient_checkpointing_disable()


def _recomputable(part: nn.Module) -> Iterator[Any]:
    """The outermost modules that can compute again: a method may hold more than one GPT-2."""
    if hasattr(part, "gradient_checkpointing_enable"):
        yield part
    else:
        for child in part.children():
            yield from _recomputable(child)
