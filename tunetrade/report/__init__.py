"""Run folders in, a report out: one HTML page, PNG plots, CSV tables and Markdown.

A pure function of the run folders: the same folders give the same bytes, so a report can be committed and compared.
Nothing here trains, forecasts or trades: neither torch nor backtrader is loaded, and matplotlib only when a report is
made.
"""

from pathlib import Path

__all__ = ["write_report"]


def write_report(study_folder: Path, out: Path) -> Path:
    """Write index.html, report.md, plots/*.png and tables/*.csv of a study into `out`; return the path of index.html.

    The page is written last, so that a page always finds its plots and tables beside it. Files of an earlier report are
    replaced, others in `out` are left alone. Raises UserError where `study_folder` holds no run.
    """
    from tunetrade.report.compose import compose

    files = compose(Path(study_folder))
    return files.write(Path(out))
