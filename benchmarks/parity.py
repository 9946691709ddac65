"""Live equals backtest: hourly bars through the real server and the Expert Advisor's own code, held to Backtrader.

    python -m benchmarks.parity [--quick] [--json] [--only eurusd]

5,000 hourly bars of EURUSD (those of the package `backtesting`), every signal with every sizing rule, exits, account
kinds, hours and weekends among them; the same bars under the embedded GPT-2; and 50,000 synthetic bars with holes and
jumps over weekends. Counted are trades, by time, side, size and both prices, and forecasts, byte for byte. Baselines'
forecasts are made once and looked up, each behind the hash of its whole input, except in the first case, where EWMA-t
forecasts each bar anew as GPT-2 does. The time of a bar holds the server, its journal, models, wire and terminal.
A row for each kind of bars goes to standard error as soon as it is known, and cases that differ with what does.
"""

import argparse
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.claims import Claim, main

if TYPE_CHECKING:
    from bridge.desk import Desk
    from forecasting.bars import Bars
    from forecasting.forecaster import Forecaster
    from forecasting.forecasts import Forecasts
    from forecasting.windows import Contexts
    from strategies.contract import BrokerRules
    from strategies.rules import TradingRules
    from tunetrade.replay import Case
    from tunetrade.replay_report import Parity

CONTEXT, HORIZON = 16, 5
FULL = {"computed": 5_000, "eurusd": 5_000, "gpt2": 5_000, "synthetic": 50_000}
QUICK = {"computed": 120, "eurusd": 120, "gpt2": 120, "synthetic": 600}
"""Bars of each kind."""

SIDE_BY_SIDE = 10
"""Terminals at once; results do not depend on it."""

EXITS: tuple[dict[str, Any], ...] = (
    {"stop": "atr:2.0", "take_profit": "points:300"},
    {"trailing": "atr:1.5", "stop": "points:250", "resize": True},
    {"stop": "quantile:0.05", "take_profit": "quantile:0.95", "trailing": "points:120"},
    {"trailing": "atr:2.5", "resize": True, "expiry_bars": 2},
)


@dataclass(frozen=True)
class Stored:
    """Forecasts made before, each given only for the very input it was made of."""

    forecasts: "Forecasts"
    warm_up: int
    sha: str = "stored"

    def predict(self, contexts: "Contexts", progress: object = None) -> Any:
        """Rows of the cutoffs asked for."""
        known = self.forecasts
        rows = np.searchsorted(known.cutoff, contexts.cutoffs)
        if (known.input_sha[rows] != contexts.hashes()).any():
            raise ValueError("a forecast was asked for from other closes than it was made of")
        names = [name for name in vars(known) if name != "unique_id"]
        return SimpleNamespace(forecasts=replace(known, **{name: getattr(known, name)[rows] for name in names}))


@dataclass(frozen=True)
class Following:
    """Another's forecasts moved along with the last bars: honest forecasts of a walk give most signals nothing to do.

    The mean and all quantiles go on by half of the last four bars' move; the chance of a rise follows it.
    """

    inner: "Forecaster"

    @property
    def warm_up(self) -> int:
        """Of the other."""
        return self.inner.warm_up

    @property
    def sha(self) -> str:
        """A model of its own."""
        return "following-" + self.inner.sha

    def predict(self, contexts: "Contexts", progress: object = None) -> Any:
        """Moved forecasts, each of its own window alone."""
        made = self.inner.predict(contexts).forecasts
        move = 0.5 * (contexts.closes[:, -1:] - contexts.closes[:, -5:-4])
        chance = np.clip(0.5 + 100 * move, 0.05, 0.95) + np.zeros_like(made.mean)
        return SimpleNamespace(
            forecasts=replace(made, mean=made.mean + move, quantiles=made.quantiles + move[:, None], p_up=chance)
        )


HEAD = ("bars of", "cases", "bars", "trades", "that differ", "forecasts", "of other bytes", "a bar")


def measure(quick: bool, kinds: Sequence[str] = tuple(FULL)) -> dict[str, Claim]:
    """All claims about parity on bars of some kinds."""
    claims: dict[str, Claim] = {}
    _tell(HEAD)
    for kind in kinds:
        count = (QUICK if quick else FULL)[kind]
        with tempfile.TemporaryDirectory(prefix="parity-") as folder:
            found, seconds = replays(kind, count, Path(folder))
        bars, trades, apart, forecasts, wrong, equal = _added(found)
        at_once = f"{min(SIDE_BY_SIDE, len(found))} at once"
        time_of_bar = f"{1000 * seconds / bars:.1f} ms, {at_once}"
        _tell((kind, *(f"{n:,}" for n in (len(found), bars, trades, apart, forecasts, wrong)), time_of_bar))
        for name, one in found.items():
            if not one.equal:
                print(name, *one.lines(), sep="\n", file=sys.stderr, flush=True)
        claims |= {
            f"{kind}: cases": Claim(len(found), ""),
            f"{kind}: bars replayed": Claim(bars, ""),
            f"{kind}: trades": Claim(trades, ""),
            f"{kind}: trades of the quietest case": Claim(min(one.trades[0] for one in found.values()), "", 1),
            f"{kind}: trades that differ": Claim(apart, "", 0, at_most=True),
            f"{kind}: forecasts": Claim(forecasts, ""),
            f"{kind}: forecasts of other bytes": Claim(wrong, "", 0, at_most=True),
            f"{kind}: cases not equal": Claim(len(found) - equal, "", 0, at_most=True),
            f"{kind}: time of a bar, {at_once}": Claim(1000 * seconds / bars, "ms"),
        }
    return claims


def _tell(cells: Sequence[str]) -> None:
    widths = (10, 6, 8, 7, 12, 10, 15, 22)
    row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    print(row, file=sys.stderr, flush=True)


def _added(found: dict[str, "Parity"]) -> tuple[int, int, int, int, int, int]:
    every = found.values()
    return (
        sum(one.bars for one in every),
        sum(one.trades[0] for one in every),
        sum(len(one.only_backtest) + len(one.only_live) for one in every),
        sum(one.forecasts for one in every),
        sum(len(one.forecasts_apart) for one in every),
        sum(one.equal for one in every),
    )


def replays(kind: str, count: int, folder: Path) -> tuple[dict[str, "Parity"], float]:
    """The report of each case of a kind, by name, and the seconds that all took."""
    from bridge.models import Worker
    from bridge.terminal.build import build
    from tunetrade.replay import Ready, hosted, replay

    bars = bars_of(kind, count)
    forecaster, spec = forecaster_of(kind, bars), _spec()
    history = forecaster.warm_up + spec.context
    forecasts = _forecasts(forecaster, bars, np.arange(history - 1, len(bars)))
    np.savez(
        folder / "forecasts.npz", **{name: value for name, value in vars(forecasts).items() if name != "unique_id"}
    )
    program = build(optimised=True)
    models = Worker("benchmarks.parity:desks", [kind, str(count), str(folder)])
    try:
        facts = models.start()
        cases = {
            name: _case(bars, forecasts, name, trading, broker, history)
            for name, (trading, broker) in rules_of(kind).items()
        }
        with hosted(Ready(models, facts), folder) as host, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            begun = time.perf_counter()
            reports = list(pool.map(lambda case: replay(case, host, program), cases.values()))
            return dict(zip(cases, reports, strict=True)), time.perf_counter() - begun
    finally:
        models.close()


def _case(
    bars: "Bars", forecasts: "Forecasts", name: str, trading: "TradingRules", broker: "BrokerRules", history: int
) -> "Case":
    from tunetrade.replay import Case

    span = (forecasts.cutoff[0], forecasts.cutoff[-1])
    return Case(bars, span, forecasts, CONTEXT, trading, broker, name, history, magic=zlib.crc32(name.encode()))


def _forecasts(forecaster: "Forecaster", bars: "Bars", positions: np.ndarray) -> "Forecasts":
    from forecasting.forecasts import concatenate
    from forecasting.windows import contexts

    parts = np.array_split(positions, max(1, len(positions) // 512))
    return concatenate(
        [forecaster.predict(contexts(bars, _spec(), forecaster.warm_up, part)).forecasts for part in parts]
    )


def rules_of(kind: str) -> dict[str, tuple["TradingRules", "BrokerRules"]]:
    """Trading and broker rules by the name of their desk."""
    from strategies.contract import BrokerRules
    from strategies.rules import TradingRules
    from strategies.signals import SIGNALS
    from strategies.sizing import SIZINGS

    signals, sizings = list(SIGNALS), list(SIZINGS)
    if kind != "eurusd":
        sizings = sizings[1:3]
        signals = signals[:1]
    found = {}
    for n, signal in enumerate(signals):
        for m, sizing in enumerate(sizings):
            trading = TradingRules(
                signal=signal, sizing=sizing, threshold_k=0.01, probability_margin=0.0, quantile_level=0.25,
                kelly_fraction=0.5, max_leverage=5.0, max_lots=20.0, lots=0.37, **EXITS[(n + m) % len(EXITS)],
            )  # fmt: skip
            broker = BrokerRules(
                account="hedging" if (n + m) % 2 else "netting", deposit=25_000.0, spread_points=8.0,
                spread_sessions=("23:00-01:00 25",), commission_per_lot=3.5, slippage_points=0.7, swap_long=-7.5,
                swap_short=2.0, hours="08:00-20:00" if n == 3 else "",
                friday_close="21:00" if n == 2 or (kind == "synthetic" and m) else "",
            )  # fmt: skip
            found[f"{signal}-{sizing}"] = (trading, broker)
    return dict(list(found.items())[:1]) if kind in ("computed", "gpt2") else found


def desks(arguments: Sequence[str]) -> list["Desk"]:
    """The desks of a kind, in the process of the models; a `Stored` one looks forecasts up in a folder."""
    from bridge.desk import Desk
    from forecasting.forecasts import Forecasts
    from tunetrade.live import signal_rules

    kind, count, folder = arguments
    bars = bars_of(kind, int(count))
    forecaster: Any = forecaster_of(kind, bars)
    if kind in ("eurusd", "synthetic"):
        with np.load(Path(folder) / "forecasts.npz", allow_pickle=False) as kept:
            known = Forecasts(unique_id=bars.instrument.unique_id, **{name: kept[name] for name in kept.files})
        forecaster = Stored(known, forecaster.warm_up)
    return [
        Desk(
            unique_id=bars.instrument.unique_id, model_id=name, forecaster=forecaster, windows=_spec(),
            calendar=bars.calendar, tf_sec=3600, signal=signal_rules(trading.signal_rules, broker, bars),
            spread=0.0, point=bars.instrument.point, close_only=False, resize=trading.resize,
        )
        for name, (trading, broker) in rules_of(kind).items()
    ]  # fmt: skip


def _spec() -> Any:
    from forecasting.windows import WindowSpec

    return WindowSpec(context=CONTEXT, horizon=HORIZON)


def forecaster_of(kind: str, bars: "Bars") -> "Forecaster":
    """EWMA-t, or the embedded GPT-2 untuned; both with a short memory, so that most of the bars can be traded."""
    from forecasting.baselines import Asked, baseline
    from forecasting.codecs import BinsCodec
    from forecasting.sampler import SamplingOptions

    options = SamplingOptions(paths=16)
    if kind != "gpt2":
        codec = BinsCodec(half_lives=(3.0,), weights=(1.0,))
        honest = baseline("ewma-t", Asked(bars, _spec(), options, codec, codec.warm_up, (0, 99)))
        return Following(honest) if kind == "eurusd" else honest
    from forecasting.base import find_base, load_model
    from forecasting.decoder import weights_of
    from forecasting.forecaster import PathForecaster
    from forecasting.sampler import gpt2_decoders

    base = find_base("embedded")
    assert isinstance(base.codec, BinsCodec)
    codec = replace(base.codec, half_lives=(3.0,), weights=(1.0,))
    decoders = gpt2_decoders(weights_of(load_model(base)), options.paths, HORIZON)
    return PathForecaster(base.sha, codec, CONTEXT, options, decoders)


def bars_of(kind: str, count: int) -> "Bars":
    """So many bars of a kind."""
    if kind == "synthetic":
        return synthetic(count)
    bars = eurusd()
    return replace(bars, frame=bars.frame.iloc[:count])


def eurusd() -> "Bars":
    """The 5,000 hourly bars of EURUSD that the package `backtesting` carries."""
    import warnings

    from forecasting.bars import load_bars
    from forecasting.sources.options import SourceOptions

    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        from backtesting.test import EURUSD

        file = Path(folder) / "EURUSD_H1.csv"
        EURUSD.rename_axis("time").rename(columns=str.lower).to_csv(file)
        return load_bars(str(file), SourceOptions(server_tz="UTC"))


def synthetic(count: int) -> "Bars":
    """Hourly bars of a random walk in whole points with holes of an hour to four days, and jumps over them."""
    import pandas as pd

    from forecasting.bars import Bars, Instrument
    from forecasting.calendars import FxWeek

    rng, calendar = np.random.default_rng(5), FxWeek("H1")
    stamps = calendar.between(np.datetime64("2012-01-02", "ns"), np.datetime64("2022-01-01", "ns"))
    keep = rng.random(len(stamps)) > 0.01
    for first in rng.integers(0, len(stamps), len(stamps) // 1_000):
        keep[first : first + int(rng.integers(2, 96))] = False
    times = stamps[keep][:count]
    hole = np.diff(times, prepend=times[0]) > np.timedelta64(1, "h")
    path = np.round(rng.standard_t(4, (count, 6)) * 4).astype(np.int64)
    path[:, 0] = np.where(hole, rng.integers(-150, 151, count), rng.integers(-2, 3, count))
    walk = 120_000 + np.cumsum(path.ravel()).reshape(count, 6)
    walk = np.where(walk < 60_000, 120_000 - walk, walk)
    frame = pd.DataFrame(
        {
            "open": walk[:, 0] / 1e5, "high": walk.max(1) / 1e5, "low": walk.min(1) / 1e5, "close": walk[:, 5] / 1e5,
            "volume": 1.0, "spread": rng.integers(2, 15, count).astype(float),
        },
        index=pd.DatetimeIndex(times, name="time").tz_localize("UTC"),
    )  # fmt: skip
    facts = Instrument("EURUSD", "EUR", "USD", 5, "H1", "synthetic", "0" * 64, close_only=False)
    return Bars(frame, facts, calendar)


def _kinds() -> list[str]:
    """The kinds asked for, taken off the command line: all unless --only is there."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--only", action="append", choices=tuple(FULL))
    asked, sys.argv[1:] = parser.parse_known_args()
    return asked.only or list(FULL)


if __name__ == "__main__":
    main(partial(measure, kinds=_kinds()), __doc__)
