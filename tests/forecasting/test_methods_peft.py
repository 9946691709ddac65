"""Methods that tune weights through PEFT, against formulas written out in numpy and against PEFT's own loading."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from forecasting.base import find_base, load_model
from forecasting.checkpoint import load_tuned, new_model, save_checkpoint
from forecasting.decoder import Decoder
from forecasting.errors import CheckpointError, ConfigError
from forecasting.files import read_json, write_json
from forecasting.methods import METHODS, stored_bytes
from forecasting.methods.adalora import AdaLoraOptions, deviation_from_orthogonal, schedule
from forecasting.methods.full import FullOptions
from forecasting.methods.ia3 import Ia3Options
from forecasting.methods.layer_norm import LayerNormOptions
from forecasting.methods.lora import LoraOptions
from forecasting.methods.qlora import QloraOptions, dequantised
from forecasting.train import TrainingData, TrainingOptions, train
from forecasting.windows import WindowSpec

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of transformers, about how peft calls it
]

BINS, WIDTH, LAYERS = 31, 16, 2  # of the tiny base
SPEC = WindowSpec(context=10, horizon=4)
ALL = "c_attn,attn.c_proj,mlp.c_fc,mlp.c_proj"
CASES = {
    "lora": ("lora", LoraOptions(rank=3, alpha=5.0)),
    "rslora": ("lora", LoraOptions(rank=3, alpha=5.0, rslora=True)),
    "dora": ("lora", LoraOptions(rank=3, alpha=5.0, dora=True, rslora=True, targets=ALL)),
    "adalora": ("adalora", AdaLoraOptions(rank=2, initial_rank=4, alpha=5.0)),
    "ia3": ("ia3", Ia3Options()),
    "ia3-everywhere": ("ia3", Ia3Options(targets=ALL)),
    "ln": ("ln", LayerNormOptions()),
    "ln-last": ("ln", LayerNormOptions(targets="ln_f")),
    "qlora": ("qlora", QloraOptions(rank=3, alpha=5.0)),
    "qdora": ("qlora", QloraOptions(rank=3, alpha=5.0, dora=True, targets="c_attn,mlp.c_proj")),
}
QUANTISED = ("qlora", "qdora")


def fresh(folder, case) -> nn.Module:
    torch.manual_seed(7)
    return new_model(str(folder), *CASES[case])


def shaken(folder, case) -> nn.Module:
    """All that trains moved at random, far from neutral; of AdaLoRA every other triplet, and all of one layer, gone."""
    model, generator = fresh(folder, case), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad:
                value.add_(torch.randn(value.shape, generator=generator), alpha=0.3)
            if "lora_E" in name:
                value[:: 1 if "h.0.mlp.c_fc" in name else 2] = 0.0
    return model.eval()


def logits_of(model, ids) -> np.ndarray:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits.numpy()


IDS = torch.from_numpy(np.random.default_rng(4).integers(0, BINS, size=(3, 12)))


def saved(model, tiny_base, case, folder):
    base = find_base(str(tiny_base))
    save_checkpoint(folder, model, *CASES[case], SPEC, base.codec, str(tiny_base))
    return folder


@pytest.mark.parametrize("case", [case for case in CASES if case not in QUANTISED])
def test_pefts_own_loader_gives_the_same_logits(tiny_base, tmp_path, case):
    from peft import PeftModel

    model, base = shaken(tiny_base, case), load_model(find_base(str(tiny_base)))
    opened = PeftModel.from_pretrained(base, saved(model, tiny_base, case, tmp_path / "tuned"))
    assert logits_of(opened.eval(), IDS) == pytest.approx(logits_of(model, IDS), abs=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_saving_what_was_loaded_gives_the_same_files(tiny_base, tmp_path, case):
    first = saved(shaken(tiny_base, case), tiny_base, case, tmp_path / "first")
    again = saved(load_tuned(first).model, tiny_base, case, tmp_path / "again")
    assert (again / "adapter_model.safetensors").read_bytes() == (first / "adapter_model.safetensors").read_bytes()
    assert read_json(again / "adapter_config.json") == read_json(first / "adapter_config.json")
    assert str(tiny_base) not in (first / "adapter_config.json").read_text()


@pytest.mark.parametrize("case", CASES)
def test_merging_keeps_the_logits_and_the_model(tiny_base, case):
    model = shaken(tiny_base, case)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    decoder = Decoder(METHODS[CASES[case][0]].weights(model), 1, 1)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.inference_mode():
        assert decoder.start(IDS).numpy() == pytest.approx(logits_of(model, IDS)[:, -1], abs=1e-4)


def layer_of(model, block, name):
    return model.get_base_model().get_submodule(f"transformer.h.{block}.{name}")


def numpy_of(value) -> np.ndarray:
    return value.detach().numpy().astype(np.float64)


def low_rank(layer, scale) -> np.ndarray:
    """s A^T B^T, [in, out]."""
    a, b = (numpy_of(part["default"].weight) for part in (layer.lora_A, layer.lora_B))
    return scale * a.T @ b.T


def tuned_matrix(layer, case) -> tuple[np.ndarray, np.ndarray]:
    """Matrix [in, out] and bias of the tuned layer, from the formulas of the articles."""
    inside = layer.base_layer
    weight = numpy_of(dequantised(inside)).T if case in QUANTISED else numpy_of(inside.weight)
    bias = numpy_of(inside.bias)
    if case in ("lora", "qlora"):
        return weight + low_rank(layer, 5 / 3), bias
    if case == "rslora":
        return weight + low_rank(layer, 5 / np.sqrt(3)), bias
    if case in ("dora", "qdora"):
        moved = weight + low_rank(layer, 5 / np.sqrt(3) if case == "dora" else 5 / 3)
        magnitude = numpy_of(layer.lora_magnitude_vector["default"].weight)
        return moved / np.sqrt((moved**2).sum(axis=0)) * magnitude, bias
    if case == "adalora":
        a, e, b = (numpy_of(part["default"]) for part in (layer.lora_A, layer.lora_E, layer.lora_B))
        change = sum(e[i, 0] * np.outer(b[:, i], a[i]) for i in range(len(e)))
        return weight + 5 / (4 + 1e-5) * change.T, bias
    factors = numpy_of(layer.ia3_l["default"]).reshape(-1)
    if layer.is_feedforward:
        return factors[:, None] * weight, bias
    return weight * factors, bias * factors


FORMULAS = [(case, "attn.c_attn") for case in CASES if "ln" not in case]
FORMULAS += [(case, "mlp.c_proj") for case, _ in FORMULAS if case not in ("lora", "rslora")]


@pytest.mark.parametrize(("case", "name"), FORMULAS)
def test_a_layer_is_its_formula_apart_and_merged(tiny_base, case, name):
    """x W + b with the tuned W and b."""
    model = shaken(tiny_base, case)
    layer = layer_of(model, 1, name)
    x = np.random.default_rng(1).normal(size=(7, WIDTH * (1 if name == "attn.c_attn" else 4)))
    matrix, bias = tuned_matrix(layer, case)
    given, wanted = torch.from_numpy(x).float(), x @ matrix + bias
    assert layer(given).detach().numpy() == pytest.approx(wanted, abs=1e-4)
    block = METHODS[CASES[case][0]].weights(model).blocks[1]
    product = block.qkv if name == "attn.c_attn" else block.mlp_out
    assert product(given).detach().numpy() == pytest.approx(wanted, abs=1e-4)
    untuned = load_model(find_base(str(tiny_base))).transformer.h[1].get_submodule(name)
    assert np.abs(untuned(given).detach().numpy() - wanted).max() > 0.1


def test_dora_begins_as_the_base(tiny_base):
    """Magnitudes begin as the norms of the base's columns."""
    model, base = fresh(tiny_base, "dora").eval(), load_model(find_base(str(tiny_base)))
    assert logits_of(model, IDS) == pytest.approx(logits_of(base, IDS), abs=1e-4)


def test_initialisations_of_a(tiny_base):
    for init, spread in (("kaiming", np.sqrt(1 / (3 * WIDTH))), ("gaussian", 1 / 200)):
        options = LoraOptions(rank=200, init=init)
        torch.manual_seed(1)
        layer = layer_of(new_model(str(tiny_base), "lora", options), 0, "attn.c_attn")
        assert layer.lora_A["default"].weight.std().item() == pytest.approx(spread, rel=0.05)
        assert not layer.lora_B["default"].weight.any()


def error_of_nf4(quantised, base) -> float:
    """Largest error of any weight over the largest weight of its matrix."""
    worst = []
    for i in range(base.config.n_layer):
        for name in ALL.replace("c_attn", "attn.c_attn").split(","):
            exact = base.transformer.h[i].get_submodule(name).weight.detach().T
            matrix = dequantised(layer_of(quantised, i, name).base_layer)
            worst.append(float((matrix - exact).abs().max() / exact.abs().max()))
    return max(worst)


def test_the_base_in_4_bits_is_within_half_a_step_of_the_base(tiny_base):
    """Widest gap between numbers of NF4: 0.304; the scales, in 8 bits, add a little. The tiny base is 16 wide."""
    base = find_base(str(tiny_base))
    assert 0.05 < error_of_nf4(fresh(tiny_base, "qlora"), load_model(base)) < 0.16


def test_the_base_in_4_bits_is_that_of_transformers(tmp_path):
    """Matrix for matrix to the last bit, though transformers quantises while it reads the file."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(2)
    config = GPT2Config(vocab_size=BINS, n_positions=20, n_embd=64, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)

    quantisation = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    theirs = GPT2LMHeadModel.from_pretrained(
        tmp_path, quantization_config=quantisation, device_map="cpu", dtype=torch.float32
    )
    base = GPT2LMHeadModel.from_pretrained(tmp_path)
    ours = METHODS["qlora"].prepare(GPT2LMHeadModel.from_pretrained(tmp_path), CASES["qlora"][1])
    assert 0.05 < error_of_nf4(ours, base) < 0.16
    compared = 0
    for name, module in theirs.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            matrix = dequantised(ours.get_base_model().get_submodule(name).base_layer)
            assert torch.equal(
                matrix, bitsandbytes.functional.dequantize_4bit(module.weight, module.weight.quant_state)
            )
            compared += 1
    assert compared == 4 * LAYERS


def test_forecasting_does_not_change_a_base_in_4_bits(tiny_base):
    """bitsandbytes repacks weights for good where a processor has a kernel in half precision; here it must not."""
    model = shaken(tiny_base, "qlora")
    layers = [layer_of(model, i, name).base_layer for i in range(LAYERS) for name in ("attn.c_attn", "mlp.c_fc")]
    before = [dequantised(layer).clone() for layer in layers]
    forecast = logits_of(model, IDS)
    assert all(torch.equal(dequantised(layer), one) for layer, one in zip(layers, before, strict=True))
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert forecast == pytest.approx(logits_of(model, IDS), abs=1e-6)


def test_without_bitsandbytes_the_cure_is_named(tiny_base, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="'qlora' needs bitsandbytes; pip install bitsandbytes"):
        fresh(tiny_base, "qlora")


def test_a_bitsandbytes_that_does_not_load_is_named_with_the_cure(tiny_base, tmp_path, monkeypatch):
    (tmp_path / "bitsandbytes.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    with pytest.raises(ConfigError, match=r"'qlora' needs bitsandbytes.*libcudart.*pip install --force-reinstall"):
        METHODS["qlora"].check(QloraOptions(), find_base(str(tiny_base)))


def test_on_cuda_the_moments_are_paged_8_bit(tiny_base):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    name, options = CASES["qlora"]
    assert METHODS[name].plan(fresh(tiny_base, "qlora"), options, 5).optimizer is bitsandbytes.optim.PagedAdamW8bit


class Killed(BaseException):
    """Stands for kill -9."""


STEPS = TrainingOptions(steps=20, batch_size=4, warm_up=0.0, evaluate_every=2, min_steps=20, patience=100)


def run(tiny_base, case, options, state, kill_at=None):
    """Trains a fresh model, to the end or to the step at which it is killed."""
    rows = np.random.default_rng(2).integers(0, BINS, size=(24, 14))
    name, method_options = CASES[case]
    model = fresh(tiny_base, case)
    plan = METHODS[name].plan(model, method_options, options.steps)

    def report(step, loss, validation):
        if step == kill_at:
            raise Killed

    return model, train(model, TrainingData(rows, rows, 10), options, 0.02, 5, state, report, plan)


def bits(model):
    return {name: value.detach().numpy().tobytes() for name, value in model.named_parameters()}


KILLS = [(case, 7) for case in ("dora", "ia3", "ln", "qlora")]
KILLS += [("adalora", step) for step in (3, 7, 11, 15)]  # it thins out from step 3 on, and for good at 10


@pytest.mark.parametrize(("case", "kill_at"), KILLS)
def test_a_killed_run_ends_bit_for_bit_where_an_unbroken_one_ends(tiny_base, tmp_path, case, kill_at):
    whole, result = run(tiny_base, case, STEPS, tmp_path / "whole")
    with pytest.raises(Killed):
        run(tiny_base, case, STEPS, tmp_path / "state", kill_at)
    resumed, other = run(tiny_base, case, STEPS, tmp_path / "state")
    assert bits(resumed) == bits(whole)
    assert repr(other.history) == repr(result.history)


def left_of(model) -> list[int]:
    return [int((value != 0).sum()) for name, value in model.named_parameters() if "lora_E" in name]


def test_adalora_ends_with_the_rank_it_was_given_and_stores_no_more(tiny_base, tmp_path):
    short = replace(STEPS, evaluate_every=20)  # so that the weights kept are the last
    model, result = run(tiny_base, "adalora", short, tmp_path / "state")
    assert result.best_step == 20
    assert len(left_of(model)) == 4 * LAYERS
    assert sum(left_of(model)) == 2 * 4 * LAYERS
    assert len(set(left_of(model))) > 1  # over all matrices together, not two in each
    folder = saved(model, tiny_base, "adalora", tmp_path / "tuned")
    assert left_of(load_tuned(folder).model) == left_of(model)
    weights = [METHODS["adalora"].weights(each).blocks[1].mlp_in for each in (model, load_tuned(folder).model)]
    x = torch.eye(WIDTH)
    assert torch.equal(*(product(x) for product in weights))


def test_thinning_comes_after_the_update(tiny_base):
    """What was taken out is zero when the step is over: momentum has not brought it back."""
    name, options = CASES["adalora"]
    model = fresh(tiny_base, "adalora")
    plan = METHODS[name].plan(model, options, 20)
    seen = []

    def after_step(step):
        plan.after_step(step)
        seen.append(sum(left_of(model)))

    rows = np.random.default_rng(2).integers(0, BINS, size=(24, 14))
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=0.02)
    for step in range(20):
        optimizer.zero_grad()
        out = model(input_ids=torch.from_numpy(rows), labels=torch.from_numpy(rows))
        out.loss.backward()
        optimizer.step()
        after_step(step)
    triplets, wanted = 4 * LAYERS * 4, 4 * LAYERS * 2
    budget = [wanted + int((triplets - wanted) * (1 - (step - 2) / 8) ** 3) for step in range(3, 10)]
    assert seen == [triplets] * 2 + budget + [wanted] * 11


@pytest.mark.parametrize(
    ("steps", "wanted"), [(1, (2, 0, 0)), (2, (2, 0, 0)), (3, (3, 0, 1)), (20, (20, 2, 10)), (300, (300, 30, 150))]
)
def test_the_schedule_leaves_steps_for_scores_and_for_thinning(tiny_base, tmp_path, steps, wanted):
    assert schedule(AdaLoraOptions(), steps) == wanted
    if steps < 5:
        run(tiny_base, "adalora", replace(STEPS, steps=steps), tmp_path / "state")


def test_the_penalty_is_pefts(tiny_base):
    model = shaken(tiny_base, "adalora")
    with torch.no_grad():
        out = model(input_ids=IDS, labels=IDS)
        plain = nn.functional.cross_entropy(out.logits[:, :-1].reshape(-1, BINS), IDS[:, 1:].reshape(-1))
        ours = METHODS["adalora"].plan(model, CASES["adalora"][1], 20).penalty()
    assert out.loss.item() - plain.item() == pytest.approx(ours.item(), abs=1e-4)
    assert ours.item() == pytest.approx(0.5 * deviation_from_orthogonal(model).item())
    assert METHODS["adalora"].plan(model, replace(CASES["adalora"][1], orthogonality=0.0), 20).penalty is None


@pytest.mark.parametrize("pattern", [None, {}, {"transformer.h.0.attn.c_attn.lora_E": [True]}])
def test_a_rank_pattern_that_does_not_fit_is_refused(tiny_base, tmp_path, pattern):
    folder = saved(shaken(tiny_base, "adalora"), tiny_base, "adalora", tmp_path / "tuned")
    file = folder / "adapter_config.json"
    write_json(file, read_json(file) | {"rank_pattern": pattern})
    with pytest.raises(CheckpointError, match=r"adapter_config.json .*train it anew"):
        assert load_tuned(folder).weights


@pytest.mark.parametrize("case", ["ia3", "ln"])
def test_on_the_embedded_base_it_stores_under_a_hundredth_of_full(tmp_path, case):
    base = find_base("embedded")

    def stored(name, options):
        model = new_model("embedded", name, options)
        save_checkpoint(tmp_path / name, model, name, options, SPEC, base.codec, "embedded")
        return stored_bytes(tmp_path / name)

    assert stored(*CASES[case]) < 0.01 * stored("full", FullOptions())


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        (LoraOptions, {"init": "gausian"}, "init: .*'gaussian'"),
        (QloraOptions, {"rank": 0}, "rank is 0"),
        (QloraOptions, {"alpha": -1.0}, "alpha"),
        (QloraOptions, {"targets": "wte"}, "targets: unknown module 'wte'"),
        (AdaLoraOptions, {"rank": 0}, "rank is 0"),
        (AdaLoraOptions, {"rank": 8, "initial_rank": 6}, "initial_rank is 6, rank 8"),
        (AdaLoraOptions, {"rank": 8, "initial_rank": 8}, ".*more than is to be left, or take lora"),
        (AdaLoraOptions, {"dropout": 1.0}, "dropout"),
        (AdaLoraOptions, {"targets": "c_atn"}, r"targets: .*'c_attn'"),
        (AdaLoraOptions, {"settled": 0.6}, "settled .* and final .*leave some for thinning"),
        (AdaLoraOptions, {"final": -0.1}, "settled .* not negative"),
        (AdaLoraOptions, {"interval": 0}, "interval is 0"),
        (AdaLoraOptions, {"smoothing": 1.0}, "smoothing"),
        (AdaLoraOptions, {"deviation": 0.0}, "deviation"),
        (AdaLoraOptions, {"orthogonality": -1.0}, "orthogonality"),
        (Ia3Options, {"targets": ""}, "targets"),
        (LayerNormOptions, {"targets": "ln_3"}, "targets: unknown module 'ln_3'"),
        *((kind, {"learning_rate": 0.0}, "learning_rate") for kind in (Ia3Options, LayerNormOptions, QloraOptions)),
    ],
)
def test_bad_options_begin_with_the_setting(kind, wrong, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        kind(**wrong)
