"""A forecaster that simulates: dynamics for each window, fitted or fixed, and the shared uniforms."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from forecasting.baselines.asked import Asked
from forecasting.baselines.groups import by_group
from forecasting.baselines.simulate import Dynamics, simulate
from forecasting.files import sha256_of
from forecasting.forecaster import Prediction, Progress
from forecasting.windows import Contexts


@dataclass(frozen=True, eq=False)
class Simulated:
    """Student-t or normal returns with moving volatility.

    dynamics: those of each of N cutoffs, from times before it. identity: hash of what they depend on. seasonal:
    whether returns are divided by the hour-of-week profile.
    """

    asked: Asked
    dynamics: Callable[[np.ndarray], list[Dynamics]]
    identity: str
    seasonal: bool = False

    @property
    def sha(self) -> str:
        """Model, context, paths and sampling seed, profile where used; not threads, which change no result."""
        asked = self.asked
        pattern = asked.pattern if self.seasonal else ""
        return sha256_of(self.identity, pattern, f"{asked.window}|{asked.options.paths}|{asked.options.seed}")

    @property
    def warm_up(self) -> int:
        """The models' own, so that all share the same windows."""
        return self.asked.warm_up

    def predict(self, contexts: Contexts, progress: Progress | None = None) -> Prediction:
        """Simulate every window; see `simulate`."""

        def predict(some: Contexts, dynamics: Dynamics) -> Prediction:
            seen, ahead = self._factors(some.times[:, 1:]), self._factors(some.ahead)
            return simulate(some, dynamics, seen, ahead, self.asked.options)

        return by_group(contexts, self.dynamics(contexts.cutoffs), predict, progress)

    def _factors(self, times: np.ndarray) -> np.ndarray:
        return self.asked.hours.factors(times) if self.seasonal else np.ones(times.shape)
