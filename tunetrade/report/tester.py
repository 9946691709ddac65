"""A traded run in, MetaTrader's Strategy Tester report out: tester.html and tester.csv.

A pure function of the run's files, like every report: nothing trains or trades here.
"""

from pathlib import Path

from forecasting.files import write_text
from tunetrade.report.tester_run import TradedRun

PAGE, SHEET = "tester.html", "tester.csv"


def write_tester(run: TradedRun, out: Path) -> tuple[Path, dict[str, float]]:
    """Write tester.csv, then tester.html, into `out`; return the page's path and the figures."""
    from tunetrade.report.tester_csv import tester_csv
    from tunetrade.report.tester_page import tester_page
    from tunetrade.report.tester_plots import tester_drawings
    from tunetrade.report.tester_tables import tester_tables

    tables = tester_tables(run)
    write_text(out / SHEET, tester_csv(tables))
    write_text(out / PAGE, tester_page(run, tables, tester_drawings(run, tables)))
    return out / PAGE, dict(tables.figures)
