"""One token a bar: the return in units of causal volatility, in an odd number of Student-t quantile bins.

Quantile bins spend tokens where returns are, so a uniform softmax is already a sensible density (a random walk with t
innovations) and all a model learns is its correction. The middle bin holds zero: an unchanged close decodes to itself.
The price of the format is a resolution of about 1/255 of a probability in the middle and one outer bin on each side for
the largest 0.4 % of moves; those decode to the tail of the t distribution, not to a point.
"""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import stdtrit

from forecasting.codecs.codec import Scaled, check_closes, plain_settings
from forecasting.errors import CheckpointError, ConfigError
from forecasting.scale import Volatility, causal_sigma, fit_profile, hour_of_week

TAIL_SEGMENTS = 16
"""Pieces of each outer bin, each half as probable as the one before it; the last ends near 1e-7 of all moves."""

LEAST_RATIO = 1e-3
"""A bar never decodes to less than this part of the close before it; only the far tail of sigmas above 2 % does so."""


def returns_of(closes: np.ndarray) -> np.ndarray:
    """Simple returns along the last axis, one fewer than closes.

    Not log-returns: a density symmetric in those has a mean price above the last close (by sigma^2 / 2 a bar, Siegel's
    paradox), so that a signal on predicted means would be long whatever the model. In simple returns equally likely
    tokens are exactly a random walk, and means are linear in token probabilities.
    """
    return np.asarray(np.diff(closes, axis=-1) / closes[..., :-1])


@dataclass(frozen=True)
class BinState:
    """What decoding needs beside tokens: volatility state and close at the last bar encoded, [N] each."""

    volatility: Volatility
    close: np.ndarray


@dataclass(frozen=True)
class BinsCodec(Scaled):
    """Settings of the codec; they travel with the checkpoint.

    bins: odd number of tokens. dof: degrees of freedom of the unit-variance t whose quantiles bound the bins.
    half_lives, weights, power: of the volatility (`scale.Scale`). floor: least sigma of a one-bar return. profile:
    relative volatility of the 168 hours of the local week in `timezone`, for bars of `bar_seconds`; empty for daily
    and longer bars.
    """

    bins: int = 255
    dof: float = 7.0
    half_lives: tuple[float, ...] = (10.0, 80.0)
    weights: tuple[float, ...] = (0.7, 0.3)
    power: float = 1.5
    floor: float = 1e-6
    profile: tuple[float, ...] = ()
    timezone: str = "UTC"
    bar_seconds: int = 86_400

    def __post_init__(self) -> None:
        if self.bins < 3 or self.bins % 2 == 0:
            raise ConfigError(f"codec.bins is {self.bins}; it must be odd and at least 3, so that zero has its own bin")
        self.scale.shares(1)

    @property
    def vocabulary(self) -> int:
        """Number of tokens a model of this codec has."""
        return self.bins

    @property
    def cuts(self) -> bool:
        """A window has the closes it was asked for."""
        return False

    @cached_property
    def edges(self) -> np.ndarray:
        """Inner bounds of the bins in units of sigma, [bins - 1]."""
        unit = np.sqrt((self.dof - 2) / self.dof)
        lower = stdtrit(self.dof, np.arange(1, (self.bins + 1) // 2) / self.bins) * unit
        return np.concatenate([lower, -lower[::-1]])

    @cached_property
    def knots(self) -> np.ndarray:
        """Bounds of the segments on which density is even, in units of sigma, [segments + 1]."""
        unit = np.sqrt((self.dof - 2) / self.dof)
        survival = 0.5 ** np.arange(1, TAIL_SEGMENTS + 1) / self.bins
        lower_tail = stdtrit(self.dof, survival[::-1]) * unit
        return np.concatenate([lower_tail, self.edges, -lower_tail[::-1]])

    @cached_property
    def segment_token(self) -> np.ndarray:
        """Token to which each segment belongs, [segments]."""
        tail = np.zeros(TAIL_SEGMENTS, dtype=np.int64)
        return np.concatenate([tail, np.arange(1, self.bins - 1), tail + self.bins - 1])

    @cached_property
    def segment_share(self) -> np.ndarray:
        """Part of its token's probability that each segment holds, [segments]."""
        halves = 0.5 ** np.arange(1, TAIL_SEGMENTS + 1)
        halves[-1] *= 2
        return np.concatenate([halves[::-1], np.ones(self.bins - 2), halves])

    @cached_property
    def centres(self) -> np.ndarray:
        """Value each token decodes to, in units of sigma, [bins]: middle of an inner bin, mean of an outer one."""
        middle = (self.knots[:-1] + self.knots[1:]) / 2 * self.segment_share
        centres = np.bincount(self.segment_token, weights=middle, minlength=self.bins)
        centres[self.bins // 2] = 0.0
        return centres

    def with_profile(self, closes: np.ndarray, times: np.ndarray) -> "BinsCodec":
        """The codec with an hour-of-week profile fitted on these bars: closes [T], times [T], training part only."""
        hours = hour_of_week(times[1:], self.timezone, self.bar_seconds)
        return replace(self, profile=tuple(fit_profile(returns_of(closes), hours).tolist()))

    def factors(self, times: np.ndarray) -> np.ndarray:
        """Relative volatility at each bar, of the shape of `times` (datetime64[ns] UTC close times)."""
        if not self.profile:
            return np.ones(times.shape)
        profile = np.asarray(self.profile, dtype=np.float64)
        return np.asarray(profile[hour_of_week(times, self.timezone, self.bar_seconds)])

    def encode(self, closes: np.ndarray, times: np.ndarray, tokens: int) -> tuple[np.ndarray, BinState]:
        """Tokens of the last `tokens` bars of each window.

        closes [N, T] float64, times [N, T]; T > tokens, the bars before go into the scale only.
        Gives (ids int64 [N, tokens], state after the last bar).
        """
        check_closes(closes)
        returns = returns_of(np.ascontiguousarray(closes))
        factors = self.factors(times[:, 1:])
        scaled = returns / factors
        sigma, volatility = causal_sigma(scaled, self.scale)
        z = scaled[:, -tokens:] / sigma[:, -tokens:]
        ids = np.searchsorted(self.edges, z, side="right")
        return ids.astype(np.int64), BinState(volatility, np.ascontiguousarray(closes[:, -1]))

    def decode(self, ids: np.ndarray, state: BinState, times: np.ndarray) -> np.ndarray:
        """Closes that follow from tokens, each at the centre of its bin, [N, H]: point decoding.

        It says what tokens mean, to people and to tests of `encode`. The sampler does not use it: its closes are spread
        within bins, along its own paths. ids [N, H], times [N, H] of those bars.
        """
        factors = self.factors(times)
        volatility, close = state.volatility, state.close
        closes = np.empty(ids.shape)
        for h in range(ids.shape[1]):
            scaled = self.centres[ids[:, h]] * volatility.sigma(self.scale)
            close = close * np.maximum(1 + scaled * factors[:, h], LEAST_RATIO)
            volatility = volatility.after(scaled, self.scale)
            closes[:, h] = close
        return closes

    def most_tokens(self, closes: int) -> int:
        """A token a close."""
        return closes

    def check_windows(self, context: int, horizon: int) -> None:
        """Any window can be written."""

    def as_dict(self) -> dict[str, Any]:
        """Plain settings for `codec.json`."""
        return {"kind": "bins"} | asdict(self)

    @staticmethod
    def from_dict(settings: dict[str, Any]) -> "BinsCodec":
        """Inverse of `as_dict`; CheckpointError where the settings are of another codec."""
        if settings.get("kind") != "bins":
            raise CheckpointError(f"codec.json names codec {settings.get('kind')!r}; 'bins' was expected")
        return BinsCodec(**plain_settings(settings))
