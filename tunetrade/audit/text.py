"""Audits as plain text."""

from typing import Any

from tunetrade.audit.result import Offence

ROWS = 3
"""Offending rows told of a check; audit.json has more."""


def run_text(record: dict[str, Any]) -> str:
    """The table of one run."""
    width = max(len(check["name"]) for check in record["checks"])
    lines = [f"{record['run']}: {record['verdict']}"]
    for check in record["checks"]:
        lines.append(f"  {check['status']:<7}  {check['name']:<{width}}  {check['said']}")
        rows = [Offence(**row).text for row in check["offending"][:ROWS]]
        lines += [f"  {'':<7}  {'':<{width}}    {row}" for row in rows]
        if check["offences"] > ROWS:
            lines.append(f"  {'':<7}  {'':<{width}}    ... and {check['offences'] - ROWS} more in audit.json")
    return "\n".join(lines) + "\n"


def study_text(summary: dict[str, Any]) -> str:
    """The table of many runs."""
    runs = summary["runs"]
    width = max([len(line["run"]) for line in runs], default=0)
    lines = [f"{summary['place']}: {summary['verdict']}, {len(runs)} runs"]
    for line in runs:
        names = ", ".join([*line["failed"], *line["warned"]])
        passed = f"{line['counts']['PASS']} checks passed"
        lines.append(f"  {line['verdict']:<4}  {line['run']:<{width}}  {passed}{'; ' + names if names else ''}")
    lines += [f"  none  {name}: {why}" for name, why in summary["not_audited"].items()]
    return "\n".join(lines) + "\n"
