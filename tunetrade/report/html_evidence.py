"""Tables of what was tested: verdicts, model sets, trials, Sharpe ratios, break-even spreads; overall and by series."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from tunetrade.report.evidence_view import (
    BEATS,
    ERRORS,
    LOSES,
    MONEY,
    OVERALL,
    Outcome,
    blocks,
    money_of,
    outcomes,
    part,
    reason,
)  # fmt: skip
from tunetrade.report.formats import DASH, percent, rounded, signed, significant
from tunetrade.report.load import Json, Study, number
from tunetrade.report.markup import Item, grid, note, number_item

FINE = 0.0005
"""Shares below this, interval and all, are written with more decimals: a difference that is shown is not 0.00 %."""
CHIP = {BEATS: "beats", LOSES: "loses"}
READING = (
    "Each cell: the estimate, its 95 % interval, the verdict and its p-value after Holm's correction (of the better or"
    " the worse side, whichever is nearer). Skill is 1 less the ratio of the errors; more is better in every column."
    " BEATS and LOSES are verdicts at 5 %; NOT SHOWN means that the data cannot tell, not that methods are equal."
    " Each direction is tested at 5 %, one-sided, while the interval is two-sided at 95 %: a verdict can stand beside"
    " an interval that contains 0 (its own would be one of 90 %), and of methods without any edge, each tested alone,"
    " 10 % get one verdict or the other."
)
POWER = (
    "More needed: observations beyond those of now at which a true difference of the estimated size would be found with"
    " 80 % probability, were it the only method tested, one-sided. Where nothing is shown the estimate is mostly noise;"
    " were the difference zero, no number would."
)


def verdict_table(study: Study, evidence: Json, series: str, name: Callable[[str], str]) -> str:
    """All comparisons of every method on a series or OVERALL; the reason where there is none."""
    found = outcomes(evidence, series)
    keys = [each for each in (*ERRORS, *MONEY) if any(each.key in of for of in found.values())]
    if not keys:
        at = ("overall", "errors") if series == OVERALL else ("series", series, "errors")
        why = reason(evidence, *at)
        return note(f"No test: {why}.") if why else ""
    heads: list[str | Item] = ["Method"]
    heads += [Item(each.label, small=_against(found, each.key), title=each.meaning) for each in keys]
    heads.append(Item("More needed", small="CRPS", title=POWER))
    money = _writer(series)
    rows = [
        (
            name(method),
            [
                *(_outcome(found[method].get(each.key), percent if each in ERRORS else money) for each in keys),
                _more(found[method].get("density"), series),
            ],
        )
        for method in study.methods
        if found.get(method)
    ]
    return grid(f"Verdicts, {_level(series)}", heads, rows) + note(READING) + note(POWER)


def comparison_items(
    evidence: Json, series: Sequence[str], method: str
) -> tuple[list[str | Item], list[tuple[str, list[Item]]]]:
    """Heads and rows of one method's outcomes: a row a series, and all together where there are several."""
    levels = [*series, *([OVERALL] if len(series) > 1 else [])]
    found = {level: outcomes(evidence, level).get(method, {}) for level in levels}
    keys = [each for each in (*ERRORS, *MONEY) if any(each.key in of for of in found.values())]
    heads: list[str | Item] = ["Series"]
    heads += [Item(each.label, small=_against(found, each.key), title=each.meaning) for each in keys]
    heads.append(Item("More needed", small="CRPS", title=POWER))
    rows = []
    for level, of in found.items():
        if of:
            write = _writer(level)
            items = [_outcome(of.get(each.key), percent if each in ERRORS else write) for each in keys]
            rows.append((escape(level), [*items, _more(of.get("density"), level)]))
    return heads, rows


def model_set_table(study: Study, evidence: Json, series: str, name: Callable[[str], str]) -> str:
    """P-values of the model confidence sets, and the test that nobody beats the reference."""
    errors, _ = blocks(evidence, series)
    sets = {word: part(errors, "model_sets", key) for key, word in (("density", "CRPS"), ("point", "MSE"))}
    kept = {word: part(block, "confidence_set", "p_values") for word, block in sets.items()}
    inside = {word: part(block, "confidence_set").get("included") or () for word, block in sets.items()}
    rows = [
        (name(method), [_membership(number(kept[word], method), method in inside[word]) for word in kept])
        for method in study.methods
        if any(method in values for values in kept.values())
    ]
    said = []
    for word, block in sets.items():
        tested = part(block, "superior_ability")
        if tested:
            said.append(
                f"that no method beats {tested.get('reference')} by {word} has p {_p(number(tested, 'p_value'))}"
                f" (best: {tested.get('best') or 'none'})"
            )
    text = "p-value of each model: below 0.05 it is out of the set that may be the best (Hansen, Lunde and Nason)."
    if said:
        text += f" Superior ability (Hansen's SPA) over all methods at once: {'; '.join(said)}."
    return grid(f"Model confidence set, {_level(series)}", ["Method", *kept], rows, "sortable narrow") + note(text)


def money_table(study: Study, evidence: Json, series: str, name: Callable[[str], str]) -> str:
    """Net profit, Sharpe ratio and what doubts it: standard error, chances, trials, break-even spread, seeds."""
    money = part(evidence, "series", series, "money", "methods")
    if not money:
        why = reason(evidence, "series", series, "money")
        return note(f"No interval of money: {why}.") if why else ""
    deflated = part(evidence, "series", series, "trials", "deflated")
    currency = str(part(evidence, "series", series, "money").get("currency") or "")
    heads: list[str | Item] = [
        "Method",
        Item("Net profit", small=currency, title="Of daily closes, mean over seeds, with its 95 % interval."),
        Item("Sharpe", small="a year", title="Mean over seeds, with its 95 % interval, which allows for dependence;"
             " of several seeds the least and the largest below it."),
        Item("Probabilistic", small="Sharpe > 0", title="Probabilistic Sharpe ratio, least over seeds: 1 less the"
             " one-sided p-value of a true ratio of 0, with allowance for returns that depend on each other. It is not"
             " the probability that the true ratio lies above 0."),
        Item("Deflated", small="after all trials", title="The same against what the best of all trials in the ledger"
             " would show without skill, least over seeds. 95 % or more is a finding."),
        Item("Max drawdown", small="%", title="Of daily closes, with its 95 % interval."),
        Item("Profit factor", title="With its interval from 10 trades on."),
        Item("Break-even", small="× spread paid", title="Spread at which the trades as they are would end at zero."
             " Negative: not even a spread of zero helps. Below 1: the spread paid was too dear. From 10 trades on."),
        Item("Seeds", small="least to largest", title="Net profit of each training seed."),
    ]  # fmt: skip
    rows = []
    for method in study.methods:
        block = part(money, method)
        if block:
            rows.append((name(method), _money_row(evidence, series, method, block, part(deflated, method))))
    return grid(f"Money with intervals, {series}", heads, rows)


def trials_note(evidence: Json, series: str) -> str:
    """What the ledger counts, and the probability of overfitting."""
    block = part(evidence, "series", series, "trials")
    count = number(block, "trials")
    if not math.isfinite(count):
        return ""
    spread, luck = (significant(number(block, key), 2) for key in ("deviation_of_sharpe", "expected_of_luck"))
    text = f"Trials in the ledger on {series}: {int(count):,}, of which {block.get('failed') or 0:,} failed. "
    why = reason(block, "deflated")
    if why:
        text += f"Sharpe ratios are not deflated: {why}; some were lost, and fewer would make them look better."
    else:
        text += (
            f"Their Sharpe ratios differ by a standard deviation of {spread} a year, so that luck alone would show"
            f" {luck} as the best."
        )
    over = part(block, "overfitting")
    chance = number(over, "probability")
    if math.isfinite(chance):
        text += (
            f" Probability of backtest overfitting {percent(chance, 0)} over {int(number(over, 'trials'))} trials: how"
            " often the best of one half of the days falls below the middle in the other."
        )
    elif reason(block, "overfitting"):
        text += f" No probability of overfitting: {reason(block, 'overfitting')}."
    return note(text)


def _money_row(evidence: Json, series: str, method: str, block: Json, deflated: Json) -> list[Item]:
    net = money_of(evidence, series, method, "net_profit")
    seeds = part(block, "sharpe", "by_seed")
    every = [part(seeds, seed) for seed in seeds]
    ratios = _finite([number(each, "value") for each in every])
    safe = _finite([number(each, "probabilistic_dependent") for each in every])
    chance = min(safe) if safe else math.nan
    sharpe = money_of(evidence, series, method, "sharpe")
    range_ = f"\n{_two(min(ratios))} to {_two(max(ratios))}" if len(ratios) > 1 else ""
    seen = [each for each in deflated.values() if isinstance(each, Mapping)]
    chances = [number(each, key) for each in seen for key in ("probability", "probability_dependent")]
    finite = _finite(chances)
    shown = bool(seen) and all(each.get("significant") for each in seen)
    low = min(finite) if finite else math.nan
    fall = money_of(evidence, series, method, "max_drawdown")
    factor = money_of(evidence, series, method, "profit_factor")
    even = part(block, "break_even")
    times = number(even, "times")
    spread = part(block, "seeds", "net_profit")
    least, largest = number(spread, "least"), number(spread, "largest")
    several = len(part(spread, "by_seed")) > 1
    points = number(even, "points")
    return [
        number_item(_money(net[0]), net[0], _ends(net, _money)),
        number_item(_two(sharpe[0]), sharpe[0], (_ends(sharpe, _two) + range_).strip()),
        number_item(percent(chance, 0), chance),
        number_item(percent(low, 0), low, classes="beats" if shown else ""),
        number_item(percent(fall[0], 1), fall[0], _ends(fall, lambda value: percent(value, 1))),
        number_item(_two(factor[0]), factor[0], _ends(factor, _two)),
        Item(DASH, small=why)
        if (why := reason(block, "break_even"))
        else number_item(_two(times), times, f"{significant(points)} points" if math.isfinite(points) else ""),
        number_item(f"{_money(least)} to {_money(largest)}", largest if several else math.nan),
    ]


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _outcome(outcome: Outcome | None, write: Callable[[float], str]) -> Item:
    if outcome is None:
        return Item(DASH)
    chance = outcome.p_holm if outcome.value >= 0 else outcome.worse_holm
    three = (outcome.value, outcome.low, outcome.high)
    write = _finer if write is percent and max(map(abs, three)) < FINE else write
    ends = _ends(three, lambda value: write(value).removesuffix(" %"))
    said = (outcome.verdict or "no test") + (f" p {_p(chance)}" if math.isfinite(chance) else "")
    return number_item(
        write(outcome.value), outcome.value, f"{ends}\n{said}".strip(), CHIP.get(outcome.verdict, "open")
    )


def _finer(value: float) -> str:
    """A share too small for two decimals."""
    return percent(value, 4)


def _more(outcome: Outcome | None, series: str) -> Item:
    if outcome is None or not math.isfinite(outcome.more):
        return Item(DASH)
    unit = "days" if series == OVERALL else "origins"
    if outcome.verdict in CHIP:
        return Item("decided", 0.0)
    text = "none" if outcome.more <= 0 else rounded(outcome.more)
    return Item(text, outcome.more, f"{unit} beyond\n{outcome.observations:,}")


def _membership(chance: float, inside: bool) -> Item:
    return number_item(_p(chance), chance, "in the set" if inside else "out", "" if inside else "loses")


def _writer(series: str) -> Callable[[float], str]:
    """Money of a series in its currency; over series, as shares of the deposit."""
    return percent if series == OVERALL else _money


def _against(found: Mapping[str, Mapping[str, Outcome]], key: str) -> str:
    names = dict.fromkeys(of[key].reference for of in found.values() if key in of)
    return f"against {', '.join(filter(None, names))}"


def _level(series: str) -> str:
    return "all series" if series == OVERALL else series


def _p(value: float) -> str:
    """A p-value as it is read: three decimals, or that it is less.

    >>> _p(0.0412), _p(0.0001), _p(1.0)
    ('0.041', '< 0.001', '1.000')
    """
    return DASH if not math.isfinite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _ends(found: Sequence[float], write: Callable[[float], str]) -> str:
    return f"[{write(found[1])}, {write(found[2])}]" if math.isfinite(found[1]) and math.isfinite(found[2]) else ""


def _money(value: float) -> str:
    return signed(f"{value:,.0f}") if abs(value) >= 100 or value == 0 else signed(f"{value:,.2f}")


def _two(value: float) -> str:
    return signed(f"{value:.2f}")
