"""Puts the parts of a report together and writes them."""

import re
from dataclasses import dataclass
from pathlib import Path

from forecasting.files import atomic, write_text
from tunetrade.report.cells import read_tables
from tunetrade.report.charts_study import points_of
from tunetrade.report.directions import direction_lines
from tunetrade.report.evidence_sheets import evidence_sheets
from tunetrade.report.evidence_view import evidence_for
from tunetrade.report.facts import configuration, header, provenance, series_facts
from tunetrade.report.findings import cautions, findings
from tunetrade.report.html import page
from tunetrade.report.leaderboard import currencies, overall_rows, series_rows
from tunetrade.report.load import Json, Study, read_study
from tunetrade.report.markdown import markdown
from tunetrade.report.palette import assign
from tunetrade.report.plots import series_drawings
from tunetrade.report.plots_evidence import skill
from tunetrade.report.record import Report
from tunetrade.report.sheets import sheets
from tunetrade.report.verdicts import thin_money, verdicts


@dataclass(frozen=True)
class ReportFiles:
    """All files of a report in memory, by their path below the report's folder."""

    texts: dict[str, str]
    images: dict[str, bytes]

    def write(self, out: Path) -> Path:
        """Write every file, each atomically and the page last; return the page's path."""
        for name, image in self.images.items():
            with atomic(out / name) as partial:
                partial.write_bytes(image)
        for name, text in self.texts.items():
            write_text(out / name, text)
        return out / "index.html"


def compose(study_folder: Path) -> ReportFiles:
    """Make every file of the report of a study."""
    study = read_study(study_folder)
    report = build(study, study_folder, evidence_for(study_folder))
    found = sheets(study, report.rows, report.overall, report.slugs) | evidence_sheets(report)
    texts = {f"tables/{name}.csv": text for name, text in found.items()}
    images = {
        f"plots/{drawing.name}.png": drawing.png
        for drawings in (*report.drawings.values(), {"skill": report.skill})
        for drawing in drawings.values()
        if drawing is not None
    }
    return ReportFiles(texts | {"report.md": markdown(report), "index.html": page(report)}, images)


def build(study: Study, folder: Path, evidence: Json) -> Report:
    """Everything the report says of a study in a folder, whose evidence is known."""
    slugs = file_names(study.series)
    styles = assign(study.methods)
    tables = read_tables(study, evidence)
    money = {series: _currency(Study(study.name, tuple(study.of(series)))) for series in study.series}
    return Report(
        name=study.name,
        folder=folder,
        study=study,
        evidence=evidence,
        tables=tables,
        method_slugs=file_names(study.methods),
        series=study.series,
        slugs=slugs,
        styles=styles,
        header=header(study),
        series_facts=series_facts(study),
        findings=[*verdicts(study, evidence), *findings(study)],
        cautions=[*cautions(study), *thin_money(study, tables)],
        rows={series: series_rows(study, series) for series in study.series},
        directions={series: direction_lines(study, series) for series in study.series},
        overall=overall_rows(study),
        currencies=money,
        currency=_currency(study),
        several_seeds=any(len({cell.seed for cell in study.of(method=method)}) > 1 for method in study.methods),
        drawings={
            series: series_drawings(
                study, series, styles, slugs[series], tables[series], points_of(study, series, evidence)
            )
            for series in study.series
        },
        skill=skill(study, evidence),
        provenance=provenance(study),
        configuration=configuration(study),
    )


def file_names(series: list[str]) -> dict[str, str]:
    """A name for each series that is safe as a file name and as an anchor, no two alike (whatever the case).

    >>> file_names(["EURUSD-D1", "a/b", "a:b"])
    {'EURUSD-D1': 'EURUSD-D1', 'a/b': 'a-b', 'a:b': 'a-b-2'}
    """
    names: dict[str, str] = {}
    for name in series:
        safe = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.") or "series"
        taken = {other.lower() for other in names.values()}
        candidates = (safe if count == 1 else f"{safe}-{count}" for count in range(1, len(series) + 2))
        names[name] = next(candidate for candidate in candidates if candidate.lower() not in taken)
    return names


def _currency(study: Study) -> str:
    known = currencies(study)
    return next(iter(known)) if len(known) == 1 else ""
