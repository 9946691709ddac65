"""Charts over methods: skill by series, error against money and cost, error by step, equity, calibration."""

import math
from collections.abc import Mapping, Sequence

from tunetrade.report.cells import Tables
from tunetrade.report.charts import (
    Chart,
    Store,
    Styles,
    Trace,
    dash,
    error_bars,
    ink,
    label,
    line,
    marks,
    plain,
    two_panels,
    zero,
)  # fmt: skip
from tunetrade.report.columns import BY_KEY
from tunetrade.report.evidence_view import ERRORS, OVERALL, Outcome, figure_of, has_cone, money_of, outcomes, steps_of
from tunetrade.report.formats import percent
from tunetrade.report.leaderboard import Row, by_step
from tunetrade.report.load import Json, Study

COSTS = ("train_seconds", "trained_parameters", "stored_bytes", "peak_memory_bytes", "latency_p50_ms")
MARK = {"BEATS": " ▲", "LOSES": " ▼"}
ErrorAndMoney = dict[str, tuple[Sequence[float], Sequence[float]]]
ROW = 30
"""Pixels of a method's row in a chart of rows."""


def skill_map(study: Study, evidence: Json, methods: Sequence[str]) -> Chart | None:
    """Skill of every method on every series as colours, with figures; one chart for CRPS, the other a click away."""
    levels = [*study.series, *([OVERALL] if len(study.series) > 1 else [])]
    found = {level: outcomes(evidence, level) for level in levels}
    shown = [each for each in ERRORS[:2] if any(each.key in of for level in found.values() for of in level.values())]
    rows = [name for name in reversed(methods) if any(found[level].get(name) for level in levels)]
    if not shown or not rows:
        return None
    traces: list[Trace] = []
    for position, each in enumerate(shown):
        cells = [[found[level].get(name, {}).get(each.key) for level in levels] for name in rows]
        values = [[100 * cell.value if cell else math.nan for cell in row] for row in cells]
        judged = [row for name, row in zip(rows, values, strict=True) if study.kind(name) == "method"] or values
        reach = max((abs(value) for row in judged for value in row if math.isfinite(value)), default=1.0) or 1.0
        traces.append(
            {
                "type": "heatmap", "name": each.label, "visible": position == 0, "showscale": False,
                "x": [label(level) for level in levels], "y": [label(name) for name in rows],
                "z": [plain([_shade(v, c) for v, c in zip(*both, strict=True)], 4)
                      for both in zip(values, cells, strict=True)], "zmin": -reach, "zmax": reach, "xgap": 2, "ygap": 2,
                "text": [[_skill_text(cell) for cell in row] for row in cells], "texttemplate": "%{text}",
                "customdata": [[_skill_hover(cell) for cell in row] for row in cells],
                "hovertemplate": "%{y}, %{x}<br>%{customdata}<extra></extra>", "hoverongaps": False,
                "colorscale": [[0, "@worse"], [0.5, "@panel"], [1, "@better"]],
            }
        )  # fmt: skip
    layout = {
        "xaxis": {"side": "top", "showgrid": False, "fixedrange": True, "type": "category"},
        "yaxis": {"showgrid": False, "automargin": True, "fixedrange": True, "type": "category"},
        "margin": {"t": 70},
        "updatemenus": _choice([(each.label, index) for index, each in enumerate(shown)], len(traces)),
    }
    caption = (
        "Skill is 1 less the ratio of the errors: 0 is as good as the reference, more is better; CRPS against the"
        " volatility cone, MSE against the random walk. ▲ BEATS and ▼ LOSES after Holm's correction; without a mark"
        " nothing is shown, and the colour is pale. The scale is that of the methods; a baseline may lie beyond it."
    )
    alt = f"Heat map of skill, {len(rows)} methods by {', '.join(levels)}."
    return Chart("skill", "Skill by series and method", 100 + ROW * len(rows), traces, layout, alt, caption,
                 "plots/skill.png", "tables/skill.csv")  # fmt: skip


def steps(study: Study, series: str, slug: str, styles: Styles, evidence: Json) -> Chart | None:
    """Error of every method at each step ahead, MSE against the random walk and CRPS against EWMA-t."""
    traces = []
    measured = by_step(study, series)
    for method, by in measured.items():
        for key, axis in (("mse_ratio", "y"), ("crps_ratio", "y2")):
            points = steps_of(evidence, series, method, key) or [
                (step, values[key], math.nan, math.nan) for step, values in by.items() if math.isfinite(values[key])
            ]
            if not points or (key == "crps_ratio" and not has_cone(evidence, series, method)):
                continue
            x = [step for step, *_ in points]
            value, low, high = (plain([point[index] for point in points]) for index in (1, 2, 3))
            hover = [_between(a, b) for a, b in zip(low, high, strict=True)]
            style = styles[method]
            traces.append(
                line(method, style, x, value, yaxis=axis, showlegend=axis == "y", customdata=hover,
                     hovertemplate="%{y:.5f} %{customdata}", mode="lines+markers",
                     marker={"size": 5, "color": ink(style)})
            )  # fmt: skip
    if not traces:
        return None
    layout = two_panels("MSE ÷ random walk's (below 1 is better)", "CRPS ÷ EWMA-t's (below 1 is better)", 0.5)
    last = _last_step(measured)
    layout["xaxis"] |= {"title": {"text": "step ahead"}, "range": [0.8, last + 0.2]} | (
        {"dtick": 1} if last < 12 else {}
    )
    layout |= {"shapes": [zero(1, "y"), zero(1, "y2")]}
    caption = (
        "Ratios on shared origins, means over seeds; point at a marker for its 95 % interval, and see a method's page"
        " for the bands. Mind the scale: the distance from 1 is all there is. A forecast without a cone, such as the"
        " random walk, has no place in the lower panel."
    )
    return Chart(f"steps-{slug}", "Error by step ahead", 460, traces, layout,
                 f"{series}: error ratios by step ahead.", caption, f"plots/{slug}_steps.png",
                 f"tables/errors_by_step_{slug}.csv")  # fmt: skip


def error_and_money(study: Study, series: str, slug: str, styles: Styles, evidence: Json) -> Chart | None:
    """CRPS ratio against return with intervals of both, and the front of methods that none betters in both."""
    points = points_of(study, series, evidence)
    if len(points) < 2:
        return None
    front = pareto({method: (error[0], money[0]) for method, (error, money) in points.items()})
    traces: list[Trace] = [
        {"type": "scatter", "mode": "lines", "name": "Pareto front", "hoverinfo": "skip",
         "x": plain([points[name][0][0] for name in front]), "y": plain([points[name][1][0] for name in front]),
         "line": {"color": "@muted", "width": 1.5, "dash": "dot", "shape": "hv"}}
    ]  # fmt: skip
    for method, (error, money) in points.items():
        faint = ink(styles[method], 0.35)
        traces.append(
            marks(method, styles[method], plain(error[:1]), plain(money[:1]),
                  mode="markers+text" if method in front else "markers", text=[label(method)],
                  textposition="top center",
                  error_x=error_bars([error[0]], [error[1]], [error[2]], faint),
                  error_y=error_bars([money[0]], [money[1]], [money[2]], faint),
                  hovertemplate=f"{label(method)}<br>CRPS ratio %{{x:.5f}} {_between(error[1], error[2])}<br>"
                  f"return %{{y:.2f}} % {_between(money[1], money[2])}<extra></extra>")
        )  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "CRPS ÷ EWMA-t's (left is better)"}},
        "yaxis": {"title": {"text": "net return, %"}},
        "shapes": [zero(1, "x"), zero(0, "y")],
    }
    caption = (
        "Bars are 95 % intervals. The front joins the methods that no other betters in both by its estimates: where"
        " intervals overlap, the order may be another. Forecasts without a cone are left out."
    )
    return Chart(f"money-{slug}", "Error against money", 460, traces, layout,
                 f"{series}: CRPS ratio against net return; on the front: {', '.join(front)}.", caption,
                 f"plots/{slug}_money.png", f"tables/error_and_money_{slug}.csv")  # fmt: skip


def points_of(study: Study, series: str, evidence: Json) -> ErrorAndMoney:
    """CRPS ratio and return in %, each value, low, high, of the methods that predict a cone and were traded."""
    points: ErrorAndMoney = {}
    for method in (name for name in study.methods if has_cone(evidence, series, name)):
        error = figure_of(evidence, series, method, "crps_ratio")
        money = [100 * value for value in money_of(evidence, series, method, "total_return")]
        if math.isfinite(error[0]) and math.isfinite(money[0]):
            points[method] = (error, money)
    return points


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of points (less is better, more is better) that no other equals in both and beats in one, by the first.

    >>> pareto({"a": (1, 5), "b": (2, 9), "c": (2, 4), "d": (3, 9)})
    ['a', 'b']
    """
    front = [
        name
        for name, (low, high) in points.items()
        if not any(a <= low and b >= high and (a, b) != (low, high) for a, b in points.values())
    ]
    return sorted(front, key=lambda name: (points[name], name))


def costs(rows: Sequence[Row], series: str, slug: str, styles: Styles, evidence: Json) -> Chart | None:
    """CRPS ratio against what a method costs; the cost is chosen by a button."""
    present = [key for key in COSTS if any(row.values.get(key, 0) > 0 for row in rows)]
    kept = [
        row
        for row in rows
        if "crps_ratio" in row.values
        and any(row.values.get(key, 0) > 0 for key in present)
        and has_cone(evidence, series, row.method)
    ]
    if not present or not kept:
        return None
    traces: list[Trace] = []
    for row in kept:
        value, low, high = figure_of(evidence, series, row.method, "crps_ratio")
        value = value if math.isfinite(value) else row.values["crps_ratio"]
        for key in present:
            cost = row.values.get(key, 0)
            traces.append(
                marks(row.method, styles[row.method], plain([cost if cost > 0 else math.nan]), plain([value]),
                      visible=key == present[0],
                      error_y=error_bars([value], [low], [high], ink(styles[row.method], 0.35)),
                      hovertemplate=f"{label(row.method)}<br>%{{x:.4s}}<br>CRPS ratio %{{y:.5f}} {_between(low, high)}"
                      "<extra></extra>")
            )  # fmt: skip
    buttons = []
    for key in present:
        column = BY_KEY[key]
        visible = [other == key for _ in kept for other in present]
        buttons.append((column.label, visible, {"xaxis.title.text": _cost_title(key)}))
    layout = {
        "xaxis": {"type": "log", "title": {"text": _cost_title(present[0])}},
        "yaxis": {"title": {"text": "CRPS ÷ EWMA-t's"}},
        "shapes": [zero(1, "y")],
        "margin": {"t": 60},
        "updatemenus": [_menu([{"label": text, "method": "update", "args": [{"visible": shown}, changed]}
                               for text, shown, changed in buttons])],
    }  # fmt: skip
    caption = "Left and low is better. A method without that cost (nothing trained, nothing stored) has no point."
    return Chart(f"costs-{slug}", "Error against cost", 430, traces, layout,
                 f"{series}: CRPS ratio against training time, parameters, bytes, memory and latency.", caption,
                 f"plots/{slug}_effort.png", f"tables/leaderboard_{slug}.csv")  # fmt: skip


def equity(
    series: str, slug: str, styles: Styles, tables: Mapping[str, Tables], store: Store, only: str = ""
) -> Chart | None:
    """Net profit of each method and how far it lies below its last peak; `only`: one method, with its other seeds."""
    traces = []
    currency = next((table.currency for table in tables.values() if table.currency), "")
    for method, table in tables.items():
        if only and method not in (only, "random-walk"):
            continue
        for position, curve in enumerate(table.curves if only else table.curves[:1]):
            if only and method != only and position:
                continue
            style, key = styles[method], f"{slug}/{method}/{curve.seed}"
            x = store.share(f"t/{key}", curve.times)
            net, under = store.share(f"e/{key}", curve.net), store.share(f"u/{key}", curve.under)
            name = method if not position else f"{method}, seed {curve.seed}"
            look = {
                "color": ink(style, 0.45 if position else 1),
                "width": 1.2 if position else 1.8,
                "dash": dash(style),
            }
            traces.append(line(name, style, x, net, line=look, hovertemplate="%{y:,.0f}"))
            traces.append(
                line(name, style, x, under, yaxis="y2", showlegend=False, line=look, hovertemplate="%{y:.2f} %")
            )
            if only == method and not position and curve.before:
                before = store.share(f"b/{key}", curve.before)
                traces.append(line("before costs", style, x, before, line={"color": ink(style, 0.5), "width": 1.2,
                                   "dash": "dot"}, hovertemplate="%{y:,.0f}"))  # fmt: skip
    if not traces:
        return None
    layout = two_panels(f"Net profit after costs, {currency}".rstrip(", "), "Below the last peak, %", 0.65)
    layout |= {"shapes": [zero(0, "y")]}
    caption = "One history gives one path of trades; curves near each other are not told apart by it."
    if not only:
        caption += " Lowest seed of each method."
    name = f"equity-{slug}" + (f"-{styles_key(only)}" if only else "")
    return Chart(name, "Equity and drawdown" if not only else f"Equity and drawdown, {series}", 520 if not only else
                 400, traces, layout, f"{series}: net profit and drawdown.", caption,
                 f"plots/{slug}_equity.png" if not only else "")  # fmt: skip


def styles_key(method: str) -> str:
    """A method in the name of a chart."""
    return "".join(f"{ord(letter):x}" if not letter.isalnum() and letter != "-" else letter for letter in method)


def calibrations(series: str, slug: str, styles: Styles, tables: Mapping[str, Tables], evidence: Json) -> Chart | None:
    """How much of the truth fell inside the bands that should hold 50, 80 and 90 % of it."""
    traces = []
    nominal = [50, 80, 90]
    names = [
        method
        for method in tables
        if math.isfinite(figure_of(evidence, series, method, "coverage80")[0]) and has_cone(evidence, series, method)
    ]
    for position, method in enumerate(names):
        found = [figure_of(evidence, series, method, f"coverage{level}") for level in nominal]
        gap = [[100 * value - level for value in each] for each, level in zip(found, nominal, strict=True)]
        value, low, high = ([each[index] for each in gap] for index in range(3))
        shift = 0.8 * ((position + 0.5) / len(names) - 0.5)
        traces.append(
            marks(method, styles[method], [round(place + shift, 4) for place in range(3)], plain(value),
                  error_y=error_bars(value, low, high, ink(styles[method], 0.5)),
                  customdata=[f"{percent(v[0], 1)} [{percent(v[1], 1)}, {percent(v[2], 1)}]" for v in found],
                  hovertemplate=f"{label(method)}<br>%{{customdata}}<extra></extra>")
        )  # fmt: skip
    if not traces:
        return None
    layout = {
        "xaxis": {"tickmode": "array", "tickvals": [0, 1, 2], "ticktext": [f"{level} % band" for level in nominal],
                  "showgrid": False, "range": [-0.5, 2.5]},
        "yaxis": {"title": {"text": "share inside less nominal, points"}},
        "shapes": [zero(0, "y")],
    }  # fmt: skip
    caption = (
        "0 is right; below 0 the cone is too narrow, above too wide. Bars are 95 % intervals. A method's page has the"
        " histogram of where in its cone the truth fell."
    )
    return Chart(f"coverage-{slug}", "Calibration: coverage of the predicted bands", 400, traces, layout,
                 f"{series}: coverage of the 50, 80 and 90 % bands less nominal.", caption,
                 f"plots/{slug}_calibration.png", f"tables/calibration_{slug}.csv")  # fmt: skip


def _cost_title(key: str) -> str:
    column = BY_KEY[key]
    unit = {"seconds": "seconds", "bytes": "bytes", "ms": "ms"}.get(column.style, "")
    return f"{column.label}, {unit} (logarithmic)" if unit else f"{column.label} parameters (logarithmic)"


def _last_step(measured: Mapping[str, Mapping[int, object]]) -> int:
    return max(step for by in measured.values() for step in by)


def _shade(value: float, outcome: Outcome | None) -> float:
    """What colours a cell: its skill, a third of it where the test shows nothing."""
    return value if outcome is None or outcome.verdict in MARK else value / 3


def _skill_text(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    decimals = 4 if outcome.verdict in MARK and abs(outcome.value) < 0.00005 else 2
    return f"{percent(outcome.value, decimals)}{MARK.get(outcome.verdict, '')}"


def _skill_hover(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    ends = f"[{percent(outcome.low, 2)}, {percent(outcome.high, 2)}]"
    return f"{percent(outcome.value, 3)} {ends}<br>{outcome.verdict}, p {outcome.p_holm:.3f} (Holm)"


def _between(low: float | None, high: float | None) -> str:
    known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return f"[{low:.5g}, {high:.5g}]" if known else ""


def _choice(entries: Sequence[tuple[str, int]], count: int) -> list[dict[str, object]]:
    """Buttons of which each shows one trace."""
    if len(entries) < 2:
        return []
    return [
        _menu(
            [
                {"label": text, "method": "update", "args": [{"visible": [i == index for i in range(count)]}]}
                for text, index in entries
            ]
        )
    ]


def _menu(buttons: Sequence[Mapping[str, object]]) -> dict[str, object]:
    return {"type": "dropdown", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "pad": {"b": 24},
            "buttons": list(buttons), "bgcolor": "@panel", "bordercolor": "@grid",
            "font": {"color": "@ink"}}  # fmt: skip
