"""A study file becomes frozen records, checked once; an unknown key is an error, not a silence.

Each wing owns the record of its own section; this module only reads TOML into them and compares types.
"""

import dataclasses
import datetime
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from forecasting.baselines import BASELINES
from forecasting.baselines.asked import check_refit
from forecasting.codecs.fit import CodecOptions
from forecasting.errors import ConfigError, OptionError, unknown
from forecasting.methods import METHODS, MethodOptions, method, settled
from forecasting.sampler import SamplingOptions
from forecasting.sources.options import SourceOptions
from forecasting.train import TrainingOptions
from forecasting.windows import SplitSpec, WindowSpec
from strategies.contract import PRESETS, BrokerRules
from strategies.rules import TradingRules
from strategies.sizing import capped, check_lots
from tunetrade.audit.options import AuditOptions
from tunetrade.ensembles import EnsembleOptions
from tunetrade.walk_options import WalkOptions

BENCHMARKS = ("buy-and-hold", "always-flat")

Record = TypeVar("Record")
APART = ("tune", "optimize")
"""Sections that only the verbs of their names read."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class StudyConfig:
    """Everything a study depends on.

    series x ((methods + ensembles) x seeds + baselines + benchmarks) are its cells. `base` is `embedded` or a folder;
    `allow_seen` lets validation or test reach into what the base has seen, and the report says so. `refit` says when
    baselines that are fitted are fitted anew. `method` holds a section per method, only its differences from the
    defaults, `ensemble` one per ensemble.
    """

    name: str
    series: tuple[str, ...]
    methods: tuple[str, ...] = tuple(METHODS)
    baselines: tuple[str, ...] = ("random-walk", "ewma-t")
    refit: str = "yearly"
    benchmarks: tuple[str, ...] = BENCHMARKS
    seeds: tuple[int, ...] = (1,)
    base: str = "embedded"
    allow_seen: bool = False
    source: SourceOptions = field(default_factory=SourceOptions)
    windows: WindowSpec = field(default_factory=WindowSpec)
    codec: CodecOptions = field(default_factory=CodecOptions)
    split: SplitSpec = field(default_factory=SplitSpec)
    walk: WalkOptions = field(default_factory=WalkOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    trading: TradingRules = field(default_factory=TradingRules)
    broker: BrokerRules = field(default_factory=BrokerRules)
    audit: AuditOptions = field(default_factory=AuditOptions)
    method: Mapping[str, MethodOptions] = field(default_factory=dict)
    ensemble: Mapping[str, EnsembleOptions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"name is {self.name!r}; use letters, digits, dot, dash and underscore: it names a folder"
            )
        if not self.series:
            raise ConfigError("series is empty; name at least one source, such as ecb:EURUSD")
        if not self.seeds and any(METHODS[name].trains for name in self.methods if name in METHODS):
            raise ConfigError("seeds is empty; give at least one training seed, such as seeds = [1]")
        for kind, names, known in (
            ("method", self.methods, METHODS),
            ("baseline", self.baselines, BASELINES),
            ("benchmark", self.benchmarks, BENCHMARKS),
        ):
            for name in names:
                if name not in known:
                    raise ConfigError(unknown(kind, name, known))
        check_refit(self.refit)
        for seed in self.seeds:
            if not 0 <= seed < 2**31:
                raise ConfigError(f"seeds holds {seed}; give whole numbers from 0 to {2**31 - 1}")
        for what in ("series", "methods", "baselines", "benchmarks", "seeds"):
            values = getattr(self, what)
            if len(set(values)) < len(values):
                raise ConfigError(f"{what} names an entry twice: {', '.join(map(str, values))}")
        if self.trading.expiry_bars > self.windows.horizon:
            raise ConfigError(
                f"trading.expiry_bars is {self.trading.expiry_bars}, beyond windows.horizon {self.windows.horizon}; "
                "set it to at most that, or 0 for all of it"
            )
        check_lots(self.trading.lots, capped(self.broker, self.trading.max_lots))
        self._check_ensembles()

    def _check_ensembles(self) -> None:
        for name, options in self.ensemble.items():
            if not _NAME.fullmatch(name) or name in (*METHODS, *BASELINES, *BENCHMARKS):
                raise ConfigError(
                    f"ensemble.{name}: give it a name of its own, of letters, digits, dot, dash, underscore"
                )
            for member in options.members:
                if member not in (*self.methods, *self.baselines):
                    known = unknown(f"member of ensemble.{name}", member, (*self.methods, *self.baselines))
                    raise ConfigError(f"{known}; an ensemble's members are methods or baselines of its study")

    def with_methods(self, names: Sequence[str]) -> "StudyConfig":
        """The study with other methods, without the ensembles that then lack a member."""
        there = {*names, *self.baselines}
        whole = {name: options for name, options in self.ensemble.items() if set(options.members) <= there}
        return dataclasses.replace(self, methods=tuple(names), ensemble=whole)

    def options_of(self, name: str) -> MethodOptions:
        """Settings of a method: its section, or its defaults."""
        return settled(name, self.method.get(name, method(name).options()), self.windows)

    def learning_rate_of(self, name: str) -> float:
        """The study's learning rate, or the method's own where the study leaves it at 0."""
        return self.training.learning_rate or self.options_of(name).learning_rate

    def training_of(self, name: str) -> TrainingOptions:
        """The study's [training] with the method's own batch size where it has one."""
        return dataclasses.replace(
            self.training, batch_size=self.options_of(name).batch_size or self.training.batch_size
        )


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study file; `overrides` are `key=value` with dotted keys, as given to --set."""
    return study_from(read_values(path), overrides, str(path))


def read_values(path: Path) -> dict[str, Any]:
    """The plain values of a study file, its name being the file's where it gives none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such study file; see studies/demo.toml for one to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    values.setdefault("name", path.stem)
    return values


def study_from(values: Mapping[str, Any], overrides: Sequence[str] = (), where: str = "study") -> StudyConfig:
    """A study from nested plain values, such as a parsed TOML file or a run.json."""
    merged = dict(values)
    for override in overrides:
        set_value(merged, override)
    for section in APART:
        merged.pop(section, None)
    if "broker" in merged:
        merged["broker"] = with_preset(merged["broker"])
    sections, ensembles = merged.pop("method", {}), merged.pop("ensemble", {})
    for kind, held, example in (("method", sections, "lora"), ("ensemble", ensembles, "both")):
        if not isinstance(held, Mapping):
            raise ConfigError(f"{where}: {kind} must hold sections such as [{kind}.{example}]")
    _refuse_moved(merged.get("trading"))
    options = {name: build(method(name).options, section, f"method.{name}") for name, section in sections.items()}
    whole = {name: build(EnsembleOptions, section, f"ensemble.{name}") for name, section in ensembles.items()}
    study = build(StudyConfig, merged, "", skip=("method", "ensemble"))
    return dataclasses.replace(study, method=options, ensemble=whole)


def _refuse_moved(section: Any) -> None:
    """ConfigError for a key that the [trading] section had in version 0.1."""
    kept = {item.name for item in dataclasses.fields(TradingRules)}
    for item in dataclasses.fields(BrokerRules):
        if isinstance(section, Mapping) and item.name in section and item.name not in kept:
            raise ConfigError(f"trading.{item.name} moved to broker.{item.name}; set it in the section [broker]")


def with_preset(section: Any) -> Any:
    """The [broker] section with the values of its preset where it gives none of its own."""
    chosen = section.get("preset", "") if isinstance(section, Mapping) else ""
    return {**PRESETS.get(chosen, {}), **section} if isinstance(chosen, str) and chosen else section


def with_rules(study: StudyConfig, overrides: Sequence[str]) -> StudyConfig:
    """The study with other rules of trading and broker; `overrides` may leave out the name of the section."""
    records: dict[str, type[Any]] = {"trading": TradingRules, "broker": BrokerRules}
    known = {f"{section}.{f.name}": section for section, record in records.items() for f in dataclasses.fields(record)}
    asked: dict[str, Any] = {section: {} for section in records}
    for override in overrides:
        key, equals, _ = override.partition("=")
        dotted = next((name for name in known if name in (key.strip(), f"{known[name]}.{key.strip()}")), None)
        if equals and dotted is None:
            _refuse_moved({key.strip().removeprefix("trading."): None} if "." in key else {})
            raise ConfigError(unknown("key", key.strip(), known))
        set_value(asked, f"{dotted}{override[len(key) :]}" if dotted else override)
    asked["broker"] = with_preset(asked["broker"])
    rules = {name: {**dataclasses.asdict(getattr(study, name)), **asked[name]} for name in records}
    return dataclasses.replace(study, **{name: build(record, rules[name], name) for name, record in records.items()})


def build(record: type[Record], values: Any, where: str, skip: tuple[str, ...] = ()) -> Record:
    """A frozen record from plain values; ConfigError names an unknown key, the nearest known one, or a wrong type."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or 'study'} is {values!r}; it must be a section with keys")
    hints = typing.get_type_hints(record)
    known = [f.name for f in dataclasses.fields(record) if f.name not in skip]  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            read_apart = () if where else (*skip, *APART)
            raise ConfigError(unknown("key", f"{prefix}{key}", [f"{prefix}{name}" for name in (*known, *read_apart)]))
        checked[key] = _checked(hints[key], value, f"{prefix}{key}")
    required = [f.name for f in dataclasses.fields(record) if _required(f) and f.name not in skip]  # type: ignore[arg-type]
    missing = [f"{prefix}{name}" for name in required if name not in checked]
    if missing:
        raise ConfigError(f"missing: {', '.join(missing)}; add it to the study file or pass --set {missing[0]}=VALUE")
    try:
        return record(**checked)
    except OptionError as error:
        raise ConfigError(f"{prefix}{error}") from None


def as_plain(study: StudyConfig) -> dict[str, Any]:
    """The resolved study as nested plain values: what run.json keeps, and `study_from` reads back."""
    values = dataclasses.asdict(dataclasses.replace(study, method={}))
    values["method"] = {name: dataclasses.asdict(study.options_of(name)) for name in study.methods}
    return values


def _required(item: "dataclasses.Field[Any]") -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _checked(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} is {value!r}; it must be a list, such as [{_example(arguments[0])}]")
        return tuple(_checked(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    allowed = arguments if origin in (types.UnionType, typing.Union) else (hint,)
    if str in allowed and isinstance(value, datetime.date | datetime.time):
        return value.isoformat()  # TOML reads 2021-01-01 without quotes as a date
    if isinstance(value, float) and math.isnan(value):
        raise ConfigError(f"{where} is not a number (nan); leave it out for its default")
    for kind in allowed:
        if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if kind is type(None) and value is None:
            return None
        if kind in (int, str, bool) and type(value) is kind:
            return value
    names = " or ".join(_NAMES.get(kind, str(kind)) for kind in allowed if kind is not type(None))
    raise ConfigError(f"{where} is {value!r}; it must be {names}")


_NAMES: dict[Any, str] = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}


def _example(kind: Any) -> str:
    return "1" if kind is int else '"..."'


def set_value(values: dict[str, Any], override: str) -> None:
    """Put `a.b=value` into nested values; the value is TOML, or text where it is not."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override!r}: write key=value, such as --set training.steps=200")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *path, last = key.strip().split(".")
    inner = values
    for name in path:
        nested = inner.get(name, {})
        if not isinstance(nested, Mapping):
            raise ConfigError(f"--set {override!r}: {name} is not a section")
        inner[name] = dict(nested)
        inner = inner[name]
    inner[last] = value
