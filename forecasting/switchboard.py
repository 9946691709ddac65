"""Several tuned models on one base in memory at once, switched per request.

A method changes some matrices of a GPT-2 and leaves the others as they were. Those that are bit for bit the base's are
held once, so a prefix or adapter costs itself and LoRA costs the matrices it was merged into; full fine-tuning shares
nothing. Sharing replaces equal bytes by equal bytes, so forecasts are those of `load_checkpoint`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forecasting.base import Base, load_model
from forecasting.checkpoint import checkpoint_sha, forecaster_of_weights, load_tuned
from forecasting.codecs import AnyCodec
from forecasting.decoder import DecoderWeights, Product, weights_of
from forecasting.errors import CheckpointError, ConfigError, unknown
from forecasting.forecaster import Forecaster
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec


@dataclass(frozen=True)
class Held:
    """A tuned model ready to decode; `complete` adds what its method forecasts beside the density.

    Only a method that forecasts something beside it keeps its torch model, within `complete`.
    """

    sha: str
    weights: DecoderWeights
    codec: AnyCodec
    spec: WindowSpec
    complete: Callable[[Forecaster], Forecaster]


class Switchboard:
    """The checkpoints of `folders`, by name, all tuned on `base`, which is read from disk once."""

    def __init__(self, base: Base, folders: Mapping[str, Path]) -> None:
        held = replace(base, resident=load_model(base).eval())
        assert held.resident is not None
        self._base = weights_of(held.resident)
        self._models = {name: self._load(held, folder) for name, folder in folders.items()}

    def _load(self, base: Base, folder: Path) -> Held:
        tuned = load_tuned(folder, base)
        if tuned.base.sha != base.sha:
            raise CheckpointError(
                f"{folder} was tuned on another base ({tuned.base.folder}); put it into a switchboard of that base"
            )
        weights = shared(tuned.weights, self._base)
        return Held(checkpoint_sha(folder, base), weights, tuned.codec, tuned.spec, tuned.complete)

    @property
    def names(self) -> tuple[str, ...]:
        """The models there are."""
        return tuple(self._models)

    def held(self, name: str) -> Held:
        """A model by name; ConfigError says which there are."""
        if name not in self._models:
            raise ConfigError(unknown("model", name, self._models))
        return self._models[name]

    def forecaster(self, name: str, options: SamplingOptions) -> Forecaster:
        """The forecaster of a model, without reading or copying weights."""
        model = self.held(name)
        density = forecaster_of_weights(name, model.sha, model.weights, model.codec, model.spec, options)
        return model.complete(density)

    @property
    def base_bytes(self) -> int:
        """Memory of the base's weights alone."""
        return bytes_of(self._base)

    @property
    def bytes(self) -> int:
        """Memory of all weights that are decoded, the base's included, each counted once."""
        return bytes_of(self._base, *(model.weights for model in self._models.values()))


def shared(own: Any, base: Any) -> Any:
    """`own` with every tensor and product that is bit for bit `base`'s replaced by that of `base`."""
    if isinstance(own, Tensor):
        return base if isinstance(base, Tensor) and _same(own, base) else own
    if isinstance(own, Product):
        return base if isinstance(base, Product) and _same_product(own, base) else own
    if isinstance(own, tuple) and isinstance(base, tuple) and len(own) == len(base):
        return tuple(shared(one, other) for one, other in zip(own, base, strict=True))
    if is_dataclass(own) and not isinstance(own, type) and type(own) is type(base):
        parts = {field.name: shared(getattr(own, field.name), getattr(base, field.name)) for field in fields(own)}
        return replace(own, **parts)
    return own


def _same(one: Tensor, other: Tensor) -> bool:
    """Equality of bytes, which tells -0 from 0, as a product may."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def _same_product(one: Product, other: Product) -> bool:
    if one.gelu != other.gelu or (one.bias is None) != (other.bias is None):
        return False
    return _same(one.weight, other.weight) and (one.bias is None or _same(one.bias, other.bias))  # type: ignore[arg-type]


def bytes_of(*records: DecoderWeights) -> int:
    """Bytes of the tensors in memory, each once; packed matrices have no address of their own."""
    held = {}
    for record in records:
        for tensor in tensors_of(record):
            if tensor.is_mkldnn:
                held[id(tensor)] = tensor.numel() * 4
            else:
                held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(held.values())


def tensors_of(record: Any) -> Iterator[Tensor]:
    """Every tensor of a record of weights."""
    if isinstance(record, Tensor):
        yield record
    elif isinstance(record, Product):
        yield from record.tensors
    elif isinstance(record, tuple):
        for part in record:
            yield from tensors_of(part)
    elif is_dataclass(record):
        for field in fields(record):
            yield from tensors_of(getattr(record, field.name))
