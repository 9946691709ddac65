"""Run folders of a study and its ledger become one plain record, the content of evidence.json."""

from pathlib import Path
from typing import Any

from forecasting.errors import UserError
from tunetrade.evidence.errors import References, errors_of
from tunetrade.evidence.figures import LEVEL, POWER, SIZE, Json, plain
from tunetrade.evidence.losses import read_losses
from tunetrade.evidence.money import Accounts, money_of, read_accounts
from tunetrade.evidence.panel import Daily, daily_losses, overall, overall_money, panel_of, rank_agreement
from tunetrade.evidence.trials import read_trials, trials_of
from tunetrade.report.load import DENSITY_BASELINES, RANDOM_WALK, Study

UNTUNED = "untuned"
SEED = 1


def compose(study: Study, ledger: Path, replications: int, seed: int = SEED) -> Json:
    """All that can be said of a study, as docs/EVIDENCE.md describes it, without its version and inputs."""
    groups = {name: study.kind(name) for name in study.methods}
    lines = read_trials(ledger)
    by_series: dict[str, Any] = {}
    daily: dict[str, Daily] = {}
    accounts: dict[str, Accounts] = {}
    for series in study.series:
        cells = study.of(series)
        part: Json = {}
        try:
            losses = read_losses(cells)
        except UserError as fault:
            losses, part["errors"] = None, {"reason": str(fault)}
        if losses is not None:
            references = _references(losses.methods)
            part["references"] = vars(references)
            part["errors"] = errors_of(losses, references, groups, replications, seed)
            if "reason" not in part["errors"]:
                daily[series] = daily_losses(losses, references)
        part.setdefault("errors", {"reason": "no finished run has forecasts, or they share no origin"})
        del losses
        try:
            found = read_accounts(cells)
        except UserError as fault:
            found, part["money"] = None, {"reason": str(fault)}
        if found is not None:
            part["money"] = money_of(found, groups, UNTUNED, replications, seed)
            part["trials"] = trials_of(lines, series, found, [name for name in groups if groups[name] == "benchmark"])
            if "reason" not in part["money"]:
                accounts[series] = found
        part.setdefault("money", {"reason": "no finished run was traded, or they share no day"})
        part.setdefault("trials", part["money"])
        by_series[series] = part
    everything = plain(
        {
            "study": study.name,
            "settings": {
                "level": LEVEL,
                "size": SIZE,
                "power": POWER,
                "replications": replications,
                "seed": seed,
                "correction": "Holm over the methods of a kind, for each comparison and direction",
            },
            "methods": {
                name: {"kind": kind, "seeds": sorted({cell.seed for cell in study.of(method=name)})}
                for name, kind in groups.items()
            },
            "failed": [f"{cell.series}/{cell.method}/{cell.seed}" for cell in study.cells if not cell.done],
            "series": by_series,
            "overall": {
                "errors": overall(panel_of(daily), groups, replications, seed)
                if daily
                else {"reason": "no series has errors"},
                "money": overall_money(accounts, groups, UNTUNED, RANDOM_WALK, replications, seed)
                if accounts
                else {"reason": "no series has money"},
                "rank_agreement": rank_agreement(daily, accounts, replications, seed),
            },
        }
    )
    assert isinstance(everything, dict)
    return everything


def _references(methods: tuple[str, ...]) -> References:
    def present(*names: str) -> str:
        return next((name for name in names if name in methods), "")

    return References(present(RANDOM_WALK), present(*DENSITY_BASELINES), present(UNTUNED))
