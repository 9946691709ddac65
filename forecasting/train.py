"""The one training loop; methods are data to it.

Nothing random is carried from step to step: the rows of a step and the dropout in it are functions of (seed, step),
so a killed run resumes from its last state file and ends bit for bit where an unbroken one ends. One state file holds
weights, best weights, optimiser and history together, so it can never be half of each.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from forecasting.codecs.rows import PADDING
from forecasting.errors import ConfigError
from forecasting.files import atomic, reading


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of the loop.

    steps: most steps. batch_size: windows a step. learning_rate: 0 takes the method's own. warm_up: share of the
    steps. evaluate_every: steps between validations, which are also the points a killed run resumes from. min_steps:
    never stop before. patience: validations without improvement before stopping. threads: of matrix products; results
    depend on it, so the default is 1 on every machine.
    """

    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 0.0
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    evaluate_every: int = 25
    min_steps: int = 200
    patience: int = 4
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "evaluate_every", "patience", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name} is {getattr(self, name)}; give a whole number of at least 1")
        if not 0 <= self.learning_rate < 1:
            raise ConfigError(
                f"training.learning_rate is {self.learning_rate}; give 0 (the method's own) up to below 1"
            )
        if not 0 <= self.warm_up < 1:
            raise ConfigError(f"training.warm_up is {self.warm_up}; give a share of the steps from 0 to below 1")
        if self.weight_decay < 0 or self.min_steps < 0:
            raise ConfigError("training.weight_decay and training.min_steps must not be negative; 0 turns either off")
        if self.clip <= 0:
            raise ConfigError(f"training.clip is {self.clip}; give a positive gradient norm")


@dataclass(frozen=True)
class TrainingData:
    """Token windows, int64 [N, L] with PADDING after rows that are shorter (`codecs.rows`).

    context: tokens at the beginning of each validation row that are input only; [N], or one number for all.
    """

    train: np.ndarray
    validation: np.ndarray
    context: int | np.ndarray


@dataclass(frozen=True)
class TrainingResult:
    """How a training went.

    `history` has a row for each validation, {step, train_loss, validation_loss, validation_perplexity}; losses are in
    nats per token.
    """

    steps: int
    best_step: int
    stopped_early: bool
    history: list[dict[str, float]]
    seconds: float
    tokens_per_second: float


Report = Callable[[int, float, float | None], None]


@dataclass(frozen=True)
class Plan:
    """What a tuning method asks of the loop beyond training the parameters that require gradients.

    rates: factors of the learning rate by parameter name, 1 for those not named. penalty: added to the loss of a step.
    after_backward: called with the number of the step, from 0, once its gradients are there and before the update.
    loss: the mean loss of rows int64 [n, L], in training and validation; None is that of the next token.
    """

    rates: Mapping[str, float] = field(default_factory=dict)
    penalty: Callable[[], Tensor] | None = None
    after_backward: Callable[[int], None] | None = None
    loss: Callable[[nn.Module, Tensor], Tensor] | None = None


def train(
    model: nn.Module,
    data: TrainingData,
    options: TrainingOptions,
    learning_rate: float,
    seed: int,
    state_file: Path,
    report: Report | None = None,
    plan: Plan = Plan(),
) -> TrainingResult:
    """Train the parameters that require gradients and leave the best by validation loss in the model.

    Resumes from `state_file` where one exists and writes it at every validation. `report(step, train loss, validation
    loss)` is called after each step; the validation loss is None between validations. Raises ConfigError as soon as a
    loss is not finite.
    """
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(_groups(trainable, plan.rates), lr=learning_rate, weight_decay=options.weight_decay)
    progress = _load_state(state_file, trainable, optimizer) if state_file.is_file() else _Progress()
    started = time.perf_counter() - progress.seconds
    while progress.step < options.steps and not progress.finished(options):
        if not progress.history:
            _validate(model, data, progress, trainable, float("nan"), plan)
        loss = _step(model, data.train, options, optimizer, learning_rate, seed, progress.step, plan)
        progress.step += 1
        _refuse_divergence("training", loss, progress.step)
        progress.losses.append(loss)
        due = progress.step % options.evaluate_every == 0 or progress.step == options.steps
        if due:
            _validate(model, data, progress, trainable, float(np.mean(progress.losses)), plan)
            progress.losses.clear()
            progress.seconds = time.perf_counter() - started
            _save_state(state_file, progress, trainable, optimizer)
        if report:
            report(progress.step, loss, progress.history[-1]["validation_loss"] if due else None)
    with torch.no_grad():
        for name, value in trainable.items():
            value.copy_(progress.best[name])
    tokens = progress.step * options.batch_size * np.count_nonzero(data.train != PADDING) / len(data.train)
    return TrainingResult(
        steps=progress.step,
        best_step=progress.best_step,
        stopped_early=progress.step < options.steps,
        history=progress.history,
        seconds=progress.seconds,
        tokens_per_second=tokens / max(progress.seconds, 1e-9),
    )


def untrained(model: nn.Module, data: TrainingData) -> TrainingResult:
    """The result of not training: the validation loss of the model as it is."""
    loss = target_loss(model, data.validation, data.context)
    return TrainingResult(0, 0, False, [_row(0, float("nan"), loss)], 0.0, 0.0)


def _refuse_divergence(kind: str, loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise ConfigError(f"the {kind} loss is not finite at step {step}; lower the learning rate")


def _row(step: int, train_loss: float, loss: float) -> dict[str, float]:
    return {
        "step": step,
        "train_loss": train_loss,
        "validation_loss": loss,
        "validation_perplexity": math.exp(min(loss, 700.0)),
    }


@dataclass
class _Progress:
    """Where a training stands; `stale` counts validations since the best, `losses` are those since the last one."""

    step: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    stale: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    def finished(self, options: TrainingOptions) -> bool:
        return self.step >= options.min_steps and self.stale >= options.patience


def rows_of_step(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Indices of the windows of one step, int64 [batch_size]: successive slices of a fresh shuffle per epoch."""
    first = step * batch_size
    epochs = range(first // count, (first + batch_size - 1) // count + 1)
    order = np.concatenate([np.random.default_rng([seed, epoch]).permutation(count) for epoch in epochs])
    begin = first - epochs[0] * count
    return order[begin : begin + batch_size]


def learning_rate_at(step: int, peak: float, options: TrainingOptions) -> float:
    """Linear warm-up, then linear decay that would reach zero one step after the last."""
    warm = max(1, round(options.warm_up * options.steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (options.steps - step) / max(1, options.steps - warm)


def target_loss(model: nn.Module, windows: np.ndarray, context: int | np.ndarray, rows: int = 64) -> float:
    """Mean nats per token over what comes after the context of each window; windows [N, L], context [N] or a number."""
    total, count = 0.0, 0
    least = int(np.min(context))
    ids, given = torch.from_numpy(windows), torch.from_numpy(np.broadcast_to(context, len(windows)).copy())
    model.eval()
    with torch.no_grad():
        for chunk, own in zip(ids.split(rows), given.split(rows), strict=True):
            logits = _logits(model, chunk)[:, least - 1 :]
            wanted = chunk[:, least:].masked_fill(torch.arange(least, chunk.shape[1]) < own[:, None], PADDING)
            total += float(F.cross_entropy(logits.reshape(-1, logits.shape[-1]), wanted.reshape(-1), reduction="sum"))
            count += int((wanted != PADDING).sum())
    return total / count


def _logits(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits of each token but the first, [N, L - 1, V]; what is read in the place of PADDING bears on nothing."""
    logits: Tensor = model(input_ids=ids[:, :-1].clamp_min(0), use_cache=False).logits
    return logits


def _next_token_loss(model: nn.Module, ids: Tensor) -> Tensor:
    """Mean over all tokens of the windows but the first of each."""
    logits = _logits(model, ids)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def _mean_loss(model: nn.Module, windows: np.ndarray, loss: Callable[[nn.Module, Tensor], Tensor]) -> float:
    """A plan's own loss over all windows, 64 at a time."""
    model.eval()
    with torch.no_grad():
        chunks = torch.from_numpy(windows).split(64)
        return sum(float(loss(model, chunk)) * len(chunk) for chunk in chunks) / len(windows)


def _groups(trainable: Mapping[str, Tensor], rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameters with the same factor of the learning rate together."""
    groups: dict[float, list[Tensor]] = {}
    for name, value in trainable.items():
        groups.setdefault(rates.get(name, 1.0), []).append(value)
    return [{"params": params, "rate": rate} for rate, params in groups.items()]


def _step(
    model: nn.Module,
    windows: np.ndarray,
    options: TrainingOptions,
    optimizer: torch.optim.Optimizer,
    learning_rate: float,
    seed: int,
    step: int,
    plan: Plan,
) -> float:
    """One update; gives its loss."""
    torch.manual_seed((seed << 32) + step)
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * learning_rate_at(step, learning_rate, options)
    ids = torch.from_numpy(windows[rows_of_step(len(windows), options.batch_size, seed, step)])
    model.train()
    loss = (plan.loss or _next_token_loss)(model, ids)
    optimizer.zero_grad(set_to_none=True)
    (loss if plan.penalty is None else loss + plan.penalty()).backward()
    if plan.after_backward:
        plan.after_backward(step)
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], options.clip)
    optimizer.step()
    return loss.item()


def _validate(
    model: nn.Module,
    data: TrainingData,
    progress: _Progress,
    trainable: Mapping[str, Tensor],
    train_loss: float,
    plan: Plan,
) -> None:
    """Append a row to the history and keep the weights where they are the best so far."""
    own = plan.loss
    loss = _mean_loss(model, data.validation, own) if own else target_loss(model, data.validation, data.context)
    _refuse_divergence("validation", loss, progress.step)
    progress.history.append(_row(progress.step, train_loss, loss))
    if loss < progress.best_loss:
        progress.best_loss, progress.best_step, progress.stale = loss, progress.step, 0
        progress.best = {name: value.detach().clone() for name, value in trainable.items()}
    else:
        progress.stale += 1


_NUMBERS = ("step", "best_step", "best_loss", "stale", "seconds", "history")
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def _save_state(
    file: Path, progress: _Progress, trainable: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    tensors = {}
    for name, value in trainable.items():
        tensors[f"model.{name}"] = value.detach().contiguous()
        tensors[f"best.{name}"] = progress.best[name].contiguous()
        tensors |= {f"{key}.{name}": moment.contiguous() for key, moment in optimizer.state[value].items()}
    numbers = {name: getattr(progress, name) for name in _NUMBERS}
    with atomic(file) as partial:
        save_file(tensors, partial, {"progress": json.dumps(numbers)})


def _load_state(file: Path, trainable: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> _Progress:
    """Put weights and moments back where `_save_state` took them."""
    with reading(file, "remove it to train from the start"), safe_open(file, framework="pt") as stored, torch.no_grad():
        progress = _Progress(**json.loads(stored.metadata()["progress"]))
        for name, value in trainable.items():
            value.copy_(stored.get_tensor(f"model.{name}"))
            progress.best[name] = stored.get_tensor(f"best.{name}")
            optimizer.state[value] = {key: stored.get_tensor(f"{key}.{name}") for key in _MOMENTS}
    return progress
