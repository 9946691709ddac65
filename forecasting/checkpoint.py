"""A tuned model on disk, and the forecaster that comes back from it.

The folder holds what its method stores (Hugging Face or PEFT layout, safetensors), codec.json and model.json: which
method with which settings, on which base, for which windows. Nothing else is needed to forecast, except the base
itself.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from forecasting.base import Base, find_base, load_model
from forecasting.codecs import AnyCodec, BinsCodec, Codec, codec_from_dict, positions_needed
from forecasting.decoder import DecoderWeights
from forecasting.errors import CheckpointError
from forecasting.files import read_json, reading, sha256_of, write_folder, write_json
from forecasting.forecaster import Forecaster, PathForecaster
from forecasting.methods import CURE, MethodOptions, method
from forecasting.sampler import SamplingOptions, gpt2_decoders
from forecasting.spelling import spelling_forecaster
from forecasting.windows import WindowSpec

LAYOUT = 1


def save_checkpoint(
    folder: Path, model: nn.Module, name: str, options: MethodOptions, spec: WindowSpec, codec: Codec, base: str
) -> None:
    """Write a tuned model as one folder that appears whole."""

    def fill(partial: Path) -> None:
        method(name).save(model, partial)
        write_json(partial / "codec.json", codec.as_dict())
        write_json(
            partial / "model.json",
            {
                "layout": LAYOUT,
                "method": name,
                "options": asdict(options),
                "windows": asdict(spec),
                "base": base,
                "base_sha": find_base(base).sha,
            },
        )

    write_folder(folder, fill)


def load_checkpoint(folder: Path, options: SamplingOptions) -> tuple[Forecaster, WindowSpec]:
    """The forecaster of a checkpoint folder and the windows it was tuned for.

    Raises CheckpointError where files are missing or damaged, or the base is not the one it was tuned on.
    """
    tuned = load_tuned(folder)
    codec, spec = tuned.codec, tuned.spec
    weights = options.place(tuned.weights)
    needed = positions_needed(codec, spec.context, spec.horizon)
    if needed > weights.room:
        raise CheckpointError(f"{folder}: {needed} tokens asked of a model with room for {weights.room}")
    sha = sha256_of(tuned.base.sha, *(file for file in sorted(folder.iterdir()) if file.is_file()))
    if isinstance(codec, BinsCodec):
        make = gpt2_decoders(weights, options.paths, spec.horizon)
        forecaster: Forecaster = PathForecaster(sha, codec, spec.context, options, make)
    else:
        forecaster = spelling_forecaster(sha, weights, codec, spec, options)
    objective = method(tuned.method).objective
    return objective.forecaster(forecaster, tuned.model) if objective else forecaster, spec


@dataclass(frozen=True)
class Tuned:
    """A tuned model as torch runs it, its codec, windows, method and base."""

    model: nn.Module
    codec: AnyCodec
    spec: WindowSpec
    method: str
    base: Base

    @cached_property
    def weights(self) -> DecoderWeights:
        """The same for the decode engine."""
        return method(self.method).weights(self.model)

    @property
    def room(self) -> int:
        """Most tokens of context and path together."""
        return self.weights.room

    def logits(self, ids: Tensor) -> Tensor:
        """Logits of the next token at every position, [L, V]; ids int64 [L]."""
        result: Tensor = self.model(input_ids=ids[None], use_cache=False).logits[0]
        return result


def load_tuned(folder: Path) -> Tuned:
    """The model of a checkpoint folder; raises as `load_checkpoint`."""
    with reading(folder / "codec.json", CURE):
        codec = codec_from_dict(read_json(folder / "codec.json"))
    with reading(folder / "model.json", CURE):
        stored = read_json(folder / "model.json")
        if stored["layout"] != LAYOUT:
            raise CheckpointError(f"layout {stored['layout']}, this version reads {LAYOUT}")
        chosen = method(stored["method"])
        options = chosen.options(**stored["options"])
        spec = WindowSpec(**stored["windows"])
        base_name, base_sha = str(stored["base"]), str(stored["base_sha"])
    base = find_base(base_name)
    if base.sha != base_sha:
        raise CheckpointError(
            f"{folder}: tuned on another version of base {base_name!r} (sha {base_sha[:12]}, found {base.sha[:12]}); "
            f"train it anew or restore that base"
        )
    return Tuned(chosen.load(base, options, folder), codec, spec, chosen.name, base)


def new_model(base_name: str, name: str, options: MethodOptions) -> nn.Module:
    """A base wrapped for tuning; seed torch's generator before, for methods that draw their initial weights."""
    return method(name).prepare(load_model(find_base(base_name)), options)
