"""The training loop: the same bits however often it was killed, and the figures it reports against plain loops."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from forecasting import train as training
from forecasting.checkpoint import new_model
from forecasting.errors import CheckpointError, ConfigError
from forecasting.methods.adapter import AdapterOptions
from forecasting.methods.full import FullOptions
from forecasting.methods.lora import LoraOptions
from forecasting.train import (
    TrainingData,
    TrainingOptions,
    learning_rate_at,
    rows_of_step,
    target_loss,
    train,
    untrained,
)
from forecasting.training import state as stored

pytestmark = pytest.mark.usefixtures("one_thread")

BINS, CONTEXT, HORIZON = 31, 9, 4
OPTIONS = TrainingOptions(steps=6, batch_size=4, evaluate_every=2, min_steps=2, patience=100)
CASES = {
    "full": FullOptions(),
    "lora": LoraOptions(rank=2, dropout=0.3),
    "adapter": AdapterOptions(bottleneck=4, dropout=0.3),
}


class Killed(BaseException):
    """Stands for kill -9: nothing in the loop may catch it."""


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    rows = rng.integers(0, BINS, size=(24, CONTEXT + HORIZON))
    return TrainingData(rows, np.concatenate([rows[:6], rng.integers(0, BINS, size=(4, CONTEXT + HORIZON))]), CONTEXT)


def model_of(tiny_base, name="full"):
    torch.manual_seed(3)
    return new_model(str(tiny_base), name, CASES[name])


def bits(model):
    return {name: value.detach().numpy().tobytes() for name, value in model.named_parameters()}


def killed_at(steps):
    def report(step, loss, validation):
        if step in steps:
            steps.remove(step)
            raise Killed

    return report


@pytest.mark.parametrize("best", ["first", "last"])
@pytest.mark.parametrize("name", CASES)
def test_a_run_killed_anywhere_ends_bit_for_bit_where_an_unbroken_one_ends(
    tiny_base, data, tmp_path, monkeypatch, name, best
):
    start, sign = dict(model_of(tiny_base, name).named_parameters()), 1 if best == "first" else -1

    def distance(model, *_):
        return sign * sum((value - start[key]).abs().sum().item() for key, value in model.named_parameters())

    monkeypatch.setattr(training, "target_loss", distance)
    whole_model = model_of(tiny_base, name)
    whole = train(whole_model, data, OPTIONS, 0.01, 1, tmp_path / "whole")
    assert whole.best_step == (0 if best == "first" else OPTIONS.steps)
    every_point = [[step] for step in range(1, OPTIONS.steps + 1)]
    for kills in [*every_point, [2, 3, 3, 6]]:
        state, left = tmp_path / f"state-{kills}", list(kills)
        for _ in range(len(kills) + 1):
            model = model_of(tiny_base, name)  # a new process knows only the seed and the state file
            try:
                result = train(model, data, OPTIONS, 0.01, 1, state, killed_at(left))
                break
            except Killed:
                continue
        assert not left
        assert bits(model) == bits(whole_model)
        assert repr(result.history) == repr(whole.history)
        assert (result.best_step, result.steps, result.stopped_early) == (
            whole.best_step,
            whole.steps,
            whole.stopped_early,
        )


def test_a_resumed_run_stops_as_early_as_an_unbroken_one(tiny_base, data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "target_loss", lambda *_: 3.0)
    options = replace(OPTIONS, steps=9, evaluate_every=1, patience=4)
    with pytest.raises(Killed):
        train(model_of(tiny_base), data, options, 1e-3, 1, tmp_path / "state", killed_at([3]))
    result = train(model_of(tiny_base), data, options, 1e-3, 1, tmp_path / "state")
    assert (result.steps, result.stopped_early, result.best_step) == (4, True, 0)


def test_a_resumed_run_does_not_repeat_steps_it_has_saved(tiny_base, data, tmp_path):
    with pytest.raises(Killed):
        train(model_of(tiny_base), data, OPTIONS, 1e-3, 1, tmp_path / "state", killed_at([5]))
    seen = []
    train(model_of(tiny_base), data, OPTIONS, 1e-3, 1, tmp_path / "state", lambda step, *_: seen.append(step))
    assert seen == [5, 6]


def test_a_run_goes_on_with_as_many_processes_as_began_it(tiny_base, data, tmp_path, monkeypatch):
    """Only the first of them is here, with its share: what counts is who may take over."""

    def run(count):
        first = SimpleNamespace(rank=0, count=count, sum=lambda tensors: None, check_same=lambda *_: None)
        monkeypatch.setattr(training, "joined", lambda: first)
        report = killed_at([3]) if not (tmp_path / "state").exists() else None
        return train(model_of(tiny_base), data, OPTIONS, 1e-3, 1, tmp_path / "state", report)

    with pytest.raises(Killed):
        run(2)
    for other in (1, 3):
        with pytest.raises(ConfigError, match=f"state was made by 2 processes, here they are {other}; start as many"):
            run(other)
    assert run(2).steps == OPTIONS.steps


def test_another_seed_gives_another_model(tiny_base, data, tmp_path):
    models = [model_of(tiny_base), model_of(tiny_base)]
    for seed, model in enumerate(models):
        train(model, data, OPTIONS, 3e-3, seed, tmp_path / f"{seed}")
    assert bits(models[0]) != bits(models[1])


@pytest.mark.parametrize("min_steps", [2, 12])
def test_early_stopping_waits_for_min_steps_and_keeps_the_best(tiny_base, data, tmp_path, min_steps):
    noise = replace(data, validation=np.random.default_rng(9).integers(0, BINS, size=data.validation.shape))
    options = replace(OPTIONS, steps=40, evaluate_every=1, min_steps=min_steps, patience=3, warm_up=0.0)
    model, before = model_of(tiny_base), bits(model_of(tiny_base))
    losses = []
    result = train(model, noise, options, 0.02, 1, tmp_path / "state", lambda *row: losses.append(row[2]))
    validations = [row["validation_loss"] for row in result.history]
    best = int(np.argmin(validations))
    assert result.stopped_early
    assert result.best_step == result.history[best]["step"]
    assert result.steps == max(min_steps, result.best_step + options.patience)
    assert losses == validations[1:]
    assert target_loss(model, noise.validation, CONTEXT) == pytest.approx(validations[best], rel=1e-6)
    assert (bits(model) == before) is (best == 0)


def test_the_best_weights_are_those_of_the_best_validation(tiny_base, data, tmp_path, monkeypatch):
    script = iter([3.0, 2.5, 2.0, 1.0, 4.0, 1.0, 6.0])
    monkeypatch.setattr(training, "target_loss", lambda *_: next(script))
    model, taken = model_of(tiny_base), {}

    def report(step, *_):
        taken[step] = bits(model)

    options = replace(OPTIONS, steps=6, evaluate_every=1)
    assert train(model, data, options, 3e-3, 1, tmp_path / "state", report).best_step == 3
    assert bits(model) == taken[3]
    assert len({str(weights) for weights in taken.values()}) == 6


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (7, 7), (5, 12), (24, 1)])
def test_every_window_is_used_once_an_epoch(count, batch):
    drawn = np.concatenate([rows_of_step(count, batch, 3, step) for step in range(4 * count)])
    assert len(drawn) == 4 * count * batch
    epochs = drawn.reshape(-1, count)
    assert (np.sort(epochs, axis=1) == np.arange(count)).all()
    assert count == 1 or (epochs[0] != epochs[1]).any()
    assert (rows_of_step(count, batch, 3, 2) == rows_of_step(count, batch, 3, 2)).all()


def test_the_order_depends_on_the_seed():
    assert (rows_of_step(50, 50, 1, 0) != rows_of_step(50, 50, 2, 0)).any()


def test_the_learning_rate_rises_then_falls_to_nearly_nothing():
    options = TrainingOptions(steps=10, warm_up=0.4)
    rates = [learning_rate_at(step, 1.0, options) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert learning_rate_at(0, 1.0, TrainingOptions(steps=10, warm_up=0.0)) == 1.0


def test_the_schedule_reaches_the_optimiser(tiny_base, data, tmp_path):
    """The first step of AdamW moves each weight by the rate (times the sign of its gradient), decay aside."""
    model = model_of(tiny_base)
    start = model.lm_head.weight.detach().clone()
    moved = []
    options = replace(OPTIONS, warm_up=0.5, weight_decay=0.0, evaluate_every=100, clip=1e9)
    with pytest.raises(Killed):

        def report(step, *_):
            moved.append((model.lm_head.weight - start).abs().max().item())
            raise Killed

        train(model, data, options, 0.01, 1, tmp_path / "state", report)
    assert moved[0] == pytest.approx(0.01 / 3, rel=1e-3)


def test_target_loss_equals_a_loop(tiny_base, data):
    model = model_of(tiny_base).eval()
    total, count = 0.0, 0
    for row in data.validation:
        for t in range(CONTEXT, len(row)):
            with torch.no_grad():
                logits = model(torch.from_numpy(row[None, :t])).logits[0, -1].double()
            total -= float(logits[row[t]] - torch.logsumexp(logits, 0))
            count += 1
    for rows in (1, 3, 64):
        assert target_loss(model, data.validation, CONTEXT, rows) == pytest.approx(total / count, rel=1e-6)


def test_a_step_reports_the_mean_loss_over_all_positions(tiny_base, data, tmp_path):
    seen = []
    options = replace(OPTIONS, steps=1, batch_size=24)
    train(model_of(tiny_base), data, options, 1e-3, 1, tmp_path / "state", lambda *row: seen.append(row[1]))
    model, ids = model_of(tiny_base).eval(), torch.from_numpy(data.train)
    with torch.no_grad():
        logits = model(ids).logits[:, :-1]
    assert seen[0] == pytest.approx(F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item(), rel=1e-5)


class Ignorant(torch.nn.Module):
    """The same logits whatever was seen, so that only the labels of a position can matter."""

    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.linspace(-1, 1, BINS))

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def test_validation_counts_targets_only(data):
    altered, model = data.validation.copy(), Ignorant()
    altered[:, :CONTEXT] = 0
    assert target_loss(model, altered, CONTEXT) == target_loss(model, data.validation, CONTEXT)
    for position in range(CONTEXT, CONTEXT + HORIZON):
        altered = data.validation.copy()
        altered[0, position] = (altered[0, position] + 7) % BINS
        assert target_loss(model, altered, CONTEXT) != target_loss(model, data.validation, CONTEXT)


def test_history_and_untrained(tiny_base, data, tmp_path):
    model = model_of(tiny_base)
    result = untrained(model, data)
    row = result.history[0]
    assert (result.steps, result.best_step, row["step"]) == (0, 0, 0)
    assert row["validation_loss"] == pytest.approx(target_loss(model, data.validation, CONTEXT), rel=1e-6)
    assert row["validation_perplexity"] == math.exp(row["validation_loss"])
    losses = []
    tuned = train(model, data, OPTIONS, 1e-3, 1, tmp_path / "state", lambda *seen: losses.append(seen[1]))
    assert [row["step"] for row in tuned.history] == [0, 2, 4, 6]
    assert tuned.history[0]["validation_loss"] == row["validation_loss"]
    assert [row["train_loss"] for row in tuned.history[1:]] == np.reshape(losses, (-1, 2)).mean(1).tolist()


def test_a_training_loss_that_is_not_finite_stops_at_once(tiny_base, data, tmp_path):
    model, seen = model_of(tiny_base), []

    def poison(step, *_):
        seen.append(step)
        if step == 3:
            with torch.no_grad():
                model.transformer.wte.weight.fill_(float("nan"))

    with pytest.raises(ConfigError, match="training loss is not finite at step 4; lower the learning rate"):
        train(model, data, OPTIONS, 1e-3, 1, tmp_path / "state", poison)
    assert seen == [1, 2, 3]


def test_a_validation_loss_that_is_not_finite_is_never_the_best(data, tmp_path):
    class Fragile(Ignorant):
        def forward(self, input_ids, **_):
            result = super().forward(input_ids)
            if not self.training and (self.logits != torch.linspace(-1, 1, BINS)).any():
                result.logits = result.logits * float("inf")
            return result

    with pytest.raises(ConfigError, match="validation loss is not finite at step 2"):
        train(Fragile(), data, OPTIONS, 1e-3, 1, tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_the_state_file_is_written_whole_or_not_at_all(tiny_base, data, tmp_path, monkeypatch):
    state = tmp_path / "state"
    with pytest.raises(Killed):
        train(model_of(tiny_base), data, OPTIONS, 1e-3, 1, state, killed_at([2]))
    before, real = state.read_bytes(), stored.save_file

    def full_disk(tensors, file, metadata):
        real(tensors, file, metadata)
        file.write_bytes(file.read_bytes()[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        train(model_of(tiny_base), data, OPTIONS, 1e-3, 1, state)
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    assert state.read_bytes() == before


def test_a_damaged_state_file_is_named(tiny_base, data, tmp_path):
    train(model_of(tiny_base), data, OPTIONS, 1e-3, 1, tmp_path / "state")
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"state cannot be read .*remove it"):
        train(model_of(tiny_base), data, OPTIONS, 1e-3, 1, tmp_path / "state")


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0}, {"batch_size": 0}, {"evaluate_every": 0}, {"patience": 0}, {"threads": 0}, {"learning_rate": 1.0},
        {"learning_rate": -1e-3}, {"warm_up": 1.0}, {"clip": 0.0}, {"weight_decay": -0.1}, {"min_steps": -1},
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"training.*{next(iter(wrong))}"):
        TrainingOptions(**wrong)
