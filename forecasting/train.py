"""The one training loop; methods are data to it.

Nothing random is carried from step to step: the rows of a step and the dropout in it are functions of (seed, step),
so a killed run resumes from its last state file and ends bit for bit where an unbroken one ends. A step is the same
however its windows are shared out: micro-batches and processes sum gradients, each token weighing the same.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forecasting.codecs.rows import PADDING
from forecasting.errors import ConfigError
from forecasting.training.options import TrainingOptions
from forecasting.training.precision import autocast, device_of, fused_gelu, recomputing, scaler_of
from forecasting.training.processes import ALONE, Processes, joined
from forecasting.training.schedule import epochs_done, learning_rate_at, rows_of_step
from forecasting.training.state import Progress, load_state, save_state


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
    after_step: called with the number of the step, from 0, after its update, while its gradients are still there.
    state, restore: what the method carries from step to step beside the parameters, for the state file and back.
    optimizer: takes the place of AdamW on CUDA, called like it.
    loss: the mean loss of rows int64 [n, L], in training and validation; None is that of the next token.
    """

    rates: Mapping[str, float] = field(default_factory=dict)
    penalty: Callable[[], Tensor] | None = None
    after_step: Callable[[int], None] | None = None
    state: Callable[[], dict[str, Tensor]] = dict
    restore: Callable[[dict[str, Tensor]], None] = lambda stored: None
    optimizer: Callable[..., torch.optim.Optimizer] | None = None
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
    on_epoch: Callable[[int], None] | None = None,
) -> TrainingResult:
    """Train the parameters that require gradients and leave the best by validation loss in the model, on the CPU.

    Resumes from `state_file` where as many processes left one; writes it at every validation and at the end of every
    epoch. `report(step, train loss, validation loss)` is called after each step; the validation loss is None between
    validations. `on_epoch(epochs done)` is called at the end of an epoch with its weights in the model; again where a
    kill left open whether it was. Shares the work with the processes that this one has joined (`training.processes`),
    of which only the first writes and calls. Raises ConfigError as soon as a loss is not finite.
    """
    options = options.for_windows(len(data.train))
    processes, device = joined(), device_of(options)
    if options.batch_size < processes.count * options.accumulate:
        raise ConfigError(
            f"training.batch_size is {options.batch_size}; give at least {processes.count * options.accumulate}, a "
            f"window for each micro-batch of {processes.count} processes"
        )
    model.to(device)
    update = Update(model, options, learning_rate, seed, plan, processes)
    progress = (
        load_state(state_file, update.trainable, update.optimizer, update.scaler, plan.restore)
        if state_file.is_file()
        else Progress(processes.count)
    )
    processes.check_same(
        progress.step,
        f"{state_file}: the processes do not see the same state; let them share a folder, or remove it everywhere",
    )
    if progress.processes != processes.count:
        raise ConfigError(
            f"{state_file} was made by {progress.processes} processes, here they are {processes.count}; start as many "
            f"again, or remove it to train from the start"
        )
    started = time.perf_counter() - progress.seconds
    with fused_gelu(model), recomputing(model, options.checkpointing):
        while progress.step < options.steps and not progress.finished(options):
            if not progress.history:
                _validate(model, data, progress, update, float("nan"))
            loss = update(data.train, progress.step)
            progress.step += 1
            _refuse_divergence("training", loss, progress.step)
            progress.losses.append(loss)
            due = progress.step % options.evaluate_every == 0 or progress.step == options.steps
            if due:
                _validate(model, data, progress, update, float(np.mean(progress.losses)))
                progress.losses.clear()
            if processes.rank == 0:
                epoch = _epoch_ended(len(data.train), options, progress.step)
                if epoch and on_epoch:
                    on_epoch(epoch)
                if due or epoch:
                    progress.seconds = time.perf_counter() - started
                    save_state(state_file, progress, update.trainable, update.optimizer, update.scaler, plan.state())
                if report:
                    report(progress.step, loss, progress.history[-1]["validation_loss"] if due else None)
    with torch.no_grad():
        for name, value in update.trainable.items():
            value.copy_(progress.best[name])
    model.to("cpu")
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
    with fused_gelu(model):  # as in a training, so that losses compare to the last bit
        loss = target_loss(model, data.validation, data.context)
    return TrainingResult(0, 0, False, [_row(0, float("nan"), loss)], 0.0, 0.0)


def _epoch_ended(count: int, options: TrainingOptions, step: int) -> int:
    """How many epochs are done where the last step ended one, else 0."""
    done = epochs_done(count, options.batch_size, step)
    return done if done > epochs_done(count, options.batch_size, step - 1) else 0


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


class Update:
    """The steps of a training: one call, one update; holds the optimiser and nothing else that changes.

    The fused AdamW does in one pass over the weights what the plain one does in a dozen.
    """

    def __init__(
        self,
        model: nn.Module,
        options: TrainingOptions,
        learning_rate: float,
        seed: int,
        plan: Plan = Plan(),
        processes: Processes = ALONE,
    ) -> None:
        self.trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._device = device_of(options)
        own = plan.optimizer if self._device.type == "cuda" else None
        make = own or functools.partial(torch.optim.AdamW, fused=True)
        groups = _groups(self.trainable, plan.rates)
        self.optimizer: torch.optim.Optimizer = make(groups, lr=learning_rate, weight_decay=options.weight_decay)
        self.scaler = scaler_of(options.precision)
        self.processes = processes
        self.plan, self._model, self._options = plan, model, options
        self._learning_rate, self._seed = learning_rate, seed

    def __call__(self, windows: np.ndarray, step: int) -> float:
        """Make step `step`, from 0; gives its loss, the mean over all tokens of its windows but the first of each."""
        options, plan, processes = self._options, self.plan, self.processes
        self._seed_dropout((self._seed << 32) + step * processes.count + processes.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * learning_rate_at(step, self._learning_rate, options)
        rows = rows_of_step(len(windows), options.batch_size, self._seed, step)
        loss = self._backward(windows[rows])
        gradients = [value.grad for value in self.trainable.values() if value.grad is not None]
        processes.sum([loss, *gradients])
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.trainable.values(), options.clip)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if plan.after_step and self.scaler.get_scale() >= scale:  # a lower one says that the update was skipped
            plan.after_step(step)
        return loss.item()

    def _seed_dropout(self, seed: int) -> None:
        """As `torch.manual_seed`, which on the CPU takes as long as a small layer, for CUDA's sake."""
        (torch.manual_seed if self._device.type == "cuda" else torch.default_generator.manual_seed)(seed)

    def _backward(self, windows: np.ndarray) -> Tensor:
        """Gradients of this process's share of a step's windows, and its share of the loss."""
        weight = _token_count if self.plan.loss is None else len
        whole, total = weight(windows), torch.zeros((), device=self._device)
        self._model.train()
        for index, part in enumerate(_shares(windows, self._options.accumulate, self.processes)):
            ids = torch.from_numpy(part).to(self._device)
            with autocast(self._device, self._options.precision):
                loss = (self.plan.loss or _next_token_loss)(self._model, ids).float() * (weight(part) / whole)
            if index == 0:
                self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            total += loss.detach()
        if self.plan.penalty is not None:
            self.scaler.scale(self.plan.penalty() / self.processes.count).backward()
        return total


def _token_count(windows: np.ndarray) -> int:
    """Tokens that are predicted: all but the first of each window."""
    return int(np.count_nonzero(windows[:, 1:] != PADDING))


def _next_token_loss(model: nn.Module, ids: Tensor) -> Tensor:
    """Mean over all tokens of the windows but the first of each, in float32."""
    return F.cross_entropy(_logits(model, ids).flatten(0, 1).float(), ids[:, 1:].flatten())


def _shares(windows: np.ndarray, accumulate: int, processes: Processes) -> Iterator[np.ndarray]:
    """The micro-batches of this process, of nearly equal size."""
    yield from np.array_split(np.array_split(windows, processes.count)[processes.rank], accumulate)


def _groups(trainable: Mapping[str, Tensor], rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameters with the same factor of the learning rate together."""
    groups: dict[float, list[Tensor]] = {}
    for name, value in trainable.items():
        groups.setdefault(rates.get(name, 1.0), []).append(value)
    return [{"params": params, "rate": rate} for rate, params in groups.items()]


def _logits(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits of each token but the first, [N, L - 1, V]; what is read in the place of PADDING bears on nothing."""
    logits: Tensor = model(input_ids=ids[:, :-1].clamp_min(0), use_cache=False).logits
    return logits


LOGITS_AT_ONCE = 2**24
"""Most logits of a validation held in memory: 64 MiB, else a validation would need more than a training step."""


def target_loss(
    model: nn.Module,
    windows: np.ndarray,
    context: int | np.ndarray,
    rows: int = 64,
    processes: Processes = ALONE,
) -> float:
    """Mean nats per token over what comes after the context of each window; windows [N, L], context [N] or a number.

    rows: most windows at once. The processes take every so many windows each and get the same mean.
    """
    own = slice(processes.rank, None, processes.count)
    given = np.broadcast_to(context, len(windows))[own]
    sums = _target_sums(model, windows[own], given, int(np.min(context)), rows)
    processes.sum([sums])
    return float(sums[0] / sums[1])


def _target_sums(model: nn.Module, windows: np.ndarray, context: np.ndarray, least: int, rows: int) -> Tensor:
    """Nats over all targets and number of targets, float64 [2]; `least`: where the first targets of any window are."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    ids, given = torch.from_numpy(windows), torch.from_numpy(context.copy())
    at_once = max(1, min(rows, LOGITS_AT_ONCE // (_vocabulary(model) * windows.shape[1])))
    model.eval()
    with torch.no_grad():
        for chunk, own in zip(ids.split(at_once), given.split(at_once), strict=True):
            if not len(chunk):
                break
            logits = _logits(model, chunk.to(device))[:, least - 1 :].flatten(0, 1)
            wanted = chunk[:, least:].masked_fill(torch.arange(least, chunk.shape[1]) < own[:, None], PADDING)
            total += float(F.cross_entropy(logits.float(), wanted.flatten().to(device), reduction="sum"))
            count += int((wanted != PADDING).sum())
    return torch.tensor([total, count], dtype=torch.float64, device=device)


def _mean_loss(
    model: nn.Module, windows: np.ndarray, loss: Callable[[nn.Module, Tensor], Tensor], processes: Processes
) -> float:
    """A plan's own loss over all windows, 64 at a time."""
    device = next(model.parameters()).device
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=device)
    with torch.no_grad():
        for chunk in torch.from_numpy(windows[processes.rank :: processes.count]).split(64):
            if len(chunk):
                total += loss(model, chunk.to(device)).double() * len(chunk)
    processes.sum([total])
    return float(total) / len(windows)


def _vocabulary(model: nn.Module) -> int:
    """Tokens of the GPT-2 in a model; 1 where there is none to ask."""
    return max((getattr(getattr(part, "config", None), "vocab_size", 1) for part in model.modules()), default=1)


def _validate(model: nn.Module, data: TrainingData, progress: Progress, update: Update, train_loss: float) -> None:
    """Append a row to the history and keep the weights where they are the best so far."""
    own = update.plan.loss
    loss = (
        _mean_loss(model, data.validation, own, update.processes)
        if own
        else target_loss(model, data.validation, data.context, 64, update.processes)
    )
    _refuse_divergence("validation", loss, progress.step)
    progress.history.append(_row(progress.step, train_loss, loss))
    if loss < progress.best_loss:
        progress.best_loss, progress.best_step, progress.stale = loss, progress.step, 0
        progress.best = {name: value.detach().clone() for name, value in update.trainable.items()}
    else:
        progress.stale += 1


__all__ = [
    "Plan", "Report", "TrainingData", "TrainingOptions", "TrainingResult", "Update", "learning_rate_at", "rows_of_step",
    "target_loss", "train", "untrained",
]  # fmt: skip
