"""Genetic search over a study: which model, traded by which rules, forecasts well and earns, on validation only.

Trials are shared by processes through a journal (`optimize_journal`), drawn by NSGA-II (`optimize_sampler`), and judged
on two objectives: CRPS skill against EWMA-t and the net Sharpe ratio of the portfolio. No process reads a price of the
test part before the final run of the winner, which is a study like any other.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecasting.errors import ConfigError
from forecasting.files import plain, read_json, sha256_of, write_json, write_text
from strategies.contract import BrokerRules
from strategies.market import market_of
from strategies.user_signal import signal_sha
from tunetrade.beside import series_beside
from tunetrade.config import StudyConfig, as_plain, build, read_values, set_value, study_from, with_preset
from tunetrade.ledger import trials
from tunetrade.locks import in_turn
from tunetrade.optimize_journal import Search
from tunetrade.optimize_models import LOCKS, Series, load_search
from tunetrade.optimize_page import write_pages
from tunetrade.optimize_reads import used
from tunetrade.optimize_result import Json, result_of, with_robustness
from tunetrade.optimize_space import (
    OptimizeOptions,
    Point,
    check_size,
    neighbours,
    optimize_options,
    own_point,
    study_at,
)
from tunetrade.optimize_trial import Verdict, Workplace, beside_shas, evaluate, prepare_models
from tunetrade.progress import Board
from tunetrade.provenance import ROOT, code_of, package_version
from tunetrade.study import LEDGER
from tunetrade.toml import toml
from tunetrade.tune import difference

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

WINNER = "optimized.toml"
SEARCHED = "search.json"
FINAL = "final.json"

SOURCES = (
    "optimize_models.py", "optimize_money.py", "optimize_reads.py", "optimize_sampler.py", "optimize_space.py",
    "optimize_trial.py",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What a search left: the content of optimize.json, and the study file of the winner where there is one."""

    folder: Path
    result: Json
    winner: Path | None


def load_optimize(path: Path, overrides: tuple[str, ...] = ()) -> Json:
    """The plain values of a study file with its [optimize] section, `--set` put in."""
    values = read_values(path)
    for override in overrides:
        set_value(values, override)
    if "optimize" not in values:
        raise ConfigError(
            f"{path} has no [optimize] section; add one with [optimize.space], as in studies/optimize.toml"
        )
    return values


def search_from(values: Mapping[str, Any]) -> tuple[StudyConfig, OptimizeOptions]:
    """The study and what is searched, checked."""
    study = study_from(values, where="optimize")
    if not study.seeds:
        raise ConfigError("seeds is empty; give a training seed for the trials, such as seeds = [1]")
    return study, optimize_options(values["optimize"], study)


def workplace(values: Mapping[str, Any], runs: Path, slots: int, jobs: int, board: Board) -> Workplace:
    """Everything that trials share, checked before any work."""
    study, options = search_from(values)
    series = load_search(study, options.space)
    check_size(options)
    for each in series:
        _check_account(study, each)
    return Workplace(study, options, series, runs, code_of_search(), slots, jobs, board)


def _check_account(study: StudyConfig, series: Series) -> None:
    """Refuse spreads that are not there and accounts that cannot be before models are trained for them."""
    bars = series.bars(study)
    inside = (bars.times >= series.span[0]) & (bars.times <= series.span[1])
    market_of(replace(bars, frame=bars.frame[inside]), study.broker, *series_beside(study))


def code_of_search() -> str:
    """Hash of the sources, Optuna's version among them, that a trial's point and figures depend on."""
    sources = [ROOT / "tunetrade" / name for name in SOURCES]
    return sha256_of(code_of("validate"), f"optuna {package_version('optuna')}", *sources)


def open_search(place: Workplace, values: Mapping[str, Any]) -> Search:
    """Begin the search in its folder, or join the one that is there; ConfigError where that one is another."""
    wanted = json.loads(json.dumps(plain(_identity(place))))
    file = place.folder / SEARCHED
    with in_turn(place.folder / LOCKS / "open"):
        if file.is_file():
            found = read_json(file)["identity"]
            other = _first_difference(found, wanted)
            if other:
                raise ConfigError(
                    f"{place.folder} holds a search with another {other}; give this one a name of its own "
                    f'(--set name="..."), or delete that folder'
                )
        else:
            write_json(file, {"identity": wanted, "values": dict(values)})
    study, space = place.study, place.options.space
    return Search(place.folder, place.options, own_point(study, space), lambda point: _fits(study, point))


def _fits(study: StudyConfig, point: Point) -> bool:
    try:
        study_at(study, point)
    except ConfigError:
        return False
    return True


def _identity(place: Workplace) -> Json:
    """What makes two searches the same one; more trials of it are a continuation."""
    study = as_plain(place.study)
    for name in ("baselines", "benchmarks", "refit"):
        study.pop(name)
    options = asdict(place.options)
    options.pop("trials")
    data = {each.unique_id: each.bars(place.study).instrument.sha256 for each in place.series}
    return {
        "study": study,
        "optimize": options,
        "data": data,
        "beside": dict(zip(("conversion", "finer"), beside_shas(place.study), strict=True)),
        "signals": _signals(place),
        "code": place.code,
    }


def _signals(place: Workplace) -> dict[str, str]:
    """Hashes of the files of the user's own signals that a point may have."""
    searched = place.options.space.get("trading.signal")
    names = [place.study.trading.signal, *(map(str, searched.choices) if searched else ())]
    return {name: sha for name in names if (sha := signal_sha(name))}


def _first_difference(one: Any, other: Any, path: str = "") -> str:
    """The dotted key at which nested values differ first; "" where they do not."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            found = _first_difference(one.get(key), other.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return ""
    return "" if one == other else path.removeprefix("study.")


def work(place: Workplace, search: Search) -> None:
    """Do trials until all of the search are done."""
    total = place.options.trials
    with closing(search.claims()) as claims:
        for claim in claims:
            verdict = evaluate(place, claim.point)
            if verdict.portfolio is None:
                search.fail(claim.number, verdict.failure)
            else:
                search.complete(claim.number, verdict.values(), verdict.constraints(place.options), verdict.figures)
            place.board.say(f"trial {claim.number + 1} of {total}: {in_words(verdict, claim.point)}")


def in_words(verdict: Verdict, point: Point) -> str:
    """One line on what came of a point."""
    settings = " ".join(f"{key}={value}" for key, value in used(point).items())
    own = verdict.portfolio
    if own is None:
        return f"failed: {verdict.failure} | {settings}"
    return (
        f"skill {100 * verdict.skill:+.2f} %, Sharpe {own.sharpe:+.2f}, {own.trades} trades, "
        f"drawdown {100 * own.max_drawdown:.1f} % | {settings}"
    )


def run_search(values: Mapping[str, Any], runs: Path, jobs: int = 0) -> Found:
    """Do every trial that is not done, then choose and look around the winner; optimize.json and its pages.

    `jobs` processes, 0 for one per core; nothing depends on it. Other processes may work on the same search.
    """
    jobs = jobs or os.cpu_count() or 1
    board = Board(jobs)
    try:
        place = workplace(values, runs, 1, jobs, board)
        search = open_search(place, values)
        if not search.finished():
            if jobs == 1:
                work(place, search)
            else:
                from tunetrade.optimize_worker import work_together

                work_together(place, min(jobs, place.options.trials))
        with in_turn(place.folder / LOCKS / "finish"):
            return _finish(replace(place, slots=jobs), search)
    finally:
        board.close()


def _finish(place: Workplace, search: Search) -> Found:
    done = search.trials()[: place.options.trials]
    _recount(place, done)
    result = result_of(place, done)
    winner = result["winner"]
    if winner is not None:
        point = search.trials()[winner].params
        around = neighbours(place.study, place.options.space, point)
        prepare_models(place, [other for _, other in around])
        verdicts = []
        for number, (key, other) in enumerate(around, start=1):
            verdict = evaluate(place, other)
            place.board.say(f"neighbour {number} of {len(around)}: {in_words(verdict, other)}")
            verdicts.append((key, other, verdict))
        result = with_robustness(place, result, verdicts)
    folder = place.runs / place.study.name
    file = folder / WINNER
    if winner is not None:
        write_text(file, winner_file(place, search.trials()[winner].params, result))
    elif file.is_file():
        file.unlink()
    write_pages(folder, result)
    return Found(folder, result, file if winner is not None else None)


def _recount(place: Workplace, done: "Sequence[FrozenTrial]") -> None:
    """Put lines back that the ledger has lost: the winner is deflated by all trials, and must be among them."""
    known = {line["key"] for line in trials(place.runs / LEDGER)}
    for trial in done:
        if trial.state.name == "COMPLETE" and trial.user_attrs["figures"]["key"] not in known:
            evaluate(place, trial.params)


def winner_file(place: Workplace, point: Point, result: Json) -> str:
    """The study file of the final run: the study with the winner's settings, as differences from the defaults."""
    final = replace(study_at(place.study, point), name=f"{place.study.name}-optimized")
    preset = final.broker.preset
    usual = StudyConfig(
        final.name, final.series, final.methods, broker=build(BrokerRules, with_preset({"preset": preset}), "broker")
    )
    needed = {"name": final.name, "series": final.series, "methods": final.methods, "seeds": final.seeds}
    values = difference(as_plain(final), as_plain(usual))
    if preset != BrokerRules().preset:
        values["broker"] = {"preset": preset, **values.get("broker", {})}
    head = (
        f"# Settings that `tunetrade optimize` chose on the validation part: trial {result['winner'] + 1} of "
        f"{len(result['rows'])}.\n# The test part was not read. The final run: `tunetrade study` with this file.\n"
    )
    return f"{head}\n{toml({**needed, **values})}"


def second_look(found: Found) -> str:
    """Record that the winner meets the test part now; a sentence where another one did before, else ""."""
    assert found.winner is not None
    file = found.folder / "optimize" / FINAL
    settings = sha256_of(found.winner)
    before = list(read_json(file)["looked"]) if file.is_file() else []
    if settings not in before:
        write_json(file, {"looked": [*before, settings]})
    others = len([other for other in before if other != settings])
    return (
        f"the test part was read before, for {others} other winner(s) of this search: it is no fresh judge any more"
        if others
        else ""
    )
