"""The verb `compare`: two runs or two studies, in a terminal, as a page and as JSON."""

import argparse
from pathlib import Path

from tunetrade.cli import emit_json


def compare(asked: argparse.Namespace) -> int:
    """Print how B differs from A; with --out also as compare.html and compare.json."""
    from tunetrade.compare import compare as compared
    from tunetrade.compare_page import write_comparison
    from tunetrade.compare_table import terminal

    record = compared(Path(asked.a), Path(asked.b))
    page = write_comparison(record, Path(asked.a), Path(asked.b), Path(asked.out)) if asked.out else None
    if asked.json:
        emit_json(record)
        return 0
    print(terminal(record), end="")
    if page:
        print(f"page: {page}")
    return 0
