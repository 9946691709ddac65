"""The terminal's half of `doctor --live`: what a data folder on this machine tells of the Expert Advisor in it.

The list of allowed addresses is the terminal's own secret, so it is not read here: the Expert Advisor, which gets error
4014 where its address is not on it, writes what it knows of its link into `MQL5/Files/TuneTrade/*.status`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forecasting.errors import UserError
from tunetrade.doctor_live import FAIL, NOTE, OK, SKEW_S, Check
from tunetrade.install_mt5 import is_compiled, mql5_of, unlike

ALIVE_S = 60.0
"""A status older than this is of a chart, or a terminal, that is no more."""

_CURES = {
    "is not allowed": "Tools > Options > Expert Advisors: tick Allow WebRequest for listed URL and add {host} below it",
    "nobody listens": "start `tunetrade serve RUN`, or set the inputs Server and Port to where it listens",
    "does not speak ZMTP": "the input Port is another program's; set it to the one that `tunetrade serve` shows",
    "security mechanism": "the input Port is the one for CURVE; set it to the one for terminals",
    "asks for a secret": "set the input Secret to what `serve --secret-file` holds",
    "the proof is wrong": "set the input Secret to what `serve --secret-file` holds",
    "does not know the secret": "start the server with --secret-file, or empty the input Secret",
    "says version": "run tunetrade install-mt5 with the version that serves, then F7 in MetaEditor",
    "is not served here": "serve a run of that series, or set the input Series to one that is served",
    "open a chart": "open a chart of that symbol and timeframe and attach the Expert Advisor there",
    "no broker": "log in: File > Login to Trade Account; the number in the lower right corner shows the connection",
}
"""What to do about the words of an Expert Advisor."""


@dataclass(frozen=True)
class Status:
    """What a chart said last. written_s: when, by this machine's clock; ts_s: by the terminal's."""

    series: str
    host: str
    port: int
    dry_run: bool
    link: str
    ts_s: float
    written_s: float


def terminal_checks(folder: Path, address: tuple[str, int], now_s: float) -> Iterator[Check]:
    """Whether the Expert Advisor is installed, compiled, attached, and what its charts say of their links."""
    try:
        files = mql5_of(folder) / "Files" / "TuneTrade"
        missing, changed = unlike(folder)
    except UserError as error:
        yield Check("terminal", FAIL, str(error))
        return
    if missing:
        yield Check("terminal", FAIL, f"{folder} lacks {', '.join(missing)}; run: tunetrade install-mt5 {folder}")
        return
    if changed:
        yield Check("terminal", NOTE, f"not of this version: {', '.join(changed)}; tunetrade install-mt5 brings it")
    else:
        yield Check("terminal", OK, f"{folder} has this version's sources")
    if not is_compiled(folder):
        yield Check("compiled", FAIL, "TuneTrade.ex5 is missing or older than its sources: press F7 in MetaEditor")
        return
    yield Check("compiled", OK, "TuneTrade.ex5 is newer than its sources")
    found = [status for file in sorted(files.glob("*.status")) if (status := read_status(file))]
    alive = [status for status in found if now_s - status.written_s <= ALIVE_S and status.link != "stopped"]
    if not alive:
        yield Check("charts", FAIL, _nobody(found, now_s))
        return
    for status in found:
        yield chart_check(status, address) if status in alive else Check(_name(status), NOTE, "stopped")


def read_status(file: Path) -> Status | None:
    """What a chart wrote; None for what is no status."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return Status(
            str(values["series"]), str(values["host"]), int(values["port"]), bool(values["dry_run"]),
            str(values["link"]), int(values["ts_ms"]) / 1000, file.stat().st_mtime,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def chart_check(status: Status, address: tuple[str, int]) -> Check:
    """What a running chart says of its link, and what to do about it."""
    name, said = _name(status), status.link
    apart = status.ts_s - status.written_s
    if abs(apart) > SKEW_S:
        off = f"the terminal's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this machine's"
        return Check(name, FAIL, f"{off}; set time zone and network time, under Wine those of its prefix too")
    if said.startswith("live"):
        return Check(name, OK, f"{said}; {'a dry run' if status.dry_run else 'trading'}")
    if not said.startswith(("down", "refused", "no broker")):
        return Check(name, NOTE, said)
    cure = next((cure for words, cure in _CURES.items() if words in said), "the Experts tab of the terminal says more")
    cure = cure.format(host=status.host)
    if status.port != address[1]:
        cure += f" (it asks {status.host}:{status.port}, and you {address[0]}:{address[1]})"
    return Check(name, FAIL, f"{said}; {cure}")


def _nobody(found: list[Status], now_s: float) -> str:
    attach = "attach TuneTrade from the Navigator to a chart, tick Allow Algo Trading on its Common tab"
    if not found:
        return f"no chart has run the Expert Advisor yet: {attach}"
    last = max(found, key=lambda status: status.written_s)
    return f"none runs it now; {last.series} was the last, {(now_s - last.written_s) / 60:.0f} min ago: {attach}"


def _name(status: Status) -> str:
    return f"chart {status.series}"
