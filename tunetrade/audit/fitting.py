"""What was fitted on which data, and whether a scale looks past the bar it scales.

Prices after a moment are replaced by a random walk: what was fitted before must not move. Prices before it are replaced
too: what was fitted on them must move, or the check would prove nothing.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from forecasting.bars import Bars
from forecasting.codecs import AnyCodec
from forecasting.codecs.rows import rows_of
from forecasting.files import read_json
from forecasting.windows import contexts, targets
from tunetrade.audit.result import Check, Offence, judged, skipped
from tunetrade.audit.rows import rows_record, sample_of, sampled_record
from tunetrade.audit.subject import Subject, other_prices, stamp
from tunetrade.prepared import prepare

FIT, SCALE, ROWS = "fit-windows", "causal-scale", "training-rows"

MOST_WINDOWS = 40_000
"""Training windows beyond which a sample is made again: all would take longer than everything else."""

PROBED = 16
"""Training windows whose tokens are made again with other prices after each of their bars."""


def fit_windows(subject: Subject) -> Check:
    """Codec and weekly pattern, fitted again with all prices after the training part replaced, and with those in it."""
    if not subject.forecasts_made or subject.members:
        return skipped(FIT, "a benchmark fits nothing" if not subject.members else "its members are audited themselves")
    bars, parts = subject.bars, subject.prepared.split
    end = int(parts.train[-1]) + subject.cell.study.windows.horizon
    after = prepare(subject.cell.study, other_prices(bars, end + 1, len(bars) - 1))
    before = prepare(subject.cell.study, other_prices(bars, 0, end))
    fresh = _settings(after)
    own = _settings(subject.prepared) if subject.cell.kind != "method" else _stored(subject)
    found = [
        Offence(stamp(bars.times[end]), name, own.get(name), value)
        for name, value in fresh.items()
        if own.get(name) != value
    ]
    moved = [name for name, value in _settings(before).items() if value != fresh[name]]
    takes = f"{', '.join(moved)} move" if moved else "it takes nothing from prices, so nothing moves"
    return judged(
        FIT,
        found,
        f"scale and profile are the same with all prices after {stamp(bars.times[end])} replaced (with those before: "
        f"{takes})",
        f"scale or profile depend on prices after the training part, which ends {stamp(bars.times[end])}",
        train_end=stamp(bars.times[end]),
        fitted=moved,
    )


def _settings(prepared: Any) -> dict[str, Any]:
    """Settings of codec and of the baselines' weekly pattern."""
    return {**prepared.codec.as_dict(), "weekly pattern": tuple(prepared.hours.profile)}


def _stored(subject: Subject) -> dict[str, Any]:
    """Settings in the checkpoint; what it does not hold counts as fitted now."""
    held = read_json(subject.cell.paths.checkpoint / "codec.json")
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in held.items()}
    return {**plain, "weekly pattern": tuple(subject.prepared.hours.profile)}


def causal_scale(subject: Subject) -> Check:
    """Tokens of sampled training windows, made again with the prices after each of their bars replaced."""
    if not subject.forecasts_made or subject.members:
        return skipped(SCALE, "no codec of its own")
    codec, spec, bars = subject.prepared.codec, subject.cell.study.windows, subject.bars
    cutoffs = subject.prepared.split.train
    chosen = cutoffs[np.unique(np.linspace(0, len(cutoffs) - 1, PROBED).astype(np.int64))]
    closes, times = _windows(bars, spec, codec, chosen)
    found, power = [], 0
    length = codec.most_tokens(spec.context + spec.horizon) + closes.shape[1]
    whole, given = rows_of(codec, closes, times, spec.context, spec.horizon, length)
    first = closes.shape[1] - spec.context - spec.horizon
    for kept in _kept(codec, spec.context, spec.horizon):
        changed = closes.copy()
        noise = np.random.default_rng(kept).standard_t(5, (len(chosen), closes.shape[1] - first - kept)) * 0.02
        changed[:, first + kept :] *= np.exp(np.cumsum(noise, axis=1))
        made, _ = rows_of(codec, changed, times, spec.context, spec.horizon, length)
        tokens = [count if kept == spec.context else codec.most_tokens(kept) for count in given]
        for n, (one, other, count) in enumerate(zip(whole, made, tokens, strict=True)):
            power += not np.array_equal(one[count:], other[count:])
            if not np.array_equal(one[:count], other[:count]):
                at = int(np.flatnonzero(one[:count] != other[:count])[0])
                bar = first + min(at * (spec.context + spec.horizon) // max(len(one), 1), kept - 1)
                found.append(Offence(stamp(times[n, bar]), f"token {at}", int(one[at]), int(other[at])))
    if not power:
        return skipped(SCALE, "no token moves whatever the prices: closes too coarse or constant to tell")
    return judged(
        SCALE,
        found,
        f"tokens of {len(chosen)} training windows do not move when prices after them are replaced; those after do",
        "tokens of a bar depend on prices after that bar",
        windows=len(chosen),
    )


def _kept(codec: AnyCodec, context: int, horizon: int) -> list[int]:
    """Numbers of closes of a window after which others are replaced; of any codec, the context."""
    if codec.most_tokens(1) != 1:
        return [context]
    return sorted({context // 2, context, *range(context, context + horizon)} - {0})


def _windows(bars: Bars, spec: Any, codec: AnyCodec, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    seen = contexts(bars, spec, codec.warm_up, chosen)
    ahead = bars.times[chosen[:, None] + np.arange(1, spec.horizon + 1)]
    closes = np.concatenate([seen.closes, targets(bars, spec, chosen)], axis=1)
    return closes, np.concatenate([seen.times, ahead], axis=1)


def training_rows(subject: Subject) -> Check:
    """The tokens that were trained on, made again with every price after the training part replaced."""
    if subject.cell.kind != "method":
        return skipped(ROWS, "nothing was trained here")
    recorded = read_json(subject.cell.paths.train).get("rows")
    if not recorded:
        return skipped(ROWS, "train.json of an earlier version does not tell what was trained on; train it again")
    bars, study, prepared = subject.bars, subject.cell.study, subject.prepared
    count = len(prepared.split.train)
    sampled = count > MOST_WINDOWS
    if sampled and "sample_sha" not in recorded["train"]:
        return skipped(ROWS, f"train.json of an earlier version has no sample of its {count:,} windows; train it again")
    ends = int(prepared.split.train[-1]) + study.windows.horizon, int(prepared.split.validation[-1])
    found, of = [], f"{len(sample_of(count))} of " if sampled else ""
    for part, end in (("train", ends[0]), ("validation", ends[1] + study.windows.horizon)):
        other = other_prices(bars, end + 1, len(bars) - 1)
        again = prepare(study, other)
        if sampled and part == "train":
            made = sampled_record(other, study, again, subject.cell.method)
        else:
            fewer = replace(again, split=replace(again.split, train=again.split.train[:1])) if sampled else again
            made = rows_record(other, study, fewer, fewer.training_data(other, study, subject.cell.method))[part]
        found += [
            Offence(str(recorded[part]["last_target"]), f"{part} {key}", recorded[part][key], value)
            for key, value in made.items()
            if recorded[part].get(key) != value and (key in recorded[part] or key != "sample_sha")
        ]
    return judged(
        ROWS,
        found,
        f"{of}{count} windows trained on and those of early stopping are the same with every later price replaced",
        "what was trained on is not what prices up to the end of its part give",
        windows=count,
    )
