"""What `optimize` searches: the [optimize] section, dotted study keys with the values each may take.

A point is a value for every key, read or not (`optimize_reads`), so that all points have the same genes; `study_at`
makes of a point the study it stands for. Keys are sorted by name: nothing depends on their order in the file.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forecasting.base import check_length, find_base
from forecasting.errors import ConfigError, unknown
from forecasting.methods import method
from tunetrade.checks import check_method
from tunetrade.config import StudyConfig, as_plain, build, study_from
from tunetrade.optimize_reads import METHOD, check_reads, gates_of, in_use, size_of, used

Value = bool | int | float | str
Point = Mapping[str, Value]

SECTIONS = ("method", "windows", "training", "trading", "broker")
BROKER_CHOICES = ("account", "leverage", "hours", "friday_close")
"""Keys of [broker] that a trader chooses; costs are no choice, and a search would choose none."""

RANGE = frozenset({"low", "high", "step", "log"})
PATIENCE = 500
"""Points drawn to find one in which a value is allowed, where it is not with the study's other settings."""

STEPS_OF_A_RANGE = 10
"""A neighbour in a range without a step lies this part of the range away."""


@dataclass(frozen=True)
class Dimension:
    """The values of one key: `choices`, or the numbers from low to high, whole where `whole`.

    step: 0 for any number between. log: drawn evenly by their logarithm.
    """

    key: str
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float = 0.0
    log: bool = False
    whole: bool = False

    @property
    def size(self) -> float:
        """How many values there are; infinite where that has no end."""
        if self.choices:
            return len(self.choices)
        if self.whole or self.step:
            return math.floor((self.high - self.low) / (self.step or 1) + 1e-9) + 1
        return math.inf

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values, or the least and the largest of a range."""
        return self.choices or (self._number(self.low), self._number(self.high))

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        if self.choices:
            return any(value == own and isinstance(value, bool) == isinstance(own, bool) for own in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / (self.step or 1)
        return not (self.whole or self.step) or abs(steps - round(steps)) < 1e-9

    def drawn(self, rng: np.random.Generator) -> Value:
        """One of the values by chance, for looking whether a space holds anything at all."""
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        if self.size < math.inf:
            return self._number(self.low + (self.step or 1) * int(rng.integers(int(self.size))))
        return self._number(float(rng.uniform(self.low, self.high)))

    def beside(self, value: Value) -> tuple[Value, ...]:
        """The values one step below and above; of texts and switches those beside it in the list."""
        if self.choices:
            plain = not any(isinstance(own, bool | str) for own in self.choices)
            ordered = sorted(self.choices, key=float) if plain else list(self.choices)
            at = ordered.index(value)
            return tuple(ordered[i] for i in (at - 1, at + 1) if 0 <= i < len(ordered))
        here = float(value)
        if self.log and not self.step:
            factor = (self.high / self.low) ** (1 / STEPS_OF_A_RANGE)
            near = [here / factor, here * factor]
            near = [min(near[0], here - 1), max(near[1], here + 1)] if self.whole else near
        else:
            step = self.step or (self.high - self.low) / STEPS_OF_A_RANGE
            near = [here - (max(1, step) if self.whole else step), here + (max(1, step) if self.whole else step)]
        numbers = [self._number(number) for number in near]
        return tuple(number for number in numbers if self.low <= float(number) <= self.high and number != value)

    def _number(self, number: float) -> int | float:
        return round(number) if self.whole else float(f"{number:.{12 if self.step else 4}g}")


Space = Mapping[str, Dimension]


@dataclass(frozen=True)
class OptimizeOptions:
    """The [optimize] section of a study file.

    trials: in all, whichever processes do them. population: trials of a generation. seed: of the draws. min_trades,
    max_drawdown: what a trial must reach on the validation part, closed trades of all series together and the largest
    fall of the portfolio as a share of its peak. space: dimension by key.
    """

    trials: int = 64
    population: int = 16
    seed: int = 1
    min_trades: int = 30
    max_drawdown: float = 0.3
    space: Mapping[str, Dimension] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ConfigError(f"optimize.trials is {self.trials}; give a whole number of at least 1")
        if self.population < 2:
            raise ConfigError(f"optimize.population is {self.population}; a generation has at least 2 trials")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"optimize.seed is {self.seed}; give a whole number from 0 to {2**31 - 1}")
        if self.min_trades < 0:
            raise ConfigError(f"optimize.min_trades is {self.min_trades}; give a whole number of 0 or more")
        if not 0 < self.max_drawdown <= 1:
            raise ConfigError(f"optimize.max_drawdown is {self.max_drawdown:g}; give a share above 0, such as 0.3")


def optimize_options(values: Any, study: StudyConfig) -> OptimizeOptions:
    """The [optimize] section from plain values, checked against the study whose keys it names."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"optimize is {values!r}; it must be a section with keys")
    plain = {key: value for key, value in values.items() if key != "space"}
    options = build(OptimizeOptions, plain, "optimize", ("space",))
    sections = values.get("space", {})
    if not isinstance(sections, Mapping):
        raise ConfigError(
            'optimize.space must be a section, such as [optimize.space] with "trading.threshold_k" = [1, 2]'
        )
    space = _space(dict(_flat(sections)), study)
    if not space:
        raise ConfigError(
            "[optimize.space] is empty; give the keys to search and their values, such as "
            '"trading.threshold_k" = [0.5, 1, 2]'
        )
    return dataclasses.replace(options, space=space)


def check_size(options: OptimizeOptions) -> None:
    """Refuse more trials than there are points; not in `optimize_options`, for what the series rule out comes first."""
    size = size_of(options.space)
    if options.trials > size:
        raise ConfigError(
            f"[optimize.space] holds {size:.0f} points that differ in what they read, fewer than optimize.trials = "
            f"{options.trials}; lower optimize.trials or give it more values"
        )


def _flat(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of nested sections down to lists and ranges."""
    for key, value in section.items():
        if isinstance(value, Mapping) and not (value and set(value) <= RANGE):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _space(given: dict[str, Any], study: StudyConfig) -> dict[str, Dimension]:
    if METHOD not in given and len(study.methods) > 1:
        given = {METHOD: list(study.methods), **given}
    names = given.get(METHOD, study.methods[:1])
    names = names if isinstance(names, list) else list(study.methods[:1])
    if not names:
        raise ConfigError('methods is empty; name the one to search with, such as methods = ["lora"]')
    for name in names:
        method(str(name))
    space = {key: _dimension(key, given[key], study, names) for key in sorted(given)}
    check_reads(study, space)
    _check_values(study, space)
    return space


def _dimension(key: str, value: Any, study: StudyConfig, names: list[Any]) -> Dimension:
    where = f"optimize.space.{key}"
    own = _own(key, study, names, where)
    if isinstance(value, list):
        return Dimension(key, _choices(value, own, where))
    if isinstance(value, Mapping):
        return _range(key, value, own, where)
    raise ConfigError(
        f"{where} is {value!r}; give a list of values, such as [0.5, 1, 2], or a range {{ low = 0.5, high = 2.0 }}"
    )


def _own(key: str, study: StudyConfig, names: list[Any], where: str) -> Any:
    """What the study itself has under a key; ConfigError where no search may touch it."""
    if key == METHOD:
        return names[0]
    section, _, rest = key.partition(".")
    if section == "split":
        raise ConfigError(f"{where}: where the parts begin is no setting to search; leave it to [split]")
    if section not in SECTIONS or not rest:
        known = ", ".join(f"{name}.KEY" for name in SECTIONS[1:])
        raise ConfigError(f"{where} cannot be searched; keys are method, method.NAME.OPTION, {known}")
    if section == METHOD:
        name, _, option = rest.partition(".")
        if name not in names:
            raise ConfigError(f"{where}: {name} is none of the methods searched, {', '.join(map(str, names))}")
        return _field(study.options_of(name), option, where, f"optimize.space.method.{name}")
    if section == "broker" and rest not in BROKER_CHOICES:
        raise ConfigError(
            f"{where}: what a broker costs or grants is no choice, a search would take the cheapest; of [broker] only "
            f"{', '.join(BROKER_CHOICES)} can be searched"
        )
    return _field(getattr(study, section), rest, where, f"optimize.space.{section}")


def _field(record: Any, name: str, where: str, prefix: str) -> Any:
    known = [each.name for each in dataclasses.fields(record)]
    if name not in known:
        raise ConfigError(unknown("key", where, [f"{prefix}.{each}" for each in known]))
    return getattr(record, name)


def _choices(values: list[Any], own: Any, where: str) -> tuple[Value, ...]:
    if not values:
        raise ConfigError(f"{where} is empty; give values to try, such as [0.5, 1, 2]")
    for value in values:
        if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
            raise ConfigError(f"{where} holds {value!r}; give numbers, texts, or true and false")
    if isinstance(own, float) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        values = [float(value) for value in values]
    if any(value in values[:i] for i, value in enumerate(values)):
        raise ConfigError(f"{where} names a value twice: {values}")
    return tuple(values)


def _range(key: str, value: Mapping[str, Any], own: Any, where: str) -> Dimension:
    numbers = {name: value[name] for name in ("low", "high", "step") if name in value}
    for name in ("low", "high"):
        if name not in numbers:
            raise ConfigError(f"{where} has no {name}; give a range such as {{ low = 0.5, high = 2.0 }}")
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ConfigError(f"{where}.{name} is {number!r}; it must be a number")
    low, high, step, log = numbers["low"], numbers["high"], numbers.get("step", 0), value.get("log", False)
    if not isinstance(log, bool):
        raise ConfigError(f"{where}.log is {log!r}; it must be true or false")
    if isinstance(own, bool | str):
        raise ConfigError(f"{where} is {own!r} in the study, no number; give a list of values")
    if low >= high:
        raise ConfigError(f"{where}: low {low:g} is not below high {high:g}")
    if step < 0 or step > high - low or ("step" in numbers and not step):
        raise ConfigError(f"{where}.step is {step:g}; it must be above 0 and at most {high - low:g}")
    if log and (low <= 0 or step):
        raise ConfigError(f"{where}: a range by logarithm begins above 0 and has no step")
    whole = isinstance(own, int) or (own is None and all(isinstance(number, int) for number in numbers.values()))
    if whole and any(float(number) != round(number) for number in (low, high, step)):
        raise ConfigError(f"{where} holds a fraction, but {key} takes whole numbers")
    if step:
        high = low + math.floor((high - low) / step + 1e-9) * step
    return Dimension(key, (), float(low), float(high), float(step), log, whole)


def _check_values(study: StudyConfig, space: Space) -> None:
    """Refuse a value that no combination with the others allows, and a space without any allowed point."""
    for key, dimension in space.items():
        for value in dimension.ends:
            fault = _fault(study, {key: value})
            if not fault:
                continue
            rng = np.random.default_rng(0)
            points = ({name: other.drawn(rng) for name, other in space.items()} | {key: value} for _ in range(PATIENCE))
            if not any(_fault(study, point) is None for point in points if in_use(point, key)):
                raise ConfigError(f"optimize.space.{key} holds {value!r}, which cannot be: {fault}")
    rng = np.random.default_rng(0)
    faults = (_fault(study, {name: other.drawn(rng) for name, other in space.items()}) for _ in range(PATIENCE))
    first = next(faults, None)
    if first and all(faults):
        raise ConfigError(f"of {PATIENCE} points of [optimize.space] none can be; such as: {first}")


def _fault(study: StudyConfig, point: Point) -> ConfigError | None:
    """Why a point cannot be; of the keys of one method alone, with that method."""
    for key in point:
        if key.startswith("method.") and METHOD not in point:
            point = {METHOD: key.split(".")[1], **point}
    try:
        study_at(study, point)
    except ConfigError as error:
        return error
    return None


def study_at(study: StudyConfig, point: Point) -> StudyConfig:
    """The study that a point stands for: one method, and what the point reads; ConfigError where it contradicts itself.

    What it does not read is as the study has it, so points that read the same are the same study.
    """
    name = str(point.get(METHOD, study.methods[0]))
    values = as_plain(study)
    values.pop("ensemble", None)  # of methods that the point may not have
    own = study.method.get(name)
    values["methods"], values["method"] = [name], {name: dataclasses.asdict(own) if own else {}}
    for key, value in used(point).items():
        section, _, rest = key.partition(".")
        if section != METHOD:
            values[section][rest] = value
        elif rest.startswith(f"{name}."):
            values[METHOD][name][rest.removeprefix(f"{name}.")] = value
    made = study_from(values)
    _check_model(made)
    return made


def _check_model(study: StudyConfig) -> None:
    base, name = find_base(study.base), study.methods[0]
    check_method(study, name, base)
    check_length(base, study.windows, method(name).taken(study.options_of(name)))
    if study.trading.expiry_bars > study.windows.horizon:
        raise ConfigError(
            f"trading.expiry_bars is {study.trading.expiry_bars}, beyond windows.horizon = {study.windows.horizon}"
        )


def own_point(study: StudyConfig, space: Space) -> Point | None:
    """The study as it stands, as a point; None where the space does not hold it."""
    names = list(space[METHOD].choices) if METHOD in space else [study.methods[0]]
    point: dict[str, Value] = {}
    for key, dimension in space.items():
        value = study.methods[0] if key == METHOD else _own(key, study, names, key)
        if not dimension.holds(value):
            if in_use(gates_of(study), key):
                return None
            value = dimension.ends[0]
        point[key] = value
    return point if _fault(study, point) is None else None


def neighbours(study: StudyConfig, space: Space, point: Point) -> list[tuple[str, Point]]:
    """Points one step away from a point in one of the keys it uses: (key, point), only those that can be."""
    found = [(key, {**point, key: value}) for key in used(point) for value in space[key].beside(point[key])]
    return [(key, other) for key, other in found if _fault(study, other) is None]


def widest(space: Space, study: StudyConfig) -> tuple[int, int]:
    """The longest context and the longest horizon that a point may have."""
    longest = []
    for name in ("context", "horizon"):
        dimension = space.get(f"windows.{name}")
        longest.append(int(max(map(float, dimension.ends))) if dimension else int(getattr(study.windows, name)))
    return longest[0], longest[1]


def shortest_horizon(space: Space, study: StudyConfig) -> int:
    """The shortest horizon that a point may have."""
    dimension = space.get("windows.horizon")
    return int(min(map(float, dimension.ends))) if dimension else study.windows.horizon
