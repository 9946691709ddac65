"""What a study asks and cannot be, refused before any work rather than after the others have trained."""

import sys
from collections.abc import Collection, Mapping

from forecasting.bars import Bars
from forecasting.base import Base, find_base
from forecasting.baselines import BASELINES
from forecasting.baselines.asked import check_hours
from forecasting.checkpoint import trains_rows
from forecasting.codecs import positions_needed
from forecasting.errors import ConfigError
from forecasting.methods import method
from forecasting.quality import warnings_of
from forecasting.sources.options import SourceOptions
from forecasting.training.precision import device_of
from tunetrade.config import StudyConfig
from tunetrade.prepared import Prepared


def check_methods(study: StudyConfig) -> None:
    """ConfigError for the first method that contradicts the study's training, windows or base, with the cure."""
    base = find_base(study.base)
    for name in study.methods:
        check_method(study, name, base)


def check_machine(study: StudyConfig, name: str, stages: Collection[str]) -> None:
    """ConfigError where this machine lacks a device that these stages of a method's cell need."""
    if "train" in stages and method(name).trains:
        device_of(study.training)
    if "forecast" in stages or "validate" in stages:
        study.sampling.check_device()


def has_baseline(name: str, prepared: Prepared) -> bool:
    """Whether the baseline can be had on a series: a seasonal one needs the pattern of a week."""
    return not BASELINES[name].seasonal or bool(prepared.hours.profile)


def check_baselines(study: StudyConfig, prepared: Mapping[str, Prepared]) -> None:
    """ConfigError for the first baseline that no series of the study has (`prepared`, by unique id).

    One that only some have is left out on the others, and so are ensembles of it, which is said on standard error.
    """
    for name in study.baselines:
        without = [unique_id for unique_id, part in prepared.items() if not has_baseline(name, part)]
        if len(without) == len(prepared):
            check_hours(name, prepared[without[0]].hours, without[0])
        for unique_id in without:
            made_of_it = [other for other, options in study.ensemble.items() if name in options.members]
            left_out = ", ".join([name, *made_of_it])
            print(f"tunetrade: warning: {unique_id} has no hour-of-week profile: no {left_out} there", file=sys.stderr)


def warn(bars: Bars, options: SourceOptions) -> None:
    """Say on standard error what is odd about bars that are taken all the same."""
    for said in warnings_of(bars, options):
        print(f"tunetrade: warning: {said}", file=sys.stderr)


def check_method(study: StudyConfig, name: str, base: Base) -> None:
    """The same for one method; base: the study's."""
    chosen, options, training = method(name), study.options_of(name), study.training
    trains_rows(base, name, options)  # refuses rows that are to train where nothing does
    if chosen.trains and training.checkpointing and not chosen.checkpointing:
        raise ConfigError(
            f"method {name} cannot recompute its activations; set training.checkpointing = false, or leave {name} out "
            "of methods"
        )
    if 0 < options.batch_size < training.accumulate:
        raise ConfigError(
            f"method.{name}.batch_size is {options.batch_size}, training.accumulate {training.accumulate}; a "
            "micro-batch has at least one window: raise the former or lower the latter"
        )
    needed = positions_needed(base.codec, study.windows.context, study.windows.horizon)
    left = base.positions - needed
    if chosen.taken(options) > max(left, 0):
        raise ConfigError(
            f"method.{name}.tokens is {chosen.taken(options)}: the base has {base.positions} positions, of which "
            f"windows need {needed}; give at most {left}, shorten windows.context, or leave {name} out of methods"
            if left > 0
            else f"method {name} needs positions for its tokens, and windows need {needed} of the base's "
            f"{base.positions}; shorten windows.context, or leave {name} out of methods"
        )
    chosen.check(options, base)
