"""What `tune` tries: the small space of each method, which is data, and the settings drawn from it.

Every dimension is a short list of values, shuffled; trial by trial the next value of each list is taken, and a list
that is used up is shuffled anew. So each value comes up as often as any other, but for what has to be drawn again: a
point that is known already, or contradicts itself, which takes turns from the values in it (options that often would
are one dimension of the combinations allowed, such as "init,projection"). The first n of a longer search are a search
of n, and every method tries the same factors of its learning rate and batch size in the same trials. The first trial is
always the method as the study has it. Drawing from short lists finds less than a continuous search would, at 8
trials hardly less, and says more: two trials that share a value can be compared.
"""

import dataclasses
import functools
import itertools
import tomllib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.base import Base, find_base
from forecasting.errors import ConfigError, unknown
from forecasting.methods import METHODS, MethodOptions, method
from tunetrade.checks import check_method
from tunetrade.config import StudyConfig, build

Settings = Mapping[str, Any]
"""Options of a method by name: a point of its space."""

Space = Mapping[str, tuple[Any, ...]]
"""Values to try by option; those of FACTORS are factors of what the method has, not values. A key of several options,
as in "init,projection", has lists of a value for each."""

SPACES = Path(__file__).with_name("spaces.toml")
ANY = "any"
RATE = "learning_rate"
FACTORS = (RATE, "batch_size")
PATIENCE = 100
"""Points drawn with the same factors that are known already or contradict themselves before other factors get their
turn, and factors in a row of which that is so before the space counts as used up."""


@dataclass(frozen=True)
class TuneOptions:
    """The [tune] section of a study file.

    trials: of each method, its defaults among them. seed: of the draws. grid: try every combination instead. space:
    sections [tune.space.NAME] that take the place of a method's space.
    """

    trials: int = 8
    seed: int = 1
    grid: bool = False
    space: Mapping[str, Space] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ConfigError(f"tune.trials is {self.trials}; give a whole number of at least 1")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"tune.seed is {self.seed}; give a whole number from 0 to {2**31 - 1}")


def tune_options(values: Any) -> TuneOptions:
    """The [tune] section from plain values; ConfigError names what is unknown or of the wrong type."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"tune is {values!r}; it must be a section with keys")
    options = build(TuneOptions, {key: value for key, value in values.items() if key != "space"}, "tune", ("space",))
    sections = values.get("space", {})
    if not isinstance(sections, Mapping):
        raise ConfigError("tune.space must hold sections such as [tune.space.lora]")
    for name in sections:
        if name not in METHODS:
            raise ConfigError(unknown("method", f"tune.space.{name}", [f"tune.space.{known}" for known in METHODS]))
    own = {name: _space(section, f"tune.space.{name}") for name, section in sections.items()}
    return dataclasses.replace(options, space=own)


def space_of(study: StudyConfig, name: str, options: TuneOptions) -> Space:
    """The checked space of a method: the study's own, or the shipped one; empty for a method that does not train.

    What cannot be on the study's base, in its windows or its training is left out of the shipped one, where it is no
    factor of the learning rate, and refused in the study's own. A method without a section in the shipped file has the
    dimensions of all methods, such as the learning rate.
    """
    if not method(name).trains:
        return {}
    shipped = _shipped()
    space, where = {**shipped[ANY], **shipped.get(name, {})}, f"{SPACES.name}: {name}"
    if name in options.space:
        space, where = dict(options.space[name]), f"tune.space.{name}"
    if RATE in space and study.training.learning_rate:
        raise ConfigError(
            f"training.learning_rate is {study.training.learning_rate:g}, the same for all methods; leave it out to "
            f"tune each one's, or give {name} a [tune.space.{name}] without learning_rate"
        )
    options_named = [option for key in space for option in key.split(",")]
    if len(set(options_named)) < len(options_named):
        raise ConfigError(f"{where} names an option twice: {', '.join(space)}")
    base, possible = find_base(study.base), {}
    for key, values in space.items():
        _check(study.options_of(name), key, values, where)
        faults = [_fault(study, base, name, space, key, value) for value in values]
        for value, fault in zip(values, faults, strict=True):
            if fault and (name in options.space or key == RATE):
                raise ConfigError(f"{where}.{key} holds {value!r}, which cannot be: {fault}")
        possible[key] = tuple(value for value, fault in zip(values, faults, strict=True) if not fault)
    return {key: values for key, values in possible.items() if values}


def drawn(study: StudyConfig, name: str, options: TuneOptions) -> list[Settings]:
    """Settings of a method's trials, the defaults first, no two alike, none that contradicts itself.

    `options.trials` of them, or every combination where `options.grid`. Where a point will not do, its factors stay and
    the rest is drawn again. ConfigError where the space holds too few.
    """
    space = space_of(study, name, options)
    if not space:
        return [{}]
    base = find_base(study.base)
    if options.grid:
        points = (_settled(study, base, name, point) for point in _combinations(space))
        return _distinct([{}, *(settings for settings in points if settings is not None)])
    found: list[Settings] = []
    factors = _stream({key: space[key] for key in FACTORS if key in space}, study, name, options.seed)
    others = _stream({key: space[key] for key in space if key not in FACTORS}, study, name, options.seed)
    misses = 0
    while len(found) < options.trials:
        shared = next(factors)
        tried = (_settled(study, base, name, {**shared, **next(others)}) for _ in range(PATIENCE))
        settings = next((each for each in tried if each is not None and each not in found), None)
        misses = 0 if settings is not None else misses + 1
        if settings is not None:
            found.append(settings)
        elif misses > PATIENCE:
            raise ConfigError(
                f"the space of {name} holds {len(found)} different settings, fewer than tune.trials = "
                f"{options.trials}; lower tune.trials or give it more values in [tune.space.{name}]"
            )
    return found


def _distinct(settings: Sequence[Settings]) -> list[Settings]:
    return [own for i, own in enumerate(settings) if own not in settings[:i]]


def differing(default: MethodOptions, other: MethodOptions) -> dict[str, Any]:
    """The options of `other` that are not those of `default`."""
    own = dataclasses.asdict(default)
    return {key: value for key, value in dataclasses.asdict(other).items() if value != own[key]}


@functools.cache
def _shipped() -> dict[str, Space]:
    values = tomllib.loads(SPACES.read_text(encoding="utf-8"))
    return {name: _space(section, f"{SPACES.name}: {name}") for name, section in values.items()}


def _space(section: Any, where: str) -> Space:
    if not isinstance(section, Mapping):
        raise ConfigError(f"{where} is {section!r}; it must be a section of lists, such as rank = [4, 8, 16]")
    for key, values in section.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{where}.{key} is {values!r}; give a list of values to try, such as [4, 8, 16]")
        if any(value in values[:i] for i, value in enumerate(values)):
            raise ConfigError(f"{where}.{key} names a value twice: {values}")
    return {key: tuple(values) for key, values in section.items()}


def _check(default: MethodOptions, key: str, values: Sequence[Any], where: str) -> None:
    """Refuse an option that the method does not have, and what is no factor where one is asked."""
    known = [field.name for field in dataclasses.fields(default)]
    names = key.split(",")
    for name in names:
        if name not in known:
            raise ConfigError(unknown("option", f"{where}.{name}", [f"{where}.{option}" for option in known]))
    for value in values:
        if len(names) > 1 and (not isinstance(value, list) or len(value) != len(names) or {*names} & {*FACTORS}):
            raise ConfigError(f"{where}.{key} holds {value!r}; give lists of {len(names)} values, and no factors")
    for value in values if key in FACTORS else ():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"{where}.{key} holds {value!r}; give factors of the method's own, such as [0.5, 1, 2]")


def _fault(study: StudyConfig, base: Base, name: str, space: Space, key: str, value: Any) -> ConfigError | None:
    """Why a value cannot be, where no combination with the other options allows it."""
    try:
        _allowed(study, base, name, {key: value})
    except ConfigError as error:
        others = {other: values for other, values in space.items() if other not in (key, *FACTORS)}
        points = ({**point, key: value} for point in _combinations(others))
        return None if any(_settled(study, base, name, point) is not None for point in points) else error
    return None


def _settled(study: StudyConfig, base: Base, name: str, point: Settings) -> Settings | None:
    """The settings of a point, only its differences from the default; None where they contradict one another."""
    try:
        return differing(study.options_of(name), _allowed(study, base, name, point))
    except ConfigError:
        return None


def _allowed(study: StudyConfig, base: Base, name: str, point: Settings) -> MethodOptions:
    """A method's options at a point; ConfigError where they contradict one another, the base or the training."""
    made = _made(study, name, point)
    check_method(dataclasses.replace(study, method={**study.method, name: made}), name, base)
    return made


def _made(study: StudyConfig, name: str, point: Settings) -> MethodOptions:
    """A method's options at a point of its space, factors multiplied out."""
    default = study.options_of(name)
    values = _by_option(point)
    for key in FACTORS:
        factor = values.pop(key, 1)
        if factor == 1:
            continue
        if key == RATE:
            values[key] = float(f"{default.learning_rate * factor:.6g}")
        else:
            values[key] = max(1, round(study.training_of(name).batch_size * factor))
    return build(type(default), {**dataclasses.asdict(default), **values}, f"method.{name}")


def _by_option(point: Settings) -> dict[str, Any]:
    """A point whose keys are single options."""
    values: dict[str, Any] = {}
    for key, value in point.items():
        names = key.split(",")
        values.update(zip(names, value, strict=True) if len(names) > 1 else [(key, value)])
    return values


def _combinations(space: Space) -> Iterator[Settings]:
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def _stream(space: Space, study: StudyConfig, name: str, seed: int) -> Iterator[Settings]:
    """Points without end, the default first; each list goes through all its values before any comes again."""
    default = study.options_of(name)
    shuffles = {}
    for key, values in space.items():
        stream = key if key in FACTORS else f"{name}.{key}"
        own = [getattr(default, option) for option in key.split(",")]
        first = 1 if key in FACTORS else own if len(own) > 1 else own[0]
        shuffles[key] = _shuffled(values, first, [seed, zlib.crc32(stream.encode())])
    while True:
        yield {key: next(values) for key, values in shuffles.items()}


def _shuffled(values: Sequence[Any], first: Any, seed: list[int]) -> Iterator[Any]:
    """`first`, then the other values in random order, then all of them in another, and so on."""
    yield first
    left = [value for value in values if value != first]
    for turn in itertools.count():
        for index in np.random.default_rng([*seed, turn]).permutation(len(left)):
            yield left[index]
        left = list(values)
