"""Verbs about the money of a run: the Strategy Tester's report, and its comparison with what MetaTrader itself did."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forecasting.errors import ConfigError
from tunetrade.cli import emit_json

Arguments = argparse.Namespace

SHOWN = 20
"""Differences printed; --out and --json have all."""


def tester(asked: Arguments) -> int:
    """MetaTrader's report of a run."""
    from strategies.tester_fields import FIELDS
    from tunetrade.report.tester import write_tester
    from tunetrade.report.tester_run import read_traded_run

    run = read_traded_run(Path(asked.run), asked.symbol or "", asked.server_tz or "")
    page, figures = write_tester(run, Path(asked.out or asked.run))
    if asked.json:
        emit_json({"report": str(page), "currency": run.account.currency, "figures": figures})
        return 0
    width = max(len(field.label) for field in FIELDS)
    print(f"{run.name}, in {run.account.currency or 'account currency'}")
    for field in FIELDS:
        print(f"  {field.label:<{width}}  {field.text(figures)}")
    print(f"report: {page}")
    return 0


def reconcile(asked: Arguments) -> int:
    """Our trades beside MetaTrader's; 1 where they differ beyond the tolerances."""
    from strategies.differences import Tolerances
    from strategies.exports import read_export
    from strategies.reconcile import reconcile as compare
    from tunetrade.report.tester_run import read_traded_run

    for name in ("minutes", "points", "lots", "money"):
        value = getattr(asked, name)
        if value is not None and not value >= 0:
            raise ConfigError(f"--{name} {value:g}: give a tolerance of 0 or more")
    run = read_traded_run(Path(asked.run), asked.symbol or "", asked.server_tz or "")
    minutes = default_minutes(run.account.minutes) if asked.minutes is None else asked.minutes
    limits = Tolerances(minutes, asked.points, asked.lots, asked.money)
    span = run.equity["time"].iloc[0], run.equity["time"].iloc[-1]
    found = compare(run.trades, span, read_export(Path(asked.export)), run.account, limits)
    if asked.out:
        _write(found.differences, Path(asked.out))
    if asked.json:
        emit_json(_record(found))
    else:
        _tell(found, run.account.currency, asked.out)
    return 0 if found.same else 1


def default_minutes(bar: float) -> float:
    """Tolerance for the time of a fill: half a bar, at most an hour, as ticks begin some time after a bar does.

    >>> default_minutes(60), default_minutes(1440)
    (30.0, 60.0)
    """
    return 60.0 if math.isnan(bar) else min(bar / 2, 60.0)


def _tell(found: Any, currency: str, out: str | None) -> None:
    print(
        f"{found.matched} of {found.ours} trades here and {found.theirs} there belong together, {found.equal} of them "
        "without a difference"
    )
    for note in found.notes:
        print(f"  note: {note}")
    for difference in found.differences[:SHOWN]:
        print(f"  {difference.text} [{difference.money:+.2f}]")
    if len(found.differences) > SHOWN:
        rest = f"all in {out}" if out else "--out FILE.csv writes all"
        print(f"  ... and {len(found.differences) - SHOWN} more; {rest}")
    print(f"net profit {found.ours_net:.2f} here, {found.theirs_net:.2f} there, {currency}; the difference by cause:")
    for kind, money in found.money.items():
        count = sum(difference.kind == kind for difference in found.differences)
        print(f"  {kind:<16} {round(money, 2) + 0.0:>12.2f}" + (f"  ({count})" if count else ""))
    print(f"  {'together':<16} {round(found.theirs_net - found.ours_net, 2) + 0.0:>12.2f}")


def _record(found: Any) -> dict[str, Any]:
    return {
        "same": found.same, "ours": found.ours, "theirs": found.theirs, "matched": found.matched, "equal": found.equal,
        "ours_net": found.ours_net, "theirs_net": found.theirs_net, "money": found.money, "notes": list(found.notes),
        "differences": [vars(difference) for difference in found.differences],
    }  # fmt: skip


def _write(differences: Sequence[Any], file: Path) -> None:
    import csv
    import io

    from forecasting.files import write_text

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("kind", "trade", "ticket", "money", "difference"))
    writer.writerows((d.kind, d.ours, d.theirs, f"{d.money:.2f}", d.text) for d in differences)
    write_text(file, text.getvalue())
