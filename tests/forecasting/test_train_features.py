"""What a step may be cut into, computed in or stopped between, held to the plain step."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from test_train import BINS, CONTEXT, HORIZON, OPTIONS, Killed, bits, killed_at, model_of
from torch.nn import functional as F

from forecasting import train as training
from forecasting.checkpoint import new_model
from forecasting.codecs.rows import PADDING
from forecasting.errors import ConfigError
from forecasting.methods import method
from forecasting.train import Plan, TrainingData, TrainingOptions, Update, learning_rate_at, target_loss, train
from forecasting.training.precision import fused_gelu, recomputing

pytestmark = pytest.mark.usefixtures("one_thread")

NO_PLAN = Plan()
STILL = {"clip": 1e9, "weight_decay": 0.0, "warm_up": 0.0}


@pytest.fixture(scope="module")
def data():
    rows = np.random.default_rng(5).integers(0, BINS, size=(24, CONTEXT + HORIZON))
    return TrainingData(rows, rows[:6], CONTEXT)


def uneven(rows):
    """Rows of 3 to all tokens, so that micro-batches of equal size differ in tokens."""
    lengths = np.linspace(3, rows.shape[1], len(rows)).astype(int)
    return np.where(np.arange(rows.shape[1]) < lengths[:, None], rows, PADDING)


def gradients(model, windows, options, plan=NO_PLAN):
    """Gradients of the first step, all windows in it, and its loss."""
    found = {}

    def keep(step):
        assert not found
        found.update({name: value.grad.clone() for name, value in model.named_parameters() if value.requires_grad})
        if plan.after_step:
            plan.after_step(step)

    update = Update(model, replace(options, batch_size=len(windows), **STILL), 0.01, 1, replace(plan, after_step=keep))
    return found, update(windows, 0)


def test_the_fused_gelu_is_the_same_formula(tiny_base, data):
    model, ids = model_of(tiny_base).eval(), torch.from_numpy(data.train)
    plain = model(ids).logits
    with fused_gelu(model):
        assert not [part for part in model.modules() if type(part).__name__ == "NewGELUActivation"]
        found = model(ids).logits
    assert not torch.equal(found, plain)
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
    assert torch.equal(model(ids).logits, plain)


@pytest.mark.parametrize("accumulate", [1, 2, 5, 12])
def test_micro_batches_sum_to_the_whole_batch(tiny_base, data, accumulate):
    windows = uneven(data.train[:12])
    found, loss = gradients(model_of(tiny_base), windows, TrainingOptions(accumulate=accumulate))
    model, ids = model_of(tiny_base).eval(), torch.from_numpy(windows)
    logits = model(ids.clamp_min(0)).logits[:, :-1].flatten(0, 1)
    plain = F.cross_entropy(logits, ids[:, 1:].flatten())
    plain.backward()
    assert loss == pytest.approx(plain.item(), rel=1e-5)
    for name, value in model.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-4, atol=1e-6)


def test_penalty_and_hook_come_once_a_step(tiny_base, data):
    seen = []
    wanted, plain = gradients(model_of(tiny_base), data.train[:6], TrainingOptions(accumulate=3))
    model = model_of(tiny_base)
    weight = model.transformer.wpe.weight
    plan = Plan(penalty=lambda: 3 * weight.square().sum(), after_step=seen.append)
    found, loss = gradients(model, data.train[:6], TrainingOptions(accumulate=3), plan)
    assert (seen, loss) == ([0], plain)
    wanted["transformer.wpe.weight"] += 6 * model_of(tiny_base).transformer.wpe.weight
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["full", "lora", "adapter"])
def test_recomputed_activations_give_the_same_bits(tiny_base, data, name):
    runs, found = [], []
    for checkpointing in (False, True):
        model, count = model_of(tiny_base, name), []
        block = next(part for part in model.modules() if type(part).__name__ == "GPT2MLP")
        block.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        with recomputing(model, checkpointing):
            found.append(gradients(model, data.train[:6], TrainingOptions(accumulate=2)))
        runs.append(len(count))
    assert runs == ([2, 2] if name == "adapter" else [2, 4])  # nothing below the adapters has a backward pass
    assert found[0][1] == found[1][1]
    for key, value in found[0][0].items():
        assert torch.equal(value, found[1][0][key])


def test_the_base_that_trains_with_a_direction_head_is_recomputed(tiny_base, data):
    """A direction head holds two GPT-2s, of which the second trains."""
    options = method("direction").options(train_base=True, horizon=HORIZON)
    rows = np.concatenate([data.train[:6, :CONTEXT], data.train[:6, CONTEXT:] % 3], axis=1)
    runs, found = [], []
    for checkpointing in (False, True):
        torch.manual_seed(7)
        model, count = new_model(str(tiny_base), "direction", options), []
        model.tuned.transformer.h[0].mlp.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        with recomputing(model, checkpointing):
            torch.manual_seed(8)
            plan = method("direction").plan(model, options, 1)
            found.append(gradients(model, rows, TrainingOptions(), plan))
        runs.append(len(count))
        assert not any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    assert runs == [1, 2]
    assert found[0][1] == found[1][1]
    for key, value in found[0][0].items():
        assert torch.equal(value, found[1][0][key])


def test_the_model_keeps_its_activations_again_after_a_training(tiny_base, data, tmp_path):
    model = model_of(tiny_base)
    train(model, data, replace(OPTIONS, checkpointing=True), 1e-3, 1, tmp_path / "state")
    assert not any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    plain = model_of(tiny_base)
    train(plain, data, OPTIONS, 1e-3, 1, tmp_path / "plain")
    assert bits(model) == bits(plain)


def test_a_model_that_cannot_recompute_is_refused():
    with (
        pytest.raises(ConfigError, match="cannot compute its activations again"),
        recomputing(torch.nn.Linear(2, 2), True),
    ):
        pass


VARIANTS = {
    "cut up": {"accumulate": 3, "schedule": "cosine", "precision": "bf16", "checkpointing": True},
    "ends of epochs between validations": {"batch_size": 8, "evaluate_every": 4, "steps": 11},
    "epochs": {"epochs": 2, "batch_size": 5, "evaluate_every": 3, "schedule": "constant"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_run_ends_where_an_unbroken_one_ends(tiny_base, data, tmp_path, variant):
    options, ended = replace(OPTIONS, **VARIANTS[variant]), []
    whole_model = model_of(tiny_base, "lora")
    whole = train(whole_model, data, options, 0.01, 1, tmp_path / "whole", on_epoch=ended.append)
    for kill in range(1, whole.steps + 1):
        left, again = [kill], []
        for _ in range(2):
            model = model_of(tiny_base, "lora")
            try:
                result = train(
                    model, data, options, 0.01, 1, tmp_path / f"{kill}", killed_at(left), on_epoch=again.append
                )
            except Killed:
                continue
        assert not left
        assert bits(model) == bits(whole_model)
        assert repr(result.history) == repr(whole.history)
        assert sorted(set(again)) == ended


def test_a_killed_run_goes_on_from_the_end_of_the_last_epoch(tiny_base, data, tmp_path):
    options = replace(OPTIONS, batch_size=8, evaluate_every=5)
    with pytest.raises(Killed):
        train(model_of(tiny_base), data, options, 1e-3, 1, tmp_path / "state", killed_at([4]))
    seen = []
    train(model_of(tiny_base), data, options, 1e-3, 1, tmp_path / "state", lambda step, *_: seen.append(step))
    assert seen == [4, 5, 6]


def test_epochs_count_passes_and_are_told_with_their_weights(tiny_base, data, tmp_path):
    """24 windows: 7 steps of 10 are the first to hold 3 x 24; epochs end within steps 3, 5 and 8."""
    model, steps, kept = model_of(tiny_base), [], {}

    def on_epoch(epoch):
        kept[epoch] = bits(model)

    options = replace(OPTIONS, epochs=3, batch_size=10, evaluate_every=100)
    weights = []

    def report(step, *_):
        steps.append(step)
        weights.append(bits(model))

    result = train(model, data, options, 1e-3, 1, tmp_path / "state", report, on_epoch=on_epoch)
    assert (result.steps, steps[-1]) == (8, 8)
    assert kept == {1: weights[2], 2: weights[4], 3: weights[7]}
    assert TrainingOptions(epochs=1, batch_size=100).for_windows(24).steps == 1


def test_cosine_and_constant_after_the_warm_up(tiny_base):
    from transformers import get_cosine_schedule_with_warmup

    options = TrainingOptions(steps=20, warm_up=0.2, schedule="cosine")
    theirs = get_cosine_schedule_with_warmup(torch.optim.SGD([torch.zeros(1)], lr=1.0), 4, 20).lr_lambdas[0]
    ours = [learning_rate_at(step, 2.0, options) for step in range(20)]
    assert ours[:4] == [0.5, 1.0, 1.5, 2.0]
    assert ours[4:] == pytest.approx([2 * theirs(step) for step in range(4, 20)])
    constant = [learning_rate_at(step, 2.0, replace(options, schedule="constant")) for step in range(20)]
    assert constant == [0.5, 1.0, 1.5, *[2.0] * 17]


def test_bf16_is_for_products_in_training_only(tiny_base, data, tmp_path):
    model, types = model_of(tiny_base), set()
    model.transformer.h[0].mlp.c_fc.register_forward_hook(
        lambda module, _, out: types.add((model.training, out.dtype, module.weight.dtype))
    )
    result = train(model, data, replace(OPTIONS, precision="bf16", steps=2), 0.01, 1, tmp_path / "state")
    assert types == {(True, torch.bfloat16, torch.float32), (False, torch.float32, torch.float32)}
    plain = train(model_of(tiny_base), data, replace(OPTIONS, steps=2), 0.01, 1, tmp_path / "plain")
    row, other = result.history[1], plain.history[1]
    assert row["train_loss"] == pytest.approx(other["train_loss"], rel=0.02)
    assert row["train_loss"] != other["train_loss"]


def test_steps_that_overflow_are_skipped_and_resume_alike(tiny_base, data, tmp_path, monkeypatch):
    """fp16, here on the CPU: the scale of the loss begins too high, so the first steps change nothing."""
    scalers, hooked = [], []

    def scaler(_):
        scalers.append(torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=2))
        return scalers[-1]

    monkeypatch.setattr(training, "scaler_of", scaler)
    monkeypatch.setattr(training, "device_of", lambda _: torch.device("cpu"))
    options = replace(OPTIONS, steps=12, evaluate_every=1, precision="fp16", **STILL)
    start, weights = bits(model_of(tiny_base)), []

    def run(state, report=None):
        model = model_of(tiny_base)
        kept = report or (lambda *_: weights.append(bits(model)))
        result = train(model, data, options, 0.01, 1, tmp_path / state, kept, Plan(after_step=hooked.append))
        return bits(model), repr(result.history)

    whole = run("whole")
    moved = [step for step, pair in enumerate(pairwise([start, *weights])) if pair[0] != pair[1]]
    assert 0 < moved[0] < 10
    assert len(moved) < 12 - moved[0], "the scale was to grow until it overflows again"
    assert hooked == moved
    for kill in (1, moved[0], 11):
        with pytest.raises(Killed):
            run(f"{kill}", killed_at([kill]))
        assert run(f"{kill}") == whole


def test_fp16_and_cuda_without_a_gpu_are_refused(tiny_base, data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for wrong, cure in (({"precision": "fp16"}, "bf16"), ({"device": "cuda"}, "cpu")):
        with pytest.raises(ConfigError, match=f"training.*{next(iter(wrong.values()))}.*{cure}"):
            train(model_of(tiny_base), data, replace(OPTIONS, **wrong), 1e-3, 1, tmp_path / "state")


def test_a_validation_holds_no_more_logits_than_allowed(tiny_base, data, monkeypatch):
    model, sizes = model_of(tiny_base), []
    model.register_forward_hook(lambda *found: sizes.append(len(found[2].logits)))
    whole = target_loss(model, data.train, CONTEXT)
    monkeypatch.setattr(training, "LOGITS_AT_ONCE", 7 * BINS * data.train.shape[1])
    assert target_loss(model, data.train, CONTEXT) == pytest.approx(whole, rel=1e-6)
    assert sizes == [24, 7, 7, 7, 3]


@pytest.mark.parametrize(
    "wrong",
    [
        {"accumulate": 0}, {"accumulate": 17}, {"epochs": -1}, {"schedule": "cosin"}, {"precision": "fp8"},
        {"device": "gpu"},
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"training.*{next(iter(wrong))}"):
        TrainingOptions(**wrong)


def test_a_loss_of_its_own_weighs_rows_alike(tiny_base, data):
    def own(model, ids):
        return model(input_ids=ids).logits.square().mean()

    found, loss = gradients(model_of(tiny_base), data.train[:7], TrainingOptions(accumulate=3), Plan(loss=own))
    model = model_of(tiny_base)
    plain = own(model, torch.from_numpy(data.train[:7]))
    plain.backward()
    assert loss == pytest.approx(plain.item(), rel=1e-5)
    for name, value in model.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-4, atol=1e-6)


def test_a_loss_of_its_own_validates_and_what_a_plan_carries_resumes(tiny_base, data, tmp_path):
    def plan_of(sums):
        """Carries the sum of the steps made; its loss is that of the last token of each row."""
        return Plan(
            after_step=sums.add_,
            state=lambda: {"sums": sums},
            restore=lambda stored: sums.copy_(stored["sums"]),
            loss=lambda model, ids: F.cross_entropy(model(input_ids=ids[:, :-1]).logits[:, -1], ids[:, -1]),
        )

    sums, model = torch.zeros(1), model_of(tiny_base)
    with pytest.raises(Killed):
        train(model, data, OPTIONS, 0.01, 1, tmp_path / "state", killed_at([5]), plan_of(torch.zeros(1)))
    result = train(model, data, OPTIONS, 0.01, 1, tmp_path / "state", plan=plan_of(sums))
    assert sums == sum(range(6))
    best = min(row["validation_loss"] for row in result.history)
    assert best == pytest.approx(target_loss(model, data.validation, CONTEXT + HORIZON - 1), rel=1e-6)
