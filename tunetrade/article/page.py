"""The page of the articles' protocol, as HTML and as Markdown, from one list of parts; and everything as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from forecasting.files import atomic, plain, write_json, write_text
from tunetrade.article.checks import absurd_price, checks, side_by_side
from tunetrade.article.defects import defects
from tunetrade.article.plots import drawings
from tunetrade.article.published import TABLE
from tunetrade.report.canvas import Drawing
from tunetrade.report.html import definitions, listing, section, style
from tunetrade.report.markdown import text

TITLE = "The articles' protocol, reproduced and repaired"


@dataclass(frozen=True)
class Part:
    """A section: paragraphs, a table of words and figures, plots, and things with a meaning and figures."""

    anchor: str
    title: str
    paragraphs: Sequence[str] = ()
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    plots: Sequence[Drawing] = ()
    items: Sequence[tuple[str, str, str]] = field(default_factory=tuple)


def write_article(record: Mapping[str, Any], out: Path) -> Path:
    """Write index.html, article.md, article.json and plots into `out`; gives the path of the page, written last."""
    compared, absurd, found = side_by_side(), absurd_price(), plain(record)
    listed = defects(found, compared, absurd)
    plots = drawings(found, compared)
    built = parts(found, compared, listed, plots)
    whole = {
        "checks": [asdict(check) for check in checks()],
        "published_sequences": compared,
        "absurd_price": absurd,
        "defects": [asdict(defect) for defect in listed],
        "experiment": found,
    }
    for drawing in plots:
        with atomic(out / "plots" / f"{drawing.name}.png") as partial:
            partial.write_bytes(drawing.png)
    write_json(out / "article.json", whole)
    write_text(out / "article.md", markdown(found, built))
    write_text(out / "index.html", page(found, built))
    return out / "index.html"


def parts(
    record: Mapping[str, Any], compared: Mapping[str, Any], listed: Sequence[Any], plots: Sequence[Drawing]
) -> list[Part]:
    """Everything between header and provenance."""
    lines, bars, repaired = plots
    return [
        Part("summary", "In short", summary(record, compared)),
        Part(
            "sequences",
            "Their own numbers, misaligned and aligned",
            (
                "From the prices that the articles print. Misaligned: as their script compares, over the 30 true "
                "prices that are printed. Aligned: each price with the bar it forecasts, 20 pairs. MSE in price².",
            ),
            (
                "method",
                "MSE printed (40 values)",
                "misaligned (30)",
                "aligned (20)",
                "against the last price",
                "from echo",
            ),
            [_sequence_row(name, compared) for name in compared],
            (lines, bars),
        ),
        Part(
            "checks",
            "Their figures, recomputed",
            ("What the printed figures are, and whether the printed sequences give them.",),
            ("figure", "printed", "recomputed", "verdict", "note"),
            [
                (c.figure, _number(c.printed), _number(c.recomputed), c.verdict, c.note[0].upper() + c.note[1:])
                for c in checks()
            ],
        ),
        Part(
            "again",
            "Their experiment, run again",
            (
                f"{_what_base(record)} Same shape, same settings, same single window and single draw as theirs; the "
                f"data are {record['data']['closes']:,} closes of {record['data']['source']} "
                f"({record['data']['timeframe']}).",
            ),
            (
                "method",
                "train s",
                "generate s",
                "trained parameters",
                "misaligned MSE",
                "NRMSE",
                "aligned MSE",
                "best in",
            ),
            [*(_again_row(name, record) for name in TABLE), _last_again(record)],
        ),
        Part(
            "repaired",
            "The same methods, tested properly",
            (
                f"Trained on windows that end before the test part ({record['data']['clean_rows']:,} rows); "
                f"{record['data']['windows']} windows whose forecasts do not overlap, each price compared with its own "
                "bar.",
            ),
            ("method", "one draw", "mean of all draws", "less the last price's", "standard error", "verdict"),
            [*(_clean_row(name, record) for name in TABLE), _last_clean(record)],
            (repaired,),
        ),
        Part("defects", "What is wrong, one by one", items=[(d.title, d.meaning, d.figures) for d in listed]),
    ]


def summary(record: Mapping[str, Any], compared: Mapping[str, Any]) -> list[str]:
    """What the page shows, in a few sentences."""
    last = compared["last price"]["aligned"]["mse"]
    beaten = sum(compared[name]["aligned"]["mse"] > last for name in TABLE)
    verdicts = [verdict(record["clean"][name]["windows"]) for name in TABLE]
    better = sum(word == "better" for word in verdicts)
    worse = sum(word == "worse" for word in verdicts)
    steps = record["settings"]["steps"]
    short = [f"This run was cut short, {steps} steps a training: only the articles' own figures mean anything."]
    return [
        *(short if steps else []),
        f"Put beside the bars they forecast, the articles' own printed forecasts lose to the last price in {beaten} of "
        "3 methods; their table compares 19 known prices and 21 forecasts with other bars.",
        f"Run again with a proper test, {better} of 3 methods are better than the last price by more than two standard "
        f"errors, {worse} are worse, and for {3 - better - worse} nothing is shown.",
        _what_base(record) + " The articles' absolute figures cannot be expected to come out: another series, another "
        "model, other noise. What does come out is what their protocol can and cannot tell.",
    ]


def _what_base(record: Mapping[str, Any]) -> str:
    base = record["base"]
    if base["own"]:
        return (
            "The base is not GPT-2 but a small one made here: it writes prices as text with a tokenizer of numbers, "
            f"from random weights that first read {base['corpus']} for {record['settings']['reading']} steps."
        )
    return f"The base is {base['name']} with {base['parameters']:,} parameters, its own tokenizer and weights."


def verdict(row: Mapping[str, Any]) -> str:
    """Of a difference from the last price: better or worse by more than two standard errors, else not shown."""
    if row["error"] is None or abs(row["against_last"]) <= 2 * row["error"]:
        return "not shown"
    return "better" if row["against_last"] < 0 else "worse"


def _sequence_row(name: str, compared: Mapping[str, Any]) -> tuple[str, ...]:
    row, last = compared[name], compared["last price"]["aligned"]["mse"]
    printed = _number(TABLE[name].mse) if name in TABLE else "–"
    ratio = row["aligned"]["mse"] / last
    against = "–" if name == "last price" else f"{ratio:.2f} × ({'worse' if ratio > 1 else 'better'})"
    return (
        name, printed, _number(row["misaligned"]["mse"]), _number(row["aligned"]["mse"]), against,
        f"{row['echo_share']:.0%}",
    )  # fmt: skip


def _again_row(name: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    row = record["published"][name]
    one = row["single"]
    return (
        name,
        f"{row['training']['seconds']:.1f}",
        f"{row['generate_seconds']:.2f}",
        f"{row['training']['trained_parameters']:,}",
        *(_number(value) for value in (one["misaligned"]["mse"], one["misaligned"]["nrmse"], one["aligned"]["mse"])),
        f"{record['best_shares'][name]:.0%} of draws",
    )


def _last_again(record: Mapping[str, Any]) -> tuple[str, ...]:
    one = record["last_price"]["single"]
    figures = (one["misaligned"]["mse"], one["misaligned"]["nrmse"], one["aligned"]["mse"])
    return ("last price", "0", "0", "0", *map(_number, figures), "–")


def _clean_row(name: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    row = record["clean"][name]["windows"]
    figures = (row["aligned"], row["mean_aligned"], row["against_last"], row["error"])
    return (name, *map(_number, figures), verdict(row))


def _last_clean(record: Mapping[str, Any]) -> tuple[str, ...]:
    row = record["last_price"]["windows"]
    return ("last price", _number(row["aligned"]), _number(row["mean_aligned"]), "–", "–", "–")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.5g}"


def _header(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    data, settings, made = record["data"], record["settings"], record["made_by"]
    versions = ", ".join(f"{name} {made['versions'][name]}" for name in ("tunetrade", "torch", "transformers", "peft"))
    commit = (made["git"] or {}).get("commit")
    return [
        ("Data", f"{data['source']}, {data['closes']:,} closes, {data['first'][:10]} to {data['last'][:10]}"),
        ("Rows", f"{data['rows']:,} windows of 60, {data['trained_rows']:,} for training"),
        ("Base", f"{record['base']['name']}, sha {record['base']['sha'][:12]}"),
        ("Draws", f"{settings['paths']} a window, seed {settings['seed']}"),
        ("Steps", f"{record['published']['full']['training']['steps']:,} of each method on the articles' rows"),
        ("Made by", versions + (f", commit {commit[:10]}" if commit else "")),
    ]


def page(record: Mapping[str, Any], built: Sequence[Part]) -> str:
    """The whole HTML document, which opens offline."""
    head = definitions(_header(record))
    links = "".join(f'<a href="#{part.anchor}">{escape(part.title)}</a>' for part in built)
    body = "\n".join(_section(part) for part in built)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(TITLE)}</title>\n<style>\n{style()}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{escape(TITLE)}</h1>{head}<nav>{links}</nav></header>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(part: Part) -> str:
    body = "".join(f"<p>{escape(words)}</p>" for words in part.paragraphs)
    if part.rows:
        lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in part.rows]
        body += listing(part.title, part.heads, lines)
    if part.plots:
        body += '<div class="plots">' + "".join(map(_figure, part.plots)) + "</div>"
    for title, meaning, figures in part.items:
        body += f'<h3>{escape(title)}</h3><p>{escape(meaning)}</p><p class="note">{escape(figures)}</p>'
    return section(part.anchor, part.title, body)


def _figure(drawing: Drawing) -> str:
    return (
        f'<figure role="img" aria-label="{escape(drawing.alt)}">{drawing.svg}'
        f"<figcaption>{escape(drawing.caption)}</figcaption></figure>"
    )


def markdown(record: Mapping[str, Any], built: Sequence[Part]) -> str:
    """The same as Markdown."""
    lines = [f"# {TITLE}", "", *(f"- {label}: {text(value)}" for label, value in _header(record)), ""]
    for part in built:
        lines += [f"## {part.title}", "", *(word for words in part.paragraphs for word in (text(words), ""))]
        if part.rows:
            lines += [f"| {' | '.join(part.heads)} |", "|---" * len(part.heads) + "|"]
            lines += [f"| {' | '.join(text(cell) for cell in row)} |" for row in part.rows] + [""]
        for drawing in part.plots:
            lines += [f"![{text(drawing.alt)}](plots/{drawing.name}.png)", "", text(drawing.caption), ""]
        for title, meaning, figures in part.items:
            lines += [f"### {title}", "", text(meaning), "", text(figures), ""]
    return "\n".join(lines).rstrip() + "\n"
