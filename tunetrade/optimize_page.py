"""A search for people and programs: optimize.json, .csv, .md, .html and .png, and the tables for a terminal."""

import csv
import io
import textwrap
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from forecasting.files import atomic, write_json, write_text
from tunetrade.report.formats import DASH
from tunetrade.report.markdown import text as plain_markdown
from tunetrade.report.palette import css_variables
from tunetrade.report.terminal import PLAIN, WIDTH

Json = dict[str, Any]
Grid = list[list[str]]

HEAD = ["trial", "skill %", "Sharpe", "trades", "drawdown %", "return %", "settings"]
AROUND = ["one step away", "skill %", "Sharpe", "trades", "drawdown %", "return %", ""]
COLUMNS = (
    "number",
    "state",
    "feasible",
    "front",
    "skill",
    "sharpe",
    "trades",
    "max_drawdown",
    "total_return",
    "failure",
)
SHOWN = 12
"""Rows of the front in a terminal."""


def write_pages(folder: Path, result: Json) -> None:
    """Write all forms into a study's folder."""
    from tunetrade.optimize_plot import pareto

    drawing = pareto(result)
    write_json(folder / "optimize.json", result)
    write_text(folder / "optimize.csv", as_csv(result))
    write_text(folder / "optimize.md", markdown(result))
    write_text(folder / "optimize.html", page(result, drawing.svg if drawing else ""))
    if drawing:
        with atomic(folder / "optimize.png") as partial:
            partial.write_bytes(drawing.png)
    else:
        (folder / "optimize.png").unlink(missing_ok=True)


def terminal(result: Json) -> str:
    """Front, neighbours and words, in a width that terminals have."""
    tables = [aligned([HEAD, *front_rows(result)[:SHOWN]])] if result["front"] else []
    if result["robustness"]:
        tables.append(aligned([AROUND, *neighbour_rows(result)]))
    said = "\n".join(textwrap.fill(sentence, WIDTH) for sentence in sentences(result))
    return ("\n\n".join([*tables, said]) + "\n").translate(PLAIN)


def markdown(result: Json) -> str:
    """All of it as a page."""
    lines = [f"# Search of {plain_markdown(result['study'])}", ""]
    lines += [part for sentence in sentences(result) for part in (plain_markdown(sentence), "")]
    for title, head, rows in sections(result):
        lines += [f"## {title}", "", *_piped([head, *rows]), ""]
    if result["front"]:
        lines += ["![Front of the search](optimize.png)", ""]
    return "\n".join(lines).rstrip() + "\n"


def page(result: Json, svg: str) -> str:
    """All of it as one page that opens offline."""
    style = resources.files("tunetrade.report").joinpath("page.css").read_text(encoding="utf-8")
    light, dark = css_variables(False), css_variables(True)
    themed = f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    body = [f"<h1>Search of {escape(result['study'])}</h1>"]
    body += [f"<p>{escape(sentence)}</p>" for sentence in sentences(result)]
    shown = "CRPS skill and Sharpe ratio of every trial"
    body += [f'<figure role="img" aria-label="{shown}">{svg}</figure>'] * bool(svg)
    for title, head, rows in sections(result):
        opening = f'<div class="box" tabindex="0" role="region" aria-label="{escape(title)}">'
        body += [f"<h2>{escape(title)}</h2>", f"{opening}{_table(head, rows)}</div>"]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(result['study'])} · TuneTrade search</title>\n<style>\n{themed}{style}</style>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(body)}\n</main>\n</body>\n</html>\n"
    )


def as_csv(result: Json) -> str:
    """A row for each trial: figures, then a column for each searched key, empty where a method does not read it."""
    out = io.StringIO()
    keys = list(result["space"])
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *keys])
    for row in result["rows"]:
        figures = [row.get(name, "") for name in COLUMNS]
        writer.writerow([*figures, *(row["settings"].get(key, "") for key in keys)])
    return out.getvalue()


def sections(result: Json) -> list[tuple[str, list[str], Grid]]:
    """Title, head and rows of every table that has any."""
    found = [
        ("Front", HEAD, front_rows(result)),
        ("Neighbours of the winner", AROUND, neighbour_rows(result)),
        ("What sets the best trials apart", ["key", "front %", "skill %", "Sharpe %"], importance_rows(result)),
        ("All trials", HEAD, [_trial_row(row, result) for row in result["rows"]]),
    ]
    return [section for section in found if section[2]]


def front_rows(result: Json) -> Grid:
    """The front by Sharpe ratio, highest first."""
    front = [row for row in result["rows"] if row["front"]]
    return [_trial_row(row, result) for row in sorted(front, key=lambda row: -row["sharpe"])]


def neighbour_rows(result: Json) -> Grid:
    """The winner's neighbours in the order of the keys."""
    return [
        [f"{row['key']}={_written(row['value'])}", *_figures(row), "" if row.get("feasible") else _why(row)]
        for row in result["robustness"]
    ]


def importance_rows(result: Json) -> Grid:
    """Keys by their share in reaching the front."""
    shares = result["importance"]
    if not shares:
        return []
    keys = sorted(result["space"], key=lambda key: -shares["front"].get(key, 0.0))
    return [[key, *(_percent(shares[of].get(key), 0) for of in ("front", "skill", "sharpe"))] for key in keys]


def sentences(result: Json) -> list[str]:
    """What to know before reading a table: warnings first."""
    spans = "; ".join(f"{name} {first} to {last}" for name, (first, last) in result["spans"].items())
    against = ", ".join(sorted(set(result["yardsticks"].values())))
    winner = result["winner"]
    said = [f"Warning: {warning}" for warning in result["warnings"]]
    if winner is not None:
        own, luck = result["rows"][winner], result["deflated"]
        settings = " ".join(f"{key}={_written(value)}" for key, value in own["settings"].items())
        said.append(f"Winner: trial {winner + 1}, {settings}. {result['rule']}")
        if luck and luck["significant"]:
            said.append(
                f"Its Sharpe ratio of {luck['sharpe']:.2f} a year is significant against the best of {luck['trials']} "
                f"lucky trials, {luck['expected_of_luck']:.2f}: probability {100 * luck['probability']:.1f} %."
            )
    said.append(
        f"Validation part only ({spans}), training seed {result['training_seed']}. Skill is 1 less the geometric mean "
        f"over series of CRPS / CRPS of {against}; Sharpe is net of costs, of one portfolio of equal deposits. Both "
        "are of the data they were chosen by: expect less on the test part, which was not read."
    )
    return said


def aligned(grid: Grid) -> str:
    """Columns in step, the first and the last to the left."""
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:-1], widths[1:-1]), line[-1]]).rstrip()
        for line in grid
    ]
    return "\n".join(lines)


def _trial_row(row: Json, result: Json) -> list[str]:
    mark = " *" if row["number"] == result["winner"] else ""
    settings = " ".join(f"{key}={_written(value)}" for key, value in row["settings"].items())
    note = "" if row["feasible"] else f" ({_why(row)})"
    return [f"{row['number'] + 1}{mark}", *_figures(row), f"{settings}{note}"]


def _why(row: Json) -> str:
    return f"failed: {row['failure']}" if row["state"] == "failed" else "misses a constraint"


def _figures(row: Json) -> list[str]:
    if row["state"] == "failed":
        return [DASH] * 5
    return [
        _percent(row["skill"]),
        f"{row['sharpe']:.2f}",
        str(row["trades"]),
        _percent(row["max_drawdown"], 1),
        _percent(row["total_return"], 1),
    ]


def _percent(share: float | None, decimals: int = 2) -> str:
    return DASH if share is None else f"{100 * share:.{decimals}f}"


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _piped(grid: Grid) -> list[str]:
    head, *rows = ([plain_markdown(cell) for cell in line] for line in grid)
    rule = "|---" + "|---:" * (len(head) - 2) + "|---|"
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]


def _table(head: list[str], rows: Grid) -> str:
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f'<table class="list">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>'
