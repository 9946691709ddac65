"""Where a history begins must not matter beyond what the warm-up promises.

Two promises. A forecast is a function of the M + C closes of its window: a source that begins with that window gives
the same bytes. And a scale of M warm-up closes is nearly that of an endless history: each exponential window leaves out
2^(-n / half-life) of its weight after n returns, so with D that weight the power mean lies between (1 - D) times what
it is and what it is plus D times the largest term left out.
"""

from dataclasses import replace

import numpy as np

from forecasting.codecs import BinsCodec
from forecasting.codecs.bins import returns_of
from forecasting.forecasts import TABLE_COLUMNS
from forecasting.scale import Scale, Volatility
from tunetrade.audit.result import Check, Offence, failed, judged, passed, skipped
from tunetrade.audit.subject import Subject, stamp
from tunetrade.audit.truncation import TRUTH, differences

NAME = "warm-up"


def warm_up(subject: Subject) -> Check:
    """Forecasts from a source that begins later, and scales from one that begins earlier."""
    if not subject.forecasts_made or subject.members:
        return skipped(NAME, "a benchmark forecasts nothing" if not subject.members else "its members are audited")
    found = _later(subject)
    if found:
        return failed(NAME, "forecasts depend on bars before those they are entitled to", found)
    ratios, beyond = _earlier(subject)
    if not len(ratios):
        return passed(NAME, "a source that begins with the window gives the same bytes; no longer history to compare")
    return judged(
        NAME,
        beyond,
        f"a source that begins with the window gives the same bytes; with four times the warm-up sigma changes by "
        f"{np.abs(ratios - 1).max():.2%} at most, within what the weights left out allow",
        "sigma depends on history beyond what the weights of its windows allow",
        sigma_change=float(np.abs(ratios - 1).max()),
    )


def _later(subject: Subject) -> list[Offence]:
    """Forecasts of sampled cutoffs from bars that begin as late as they may; those of a baseline with its fits."""
    bars, own = subject.bars, subject.prepared
    length = own.codec.warm_up + subject.cell.study.windows.context
    found = []
    for position in subject.sampled[:3].tolist():
        begin = position - length + 1 if subject.cell.kind == "method" else int(own.split.train[0]) - length + 1
        if begin <= 0:
            continue
        short = replace(bars, frame=bars.frame.iloc[begin:])
        made = subject.rows(short, position - begin)
        time = stamp(bars.times[position])
        columns = [name for name in TABLE_COLUMNS if name not in TRUTH]
        found += differences(subject.rows(bars, position), made, columns, time)
    return found


def _earlier(subject: Subject) -> tuple[np.ndarray, list[Offence]]:
    """Sigma with four times the warm-up over that with one, at sampled cutoffs, and where that breaks the promise."""
    codec, bars = subject.prepared.hours, subject.bars
    scale: Scale = subject.prepared.codec.scale
    codec = subject.prepared.codec if isinstance(subject.prepared.codec, BinsCodec) else codec
    short = scale.warm_up + subject.cell.study.windows.context
    ratios, found = [], []
    for position in subject.sampled.tolist():
        first = max(0, position - 4 * scale.warm_up - subject.cell.study.windows.context + 1)
        closes, times = bars.closes[first : position + 1], bars.times[first : position + 1]
        left_out = len(closes) - short
        if left_out <= 0:
            continue
        scaled = returns_of(closes[None])[0] / codec.factors(times[None, 1:])[0]
        one, other = _power_mean(scaled[left_out:], scale), _power_mean(scaled, scale)
        shares = scale.decays ** (short - 1)
        most = float(np.asarray(scale.weights) @ shares) * float((np.abs(scaled[:left_out]) ** scale.power).max())
        low, high = one * (1 - float(shares.max())), one + most
        if other > 0 and one > 0:
            ratios.append((other / one) ** (1 / scale.power))
        if not low * (1 - 1e-12) <= other <= high * (1 + 1e-12):
            found.append(Offence(stamp(bars.times[position]), "power mean of returns", one, other))
    return np.array(ratios), found


def _power_mean(returns: np.ndarray, scale: Scale) -> float:
    """The scale's own recursion over returns [T]: sigma to the power, without its unit and its floor."""
    state = Volatility.before_any(scale, 1)
    for value in returns:
        state = state.after(np.array([value]), scale)
    return float((scale.shares(state.count)[:, None] * state.totals).sum())
