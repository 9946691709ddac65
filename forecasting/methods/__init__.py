"""The tuning methods: one file each, one line here.

A method says how to wrap a base model, what to save and how to load it again, and which weights the decode engine runs.
The training loop, the sampler and the study know nothing else about it.
"""

from forecasting.errors import ConfigError, unknown
from forecasting.methods import (
    adalora,
    adapter,
    bottleneck,
    direction,
    full,
    ia3,
    layer_norm,
    layerwise,
    lora,
    p_tuning,
    partial,
    prefix,
    prompt,
    qlora,
    random_init,
    untuned,
)
from forecasting.methods.method import CURE, Method, MethodOptions, Objective, stored_bytes, trained_parameters
from forecasting.windows import WindowSpec

METHODS: dict[str, Method] = {
    "untuned": untuned.METHOD,
    "full": full.METHOD,
    "lora": lora.METHOD,
    "qlora": qlora.METHOD,
    "adalora": adalora.METHOD,
    "ia3": ia3.METHOD,
    "ln": layer_norm.METHOD,
    "adapter": adapter.METHOD,
    "layerwise": layerwise.METHOD,
    "partial": partial.METHOD,
    "prefix": prefix.METHOD,
    "prompt": prompt.METHOD,
    "p-tuning": p_tuning.METHOD,
    "bottleneck": bottleneck.METHOD,
    "random-init": random_init.METHOD,
    "direction": direction.METHOD,
}


def method(name: str) -> Method:
    """The method of that name; ConfigError says which exist and the nearest."""
    if name not in METHODS:
        raise ConfigError(unknown("method", name, METHODS))
    return METHODS[name]


def settled(name: str, options: MethodOptions, spec: WindowSpec) -> MethodOptions:
    """The settings as they are for windows of this shape."""
    objective = method(name).objective
    completed: MethodOptions = objective.settle(options, spec) if objective else options
    return completed


__all__ = [
    "CURE", "METHODS", "Method", "MethodOptions", "Objective", "method", "settled", "stored_bytes",
    "trained_parameters",
]  # fmt: skip
