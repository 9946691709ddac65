"""NSGA-II whose every draw is a function of the seed, the trial's number and the generations before it.

Optuna counts a trial to the generation that is open when it begins, so who finishes first changes what comes next. Here
trial n is of generation n // population and is drawn by a generator of its own, once all trials of earlier generations
have ended: the trials come out the same from one process or several, killed or not. The price is that processes wait
for one another at the end of a generation.
"""

from typing import TYPE_CHECKING

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from tunetrade.optimize_reads import used
from tunetrade.optimize_space import Dimension, OptimizeOptions, Point, Space, Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study

ATTEMPTS = 60
"""Draws of a trial before a point that reads the same as an earlier one is taken once more."""

GENETIC = 20
"""Of these, draws by crossover and mutation; the others are drawn evenly from the space."""


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's form of a space, by name: draws depend on the order of keys, and files may have another."""
    return {key: _distribution(space[key]) for key in sorted(space)}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if dimension.whole:
        step = round(dimension.step) or 1
        return IntDistribution(round(dimension.low), round(dimension.high), log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step or None)


class Generations(NSGAIISampler):
    """NSGA-II with generations by number; it writes nothing into the study."""

    def __init__(self, population: int, seed: int) -> None:
        super().__init__(population_size=population, seed=seed)
        self._population = population

    def get_trial_generation(self, study: "Study", trial: FrozenTrial) -> int:
        """The generation of a trial's number."""
        return trial.number // self._population

    def get_population(self, study: "Study", generation: int) -> list[FrozenTrial]:
        """Completed trials of a generation, by number."""
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        own = [trial for trial in done if trial.number // self._population == generation]
        return sorted(own, key=lambda trial: trial.number)

    def get_parent_population(self, study: "Study", generation: int) -> list[FrozenTrial]:
        """The best of all generations before this one, by number."""
        return sorted(self.select_parent(study, generation), key=lambda trial: trial.number) if generation else []

    def sample_relative(
        self, study: "Study", trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Value]:
        """A child of two parents; nothing where fewer than two trials of earlier generations came to anything."""
        first = trial.number - trial.number % self._population
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        enough = sum(other.number < first for other in done) > 1
        return super().sample_relative(study, trial, search_space) if enough else {}


def next_point(
    study: "Study",
    number: int,
    space: Space,
    options: OptimizeOptions,
    own: Point | None,
    fits: "Callable[[Point], bool]",
) -> Point:
    """The point of trial `number`, all trials of earlier generations being done and all lower numbers known.

    own: of the first trial, where the space holds the study as it stands. fits: whether a point contradicts nothing.
    A point that reads the same as one tried already is passed by as long as others are found.
    """
    if number == 0 and own is not None:
        return own
    tried = [used(trial.params) for trial in study.get_trials(deepcopy=False) if trial.number < number]
    kinds, last = distributions(space), None
    attempt = 0
    while True:
        seed = int(np.random.SeedSequence([options.seed, number, attempt]).generate_state(1)[0])
        point = _drawn(study, number, kinds, Generations(options.population, seed), attempt < GENETIC)
        attempt += 1
        if fits(point):
            last = point
        if last is not None and (used(last) not in tried or attempt >= ATTEMPTS):
            return last


def _drawn(
    study: "Study", number: int, kinds: dict[str, BaseDistribution], sampler: Generations, genetic: bool
) -> Point:
    trial = create_trial(state=TrialState.RUNNING)
    trial.number = number
    movable = {key: kind for key, kind in kinds.items() if not kind.single()}
    child = sampler.sample_relative(study, trial, movable) if genetic else {}
    drawn = {
        key: child[key] if key in child else sampler.sample_independent(study, trial, key, kind)
        for key, kind in kinds.items()
    }
    return {key: readable(value, kinds[key]) for key, value in drawn.items()}


def readable(value: Value, kind: BaseDistribution) -> Value:
    """A number between two others to four digits: nobody can tell a threshold of 0.361 from one of 0.36101997."""
    if not isinstance(kind, FloatDistribution) or kind.step:
        return value
    return min(max(float(f"{value:.4g}"), kind.low), kind.high)
