"""The contract every tuning method keeps, on a tiny base."""

import contextlib
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import slow_draws
from safetensors.torch import load_file, save_file
from torch import nn

from forecasting.base import NAMED, NEEDED, check_length, find_base, load_model, save_base
from forecasting.cache import ForecastCache
from forecasting.checkpoint import load_checkpoint, new_model, save_checkpoint
from forecasting.decoder import Decoder, weights_of
from forecasting.errors import CheckpointError, ConfigError
from forecasting.export import export
from forecasting.files import read_json, write_json
from forecasting.forecaster import PathForecaster
from forecasting.methods import METHODS, method, stored_bytes, trained_parameters
from forecasting.methods.adalora import AdaLoraOptions
from forecasting.methods.adapter import AdapterOptions
from forecasting.methods.bottleneck import BottleneckOptions
from forecasting.methods.direction import DirectionOptions
from forecasting.methods.full import FullOptions
from forecasting.methods.ia3 import Ia3Options
from forecasting.methods.layer_norm import LayerNormOptions
from forecasting.methods.layerwise import LayerwiseOptions
from forecasting.methods.lora import LoraOptions
from forecasting.methods.method import MethodOptions
from forecasting.methods.p_tuning import PTuningOptions
from forecasting.methods.partial import PartialOptions
from forecasting.methods.prefix import PrefixOptions
from forecasting.methods.prompt import PromptOptions
from forecasting.methods.qlora import QloraOptions
from forecasting.methods.random_init import RandomInitOptions
from forecasting.sampler import SamplingOptions, gpt2_decoders, sample
from forecasting.train import TrainingData, TrainingOptions, train
from forecasting.windows import WindowSpec, contexts

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = WindowSpec(context=10, horizon=4)
SAMPLING = SamplingOptions(paths=8, threads=1)
LAYERS, WIDTH, BINS, POSITIONS = 2, 16, 31, 32  # of the tiny base

CASES = {
    "untuned": ("untuned", MethodOptions()),
    "full": ("full", FullOptions()),
    "lora": ("lora", LoraOptions(rank=3)),
    "lora-everywhere": ("lora", LoraOptions(rank=2, targets="c_attn, attn.c_proj,mlp.c_fc,mlp.c_proj")),
    "dora": ("lora", LoraOptions(rank=3, dora=True, rslora=True, init="gaussian")),
    "qlora": ("qlora", QloraOptions(rank=3)),
    "qdora-in-part": ("qlora", QloraOptions(rank=2, targets="c_attn", dora=True)),
    "adalora": ("adalora", AdaLoraOptions(rank=2, initial_rank=4, targets="c_attn", alpha=1000.0)),
    "ia3": ("ia3", Ia3Options()),
    "ln": ("ln", LayerNormOptions()),
    "adapter": ("adapter", AdapterOptions(bottleneck=5)),
    "adapter-train-base": ("adapter", AdapterOptions(bottleneck=5, train_base=True)),
    "layerwise": ("layerwise", LayerwiseOptions(decay=0.5)),
    "partial": ("partial", PartialOptions(blocks=1)),
    "partial-norm": ("partial", PartialOptions(blocks=0)),
    "partial-head": ("partial", PartialOptions(blocks=0, head=True)),
    "prefix": ("prefix", PrefixOptions(tokens=3)),
    "prefix-projected": ("prefix", PrefixOptions(tokens=3, init="random", projection=True, hidden=8)),
    "prompt": ("prompt", PromptOptions(tokens=3)),
    "p-tuning": ("p-tuning", PTuningOptions(tokens=3, hidden=8)),
    "p-tuning-lstm": ("p-tuning", PTuningOptions(tokens=3, encoder="lstm", hidden=4, layers=1)),
    "bottleneck": ("bottleneck", BottleneckOptions(bottleneck=5)),
    "random-init": ("random-init", RandomInitOptions()),
    "direction": ("direction", DirectionOptions(horizon=4)),
    "direction-train-base": ("direction", DirectionOptions(horizon=4, train_base=True)),
}
TUNED = [case for case in CASES if case != "untuned"]

OF_BASE = (
    (BINS + POSITIONS) * WIDTH  # embeddings; the head is tied
    + LAYERS * (4 * WIDTH + (WIDTH * 3 * WIDTH + 3 * WIDTH) + (WIDTH * WIDTH + WIDTH))  # norms, attention
    + LAYERS * ((WIDTH * 4 * WIDTH + 4 * WIDTH) + (4 * WIDTH * WIDTH + WIDTH))  # MLP
    + 2 * WIDTH  # last norm
)
OF_A_BLOCK = 4 * WIDTH + 12 * WIDTH * WIDTH + 9 * WIDTH
OF_ADAPTERS = LAYERS * (WIDTH * 5 + 5 + 5 * WIDTH + WIDTH)
TRAINED = {
    "untuned": 0,
    "full": OF_BASE,
    "lora": LAYERS * 3 * (WIDTH + 3 * WIDTH),
    "lora-everywhere": LAYERS * 2 * ((1 + 3) + (1 + 1) + (1 + 4) + (4 + 1)) * WIDTH,
    "dora": LAYERS * (3 * (WIDTH + 3 * WIDTH) + 3 * WIDTH),
    "qlora": LAYERS * 3 * ((1 + 3) + (1 + 1) + (1 + 4) + (4 + 1)) * WIDTH,
    "qdora-in-part": LAYERS * (2 * (WIDTH + 3 * WIDTH) + 3 * WIDTH),
    "adalora": LAYERS * 4 * (WIDTH + 1 + 3 * WIDTH),
    "ia3": LAYERS * (3 * WIDTH + 4 * WIDTH),
    "ln": (2 * LAYERS + 1) * 2 * WIDTH,
    "adapter": OF_ADAPTERS,
    "adapter-train-base": OF_ADAPTERS + OF_BASE,
    "layerwise": OF_BASE,
    "partial": OF_A_BLOCK + 2 * WIDTH,
    "partial-norm": 2 * WIDTH,
    "partial-head": 2 * WIDTH + BINS * WIDTH,
    "prefix": 3 * LAYERS * 2 * WIDTH,
    "prefix-projected": 3 * WIDTH + (WIDTH * 8 + 8) + (8 + 1) * LAYERS * 2 * WIDTH,
    "prompt": 3 * WIDTH,
    "p-tuning": 3 * WIDTH + (WIDTH * 8 + 8) + (8 * 8 + 8) + (8 * WIDTH + WIDTH),
    "p-tuning-lstm": 3 * WIDTH + 2 * (4 * 4 * (WIDTH + 4 + 2)) + (8 * 8 + 8) + (8 * WIDTH + WIDTH),
    "bottleneck": 2 * OF_ADAPTERS,
    "random-init": OF_BASE,
    "direction": 4 * 3 * (WIDTH + 1),
    "direction-train-base": 4 * 3 * (WIDTH + 1) + OF_BASE,
}
STORED = TRAINED | {  # what computed the virtual tokens is left behind, and half of AdaLoRA's triplets
    "adalora": LAYERS * 2 * (WIDTH + 1 + 3 * WIDTH),
    "prefix-projected": TRAINED["prefix"],
    "p-tuning": TRAINED["prompt"],
    "p-tuning-lstm": TRAINED["prompt"],
}


@pytest.fixture(scope="module")
def base(tiny_base):
    return find_base(str(tiny_base))


def fresh(base, case) -> nn.Module:
    name, options = CASES[case]
    torch.manual_seed(11)
    return new_model(str(base.folder), name, options)


def rows_for(case, count) -> np.ndarray:
    rows = np.random.default_rng(0).integers(0, BINS, size=(count, SPEC.context + SPEC.horizon))
    if METHODS[CASES[case][0]].objective:
        rows[:, SPEC.context :] %= 3  # classes, not tokens
    return rows


def trained(base, case, folder) -> nn.Module:
    """Two steps on the rows that also validate, so that the second leaves the best weights."""
    model = fresh(base, case)
    if METHODS[CASES[case][0]].trains:
        rows = rows_for(case, 16)
        options = TrainingOptions(steps=2, batch_size=16, warm_up=0.0, evaluate_every=1)
        data = TrainingData(rows, rows, 1)
        plan = METHODS[CASES[case][0]].plan(model, CASES[case][1], options.steps)
        assert train(model, data, options, 0.01, 5, folder / "state.safetensors", plan=plan).best_step == 2
    return model.eval()


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    """The trained model and its checkpoint folder, for each case."""

    def make(case) -> tuple[nn.Module, Path]:
        folder = tmp_path_factory.mktemp(case)
        model = trained(base, case, folder)
        name, options = CASES[case]
        save_checkpoint(folder / "checkpoint", model, name, options, SPEC, base.codec, str(base.folder))
        return model, folder / "checkpoint"

    return {case: make(case) for case in CASES}


def copy_of(tuned, case, folder) -> Path:
    copied = folder / case
    copied.mkdir()
    for file in tuned[case][1].iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    return copied


def logits_of(model, ids) -> np.ndarray:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits.numpy()


def some_ids(rows=3, length=12) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(4).integers(0, BINS, size=(rows, length)))


def test_every_method_has_a_case():
    assert {name for name, _ in CASES.values()} == set(METHODS)


@pytest.mark.parametrize("case", CASES)
def test_training_moves_what_trains_and_nothing_else(base, tuned, case):
    before, after = dict(fresh(base, case).named_parameters()), dict(tuned[case][0].named_parameters())
    assert before.keys() == after.keys()
    for name, start in before.items():
        same = start.detach().numpy().tobytes() == after[name].detach().numpy().tobytes()
        assert same is not start.requires_grad, name


@pytest.mark.parametrize("case", CASES)
def test_trained_parameters_equal_the_formula(base, case):
    model = fresh(base, case)
    assert trained_parameters(model) == TRAINED[case]
    assert sum(value.numel() for value in load_model(base).parameters()) == OF_BASE
    assert METHODS[CASES[case][0]].trains is (TRAINED[case] > 0)


def refuse(*of):
    raise AssertionError(f"the checkpoint was opened: {of}")


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_from_disk_forecasts_the_same_bytes_also_from_weights_kept_for_serving(
    base, tuned, eurusd, tmp_path, monkeypatch, case
):
    model, folder = tuned[case]
    cache = ForecastCache(tmp_path, 2**30, "program")
    loaded = [load_checkpoint(folder, SAMPLING)[0], load_checkpoint(folder, SAMPLING, cache)[0]]
    weights = method(CASES[case][0]).weights(model)
    made = gpt2_decoders(weights, SAMPLING.paths, SPEC.horizon)
    in_memory = PathForecaster("memory", base.codec, SPEC.context, SAMPLING, made)
    if objective := method(CASES[case][0]).objective:
        in_memory = objective.forecaster(in_memory, model)
    monkeypatch.setitem(METHODS, CASES[case][0], replace(METHODS[CASES[case][0]], load=refuse))
    served, spec = load_checkpoint(folder, SAMPLING, cache)
    assert spec == SPEC
    inputs = contexts(eurusd, SPEC, base.codec.warm_up, np.array([900, 4000]))
    other = in_memory.predict(inputs)
    for forecaster in (*loaded, served):
        one = forecaster.predict(inputs)
        assert forecaster.sha == served.sha
        assert one.paths.tobytes() == other.paths.tobytes()
        for name in ("mean", "mean_se", "quantiles", "p_up"):
            assert getattr(one.forecasts, name).tobytes() == getattr(other.forecasts, name).tobytes()


@pytest.mark.parametrize("change", ["damage", "cut", "program", "checkpoint", "limit"])
def test_kept_weights_are_made_again_where_anything_has_changed(tuned, tmp_path, monkeypatch, change):
    asked, real = [], METHODS["lora"]
    monkeypatch.setitem(METHODS, "lora", replace(real, load=lambda *of: asked.append(of) or real.load(*of)))
    folder, program, limit = tmp_path / "lora", "program", 0 if change == "limit" else 2**30
    shutil.copytree(tuned["lora"][1], folder)
    for _ in range(2):
        load_checkpoint(folder, SAMPLING, ForecastCache(tmp_path / "cache", limit, program))
    kept = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert (len(asked), len(kept)) == ((2, 0) if change == "limit" else (1, 1))
    if change == "damage":
        content = bytearray(kept[0].read_bytes())
        content[-5] ^= 1
        kept[0].write_bytes(content)
    elif change == "cut":
        kept[0].write_bytes(kept[0].read_bytes()[:-9])
    elif change == "program":
        program = "another"
    elif change == "checkpoint":
        write_json(folder / "another.json", {})
    before = len(asked)
    load_checkpoint(folder, SAMPLING, ForecastCache(tmp_path / "cache", limit, program))
    assert len(asked) == before + 1


@pytest.mark.parametrize("case", TUNED)
def test_tuning_changes_the_forecast(tuned, eurusd, base, case):
    inputs = contexts(eurusd, SPEC, base.codec.warm_up, np.array([900]))
    one, other = (load_checkpoint(tuned[name][1], SAMPLING)[0] for name in (case, "untuned"))
    assert one.sha != other.sha
    if METHODS[CASES[case][0]].objective:
        assert (one.predict(inputs).forecasts.p_up != other.predict(inputs).forecasts.p_up).all()
    else:
        assert (one.predict(inputs).paths != other.predict(inputs).paths).all()


@pytest.mark.parametrize("case", CASES)
def test_the_engine_gives_the_logits_of_the_model(tuned, case):
    model, chosen = tuned[case][0], method(CASES[case][0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = some_ids(rows=1, length=12)
    with torch.inference_mode():
        decoder = Decoder(chosen.weights(model), 4, 4)
        ours = [decoder.start(ids[0, :8])] + [decoder.advance(ids[0, t].repeat(4))[2] for t in range(8, 12)]
    assert torch.stack(ours).numpy() == pytest.approx(logits_of(model, ids)[0, 7:], abs=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("case", CASES)
def test_the_engine_draws_the_tokens_of_a_plain_loop_over_the_model(tuned, base, eurusd, case):
    """Of tokens drawn after the same ones: where a uniform lies on the edge of two, what follows is another path."""
    model, paths, taken = tuned[case][0], 64, []
    inputs = contexts(eurusd, SPEC, base.codec.warm_up, np.arange(900, 4900, 500))

    class Recorded(Decoder):
        def advance(self, ids):
            taken.append(ids.clone())
            return super().advance(ids)

    weights, steps = method(CASES[case][0]).weights(model), SPEC.horizon - 1
    options = replace(SAMPLING, paths=paths, seed=3)
    sample(inputs, base.codec, lambda: Recorded(weights, paths, steps), SPEC.context, options)
    rolled = torch.cat([torch.stack(taken[i : i + steps], dim=2) for i in range(0, len(taken), steps)])
    ours = rolled[-len(inputs) :].numpy()  # those before are of the check of tiles
    tokens, _ = slow_draws(
        lambda ids: torch.from_numpy(logits_of(model, ids)), base.codec, inputs, SPEC.context, paths, 3
    )
    assert ours.shape == (len(inputs), paths, steps)
    same = ours == tokens[:, :, :steps]
    after_the_same = np.logical_and.accumulate(np.insert(same[:, :, :-1], 0, True, axis=2), axis=2)
    assert same[after_the_same].mean() >= 0.999
    assert len(np.unique(ours)) > BINS // 2


class Killed(BaseException):
    """Stands for kill -9: nothing in the loop may catch it."""


@pytest.mark.parametrize("case", TUNED)
def test_a_killed_run_ends_bit_for_bit_where_an_unbroken_one_ends(base, tmp_path, case):
    """Killed between its first state file and the next; in bf16 and micro-batches, recomputing where the method can."""
    chosen, rows = method(CASES[case][0]), rows_for(case, 24)
    settings = TrainingOptions(
        steps=4, batch_size=6, evaluate_every=2, warm_up=0.0, accumulate=2, precision="bf16",
        checkpointing=chosen.checkpointing, device="cpu",
    )  # fmt: skip

    def run(state, report=None):
        model = fresh(base, case)
        plan = chosen.plan(model, CASES[case][1], settings.steps)
        result = train(model, TrainingData(rows, rows, 1), settings, 0.01, 5, tmp_path / state, report, plan)
        kept = {**load_file(tmp_path / state), **dict(model.named_parameters())}
        return repr(result.history), {name: value.detach().numpy().tobytes() for name, value in kept.items()}

    def kill(step, *_):
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        run("killed", kill)
    before = load_file(tmp_path / "killed")
    (whole, weights), (resumed, same) = run("whole"), run("killed")
    assert resumed == whole
    assert same.keys() == weights.keys()
    assert [name for name in same if same[name] != weights[name]] == []
    assert any(before[name].numpy().tobytes() != same[name] for name in before if name.startswith("model."))


@pytest.mark.parametrize("case", ["lora", "lora-everywhere"])
def test_merged_lora_equals_unmerged(tuned, case):
    model, ids = tuned[case][0], some_ids()
    apart = logits_of(model, ids)
    assert logits_of(deepcopy(model).merge_and_unload(), ids) == pytest.approx(apart, abs=1e-5)
    decoder = Decoder(method("lora").weights(model), 4, 1)
    with torch.inference_mode():
        assert decoder.start(ids[0]).numpy() == pytest.approx(apart[0, -1], abs=1e-5)


def test_a_lora_layer_is_the_formula(tuned):
    """y = x W + b + (alpha / rank) x A^T B^T, W [in, out] as GPT-2 keeps it, A [rank, in], B [out, rank]."""
    layer = tuned["lora"][0].get_base_model().transformer.h[1].attn.c_attn
    x = np.random.default_rng(1).normal(size=(7, WIDTH)).astype(np.float32)
    weight, bias = layer.base_layer.weight.detach().numpy(), layer.base_layer.bias.detach().numpy()
    a, b = (part["default"].weight.detach().numpy() for part in (layer.lora_A, layer.lora_B))
    wanted = x @ weight + bias + 32 / 3 * (x @ a.T) @ b.T
    assert layer(torch.from_numpy(x)).detach().numpy() == pytest.approx(wanted, abs=1e-5)
    merged = method("lora").weights(tuned["lora"][0]).blocks[1].qkv
    assert merged(torch.from_numpy(x)).detach().numpy() == pytest.approx(wanted, abs=1e-5)


def test_the_article_adapter_is_the_formula(tuned):
    """After ln_f, for each layer in turn: h + relu(h D^T + d) U^T + u."""
    model, ids = tuned["adapter"][0], some_ids()
    with torch.no_grad():
        hidden = model.base.transformer(input_ids=ids).last_hidden_state.numpy().astype(np.float64)
    state = {name: value.numpy() for name, value in model.adapters.state_dict().items()}
    assert len(state) == 4 * LAYERS
    for i in range(LAYERS):
        inner = np.maximum(hidden @ state[f"{i}.down.weight"].T + state[f"{i}.down.bias"], 0)
        hidden = hidden + inner @ state[f"{i}.up.weight"].T + state[f"{i}.up.bias"]
    wanted = hidden @ model.base.lm_head.weight.detach().numpy().T
    assert logits_of(model, ids) == pytest.approx(wanted, abs=1e-4)


def test_adapters_begin_as_the_article_says(base):
    torch.manual_seed(0)
    model = method("adapter").prepare(load_model(base), AdapterOptions(bottleneck=2000))
    for adapter in model.adapters:
        for layer in (adapter.down, adapter.up):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert (layer.bias == 0).all()


def test_dropout_acts_in_training_only(base):
    for case in ("lora", "adapter"):
        model = fresh(base, case)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if value.requires_grad:
                    value.fill_(0.3 if "bias" not in name else 0.0)
        ids = some_ids()
        assert (logits_of(model.eval(), ids) == logits_of(model.eval(), ids)).all()
        assert (logits_of(model.train(), ids) != logits_of(model.train(), ids)).any()


PEFT_FILES = {"adapter_config.json", "adapter_model.safetensors"}
GPT2_FILES = {"config.json", "model.safetensors"}
FILES = {
    "untuned": set(),
    **dict.fromkeys(("full", "layerwise", "random-init"), GPT2_FILES),
    **dict.fromkeys(("lora", "lora-everywhere", "dora", "qlora", "qdora-in-part", "adalora", "ia3", "ln"), PEFT_FILES),
    **dict.fromkeys(("prefix", "prefix-projected", "prompt", "p-tuning", "p-tuning-lstm"), PEFT_FILES),
    **{key: {"trained.safetensors"} for key in ("partial", "partial-norm", "partial-head")},
    **{key: {"adapters.safetensors"} for key in ("adapter", "bottleneck")},
    "adapter-train-base": {"adapters.safetensors"} | GPT2_FILES,
    "direction": {"direction.safetensors"},
    "direction-train-base": {"direction.safetensors"} | GPT2_FILES,
}
OPENED = [case for case in CASES if FILES[case] == PEFT_FILES and CASES[case][0] != "qlora"]  # whose base is another


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, about how peft calls it
@pytest.mark.parametrize("case", OPENED)
def test_pefts_own_loader_opens_the_folder(base, tuned, case):
    from peft import PeftModel

    model, folder = tuned[case]
    opened, ids = PeftModel.from_pretrained(load_model(base), folder).eval(), some_ids()
    of_tokens = logits_of(opened, ids)[:, -ids.shape[1] :]  # peft gives those of a prompt before them
    assert of_tokens == pytest.approx(logits_of(model, ids), abs=1e-5)


@pytest.mark.parametrize("case", ["full", "adapter-train-base"])
def test_transformers_opens_the_folder(tuned, case):
    from transformers import GPT2LMHeadModel

    model, folder = tuned[case]
    opened = GPT2LMHeadModel.from_pretrained(folder).eval()
    inner = model if case == "full" else model.base
    assert (logits_of(opened, some_ids()) == logits_of(inner.eval(), some_ids())).all()


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_holds_no_pickle_and_no_more_than_it_needs(tuned, case):
    files = {file.name for file in tuned[case][1].rglob("*")}
    assert files == FILES[case] | {"codec.json", "model.json"}
    assert stored_bytes(tuned[case][1]) == sum(file.stat().st_size for file in tuned[case][1].iterdir())
    stored = sum(
        t.numel() for name in files if name.endswith(".safetensors") for t in load_file(tuned[case][1] / name).values()
    )
    assert stored == STORED[case]


@pytest.mark.parametrize("case", CASES)
def test_a_method_merges_where_its_model_is_exported_as_a_plain_gpt2(tuned, tmp_path, case):
    exported = contextlib.nullcontext()
    if not METHODS[CASES[case][0]].merges:
        exported = pytest.raises(CheckpointError, match="does not merge into GPT-2's own matrices")
    with exported:
        export(tuned[case][1], tmp_path / "out", "merged", "2018-12-31")
    assert (tmp_path / "out").exists() is METHODS[CASES[case][0]].merges


def test_a_lora_folder_does_not_depend_on_where_the_base_lies(tuned):
    text = (tuned["lora"][1] / "adapter_config.json").read_text()
    assert read_json(tuned["lora"][1] / "adapter_config.json")["base_model_name_or_path"] is None
    assert "tiny" not in text


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (LoraOptions, {"rank": 0}),
        (LoraOptions, {"alpha": 0.0}),
        (LoraOptions, {"dropout": 1.0}),
        (LoraOptions, {"dropout": -0.1}),
        (LoraOptions, {"targets": ""}),
        (LoraOptions, {"targets": "c_attn,wte"}),
        (LoraOptions, {"targets": "lm_head"}),
        (AdapterOptions, {"dropout": 1.0}),
        (AdapterOptions, {"bottleneck": 0}),
        *(
            (kind, {"learning_rate": rate})
            for kind in (MethodOptions, FullOptions, LoraOptions, AdapterOptions)
            for rate in (0, 2)
        ),
    ],
)
def test_options_out_of_range_are_refused(kind, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        kind(**wrong)


def test_an_unknown_module_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown module 'attn.c_pro' \(did you mean 'attn.c_proj'\?\)"):
        LoraOptions(targets="attn.c_pro")


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match=r"'lorra' \(did you mean 'lora'\?\); known: .*adapter, .*untuned"):
        method("lorra")


ALL_FILES = [(case, file) for case in CASES for file in sorted(FILES[case] | {"codec.json", "model.json"})]


@pytest.mark.parametrize(("case", "name"), [pair for pair in ALL_FILES if pair[1] != "adapter_config.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "noise"])
def test_a_damaged_checkpoint_names_the_file(tuned, tmp_path, case, name, damage):
    folder = copy_of(tuned, case, tmp_path)
    content = (folder / name).read_bytes()
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content[: len(content) // 2] if damage == "cut" else b"\xff\xfe" * 40)
    with pytest.raises(CheckpointError, match=f"{name} .*train it anew") as caught:
        load_checkpoint(folder, SAMPLING)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("case", "name"), [pair for pair in ALL_FILES if pair[1].endswith(".safetensors")])
def test_when_a_tensor_is_missing_then_it_is_not_left_random(tuned, tmp_path, case, name):
    folder = copy_of(tuned, case, tmp_path)
    tensors = load_file(folder / name)
    tensors.pop(sorted(tensors)[-1])
    save_file(tensors, folder / name, {"format": "pt"})
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder, SAMPLING)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"codec.json is missing; train it anew"):
        load_checkpoint(tmp_path / "nowhere", SAMPLING)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("layout", 99, "layout 99"),
        ("method", "lorra", "did you mean 'lora'"),
        ("options", {"rank": 0}, r"\(rank is 0"),
        ("options", {"rang": 3}, "rang"),
        ("windows", {"context": 64, "horizon": 5}, "68 tokens"),
        ("base", "no-such-folder", "no-such-folder"),
    ],
)
def test_settings_that_do_not_hold_together_are_refused(tuned, tmp_path, key, value, said):
    folder = copy_of(tuned, "lora", tmp_path)
    write_json(folder / "model.json", read_json(folder / "model.json") | {key: value})
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(folder, SAMPLING)


def test_stored_shapes_must_be_those_of_the_settings(tuned, tmp_path):
    folder = copy_of(tuned, "lora", tmp_path)
    settings = read_json(folder / "model.json")
    write_json(folder / "model.json", settings | {"options": settings["options"] | {"rank": 4}})
    with pytest.raises(CheckpointError, match=r"adapter_model.safetensors does not fit"):
        load_checkpoint(folder, SAMPLING)


def test_a_base_that_changed_is_refused(base, tmp_path):
    folder = tmp_path / "base"
    model = load_model(base)
    save_base(folder, model, base.codec, base.card)
    name, options = CASES["untuned"]
    save_checkpoint(tmp_path / "checkpoint", model, name, options, SPEC, base.codec, str(folder))
    load_checkpoint(tmp_path / "checkpoint", SAMPLING)
    with torch.no_grad():
        model.transformer.ln_f.bias[0] += 1e-3
    save_base(folder, model, base.codec, base.card)
    with pytest.raises(CheckpointError, match="another version of base"):
        load_checkpoint(tmp_path / "checkpoint", SAMPLING)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "codec.json", "card.json"])
@pytest.mark.parametrize("damage", ["missing", "noise"])
def test_a_damaged_base_names_the_file(base, tmp_path, name, damage):
    for file in base.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(b"{" * 30)
    with pytest.raises(CheckpointError, match=rf"{name}.*tunetrade pretrain"):
        load_model(find_base(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("card.json", "cut-off 2014", "not JSON: Expecting value: line 1 column 1"),
        ("card.json", "[]", r"a JSON object was expected, it holds \[\]"),
        ("card.json", "-cutoff", "it lacks 'cutoff'"),
        ("card.json", {"cutoff": None}, "its cutoff is None, not a day such as '2014-12-31'"),
        ("card.json", {"cutoff": "soon"}, "its cutoff is 'soon', not a day"),
        ("card.json", {"cutoff": "NaT"}, "its cutoff is 'NaT', not a day"),
        ("codec.json", "", "not JSON: Expecting value: line 1 column 1"),
        ("codec.json", '"bins"', 'a JSON object was expected, it holds "bins"'),
        ("codec.json", "-kind", "it lacks 'kind'"),
        ("codec.json", "-bins", "it lacks 'bins'"),
        ("codec.json", "-power", "it lacks 'power'"),
        ("config.json", "-n_positions", "it lacks 'n_positions'"),
    ],
)
def test_a_damaged_base_says_what_is_missing(base, tmp_path, name, content, said):
    """ "-key" takes a key out, a dictionary replaces some, any other text is the file."""
    folder = shutil.copytree(base.folder, tmp_path / "base")
    whole = read_json(folder / name)
    if isinstance(content, dict):
        write_json(folder / name, {**whole, **content})
    elif content.startswith("-"):
        write_json(folder / name, {key: value for key, value in whole.items() if key != content[1:]})
    else:
        (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=rf"base.{name} cannot be read \({said}.*\); use .*tunetrade pretrain"
    ) as e:
        find_base(str(folder))
    assert "\n" not in str(e.value)


def test_every_setting_a_base_of_ours_has_is_needed_but_those_a_series_sets():
    for name in NAMED:
        codec = find_base(name).codec.as_dict()
        assert set(NEEDED[codec["kind"]]) == codec.keys() - {"kind", "profile", "timezone", "bar_seconds"}


def test_a_truncated_base_is_refused_where_it_is_found(base, tmp_path):
    folder = shutil.copytree(base.folder, tmp_path / "base")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model.safetensors cannot be read \(.+\); use .*tunetrade pretrain"):
        find_base(str(folder))


def test_base_and_codec_must_agree(base, tmp_path):
    save_base(tmp_path / "odd", load_model(base), replace(base.codec, bins=33), base.card)
    with pytest.raises(CheckpointError, match="31 token rows, its codec 33 tokens"):
        load_model(find_base(str(tmp_path / "odd")))


def test_a_base_whose_config_is_another_models_says_both_sizes(base, tmp_path):
    folder = tmp_path / "odd"
    shutil.copytree(base.folder, folder)
    write_json(folder / "config.json", read_json(folder / "config.json") | {"vocab_size": 33})
    said = r"wte.weight \[31, 16\], its config.json says vocab_size 33, n_embd 16; .*tunetrade pretrain"
    with pytest.raises(CheckpointError, match=said):
        load_model(find_base(str(folder)))


def test_when_a_window_is_longer_than_the_base_then_the_setting_and_the_most_are_named(base):
    assert base.positions == 32
    check_length(base, WindowSpec(28, 5))
    with pytest.raises(ConfigError, match=r"windows.context is 29: .* the base holds 32; give at most 28"):
        check_length(base, WindowSpec(29, 5))
    with pytest.raises(ConfigError, match="shorten both"):
        check_length(base, WindowSpec(8, 32))


def test_the_longest_window_that_is_allowed_is_forecast(base, eurusd):
    spec = WindowSpec(28, 5)
    model = load_model(base)
    paths = sample(
        contexts(eurusd, spec, base.codec.warm_up, np.array([3000])),
        base.codec,
        gpt2_decoders(weights_of(model), 4, spec.horizon),
        spec.context,
        replace(SAMPLING, paths=4),
    ).paths
    assert np.isfinite(paths).all()


@pytest.mark.parametrize("name", ["lora", "qlora"])
def test_a_rank_above_the_width_is_refused(base, name):
    chosen = METHODS[name]
    chosen.check(chosen.options(rank=base.width), base)
    with pytest.raises(ConfigError, match=f"method.{name}.rank is 17; a base of width 16"):
        chosen.check(chosen.options(rank=17), base)
