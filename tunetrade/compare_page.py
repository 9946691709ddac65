"""A comparison as a page that opens offline, and its record as JSON beside it."""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from forecasting.files import write_text
from tunetrade.compare import COSTS, Pair, pairs_of, read_side
from tunetrade.compare_table import chance, name_of, sentences, titles
from tunetrade.report.cells import thin
from tunetrade.report.charts import (
    Chart,
    Store,
    Trace,
    band,
    error_bars,
    ink,
    label,
    line,
    marks,
    of_series,
    plain,
    two_panels,
    zero,
)  # fmt: skip
from tunetrade.report.columns import BY_KEY
from tunetrade.report.formats import DASH, column_text, column_unit, percent, significant
from tunetrade.report.interactive import script, theme_button
from tunetrade.report.load import read_columns
from tunetrade.report.markup import Item, definitions, figure, grid, note, number_item, style
from tunetrade.report.palette import KNOWN, Style

Json = Mapping[str, Any]

DRAWN = 12
"""Pairs with charts of their own; all have rows."""
STYLES = {"A": KNOWN["full"], "B": KNOWN["lora"]}


def write_comparison(record: Json, a: Path, b: Path, out: Path) -> Path:
    """Write compare.json and compare.html into a folder; the page's path."""
    pairs = pairs_of(read_side(a), read_side(b))
    write_text(out / "compare.json", json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    write_text(out / "compare.html", page(record, pairs))
    return out / "compare.html"


def page(record: Json, pairs: Sequence[Pair]) -> str:
    """The whole page."""
    store = Store()
    charts = [_forest(record["pairs"])]
    for index, (each, pair) in enumerate(zip(record["pairs"][:DRAWN], pairs, strict=False)):
        charts += [_steps(each, index), _equity(pair, index)]
    for chart in charts:
        if chart:
            store.add(chart)
    names = titles(record)
    title = f"{names[0]} against {names[1]}"
    who = [(f"{side.upper()}", f"{record[side]['name']}: {record[side]['kind']}, {record[side]['runs']} finished")
           for side in ("a", "b")]  # fmt: skip
    body = [
        f'<header><div class="bar"><h1>{escape(title)}</h1>{theme_button()}</div>',
        '<p class="lead">TuneTrade comparison, paired by series, method and origin. A difference is B less A.</p>',
        f"{definitions(who)}</header>",
        f'<section class="says"><h2>What differs</h2>{"".join(f"<p>{escape(text)}</p>" for text in sentences(record))}'
        "</section>",
        _errors(record["pairs"]),
        f'<div class="plots">{"".join(map(figure, charts))}</div>',
        _money(record["pairs"]),
        _costs(record["pairs"]),
        _data(record["pairs"]),
        _settings("Settings that differ", record["configuration"]),
        _settings("Code and libraries that differ", record["program"]),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)} · TuneTrade comparison</title>\n<style>\n{style()}</style>\n</head>\n<body>\n<main>\n"
        f'<section class="route" id="comparison" data-title="Comparison">{"".join(body)}</section>\n</main>\n'
        f"{script(store)}\n</body>\n</html>\n"
    )


def _errors(pairs: Sequence[Json]) -> str:
    rows = []
    for pair in pairs:
        if "measures" not in pair["errors"]:
            continue
        items: list[Item | str] = []
        for key in ("crps", "mse", "mae"):
            block = pair["errors"]["measures"][key]
            items += [
                Item(
                    f"{significant(_number(block['a']), 5)}",
                    _number(block["a"]),
                    f"B {significant(_number(block['b']), 5)}",
                ),
                _tested(block["ratio"], block["test"], -1),
            ]
        rows.append(
            (escape(name_of(pair)), [*items, Item(f"{pair['errors']['origins']:,}", pair["errors"]["origins"])])
        )
    heads: list[str | Item] = ["Pair"]
    for word in ("CRPS", "MSE", "MAE"):
        heads += [
            Item(f"{word} of A", small="and of B"),
            Item(f"{word}, B ÷ A less 1", small="95 % interval, p (Holm)"),
        ]
    how = (
        "Below 0 B has the smaller error. Tests are two-sided on the mean loss of each origin, with standard errors"
        " that allow for overlapping windows."
    )
    return grid("Errors on shared origins", [*heads, "Origins"], rows) + (note(how) if rows else "")


def _money(pairs: Sequence[Json]) -> str:
    rows = []
    for pair in pairs:
        money = pair["money"]
        if "difference" not in money:
            continue
        items = [
            _share(money["return_a"]),
            _share(money["return_b"]),
            _tested(money["difference"], money["difference"]),
        ]
        for key in ("sharpe", "max_drawdown", "trades"):
            a, b = (_number(money[f"figures_{side}"].get(key)) for side in ("a", "b"))
            column = BY_KEY[key]
            items.append(Item(f"{column_text(column, a, [a])} / {column_text(column, b, [b])}", b))
        rows.append((escape(name_of(pair)), [*items, Item(f"{money['days']:,}", money["days"])]))
    heads = ["Pair", "Return of A", "Return of B", "B less A", "Sharpe A / B", "Max drawdown A / B, %", "Trades A / B",
             "Days"]  # fmt: skip
    how = (
        "Returns are shares of the deposit on the days that both traded, with 95 % block-bootstrap intervals; Sharpe,"
        " drawdown and trades are of the whole backtests."
    )
    return grid("Money on shared days", heads, rows) + (note(how) if rows else "")


def _costs(pairs: Sequence[Json]) -> str:
    present = [key for key in COSTS if any(key in pair["cost"] for pair in pairs)]
    rows = []
    for pair in pairs:
        items = []
        for key in present:
            block = pair["cost"].get(key)
            a, b = (_number(block[side]) if block else math.nan for side in ("a", "b"))
            known = [value for value in (a, b) if math.isfinite(value)]
            ratio = _number(block["ratio"]) if block else math.nan
            text = " / ".join(column_text(BY_KEY[key], value, known) for value in (a, b))
            items.append(number_item(text, ratio if math.isfinite(ratio) else b, f"× {significant(ratio, 3)}" if
                                     math.isfinite(ratio) else ""))  # fmt: skip
        rows.append((escape(name_of(pair)), items))
    heads: list[str | Item] = ["Pair"]
    heads += [Item(BY_KEY[key].label, small=f"A / B {column_unit(BY_KEY[key], [])}") for key in present]
    if not present:
        return ""
    return grid("Cost", heads, rows) + note(
        "Times and memory say as much of the machine and its load as of the method."
    )


def _data(pairs: Sequence[Json]) -> str:
    rows: list[tuple[str, list[Item | str]]] = [
        (
            escape(name_of(pair)),
            [
                Item("same", 0) if pair["data"]["same"] else Item("other data", 1, classes="warn"),
                *(
                    f"{each['source']} {str(each['first'])[:10]} to {str(each['last'])[:10]}, {each['bars'] or DASH}"
                    f" bars, {each['sha'][:12]}"
                    for each in (pair["data"]["a"], pair["data"]["b"])
                ),
            ],
        )
        for pair in pairs
    ]
    return grid("Data", ["Pair", "Data", "A", "B"], rows, "sortable list")


def _settings(caption: str, found: Sequence[Json]) -> str:
    return grid(caption, ["Key", "A", "B"], [(escape(e["key"]), [e["a"] or DASH, e["b"] or DASH]) for e in found],
                "sortable list")  # fmt: skip


def _forest(pairs: Sequence[Json]) -> Chart | None:
    kept = [pair for pair in pairs if "measures" in pair["errors"]]
    if not kept:
        return None
    names = [name_of(pair) for pair in reversed(kept)]
    traces: list[Trace] = []
    for position, (key, word) in enumerate((("crps", "CRPS"), ("mse", "MSE"))):
        blocks = [pair["errors"]["measures"][key]["ratio"] for pair in reversed(kept)]
        value, low, high = ([100 * (_number(block[end]) - 1) for block in blocks] for end in ("value", "low", "high"))
        look = of_series(position)
        traces.append(
            marks(word, look, plain(value), [row + (0.14, -0.14)[position] for row in range(len(names))],
                  error_x=error_bars(value, low, high, ink(look)), text=[label(name) for name in names],
                  hovertemplate="%{text}<br>%{x:.3f} %")
        )  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "B's error above A's, %"}},
        "yaxis": {
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "ticktext": [label(name) for name in names],
            "showgrid": False,
            "range": [-0.6, len(names) - 0.4],
        },
        "shapes": [zero(0, "x")],
    }
    caption = "Left of 0 B is better. Bars are 95 % intervals, each by itself; p-values in the table are corrected."
    alt = "Ratio of B's error to A's for each pair, with intervals."
    return Chart("forest", "Error of B against A", 130 + 40 * len(names), traces, layout, alt, caption)


def _steps(pair: Json, index: int) -> Chart | None:
    if "measures" not in pair["errors"]:
        return None
    traces: list[Trace] = []
    for key, axis in (("crps", "y"), ("mse", "y2")):
        by_step = pair["errors"]["measures"][key]["by_step"]
        x = sorted(map(int, by_step))
        blocks = [by_step[str(step)]["ratio"] for step in x]
        value, low, high = ([_number(block[end]) for block in blocks] for end in ("value", "low", "high"))
        look = of_series(0)
        if all(map(math.isfinite, [*low, *high])):
            traces.append(band("B ÷ A", look, x, low, high, yaxis=axis))
        traces.append(line("B ÷ A", look, x, plain(value), yaxis=axis, mode="lines+markers", hovertemplate="%{y:.5f}",
                           showlegend=False))  # fmt: skip
    layout = two_panels("CRPS, B ÷ A (below 1: B is better)", "MSE, B ÷ A", 0.5)
    last = max(max(trace["x"]) for trace in traces)
    layout["xaxis"] |= {"title": {"text": "step ahead"}, "range": [0.8, last + 0.2]} | (
        {"dtick": 1} if last < 12 else {}
    )
    layout |= {"shapes": [zero(1, "y"), zero(1, "y2")]}
    return Chart(f"steps-{index}", f"Error by step ahead, {name_of(pair)}", 380, traces, layout,
                 f"{name_of(pair)}: ratio of errors by step with 95 % bands.",
                 "Bands are 95 % intervals, each by itself.")  # fmt: skip


def _equity(pair: Pair, index: int) -> Chart | None:
    traces: list[Trace] = []
    for side, cells in (("A", pair.a), ("B", pair.b)):
        table = read_columns(cells[0], "equity.parquet", ["time", "equity", "equity_before_costs"])
        if table is None or table.empty:
            continue
        curve, look = thin(table), STYLES[side]
        traces += [
            _curve(side, look, curve.times, curve.net),
            _curve(side, look, curve.times, curve.under, yaxis="y2", showlegend=False),
        ]
    if not traces:
        return None
    layout = two_panels("Net profit after costs", "Below the last peak, %", 0.65)
    return Chart(f"equity-{index}", f"Equity and drawdown, {pair.name}", 400, traces, layout,
                 f"{pair.name}: equity of both.", "Each over its own test part, lowest seed.")  # fmt: skip


def _curve(side: str, look: Style, x: list[str], y: list[float], **more: Any) -> Trace:
    return line(side, look, x, plain(y), hovertemplate="%{y:,.2f}", **more)


def _tested(block: Json, test: Json, less: float = 0) -> Item:
    value = _number(block["value"]) + less
    low, high = (_number(block[end]) + less for end in ("low", "high"))
    ends = f"[{percent(low).removesuffix(' %')}, {percent(high).removesuffix(' %')}]" if math.isfinite(low) else ""
    said = f"{test['better']} is better" if test.get("better") else "NOT SHOWN"
    return number_item(percent(value), value, f"{ends}\n{said} p {chance(test['p_holm'])}",
                       {"A": "loses", "B": "beats"}.get(str(test.get("better")), "open"))  # fmt: skip


def _share(block: Json) -> Item:
    value, low, high = (_number(block[end]) for end in ("value", "low", "high"))
    ends = f"[{percent(low).removesuffix(' %')}, {percent(high).removesuffix(' %')}]" if math.isfinite(low) else ""
    return number_item(percent(value), value, ends)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
