"""Volatility as one recursion, v <- omega + alpha e^2 + beta v, over the residuals of a window and on along its paths.

A normalised exponentially weighted mean of squares is the case omega = 0 whose weights depend on how many residuals it
has seen; GARCH(1,1) (Bollerslev 1986) is the case of constant weights.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

FLOOR = 1e-6
"""Least volatility of a one-bar return, so that a constant series has a density."""


class Volatility(Protocol):
    """A recursion for the variance of the next residual."""

    @property
    def start(self) -> float:
        """Variance before the first residual of a window."""
        ...

    def weights(self, seen: int) -> tuple[float, float, float]:
        """Omega, alpha and beta of the update by a residual, `seen` residuals having come before it."""
        ...


@dataclass(frozen=True)
class EwmaVolatility:
    """Mean of the squared residuals of the window, weights halving every `half_life` bars, divided by their sum."""

    half_life: float

    @property
    def start(self) -> float:
        """Takes no part: the first residual has all the weight there is."""
        return 0.0

    def weights(self, seen: int) -> tuple[float, float, float]:
        """Alpha is the newest weight, 1, divided by the sum of weights with it."""
        decay = 0.5 ** (1.0 / self.half_life)
        alpha = (1 - decay) / (1 - decay ** (seen + 1))
        return 0.0, alpha, 1 - alpha


@dataclass(frozen=True)
class GarchVolatility:
    """GARCH(1,1) with given parameters, from variance `start`."""

    omega: float
    alpha: float
    beta: float
    start: float

    def weights(self, seen: int) -> tuple[float, float, float]:
        """Constant."""
        return self.omega, self.alpha, self.beta


def filtered(volatility: Volatility, residuals: np.ndarray) -> np.ndarray:
    """Variance of the residual after the last, [N]; residuals [N, T] of the windows."""
    variance = np.full(len(residuals), volatility.start)
    for t, residual in enumerate(np.ascontiguousarray(residuals.T)):
        variance = after(volatility, variance, residual, t)
    return variance


def after(volatility: Volatility, variance: np.ndarray, residual: np.ndarray, seen: int) -> np.ndarray:
    """Variance after one more residual, elementwise."""
    omega, alpha, beta = volatility.weights(seen)
    return np.asarray(omega + alpha * (residual * residual) + beta * variance)
