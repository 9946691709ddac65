"""A tuned model on disk, and the forecaster that comes back from it.

The folder holds what its method stores (Hugging Face or PEFT layout, safetensors), codec.json and model.json: which
method with which settings, on which base, for which windows. Nothing else is needed to forecast, except the base
itself.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from torch import Tensor, nn

from forecasting.base import Base, find_base, load_model
from forecasting.base.rows import ROWS_FILE, check_rows, row_rates, rows_aside, save_rows, train_rows
from forecasting.cache import ForecastCache
from forecasting.codecs import AnyCodec, BinsCodec, Codec, codec_from_dict, positions_needed
from forecasting.decoder import DecoderWeights
from forecasting.errors import CheckpointError, ConfigError
from forecasting.files import read_json, reading, sha256_of, write_folder, write_json
from forecasting.forecaster import Forecaster, PathForecaster
from forecasting.methods import CURE, MethodOptions, method
from forecasting.packed import kept_weights
from forecasting.sampler import SamplingOptions, gpt2_decoders
from forecasting.spelling import spelling_forecaster
from forecasting.train import Plan
from forecasting.windows import WindowSpec

LAYOUT = 1


def save_checkpoint(
    folder: Path, model: nn.Module, name: str, options: MethodOptions, spec: WindowSpec, codec: Codec, base: str
) -> None:
    """Write a tuned model as one folder that appears whole."""

    def fill(partial: Path) -> None:
        with rows_aside(model):
            method(name).save(model, partial)
        rows = save_rows(model, partial)
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
            }
            | ({"token_rows": rows} if rows else {}),
        )

    write_folder(folder, fill)


def load_checkpoint(
    folder: Path, options: SamplingOptions, cache: ForecastCache | None = None
) -> tuple[Forecaster, WindowSpec]:
    """The forecaster of a checkpoint folder and the windows it was tuned for.

    cache: where the engine's weights are kept for the next time (`packed`). Raises CheckpointError where files are
    missing or damaged, or the base is not the one it was tuned on.
    """
    tuned = load_tuned(folder)
    sha = checkpoint_sha(folder, tuned.base)
    weights = kept_weights(cache, sha, lambda: tuned.weights) if cache else tuned.weights
    density = forecaster_of_weights(str(folder), sha, weights, tuned.codec, tuned.spec, options)
    return (_completed(tuned, density, cache, sha) if cache else tuned.complete(density)), tuned.spec


def _completed(tuned: "Tuned", density: Forecaster, cache: ForecastCache, sha: str) -> Forecaster:
    """`Tuned.complete` with what the method learnt beside the paths kept as their weights are."""
    objective = method(tuned.method).objective
    if objective is None:
        return density
    head = kept_weights(cache, f"{sha}, head", lambda: objective.head(tuned.model))
    return objective.forecaster(density, objective.kept(head, tuned.options))


def checkpoint_sha(folder: Path, base: Base) -> str:
    """Hash of a tuned model: its base and every file of its folder."""
    return sha256_of(base.sha, *(file for file in sorted(folder.iterdir()) if file.is_file()))


def forecaster_of_weights(
    name: str, sha: str, weights: DecoderWeights, codec: AnyCodec, spec: WindowSpec, options: SamplingOptions
) -> Forecaster:
    """The forecaster that runs these weights; CheckpointError, which begins with `name`, where windows do not fit."""
    weights = options.place(weights)
    needed = positions_needed(codec, spec.context, spec.horizon)
    if needed > weights.room:
        raise CheckpointError(f"{name}: {needed} tokens asked of a model with room for {weights.room}")
    if isinstance(codec, BinsCodec):
        return PathForecaster(sha, codec, spec.context, options, gpt2_decoders(weights, options.paths, spec.horizon))
    return spelling_forecaster(sha, weights, codec, spec, options)


@dataclass(frozen=True)
class Tuned:
    """A tuned model, its codec, windows, method, base and settings. `load` opens it for torch, when first asked for."""

    load: Callable[[], nn.Module]
    codec: AnyCodec
    spec: WindowSpec
    method: str
    base: Base
    options: MethodOptions | None = None

    @cached_property
    def model(self) -> nn.Module:
        """The model as torch runs it; CheckpointError where its files do not fit."""
        return self.load()

    @cached_property
    def weights(self) -> DecoderWeights:
        """The same for the decode engine."""
        return method(self.method).weights(self.model)

    @property
    def complete(self) -> Callable[[Forecaster], Forecaster]:
        """Adds to the forecaster of the model's paths what its method learnt beside them; keeps the model only then."""
        objective = method(self.method).objective
        if objective is None:
            return lambda density: density
        model = self.model
        return lambda density: objective.forecaster(density, model)

    @property
    def room(self) -> int:
        """Most tokens of context and path together."""
        return self.weights.room

    def logits(self, ids: Tensor) -> Tensor:
        """Logits of the next token at every position, [L, V]; ids int64 [L]."""
        result: Tensor = self.model(input_ids=ids[None], use_cache=False).logits[0]
        return result


def load_tuned(folder: Path, held: Base | None = None) -> Tuned:
    """The model of a checkpoint folder, not yet read; what is wrong beside its weights raises as `load_checkpoint`.

    held: a base to use, where it is the one the model was tuned on, instead of finding that again.
    """
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
        rows = list(stored.get("token_rows", []))
    base = held if held and held.sha == base_sha else find_base(base_name)
    if base.sha != base_sha:
        raise CheckpointError(
            f"{folder}: tuned on another version of base {base_name!r} (sha {base_sha[:12]}, found {base.sha[:12]}); "
            f"train it anew or restore that base"
        )
    if rows:
        check_rows(folder / ROWS_FILE, rows, CURE)
        base = replace(base, rows=folder / ROWS_FILE)
    return Tuned(partial(chosen.load, base, options, folder), codec, spec, chosen.name, base, options)


def new_model(base_name: str, name: str, options: MethodOptions) -> nn.Module:
    """A base wrapped for tuning; seed torch's generator before, for methods that draw their initial weights."""
    base = find_base(base_name)
    model = method(name).prepare(load_model(base), options)
    if trains_rows(base, name, options):
        train_rows(model)
    return model


def trains_rows(base: Base, name: str, options: MethodOptions) -> bool:
    """Whether token rows train at a rate of their own, beside what the method trains."""
    if options.train_tokens == "yes" and not method(name).trains:
        raise ConfigError(f"method.{name}.train_tokens is 'yes', and {name} trains nothing; leave it at 'auto'")
    learns = method(name).trains and not method(name).objective
    return options.train_tokens == "yes" or (options.train_tokens == "auto" and base.fresh and learns)


def plan_of(model: nn.Module, base_name: str, name: str, options: MethodOptions, steps: int, rate: float) -> Plan:
    """What the method asks of the loop, with the rate of token rows where those train; rate: the learning rate."""
    plan = method(name).plan(model, options, steps)
    if not trains_rows(find_base(base_name), name, options):
        return plan
    return replace(plan, rates={**plan.rates, **row_rates(model, options.token_learning_rate / rate)})
