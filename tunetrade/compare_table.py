"""A comparison in a terminal: a row for each pair, then what differs, in words."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tunetrade.report.formats import DASH, percent, significant
from tunetrade.report.terminal import PLAIN, WIDTH

Json = Mapping[str, Any]

HEADS = ("pair", "CRPS B/A - 1", "95 % interval", "p", "MSE B/A - 1", "95 % interval", "p", "return B - A",
         "95 % interval", "p")  # fmt: skip
SETTINGS_SHOWN = 12
NAMED = 5


def terminal(record: Json) -> str:
    """The table and the words, ending in a newline."""
    lines = [list(HEADS), *([name_of(pair), *_figures(pair)] for pair in record["pairs"])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    a, b = titles(record)
    said = [textwrap.fill(sentence, WIDTH) for sentence in sentences(record)]
    return ("\n".join([f"A: {a}", f"B: {b}", "", *table, "", *said]) + "\n").translate(PLAIN)


def name_of(pair: Json) -> str:
    """How a table calls a pair."""
    one, other = pair["method_a"], pair["method_b"]
    return f"{pair['series']} {one}" if one == other else f"{pair['series']} {one} / {other}"


SAME = "A and B are the same folder: nothing can differ."


def sentences(record: Json) -> list[str]:
    """What the comparison shows, what it left out, and what made the two differ."""
    pairs = record["pairs"]
    found = [SAME] if record["same"] else []
    found.append(shown(pairs))
    for block in ("errors", "money"):
        for reason in dict.fromkeys(pair[block]["reason"] for pair in pairs if "reason" in pair[block]):
            names = [name_of(pair) for pair in pairs if pair[block].get("reason") == reason]
            found.append(f"{listed(names)}: {block} not compared: {reason}.")
    alike = [name_of(pair) for pair in pairs if _alike(pair["money"])]
    if alike:
        found.append(f"{listed(alike)}: both earn the same on every shared day.")
    other = [name_of(pair) for pair in pairs if not pair["data"]["same"]]
    if other:
        found.append(f"Made from other data (hash or range): {listed(other)}.")
    for side in ("a", "b"):
        alone = record[f"only_{side}"]
        if alone:
            found.append(f"Only in {side.upper()}: {listed(alone)}.")
    settings = record["configuration"]
    if settings:
        first = "; ".join(
            f"{each['key']}: {each['a'] or DASH} / {each['b'] or DASH}" for each in settings[:SETTINGS_SHOWN]
        )
        rest = f"; and {len(settings) - SETTINGS_SHOWN} more" if len(settings) > SETTINGS_SHOWN else ""
        found.append(f"Settings that differ, A / B: {first}{rest}.")
    else:
        found.append("No setting differs.")
    if record["program"]:
        found.append(f"Code or libraries differ: {', '.join(each['key'] for each in record['program'])}.")
    return found


def shown(pairs: Sequence[Json]) -> str:
    """Which differences are more than chance."""
    parts = []
    for key, word in (("crps", "CRPS"), ("mse", "squared error"), ("mae", "absolute error")):
        tests = [(name_of(p), p["errors"]["measures"][key]["test"]) for p in pairs if "measures" in p["errors"]]
        parts += [_decided(word, tests)] if tests else []
    money = [(name_of(p), p["money"]["difference"]) for p in pairs if "difference" in p["money"]]
    parts += [_decided("net profit", money)] if money else []
    return f"At 5 %, two-sided, Holm's correction over {len(pairs)} pair{'s' * (len(pairs) > 1)}: {'; '.join(parts)}."


def listed(names: Sequence[str]) -> str:
    """Names, or their number and the first few; the tables have all.

    >>> listed(["a", "b"]), listed(list("abcdefg"))
    ('a, b', '7 (a, b, c, d ...)')
    """
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} ({', '.join(names[:4])} ...)"


def titles(record: Json) -> tuple[str, str]:
    """What to call A and B: their names, or their folders where those are the same."""
    key = "folder" if record["a"]["name"] == record["b"]["name"] else "name"
    return record["a"][key], record["b"][key]


def chance(value: float | None) -> str:
    """A p-value as text."""
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _alike(money: Json) -> bool:
    gap = money.get("difference")
    return gap is not None and gap["p_value"] is None and not gap["value"]


def _decided(word: str, tests: Sequence[tuple[str, Json]]) -> str:
    parts = []
    for side in ("A", "B"):
        names = [name for name, test in tests if test.get("better") == side]
        if names:
            parts.append(f"{side} is better on {listed(names)}")
    return f"by {word} {' and '.join(parts) if parts else 'no difference is shown'}"


def _figures(pair: Json) -> list[str]:
    cells: list[str] = []
    for key in ("crps", "mse"):
        if "measures" in pair["errors"]:
            block = pair["errors"]["measures"][key]
            ratio = block["ratio"]
            cells += [_percent(ratio["value"], -1), _ends(ratio, -1), chance(block["test"]["p_holm"])]
        else:
            cells += [DASH] * 3
    if "difference" in pair["money"]:
        gap = pair["money"]["difference"]
        return [*cells, _percent(gap["value"]), _ends(gap), chance(gap["p_holm"])]
    return [*cells, *[DASH] * 3]


def _percent(value: float | None, less: float = 0) -> str:
    return DASH if value is None or not math.isfinite(value) else percent(value + less, 2)


def _ends(block: Json, less: float = 0) -> str:
    low, high = block["low"], block["high"]
    if low is None or high is None:
        return DASH
    return f"{significant(100 * (low + less), 2)} to {significant(100 * (high + less), 2)}"
