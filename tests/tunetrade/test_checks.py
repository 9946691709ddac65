"""What is known to be impossible before any work refuses the study as a whole, with the method and the cure."""

import sys
from pathlib import Path

import pytest

from forecasting.errors import ConfigError
from tunetrade.cli import main
from tunetrade.config import StudyConfig, study_from
from tunetrade.study import load_series, run_study


def study_of(base: Path | str, *overrides: str) -> StudyConfig:
    values = {
        "name": "checked", "series": ["ecb:EURUSD"], "base": str(base), "baselines": [], "benchmarks": [],
        "windows": {"context": 12, "horizon": 3},
        "split": {"validation_start": "2019-01-01", "test_start": "2019-06-01", "test_end": "2019-07-15"},
    }  # fmt: skip
    return study_from(values, overrides)


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("prefix", ["training.checkpointing=true"], "method prefix cannot recompute.*training.checkpointing = false"),
        ("qlora", [], "'qlora' needs bitsandbytes; pip install"),
        ("partial", ["method.partial.blocks=3"], "method.partial.blocks is 3: the base has 2; give at most 2"),
        ("prompt", ["method.prompt.tokens=19"], "method.prompt.tokens is 19: .*need 14; give at most 18"),
        ("prefix", ["windows.context=30"], "method prefix needs positions .*need 32 of the base's 32; shorten"),
        ("lora", ["training.accumulate=8", "method.lora.batch_size=6"], "method.lora.batch_size is 6, .* 8"),
        ("untuned", ["method.untuned.train_tokens=yes"], "method.untuned.train_tokens is 'yes'"),
    ],
)
def test_a_method_that_cannot_be_refuses_the_study_before_any_cell(
    name: str, overrides: list[str], said: str, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "qlora":
        monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    study = study_of(tiny_base, f'methods=["full", "{name}"]', *overrides)
    with pytest.raises(ConfigError, match=said) as caught:
        run_study(study, tmp_path / "runs")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_head_on_another_codec_is_refused_too() -> None:
    study = study_of("embedded-digits", 'methods=["full", "direction"]')
    with pytest.raises(ConfigError, match="direction reads the codec 'bins' only; take another method"):
        load_series(study)


def test_the_last_position_may_be_taken(tiny_base: Path) -> None:
    study = study_of(tiny_base, 'methods=["prompt", "partial"]', "method.prompt.tokens=18", "method.partial.blocks=2")
    assert list(load_series(study)) == ["ecb:EURUSD"]


def test_checkpointing_is_refused_at_the_command_too(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = ["--set", f'base="{tiny_base.as_posix()}"', "--set", "windows.context=12", "--set", "windows.horizon=3"]
    assert main(["train", "ecb:EURUSD", "--method", "prefix", *told, "--set", "training.checkpointing=true"]) == 2
    assert "method prefix cannot recompute" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
