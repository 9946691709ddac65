"""Tune a method on rows of tokens that are given, outside any study: for protocols that are not ours."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from forecasting import methods, train
from forecasting.checkpoint import load_tuned, new_model, plan_of, save_checkpoint
from forecasting.codecs import AnyCodec, TextCodec
from forecasting.codecs.grammar import FORBIDDEN
from forecasting.errors import ConfigError
from forecasting.methods import MethodOptions
from forecasting.windows import WindowSpec


@dataclass(frozen=True)
class RowTraining:
    """What is tuned on what: a base by name, a method, its settings, and the loop's.

    rows int64 [N, L]. The loop keeps the weights of least loss on `judged` [M, L], of which the first `given` tokens
    are input only.
    """

    base: str
    method: str
    options: MethodOptions
    rows: np.ndarray
    judged: np.ndarray
    given: int
    settings: train.TrainingOptions
    seed: int


def tune_rows(
    asked: RowTraining,
    folder: Path,
    codec: AnyCodec,
    spec: WindowSpec,
    state: Path,
    report: Callable[[int, int], None] | None = None,
) -> tuple[train.TrainingResult, int]:
    """Write the tuned model as a checkpoint folder; gives how it went and how many parameters were trained.

    `report(step, steps)` is called after each step. Resumes from `state` where it is there.
    """
    torch.set_num_threads(asked.settings.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(asked.seed)
    model = new_model(asked.base, asked.method, asked.options)
    settings = asked.settings.for_windows(len(asked.rows))
    rate = settings.learning_rate or asked.options.learning_rate
    data = train.TrainingData(asked.rows, asked.judged, asked.given)
    plan = plan_of(model, asked.base, asked.method, asked.options, settings.steps, rate)

    def told(step: int, _: float, __: float | None) -> None:
        if report:
            report(step, settings.steps)

    result = train.train(model, data, settings, rate, asked.seed, state, told, plan)
    save_checkpoint(folder, model, asked.method, asked.options, spec, codec, asked.base)
    return result, methods.trained_parameters(model)


def row_loss(folder: Path, rows: np.ndarray, given: int | np.ndarray) -> float:
    """Nats per token of a checkpoint on rows [N, L], over what comes after the first `given` tokens of each."""
    return train.target_loss(load_tuned(folder).model, rows, given)


def parse_chance(folder: Path, ids: np.ndarray, given: int) -> float:
    """Chance that unmasked sampling writes prices all the way along one text: product of what the grammar would allow.

    ids int64 [L], the first `given` of them input. Teacher-forced: at each token the text so far is as it is.
    """
    tuned = load_tuned(folder)
    if not isinstance(tuned.codec, TextCodec):
        raise ConfigError(f"{folder} does not write text; give a checkpoint of the text codec")
    grammar, state, kept = tuned.codec.grammar, 0, 0.0
    place = {int(token): i for i, token in enumerate(grammar.ids)}
    with torch.no_grad():
        chances = torch.softmax(tuned.logits(torch.from_numpy(ids)).double(), dim=-1).numpy()
    for position, token in enumerate(ids.tolist()):
        if position >= given:
            kept += float(np.log(chances[position - 1][grammar.ids[grammar.needs[state] < FORBIDDEN]].sum()))
        state = int(grammar.following[state, place[token]])
    return float(np.exp(kept))
