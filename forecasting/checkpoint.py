"""A tuned model on disk, and the forecaster that comes back from it.

The folder holds what its method stores (Hugging Face or PEFT layout, safetensors), codec.json and model.json: which
method with which settings, on which base, for which windows. Nothing else is needed to forecast, except the base
itself.
"""

from dataclasses import asdict
from pathlib import Path

from torch import nn

from forecasting.base import find_base, load_model
from forecasting.codecs import BinsCodec
from forecasting.errors import CheckpointError
from forecasting.files import read_json, reading, sha256_of, write_folder, write_json
from forecasting.forecaster import PathForecaster
from forecasting.methods import CURE, MethodOptions, method
from forecasting.sampler import SamplingOptions, gpt2_decoders
from forecasting.windows import WindowSpec

LAYOUT = 1


def save_checkpoint(
    folder: Path, model: nn.Module, name: str, options: MethodOptions, spec: WindowSpec, codec: BinsCodec, base: str
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


def load_checkpoint(folder: Path, options: SamplingOptions) -> tuple[PathForecaster, WindowSpec]:
    """The forecaster of a checkpoint folder and the windows it was tuned for.

    Raises CheckpointError where files are missing or damaged, or the base is not the one it was tuned on.
    """
    codec, spec, name, method_options, base_name, base_sha = _read(folder)
    base = find_base(base_name)
    if base.sha != base_sha:
        raise CheckpointError(
            f"{folder}: tuned on another version of base {base_name!r} (sha {base_sha[:12]}, found {base.sha[:12]}); "
            f"train it anew or restore that base"
        )
    chosen = method(name)
    weights = chosen.weights(chosen.load(base, method_options, folder))
    steps = spec.context + spec.horizon - 1
    if steps > weights.room:
        raise CheckpointError(f"{folder}: {steps} tokens asked of a model with room for {weights.room}")
    forecaster = PathForecaster(
        model_sha=sha256_of(base.sha, *(file for file in sorted(folder.iterdir()) if file.is_file())),
        codec=codec,
        context=spec.context,
        options=options,
        make_model=gpt2_decoders(weights, options.paths, spec.horizon),
    )
    return forecaster, spec


def _read(folder: Path) -> tuple[BinsCodec, WindowSpec, str, MethodOptions, str, str]:
    with reading(folder / "codec.json", CURE):
        codec = BinsCodec.from_dict(read_json(folder / "codec.json"))
    with reading(folder / "model.json", CURE):
        model = read_json(folder / "model.json")
        if model["layout"] != LAYOUT:
            raise CheckpointError(f"layout {model['layout']}, this version reads {LAYOUT}")
        options = method(model["method"]).options(**model["options"])
        spec = WindowSpec(**model["windows"])
        return codec, spec, model["method"], options, str(model["base"]), str(model["base_sha"])


def new_model(base_name: str, name: str, options: MethodOptions) -> nn.Module:
    """A base wrapped for tuning; seed torch's generator before, for methods that draw their initial weights."""
    return method(name).prepare(load_model(find_base(base_name)), options)
