"""Virtual tokens, bottleneck adapters, layer-wise rates, partial freezing and the random start, on a tiny base."""

import dataclasses
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from forecasting.base import EMBEDDED, find_base, load_model, save_base
from forecasting.checkpoint import load_checkpoint, load_tuned, new_model, save_checkpoint
from forecasting.errors import CheckpointError, ConfigError
from forecasting.files import read_json, write_json
from forecasting.methods import METHODS, method, stored_bytes, trained_parameters
from forecasting.methods.bottleneck import BottleneckOptions
from forecasting.methods.full import FullOptions
from forecasting.methods.layerwise import LayerwiseOptions
from forecasting.methods.method import MethodOptions
from forecasting.methods.p_tuning import PTuningOptions
from forecasting.methods.partial import PartialOptions
from forecasting.methods.prefix import PrefixOptions
from forecasting.methods.prompt import PromptOptions
from forecasting.methods.random_init import RandomInitOptions
from forecasting.sampler import SamplingOptions
from forecasting.train import TrainingData, TrainingOptions, train
from forecasting.windows import WindowSpec
from tunetrade.config import as_plain, study_from

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of transformers, about how peft calls it
]

LAYERS, WIDTH, BINS, POSITIONS = 2, 16, 31, 32  # of the tiny base
SPEC = WindowSpec(context=9, horizon=4)
SAMPLING = SamplingOptions(paths=8, threads=1)

CASES = {
    "layerwise": LayerwiseOptions(decay=0.5),
    "partial": PartialOptions(blocks=1, head=True),
    "prefix": PrefixOptions(tokens=3, init="random", projection=True, hidden=8),
    "prompt": PromptOptions(tokens=3),
    "p-tuning": PTuningOptions(tokens=3, encoder="lstm", hidden=4, layers=2),
    "bottleneck": BottleneckOptions(bottleneck=5),
    "random-init": RandomInitOptions(),
}


@pytest.fixture(scope="module")
def base(tiny_base):
    return find_base(str(tiny_base))


@pytest.fixture(scope="module")
def data():
    rows = np.random.default_rng(2).integers(0, BINS, size=(12, SPEC.context + SPEC.horizon))
    return TrainingData(rows, rows[:6], 1)


def prepared(base, name, options, seed=3):
    torch.manual_seed(seed)
    return new_model(str(base.folder), name, options)


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits.numpy()


def some_ids(rows=3, length=12):
    return torch.from_numpy(np.random.default_rng(4).integers(0, BINS, size=(rows, length)))


def steps_of(base, name, options, data, file, **changes):
    """A model after some steps without weight decay and warm-up, what it was before, and its learning rate."""
    model = prepared(base, name, options)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    training = TrainingOptions(**{"steps": 1, "warm_up": 0.0, "weight_decay": 0.0, "clip": 1e9} | changes)
    train(model, data, training, 1e-3, 5, file, plan=METHODS[name].plan(model, options, training.steps))
    return model, before


# Virtual tokens


@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_virtual_tokens_begin_as_tokens_the_base_has_seen(base, monkeypatch, name):
    """So the start is the base itself, with its contexts five positions further on."""
    drawn, randint = [], torch.randint

    def recorded(*args, **options):
        drawn.append(randint(*args, **options))
        return drawn[-1]

    monkeypatch.setattr(torch, "randint", recorded)
    model, ids = prepared(base, name, METHODS[name].options(tokens=5)).eval(), some_ids()
    assert [tokens.shape for tokens in drawn] == [(5,)]
    seen = torch.cat([drawn[0].expand(len(ids), -1), ids], dim=1)
    assert logits_of(model, ids) == pytest.approx(logits_of(load_model(base), seen)[:, 5:], abs=1e-5)


def test_the_first_virtual_tokens_are_drawn_by_the_seed(base):
    for name, options in CASES.items():
        if METHODS[name].taken(options):
            one, same, other = (dict(prepared(base, name, options, seed).named_parameters()) for seed in (3, 3, 4))
            assert all(torch.equal(one[key], same[key]) for key in one)
            assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_p_tuning_is_its_encoder_written_out(base, encoder):
    """MLP: three products with ReLU between. The LSTM's gates stand in the order input, forget, cell, output."""
    options = PTuningOptions(tokens=4, encoder=encoder, hidden=6, **({"layers": 1} if encoder == "lstm" else {}))
    model = prepared(base, "p-tuning", options)
    inside = {
        key: value.detach().double().numpy()
        for key, value in model.tuned.prompt_encoder["default"].state_dict().items()
    }
    x = inside["embedding.weight"]
    if encoder == "lstm":
        both = []
        for suffix in ("", "_reverse"):
            w, u = inside[f"lstm_head.weight_ih_l0{suffix}"], inside[f"lstm_head.weight_hh_l0{suffix}"]
            bias = inside[f"lstm_head.bias_ih_l0{suffix}"] + inside[f"lstm_head.bias_hh_l0{suffix}"]
            h, c, found = np.zeros(6), np.zeros(6), []
            for row in x[::-1] if suffix else x:
                i, f, g, o = np.split(w @ row + u @ h + bias, 4)
                c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
                h = np.tanh(c) / (1 + np.exp(-o))
                found.append(h)
            both.append(found[::-1] if suffix else found)
        x = np.concatenate(both, axis=1)
    products = sorted(key for key in inside if key.startswith("mlp_head") and key.endswith("weight"))
    assert len(products) == (3 if encoder == "mlp" else 2)
    for key in products:
        x = x @ inside[key].T + inside[key.replace("weight", "bias")]
        x = x if key == products[-1] else np.maximum(x, 0)
    with torch.no_grad():
        assert model.tuned.get_prompt(1)[0].numpy() == pytest.approx(x, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [("prefix", CASES["prefix"]), ("p-tuning", PTuningOptions(tokens=9, encoder="lstm", hidden=16, layers=1))],
)
def test_what_is_stored_is_the_same_in_training_and_out_of_it(base, tmp_path, name, options):
    """torch runs an LSTM by other code where gradients are asked for; what is in the file must be what is run."""
    model, stored = prepared(base, name, options), []
    for mode in (True, False):
        (tmp_path / str(mode)).mkdir()
        with torch.set_grad_enabled(mode):
            METHODS[name].save(model.train(mode), tmp_path / str(mode))
        assert model.training is mode
        stored.append((tmp_path / str(mode) / "adapter_model.safetensors").read_bytes())
    loaded = METHODS[name].load(base, options, tmp_path / "True")
    ran, again = (METHODS[name].weights(each).prefix for each in (model.train(), loaded))
    assert stored[0] == stored[1]
    assert all(
        torch.equal(part, same)
        for one, other in zip(ran, again, strict=True)
        for part, same in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", ["prefix", "prompt", "p-tuning"])
def test_a_folder_does_not_depend_on_where_the_base_lies(base, tmp_path, name):
    METHODS[name].save(prepared(base, name, CASES[name]), tmp_path)
    assert read_json(tmp_path / "adapter_config.json")["base_model_name_or_path"] is None
    assert str(base.folder) not in (tmp_path / "adapter_config.json").read_text()


@pytest.mark.parametrize("name", ["prefix", "prompt", "p-tuning"])
def test_more_virtual_tokens_than_stored_are_refused(base, tmp_path, name):
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, prepared(base, name, CASES[name]), name, CASES[name], SPEC, base.codec, str(base.folder))
    settings = read_json(folder / "model.json")
    write_json(folder / "model.json", settings | {"options": settings["options"] | {"tokens": 4}})
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors does not fit"):
        load_checkpoint(folder, SAMPLING)


@pytest.mark.parametrize("name", ["prefix", "prompt", "p-tuning"])
def test_the_positions_taken_are_those_of_the_engine(base, name):
    chosen, options = METHODS[name], CASES[name]
    weights = chosen.weights(prepared(base, name, options))
    assert (chosen.taken(options), weights.taken, weights.room) == (3, 3, POSITIONS - 3)
    with pytest.raises(ConfigError, match=rf"method\.{name}\.tokens is 32: the base has 32 positions.*at most 31"):
        prepared(base, name, chosen.options(tokens=POSITIONS))


def test_prefix_alone_cannot_recompute_its_activations(base):
    assert [name for name in CASES if not METHODS[name].checkpointing] == ["prefix"]
    model = load_model(base)
    model.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="does not work with gradient checkpointing"):
        method("prefix").prepare(model, CASES["prefix"])


def test_a_prompt_takes_less_than_a_hundredth_of_full(tmp_path):
    base = find_base("embedded")
    sizes = {}
    for name in ("full", "prompt", "p-tuning"):
        options = METHODS[name].options()
        save_checkpoint(tmp_path / name, prepared(base, name, options), name, options, SPEC, base.codec, str(EMBEDDED))
        sizes[name] = stored_bytes(tmp_path / name)
    assert max(sizes["prompt"], sizes["p-tuning"]) < 0.01 * sizes["full"]
    assert trained_parameters(prepared(base, "p-tuning", PTuningOptions())) > 10 * 20 * 128


# Bottleneck adapters


def numpy_adapter(x, state):
    """x + gelu(x D^T + d) U^T + u, GELU in its tanh form."""
    inner = x @ state["down.weight"].T + state["down.bias"]
    inner = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    return x + inner @ state["up.weight"].T + state["up.bias"]


def test_a_bottleneck_is_the_formula_behind_both_halves_of_every_block(base):
    model, plain = prepared(base, "bottleneck", BottleneckOptions(bottleneck=5)), load_model(base)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.5)
                assert ".adapter." in name
    x = torch.randn(2, 7, WIDTH, generator=generator)
    for tuned, untuned in zip(model.transformer.h, plain.transformer.h, strict=True):
        with torch.no_grad():
            halves = (
                (tuned.attn, tuned.attn(x)[0], untuned.attn(x)[0]),
                (tuned.mlp, tuned.mlp(x), untuned.mlp(x)),
            )
        for half, found, alone in halves:
            state = {key: value.double().numpy() for key, value in half.adapter.state_dict().items()}
            assert found.numpy() == pytest.approx(numpy_adapter(alone.double().numpy(), state), abs=1e-5)


def test_bottlenecks_begin_near_zero(base):
    """Houlsby's truncated normal: standard deviation 0.01 before the cut at two of them, 0.88 of that after."""
    model = prepared(base, "bottleneck", BottleneckOptions(bottleneck=400)).eval()
    for name, value in model.named_parameters():
        if ".adapter." in name and name.endswith("weight"):
            assert value.abs().max().item() <= 0.02
            assert value.std().item() == pytest.approx(0.01 * 0.8796, rel=0.05)
        elif ".adapter." in name:
            assert (value == 0).all()
    small = prepared(base, "bottleneck", BottleneckOptions(bottleneck=8)).eval()
    assert logits_of(small, some_ids()) == pytest.approx(logits_of(load_model(base), some_ids()), abs=0.05)


@pytest.mark.parametrize("name", ["bottleneck", "prompt", "p-tuning", "partial", "layerwise"])
def test_gradients_are_the_same_when_activations_are_recomputed(base, name):
    ids, gradients = some_ids(), []
    for recompute in (False, True):
        model = prepared(base, name, CASES[name]).train()
        inner = model.tuned.get_base_model() if hasattr(model, "tuned") else model
        if recompute:
            inner.gradient_checkpointing_enable({"use_reentrant": False})
        model(input_ids=ids, use_cache=False).logits.square().mean().backward()
        gradients.append({key: value.grad for key, value in model.named_parameters() if value.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        assert gradient.abs().sum() > 0, key
        assert torch.allclose(gradient, gradients[1][key], atol=1e-6), key


# Layer-wise learning rates


@pytest.mark.parametrize("tied", [True, False])
def test_the_first_step_of_each_layer_is_its_learning_rate(base, data, tmp_path, tied):
    """AdamW's first step moves a weight by the rate itself, its gradient's size divided by itself."""
    if not tied:
        untied = load_model(base)
        untied.lm_head.weight = torch.nn.Parameter(untied.lm_head.weight.detach() * 1.5)
        untied.config.tie_word_embeddings = False
        save_base(tmp_path / "untied", untied, base.codec, base.card)
        base = find_base(str(tmp_path / "untied"))
    model, before = steps_of(base, "layerwise", LayerwiseOptions(decay=0.5), data, tmp_path / "state")
    factors = {"transformer.wte": 1 / 8, "transformer.wpe": 1 / 8, "transformer.ln_f": 1, "lm_head": 1}
    factors |= {"transformer.h.0": 1 / 4, "transformer.h.1": 1 / 2}
    seen = set()
    for name, value in model.named_parameters():
        place = next(place for place in factors if name.startswith(place))
        seen.add(place)
        moved = (value.detach() - before[name]).abs().max().item()
        assert moved == pytest.approx(1e-3 * factors[place], rel=2e-3), name
    assert seen == set(factors) - ({"lm_head"} if tied else set())


def test_without_decay_it_is_full_fine_tuning(base, data, tmp_path):
    one, _ = steps_of(base, "layerwise", LayerwiseOptions(decay=1.0), data, tmp_path / "one", steps=3)
    other, _ = steps_of(base, "full", FullOptions(), data, tmp_path / "other", steps=3)
    assert all(
        torch.equal(value, same)
        for value, same in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


# Partial freezing


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        (PartialOptions(blocks=2), ("transformer.h.0.", "transformer.h.1.", "transformer.ln_f.")),
        (PartialOptions(blocks=1), ("transformer.h.1.", "transformer.ln_f.")),
        (PartialOptions(blocks=0), ("transformer.ln_f.",)),
        (PartialOptions(blocks=0, head=True), ("transformer.ln_f.", "lm_head.")),
    ],
)
def test_partial_freezes_all_but_the_top(base, options, trained):
    model = prepared(base, "partial", options)
    for name, value in model.named_parameters():
        assert value.requires_grad is name.startswith(trained), name
    assert "transformer.wte.weight" in dict(model.named_parameters())


def test_a_head_of_its_own_leaves_the_embeddings_and_comes_back_from_disk(base, data, tmp_path):
    options = PartialOptions(blocks=0, head=True)
    assert (logits_of(prepared(base, "partial", options), some_ids()) == logits_of(load_model(base), some_ids())).all()
    model, before = steps_of(base, "partial", options, data, tmp_path / "state", steps=3)
    save_checkpoint(tmp_path / "checkpoint", model, "partial", options, SPEC, base.codec, str(base.folder))
    loaded = load_tuned(tmp_path / "checkpoint").model
    for each in (model, loaded):
        assert torch.equal(each.transformer.wte.weight, before["transformer.wte.weight"])
        assert not torch.equal(each.lm_head.weight, each.transformer.wte.weight)
    assert (logits_of(loaded, some_ids()) == logits_of(model.eval(), some_ids())).all()


def test_more_blocks_than_the_base_has_are_refused_with_how_many_it_has(base):
    with pytest.raises(ConfigError, match=r"method\.partial\.blocks is 3: the base has 2; give at most 2"):
        prepared(base, "partial", PartialOptions(blocks=3))


# The random start


def test_a_random_start_has_the_bases_shape_and_nothing_of_its_weights(base):
    start, same, other = (prepared(base, "random-init", RandomInitOptions(), seed).state_dict() for seed in (5, 5, 6))
    of_base = load_model(base).state_dict()
    assert {name: value.shape for name, value in start.items()} == {
        name: value.shape for name, value in of_base.items()
    }
    for name, value in start.items():
        assert torch.equal(value, same[name])
        if value.std() > 0:  # neither a bias nor a norm
            assert not torch.isclose(value, of_base[name]).all()
            assert not torch.equal(value, other[name])


# All of them


class Killed(BaseException):
    """Stands for kill -9: nothing in the loop may catch it."""


@pytest.mark.parametrize("name", CASES)
def test_a_killed_run_ends_bit_for_bit_where_an_unbroken_one_does(base, data, tmp_path, name):
    options, training = CASES[name], TrainingOptions(steps=6, batch_size=4, evaluate_every=2)

    def run(file, report=None):
        model = prepared(base, name, options)
        plan = METHODS[name].plan(model, options, training.steps)
        result = train(model, data, training, 1e-3, 7, file, report, plan)
        return model, replace(result, seconds=0, tokens_per_second=0, history=str(result.history))

    def killing(step, loss, validation):
        if step == 5:
            raise Killed

    whole, unbroken = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "state", killing)
    with safe_open(tmp_path / "state", framework="pt") as stored:
        held = {key.removeprefix("model.") for key in stored.keys() if key.startswith("model.")}  # noqa: SIM118
    resumed, result = run(tmp_path / "state")
    assert held == {key for key, value in resumed.named_parameters() if value.requires_grad}
    assert result == unbroken
    assert all(
        torch.equal(value, same)
        for value, same in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True)
    )


SECTIONS = {
    "layerwise": {"learning_rate": 0.01, "decay": 0.7},
    "partial": {"learning_rate": 0.01, "blocks": 0, "head": True},
    "prefix": {"learning_rate": 0.01, "tokens": 7, "init": "random", "projection": True, "hidden": 9},
    "prompt": {"learning_rate": 0.01, "tokens": 7, "init": "random"},
    "p-tuning": {"learning_rate": 0.01, "tokens": 7, "encoder": "lstm", "hidden": 9, "layers": 1},
    "bottleneck": {"learning_rate": 0.01, "bottleneck": 9},
    "random-init": {"learning_rate": 0.01},
}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_option_is_a_key_of_the_methods_section_and_comes_back(name):
    plain = {"name": "s", "series": ["ecb:EURUSD"], "methods": [name]}
    study = study_from(plain | {"method": {name: SECTIONS[name]}})
    shared = asdict(MethodOptions()) | {"learning_rate": SECTIONS[name]["learning_rate"]}
    assert asdict(study.options_of(name)) == shared | SECTIONS[name]
    assert study_from(as_plain(study)) == study
    for field in dataclasses.fields(study.options_of(name)):
        assert field.name in shared or SECTIONS[name][field.name] != field.default, field.name
    assert study_from(plain, [f"method.{name}.learning_rate=0.02"]).options_of(name).learning_rate == 0.02


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("layerwise", {"decay": 0.0}, "decay is 0.0; give a factor above 0 and up to 1"),
        ("layerwise", {"decay": 1.01}, "decay is 1.01; give"),
        ("partial", {"blocks": -1}, "blocks is -1; give 0"),
        ("prefix", {"tokens": 0}, "tokens is 0; give a whole number of at least 1"),
        ("prefix", {"init": "key"}, "init: unknown choice 'key' (did you mean 'keys'?)"),
        ("prefix", {"projection": True}, 'init is "keys", from which a projection cannot start; set init = "random"'),
        ("prefix", {"hidden": 8}, "hidden is 8, the width of a projection there is not; set projection = true"),
        ("prefix", {"hidden": -1, "projection": True, "init": "random"}, "hidden is -1; give a width"),
        ("prompt", {"tokens": 0}, "tokens is 0; give"),
        ("prompt", {"init": "vocab"}, "init: unknown choice 'vocab'"),
        ("p-tuning", {"tokens": -2}, "tokens is -2; give"),
        ("p-tuning", {"encoder": "gru"}, "encoder: unknown choice 'gru'"),
        ("p-tuning", {"hidden": -1}, "hidden is -1; give"),
        ("p-tuning", {"encoder": "lstm", "layers": 0}, "layers is 0; give"),
        ("p-tuning", {"layers": 3}, 'layers is 3, which only an LSTM heeds; set encoder = "lstm"'),
        ("bottleneck", {"bottleneck": 0}, "bottleneck is 0; give a whole number of at least 1"),
    ],
)
def test_settings_that_contradict_are_refused_by_their_name_in_the_study(name, wrong, said):
    with pytest.raises(ConfigError) as caught:
        study_from({"name": "s", "series": ["ecb:EURUSD"], "method": {name: wrong}})
    assert str(caught.value).startswith(f"method.{name}.{said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize("rate", [0, 2])
def test_a_learning_rate_out_of_range_is_refused(name, rate):
    with pytest.raises(ConfigError, match="learning_rate"):
        METHODS[name].options(learning_rate=rate)


def test_the_table_of_methods_is_true():
    lines = (Path(__file__).parents[2] / "docs" / "METHODS.md").read_text(encoding="utf-8").splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    header, rows = table[0], {cells[0].strip("`"): cells for cells in table[1:]}
    assert set(METHODS) <= set(rows)
    for name, chosen in METHODS.items():
        row = dict(zip(header, rows[name], strict=True))
        assert row["merges"] == ("yes" if chosen.merges else "no"), name
        if chosen.trains:
            assert float(row["learning rate"]) == chosen.options().learning_rate, name
        for option, value in re.findall(r"`(\w+)` (\"[^\"]*\"|[^,]+)", row["other defaults"]):
            stated = {"true": True, "false": False}.get(value.strip(), value.strip().strip('"'))
            actual = getattr(chosen.options(), option)
            assert type(actual)(stated) == actual, (name, option)
