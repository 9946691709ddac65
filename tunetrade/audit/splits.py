"""Parts that do not overlap, by the dates of run.json and the stamps of the bars alone; and what the base had seen."""

from typing import Any

import numpy as np
import pandas as pd

from forecasting.files import read_json
from tunetrade.audit.result import Check, Offence, failed, judged, passed, skipped, warned
from tunetrade.audit.subject import Subject, stamp

SPLIT, BASE = "split", "base-cutoff"


def split_overlap(subject: Subject) -> Check:
    """Cutoffs and targets of train, validation and test, worked out from dates, against those the run used."""
    study, times = subject.cell.study, subject.bars.times
    horizon = study.windows.horizon
    embargo = horizon if study.split.embargo < 0 else study.split.embargo
    parts = subject.prepared.split
    found: list[Offence] = []
    validation, test = _first(times, study.split.validation_start), _first(times, study.split.test_start)
    for name, cutoffs, bound in (("train", parts.train, validation), ("validation", parts.validation, test)):
        reached = int(cutoffs[-1]) + horizon
        if reached >= bound:
            found.append(Offence(stamp(times[min(reached, len(times) - 1)]), f"last target of {name}", reached, bound))
        if int(cutoffs[-1]) + embargo >= bound:
            found.append(
                Offence(stamp(times[cutoffs[-1]]), f"bars from {name} on", bound - int(cutoffs[-1]) - 1, embargo)
            )
    found += _trained(subject, times, horizon, {"train": validation, "validation": test})
    if subject.forecasts_made:
        found += _forecast(subject, times, test)
    started = subject.equity["time"].iloc[0].to_datetime64()
    if started < times[test]:
        found.append(Offence(stamp(started), "first bar traded", stamp(started), stamp(times[test])))
    return judged(
        SPLIT,
        found,
        f"targets of train end before {stamp(times[validation])}, those of validation before {stamp(times[test])}, "
        f"and at least {embargo} bars lie between cutoffs",
        "parts overlap, or are not those the dates give",
        embargo=embargo,
        test_first=stamp(times[test]),
    )


def _first(times: np.ndarray, date: str) -> int:
    """Position of the first bar that closes at a date or after it."""
    stamped = pd.Timestamp(date)
    moment = (stamped.tz_convert("UTC").tz_localize(None) if stamped.tzinfo else stamped).to_datetime64()
    return int(np.flatnonzero(times >= moment)[0])


def _trained(subject: Subject, times: np.ndarray, horizon: int, bounds: dict[str, int]) -> list[Offence]:
    """What train.json says was trained and stopped on, beyond its part."""
    if subject.cell.kind != "method":
        return []
    recorded: dict[str, Any] = read_json(subject.cell.paths.train).get("rows") or {}
    found = []
    for name, part in recorded.items():
        reached = np.datetime64(part["last_target"], "ns")
        if reached >= times[bounds[name]]:
            found.append(Offence(stamp(reached), f"last target of {name}", stamp(reached), stamp(times[bounds[name]])))
    if recorded and np.datetime64(recorded["validation"]["first_cutoff"], "ns") < times[bounds["train"]]:
        first = np.datetime64(recorded["validation"]["first_cutoff"], "ns")
        found.append(Offence(stamp(first), "first cutoff of validation", stamp(first), stamp(times[bounds["train"]])))
    return found


def _forecast(subject: Subject, times: np.ndarray, test: int) -> list[Offence]:
    """Cutoffs of the long table that are not those of the test part, each once."""
    seen = np.unique(subject.forecasts.cutoff)
    wanted = times[subject.prepared.split.test]
    odd = np.setxor1d(seen, wanted)
    found = [Offence(stamp(time), "cutoff", bool(time in seen), bool(time in wanted)) for time in odd]
    early = seen[seen < times[test]]
    return found + [Offence(stamp(time), "cutoff", stamp(time), stamp(times[test])) for time in early]


def base_cutoff(subject: Subject) -> Check:
    """Whether validation and test lie after the last day the base has seen."""
    if subject.cell.kind not in ("method", "ensemble"):
        return skipped(BASE, "no base is used")
    if subject.members and not any(member.cell.kind == "method" for member in subject.members):
        return skipped(BASE, "no base is used")
    card, study = subject.run["base"], subject.cell.study
    seen = np.datetime64(card["cutoff"], "ns") + np.timedelta64(1, "D")
    times, parts = subject.bars.times, subject.prepared.split
    first = {name: times[getattr(parts, name)[0]] for name in ("validation", "test")}
    measured = {"cutoff": card["cutoff"], "stated": card.get("cutoff_stated", True)}
    if not measured["stated"]:
        return warned(
            BASE, f"what {card.get('name', 'the base')} has seen is unknown: {card.get('corpus', '')}", **measured
        )
    early = [name for name, time in first.items() if time <= seen]
    if not early:
        return passed(
            BASE,
            f"the base saw data up to {card['cutoff']}, validation begins {stamp(first['validation'])}",
            **measured,
        )
    rows = [
        Offence(stamp(first[name]), f"first cutoff of {name}", stamp(first[name]), card["cutoff"]) for name in early
    ]
    if study.allow_seen:
        return warned(BASE, f"the base has seen part of {' and '.join(early)}, as allow_seen says", rows, **measured)
    return failed(BASE, f"the base has seen part of {' and '.join(early)}", rows, **measured)
