"""A fixed number of decimal digits a close, one token each: the return since a fixed anchor, written out.

Anchor and unit are those of the last close *before* the context, so every token of the window, context included, is
predicted from the past alone; a scale taken from the end of the context would leak it into each of its tokens. The
count of digits is fixed, so closes need no separator and a token's place in the window says which digit it is. The
price of the format is D tokens a close and a range that is fixed beforehand: closes beyond it are written as its edge.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from forecasting.codecs.bins import returns_of
from forecasting.codecs.codec import Scaled, check_closes, plain_settings
from forecasting.codecs.grammar import Grammar, fixed_digits
from forecasting.errors import CheckpointError, ConfigError
from forecasting.scale import Volatility, causal_sigma

BEND = 0.5
"""Ratio to the anchor below which a change is a logarithm of the price, so that every change is a positive price."""

LOWEST = -700.0
"""Least exponent of a price below the bend: beyond it float64 would say zero."""


def ratio_of(change: np.ndarray) -> np.ndarray:
    """Price over anchor of a change: 1 + change, below the bend the exponential of the same slope there."""
    below = BEND * np.exp(np.maximum((np.minimum(change, BEND - 1) + 1 - BEND) / BEND, LOWEST))
    return np.where(change < BEND - 1, below, 1 + change)


def change_of(ratio: np.ndarray) -> np.ndarray:
    """Inverse of `ratio_of`; ratio > 0."""
    return np.where(ratio < BEND, BEND - 1 + BEND * np.log(np.minimum(ratio, BEND) / BEND), ratio - 1)


def slope_of(ratio: np.ndarray) -> np.ndarray:
    """Derivative of `ratio_of` at the change of a ratio."""
    return np.minimum(ratio / BEND, 1.0)


@dataclass(frozen=True)
class DigitsState:
    """What decoding needs beside tokens, [N] each.

    anchor: price that stands for no change; cell: change per unit of the last digit. close: the last close encoded;
    volatility: state after it. clipped: closes of the window that were out of range and written as its edge.
    """

    anchor: np.ndarray
    cell: np.ndarray
    close: np.ndarray
    volatility: Volatility
    clipped: np.ndarray


@dataclass(frozen=True)
class DigitsCodec(Scaled):
    """Settings of the codec; they travel with the checkpoint.

    digits: tokens a close, D. length: most closes of a window, context and horizon together, over which the range must
    hold. reach: half the range in units of sigma * sqrt(length). half_lives, weights, power, dof, floor: of the
    volatility (`scale.Scale`).

    With the default reach of 8 none of 25.6 million closes of simulated t(5) walks left the range (at 5 it is 1.3e-5 of
    them); a cell is 0.0128 sigma wide.
    """

    digits: int = 4
    length: int = 64
    reach: float = 8.0
    half_lives: tuple[float, ...] = (10.0, 80.0)
    weights: tuple[float, ...] = (0.7, 0.3)
    power: float = 1.5
    dof: float = 7.0
    floor: float = 1e-6

    def __post_init__(self) -> None:
        if not 1 <= self.digits <= 8:
            raise ConfigError(f"codec.digits is {self.digits}; give 1 to 8 digits a close")
        if self.length < 2:
            raise ConfigError(f"codec.length is {self.length}; give at least 2 closes, context and horizon together")
        if not self.reach > 0:
            raise ConfigError(f"codec.reach is {self.reach}; give a positive number of sigma * sqrt(length)")
        self.scale.shares(1)

    @property
    def vocabulary(self) -> int:
        """Number of tokens a model of this codec has."""
        return 10

    @property
    def cuts(self) -> bool:
        """A token's place in the window says which digit it is, so no window is cut."""
        return False

    @cached_property
    def grammar(self) -> Grammar:
        """D digits a close, nothing else."""
        return fixed_digits(self.digits)

    @property
    def draws(self) -> int:
        """Uniform numbers that a close is drawn from: one, as numbers in order are prices in order."""
        return 1

    @property
    def unchanged(self) -> int:
        """Number that stands for no change since the anchor."""
        return 5 * int(10 ** (self.digits - 1))

    @cached_property
    def powers(self) -> np.ndarray:
        """Weight of each digit, most significant first, [D]."""
        return np.asarray(10 ** np.arange(self.digits - 1, -1, -1))

    def encode(self, closes: np.ndarray, times: np.ndarray, tokens: int) -> tuple[np.ndarray, DigitsState]:
        """Digits of the last `tokens` closes of each window.

        closes [N, T] float64, T > tokens + 1; the closes before those give anchor and unit. `times` play no part.
        Gives (ids int64 [N, tokens * D], state after the last close).
        """
        check_closes(closes)
        self._check_length(tokens)
        before = closes.shape[1] - tokens
        if before < 2:
            raise ConfigError(f"{before} closes before the context: the digits codec takes its scale from at least 2")
        sigma, volatility = causal_sigma(returns_of(np.ascontiguousarray(closes)), self.scale)
        anchor = np.ascontiguousarray(closes[:, before - 1])
        cell = 2 * self.reach * sigma[:, before - 1] * np.sqrt(self.length) / 10**self.digits
        last = np.ascontiguousarray(closes[:, -1])
        state = DigitsState(anchor, cell, last, volatility, np.zeros(len(closes), dtype=np.int64))
        ids, outside = self.write(closes[:, before:], state)
        at_edge = self.decode(ids[:, -self.digits :], state, closes[:, -1:])[:, 0]
        shifted = np.where(outside[:, -1], anchor * last / at_edge, anchor)
        return ids, replace(state, anchor=shifted, clipped=outside.sum(axis=1))

    def write(self, closes: np.ndarray, state: DigitsState) -> tuple[np.ndarray, np.ndarray]:
        """Digits of closes on a state's scale, [N, T * D], and which of them are out of range, [N, T]; closes [N, T].

        A close is the number of whole cells nearest to its change since the anchor, counted from the middle number.
        """
        number = np.rint(change_of(closes / state.anchor[:, None]) / state.cell[:, None]) + self.unchanged
        held = np.clip(number, 0, 10**self.digits - 1)
        ids = held.astype(np.int64)[:, :, None] // self.powers % 10
        return ids.reshape(len(closes), closes.shape[1] * self.digits), held != number

    def decode(self, ids: np.ndarray, state: DigitsState, times: np.ndarray) -> np.ndarray:
        """Closes at the middle of their cells, [N, H]; ids [N, H * D], times [N, H] of those bars."""
        return self.closes_of(ids, np.full((len(ids), times.shape[1]), 0.5), state)

    def closes_of(self, ids: Sequence[np.ndarray] | np.ndarray, parts: np.ndarray, state: DigitsState) -> np.ndarray:
        """Closes spread within their cells, [N, H]; ids [N, H * D], parts [N, H] in [0, 1], state of N windows or 1.

        Where the last close of the context was out of range, its prices are counted from that close as numbers are from
        the edge that stands for it; such a forecast starts where the market is and lacks the room on that side.
        """
        ids = np.asarray(ids)
        if ids.shape[1] != parts.shape[1] * self.digits:
            raise ConfigError(f"{ids.shape[1]} digits for {parts.shape[1]} closes of {self.digits} digits each")
        number = ids.reshape(len(ids), parts.shape[1], self.digits) @ self.powers
        change = (number - self.unchanged + parts - 0.5) * state.cell[:, None]
        return np.asarray(state.anchor[:, None] * ratio_of(change))

    def fit(self, ids: np.ndarray, room: int) -> np.ndarray:
        """One window's ids [L], which must fit whole, as a token's place says which digit it is."""
        if len(ids) > room:
            raise ConfigError(
                f"windows.context of {len(ids) // self.digits} closes of {self.digits} digits needs {len(ids)} "
                f"positions and the model has {max(room, 0)} beside its forecast; shorten the context"
            )
        return ids

    def most_tokens(self, closes: int) -> int:
        """D tokens a close."""
        return closes * self.digits

    def check_windows(self, context: int, horizon: int) -> None:
        """ConfigError where a window has more closes than the range was made for."""
        self._check_length(context + horizon)

    def _check_length(self, closes: int) -> None:
        if closes > self.length:
            raise ConfigError(
                f"a window of {closes} closes, and the digits codec's range holds for codec.length {self.length}; "
                f"shorten windows.context or windows.horizon"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain settings for `codec.json`."""
        return {"kind": "digits"} | asdict(self)

    @staticmethod
    def from_dict(settings: dict[str, Any]) -> "DigitsCodec":
        """Inverse of `as_dict`; CheckpointError where the settings are of another codec."""
        if settings.get("kind") != "digits":
            raise CheckpointError(f"codec.json names codec {settings.get('kind')!r}; 'digits' was expected")
        return DigitsCodec(**plain_settings(settings))
