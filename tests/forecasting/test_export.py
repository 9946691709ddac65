"""Tuned models for other programs: transformers, peft and torch read what we write, and we read what peft wrote."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from hub_gpt2 import write_hub_gpt2, write_own_base
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from forecasting.base import find_base, load_model
from forecasting.base.rows import ROWS_FILE
from forecasting.checkpoint import load_checkpoint, load_tuned, new_model, save_checkpoint
from forecasting.decoder import Decoder, weights_of
from forecasting.errors import CheckpointError, ConfigError
from forecasting.export import PEFT, STATE_DICT, export, load_peft, peft_forecaster, peft_weights
from forecasting.files import read_json, write_json
from forecasting.methods import METHODS, method, settled
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec, contexts
from tunetrade.cli import main

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of transformers, about how peft calls it
]

SPEC = WindowSpec(context=10, horizon=4)
SAMPLING = SamplingOptions(paths=8, threads=1)


def shaken(model: nn.Module, std: float = 0.1) -> nn.Module:
    """The model with noise on all that trains, as if it had been trained."""
    draw = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(std * torch.randn(value.shape, generator=draw))
    return model.eval()


@pytest.fixture(scope="module")
def own_base(tmp_path_factory):
    return write_own_base(tmp_path_factory.mktemp("bases") / "own")


@pytest.fixture(scope="module")
def bases(own_base, tmp_path_factory):
    gpt2 = write_hub_gpt2(tmp_path_factory.mktemp("hub") / "gpt2")
    return {"own": str(own_base), "gpt2": str(gpt2), "untied": f"untied:{gpt2}"}


@pytest.fixture(scope="module")
def checkpoints(bases, tmp_path_factory):
    """Makes the checkpoint of a method on a base once."""
    made = {}

    def checkpoint(name, base):
        if (name, base) not in made:
            folder, options = tmp_path_factory.mktemp("tuned") / name, settled(name, method(name).options(), SPEC)
            torch.manual_seed(1)
            model = shaken(new_model(bases[base], name, options))
            save_checkpoint(folder, model, name, options, SPEC, find_base(bases[base]).codec, bases[base])
            made[name, base] = folder
        return made[name, base]

    return checkpoint


def ids_of(bins=31):
    return torch.from_numpy(np.random.default_rng(4).integers(0, bins, size=(3, 12)))


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits[:, -ids.shape[1] :].numpy()  # not of virtual tokens


def first(weights, ids):
    with torch.inference_mode():
        return Decoder(weights, 4, 1).start(ids)


@pytest.mark.parametrize("base", ["own", "gpt2", "untied"])
@pytest.mark.parametrize("name", METHODS)
def test_a_merged_folder_is_the_model_for_transformers_and_a_base_for_us(checkpoints, bases, tmp_path, name, base):
    checkpoint, out = checkpoints(name, base), tmp_path / "out"
    try:
        files = export(checkpoint, out, "merged", "2018-12-31")
    except CheckpointError as refused:
        assert not METHODS[name].merges
        assert "does not merge into GPT-2's own matrices" in str(refused)
        assert not out.exists()
        return
    assert METHODS[name].merges
    assert files == ["card.json", "codec.json", "config.json", "model.safetensors"]
    tuned, ids = load_tuned(checkpoint), ids_of()
    opened, loading = GPT2LMHeadModel.from_pretrained(out, output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert logits_of(opened.eval(), ids) == pytest.approx(logits_of(tuned.model, ids), abs=1e-4)
    assert (opened.lm_head.weight is opened.transformer.wte.weight) is (base != "untied")
    again = find_base(str(out))
    assert torch.equal(first(weights_of(load_model(again)), ids), first(tuned.weights, ids))
    assert again.codec == tuned.codec
    assert not again.fresh
    assert again.card["parameters"] == sum(value.numel() for value in opened.parameters())
    assert again.cutoff == "2018-12-31"
    assert again.card["base"]["sha"] == find_base(bases[base]).sha


def test_the_adapter_refuses_to_merge_and_says_what_to_do(checkpoints, tmp_path):
    with pytest.raises(
        CheckpointError, match=r"method adapter does not merge .*it adds adapters\); copy its checkpoint"
    ):
        export(checkpoints("adapter", "own"), tmp_path / "out", "merged", "2018-12-31")


def test_a_method_with_a_peft_folder_that_cannot_merge_is_sent_there(checkpoints, tmp_path):
    folder = tmp_path / "like-prefix"
    shutil.copytree(checkpoints("adapter", "own"), folder)
    for name in PEFT:
        shutil.copyfile(checkpoints("lora", "own") / name, folder / name)
    with pytest.raises(CheckpointError, match="export it with --what adapter"):
        export(folder, tmp_path / "out", "merged", "2018-12-31")


def test_the_cutoff_is_never_before_the_bases(checkpoints, tmp_path):
    export(checkpoints("lora", "gpt2"), tmp_path / "out", "merged", "2010-12-31")
    card = find_base(str(tmp_path / "out")).card
    assert (card["cutoff"], card["tuned_until"]) == ("2017-12-31", "2010-12-31")


@pytest.mark.parametrize("base", ["own", "untied"])
def test_a_state_dict_is_read_by_torch_alone(checkpoints, tmp_path, base):
    checkpoint, out = checkpoints("lora", base), tmp_path / "out"
    assert export(checkpoint, out, "state-dict", "2018-12-31") == [STATE_DICT]
    tuned = load_tuned(checkpoint)
    config = GPT2Config.from_pretrained(tuned.base.folder)
    config.update({"vocab_size": tuned.codec.vocabulary, "tie_word_embeddings": base != "untied"})
    model = GPT2LMHeadModel(config).eval()
    model.load_state_dict(torch.load(out / STATE_DICT, weights_only=True))
    assert logits_of(model, ids_of()) == pytest.approx(logits_of(tuned.model, ids_of()), abs=1e-4)


RECIPE = (
    (Path(__file__).parents[2] / "docs/EXPORT.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
)


@pytest.mark.parametrize("base", ["own", "gpt2", "untied"])
def test_plain_peft_opens_an_exported_adapter(checkpoints, tmp_path, bases, base):
    """On the base, into which the trained token rows are put first where there are any, as the documentation says."""
    checkpoint, out = checkpoints("lora", base), tmp_path / "out"
    rows = [] if base == "own" else [ROWS_FILE]
    assert export(checkpoint, out, "adapter", "2018-12-31") == [*PEFT, "codec.json", *rows]
    folder = bases[base].removeprefix("untied:")
    if rows:
        names = {}
        exec(RECIPE.replace('"gpt2"', repr(folder)).replace('"my-adapter', f'"{out.as_posix()}'), names)
        opened = names["model"].eval()
    else:
        opened = peft.PeftModel.from_pretrained(GPT2LMHeadModel.from_pretrained(folder), out).eval()
    assert logits_of(opened, ids_of()) == pytest.approx(logits_of(load_tuned(checkpoint).model, ids_of()), abs=1e-5)


def test_what_is_not_in_peft_layout_is_no_adapter_to_export(checkpoints, tmp_path):
    with pytest.raises(CheckpointError, match=r"not in PEFT layout \(it has model.safetensors\).*--what merged"):
        export(checkpoints("full", "own"), tmp_path / "out", "adapter", "2018-12-31")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(checkpoints, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        export(checkpoints("lora", "own"), tmp_path, "merged", "2018-12-31")
    assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]
    with pytest.raises(ConfigError, match="unknown form 'merge' \\(did you mean 'merged'"):
        export(checkpoints("lora", "own"), tmp_path / "new", "merge", "2018-12-31")


TARGETS = ["c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
FOREIGN = {
    "lora": lambda: peft.LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=TARGETS, fan_in_fan_out=True),
    "dora": lambda: peft.LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=TARGETS, use_dora=True),
    "ia3": lambda: peft.IA3Config(task_type="CAUSAL_LM"),
    "ln": lambda: peft.LNTuningConfig(task_type="CAUSAL_LM", target_modules=["ln_1", "ln_2", "ln_f"]),
    "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "prefix projected": lambda: peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=4, prefix_projection=True, encoder_hidden_size=8
    ),
    "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "p-tuning": lambda: peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, encoder_hidden_size=8),
}


def foreign(own_base, kind, folder):
    """A model tuned with plain peft, and the folder that peft wrote."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(2)
        model = shaken(peft.get_peft_model(GPT2LMHeadModel.from_pretrained(own_base), FOREIGN[kind]()), 0.3)
        model.save_pretrained(folder)
    return model


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_plain_peft_wrote_forecasts(own_base, tmp_path, eurusd, kind):
    model, base, ids = foreign(own_base, kind, tmp_path), find_base(str(own_base)), ids_of()
    wanted = logits_of(model, ids)
    assert np.abs(wanted - logits_of(load_model(base), ids)).max() > 0.05
    loaded = load_peft(base, tmp_path)
    assert logits_of(loaded, ids) == pytest.approx(wanted, abs=1e-5)
    assert first(peft_weights(loaded), ids).numpy() == pytest.approx(wanted[:, -1], abs=1e-4)
    forecaster = peft_forecaster(base, tmp_path, SPEC, SAMPLING)
    paths = forecaster.predict(contexts(eurusd, SPEC, forecaster.warm_up, np.array([900]))).paths
    assert np.isfinite(paths).all()


def drop_a_matrix(folder):
    tensors = load_file(folder / PEFT[1])
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / PEFT[1])


def narrow_a_matrix(folder):
    tensors = load_file(folder / PEFT[1])
    name = sorted(tensors)[0]
    save_file(tensors | {name: tensors[name][:, :-1].contiguous()}, folder / PEFT[1])


BROKEN = {
    "no config": (lambda folder: (folder / PEFT[0]).unlink(), "lacks adapter_config.json"),
    "a pickle": (lambda folder: (folder / PEFT[1]).rename(folder / "adapter_model.bin"), "lacks adapter_model.safe"),
    "cut": (lambda folder: (folder / PEFT[1]).write_bytes((folder / PEFT[1]).read_bytes()[:-9]), "cannot be read"),
    "a missing matrix": (drop_a_matrix, "adapter_model.safetensors does not fit the base or its settings"),
    "another shape": (narrow_a_matrix, "adapter_model.safetensors does not fit"),
    "unknown kind": (lambda folder: write_json(folder / PEFT[0], {"peft_type": "MAGIC"}), "adapter_config.json"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_peft_folder_is_named(own_base, tmp_path, case):
    foreign(own_base, "lora", tmp_path)
    damage, said = BROKEN[case]
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_peft(find_base(str(own_base)), tmp_path)
    assert "\n" not in str(caught.value)
    assert "save_pretrained" in str(caught.value)


@pytest.fixture(scope="module")
def run(own_base, tmp_path_factory):
    """A run folder of the command line, of two steps."""
    runs = tmp_path_factory.mktemp("runs")
    settings = [
        "windows.context=10", "windows.horizon=4", "split.train_start=2017-06-01", "split.validation_start=2018-01-01",
        "split.test_start=2018-04-01", "split.test_end=2018-05-01", "training.steps=2", "training.batch_size=2",
        "training.evaluate_every=1", "sampling.paths=8",
    ]  # fmt: skip
    given = [part for setting in settings for part in ("--set", setting)]
    arguments = ["train", "ecb:EURUSD", "--base", str(own_base), "--runs", str(runs), "--jobs", "1", *given]
    assert main(arguments) == 0
    return runs / "single/EURUSD-D1/lora/1"


def test_export_at_the_command_line(run, tmp_path, eurusd, capsys):
    out = tmp_path / "out"
    assert main(["export", str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: card.json, codec.json, config.json, model.safetensors\n"
    base = find_base(str(out))
    assert "2018-03-20" < base.cutoff < "2018-04-01", "the last bar that chose the model is the base's last"
    spec = WindowSpec(**read_json(run / "checkpoint/model.json")["windows"])
    inputs = contexts(eurusd, spec, base.codec.warm_up, np.array([6000]))
    options = method("untuned").options()
    save_checkpoint(tmp_path / "c", load_model(base), "untuned", options, spec, base.codec, str(out))
    one, other = (load_checkpoint(folder, SAMPLING)[0] for folder in (tmp_path / "c", run / "checkpoint"))
    assert one.predict(inputs).paths.tobytes() == other.predict(inputs).paths.tobytes()


def test_export_refuses_at_the_command_line(run, tmp_path, capsys):
    assert main(["export", str(run), "--out", str(run)]) == 2
    assert "is there already" in capsys.readouterr().err
    baseline = tmp_path / "baseline"
    baseline.mkdir()
    write_json(baseline / "run.json", read_json(run / "run.json") | {"kind": "baseline"})
    assert main(["export", str(baseline), "--out", str(tmp_path / "out")]) == 2
    assert "it has no tuned model to export" in capsys.readouterr().err


def test_an_exported_model_is_tuned_further(checkpoints, tmp_path):
    export(checkpoints("lora", "gpt2"), tmp_path / "out", "merged", "2018-12-31")
    options = replace(method("lora").options(), rank=2)
    model = new_model(str(tmp_path / "out"), "lora", options)
    assert not model.get_base_model().transformer.wte.weight.requires_grad
