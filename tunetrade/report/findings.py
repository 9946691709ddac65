"""What the numbers do and do not show, in sentences computed from them.

Nothing here knows a conclusion beforehand: counts, extremes and every turn of phrase follow from the figures, and what
one test period cannot show is said beside what it seems to show.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tunetrade.report.facts import base_cutoff, period
from tunetrade.report.formats import percent, significant, small_percent
from tunetrade.report.leaderboard import Row, margin, references, series_rows
from tunetrade.report.load import BUY_AND_HOLD, RANDOM_WALK, Study


@dataclass(frozen=True)
class Pair:
    """A method on a series and a figure of it: less than 0 is better than what it is compared with.

    Values of at most `noise`, either way, are not told from sampling noise.
    """

    method: str
    series: str
    value: float
    noise: float = 0.0

    @property
    def name(self) -> str:
        """How a sentence calls it."""
        return f"{self.method} on {self.series}"


def findings(study: Study) -> list[str]:
    """Two sentences, on errors and on money, each only where there are figures for it."""
    rows = {series: series_rows(study, series) for series in study.series}
    return [sentence for sentence in (_errors(study, rows), _money(study, rows)) if sentence]


def cautions(study: Study) -> list[str]:
    """Facts that limit every figure of this study: failures, missing parts, unequal origins, what the base has seen."""
    found = []
    failed = [cell for cell in study.cells if not cell.done]
    if failed:
        found.append(
            f"{len(failed)} of {len(study.cells)} cells did not finish and {_are(len(failed))}"
            " missing from the figures:"
            f" {', '.join(f'{cell.method} on {cell.series} (seed {cell.seed})' for cell in failed)}."
        )
    for series in study.series:
        counts = {
            cell.method: cell.forecast.get("origins") for cell in study.of(series) if cell.forecast.get("origins")
        }
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{method} {count}" for method, count in sorted(counts.items()))
            found.append(
                f"On {series} the methods were not measured at the same origins ({listed}): their"
                " errors are not comparable."
            )
        if not math.isfinite(references(study, series).mse):
            found.append(f"{series} has no finished random walk, so its errors have no denominator.")
    cutoff = base_cutoff(study)
    seen = [series for series in study.series if _has_seen(study, series, cutoff)]
    if seen:
        found.append(
            f"The base model was trained on data up to {cutoff or 'a date not stated'}, and validation or test of"
            f" {', '.join(seen)} reach back before that: the GPT-2 rows may have seen what they are judged on."
        )
    return found


def _has_seen(study: Study, series: str, cutoff: str) -> bool:
    """Whether the evaluation says so itself, or its first origin lies before the end of the base's data."""
    start = period(study, series)[0]
    admitted = any(cell.forecast.get("base_has_seen_it") for cell in study.of(series) if cell.kind == "method")
    return admitted or bool(cutoff and start and start <= cutoff)


def _errors(study: Study, rows: Mapping[str, Sequence[Row]]) -> str:
    mse, crps = (_ratios(study, rows, key) for key in ("mse_ratio", "crps_ratio"))
    if not mse and not crps:
        return ""
    count = max(len(mse), len(crps))
    density = " or ".join(sorted({_density_name(references(study, series).density) for series in rows}))
    parts = []
    if mse:
        parts.append(_beaten(mse, "a lower mean squared error than the random walk"))
    if crps:
        parts.append(_beaten(crps, f"a lower CRPS than {density}"))
    subject = (
        f"Of the {count} pairs of a GPT-2 method and a series, "
        if count > 1
        else "Of the one pair of a GPT-2 method and a series, "
    )
    return f"{subject}{', and '.join(parts)}; {_no_significance(study)}."


def _money(study: Study, rows: Mapping[str, Sequence[Row]]) -> str:
    net = _pairs(rows, lambda row, _: -row.values.get("net_profit", math.nan))
    if not net:
        return ""
    against_walk = _pairs(rows, lambda row, others: _profit(others, RANDOM_WALK) - _profit_of(row))
    against_hold = _pairs(rows, lambda row, others: _profit(others, BUY_AND_HOLD) - _profit_of(row))
    parts = [f"{_count(_better(net), len(net))} {_verb(_better(net), 'ends', 'end')} with a profit"]
    if against_walk:
        count = _better(against_walk)
        verb = _verb(count, "earns", "earn")
        parts.append(
            f"{_count(count, len(against_walk))} {verb} more than the random walk through the same signal{_idle(rows)}"
        )
    if against_hold:
        parts.append(f"{_count(_better(against_hold), len(against_hold))} more than buy-and-hold")
    # By return, not by money: series may be traded in different currencies.
    returns = _pairs(rows, lambda row, _: -row.values.get("total_return", math.nan))
    top = min(returns or net, key=lambda pair: (pair.value, pair.name))
    row = next(row for row in rows[top.series] if row.method == top.method)
    subject = f"Net of costs, of {len(net)} {'pairs' if len(net) > 1 else 'pair'}"
    return (
        f"{subject} {_listed(parts)}; the best, {top.name}, {_result(study, top.series, row)}; {_illustrative(study)}."
    )


def _idle(rows: Mapping[str, Sequence[Row]]) -> str:
    """That the random walk never traded, where it did not: nothing was earned there that could be beaten."""
    walks = {series: row for series, of in rows.items() for row in of if row.method == RANDOM_WALK and row.values}
    idle = [series for series, row in walks.items() if row.values.get("trades") == 0]
    if not idle:
        return ""
    where = "" if len(idle) == len(walks) else f"on {_listed(idle)} "
    return f" ({where}the random walk never trades under this signal, so this is a test against no profit)"


def _pairs(rows: Mapping[str, Sequence[Row]], figure: Callable[[Row, Sequence[Row]], float]) -> list[Pair]:
    """The figure of every (method, series), baselines and benchmarks left out; pairs without it are dropped."""
    pairs = [
        Pair(row.method, series, figure(row, others))
        for series, others in rows.items()
        for row in others
        if row.kind == "method"
    ]
    return [pair for pair in pairs if math.isfinite(pair.value)]


def _ratios(study: Study, rows: Mapping[str, Sequence[Row]], key: str) -> list[Pair]:
    """How far a ratio of every pair lies from 1, with the sampling noise of both sides."""
    pairs = _pairs(rows, lambda row, _: row.values.get(key, math.nan) - 1)
    return [replace(pair, noise=_noise(study, pair, rows[pair.series], key)) for pair in pairs]


def _noise(study: Study, pair: Pair, rows: Sequence[Row], key: str) -> float:
    """How far the ratio of a pair must lie from 1 to be told from the sampling noise of both sides."""
    reference = RANDOM_WALK if key == "mse_ratio" else references(study, pair.series).density
    one, other = (next(row for row in rows if row.method == method) for method in (pair.method, reference))
    return margin(one, other, key)


def _beaten(pairs: Sequence[Pair], what: str) -> str:
    """How many pairs are below the reference, how many of them by more than their noise, and by how much at most.

    Where none is, how near the nearest comes. A difference of sampled figures is given with its noise.
    """
    better = _better(pairs)
    unclear = sum(abs(pair.value) <= pair.noise for pair in pairs if pair.noise)
    told = [pair for pair in pairs if not pair.noise or abs(pair.value) > pair.noise]
    lower = sum(pair.value < 0 for pair in pairs)
    text = f"{_count(lower, len(pairs))} {_verb(lower, 'has', 'have')} {what}"
    if lower and lower > better:
        text += f", {better or 'none'} {'of them ' if lower > 1 else ''}beyond sampling noise"
    if told and (better or not unclear):
        top = min(told, key=lambda pair: (pair.value, pair.name))
        noise = f", give or take {small_percent(top.noise)} of sampling noise" if top.noise else ""
        if better:
            text += f" (by at most {small_percent(-top.value)}{noise}: {top.name})"
        else:
            distance = "the nearest equals it" if top.value == 0 else f"the nearest is {small_percent(top.value)} above"
            text += f" ({distance}{noise}: {top.name})"
    if unclear:
        most = max(pair.noise for pair in pairs if abs(pair.value) <= pair.noise)
        size = f", up to {small_percent(most)}" if math.isfinite(most) else ", not known of all"
        text += (
            f"; {unclear} of {len(pairs)} {_verb(unclear, 'lies', 'lie')} within sampling noise of"
            f" it, either way (two Monte Carlo errors of the difference{size})"
        )
    return text


def _no_significance(study: Study) -> str:
    """Why a difference above is not yet a finding."""
    origins = sorted({int(cell.forecast["origins"]) for cell in study.of() if cell.forecast.get("origins")})
    horizons = sorted({int(cell.forecast["horizon"]) for cell in study.of() if cell.forecast.get("horizon")})
    count = (
        f"{origins[0]:,}"
        if len(origins) == 1
        else f"{origins[0]:,} to {origins[-1]:,}"
        if origins
        else "an unknown number of"
    )
    overlap = " whose windows overlap" if horizons and horizons[-1] > 1 else ""
    seeds = {cell.seed for cell in study.of() if cell.kind == "method"}
    one_seed = " and one seed" if len(seeds) == 1 else ""
    return (
        f"these are estimates from one test period of {count} origins a series{overlap}{one_seed}: only a verdict says"
        " that a difference is more than chance"
    )


def _illustrative(study: Study) -> str:
    """Whether the money could have been earned at all."""
    traded = [series for series in study.series if any(cell.figures for cell in study.of(series))]
    closes_only = [s for s in traded if any(cell.backtest.get("illustrative") for cell in study.of(s))]
    if not closes_only:
        return "one history gives one path of trades, and is no evidence of profit to come"
    which = "all of it" if len(closes_only) == len(traded) else f"the money on {', '.join(closes_only)}"
    return (
        f"{which} is illustrative, since there are only closes (an order fills at the next fixing,"
        " with an assumed spread),"
        " and one path of trades is no evidence of profit to come"
    )


def _result(study: Study, series: str, row: Row) -> str:
    """Net profit of a row as money and as a share of the deposit, and what costs took where they took all."""
    currency = next((str(cell.backtest["currency"]) for cell in study.of(series) if cell.backtest.get("currency")), "")
    net, before = row.values["net_profit"], row.values.get("profit_before_costs", math.nan)
    verb = "gains" if net > 0 else "loses" if net < 0 else "ends where it began:"
    share = f" ({percent(abs(row.values['total_return']))})" if "total_return" in row.values else ""
    text = f"{verb} {significant(abs(net))} {currency}".rstrip() + share
    if math.isfinite(before) and net <= 0 < before:
        text += f" after {significant(before)} of gains before costs"
    return text + ("" if row.values.get("trades", 1) else ", without a trade")


def _profit(rows: Sequence[Row], method: str) -> float:
    return next((_profit_of(row) for row in rows if row.method == method), math.nan)


def _profit_of(row: Row) -> float:
    return row.values.get("net_profit", math.nan)


def _better(pairs: Sequence[Pair]) -> int:
    return sum(pair.value < -pair.noise for pair in pairs)


def _count(part: int, whole: int) -> str:
    return "none" if part == 0 else "all" if part == whole > 1 else str(part)


def _verb(count: int, one: str, many: str) -> str:
    return one if count in (0, 1) else many


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _density_name(method: str) -> str:
    return {"ewma-t": "EWMA-t", "seasonal-ewma-t": "seasonal EWMA-t"}.get(method, method)
