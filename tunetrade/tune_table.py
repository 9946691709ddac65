"""The tables of a tuning, for a terminal and as Markdown: a pure function of tune.json."""

import math
import textwrap
from typing import Any

from tunetrade.report.formats import DASH, si, significant, size
from tunetrade.report.markdown import text as plain_markdown
from tunetrade.report.terminal import PLAIN, WIDTH

Json = dict[str, Any]

METHOD_HEAD = ["method", "trials", "chosen", "CRPS defaults", "CRPS best", "gain %", "train s", "settings chosen"]
TRIAL_HEAD = ["trial", "CRPS", "gain %", "loss", "trained", "stored", "memory", "train s", "settings"]
DIGITS = 5
"""Of a CRPS: settings of one method differ in the third or fourth."""


def terminal(result: Json) -> str:
    """The methods side by side, every trial where there is but one method or all combinations were asked for."""
    methods = result["methods"]
    tables = [_aligned([METHOD_HEAD, *_method_rows(result)])]
    tables += [
        f"{name}\n{_aligned([TRIAL_HEAD, *_trial_rows(own)])}"
        for name, own in methods.items()
        if len(own["rows"]) > 1 and (result["grid"] or len(methods) == 1)
    ]
    said = "\n".join(textwrap.fill(sentence, WIDTH) for sentence in sentences(result))
    return ("\n\n".join([*tables, said]) + "\n").translate(PLAIN)


def markdown(result: Json) -> str:
    """All of it as a page: the methods, then every trial of each."""
    lines = [f"# Tuning of {plain_markdown(result['study'])}", "", *_piped([METHOD_HEAD, *_method_rows(result)]), ""]
    lines += [part for sentence in sentences(result) for part in (plain_markdown(sentence), "")]
    for name, own in result["methods"].items():
        lines += [f"## {plain_markdown(name)}", "", *_piped([TRIAL_HEAD, *_trial_rows(own)]), ""]
        failed = [row for row in own["rows"] if row["status"] != "done"]
        lines += [f"- Trial {row['number']} failed: {plain_markdown(row['failure'])}" for row in failed]
        lines += [""] if failed else []
    return "\n".join(lines).rstrip() + "\n"


def sentences(result: Json) -> list[str]:
    """What to keep in mind when reading the tables."""
    most = max((len(own["rows"]) for own in result["methods"].values()), default=0)
    said = [
        f"CRPS of the validation part of {', '.join(result['series'])}, one training seed ({result['seed']}), at most "
        f"{result['steps']} steps a trial; gain is its share below the method's defaults, with one standard error."
    ]
    if most > 1:
        said.append(
            f"The best of {most} is also the luckiest of {most} on this validation part: its figure is optimistic, and "
            "a gain within two standard errors may be nothing. The test part was not read; it judges the settings "
            "chosen, once."
        )
    still = [name for name, own in result["methods"].items() if own["chosen_by"] != "crps"]
    if still:
        said.append(f"{', '.join(still)}: every trial has the same CRPS, so the method's own validation loss decided.")
    return said


def _method_rows(result: Json) -> list[list[str]]:
    return [_method_row(name, own) for name, own in result["methods"].items()]


def _method_row(name: str, own: Json) -> list[str]:
    rows = {row["number"]: row for row in own["rows"]}
    best, default = rows.get(own["chosen"], {}), rows[1]
    done = len(rows) - own["failed"]
    trials = f"{done} of {len(rows)}" if own["failed"] else str(done)
    return [
        name,
        trials,
        str(own["chosen"] or DASH),
        _number(default.get("crps"), DIGITS),
        _number(best.get("crps"), DIGITS),
        _gain(best),
        _number(own["seconds"]),
        _settings(own["settings"]) if best else "all trials failed",
    ]


def _trial_rows(own: Json) -> list[list[str]]:
    return [_trial_row(row, row["number"] == own["chosen"]) for row in own["rows"]]


def _trial_row(row: Json, chosen: bool) -> list[str]:
    number = f"{row['number']}{' *' * chosen}"
    if row["status"] != "done":
        return [number, "failed", *[DASH] * (len(TRIAL_HEAD) - 3), _settings(row["settings"])]
    return [
        number,
        _number(row["crps"], DIGITS),
        _gain(row),
        _number(row["validation_loss"], DIGITS),
        si(row["trained_parameters"]),
        size(row["stored_bytes"]),
        size(row["peak_memory_bytes"]),
        _number(row["seconds"]),
        _settings(row["settings"]),
    ]


def _settings(settings: Json) -> str:
    return " ".join(f"{key}={_written(value)}" for key, value in settings.items()) or "defaults"


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else significant(value, digits)


def _gain(row: Json) -> str:
    gain = row.get("gain")
    if gain is None or row.get("number") == 1:
        return DASH
    return f"{100 * gain:+.2f} ± {100 * row['gain_se']:.2f}" if math.isfinite(gain) else DASH


def _aligned(grid: list[list[str]]) -> str:
    """Columns in step, the first and the last to the left."""
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:-1], widths[1:-1]), line[-1]]) for line in grid
    ]
    return "\n".join(lines)


def _piped(grid: list[list[str]]) -> list[str]:
    """Lines of a pipe table."""
    head, *rows = ([plain_markdown(cell) for cell in line] for line in grid)
    rule = "|---" + "|---:" * (len(head) - 2) + "|---|"
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]
