"""Everything a report says, before it is put into words of HTML or Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunetrade.report.canvas import Drawing
from tunetrade.report.cells import Tables
from tunetrade.report.directions import Line
from tunetrade.report.facts import Fact, SeriesFacts
from tunetrade.report.leaderboard import Row
from tunetrade.report.load import Json, Study
from tunetrade.report.palette import Style


@dataclass(frozen=True)
class Topic:
    """A kind of plot, drawn once for each series."""

    key: str
    title: str


TOPICS = (
    Topic("equity", "Equity and drawdown"),
    Topic("closes", "True against predicted closes"),
    Topic("steps", "Error by step ahead"),
    Topic("calibration", "Calibration (PIT)"),
    Topic("money", "Error against money"),
    Topic("effort", "Time, memory and error"),
    Topic("training", "Training and validation loss"),
)


@dataclass(frozen=True)
class Report:
    """Content of a report; `slugs` are the names of series that are safe in files and anchors, as are those of methods.

    evidence: as docs/EVIDENCE.md describes it. tables: what the pages show of each cell's tables, by series and method.
    drawings: the plots that are files of their own, by series and topic; skill: the one of all series.
    """

    name: str
    folder: Path
    study: Study
    evidence: Json
    tables: Mapping[str, Mapping[str, Tables]]
    method_slugs: Mapping[str, str]
    series: Sequence[str]
    slugs: Mapping[str, str]
    styles: Mapping[str, Style]
    header: Sequence[Fact]
    series_facts: Sequence[SeriesFacts]
    findings: Sequence[str]
    cautions: Sequence[str]
    rows: Mapping[str, Sequence[Row]]
    directions: Mapping[str, Sequence[Line]]
    overall: Sequence[Row]
    currencies: Mapping[str, str]
    currency: str
    several_seeds: bool
    drawings: Mapping[str, Mapping[str, Drawing | None]]
    skill: Drawing | None
    provenance: Sequence[Fact]
    configuration: Sequence[Fact]
