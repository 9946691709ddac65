"""All series together, day by day: skill, win rates, tests and rank agreement that count what series share.

Series of one market move together, so tests on each are not independent and must not be added up. Here every loss is
put on the UTC day of its origin, and whole days are drawn or averaged: what happens to two series on one day stays
together. Every series weighs the same, however many origins it has.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forecasting.bootstrap import block_length, indices, means, weights_within
from forecasting.bootstrap_t import project
from forecasting.long_run import LEAST, basis, resolution
from forecasting.significance import mean_test, without_rounding
from forecasting.widening import widened
from strategies.agreement import chance_of, kendall
from tunetrade.evidence.errors import MEASURES, References, pairs, sets_of
from tunetrade.evidence.figures import LEVEL, SIZE, Json, as_test, figure, verdicts
from tunetrade.evidence.losses import Losses
from tunetrade.evidence.money import Accounts, money_block, money_test, sum_of_days

FEWEST_DAYS = 30
FEWEST_RANKED = 4


@dataclass(frozen=True)
class Daily:
    """A series by day: days [D]; origins [D], complete ones on each; losses: sums [D, M] by name; overlap in days."""

    days: np.ndarray
    origins: np.ndarray
    losses: dict[str, np.ndarray]
    methods: tuple[str, ...]
    references: References
    overlap: int


def daily_losses(losses: Losses, references: References) -> Daily:
    """Mean loss over the steps of each origin with all truths known, summed by UTC day of the origin."""
    complete = losses.complete
    stamps = losses.cutoffs[complete].astype("datetime64[D]")
    days, at, origins = np.unique(stamps, return_inverse=True, return_counts=True)
    sums = {}
    for name in (*MEASURES.values(), "clark_west"):
        table = losses.values[name][:, complete].mean(axis=2, dtype=np.float64).T
        sums[name] = np.zeros((len(days), table.shape[1]))
        np.add.at(sums[name], at, table)
    overlap = max(1, math.ceil(losses.horizon * len(days) / max(1, len(stamps))))
    return Daily(days, origins, sums, losses.methods, references, overlap)


@dataclass(frozen=True)
class Panel:
    """Series on the days [D] of any: for each its row of every day, or -1."""

    days: np.ndarray
    series: dict[str, Daily]
    rows: dict[str, np.ndarray]
    methods: tuple[str, ...]

    @property
    def overlap(self) -> int:
        """Longest overlap of forecasts, in days."""
        return max(each.overlap for each in self.series.values())

    def variances(self, table: np.ndarray) -> np.ndarray:
        """Mean squares [D] of columns [D, M] about their means, in units of each, on days that the same series have."""
        present = np.stack([rows >= 0 for rows in self.rows.values()])
        _, group = np.unique(present, axis=1, return_inverse=True)
        squares = (table - table.mean(axis=0)) ** 2
        usual = squares.mean(axis=0)
        each = (squares[:, usual > 0] / usual[usual > 0]).mean(axis=1) if (usual > 0).any() else np.ones(len(table))
        return np.asarray((np.bincount(group, each) / np.bincount(group))[group])

    def has_reference(self, method: str, name: str) -> bool:
        """Whether a comparison is with this method on any series."""
        return any(method == _reference(each, name) for each in self.series.values())


def panel_of(series: Mapping[str, Daily]) -> Panel:
    """The panel of all series, of the methods that all of them have."""
    days = np.unique(np.concatenate([each.days for each in series.values()]))
    rows = {name: np.where(np.isin(days, each.days), np.searchsorted(each.days, days), -1)
            for name, each in series.items()}  # fmt: skip
    first = next(iter(series.values())).methods
    methods = tuple(name for name in first if all(name in each.methods for each in series.values()))
    return Panel(days, dict(series), rows, methods)


def stretches(days: np.ndarray, parts: Sequence[np.ndarray]) -> list[int]:
    """Lengths of the stretches of all days [D] between which a part's days begin or end.

    Days are resampled within them: else a series that ends early might have no day at all in a replicate.
    """
    ends = [end for part in parts for end in (part[0], part[-1] + 1)]
    edges = {0, len(days), *np.searchsorted(days, ends).tolist()}
    return [int(length) for length in np.diff(sorted(edges))]


def spread_out(panel: Panel, series: str, values: np.ndarray) -> np.ndarray:
    """Values [d, ...] of a series' days on all days of the panel, 0 where it has none."""
    rows = panel.rows[series]
    return np.where((rows >= 0).reshape(-1, *[1] * (values.ndim - 1)), values[np.maximum(rows, 0)], 0.0)


def overall(panel: Panel, groups: Mapping[str, str], replications: int, seed: int) -> Json:
    """Skill, win rates, tests and model sets over all series."""
    count = len(panel.days)
    if count < FEWEST_DAYS:
        return {"reason": f"{count} days with origins are too few; at least {FEWEST_DAYS} are needed"}
    added = {name: contributions(panel, loss, against) for name, loss, against in _pairs(panel)}
    lengths = [float(block_length(table).max()) for table in added.values()]
    block = max(float(panel.overlap), *lengths) if lengths else float(panel.overlap)
    within = stretches(panel.days, [each.days for each in panel.series.values()])
    drawn = weights_within(within, block, replications, seed)
    found: Json = {name: {"skill": {}, "win_rate": {}, "tests": {}} for name in panel.methods}
    for name, loss, _ in _pairs(panel):
        for method, part in _skills(panel, name, loss, drawn).items():
            found[method]["skill"][name], found[method]["win_rate"][name] = part
    for name, table in added.items():
        variances = panel.variances(table)
        tests = {
            method: as_test(mean_test(table[:, column], panel.overlap, variances), _names(panel, name), count)
            for column, method in enumerate(panel.methods)
            if not panel.has_reference(method, name)
        }
        for group in dict.fromkeys(groups.values()):
            verdicts({method: each for method, each in tests.items() if groups[method] == group})
        for method, each in tests.items():
            found[method]["tests"][name] = each
    return {
        "series": list(panel.series),
        "days": count,
        "overlap_days": panel.overlap,
        "block_length": block,
        "left_out": sorted({name for each in panel.series.values() for name in each.methods} - set(panel.methods)),
        "methods": found,
        "model_sets": {name: _sets(panel, name, loss, block, replications, seed) for name, loss in MEASURES.items()},
    }


def _skills(panel: Panel, name: str, loss: str, drawn: np.ndarray) -> dict[str, tuple[Json, Json]]:
    """Skill and win rate of each method by one comparison; not of a method that is the reference of a series."""
    values, replicates = _log_ratios(panel, name, loss, drawn)
    mean, influence = values.mean(axis=0), _influence(panel, name, loss)
    variances = panel.variances(influence)
    tests = [mean_test(column, panel.overlap, variances) for column in influence.T]
    # One that never differs from its reference has no error, and needs none.
    errors, degrees = np.array(
        [
            (each.error, each.degrees) if column.any() else (0.0, LEAST)
            for each, column in zip(tests, influence.T, strict=True)
        ]
    ).T
    spread = widened(mean, replicates.mean(axis=0), errors, degrees, LEVEL)
    found = {}
    for column, method in enumerate(panel.methods):
        if not panel.has_reference(method, name):
            won = values[:, column] < 0
            rate = figure(float(won.mean()), (replicates[:, :, column] < 0).mean(axis=0))
            found[method] = (
                figure(1 - math.exp(mean[column]), 1 - np.exp(spread[:, column])),
                rate | {"wins": int(won.sum()), "series": len(values)},
            )
    return found


def _pairs(panel: Panel) -> list[tuple[str, str, str]]:
    """Name, loss and kind of reference of every comparison that all series allow."""
    kept = [
        {name for name, _, _ in pairs(each.references)} | ({"clark_west"} if each.references.point else set())
        for each in panel.series.values()
    ]
    all_of = set.intersection(*kept)
    wanted = [("point", "squared", "point"), ("density", "crps", "density"), ("point_untuned", "squared", "untuned"),
              ("density_untuned", "crps", "untuned")]  # fmt: skip
    return [each for each in wanted if each[0] in all_of]


def _reference(each: Daily, name: str) -> str:
    return each.references.untuned if name.endswith("untuned") else str(getattr(each.references, name))


def _names(panel: Panel, name: str) -> str:
    return ", ".join(dict.fromkeys(_reference(each, name) for each in panel.series.values()))


def contributions(panel: Panel, loss: str, against: str) -> np.ndarray:
    """What each day adds [D, M] to the mean over series of the mean loss difference, relative to the reference's loss.

    Scaled so that the mean over days is that mean over series.
    """
    parts = {}
    for name, each in panel.series.items():
        columns = [each.methods.index(method) for method in panel.methods]
        base = each.methods.index(getattr(each.references, against))
        table = each.losses[loss]
        gaps = without_rounding(table[:, columns] - table[:, [base]], table[:, [base]])
        parts[name] = gaps / table[:, base].mean()
    return _mean_of_series(panel, parts)


def _influence(panel: Panel, name: str, loss: str) -> np.ndarray:
    """What each day adds [D, M] to the mean over series of the log of the ratio of losses."""
    parts = {}
    for series, each in panel.series.items():
        columns = [each.methods.index(method) for method in panel.methods]
        base = each.methods.index(_reference(each, name))
        relative = each.losses[loss] / each.losses[loss].mean(axis=0)
        parts[series] = relative[:, columns] - relative[:, [base]]
    return _mean_of_series(panel, parts)


def _mean_of_series(panel: Panel, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Values [d, M] of each series on its days as values [D, M] on all days, whose mean is the mean over series.

    Each is centred on its own days: a series that ends early is not at zero afterwards, it is not there. Centring
    takes a share of what cosines of all days see of it; it is given back, or the long-run variance would be too small.
    """
    days, count = len(panel.days), len(parts)
    mean = np.sum([values.mean(axis=0) for values in parts.values()], axis=0) / count
    centred = {
        name: spread_out(panel, name, values - values.mean(axis=0)) * (days / len(values) / count)
        for name, values in parts.items()
    }
    total = np.sum(list(centred.values()), axis=0)
    used, _ = resolution(days, panel.overlap, panel.variances(total))
    seen = {name: _share_left(basis(days, max(1, used))[panel.rows[name] >= 0]) for name in parts}
    return np.asarray(mean + np.sum([centred[name] / math.sqrt(seen[name]) for name in parts], axis=0))


def _share_left(cosine: np.ndarray) -> float:
    """Share of a series' variance that cosines [d, B], those of all days on its own, see once it is centred there."""
    return 1 - len(cosine) * float((cosine.mean(axis=0) ** 2).sum() / (cosine**2).sum())


def _log_ratios(panel: Panel, name: str, loss: str, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log of mean loss over the reference's: [S, M], and replicates [S, R, M]."""
    values, replicates = [], []
    for series, each in panel.series.items():
        columns = [each.methods.index(method) for method in panel.methods]
        base = each.methods.index(_reference(each, name))
        table = spread_out(panel, series, each.losses[loss])
        own, resampled = table.mean(axis=0), means(drawn, table)
        values.append(np.log(own[columns] / own[base]))
        with np.errstate(invalid="ignore", divide="ignore"):
            replicates.append(np.log(resampled[:, columns] / resampled[:, [base]]))
    return np.array(values), np.array(replicates)


def _sets(panel: Panel, name: str, loss: str, block: float, replications: int, seed: int) -> Json:
    """Model sets of losses relative to the reference's, averaged over series by day."""
    if any(not getattr(each.references, name) for each in panel.series.values()):
        return {"reason": "a series lacks the reference"}
    shared = dict.fromkeys(getattr(each.references, name) for each in panel.series.values())
    parts = {}
    for series, each in panel.series.items():
        columns = [each.methods.index(method) for method in panel.methods]
        table = each.losses[loss]
        parts[series] = table[:, columns] / table[:, each.methods.index(getattr(each.references, name))].mean()
    total = _mean_of_series(panel, parts)
    reference = next(iter(shared)) if len(shared) == 1 else ""
    variances = panel.variances(total - total.mean(axis=1, keepdims=True))
    return sets_of(total, panel.methods, reference, panel.overlap, block, replications, seed, variances)


def overall_money(accounts: Mapping[str, Accounts], groups: Mapping[str, str], untuned: str, walk: str,
                  replications: int, seed: int) -> Json:  # fmt: skip
    """Daily gains as shares of the deposit, averaged over series: the difference to the references, with verdicts."""
    days = np.unique(np.concatenate([each.days for each in accounts.values()]))
    if len(days) < FEWEST_DAYS:
        return {"reason": f"{len(days)} days are too few; at least {FEWEST_DAYS} are needed"}
    names = _common([each.methods for each in accounts.values()])
    if not names:
        return {"reason": "no method traded every series"}
    table = np.zeros((len(days), len(names)))
    for account in accounts.values():
        at = np.searchsorted(days, account.days)
        table[at] += np.column_stack([account.gains(name) for name in names]) / len(accounts)
    block = money_block(table)
    found_of = project(table, indices(np.random.default_rng(seed), len(days), block, replications))
    replicates = table.mean(axis=0) + found_of.means
    found: Json = {
        name: {
            "total_return": sum_of_days(table[:, column], replicates[:, column]),
            "tests": {},
        }
        for column, name in enumerate(names)
    }
    for key, reference in (("random_walk", walk), ("untuned", untuned)):
        if reference not in names:
            continue
        base = names.index(reference)
        tests = {
            name: money_test(found_of, column, base, reference, 1.0)
            for column, name in enumerate(names)
            if name != reference
        }
        for group in dict.fromkeys(groups.values()):
            verdicts({name: each for name, each in tests.items() if groups[name] == group})
        for name, each in tests.items():
            found[name]["tests"][key] = each
    return {"days": len(days), "block_length": block, "methods": found}


def _common(lists: Sequence[Sequence[str]]) -> list[str]:
    return [name for name in lists[0] if all(name in other for other in lists)]


def rank_agreement(series: Mapping[str, Daily], accounts: Mapping[str, Accounts], replications: int, seed: int) -> Json:
    """Kendall's tau between lower error and more money over methods, mean over series, for both losses."""
    shared = [name for name in series if name in accounts]
    names = _common([[*series[name].methods] for name in shared] + [accounts[name].methods for name in shared]) \
        if shared else []  # fmt: skip
    if len(names) < FEWEST_RANKED:
        return {"reason": f"{len(names)} methods have both errors and money; at least {FEWEST_RANKED} are needed"}
    return {
        measure: _agreement(series, accounts, shared, names, loss, replications, seed)
        for measure, loss in MEASURES.items()
    }


def _agreement(
    series: Mapping[str, Daily], accounts: Mapping[str, Accounts], shared: Sequence[str], names: Sequence[str],
    loss: str, replications: int, seed: int,
) -> Json:  # fmt: skip
    days = np.unique(np.concatenate([accounts[name].days for name in shared] + [series[name].days for name in shared]))
    errors, money = [], []
    for name in shared:
        each, account = series[name], accounts[name]
        columns = [each.methods.index(method) for method in names]
        table = np.zeros((len(days), len(names)))
        table[np.searchsorted(days, each.days)] = each.losses[loss][:, columns]
        errors.append(table)
        table = np.zeros((len(days), len(names)))
        table[np.searchsorted(days, account.days)] = np.column_stack([account.gains(method) for method in names])
        money.append(table)
    overlap = max(series[name].overlap for name in shared)
    block = float(max(overlap, *(block_length(table - table.mean(axis=1, keepdims=True)).max() for table in money)))
    own_days = [part for name in shared for part in (series[name].days, accounts[name].days)]
    drawn = weights_within(stretches(days, own_days), block, replications, seed)
    taus = [kendall(-means(drawn, e), means(drawn, m)) for e, m in zip(errors, money, strict=True)]
    mean_errors = np.array([table.mean(axis=0) for table in errors])
    mean_money = np.array([table.mean(axis=0) for table in money])
    own = [float(kendall(-e[None], m[None])[0]) for e, m in zip(mean_errors, mean_money, strict=True)]
    kept = [row for row, tau in enumerate(own) if math.isfinite(tau)]
    if not kept:
        return {"reason": "all errors or all profits are equal"}
    traded = [accounts[shared[row]].days for row in kept]
    halves = [int(np.searchsorted(days, each[len(each) // 2])) for each in traded]
    chance = chance_of(mean_errors[kept], mean_money[kept], seed)
    tau = figure(float(np.mean([own[row] for row in kept])), np.mean([taus[row] for row in kept], axis=0))
    return tau | {
        "shown": bool(tau["low"] > 0 and chance < SIZE),
        "p_value": chance,
        "across_halves": _across([errors[row] for row in kept], [money[row] for row in kept], halves),
        "by_series": dict(zip(shared, own, strict=True)),
        "methods": list(names),
        "accounts": _distinct(mean_money[kept]),
        "block_length": block,
    }


def _distinct(money: np.ndarray) -> int:
    """How many methods earned differently from each other, from mean daily gains [S, M]."""
    return len({tuple(np.round(column, 12)) for column in money.T})


def _across(errors: Sequence[np.ndarray], money: Sequence[np.ndarray], halves: Sequence[int]) -> float:
    """Mean tau between errors of one half of a series' days and money of the other: luck is not shared there."""
    taus = [
        kendall(-e[part].mean(axis=0)[None], m[other].mean(axis=0)[None])[0]
        for e, m, half in zip(errors, money, halves, strict=True)
        for part, other in ((slice(half), slice(half, None)), (slice(half, None), slice(half)))
    ]
    kept = [tau for tau in taus if math.isfinite(tau)]
    return float(np.mean(kept)) if kept else math.nan
