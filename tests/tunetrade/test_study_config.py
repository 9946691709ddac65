"""A study file is read strictly, and read back as it was."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from forecasting.codecs.fit import CodecOptions
from forecasting.errors import ConfigError
from forecasting.methods import METHODS
from forecasting.sampler import SamplingOptions
from forecasting.sources.options import SourceOptions
from forecasting.train import TrainingOptions
from forecasting.windows import SplitSpec, WindowSpec
from strategies.contract import BrokerRules
from strategies.rules import TradingRules
from tunetrade.audit.options import AuditOptions
from tunetrade.config import StudyConfig, as_plain, load_study, study_from, with_rules
from tunetrade.ensembles import EnsembleOptions
from tunetrade.verbs import study_file
from tunetrade.walk_options import WalkOptions

MINIMAL: dict[str, Any] = {"name": "s", "series": ["ecb:EURUSD"]}


def fails(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        study_from(MINIMAL, overrides)
    return str(caught.value)


WRONG = {
    "learning_rate": "2", "batch_size": "-1", "train_tokens": "maybe", "token_learning_rate": "0", "targets": "wte",
    "rank": "0", "alpha": "0", "dropout": "1", "init": "zeros", "tokens": "0", "bottleneck": "0", "decay": "0",
    "blocks": "-1", "hidden": "-1", "encoder": "gru", "band": "-1", "base_rate": "0", "horizon": "-1", "interval": "0",
    "settled": "1", "smoothing": "1", "deviation": "1", "orthogonality": "-1", "initial_rank": "0",
    "layers": "0",
}  # fmt: skip
"""Values that no method takes."""


@pytest.mark.parametrize("name", METHODS)
def test_a_setting_out_of_range_is_named_by_the_key_that_set_takes(name: str) -> None:
    free = {"dora", "rslora", "head", "projection", "train_base"} | {"final"}  # which is named along with settled
    for option in {field.name for field in dataclasses.fields(METHODS[name].options)} - free:
        key = f"method.{name}.{option}"
        said = fails(f"{key}={WRONG[option]}")
        assert said.startswith(f"{key} ") or said.startswith(f"{key}:"), said


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("training.step=3", ("'training.step'", "did you mean 'training.steps'?")),
        ("metods=[]", ("'metods'", "did you mean 'methods'?")),
        ("method.lora.rnk=2", ("'method.lora.rnk'", "did you mean 'method.lora.rank'?")),
        ("method.lorra.rank=2", ("'lorra'", "did you mean 'lora'?", "known: ")),
        ('methods=["fulll"]', ("'fulll'", "did you mean 'full'?")),
        ('baselines=["random_walk"]', ("did you mean 'random-walk'?",)),
        ('refit="yearl"', ("did you mean 'yearly'?",)),
        ('benchmarks=["hold"]', ("always-flat, buy-and-hold",)),
        ("trading.signal=mean-vs-lst", ("did you mean 'mean-vs-last'?",)),
        ("trading.signal=mine.py:moves", ("there is no file mine.py",)),
        ("trading.stop=150", ("trading.stop is 150", "text in quotes")),
        ("trading.stop=pips:150", ("trading.stop is 'pips:150'", '"points:150"')),
        ("trading.sizing=kely", ("trading.sizing 'kely'", "did you mean 'kelly'?")),
        ("trading.sizing=risk", ('trading.sizing is "risk"', "needs a stop")),
        ("trading.expiry_bars=6", ("trading.expiry_bars is 6", "windows.horizon 5")),
        ("trading.max_lots=0.001", ("lots is 0.1, above max_lots 0.001",)),
        ("trading.spread_points=8", ("trading.spread_points moved to broker.spread_points", "[broker]")),
        ("trading.deposit=8", ("trading.deposit moved to broker.deposit",)),
        ("trading.lot_units=8", ("trading.lot_units moved to broker.lot_units",)),
        ("trading.spread_point=8", ("unknown key 'trading.spread_point'",)),
        ("broker.preset=ecm", ("broker.preset 'ecm'", "did you mean 'ecn'?")),
        ("ensemble.both=3", ("ensemble.both is 3", "section")),
        ("ensemble=3", ("ensemble must hold sections such as [ensemble.both]",)),
        ('ensemble.both.members=["full"]', ("ensemble.both.members is ['full']", "at least two")),
        ('ensemble.both.members=["full", "full"]', ("at least two, each once",)),
        ("ensemble.both.how=mean", ("missing: ensemble.both.members",)),
        (
            'ensemble.both={members=["full", "lora"], how="mode"}',
            ("ensemble.both.how 'mode'", "known: mean, skill, vote"),
        ),
        (
            'ensemble.both.members=["full", "lorra"]',
            ("'lorra' (did you mean 'lora'?)", "methods or baselines of its study"),
        ),
        ('ensemble.both.members=["full", "garch"]', ("unknown member of ensemble.both 'garch'",)),
        ('ensemble.full.members=["full", "lora"]', ("ensemble.full: give it a name of its own",)),
        ('ensemble."a/b".members=["full", "lora"]', ("ensemble.",)),
        ("training.steps=many", ("training.steps is 'many'", "whole number")),
        ("training.steps=2.5", ("training.steps is 2.5", "whole number")),
        ("training.steps=true", ("training.steps is True", "whole number")),
        ("training.learning_rate=nan", ("training.learning_rate", "not a number")),
        ("series=ecb:EURUSD", ("series is 'ecb:EURUSD'", "must be a list")),
        ("seeds=[1, 'a']", ("seeds[1] is 'a'", "whole number")),
        ("seeds=[-1]", ("seeds holds -1", "from 0")),
        ("seeds=[]", ("seeds is empty", "seeds = [1]")),
        ("seeds=[1, 1]", ("seeds names an entry twice",)),
        ("series=[]", ("series is empty", "ecb:EURUSD")),
        ("windows=3", ("windows is 3", "section")),
        ("windows.context.size=3", ("windows.context is", "whole number")),
        ("name=../up", ("names a folder",)),
        ("allow_seen=1", ("allow_seen is 1", "true or false")),
        ("split.test_start=soon", ("split.test_start is 'soon'", "2021-01-01")),
        ("sampling.paths=7", ("sampling.paths is 7", "even number")),
        ("training.steps", ("write key=value",)),
        ("name.first=3", ("name is not a section",)),
    ],
)
def test_a_wrong_setting_names_itself_and_the_cure(override: str, parts: tuple[str, ...]) -> None:
    message = fails(override)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="missing: series"):
        study_from({"name": "s"})


def test_overrides_are_toml_or_else_text() -> None:
    study = study_from(
        MINIMAL,
        ["training.steps=7", "broker.spread_points=data", 'methods=["lora"]', "seeds=[3, 4]", "method.lora.alpha=16"],
    )
    assert (study.training.steps, study.broker.spread_points, study.seeds) == (7, "data", (3, 4))
    assert study.options_of("lora").alpha == 16.0  # type: ignore[attr-defined]


def test_a_date_needs_no_quotes() -> None:
    assert study_from(MINIMAL, ["split.test_end=2022-02-03"]).split.test_end == "2022-02-03"


def test_a_preset_gives_what_the_section_does_not() -> None:
    chosen = study_from(MINIMAL, ["broker.preset=ecn", "broker.spread_points=1"]).broker
    assert (chosen.spread_points, chosen.commission_per_lot, chosen.slippage_points) == (1.0, 3.5, 1.0)
    free = study_from(MINIMAL, ["broker.preset=zero"]).broker
    assert (free.spread_points, free.commission_per_lot, free.lot_step) == (0.0, 0.0, 1e-5)
    assert study_from(MINIMAL).broker == BrokerRules()
    plain = as_plain(study_from(MINIMAL, ["broker.preset=ecn", "broker.slippage_points=0"]))
    assert study_from(json.loads(json.dumps(plain))).broker.slippage_points == 0.0


def test_fewer_methods_take_the_ensembles_along_that_lack_a_member() -> None:
    study = study_from(
        MINIMAL, ['ensemble.a.members=["full", "lora"]', 'ensemble.b.members=["lora", "random-walk"]', "seeds=[2]"]
    )
    assert set(study.with_methods(("lora",)).ensemble) == {"b"}
    assert study.with_methods(("full", "lora")).ensemble == study.ensemble


def test_overrides_leave_the_values_they_are_given_alone() -> None:
    values = {**MINIMAL, "training": {"steps": 5}}
    study_from(values, ["training.steps=7"])
    assert values["training"] == {"steps": 5}


@pytest.mark.parametrize("text", ["series = [", 'name = "a"\nname = "b"', "\x00"])
def test_broken_toml_is_one_line_with_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"s\.toml: not valid TOML") as caught:
        load_study(file)
    assert "\n" not in str(caught.value)


def test_files_windows_editors_write_are_read(tmp_path: Path) -> None:
    file = tmp_path / "my study.toml"
    file.write_bytes(b'\xef\xbb\xbfname = "a"\r\nseries = ["ecb:EURUSD"]\r\n')
    assert load_study(file).name == "a"
    file.write_bytes('name = "a"'.encode("utf-16"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load_study(file)


def test_the_demo_is_valid_and_at_its_word() -> None:
    demo = load_study(study_file("demo"))
    assert demo.series == ("ecb:EURUSD", "ecb:NZDUSD")
    assert {"full", "lora", "adapter"} <= set(demo.methods)
    assert demo.training.min_steps >= 200
    assert demo.split.test_start == "2021-01-01"


EVERYTHING = StudyConfig(
    name="all",
    series=("ecb:EURUSD", "a file.csv"),
    methods=("lora", "adapter", "full", "untuned"),
    baselines=("random-walk",),
    refit="never",
    benchmarks=(),
    seeds=(2, 5),
    base="somewhere",
    allow_seen=True,
    source=SourceOptions("EURUSD", "H1", "UTC", "round-the-clock", 5, True, "close", "when", "last"),
    windows=WindowSpec(20, 7),
    codec=CodecOptions((9.0, 30.0), (0.25, 0.75), False),
    split=SplitSpec("2015-01-01", "2016-01-01", "2017-01-01", "2018-01-01", 9),
    walk=WalkOptions(30, 4, "rolling:90", True, 5),
    training=TrainingOptions(11, 3, 0.002, 0.3, 0.02, 0.5, 2, 4, 6, 2, 7, 3, "cosine", "bf16", True, True, "cpu"),
    sampling=SamplingOptions(8, 3, 2, 17, "cuda", "bfloat16"),
    trading=TradingRules(
        "threshold",
        2.0,
        0.2,
        0.1,
        0.25,
        "risk",
        2.0,
        0.2,
        0.5,
        5.0,
        3.0,
        "atr:2.0",
        "quantile:0.95",
        "points:9",
        4,
        True,
    ),
    broker=BrokerRules(
        preset="ecn",
        deposit=500.0,
        currency="EUR",
        conversion="ecb:EURUSD",
        account="hedging",
        leverage=10.0,
        margin_call=2.0,
        stop_out=0.2,
        spread_points="data",
        spread_sessions=("22:00-01:00 30",),
        commission_per_lot=3.5,
        slippage_points=2.0,
        slippage_seed=2,
        swap_long=-1.0,
        swap_short=0.5,
        swap_triple="friday",
        lot_units=1000.0,
        lot_min=0.1,
        lot_step=0.1,
        lot_max=9.0,
        hours="08:00-20:00",
        friday_close="21:45",
        timezone="UTC",
        finer="x.csv",
    ),
    audit=AuditOptions(False, 5, 30, 0.2),
    method={
        "lora": METHODS["lora"].options(learning_rate=0.01, rank=2, alpha=3.0, dropout=0.0, targets="mlp.c_fc"),  # type: ignore[call-arg]
        "adapter": METHODS["adapter"].options(bottleneck=3, train_base=True),  # type: ignore[call-arg]
        "full": METHODS["full"].options(learning_rate=0.5),
        "untuned": METHODS["untuned"].options(),
    },
    ensemble={"both": EnsembleOptions(("lora", "random-walk"), "skill")},
)


def test_the_round_trip_covers_every_field() -> None:
    """Each field differs from its default, so a field that is not carried shows."""
    plain = study_from(MINIMAL)
    for field in dataclasses.fields(StudyConfig):
        value, default = getattr(EVERYTHING, field.name), getattr(plain, field.name)
        assert value != default, field.name
        if dataclasses.is_dataclass(value):
            for inner in dataclasses.fields(value):
                assert getattr(value, inner.name) != getattr(default, inner.name), f"{field.name}.{inner.name}"


def test_a_study_comes_back_from_json_as_it_was() -> None:
    assert study_from(json.loads(json.dumps(as_plain(EVERYTHING)))) == EVERYTHING


def test_other_rules_need_no_section_and_a_preset_gives_way_to_keys() -> None:
    study = study_from(MINIMAL, ["broker.deposit=500"])
    changed = with_rules(study, ["lots=0.2", "broker.preset=ecn", "spread_points=4", "trading.threshold_k=2"])
    assert (changed.trading.lots, changed.trading.threshold_k) == (0.2, 2.0)
    broker = changed.broker
    assert (broker.deposit, broker.spread_points, broker.commission_per_lot) == (500.0, 4.0, 3.5)
    for wrong, says in (
        ("spred_points=3", "did you mean 'broker.spread_points'"), ("training.steps=3", "unknown key"),
        ("lots", "write key=value"), ("leverage=0", r"broker\.leverage is 0"),
        ("trading.deposit=5", "moved to broker.deposit"), ("broker=3", "unknown key 'broker'"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            with_rules(study, [wrong])
