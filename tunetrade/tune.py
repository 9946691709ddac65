"""Equal terms: every method gets the same number of trials, and keeps the settings with the lowest validation CRPS.

A trial is a cell with two stages, training and a forecast of the validation part; it is handed bars whose test part is
blank (`tunetrade.validation`). All trials share steps, data, their order and one training seed. Trials run, resume and
enter the ledger by the machinery of studies; what is chosen, and every figure of the tables, is read back from their
folders.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from forecasting.bars import Bars
from forecasting.errors import ConfigError
from forecasting.files import write_json, write_text
from tunetrade.cell import Cell
from tunetrade.config import StudyConfig, as_plain, read_values, set_value, study_from
from tunetrade.layout import CellPaths, trial_folder
from tunetrade.locks import only_one
from tunetrade.prepared import prepare
from tunetrade.spaces import Settings, TuneOptions, drawn, tune_options
from tunetrade.study import LOCK, Outcome, busy, check_machines, check_trading, load_series, work_off
from tunetrade.toml import toml
from tunetrade.tune_result import Trial, of_method, short_of_budget
from tunetrade.tune_table import markdown
from tunetrade.validation import blind, validation_span

FINAL_SEEDS = 3
"""Training seeds of the final comparison, at least."""

TUNED = "tuned.toml"
RESULT = "tune.json"
PAGE = "tune.md"

Json = dict[str, Any]


@dataclass(frozen=True)
class Tuning:
    """What a tuning left.

    outcome: of its trials. result: the content of tune.json. tuned: the study file of the settings chosen.
    """

    outcome: Outcome
    result: Json
    tuned: Path


def load_tuning(path: Path, overrides: tuple[str, ...] = ()) -> tuple[StudyConfig, TuneOptions]:
    """A study file and its [tune] section, which may be missing."""
    values = read_values(path)
    for override in overrides:
        set_value(values, override)
    return study_from(values, where=str(path)), tune_options(values.get("tune", {}))


def run_tuning(study: StudyConfig, options: TuneOptions, runs: Path, jobs: int = 0) -> Tuning:
    """Do every trial that is not done, then choose: tune.json, tune.md and tuned.toml in the study's folder.

    Nothing depends on `jobs`, nor on what the test part holds.
    """
    if not study.seeds:
        raise ConfigError("seeds is empty; give a training seed for the trials, such as seeds = [1]")
    if study.training.epochs:
        raise ConfigError(
            f"training.epochs is {study.training.epochs}, which makes fewer steps of larger batches, and all trials "
            "have the same steps; set training.epochs = 0 and give training.steps"
        )
    loaded = {source: blind(bars, study) for source, bars in _series(study).items()}
    settings = {name: drawn(study, name, options) for name in study.methods}
    folder = runs / study.name
    trials = [
        Trial(name, number, chosen, cells_of(study, runs, loaded, name, number, chosen))
        for name, own in settings.items()
        for number, chosen in enumerate(own, start=1)
    ]
    grid = [cell for trial in sorted(trials, key=lambda trial: trial.number) for cell in trial.cells]
    check_machines(study, grid, loaded)
    with only_one(folder / LOCK, busy(folder)):
        outcome = work_off(study, folder, grid, loaded, jobs)
        result = {
            "study": study.name,
            "series": list(study.series),
            "seed": study.seeds[0],
            "steps": study.training.steps,
            "trials": options.trials,
            "grid": options.grid,
            "draws": options.seed,
            "methods": {name: of_method([trial for trial in trials if trial.method == name]) for name in study.methods},
        }
        write_json(folder / RESULT, result)
        write_text(folder / PAGE, markdown(result))
        write_text(folder / TUNED, tuned_file(study, result))
    return Tuning(outcome, result, folder / TUNED)


def _series(study: StudyConfig) -> dict[str, Bars]:
    """Bars by source, checked for trading the validation part too."""
    loaded = load_series(study)
    for bars in loaded.values():
        check_trading(study, bars, validation_span(prepare(study, bars), bars))
    return loaded


def cells_of(
    study: StudyConfig, runs: Path, loaded: Mapping[str, Bars], name: str, number: int, settings: Settings
) -> list[Cell]:
    """The cells of a trial, one a series: the study with other settings of one method."""
    tried = with_settings(study, {name: settings})

    def folder(bars: Bars) -> Path:
        return trial_folder(runs, study.name, bars.instrument.unique_id, name, number)

    return [
        Cell(CellPaths(folder(bars)), tried, source, "trial", name, study.seeds[0]) for source, bars in loaded.items()
    ]


def with_settings(study: StudyConfig, settings: Mapping[str, Settings]) -> StudyConfig:
    """The study with some settings of some methods changed."""
    changed = {name: replace(study.options_of(name), **own) for name, own in settings.items()}
    return replace(study, method={**study.method, **changed})


def tuned_file(study: StudyConfig, result: Json) -> str:
    """The study file of the final comparison: only its differences from the defaults, and three seeds at least.

    Methods that had not all their trials are not in it.
    """
    short = short_of_budget(result)
    chosen = {name: own["settings"] for name, own in result["methods"].items() if name not in short}
    kept = {name: own for name, own in study.method.items() if name in chosen}
    tried = with_settings(replace(study.with_methods(tuple(chosen)), method=kept), chosen)
    final = replace(tried, name=f"{study.name}-tuned", seeds=final_seeds(study.seeds))
    needed = {"name": final.name, "series": final.series, "methods": final.methods, "seeds": final.seeds}
    values = difference(as_plain(final), as_plain(StudyConfig(final.name, final.series, final.methods)))
    head = (
        f"# Settings that `tunetrade tune` chose by validation CRPS, {_budget(result)} a method.\n"
        "# The test part was not read. The final comparison: `tunetrade study` with this file.\n"
    )
    if short:
        head += f"# Left out, as trials of theirs failed: {', '.join(short)}.\n"
    return f"{head}\n{toml({**needed, **values})}"


def final_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The study's seeds, filled up with the smallest others to three.

    >>> final_seeds((2,)), final_seeds((4, 5, 6, 7))
    ((2, 1, 3), (4, 5, 6, 7))
    """
    others = (seed for seed in range(1, len(seeds) + FINAL_SEEDS + 1) if seed not in seeds)
    return seeds + tuple(seed for seed, _ in zip(others, range(FINAL_SEEDS - len(seeds)), strict=False))


def difference(values: Json, default: Json) -> Json:
    """What of nested `values` is not so in `default`."""
    found: Json = {}
    for key, value in values.items():
        other = default.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            inner = difference(value, other)
            if inner:
                found[key] = inner
        elif value != other:
            found[key] = value
    return found


def _budget(result: Json) -> str:
    return "every combination" if result["grid"] else f"{result['trials']} trials"
