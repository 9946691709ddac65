"""Charts of one method: error by step with bands, where in its cone the truth fell, training, closes."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from tunetrade.report.cells import EDGES, Tables
from tunetrade.report.charts import (
    Chart,
    Styles,
    Trace,
    band,
    error_bars,
    ink,
    label,
    line,
    of_series,
    plain,
    two_panels,
    zero,
)  # fmt: skip
from tunetrade.report.evidence_view import steps_of
from tunetrade.report.load import Cell, Json, Study, number


def method_steps(study: Study, method: str, slug: str, evidence: Json) -> Chart | None:
    """Error ratios of one method at each step ahead on every series, with 95 % bands."""
    traces: list[Trace] = []
    for position, series in enumerate(study.series):
        for key, axis in (("mse_ratio", "y"), ("crps_ratio", "y2")):
            points = steps_of(evidence, series, method, key)
            if not points:
                continue
            style = of_series(position)
            x = [step for step, *_ in points]
            value, low, high = ([point[index] for point in points] for index in (1, 2, 3))
            if all(map(math.isfinite, low + high)):
                traces.append(band(series, style, x, low, high, yaxis=axis))
            traces.append(
                line(series, style, x, plain(value), yaxis=axis, showlegend=axis == "y", mode="lines+markers",
                     marker={"size": 6, "color": ink(style)}, hovertemplate="%{y:.5f}")
            )  # fmt: skip
    if not traces:
        return None
    layout = two_panels("MSE ÷ random walk's (below 1 is better)", "CRPS ÷ EWMA-t's (below 1 is better)", 0.5)
    last = max(max(trace["x"]) for trace in traces)
    layout["xaxis"] |= {"title": {"text": "step ahead"}, "range": [0.8, last + 0.2]} | (
        {"dtick": 1} if last < 12 else {}
    )
    layout |= {"shapes": [zero(1, "y"), zero(1, "y2")]}
    return Chart(f"steps-of-{slug}", "Error by step ahead, with 95 % bands", 440, traces, layout,
                 f"{method}: error ratios by step ahead with bands.",
                 "Where a band holds 1, no difference from the reference is shown at that step by itself.")  # fmt: skip


def method_calibration(method: str, slug: str, tables: Mapping[str, Tables]) -> Chart | None:
    """Histogram of where in the predicted cone the truth fell (PIT), in the stretches between known quantiles."""
    found = {series: table.calibration for series, table in tables.items() if table.calibration}
    if not found:
        return None
    traces: list[Trace] = []
    wide = np.diff(EDGES)
    for position, (series, each) in enumerate(found.items()):
        style = of_series(position)
        share = wide / len(found)
        centres = np.asarray(EDGES[:-1]) + share * (position + 0.5)
        known = all(map(math.isfinite, [*each.low, *each.high]))
        bars = error_bars(each.density, each.low, each.high, "@ink") if known else {}
        traces.append(
            {"type": "bar", "name": label(series), "x": plain(100 * centres), "width": plain(94 * share),
             "y": plain(each.density), "marker": {"color": ink(style, 0.75)}, "error_y": bars,
             "customdata": [f"{100 * a:g}-{100 * b:g} %" for a, b in pairwise(EDGES)],
             "hovertemplate": "%{customdata} of the cone: %{y:.3f}"}
        )  # fmt: skip
    layout = {
        "barmode": "overlay", "bargap": 0,
        "xaxis": {"title": {"text": "place of the truth in the predicted cone, %"}, "range": [0, 100],
                  "tickmode": "array", "tickvals": [0, 10, 25, 50, 75, 90, 100], "tickangle": 0, "showgrid": False},
        "yaxis": {"title": {"text": "observed ÷ right"}, "rangemode": "tozero"},
        "shapes": [{**zero(1, "y"), "layer": "above", "line": {"color": "@ink", "width": 1.5, "dash": "dash"}}],
    }  # fmt: skip
    caption = (
        "Each bar is as wide as the share of closes it should hold; its height is the share it held over that: 1 is"
        " right. A cone too narrow is high at both ends, a biased one is high at one. All steps together; bars are 95 %"
        " block-bootstrap intervals, which allow for overlapping windows."
    )
    return Chart(f"pit-{slug}", "Calibration: where in the cone the truth fell (PIT)", 360, traces, layout,
                 f"{method}: histogram of the probability integral transform.", caption)  # fmt: skip


def training(cells: Mapping[str, Sequence[Cell]], name: str, styles: Styles) -> Chart | None:
    """Validation and training loss by step of the lowest seeds, less the validation loss before training.

    cells: by name of the line. What moves more than ten times as far as is usual waits in the legend.
    """
    curves = {key: _losses(min(found, key=lambda each: each.seed)) for key, found in cells.items()}
    curves = {key: found for key, found in curves.items() if len(found["validation_loss"]) > 1}
    if not curves:
        return None
    spans = {key: max(abs(y) for _, y in found["validation_loss"]) for key, found in curves.items()}
    usual = sorted(spans.values())[len(spans) // 2]
    traces: list[Trace] = []
    for key, found in curves.items():
        style, far = styles[key], spans[key] > 10 * usual
        more: dict[str, Any] = {"visible": "legendonly"} if far else {}
        for field, axis in (("train_loss", "y"), ("validation_loss", "y2")):
            steps, loss = [step for step, _ in found[field]], plain([y for _, y in found[field]])
            traces.append(
                line(key, style, steps, loss, yaxis=axis, showlegend=axis == "y2", hovertemplate="%{y:+.5f}", **more)
            )
        for step, value in found["kept"]:
            traces.append(
                line(key, style, [step], plain([value]), yaxis="y2", mode="markers", showlegend=False,
                     marker={"size": 9, "color": ink(style)}, hovertemplate="kept: %{y:+.5f}", **more)
            )  # fmt: skip
    layout = two_panels("Training loss, nats a token", "Validation loss, nats a token (dot: step kept)", 0.45)
    layout["xaxis"] |= {"title": {"text": "training step"}}
    layout |= {"shapes": [zero(0, "y2")]}
    caption = (
        "Lowest seed, less the validation loss before training, so that below 0 is learnt. What moves more than ten"
        " times as far as is usual here waits in the legend: click its name."
    )
    return Chart(f"training-{name}", "Training and validation loss", 420, traces, layout,
                 "Training and validation loss by step.", caption)  # fmt: skip


def _losses(cell: Cell) -> dict[str, list[tuple[float, float]]]:
    """Step and loss of each kind, less the first validation loss; `kept`: the step whose weights were kept."""
    history = [entry for entry in cell.train.get("history") or [] if isinstance(entry, dict)]
    found: dict[str, list[tuple[float, float]]] = {}
    for field in ("train_loss", "validation_loss"):
        points = [(number(entry, "step"), number(entry, field)) for entry in history]
        found[field] = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    start = found["validation_loss"][0][1] if found["validation_loss"] else 0.0
    found = {field: [(x, y - start) for x, y in points] for field, points in found.items()}
    best = number(cell.train, "best_step")
    return found | {"kept": [(x, y) for x, y in found["validation_loss"] if x == best]}


def closes(tables: Mapping[str, Tables], series: str, slug: str, styles: Styles, banded: str) -> Chart | None:
    """True closes and those predicted at the furthest step, over the last origins; below the predicted moves alone."""
    traces: list[Trace] = []
    truth: pd.DataFrame | None = None
    for method, each in tables.items():
        table = each.last
        if table is None or table.empty:
            continue
        x = [str(stamp)[:16].removesuffix(" 00:00") for stamp in table["ds"]]
        if truth is None:
            truth = table
            traces.append(
                {"type": "scatter", "mode": "lines", "name": "truth", "x": x, "y": plain(table["y"].tolist()),
                 "line": {"color": "@ink", "width": 2.4}, "hovertemplate": "%{y}"}
            )  # fmt: skip
        style = styles[method]
        if method == banded:
            traces.insert(0, band(f"10-90 %, {banded}", style, x, table["q10"].tolist(), table["q90"].tolist()))
        moves = 1e4 * (table["mean"] / table["anchor"] - 1)
        look: dict[str, Any] = {} if method == banded else {"visible": "legendonly"}
        traces.append(line(method, style, x, plain(table["mean"].tolist()), hovertemplate="%{y}", **look))
        traces.append(line(method, style, x, plain(moves.tolist(), 4), yaxis="y2", showlegend=False,
                           hovertemplate="%{y:.2f}", **look))  # fmt: skip
    if truth is None:
        return None
    horizon = int(truth["h"].iloc[0])
    true_move = 1e4 * float(np.sqrt(np.nanmean((truth["y"] / truth["anchor"] - 1) ** 2)))
    layout = two_panels(f"Close, true and predicted {horizon} bars before", "Predicted move, 1/100 %", 0.62)
    caption = (
        f"Last {len(truth)} origins, lowest seeds; click names to add methods. Below is the forecast itself, as a move"
        f" from the last known close; a typical true move is {true_move:.0f} of these hundredths of a percent. A"
        " predicted close that follows the true one late repeats the last known close."
    )
    return Chart(f"closes-{slug}", "True against predicted closes", 460, traces, layout,
                 f"{series}: true closes and closes predicted {horizon} bars before.", caption,
                 f"plots/{slug}_closes.png")  # fmt: skip
