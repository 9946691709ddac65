"""What the decode engine runs, kept on disk, so that a model is served without the libraries that tuned it.

Importing transformers and PEFT and merging takes seconds; reading the merged matrices a few milliseconds. The file is a
copy of what the checkpoint gives, tensor for tensor, so forecasts are the same to the last byte. It is named by the
checkpoint's hash and the program's, says the hash of its own content, and lies in the folder of the cache: a damaged
file is made again, one that cannot be written is not.
"""

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from forecasting.cache import ForecastCache
from forecasting.decoder import Adapter, BlockWeights, DecoderWeights, Product
from forecasting.files import sha256_of

RECORDS = {record.__name__: record for record in (DecoderWeights, BlockWeights, Adapter)}


def kept_weights(cache: ForecastCache, sha: str, make: Callable[[], DecoderWeights]) -> DecoderWeights:
    """The weights of the model of hash `sha`: read where they are kept, else made and kept."""
    file = cache.weights_file(sha)
    try:
        weights = read_weights(file)
    except Exception:  # whatever is wrong with a file that can be made again
        weights = make()
        cache.keep(file, lambda partial: write_weights(partial, weights))
    else:
        cache.used(file)
    return weights


def write_weights(file: Path, weights: DecoderWeights) -> None:
    """Write weights as safetensors, each tensor once; the metadata say how they hang together."""
    tensors: dict[str, Tensor] = {}
    tree = _tree(weights, tensors)
    save_file(tensors, file, {"tree": json.dumps(tree), "sha": _sha(tree, tensors)})


def read_weights(file: Path) -> DecoderWeights:
    """Weights as they were written; raises where the file is missing or another than was written."""
    with safe_open(file, "pt") as opened:
        facts = opened.metadata()
        tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
    tree = json.loads(facts["tree"])
    if _sha(tree, tensors) != facts["sha"]:
        raise ValueError(f"{file} is damaged")
    weights: DecoderWeights = _value(tree, tensors)
    return weights


def _sha(tree: Any, tensors: dict[str, Tensor]) -> str:
    return sha256_of(json.dumps(tree), *(tensors[name].numpy() for name in sorted(tensors)))


def _tree(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON, a list of its kind and its parts; its tensors go into `tensors`, named in order."""
    if isinstance(value, Tensor):
        same = (name for name, held in tensors.items() if _same(held, value))
        name = next(same, str(len(tensors)))
        tensors.setdefault(name, value.contiguous())
        return ["tensor", name]
    if isinstance(value, Product):
        return ["product", *(_tree(part, tensors) for part in (value.weight.T, value.bias, value.gelu))]
    if isinstance(value, tuple):
        return ["tuple", *(_tree(part, tensors) for part in value)]
    if is_dataclass(value):
        return [type(value).__name__, *(_tree(getattr(value, field.name), tensors) for field in fields(value))]
    return value


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether they are one table in memory, as tokens and tied head are."""
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


def _value(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `_tree`."""
    if not isinstance(tree, list):
        return tree
    kind, *told = tree
    if kind == "tensor":
        return tensors[told[0]]
    parts = tuple(_value(part, tensors) for part in told)
    if kind == "product":
        weight, bias, gelu = parts
        return Product(weight.T, bias, gelu)
    return parts if kind == "tuple" else RECORDS[kind](*parts)
