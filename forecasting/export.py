"""Tuned models in the forms that other programs read, and adapters that other programs wrote.

`merged` is a Hugging Face folder with codec.json and card.json: plain transformers loads it, and so does --base. It is
written from what the decode engine runs, so it is the same model for any method that ends as a plain GPT-2. `adapter`
is what the method stores in PEFT layout, alone. `state-dict` is a pickle for torch.load and is never read here.
"""

import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from forecasting.base import Base, load_model
from forecasting.base.rows import ROWS_FILE
from forecasting.checkpoint import Tuned, forecaster_of_weights, load_tuned
from forecasting.decoder import BlockWeights, DecoderWeights, Product, weights_of
from forecasting.errors import CheckpointError, ConfigError, unknown
from forecasting.files import read_json, reading, sha256_of, write_folder, write_json
from forecasting.forecaster import Forecaster
from forecasting.methods import method
from forecasting.methods.virtual import PromptedGPT2, prompted_weights
from forecasting.methods.wrapped import load_folder, wrap
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec

if TYPE_CHECKING:
    from peft import PeftModel

FORMS = ("merged", "adapter", "state-dict")
PEFT = ("adapter_config.json", "adapter_model.safetensors")
STATE_DICT = "state_dict.pt"

PLAIN = ("tokens", "positions", "blocks", "ln_f", "head", "heads", "epsilon")
PLAIN_BLOCK = ("ln_1", "qkv", "attention_out", "ln_2", "mlp_in", "mlp_out")
"""Fields that make a plain GPT-2; whatever else is there has no place in its files."""


def export(checkpoint: Path, out: Path, form: str, seen_until: str) -> list[str]:
    """Write a checkpoint folder to `out` in one of `FORMS`; gives the names of the files.

    seen_until: last day of the bars it was trained and chosen on, ISO; the card's cut-off is not before it.
    """
    if form not in FORMS:
        raise ConfigError(unknown("form", form, FORMS))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already; give a folder that is not, or is empty")
    if form == "adapter":
        write_folder(out, lambda partial: _copy_adapter(checkpoint, partial))
    else:
        tuned = load_tuned(checkpoint)
        if method(tuned.method).objective:
            raise CheckpointError(
                f"{checkpoint}: method {tuned.method} does not merge into GPT-2's own matrices (it adds a head); "
                f"{_cure(checkpoint)}"
            )
        state = gpt2_state(tuned.weights, f"{checkpoint}: method {tuned.method}", _cure(checkpoint))
        if form == "merged":
            write_folder(out, lambda partial: _write_merged(tuned, state, seen_until, partial))
        else:
            write_folder(out, lambda partial: torch.save(state, partial / STATE_DICT))
    return sorted(file.name for file in out.iterdir())


def _is_peft(checkpoint: Path) -> bool:
    return all((checkpoint / file).is_file() for file in PEFT)


def _cure(checkpoint: Path) -> str:
    other = "export it with --what adapter" if _is_peft(checkpoint) else "copy its checkpoint folder as it is"
    return f"{other}, or forecast from its run folder"


def _copy_adapter(checkpoint: Path, folder: Path) -> None:
    """The PEFT files and codec.json, and trained token rows where there are any."""
    if not _is_peft(checkpoint):
        stored = ", ".join(sorted(file.name for file in checkpoint.glob("*.safetensors"))) or "no weights"
        raise CheckpointError(
            f"{checkpoint} is not in PEFT layout (it has {stored}); export it with --what merged where its method "
            f"merges, or copy the folder as it is"
        )
    for name in (*PEFT, "codec.json", ROWS_FILE):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, folder / name)


def gpt2_state(weights: DecoderWeights, what: str, cure: str) -> dict[str, Tensor]:
    """GPT2LMHeadModel's state dict, head included; CheckpointError, which begins with `what`, where it is more."""
    beside = _beyond(weights, PLAIN) + [name for block in weights.blocks for name in _beyond(block, PLAIN_BLOCK)]
    if beside:
        names = ", ".join(dict.fromkeys(name.replace("_", " ") for name in beside))
        raise CheckpointError(f"{what} does not merge into GPT-2's own matrices (it adds {names}); {cure}")
    state = {"transformer.wte.weight": weights.tokens, "transformer.wpe.weight": weights.positions}
    for i, block in enumerate(weights.blocks):
        state |= _named(f"transformer.h.{i}", block)
    state |= _pair("transformer.ln_f", weights.ln_f)
    return {name: value.contiguous() for name, value in state.items()} | {
        "lm_head.weight": weights.head.weight.T.contiguous()
    }


def _beyond(record: DecoderWeights | BlockWeights, plain: tuple[str, ...]) -> list[str]:
    values = {field.name: getattr(record, field.name) for field in fields(record) if field.name not in plain}
    return [
        name for name, value in values.items() if value is not None and not (isinstance(value, tuple) and not value)
    ]


def _named(prefix: str, block: BlockWeights) -> dict[str, Tensor]:
    return {
        **_pair(f"{prefix}.ln_1", block.ln_1),
        **_product(f"{prefix}.attn.c_attn", block.qkv),
        **_product(f"{prefix}.attn.c_proj", block.attention_out),
        **_pair(f"{prefix}.ln_2", block.ln_2),
        **_product(f"{prefix}.mlp.c_fc", block.mlp_in),
        **_product(f"{prefix}.mlp.c_proj", block.mlp_out),
    }


def _pair(name: str, pair: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.weight": pair[0], f"{name}.bias": pair[1]}


def _product(name: str, product: Product) -> dict[str, Tensor]:
    assert product.bias is not None  # every matrix of a GPT-2 block has one
    return _pair(name, (product.weight, product.bias))


def _write_merged(tuned: Tuned, state: Mapping[str, Tensor], seen_until: str, folder: Path) -> None:
    from transformers import GPT2Config

    tied = torch.equal(state["lm_head.weight"], state["transformer.wte.weight"])
    config = GPT2Config.from_pretrained(tuned.base.folder, local_files_only=True)
    config.update(
        {
            "vocab_size": tuned.codec.vocabulary, "tie_word_embeddings": tied, "architectures": ["GPT2LMHeadModel"],
            "dtype": "float32",
        }
    )  # fmt: skip
    if tuned.base.fresh:
        config.update({"bos_token_id": None, "eos_token_id": None})
    config.save_pretrained(folder)
    kept = {name: value for name, value in state.items() if not (tied and name == "lm_head.weight")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "codec.json", tuned.codec.as_dict())
    base = {key: tuned.base.card.get(key) for key in ("name", "cutoff", "corpus")}
    write_json(
        folder / "card.json",
        {
            "name": f"{base['name']} tuned by {tuned.method}",
            "cutoff": max(tuned.base.cutoff, seen_until),
            "tuned_until": seen_until,
            "base": base | {"sha": tuned.base.sha},
            "parameters": sum(value.numel() for value in kept.values()),
            "command": "tunetrade export",
        },
    )


def load_peft(base: Base, folder: Path) -> "PeftModel":
    """A PEFT folder, whoever wrote it, on this base.

    The base must have been the same model with the same token rows when it was trained. CheckpointError where a file is
    missing or damaged, is a pickle, or does not fit; nothing is left at its random start.
    """
    from peft import PeftConfig

    cure = "give a folder that peft's save_pretrained wrote, with safe_serialization"
    for name in PEFT:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} lacks {name}; {cure}")
    with reading(folder / PEFT[0], cure):
        read_json(folder / PEFT[0])
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        model = wrap(load_model(base), config)
    return load_folder(model, folder, cure)


def peft_weights(model: "PeftModel") -> DecoderWeights:
    """What the decode engine runs of a model that peft wrapped: merged, or keys and values before the context.

    The model is used up where it merges.
    """
    from peft import PeftType

    config = model.active_peft_config
    if config.peft_type == PeftType.PREFIX_TUNING:
        return method("prefix").weights(model)
    if config.is_prompt_learning:
        return prompted_weights(PromptedGPT2(model))
    return weights_of(model.merge_and_unload())


def peft_forecaster(base: Base, folder: Path, spec: WindowSpec, options: SamplingOptions) -> Forecaster:
    """The forecaster of a PEFT folder on a base, with the base's codec as it stands."""
    sha = sha256_of(base.sha, *(folder / name for name in PEFT))
    return forecaster_of_weights(str(folder), sha, peft_weights(load_peft(base, folder)), base.codec, spec, options)
