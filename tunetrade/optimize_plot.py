"""The two objectives of a search against each other, each trial a point, the front a line."""

from typing import Any

from matplotlib.figure import Figure

from tunetrade.report import canvas
from tunetrade.report.canvas import Drawing, draw
from tunetrade.report.palette import INK, KNOWN, MUTED

Json = dict[str, Any]

HEIGHT = 260.0


def pareto(result: Json) -> Drawing | None:
    """CRPS skill across, Sharpe ratio up; None where no trial was done."""
    done = [row for row in result["rows"] if row["state"] == "done"]
    if not done:
        return None
    colour, winning = KNOWN["full"].light, KNOWN["lora"].light
    able = [row for row in done if row["feasible"]]
    unable = [row for row in done if not row["feasible"]]
    front = sorted((row for row in done if row["front"]), key=lambda row: row["skill"])
    winner = [row for row in done if row["number"] == result["winner"]]
    groups: list[tuple[str, list[Json], Json]] = [
        ("misses a constraint", unable, {"marker": "x", "color": MUTED, "linestyle": "none"}),
        ("trial", able, {"marker": "o", "color": colour, "linestyle": "none", "alpha": 0.6, "markersize": 4}),
        ("front", front, {"marker": "o", "color": INK, "linestyle": "-", "markersize": 5}),
        ("winner", winner, {"marker": "*", "color": winning, "linestyle": "none", "markersize": 13}),
    ]

    def make() -> Figure:
        figure, (axis,) = canvas.panels("Skill and Sharpe ratio of every trial", [HEIGHT], len(groups), axis=40.0)
        entries = []
        for name, rows, style in groups:
            if rows:
                across, up = [100 * row["skill"] for row in rows], [row["sharpe"] for row in rows]
                (line,) = axis.plot(across, up, **style)
                entries.append((name, line))
        canvas.panel_title(axis, "Sharpe ratio a year, net")
        axis.set_xlabel("CRPS skill against the yardstick, %")
        canvas.legend(figure, entries)
        return figure

    alt = f"{len(done)} trials by CRPS skill and net Sharpe ratio; {len(front)} of them form the front."
    return draw("pareto", alt, "", make)
