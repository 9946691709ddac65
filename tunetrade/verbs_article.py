"""The verb `article`: the source articles' protocol, reproduced and repaired."""

import argparse
from pathlib import Path

from tunetrade.cli import emit_json

Arguments = argparse.Namespace


def article(asked: Arguments) -> int:
    """The articles' figures recomputed, their experiment run again, and the page that says what they show."""
    from tunetrade.article.experiment import Settings, run
    from tunetrade.article.page import summary, write_article
    from tunetrade.progress import Board

    settings = Settings.quick(asked.base, asked.seed) if asked.quick else Settings(asked.base, asked.seed)
    board = Board(1)
    try:
        record = run(asked.data, settings, Path(asked.runs) / "article", board)
    finally:
        board.close()
    page = write_article(record, Path(asked.out))
    if asked.json:
        emit_json(record)
        return 0
    from forecasting.files import plain
    from tunetrade.article.checks import checks, side_by_side

    for check in checks():
        print(f"{check.verdict:17}  {check.figure}: {check.note}")
    print()
    for sentence in summary(plain(record), side_by_side()):
        print(sentence)
    print(f"report: {page}")
    return 0
