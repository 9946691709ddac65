"""Prices gone wrong, each a transformation of real bars from one bar on or throughout; stamps stay as they are."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from forecasting.bars import Bars
from forecasting.sources.table import PRICES

FLASH, PEG, PEG_CALM, AFTER_PEG = 0.06, 0.18, 0.05, 3.0
"""Fall of a flash crash; fall of EURCHF's break of 2015, and its volatility before and after as parts of the usual."""

WIDE = 50.0
"""Times the usual spread, as on the morning of that break."""

WIDE_BARS = 10

STEP = 4
"""Bars in one of a longer timeframe."""


@dataclass(frozen=True)
class Scene:
    """Bars and where what is wrong begins; forecasts are asked for from `event` to `last`, positions of bars."""

    bars: Bars
    event: int
    last: int

    @property
    def cutoffs(self) -> np.ndarray:
        """Positions of all cutoffs, int64."""
        return np.arange(self.event, self.last + 1)


def calm(scene: Scene) -> Scene:
    """Nothing is wrong: what the others are held beside."""
    return scene


def flash_crash(scene: Scene) -> Scene:
    """One close far below, the next one back; the bar between opens where the crash left off."""
    frame = _prices(scene.bars)
    at = scene.event
    frame["close"][at] *= 1 - FLASH
    frame["low"][at] = min(frame["low"][at], frame["close"][at])
    frame["open"][at + 1] = frame["close"][at]
    frame["low"][at + 1] = min(frame["low"][at + 1], frame["open"][at + 1])
    return _with(scene, frame)


def peg_break(scene: Scene) -> Scene:
    """Hardly a move for as long as a model looks back, then a fall within one bar, then larger moves than ever."""
    bars, at = scene.bars, scene.event
    closes = bars.closes
    returns = np.diff(closes) / closes[:-1]
    returns[: at - 1] *= PEG_CALM
    returns[at - 1] = -PEG
    returns[at:] *= AFTER_PEG
    path = closes[0] * np.concatenate([[1.0], np.cumprod(1 + np.maximum(returns, -0.5))])
    scale = np.concatenate([np.full(at, PEG_CALM), [1.0], np.full(len(closes) - at - 1, AFTER_PEG)])
    return _with(scene, _around(bars, path, scale))


def dead_feed(scene: Scene) -> Scene:
    """The same close again and again, from before all that the forecasts asked for look back on."""
    frame = _prices(scene.bars)
    for name in PRICES:
        frame[name][:] = scene.bars.closes[scene.event]
    return _with(scene, frame)


def doubled_scale(scene: Scene) -> Scene:
    """Every price from the event on is twice what it was: a feed that changed its unit."""
    frame = _prices(scene.bars)
    for name in PRICES:
        frame[name][scene.event :] *= 2
    return _with(scene, frame)


def doubled_throughout(scene: Scene) -> Scene:
    """Every price is twice what it was."""
    return _with(scene, {name: 2 * values for name, values in _prices(scene.bars).items()})


def swapped_pair(scene: Scene) -> Scene:
    """USDEUR where EURUSD was meant: every price is its inverse, high and low change places."""
    frame = {name: 1 / values for name, values in _prices(scene.bars).items()}
    return _with(scene, {**frame, "high": frame["low"], "low": frame["high"]})


def longer_bars(scene: Scene) -> Scene:
    """Bars of a longer timeframe on the stamps of this one: each is STEP bars in one."""
    prices, count = _prices(scene.bars), len(scene.bars)
    ends = np.arange(count - 1, STEP - 2, -STEP)[::-1]
    groups = ends[:, None] - np.arange(STEP)[::-1]
    made = {
        "open": prices["open"][groups[:, 0]],
        "high": prices["high"][groups].max(axis=1),
        "low": prices["low"][groups].min(axis=1),
        "close": prices["close"][ends],
    }
    frame = scene.bars.frame.iloc[count - len(ends) :].copy()
    for name, values in made.items():
        frame[name] = values
    last = len(frame) - 1 - (count - 1 - scene.last) // STEP
    return Scene(replace(scene.bars, frame=frame), last - (scene.last - scene.event), last)


def wide_spread(scene: Scene, points: float) -> Scene:
    """A spread of so many points, and for some bars from the event on of WIDE times that."""
    frame = scene.bars.frame.copy()
    spread = np.full(len(frame), points)
    spread[scene.event : scene.event + WIDE_BARS] *= WIDE
    frame["spread"] = spread
    return replace(scene, bars=replace(scene.bars, frame=frame))


def _prices(bars: Bars) -> dict[str, np.ndarray]:
    return {name: bars.frame[name].to_numpy(np.float64).copy() for name in PRICES}


def _around(bars: Bars, path: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
    """Bars about other closes [T]: opens at the close before, highs and lows as far beyond, times `scale` [T]."""
    own = _prices(bars)
    if bars.instrument.close_only:
        return dict.fromkeys(PRICES, path)
    opened = np.concatenate([path[:1], path[:-1]])
    above = (own["high"] / np.maximum(own["open"], own["close"]) - 1) * scale
    below = (1 - own["low"] / np.minimum(own["open"], own["close"])) * scale
    return {
        "open": opened, "close": path,
        "high": np.maximum(opened, path) * (1 + above), "low": np.minimum(opened, path) * (1 - below),
    }  # fmt: skip


def _with(scene: Scene, prices: dict[str, Any]) -> Scene:
    frame = scene.bars.frame.copy()
    if scene.bars.instrument.close_only:
        prices = dict.fromkeys(PRICES, prices["close"])
    for name, values in prices.items():
        frame[name] = values
    return replace(scene, bars=replace(scene.bars, frame=frame))
