"""What was run, on what, with what: the lines of the report's header, read from the run folders.

The resolved configuration is searched by key, not by place: this page shows what it finds and says nothing where a key
is absent. The whole of it stands at the end of the page.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from strategies.contract import FROM_DATA, BrokerRules
from strategies.rules import TradingRules
from tunetrade.report.load import Cell, Json, Study, read_columns

Fact = tuple[str, str]
# Sources whose terms ask to be named in any use of their figures.
ATTRIBUTIONS = {"ecb": "Source: ECB statistics", "ecb-latest": "Source: ECB statistics"}


@dataclass(frozen=True)
class SeriesFacts:
    """A series: what it is, where from, and what part of it was tested."""

    series: str
    data: str
    bars: int
    test: str
    origins: int
    source: str
    notes: str


def series_facts(study: Study) -> list[SeriesFacts]:
    """Facts of each series, from whichever cell has them."""
    return [_series(study, series) for series in study.series]


def header(study: Study) -> list[Fact]:
    """Label and text of each line of the header, without the series themselves."""
    cells = study.of() or list(study.cells)
    traders = [cell for cell in cells if cell.kind != "benchmark"]
    config = _config(study)
    lines = [
        ("Split", _split(config)),
        ("Base model", _base(study)),
        ("Context and horizon", _horizon(cells, config)),
        ("Sampled paths", ", ".join(_distinct(cell.forecast.get("paths") for cell in cells if cell.kind == "method"))),
        ("Signal", "; ".join(_distinct(cell.backtest.get("signal") for cell in traders))),
        ("Costs and size", "; ".join(dict.fromkeys(filter(None, (_rules(cell) for cell in cells))))),
        ("Training seeds", ", ".join(str(seed) for seed in sorted(_training_seeds(cells)))),
        ("Cells", f"{len(study.of())} finished of {len(study.cells)}"),
    ]
    return [(label, text) for label, text in lines if text]


def provenance(study: Study) -> list[Fact]:
    """Versions, git state and hashes of data and models; several values where cells differ."""
    cells = study.cells
    names = sorted({name for cell in cells for name in _mapping(cell.run.get("versions"))})
    lines = [("Code", "; ".join(_distinct(_git(cell.run.get("git")) for cell in cells)))]
    lines += [
        (name, ", ".join(_distinct(_mapping(cell.run.get("versions")).get(name) for cell in cells))) for name in names
    ]
    for series in study.series:
        lines.append(
            (
                f"Data of {series}",
                ", ".join(_distinct(cell.run.get("data_sha") for cell in study.of(series, done=False))),
            )
        )
    return [(label, text) for label, text in lines if text]


def configuration(study: Study) -> list[Fact]:
    """Every key of the resolved configuration; values that differ between cells stand side by side."""
    gathered: dict[str, list[Any]] = {}
    for cell in study.cells:
        for key, value in flatten(_mapping(cell.run.get("config"))):
            gathered.setdefault(key, []).append(value)
    return [(key, " | ".join(_distinct(values))) for key, values in sorted(gathered.items())]


def period(study: Study, series: str) -> tuple[str, str]:
    """Dates of the first and the last cutoff of the test part, else of equity; empty where neither exists."""
    for cell in study.of(series):
        forecasts = read_columns(cell, "forecasts.parquet", ["cutoff"])
        if forecasts is not None and len(forecasts):
            return _date(forecasts["cutoff"].min()), _date(forecasts["cutoff"].max())
    for cell in study.of(series):
        equity = read_columns(cell, "equity.parquet", ["time"])
        if equity is not None and len(equity):
            return _date(equity["time"].min()), _date(equity["time"].max())
    return "", ""


def _training_seeds(cells: Sequence[Cell]) -> set[int]:
    """Seeds of the cells that were trained; what is not trained has none to tell."""
    return {cell.seed for cell in cells if cell.train.get("trained_parameters")}


def base_cutoff(study: Study) -> str:
    """Last date of the base model's training data, as its card in run.json states it; empty where it does not."""
    cards = (_mapping(cell.run.get("base")) for cell in study.cells)
    return next((str(card["cutoff"])[:10] for card in cards if card.get("cutoff")), "")


def find(config: Json, *keys: str) -> Any:
    """The first value kept under one of the keys, the shallowest first; None where there is none."""
    level: list[Json] = [config]
    while level:
        for place in level:
            for key in keys:
                if place.get(key) not in (None, ""):
                    return place[key]
        level = [value for place in level for value in place.values() if isinstance(value, Mapping)]
    return None


def describe(value: Any) -> str:
    """A configuration value in one line.

    >>> describe({"spread_points": 8.0, "lots": [0.1, 0.2]})
    'spread points 8, lots 0.1 / 0.2'
    """
    if value is None:
        return ""
    if isinstance(value, Mapping):
        pairs = ((key, describe(item)) for key, item in value.items() if key != "name")
        rest = ", ".join(f"{str(key).replace('_', ' ')} {text}" for key, text in pairs if text)
        return f"{value['name']}: {rest}".removesuffix(": ") if value.get("name") else rest
    if isinstance(value, (list, tuple)):
        return " / ".join(describe(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def flatten(config: Json, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings as dotted keys."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _series(study: Study, series: str) -> SeriesFacts:
    cells = study.of(series, done=False)
    instrument = next((_mapping(cell.run.get("instrument")) for cell in cells if cell.run.get("instrument")), {})
    start, end = period(study, series)
    notes = []
    if instrument.get("close_only"):
        notes.append("closes only: orders fill at the next fixing")
    sources = _distinct([*(cell.run.get("source") for cell in cells), instrument.get("source")])
    notes += _distinct(ATTRIBUTIONS.get(source.partition(":")[0]) for source in sources)
    data = next((cell.run["data_range"] for cell in cells if cell.run.get("data_range")), ("", ""))
    return SeriesFacts(
        series=series,
        data=" to ".join(str(stamp)[:10] for stamp in data) if all(data) else "",
        bars=max((int(cell.run.get("bars") or 0) for cell in cells), default=0),
        test=f"{start} to {end}" if start else "",
        origins=max((int(cell.forecast.get("origins") or 0) for cell in cells), default=0),
        source=", ".join(sources),
        notes="; ".join(notes),
    )


def _config(study: Study) -> Json:
    return next((_mapping(cell.run["config"]) for cell in study.cells if cell.run.get("config")), {})


def _base(study: Study) -> str:
    name, cutoff = describe(find(_config(study), "base")), base_cutoff(study)
    return f"{name}, trained on data up to {cutoff}" if name and cutoff else name


def _split(config: Json) -> str:
    """The split in the order of time; an empty date is the first or last bar."""
    split = _mapping(config.get("split"))
    names = (("train", "train_start"), ("validation", "validation_start"), ("test", "test_start"))
    parts = [f"{part} from {split.get(key) or 'the first bar'}" for part, key in names if key in split]
    if not parts:
        return describe(config.get("split"))
    embargo = split.get("embargo", -1)
    return ", ".join(
        [
            *parts,
            f"to {split.get('test_end') or 'the last bar'}",
            "embargo of the horizon" if embargo in (-1, None) else f"embargo of {embargo} bars",
        ]
    )


def _rules(cell: Cell) -> str:
    """Costs and size in the words of a trader; what is not known here follows as it is."""
    rules = _in_use(_mapping(cell.backtest.get("rules")), cell.backtest.get("signal"))
    rules |= _unusual(_mapping(cell.backtest.get("broker")))
    words = {
        "spread_points": "spread {} points",
        "spread_sessions": "spread by the hour {}",
        "commission_per_lot": "commission {} per lot and side",
        "slippage_points": "slippage {} points on average",
        "swap_long": "swap of longs {} points a night",
        "swap_short": "swap of shorts {} points a night",
        "swap_triple": "three nights on {}",
        "lots": "{} lots",
        "lot_units": "a lot of {} units",
        "lot_min": "at least {} lots",
        "lot_step": "lots in steps of {}",
        "lot_max": "at most {} lots",
        "account": "{} account",
        "deposit": f"deposit {{}} {cell.backtest.get('currency') or ''}",
        "leverage": "leverage {}",
        "margin_call": "margin call at {} of the margin",
        "stop_out": "stop-out at {} of the margin",
        "hours": "entries within {}",
        "friday_close": "closed for the weekend from Friday {}",
        "timezone": "server clock {}",
        "conversion": "converted by {}",
        "finer": "stops decided by {}",
        "threshold_k": "threshold {} round-trip costs",
        "probability_margin": "margin {} of a chance",
    }
    if rules.get("spread_points") == FROM_DATA:
        words["spread_points"] = "spread of each bar"
    known = [text.format(describe(rules.pop(key))).strip() for key, text in words.items() if key in rules]
    return ", ".join([*known, *filter(None, [describe(rules)])])


def _unusual(broker: Json) -> Json:
    """Broker settings that a trader asks for first, and those that are not the usual ones."""
    usual = asdict(BrokerRules())
    first = ("spread_points", "commission_per_lot", "deposit", "leverage")
    hidden = ("preset", "currency", "slippage_seed")
    return {k: v for k, v in broker.items() if k in first or (k not in hidden and _plain(v) != _plain(usual.get(k)))}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_OF_SIZING = {
    "fixed": "lots", "risk": "risk_percent", "volatility": "target_volatility", "kelly": "kelly_fraction",
}  # fmt: skip
_OF_SIGNAL = {"threshold": "threshold_k", "probability": "probability_margin", "quantile": "quantile_level"}
_UNLESS_ASKED = ("sizing", "max_lots", "max_leverage", "stop", "take_profit", "trailing", "expiry_bars", "resize")


def _in_use(rules: Json, signal: Any) -> dict[str, Any]:
    """Trading rules that changed something: those of the signal and the sizing chosen, and what is not as usual."""
    usual, sizing = TradingRules(), rules.get("sizing", "fixed")
    idle = {"signal", *(name for how, name in _OF_SIZING.items() if how != sizing)}
    idle |= {name for chosen, name in _OF_SIGNAL.items() if chosen != signal}
    idle |= {name for name in _UNLESS_ASKED if rules.get(name) == getattr(usual, name)}
    return {name: value for name, value in rules.items() if name not in idle}


def _horizon(cells: Iterable[Cell], config: Json) -> str:
    context = describe(find(config, "context"))
    horizon = ", ".join(_distinct(cell.forecast.get("horizon") for cell in cells)) or describe(find(config, "horizon"))
    both = [f"{context} closes" if context else "", f"{horizon} bars ahead" if horizon else ""]
    return " → ".join(part for part in both if part)


def _git(value: Any) -> str:
    """A commit, with a word where the working tree had changes."""
    if not isinstance(value, Mapping):
        return describe(value)
    commit = str(value.get("commit") or value.get("sha") or value.get("revision") or "")[:12]
    return f"{commit} with uncommitted changes" if value.get("dirty") else commit


def _distinct(values: Iterable[Any]) -> list[str]:
    """Different non-empty values as text, in order of appearance."""
    return list(dict.fromkeys(text for text in map(describe, values) if text))


def _date(stamp: pd.Timestamp) -> str:
    return str(stamp.strftime("%Y-%m-%d"))


def _mapping(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}
