"""GPT-2 in the hub's layout as a base: for every method, with fresh token rows; bad folders; the real size (slow)."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hub_gpt2 import write_hub_gpt2
from number_tokenizers import train_small
from safetensors.torch import load_file, save_file
from test_methods import CASES

from forecasting.base import find_base, hub, load_model
from forecasting.base.rows import ROWS_FILE, smooth_rows
from forecasting.checkpoint import (
    Tuned,
    forecaster_of_weights,
    load_checkpoint,
    load_tuned,
    new_model,
    plan_of,
    save_checkpoint,
)
from forecasting.codecs import BinsCodec, TextCodec
from forecasting.decoder import Decoder
from forecasting.errors import CheckpointError, ConfigError
from forecasting.files import read_json, write_json
from forecasting.methods import METHODS, method, settled, trained_parameters
from forecasting.sampler import SamplingOptions
from forecasting.train import TrainingData, TrainingOptions, train
from forecasting.windows import WindowSpec, contexts
from tunetrade.cli import build_parser, main
from tunetrade.layout import CellPaths

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of transformers, about how peft calls it
]

SPEC = WindowSpec(context=12, horizon=4)
SAMPLING = SamplingOptions(paths=8, threads=1)
VOCABULARY, WIDTH, BINS = 300, 32, BinsCodec().bins
TRAINED = [name for name in METHODS if METHODS[name].trains and not METHODS[name].objective]  # on tokens
TRAINED_CASES = [case for case, (name, _) in CASES.items() if name in TRAINED]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return write_hub_gpt2(tmp_path_factory.mktemp("hub") / "gpt2")


def trained(base_name, name, folder, options=None, steps=2, rate=1e-3, spec=SPEC, windows=8):
    """A model after its steps, its checkpoint, and how it was before; training and validation rows are the same."""
    options = settled(name, options or method(name).options(), spec)
    torch.manual_seed(1)
    model = new_model(base_name, name, options)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    if method(name).trains:
        rows = np.random.default_rng(0).integers(0, BINS, size=(windows, spec.context + spec.horizon))
        if method(name).objective:
            rows[:, spec.context :] %= 3  # classes, not tokens
        loop = TrainingOptions(steps=steps, batch_size=windows, warm_up=0.0, evaluate_every=1)
        plan = plan_of(model, base_name, name, options, steps, rate)
        data = TrainingData(rows, rows, spec.context)
        train(model, data, loop, rate, 5, folder / "state.safetensors", plan=plan)
    codec = find_base(base_name).codec
    save_checkpoint(folder / "checkpoint", model.eval(), name, options, spec, codec, base_name)
    return model, folder / "checkpoint", before


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits.numpy()


def ids_of(rows=2, length=12):
    return torch.from_numpy(np.random.default_rng(4).integers(0, BINS, size=(rows, length)))


def rows_in(state):
    return {key: value for key, value in state.items() if key.endswith("wte.weight") or key.endswith("lm_head.weight")}


@pytest.mark.parametrize("way", ["", "untied:"])
@pytest.mark.parametrize("case", CASES)
def test_every_method_trains_the_rows_and_comes_back_from_disk(gpt2, tmp_path, eurusd, case, way):
    base_name, (name, options) = f"{way}{gpt2}", CASES[case]
    model, folder, before = trained(base_name, name, tmp_path, options)
    after = rows_in(model.state_dict())
    assert len(after) >= 2
    for key, value in after.items():
        assert value.shape == (BINS, WIDTH)
        trains_along = key.startswith("tuned.") and not (way and "lm_head" in key)  # with a direction head
        moves = name in TRAINED or trains_along
        assert torch.equal(value, before[key]) is not moves, key
    tuned = load_tuned(folder)
    stored = rows_in(tuned.model.state_dict())
    assert all(torch.equal(stored[key], value) for key, value in after.items() if key in stored)
    ids = ids_of(1)
    with torch.inference_mode():
        in_memory, loaded = (Decoder(w, 4, 1).start(ids) for w in (method(name).weights(model), tuned.weights))
    assert torch.equal(in_memory, loaded)
    assert loaded[0].numpy() == pytest.approx(logits_of(model, ids)[0, -1], abs=1e-4)
    forecaster, spec = load_checkpoint(folder, SAMPLING)
    seen = forecaster.predict(contexts(eurusd, spec, forecaster.warm_up, np.array([5000]))).paths
    assert np.isfinite(seen).all()
    assert (seen > 0).all()


@pytest.mark.parametrize("way", ["", "untied:"])
@pytest.mark.parametrize("case", TRAINED_CASES)
def test_rows_are_stored_once(gpt2, tmp_path, case, way):
    """Beside what a method stores, unless it stores them itself."""
    name, options = CASES[case]
    model, folder, _ = trained(f"{way}{gpt2}", name, tmp_path, options)
    tables = [
        key
        for file in folder.glob("*.safetensors")
        for key, value in load_file(file).items()
        if tuple(value.shape) == (BINS, WIDTH)
    ]
    assert len(tables) == len({value.data_ptr() for value in rows_in(model.state_dict()).values()})
    assert ("token_rows" in read_json(folder / "model.json")) is (folder / ROWS_FILE).is_file()


def test_who_trains_the_rows(gpt2, tiny_base):
    def count(base, name, **options):
        return trained_parameters(new_model(str(base), name, method(name).options(**options)))

    rows = BINS * WIDTH
    assert count(gpt2, "lora") - count(gpt2, "lora", train_tokens="no") == rows
    assert count(f"untied:{gpt2}", "lora") - count(gpt2, "lora") == rows
    assert count(gpt2, "untuned") == 0
    assert count(gpt2, "full") == count(gpt2, "full", train_tokens="no")
    assert count(tiny_base, "lora") == count(tiny_base, "lora", train_tokens="no")
    assert count(tiny_base, "lora", train_tokens="yes") - count(tiny_base, "lora") == 31 * 16
    with pytest.raises(ConfigError, match=r"untuned.train_tokens is 'yes', and untuned trains nothing"):
        count(gpt2, "untuned", train_tokens="yes")


def test_rows_move_at_their_own_rate(gpt2, tmp_path):
    """The first step of AdamW moves every weight that has a gradient by its learning rate, decay aside."""
    options = method("lora").options(token_learning_rate=3e-3)
    model, _, before = trained(str(gpt2), "lora", tmp_path, options, steps=1, rate=1e-4)
    moved = {
        key: (value - before[key]).abs().median().item()
        for key, value in model.state_dict().items()
        if "wte" in key or "lora_B" in key
    }
    assert {round(value, 5) for key, value in moved.items() if "wte" in key} == {3e-3}
    assert {round(value, 6) for key, value in moved.items() if "lora_B" in key} == {1e-4}


def test_a_base_that_speaks_its_codec_gets_no_rows_file(tiny_base, tmp_path):
    name, options = "lora", method("lora").options()
    model = new_model(str(tiny_base), name, options)
    save_checkpoint(tmp_path / "c", model, name, options, SPEC, find_base(str(tiny_base)).codec, str(tiny_base))
    assert not (tmp_path / "c" / ROWS_FILE).exists()
    assert "token_rows" not in read_json(tmp_path / "c/model.json")
    plan = plan_of(model, str(tiny_base), name, options, 2, 1e-3)
    assert plan.rates == {}


@pytest.mark.parametrize("damage", ["missing", "cut", "shape", "a table less"])
def test_damaged_rows_are_named(gpt2, tmp_path, damage):
    file = trained(f"untied:{gpt2}", "lora", tmp_path)[1] / ROWS_FILE
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-9])
    else:
        tables = load_file(file)
        table = tables.pop("lm_head.weight")
        save_file(tables if damage == "a table less" else tables | {"lm_head.weight": table[:, 1:].contiguous()}, file)
    with pytest.raises(CheckpointError, match=f"{ROWS_FILE}.*train it anew"):
        assert load_tuned(file.parent).weights


def test_everything_but_the_rows_is_gpt2s(gpt2):
    """The last hidden state of transformers' own GPT-2 fed with the new rows."""
    from transformers import GPT2Model

    ours, theirs = load_model(find_base(str(gpt2))).eval(), GPT2Model.from_pretrained(gpt2).eval()
    rows, ids = ours.transformer.wte.weight, ids_of()
    with torch.no_grad():
        hidden = theirs(inputs_embeds=rows[ids]).last_hidden_state
    assert logits_of(ours, ids) == pytest.approx((hidden @ rows.T).detach().numpy(), abs=1e-5)
    assert ours.lm_head.weight is ours.transformer.wte.weight


def test_a_head_of_its_own_begins_with_equal_tokens(gpt2):
    model = load_model(find_base(f"untied:{gpt2}")).eval()
    assert model.lm_head.weight is not model.transformer.wte.weight
    assert not logits_of(model, ids_of()).any()
    assert torch.equal(model.transformer.wte.weight, load_model(find_base(str(gpt2))).transformer.wte.weight)


def test_fresh_rows_are_smooth_and_have_the_statistics_of_the_old(monkeypatch):
    rng = np.random.default_rng(2)
    table = (rng.normal(size=(5000, 6)) @ rng.normal(size=(6, 6)) + 3 * rng.normal(size=6)).astype(np.float32)
    covariance = np.cov(table.T, bias=True)
    mean_of_draws = np.zeros((6, 6))
    for seed in range(300):
        monkeypatch.setattr("forecasting.base.rows.SEED", seed)
        rows = smooth_rows(torch.from_numpy(table), 101).numpy().astype(np.float64)
        assert rows.mean(axis=0) == pytest.approx(table.mean(axis=0), abs=1e-4)
        assert np.trace(np.cov(rows.T, bias=True)) == pytest.approx(np.trace(covariance), rel=1e-4)
        mean_of_draws += np.cov(rows.T, bias=True) / 300
    assert mean_of_draws == pytest.approx(covariance, abs=0.15 * np.abs(covariance).max())
    steps = np.square(np.diff(rows, axis=0)).sum(axis=1).mean()
    apart = 2 * np.trace(np.cov(rows.T, bias=True))  # of two rows at random
    assert steps < 0.01 * apart


def test_fresh_rows_do_not_depend_on_threads(gpt2):
    table = load_file(gpt2 / "model.safetensors")["wte.weight"].repeat(20, 4)
    one = smooth_rows(table, BINS)
    torch.set_num_threads(2)
    try:
        assert torch.equal(one, smooth_rows(table, BINS))
    finally:
        torch.set_num_threads(1)


def test_the_base_is_described(gpt2):
    base = find_base(str(gpt2))
    assert (base.codec, base.cutoff, base.positions, base.fresh) == (BinsCodec(), "2017-12-31", 96, True)
    assert base.card["name"] == "gpt2"
    assert "unknown" in base.card["corpus"]
    for way in ("", "untied:"):
        found = find_base(f"{way}{gpt2}")
        assert found.card["parameters"] == sum(value.numel() for value in load_model(found).parameters())


def test_the_hash_covers_files_and_way_but_not_the_place(gpt2, tmp_path):
    first = find_base(str(gpt2)).sha
    copied = tmp_path / "other"
    copied.mkdir()
    for file in gpt2.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    assert find_base(str(copied)).sha == first
    assert find_base(f"untied:{copied}").sha != first
    config = read_json(copied / "config.json")
    write_json(copied / "config.json", config | {"attn_pdrop": 0.0})
    second = find_base(str(copied)).sha
    tensors = load_file(copied / "model.safetensors")
    tensors["ln_f.bias"][0] += 1
    save_file(tensors, copied / "model.safetensors")
    os.utime(copied / "model.safetensors", ns=(1, 1))
    assert len({first, second, find_base(str(copied)).sha}) == 3


def test_text_keeps_the_rows_and_speaks_the_models_own_tokens(tmp_path, eurusd):
    folder = tmp_path / "gpt2"
    write_hub_gpt2(folder, vocabulary=316)
    with pytest.raises(CheckpointError, match=r"lacks vocab.json, merges.txt"):
        find_base(f"text:{folder}")
    train_small(folder)
    base = find_base(f"text:{folder}")
    assert isinstance(base.codec, TextCodec)
    assert not base.fresh
    assert torch.equal(load_model(base).transformer.wte.weight, load_file(folder / "model.safetensors")["wte.weight"])
    codec = replace(base.codec, digits=2, integer_digits=2)
    options, spec = method("lora").options(), WindowSpec(context=8, horizon=2)
    save_checkpoint(
        tmp_path / "c", new_model(f"text:{folder}", "lora", options), "lora", options, spec, codec, f"text:{folder}"
    )
    assert not (tmp_path / "c" / ROWS_FILE).exists()
    forecaster, _ = load_checkpoint(tmp_path / "c", SAMPLING)
    seen = forecaster.predict(contexts(eurusd, spec, forecaster.warm_up, np.array([5000]))).forecasts
    assert np.isfinite(seen.mean).all()
    write_json(
        folder / "vocab.json", {k: v for k, v in json.loads((folder / "vocab.json").read_text()).items() if v < 310}
    )
    with pytest.raises(CheckpointError, match=r"vocab.json .* has 310 tokens, the model 316 rows"):
        find_base(f"text:{folder}")


def other_config(**changes):
    return lambda folder: write_json(folder / "config.json", read_json(folder / "config.json") | changes)


def cut(name):
    def damage(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])

    return damage


def without(tensor):
    def damage(folder):
        tensors = load_file(folder / "model.safetensors")
        tensors.pop(tensor)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return damage


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BAD = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "lacks config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors"),
    "a pickle": (pickled, "pytorch_model.bin is a pickle, which is never read"),
    "cut weights": (cut("model.safetensors"), "model.safetensors cannot be read"),
    "cut config": (cut("config.json"), "config.json cannot be read"),
    "empty config": (lambda folder: write_json(folder / "config.json", {}), "config.json cannot be read"),
    "another model": (other_config(model_type="llama"), "not of a GPT-2 .*model_type 'llama'"),
    "another activation": (other_config(activation_function="relu"), "activation_function 'relu', not 'gelu_new'"),
    "heads that do not divide": (other_config(n_head=5), "not of a GPT-2"),
    "another vocabulary": (
        other_config(vocab_size=301),
        r"wte.weight \[300, 32\], its config.json says vocab_size 301",
    ),
    "another length": (other_config(n_positions=32), r"wpe.weight \[96, 32\].*n_positions 32"),
    "another depth": (
        other_config(n_layer=3),
        r"model.safetensors lacks h.2.attn.c_attn.weight, .* and 9 more, which its config.json",
    ),
    "another inner width": (other_config(n_inner=64), r"h.0.mlp.c_fc.weight \[32, 128\].*n_inner 64"),
    "a missing matrix": (without("h.1.attn.c_attn.weight"), "lacks h.1.attn.c_attn.weight, which"),
    "a missing table": (without("wte.weight"), "lacks wte.weight, which"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_named_with_the_cure(tmp_path, case):
    damage, said = BAD[case]
    folder = write_hub_gpt2(tmp_path / "gpt2")
    damage(folder)
    with pytest.raises(CheckpointError, match=said) as caught:
        find_base(str(folder))  # not as late as when a model is loaded
    assert "\n" not in str(caught.value)
    assert any(cure in str(caught.value) for cure in ("download", "put ", "name a GPT-2"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut("model.safetensors"), r"model.safetensors cannot be read .*use 'embedded'"),
        (other_config(n_layer=3), r"lacks h.2.attn.c_attn.weight, .*use 'embedded'"),
        (other_config(activation_function="relu"), "not of a GPT-2 .*name a GPT-2"),
        (lambda folder: write_json(folder / "codec.json", BinsCodec(bins=63).as_dict()), "31 token rows, its codec 63"),
        (shutil.rmtree, "is no folder here"),
    ],
)
def test_a_bad_base_of_ours_is_refused_before_any_model_is_loaded(tiny_base, tmp_path, damage, said):
    damage(shutil.copytree(tiny_base, tmp_path / "base"))
    with pytest.raises(CheckpointError, match=said):
        find_base(str(tmp_path / "base"))


@pytest.mark.parametrize("name", ["gpt2", "someone/gpt2-prices", "text:gpt2-medium"])
def test_where_the_hub_cannot_be_reached_the_error_says_what_to_place(monkeypatch, name):
    asked = []

    def unreachable(repo, **options):
        asked.append((repo, options))
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(
        CheckpointError, match=r"no route.*config.json, model.safetensors.*--base (text:)?FOLDER"
    ) as caught:
        find_base(name)
    assert "\n" not in str(caught.value)
    assert ("vocab.json" in str(caught.value)) is name.startswith("text:")
    assert [options.get("local_files_only", False) for _, options in asked] == [True, False]
    for repo, options in asked:
        assert repo == name.removeprefix("text:")
        assert not any(file.endswith((".bin", ".pt", ".h5", "*")) for file in options["allow_patterns"])


def test_a_hub_name_is_taken_from_the_cache_without_the_network(monkeypatch, gpt2):
    def cached(repo, allow_patterns, local_files_only=False):
        assert (repo, local_files_only) == ("gpt2", True)
        return str(gpt2)

    monkeypatch.setattr("huggingface_hub.snapshot_download", cached)
    base = find_base("gpt2")
    assert (base.folder, base.card["name"], base.sha) == (gpt2, "gpt2", find_base(str(gpt2)).sha)


def test_names_that_are_no_hub_names_never_ask_the_hub(monkeypatch):
    monkeypatch.setattr(hub, "fetch", lambda *_: pytest.fail("asked the hub"))
    for name in ("nowhere", "./nowhere/gpt3", "a/b/c", "untied:nowhere"):
        with pytest.raises(CheckpointError, match=r"nowhere|a/b/c"):
            find_base(name)


def test_a_way_goes_before_a_gpt2_only(tiny_base):
    for name in ("text:embedded", f"untied:{tiny_base}"):
        with pytest.raises(CheckpointError, match="a base with a codec of its own, give it without"):
            find_base(name)


def test_base_on_the_command_line_is_a_setting():
    asked = build_parser().parse_args(["study", "s.toml", "--set", "a=1", "--base", 'C:\\my "gpt2"'])
    assert asked.set == ["a=1", 'base="C:\\\\my \\"gpt2\\""']
    assert build_parser().parse_args(["train", "ecb:EURUSD"]).set == []


SMALL = [
    "windows.context=12", "windows.horizon=3", "split.train_start=2018-06-01", "split.validation_start=2019-01-01",
    "split.test_start=2019-04-01", "split.test_end=2019-05-01", "training.steps=2", "training.batch_size=2",
    "training.evaluate_every=1", "sampling.paths=8",
]  # fmt: skip


def settings(*more):
    return [part for setting in (*SMALL, *more) for part in ("--set", setting)]


def test_train_on_a_folder_from_the_command_line(gpt2, tmp_path, capsys):
    arguments = ["train", "ecb:EURUSD", "--method", "lora", "--base", str(gpt2), "--runs", str(tmp_path), "--jobs", "1"]
    assert main([*arguments, *settings()]) == 0
    run = tmp_path / "single/EURUSD-D1/lora/1"
    assert (CellPaths(run).checkpoint / ROWS_FILE).is_file()
    assert read_json(run / "run.json")["base"]["cutoff"] == "2017-12-31"
    capsys.readouterr()
    assert main([*arguments, *settings("split.validation_start=2017-06-01", "split.train_start=2016-01-01")]) == 2
    assert "2017-12-31" in capsys.readouterr().err


@pytest.fixture(scope="module")
def large_gpt2(tmp_path_factory):
    """Random weights in the layout and the sizes of the hub's gpt2."""
    folder = tmp_path_factory.mktemp("hub") / "gpt2-124m"
    yield write_hub_gpt2(folder, 50257, 768, 12, 12, 1024, std=0.02)
    shutil.rmtree(folder)


@pytest.fixture
def room(tmp_path):
    """A folder that is gone after the test: three sessions of them would fill a disk."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def by_hub_name(state):
    """Tensors of a GPT-2 under the hub's names, whatever the method has wrapped it into."""
    inside = {key: value for key, value in state.items() if "transformer." in key}
    return {key.split("transformer.")[-1].replace(".base_layer.", "."): value for key, value in inside.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_124_million_gpt2_with_every_method(large_gpt2, room, eurusd, name):
    """Only the token rows are new, only what trains moves, and the forecast from disk is the one in memory."""
    base, spec = find_base(str(large_gpt2)), WindowSpec(20, 5)
    assert base.card["parameters"] == 124_439_808 - (50257 - BINS) * 768
    options = settled(name, method(name).options(), spec)
    model, checkpoint, before = trained(str(large_gpt2), name, room, options, rate=1e-4, spec=spec, windows=2)
    begun, stored = by_hub_name(before), load_file(large_gpt2 / "model.safetensors")
    assert begun["wte.weight"].shape == (BINS, 768)
    if name != "random-init":
        lost = {key for key in stored if not torch.equal(begun.get(key, torch.empty(0)), stored[key])}
        masks = {f"h.{i}.attn.bias" for i in range(12)}
        matrices = {key for key in stored if stored[key].ndim == 2 and key.startswith("h.")}
        assert lost == masks | {"wte.weight"} | (matrices if name == "qlora" else set())
    now = model.state_dict()
    moved = {value.data_ptr() for key, value in now.items() if not torch.equal(value, before[key])}
    trains = {value.data_ptr() for value in model.parameters() if value.requires_grad}
    rows = {value.data_ptr() for value in rows_in(now).values()}
    assert moved <= trains
    assert bool(moved & rows) is (name in TRAINED)
    assert bool(moved - rows) is METHODS[name].trains
    weights = METHODS[name].weights(model)
    density = forecaster_of_weights("in memory", "", weights, base.codec, spec, SAMPLING)
    in_memory = Tuned(lambda: model, base.codec, spec, name, base).complete(density)
    from_disk, _ = load_checkpoint(checkpoint, SAMPLING)
    asked = contexts(eurusd, spec, from_disk.warm_up, np.array([5000]))
    kept, loaded = in_memory.predict(asked), from_disk.predict(asked)
    assert np.isfinite(loaded.paths).all()
    assert np.array_equal(kept.paths, loaded.paths)
    for field in ("mean", "quantiles", "p_up"):
        assert np.array_equal(getattr(kept.forecasts, field), getattr(loaded.forecasts, field)), field
