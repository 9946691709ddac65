"""What the tests say, in sentences: every count is of verdicts, and a verdict is never said louder than its test."""

import math
from collections.abc import Mapping, Sequence

from tunetrade.report.cells import Tables
from tunetrade.report.evidence_view import (
    BEATS,
    ERRORS,
    LOSES,
    MONEY,
    NOT_SHOWN,
    OVERALL,
    Outcome,
    counted,
    interval,
    outcomes,
    part,
    reason,
)  # fmt: skip
from tunetrade.report.formats import percent, rounded, significant, small_percent
from tunetrade.report.load import Json, Study, number

WORDS = {
    "density": "CRPS against the volatility cone (EWMA-t)",
    "point": "squared error against the random walk",
    "density_untuned": "CRPS against the untuned model",
    "point_untuned": "squared error against the untuned model",
    "random_walk": "net profit against the random walk through the same signal",
    "untuned": "net profit against the untuned model through the same signal",
}
TERMS = (
    "(CRPS scores the whole predicted distribution as the absolute error scores one number, lower is better; the"
    " volatility cone is a random walk as wide as recent volatility.)"
)
FEW_TRADES = 30
ALONE = "were it the only method tested, one-sided"
NAMED = 4
"""Methods named in a sentence; more are counted."""


def verdicts(study: Study, evidence: Json) -> list[str]:
    """Sentences on errors, money, model sets, trials and rank agreement; none where there is no evidence."""
    methods = [name for name in study.methods if study.kind(name) == "method"]
    levels = [OVERALL] if len(study.series) > 1 else study.series
    found = [_compared(evidence, level, methods) for level in levels]
    found += [_kept(evidence, level, methods) for level in levels]
    found += [_trials(evidence, series, len(study.series) > 1) for series in study.series]
    found += [_agreement(evidence), _power(evidence, levels, methods)]
    return [sentence for sentence in found if sentence]


def thin_money(study: Study, tables: Mapping[str, Mapping[str, Tables]]) -> list[str]:
    """Where money says less than its rows suggest: methods that traded alike, or as a benchmark, and few trades."""
    found = []
    for series, every in tables.items():
        of = {method: table for method, table in every.items() if study.kind(method) != "benchmark"}
        groups: dict[tuple[float, ...], list[str]] = {}
        for method, table in every.items():
            if table.curves and any(table.curves[0].net):
                groups.setdefault(tuple(table.curves[0].net), []).append(method)
        found += [_alike(study, series, names, every) for names in groups.values() if len(names) > 1]
        counts = [len(table.trades) for table in of.values() if table.trades is not None and len(table.trades)]
        few = sum(count < FEW_TRADES for count in counts)
        if few:
            found.append(
                f"On {series} {few} of {len(counts)} accounts that traded made fewer than {FEW_TRADES} trades (the"
                f" fewest: {min(counts)}): their money is a few decisions, whatever the number of days."
            )
    return found


def _alike(study: Study, series: str, names: Sequence[str], tables: Mapping[str, Tables]) -> str:
    """Who made the same trades; with a benchmark among them these are its trades, which take no forecast."""
    held = [name for name in names if study.kind(name) == "benchmark"]
    others = [name for name in names if name not in held]
    if not held or not others:
        return f"On {series} {_names(names)} made the same trades: one result, not {len(names)}."
    trades = tables[held[0]].trades
    one = trades is not None and len(trades) == 1
    return (
        f"On {series} {_names(others)} made {held[0]}'s {'one trade' if one else 'trades'}: one result, not"
        f" {len(names)}, and one that needs no forecast."
    )


def _compared(evidence: Json, series: str, methods: Sequence[str]) -> str:
    """Each comparison that shows something, then in one breath those that show nothing."""
    found = outcomes(evidence, series)
    decided, open_ = [], []
    for each in (*ERRORS, *MONEY):
        by_verdict = counted(found, each.key, methods)
        if by_verdict[BEATS] or by_verdict[LOSES]:
            decided.append(f"by {WORDS[each.key]}, {_listed(by_verdict)}")
        elif by_verdict[NOT_SHOWN]:
            open_.append((WORDS[each.key], len(by_verdict[NOT_SHOWN])))
    where = "Over all series" if series == OVERALL else f"On {series}"
    if not decided and not open_:
        at = ("overall", "errors") if series == OVERALL else ("series", series, "errors")
        why = reason(evidence, *at)
        return f"{where}, nothing was tested: {why}." if why else ""
    parts = decided
    if open_:
        count = max(number for _, number in open_)
        who = f"any of {count} methods" if count > 1 else "the one method"
        parts = [*parts, f"no difference is shown for {who} by {_either([word for word, _ in open_])}"]
    said = f"{where}, tested at 5 % with Holm's correction for the number of methods: {'; '.join(parts)}."
    return f"{said} {TERMS}" if "CRPS" in said else said


def _listed(by_verdict: dict[str, list[str]]) -> str:
    beats, loses, unknown = by_verdict[BEATS], by_verdict[LOSES], by_verdict[NOT_SHOWN]
    parts = [f"{_names(beats)} beat{'s' if len(beats) == 1 else ''} it"] if beats else ["none beats it"]
    parts += [f"{_names(loses)} lose{'s' if len(loses) == 1 else ''} to it"] if loses else []
    parts += [f"for {len(unknown)} no difference is shown"] if unknown else []
    return ", ".join(parts)


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _names(methods: Sequence[str]) -> str:
    if len(methods) > NAMED:
        return f"{len(methods)} methods ({', '.join(methods[:NAMED])} and others)"
    return methods[0] if len(methods) == 1 else f"{', '.join(methods[:-1])} and {methods[-1]}"


def _kept(evidence: Json, series: str, methods: Sequence[str]) -> str:
    """Size of the model confidence sets: what cannot be told from the best."""
    at = ("overall", "errors") if series == OVERALL else ("series", series, "errors")
    parts = []
    for measure, word in (("density", "CRPS"), ("point", "squared error")):
        block = part(evidence, *at, "model_sets", measure, "confidence_set")
        included = block.get("included")
        if isinstance(included, list):
            parts.append(f"{len(included)} of {len(part(block, 'p_values'))} by {word}")
    if not parts:
        return ""
    where = "" if series == OVERALL else f" on {series}"
    return f"Models that cannot be told from the best{where} (95 % model confidence set): {' and '.join(parts)}."


def _trials(evidence: Json, series: str, several: bool) -> str:
    block = part(evidence, "series", series, "trials")
    count = number(block, "trials")
    if not math.isfinite(count):
        return ""
    deflated = [
        each for of_seed in part(block, "deflated").values() for each in of_seed.values() if isinstance(each, dict)
    ]
    shown = sum(bool(each.get("significant")) for each in deflated)
    luck = significant(number(block, "expected_of_luck"), 2)
    where = f" on {series}" if several else ""
    text = (
        f"The ledger has {int(count):,} trials{where}: the best of as many without skill would show a Sharpe ratio of"
        f" {luck} a year; {shown if shown else 'none'} of {len(deflated)} accounts {'is' if shown == 1 else 'are'}"
        " shown to lie above that (deflated Sharpe ratio of 95 % or more)"
    )
    why = reason(block, "deflated")
    if why:
        text = f"Sharpe ratios{where} are not deflated: {why}"
    chance = number(part(block, "overfitting"), "probability")
    if math.isfinite(chance):
        text += (
            f"; probability of backtest overfitting {percent(chance, 0)} (how often the best of one half of the days"
            " falls below the middle in the other)"
        )
    return text + "."


def _agreement(evidence: Json) -> str:
    parts = []
    shown = []
    accounts, ranked = math.nan, 0
    for measure, word in (("density", "CRPS"), ("point", "squared error")):
        block = part(evidence, "overall", "rank_agreement", measure)
        value, low, high = interval(block)
        if math.isfinite(value):
            shown.append(bool(block.get("shown")))
            halves = number(block, "across_halves")
            other = f", {significant(halves, 2)} across halves of the days" if math.isfinite(halves) else ""
            chance = number(block, "p_value")
            tested = f", permutation p {chance:.3f}" if math.isfinite(chance) else ""
            ends = f"[{significant(low, 2)}, {significant(high, 2)}]"
            parts.append(f"{significant(value, 2)} {ends} for {word}{tested}{other}")
            accounts, ranked = number(block, "accounts"), len(block.get("methods") or ())
    if not parts:
        return ""
    answer = "is shown" if all(shown) else "is not shown" if not any(shown) else "is shown by one measure only"
    return (
        f"That lower error means more money {answer}: Kendall's tau between the two rankings is {' and '.join(parts)}"
        f" (1: the same order, 0: unrelated){_of_accounts(accounts, ranked)}."
    )


def _of_accounts(accounts: float, ranked: int) -> str:
    """How many results a ranking is of: methods that made the same trades are one."""
    if not math.isfinite(accounts):
        return ""
    return f", over {ranked} methods with {accounts:.0f} different accounts"


def _power(evidence: Json, levels: Sequence[str], methods: Sequence[str]) -> str:
    """How many more bars would decide the comparison nearest to a decision; only where nothing is shown."""
    nearest: tuple[float, str, Outcome] | None = None
    for level in levels:
        for method in methods:
            outcome = outcomes(evidence, level).get(method, {}).get("density")
            if (
                outcome
                and outcome.verdict == NOT_SHOWN
                and math.isfinite(outcome.more)
                and (nearest is None or outcome.more < nearest[0])
            ):
                nearest = outcome.more, method, outcome
    if nearest is None:
        return ""
    more, method, outcome = nearest
    unit = "days" if levels == [OVERALL] else "origins"
    now = f"the {outcome.observations:,} {unit} there are now"
    if more <= 0:
        return (
            f"Nearest to a decision by CRPS is {method} ({small_percent(outcome.value)} skill): {now} would find a true"
            f" difference of the estimated size four times in five, {ALONE}."
        )
    return (
        f"Nearest to a decision by CRPS is {method}: were its true skill the estimated {small_percent(outcome.value)},"
        f" about {rounded(more)} {unit} beyond {now} would show it four times in five, {ALONE};"
        " were it zero, no number would."
    )
