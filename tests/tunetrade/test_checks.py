"""What is known to be impossible before any work refuses the study as a whole, with the method and the cure."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from forecasting.bars import Bars, load_bars
from forecasting.base import find_base
from forecasting.baselines import BASELINES, baseline
from forecasting.errors import ConfigError
from forecasting.files import write_json
from forecasting.windows import SplitSpec
from tunetrade.cell import Cell, fingerprints, run_cell
from tunetrade.checks import check_baselines
from tunetrade.cli import main
from tunetrade.config import StudyConfig, as_plain, study_from
from tunetrade.forecasters import asked_of
from tunetrade.layout import STAGE_FILES, CellPaths
from tunetrade.prepared import prepare
from tunetrade.study import cells, check_machines, load_series, run_study, work_off


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


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line by which the command refuses."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("tunetrade: error: ")
    assert error.count("\n") == 1
    return error


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


IMPOSSIBLE = {
    "sampling on CUDA": (["sampling.device=cuda"], "sampling.device is 'cuda', and torch finds no CUDA"),
    "training on CUDA": (["training.device=cuda"], 'training.device is "cuda", but torch finds no CUDA'),
    "half precision": (["training.precision=fp16"], 'training.precision is "fp16", which needs a CUDA device'),
    "seasonal EWMA-t": (['baselines=["seasonal-ewma-t"]'], "profile, which EURUSD-D1 has not; use ewma-t"),
    "seasonal GARCH-t": (['baselines=["seasonal-garch-t"]'], "profile, which EURUSD-D1 has not; use garch-t"),
    "truncated base": ([], "model.safetensors cannot be read"),
    "cache without a number": ([], "TUNETRADE_CACHE_MB is 'big'"),
}


@pytest.mark.parametrize(
    ("verb", "case"),
    [
        (verb, case)
        for case in IMPOSSIBLE
        for verb in ("study", "tune", "train")
        if not (verb == "train" and case.startswith("seasonal"))  # which takes no baselines
    ],
)
def test_what_only_a_cell_would_meet_is_refused_before_any_and_leaves_everything_as_it_was(
    verb: str, case: str, study_file: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """As found: a report and a listing of cells from earlier, which a study refused must not touch."""
    overrides, said = IMPOSSIBLE[case]
    if case == "cache without a number":
        monkeypatch.setenv("TUNETRADE_CACHE_MB", "big")
    if case == "truncated base":
        base = shutil.copytree(tiny_base, tmp_path / "base")
        truncate(base / "model.safetensors")
        overrides = [f'base="{base.as_posix()}"']
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    for file in ("reports/small/index.html", "runs/small/study.json"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("earlier", encoding="utf-8")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    told = [part for override in overrides for part in ("--set", override)]
    train = ["train", "ecb:EURUSD", "--method", "full", "--config", str(study_file)]
    assert said in refused([*(train if verb == "train" else [verb, str(study_file)]), *told], capsys)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_run_made_on_a_device_that_is_not_here_keeps_its_forecasts(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is done is read; what would be made anew is refused before run.json forgets it."""
    study = study_of(tiny_base, 'methods=["full"]', "sampling.device=cuda")
    grid = cells(study, tmp_path, load_series(study))
    wanted = fingerprints(grid[0], load_bars("ecb:EURUSD").instrument.sha256, find_base(study.base))
    for names in STAGE_FILES.values():
        for name in names:
            (grid[0].paths.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (grid[0].paths.folder / name).touch()
    run = {
        "config": as_plain(study), "source": "ecb:EURUSD", "kind": "method", "method": "full", "seed": 1,
        "status": "done", "stages": wanted,
    }  # fmt: skip
    write_json(grid[0].paths.run, run)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    check_machines(study, grid, load_series(study))
    run_cell(grid[0].paths.folder, lambda _: None)
    write_json(grid[0].paths.run, {**run, "stages": {**wanted, "forecast": "of other code"}})
    kept = grid[0].paths.run.read_bytes()
    with pytest.raises(ConfigError, match=r"sampling\.device is 'cuda'"):
        check_machines(study, grid, load_series(study))
    assert "sampling.device is 'cuda'" in refused(["forecast", str(grid[0].paths.folder)], capsys)
    assert grid[0].paths.run.read_bytes() == kept


@pytest.mark.parametrize("name", BASELINES)
def test_the_baselines_that_need_a_weekly_pattern_are_marked(name: str, tiny_base: Path) -> None:
    study = study_of(tiny_base, f'baselines=["{name}"]', "methods=[]", "refit=never", "sampling.paths=8")
    bars = load_bars("ecb:EURUSD")
    cell = Cell(CellPaths(Path("runs")), study, "ecb:EURUSD", "baseline", name, 0)
    try:
        baseline(name, asked_of(cell, prepare(study, bars), bars))
        refuses = False
    except ConfigError:
        refuses = True
    assert BASELINES[name].seasonal == refuses


def test_a_seasonal_baseline_is_left_out_where_only_other_series_have_it(
    hourly: Bars, eurusd: Bars, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = replace(
        study_of(
            tiny_base,
            "methods=[]",
            "benchmarks=[]",
            'baselines=["ewma-t","seasonal-ewma-t"]',
            'ensemble.both.members=["ewma-t","seasonal-ewma-t"]',
        ),
        series=("hours", "days"),
        split=SplitSpec("2016-02-15", "2016-04-01", "2016-05-01"),
    )
    loaded = {"hours": hourly, "days": eurusd}
    made = [(cell.source, cell.method) for cell in cells(study, Path("runs"), loaded)]
    assert made == [("hours", "ewma-t"), ("hours", "seasonal-ewma-t"), ("days", "ewma-t"), ("hours", "both")]
    check_baselines(study, {name: prepare(study, bars) for name, bars in loaded.items()})
    assert "warning: days has no hour-of-week profile: no seasonal-ewma-t, both there" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="days has not; use ewma-t"):
        check_baselines(study, {"days": prepare(study, eurusd)})


def test_a_study_warns_of_closes_that_never_change(
    eurusd: Bars, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(tiny_base, "methods=[]")
    work_off(study, tmp_path / "checked", [], {"a": replace(eurusd, frame=eurusd.frame.clip(1.5, 1.5)), "b": eurusd}, 1)
    error = capsys.readouterr().err
    assert error.startswith(f"tunetrade: warning: ecb:EURUSD: all {len(eurusd):,} closes are 1.50000;")
    assert "digits under [source] in a study" in error
    assert error.count("\n") == 1


def test_checkpointing_is_refused_at_the_command_too(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = ["--set", f'base="{tiny_base.as_posix()}"', "--set", "windows.context=12", "--set", "windows.horizon=3"]
    assert main(["train", "ecb:EURUSD", "--method", "prefix", *told, "--set", "training.checkpointing=true"]) == 2
    assert "method prefix cannot recompute" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
