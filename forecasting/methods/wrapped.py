"""What the methods that go through PEFT share: wrap a GPT-2, save in PEFT's layout, load strictly, merge.

PEFT's own loader leaves a matrix that a file lacks at its random start, so loading goes through the names and shapes
that the wrapped model expects. Merging is PEFT's own, on a copy of one layer at a time: a copy of the whole model
would double the memory of a large base.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from forecasting.base import Base
from forecasting.decoder import DecoderWeights, weights_of
from forecasting.errors import ConfigError, OptionError, unknown
from forecasting.files import read_json, write_json
from forecasting.methods.method import CURE, load_tensors

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
"""Which PEFT imports where it is there: it warns of a kernel for inference that is not used here."""

ADAPTER = "default"
"""The name under which PEFT keeps what it adds; one model has one here."""

TARGETS = ("c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
"""Matrices of a GPT-2 block. The embeddings are left out: the head is tied to them, so a merge would change both."""


def names_in(targets: str, known: Iterable[str]) -> list[str]:
    """The comma-separated names of the option `targets`; OptionError for one that is unknown."""
    names = [name.strip() for name in targets.split(",")]
    for name in names:
        if name not in known:
            raise OptionError(f"targets: {unknown('module', name, known)}")
    return names


def check_low_rank(alpha: float, dropout: float, **ranks: int) -> None:
    """OptionError for settings out of the range of every low-rank method."""
    for name, rank in ranks.items():
        if rank < 1:
            raise OptionError(f"{name} is {rank}; give a whole number of at least 1")
    if alpha <= 0:
        raise OptionError(f"alpha is {alpha}; give a positive number")
    if not 0 <= dropout < 1:
        raise OptionError(f"dropout is {dropout}; give a number from 0 to below 1")


def check_rank(name: str, rank: int, base: Base) -> None:
    """ConfigError for a rank above the base's width: the product of its factors could have no such rank."""
    if rank > base.width:
        raise ConfigError(f"method.{name} is {rank}; a base of width {base.width} has no higher rank than that")


def wrap(model: nn.Module, config: "PeftConfig") -> "PeftModel":
    """The model with the parts that `config` describes, frozen but for them."""
    from peft import get_peft_model

    with warnings.catch_warnings():  # peft reads an attribute that transformers is about to rename
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message="Unsupported layer type")  # of layer norms, which it does support
        return get_peft_model(model, config)


def save_folder(model: "PeftModel", folder: Path) -> None:
    """PEFT's own layout, without the path of the base on this machine."""
    with quiet_about_size():
        warnings.filterwarnings("ignore", message=".*(base model|config).*")
        model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    write_json(config, read_json(config) | {"base_model_name_or_path": None})


def load_folder(model: "PeftModel", folder: Path, cure: str = CURE) -> "PeftModel":
    """Put what `save_folder` wrote into a freshly wrapped model; CheckpointError unless it fits to the last tensor."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    with quiet_about_size():
        expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    set_peft_model_state_dict(model, load_tensors(folder / "adapter_model.safetensors", expected, cure))
    return model.eval()


@contextlib.contextmanager
def quiet_about_size() -> Iterator[None]:
    """PEFT takes a layer of which AdaLoRA has left nothing for a part of one that is spread over several machines."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*invalid shape.*")
        yield


def tuned_layers(model: "PeftModel") -> dict[str, Any]:
    """The layers that PEFT put in the place of GPT-2's, by the names of those."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: part for name, part in model.get_base_model().named_modules() if isinstance(part, BaseTunerLayer)}


def merged(model: "PeftModel", before: Callable[[Any], None] = lambda layer: None) -> DecoderWeights:
    """What the decode engine runs, as cheap as the base's; the model stays as it is.

    before: called with the copy of each layer that is about to be merged.
    """
    parts = {}
    for name, layer in tuned_layers(model).items():
        copied = deepcopy(layer)
        before(copied)
        copied.merge()
        parts[name] = copied.get_base_layer().state_dict()
    return replaced(model, parts)


def replaced(model: "PeftModel", parts: Mapping[str, Mapping[str, Tensor]]) -> DecoderWeights:
    """The engine's weights of the model inside; `parts` are the tensors of the modules that are not GPT-2's own."""
    inner = model.get_base_model()
    not_its_own = tuple(f"{name}." for name in parts)
    state = {name: value for name, value in inner.state_dict().items() if not name.startswith(not_its_own)}
    state |= {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}
    return weights_of(inner, state=state)
