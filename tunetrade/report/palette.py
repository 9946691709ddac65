"""One colour, marker and dash for each name, the same in every plot and in both page themes.

Tuned methods take the saturated colours of Okabe and Ito, which colour-blind readers can tell apart; baselines and
benchmarks stay grey or brown and dashed, so that what is to be judged stands out from what it is judged against.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Style:
    """How a method is drawn. `light` is its colour on white (and its key in the page), `dark` its colour on black."""

    light: str
    dark: str
    marker: str
    dash: Any = "solid"


INK, MUTED, GRID, TRUTH = "#1b1f24", "#5b6470", "#dfe3e8", "#000001"
THEME = {INK: "ink", MUTED: "muted", GRID: "grid", TRUTH: "truth"}

KNOWN = {
    "untuned": Style("#cc79a7", "#e8a3c8", "D"),
    "full": Style("#0072b2", "#5aaef0", "o"),
    "lora": Style("#d55e00", "#ff8b45", "^"),
    "adapter": Style("#009e73", "#33cc9f", "s"),
    "random-walk": Style("#3d444d", "#d3d9e0", "x", (0, (5, 2))),
    "ewma-t": Style("#7d8590", "#9aa3ad", "+", (0, (5, 2, 1, 2))),
    "equal-tokens": Style("#6b5b95", "#b5a6dd", "1", (0, (3, 1, 1, 1))),
    "buy-and-hold": Style("#8a6a1f", "#d0ac55", "|", (0, (6, 1.5))),
    "always-flat": Style("#949ca6", "#6e7681", "_", (0, (1, 2))),
}
SPARE = (
    Style("#56b4e9", "#7cc8f5", "v"),
    Style("#e69f00", "#ffc04d", "P"),
    Style("#882255", "#d980ab", "*"),
    Style("#332288", "#a79bee", "h"),
    Style("#117733", "#6cc486", "<"),
    Style("#999933", "#cccc66", ">"),
    Style("#aa4499", "#e08fd3", "p"),
    Style("#44aa99", "#77d6c7", "X"),
)
AGAIN = tuple(replace(style, dash=(0, (4, 1.5))) for style in SPARE)
"""The same colours, dashed, for studies of many methods."""
UNLUCKY = Style("#6b6f76", "#a5abb3", "d", (0, (3, 1)))


def assign(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name; that of an unknown name follows from its letters, so most keep it across studies."""
    unique = list(dict.fromkeys(names))
    styles = {name: KNOWN[name] for name in unique if name in KNOWN}
    free, dashed = list(SPARE), list(AGAIN)
    for name in sorted(set(unique) - set(KNOWN)):
        pool = free or dashed
        styles[name] = pool.pop(zlib.crc32(name.encode()) % len(pool)) if pool else UNLUCKY
    return {name: styles[name] for name in unique}


def css_variables(dark: bool) -> str:
    """Declarations of every method colour for one theme."""
    styles = [*KNOWN.values(), *SPARE, UNLUCKY]
    return "".join(f"--{variable(style.light)}:{style.dark if dark else style.light};" for style in styles)


def variable(colour: str) -> str:
    """CSS variable that stands for a colour used in a plot."""
    return THEME.get(colour, "c" + colour.lstrip("#"))


def colours() -> set[str]:
    """All colours of plots that follow the page's theme."""
    return set(THEME) | {style.light for style in [*KNOWN.values(), *SPARE, UNLUCKY]}
