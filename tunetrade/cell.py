"""One cell of a study, in a process of its own: train, forecast, backtest, each into files that appear whole.

A stage is done when its fingerprint stands in run.json; the fingerprint covers everything its files depend on, so a
cell that is asked for again does only what changed, and a killed one goes on where it stopped.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forecasting.bars import Bars, load_bars
from forecasting.files import read_json, read_record, reading, remove_partials, sha256_of, write_json, write_parquet
from strategies.user_signal import signal_sha
from tunetrade.audit.rows import rows_record
from tunetrade.beside import series_beside, sha_until
from tunetrade.config import StudyConfig, study_from
from tunetrade.ensembles import combine, forecasts_of, members_of
from tunetrade.layout import CellPaths, done_stages, mark, reopen
from tunetrade.provenance import ROOT, code_of, made_by, package_version
from tunetrade.walk import learn_folds, parts

if TYPE_CHECKING:
    from forecasting.base import Base
    from forecasting.forecaster import Forecaster
    from forecasting.train import TrainingData
    from strategies.backtest import BacktestResult
    from tunetrade.prepared import Prepared

Emit = Callable[[dict[str, Any]], None]

Stage = Callable[["Cell", Bars, str, Emit], None]

BLIND = ("trial", "model", "yardstick")
"""Kinds of cells that never see the test part. A `trial` of `tune` is a model and its money; a `model` of `optimize`
and a `yardstick`, the baseline beside it, are forecasts only: money is made of them many times."""


@dataclass(frozen=True)
class Cell:
    """What a cell is asked to do."""

    paths: CellPaths
    study: StudyConfig
    source: str
    kind: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        """Series, method and seed, such as `EURUSD-D1/lora/1`."""
        return "/".join(self.paths.folder.parts[-3:])


def read_cell(folder: Path) -> Cell:
    """The cell whose run.json the study wrote; CheckpointError for one that cannot be read."""
    file = folder / "run.json"
    with reading(file, "run the study again"):
        run = read_record(file)
        config, facts = run["config"], (run["source"], run["kind"], run["method"], run["seed"])
    return Cell(CellPaths(folder), study_from(config), *facts)


def stages(cell: Cell) -> dict[str, Stage]:
    """The stages this kind of cell has, in order."""
    if cell.kind in BLIND:
        from tunetrade.validation import validate

        return {"validate": validate} if cell.kind == "yardstick" else {"train": train, "validate": validate}
    if cell.kind == "benchmark":
        return {"backtest": backtest}
    if cell.kind == "ensemble":
        return {"forecast": combine, "backtest": backtest}
    if cell.kind == "baseline":
        return {"forecast": forecast, "backtest": backtest}
    return {"train": train, "forecast": forecast, "backtest": backtest}


def fingerprints(cell: Cell, data_sha: str, base: "Base") -> dict[str, str]:
    """What each stage's files depend on, hashed: settings, data, base, code; it includes those of the stages before."""
    study = cell.study
    settings = [asdict(study.source), asdict(study.windows), asdict(study.split), asdict(study.codec)]
    if study.walk.on and cell.kind not in (*BLIND, "benchmark"):
        settings.append(asdict(study.walk))
    shared = [data_sha, *settings, base.sha, base.card]
    of_stage: dict[str, list[Any]] = {
        "train": training_parts(cell) if cell.kind in ("method", "trial", "model") else [],
        "forecast": _forecasting_parts(cell) if cell.kind not in ("benchmark", "ensemble") else [],
    }
    if cell.kind == "ensemble":
        made_of = [fingerprints(member, data_sha, base)["forecast"] for member in members_of(cell)]
        code = sha256_of(ROOT / "tunetrade/ensembles.py")
        of_stage["forecast"] = [asdict(study.ensemble[cell.method]), made_of, code]
    result, so_far = {}, json.dumps(shared, sort_keys=True)
    for stage, hung_on in of_stage.items():
        if stage in stages(cell):
            so_far = _after(so_far, stage, hung_on)
            result[stage] = so_far
    if cell.kind in BLIND:
        parts = [*_forecasting_parts(cell), *(_trading_parts(cell) if cell.kind == "trial" else [])]
        return {**result, "validate": _after(so_far, "validate", parts)}
    return {**result, "backtest": backtest_fingerprint(cell, so_far)}


def backtest_fingerprint(cell: Cell, before: str) -> str:
    """The fingerprint of trading forecasts of fingerprint `before`."""
    return _after(before, "backtest", [cell.method, *_trading_parts(cell)])


def _trading_parts(cell: Cell) -> list[Any]:
    """Rules of trading and broker, and the other series they call for; of a trial's, what comes before the test."""
    end = cell.study.split.test_start if cell.kind == "trial" else ""
    shas = [sha_until(bars, end) if bars else "" for bars in series_beside(cell.study)]
    signal = signal_sha(cell.study.trading.signal)
    return [asdict(cell.study.trading), asdict(cell.study.broker), shas, signal]


def _after(before: str, stage: str, parts: list[Any]) -> str:
    return sha256_of(before, stage, json.dumps([*parts, code_of(stage)], sort_keys=True))


def training_parts(cell: Cell) -> list[Any]:
    """Settings that a trained model hangs on, beside windows, split and codec."""
    study, name = cell.study, cell.method
    return [name, cell.seed, asdict(study.training), study.learning_rate_of(name), asdict(study.options_of(name))]


def _forecasting_parts(cell: Cell) -> list[Any]:
    from forecasting.baselines import BASELINES

    sampling = cell.study.sampling
    shared = [cell.method, sampling.paths, sampling.seed, sampling.device, sampling.precision]
    if cell.kind not in ("baseline", "yardstick"):
        return shared
    chosen = BASELINES[cell.method]
    versions = [f"{name} {package_version(name)}" for name in ("scipy", *chosen.packages)]
    return [*shared, versions, cell.study.refit if chosen.fitted else ""]


def run_cell(folder: Path, emit: Emit, until: str = "") -> None:
    """Do the stages of a cell that are not done yet, up to `until` where given, and mark each in run.json."""
    from forecasting.base import find_base
    from tunetrade.checks import check_machine

    remove_partials(folder)
    cell = read_cell(folder)
    bars = load_bars(cell.source, cell.study.source)
    if cell.kind in BLIND:
        from tunetrade.validation import blind

        bars = blind(bars, cell.study)
    wanted = fingerprints(cell, bars.instrument.sha256, find_base(cell.study.base))
    done = done_stages(cell.paths, read_json(cell.paths.run)["stages"], wanted)
    if cell.kind in ("method", "trial", "model"):
        check_machine(cell.study, cell.method, wanted.keys() - set(done))  # before what was done is opened again
    for name, stage in stages(cell).items():
        if name not in done:
            emit({"stage": name})
            reopen(cell.paths, done, made_by())
            stage(cell, bars, wanted[name], emit)
            mark(cell.paths, name, wanted[name])
            done.append(name)
        if name == "train":  # only now that it is marked, or a kill between would throw the training away
            for state in cell.paths.training_states:
                state.unlink()
        if name == until:
            break
    if cell.study.audit.in_study and cell.kind not in BLIND and not until:
        from tunetrade.audit.run import audit_cell

        emit({"stage": "audit"})
        audit_cell(cell, cell.study.audit)
    emit({"stage": "done"})


def train(cell: Cell, bars: Bars, fingerprint: str, emit: Emit) -> None:
    """Tune the cell's model, or where its study walks one for each fold."""
    from forecasting.base import find_base
    from tunetrade.prepared import prepare

    if cell.study.walk.on and cell.kind == "method":
        learn_folds(cell, bars, find_base(cell.study.base), emit, learn)
    else:
        learn(cell, bars, prepare(cell.study, bars), fingerprint, emit)


def learn(
    cell: Cell,
    bars: Bars,
    prepared: "Prepared",
    fingerprint: str,
    emit: Emit,
    start: Path | None = None,
    keep_trained: Path | None = None,
) -> None:
    """Tune the base and write checkpoint/, train.json, tensorboard/ and, where asked for, checkpoints/epoch-N/.

    An unfinished training stands in a state file named by its fingerprint, so other settings never resume from it.
    Of several processes that train together, only the first writes. start: file of trained parameters to begin with
    rather than with the base's; keep_trained: file that they are kept in as they end.
    """
    from forecasting import methods
    from forecasting import train as training
    from forecasting.training.processes import joined
    from forecasting.training.state import save_trained
    from tunetrade.measure import peak_memory_bytes

    study, chosen, processes = cell.study, methods.method(cell.method), joined()
    model = _begun(cell, start)
    record: dict[str, Any] = {
        "trained_parameters": methods.trained_parameters(model),
        "total_parameters": sum(value.numel() for value in model.parameters()),
    }
    before = peak_memory_bytes()
    data = prepared.training_data(bars, study, cell.method)

    def save(folder: Path) -> None:
        from forecasting.checkpoint import save_checkpoint

        options = study.options_of(cell.method)
        save_checkpoint(folder, model, cell.method, options, study.windows, prepared.codec, study.base)

    if chosen.trains:
        state = cell.paths.folder / f"train-state-{fingerprint[:16]}.safetensors"
        result = _tuned(cell, model, data, state, emit, save, first=processes.rank == 0)
    else:
        result = training.untrained(model, data)
    if processes.rank:
        return
    save(cell.paths.checkpoint)
    if keep_trained:
        save_trained(keep_trained, model)
    record |= {
        **asdict(result),
        "learning_rate": study.learning_rate_of(cell.method) if chosen.trains else None,
        "merges": chosen.merges,
        "stored_bytes": methods.stored_bytes(cell.paths.checkpoint),
        "peak_memory_bytes": peak_memory_bytes(),
        "memory_before_training_bytes": before,
        "threads": study.training.threads,
        "processes": processes.count,
        "jobs": _jobs(),
        "rows": rows_record(bars, study, prepared, data),
    }
    write_json(cell.paths.train, record)


def _begun(cell: Cell, start: Path | None) -> Any:
    """The model as its training begins, with torch set to repeat itself."""
    import torch

    from forecasting.checkpoint import new_model
    from forecasting.training.state import load_trained

    torch.set_num_threads(cell.study.training.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it CUDA's matrix products are not repeatable
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(cell.seed)
    model = new_model(cell.study.base, cell.method, cell.study.options_of(cell.method))
    if start:
        load_trained(start, model)
    return model


def _tuned(
    cell: Cell, model: Any, data: "TrainingData", state: Path, emit: Emit, save: Callable[[Path], None], first: bool
) -> Any:
    """Train the model in place, with its log, its epochs and progress told; first: of processes that train together."""
    from forecasting import train as training
    from forecasting.checkpoint import plan_of
    from tunetrade.measure import tensorboard

    study, name = cell.study, cell.method
    settings, rate = study.training_of(name).for_windows(len(data.train)), study.learning_rate_of(name)
    epochs = cell.paths.folder / "checkpoints"
    if not state.is_file() and first:
        shutil.rmtree(cell.paths.tensorboard, ignore_errors=True)
        shutil.rmtree(epochs, ignore_errors=True)
    with tensorboard(cell.paths.tensorboard) if first else contextlib.nullcontext() as log:

        def report(step: int, loss: float, validation: float | None) -> None:
            if log:
                log(step, loss, validation)
            emit({"step": step, "of": settings.steps, "loss": loss, "validation_loss": validation})

        def on_epoch(epoch: int) -> None:
            save(epochs / f"epoch-{epoch}")

        plan = plan_of(model, study.base, name, study.options_of(name), settings.steps, rate)
        keep = on_epoch if settings.keep_epochs else None
        return training.train(model, data, settings, rate, cell.seed, state, report, plan, keep)


def _jobs() -> int:
    """Cells that ran at once, as the study told its processes; 1 in a process of one's own."""
    return int(os.environ.get("TUNETRADE_JOBS", "1"))


def forecast(cell: Cell, bars: Bars, fingerprint: str, emit: Emit) -> None:
    """Forecast at every bar of the test part, each by the model of its fold; write forecasts.parquet, forecast.json."""
    import pandas as pd

    from forecasting.baselines import BASELINES
    from forecasting.cache import ForecastCache, cache_folder, limit_bytes
    from forecasting.evaluate import evaluate, latency, naive_scale, table_errors
    from tunetrade.forecasters import forecaster_of
    from tunetrade.prepared import prepare

    study = cell.study
    prepared = prepare(study, bars)
    each = parts(cell, bars, prepared)
    forecaster = forecaster_of(each[0].cell, prepared, bars)  # what validation judges, of folds the first
    finished, started = 0, time.perf_counter()

    def progress(count: int) -> None:
        nonlocal finished
        finished += count
        rate = finished * study.sampling.paths / (time.perf_counter() - started) if sampled else None
        emit({"windows": finished, "of": len(prepared.split.test), "paths_per_second": rate})

    sampled = cell.kind != "baseline" or BASELINES[cell.method].samples
    scale = naive_scale(bars, first=int(prepared.split.train[0]), last=int(prepared.split.train[-1]))
    cache = ForecastCache(cache_folder(), limit_bytes(), code_of("forecast"))
    tests, shas, latest = [], [], forecaster
    for part in each:
        latest = forecaster if part.fold is None else part.forecaster(bars)
        tests.append(evaluate(latest, bars, study.windows, part.origins, cache, progress, study.sampling.chunk))
        shas.append(latest.sha)
    table, seconds = pd.concat([test.table for test in tests], ignore_index=True), sum(test.seconds for test in tests)
    spread_out = prepared.split.validation[:: study.windows.horizon]
    validation = evaluate(forecaster, bars, study.windows, spread_out, cache, chunk=study.sampling.chunk)
    single = latency(latest, bars, study.windows, each[-1].origins)
    write_parquet(cell.paths.forecasts, table)
    write_json(
        cell.paths.forecast,
        {
            "model_sha": shas[0] if len(shas) == 1 else sha256_of(*shas),
            "origins": len(prepared.split.test),
            "horizon": study.windows.horizon,
            "paths": study.sampling.paths if sampled else None,
            "seconds": seconds,
            "cached_origins": sum(test.cached for test in tests),
            "paths_per_second": len(prepared.split.test) * study.sampling.paths / seconds if sampled else None,
            "latency_p50_ms": single.p50,
            "latency_p99_ms": single.p99,
            "metrics": table_errors(table, scale),
            "validation": table_errors(validation.table, scale)["overall"],
            "log_score": _log_score(each[0].cell, bars, spread_out) if cell.kind == "method" else None,
            "base_has_seen_it": prepared.seen,
            "threads": study.sampling.workers,
            "jobs": _jobs(),
            **(_objective_scores(cell, forecaster, bars, prepared) if len(each) == 1 else {}),
        },
    )


def _objective_scores(cell: Cell, forecaster: "Forecaster", bars: Bars, prepared: "Prepared") -> dict[str, Any]:
    """How well a method that learns something else than the next token has learnt it; nothing for the others."""
    from forecasting.methods import method

    objective = method(cell.method).objective if cell.kind == "method" else None
    return objective.scores(forecaster, bars, cell.study.windows, prepared.split) if objective else {}


LOG_SCORED = 256
"""Most validation windows whose closes are scored, spread evenly; a second or two for the embedded base."""


def _log_score(cell: Cell, bars: Bars, cutoffs: np.ndarray) -> dict[str, Any]:
    """Mean log density of closes after validation cutoffs, which compares across codecs (`forecasting.log_score`)."""
    from forecasting.checkpoint import load_tuned
    from forecasting.log_score import log_scores, summary
    from forecasting.windows import contexts, targets

    tuned, spec = load_tuned(cell.paths.checkpoint), cell.study.windows
    chosen = cutoffs[np.unique(np.linspace(0, len(cutoffs) - 1, LOG_SCORED).astype(int))]
    inputs, y = contexts(bars, spec, tuned.codec.warm_up, chosen), targets(bars, spec, chosen)
    return asdict(summary(log_scores(tuned.logits, tuned.codec, inputs, y, spec.context, tuned.room)))


def backtest(cell: Cell, bars: Bars, fingerprint: str, emit: Emit) -> None:
    """Trade the forecasts into the run folder; of a walk, say how each fold went."""
    result, record = trade(cell, bars)
    if cell.study.walk.on and cell.kind != "benchmark":
        from tunetrade.walk_result import write_walk

        write_walk(cell, bars, result.equity)
    write_backtest(cell.paths, result, record)


def trade(cell: Cell, bars: Bars) -> "tuple[BacktestResult, dict[str, Any]]":
    """The backtest of a cell's forecasts under its study's rules, and its record, the content of backtest.json."""
    from strategies.backtest import run_backtest
    from tunetrade.prepared import prepare

    study = cell.study
    conversion, finer = series_beside(study)
    forecasts = None if cell.kind == "benchmark" else forecasts_of(cell)
    result = run_backtest(
        bars,
        forecasts,
        study.trading,
        study.broker,
        context=study.windows.context,
        span=prepare(study, bars).test_span(bars),
        policy=cell.method if cell.kind == "benchmark" else "signal",
        conversion=conversion,
        finer=finer,
    )
    record = {
        "unique_id": bars.instrument.unique_id,
        "instrument": asdict(bars.instrument),
        "signal": study.trading.signal if forecasts is not None else cell.method,
        "rules": asdict(study.trading),
        "broker": asdict(study.broker),
        "illustrative": result.illustrative,
        "currency": result.currency,
        "figures": result.figures,
    }
    return result, record


def write_backtest(paths: CellPaths, result: "BacktestResult", record: dict[str, Any]) -> None:
    """Write trades.parquet, equity.parquet and backtest.json."""
    write_parquet(paths.trades, result.trades)
    write_parquet(paths.equity, result.equity)
    write_json(paths.backtest, record)
