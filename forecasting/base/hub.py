"""GPT-2 as the Hugging Face hub keeps it: found by name or in a folder, checked, and described as a base.

Such a folder has config.json and model.safetensors, and vocab.json and merges.txt for the `text` codec. It has no card,
so the day up to which it may have seen prices is taken from GPT-2's corpus: WebText holds pages linked on Reddit up to
December 2017. Of a GPT-2 trained further by somebody else nothing is known, and it gets the same day with that caveat.
Only safetensors are read or fetched.
"""

import functools
import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from forecasting.codecs import AnyCodec, BinsCodec, TextCodec
from forecasting.errors import CheckpointError
from forecasting.files import read_record, reading

MODEL = ("config.json", "model.safetensors")
TOKENIZER = ("vocab.json", "merges.txt")

HUB_NAMES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2")
_OWNED = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

WEBTEXT_ENDS = "2017-12-31"
CURE = "download both files of the same GPT-2 again"

SIZES = ("n_positions", "n_embd", "n_layer", "n_head", "vocab_size")
MUST_BE: dict[str, Any] = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}
"""What makes a GPT-2 of config.json; a key that is left out has this value. The decode engine computes nothing else."""


def is_hub_name(name: str) -> bool:
    """Whether to ask the hub for it: a GPT-2 of OpenAI's, or OWNER/NAME."""
    return name in HUB_NAMES or _OWNED.fullmatch(name) is not None


def is_hub_folder(folder: Path) -> bool:
    """Whether it holds a model and neither of the files that a base of ours has besides."""
    return any((folder / file).is_file() for file in MODEL) and not any(
        (folder / file).is_file() for file in ("codec.json", "card.json")
    )


def fetch(name: str, text: bool) -> Path:
    """Folder of a model of the hub: from the cache on this machine, else downloaded into it.

    CheckpointError says how to place the files by hand where it cannot be had.
    """
    from huggingface_hub import snapshot_download

    wanted = [*MODEL, *(TOKENIZER if text else ())]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        if all((folder / file).is_file() for file in wanted):
            return folder
    except Exception:  # not in the cache; whatever the reason, ask the hub
        pass
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"base {name!r} is no folder here and the Hugging Face hub does not give it ({reason}); "
            f"download {', '.join(wanted)} of {name} from the hub's Files page on any machine, put them into one "
            f"folder and give --base {'text:' if text else ''}FOLDER, or use --base embedded"
        ) from error
    return folder


def check_folder(name: str, folder: Path, text: bool) -> dict[str, Any]:
    """Its config.json; CheckpointError where a file is missing or damaged, or the model is no GPT-2."""
    wanted = [*MODEL, *(TOKENIZER if text else ())]
    missing = [file for file in wanted if not (folder / file).is_file()]
    if missing:
        pickled = (
            " (pytorch_model.bin is a pickle, which is never read)" if (folder / "pytorch_model.bin").is_file() else ""
        )
        raise CheckpointError(
            f"base {name!r}: {folder} lacks {', '.join(missing)}{pickled}; put {', '.join(wanted)} of a GPT-2 "
            f"there, or use 'embedded'"
        )
    config = config_of(name, folder, CURE)
    check_tensors(folder / "model.safetensors", config, CURE)
    return config


def config_of(name: str, folder: Path, cure: str) -> dict[str, Any]:
    """A folder's config.json; CheckpointError where it cannot be read, or is not of a GPT-2."""
    with reading(folder / "config.json", cure):
        config = read_record(folder / "config.json")
        sizes = {key: int(config[key]) for key in SIZES}
        wrong = [key for key, value in MUST_BE.items() if config.get(key, value) != value]
    if wrong or min(sizes.values()) < 1 or sizes["n_embd"] % sizes["n_head"]:
        what = ", ".join(f"{key} {config.get(key)!r}, not {MUST_BE[key]!r}" for key in wrong) or (
            f"n_embd {sizes['n_embd']} is no multiple of n_head {sizes['n_head']}"
            if min(sizes.values()) > 0
            else f"sizes {sizes}"
        )
        raise CheckpointError(f"base {name!r}: {folder / 'config.json'} is not of a GPT-2 ({what}); name a GPT-2")
    return config


def check_tensors(file: Path, config: Mapping[str, Any], cure: str) -> None:
    """CheckpointError where a file is cut short, or lacks or misshapes a tensor that its config.json asks for.

    Reads the file's head only, so a study can know before it starts.
    """
    found, wanted = _shapes(file, cure), _wanted(config)
    missing = [tensor for tensor in wanted if tensor not in found]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise CheckpointError(f"{file} lacks {', '.join(missing[:3])}{more}, which its config.json asks for; {cure}")
    for tensor, (shape, sizes) in wanted.items():
        if found[tensor] != shape:
            said = ", ".join(f"{key} {config.get(key)}" for key in sizes)
            raise CheckpointError(f"{file} has {tensor} {found[tensor]}, its config.json says {said}; {cure}")


Wanted = dict[str, tuple[list[int], tuple[str, ...]]]


def _wanted(config: Mapping[str, Any]) -> Wanted:
    """Shape of every tensor of a GPT-2, by its own names, and the keys of config.json that it follows from."""
    rows, positions, width = (int(config[key]) for key in ("vocab_size", "n_positions", "n_embd"))
    inner = int(config.get("n_inner") or 4 * width)
    wanted: Wanted = {
        "wte.weight": ([rows, width], ("vocab_size", "n_embd")),
        "wpe.weight": ([positions, width], ("n_positions", "n_embd")),
    }
    if not config.get("tie_word_embeddings", True):
        wanted["lm_head.weight"] = wanted["wte.weight"]
    norms = ["ln_f"]
    for block in (f"h.{i}" for i in range(int(config["n_layer"]))):
        norms += [f"{block}.ln_1", f"{block}.ln_2"]
        for name, (given, made) in {
            "attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width), "mlp.c_fc": (width, inner),
            "mlp.c_proj": (inner, width),
        }.items():  # fmt: skip
            sizes = ("n_embd", "n_inner") if name.startswith("mlp") else ("n_embd",)
            wanted[f"{block}.{name}.weight"] = ([given, made], sizes)
            wanted[f"{block}.{name}.bias"] = ([made], sizes)
    for norm in norms:
        wanted |= {f"{norm}.weight": ([width], ("n_embd",)), f"{norm}.bias": ([width], ("n_embd",))}
    return wanted


def _shapes(file: Path, cure: str = CURE) -> dict[str, list[int]]:
    """Shapes of the tensors in a file, by GPT-2's own names."""
    with reading(file, cure), safe_open(file, framework="pt") as stored:
        return {key.removeprefix("transformer."): list(stored.get_slice(key).get_shape()) for key in stored.keys()}  # noqa: SIM118


def codec_of(name: str, folder: Path, config: dict[str, Any], text: bool) -> AnyCodec:
    """Bins of the default settings, or the tokenizer's text; CheckpointError where that is not the model's."""
    if not text:
        return BinsCodec()
    codec = TextCodec.of_tokenizer(folder / "vocab.json", folder / "merges.txt", digits=4)
    if codec.vocabulary != config["vocab_size"]:
        raise CheckpointError(
            f"base {name!r}: vocab.json in {folder} has {codec.vocabulary} tokens, the model {config['vocab_size']} "
            f"rows; use the vocab.json and merges.txt that belong to it"
        )
    return codec


def card_of(
    name: str, folder: Path, config: dict[str, Any], codec: AnyCodec, fresh: bool, tied: bool
) -> dict[str, Any]:
    """What is known of such a base."""
    shapes = _shapes(folder / "model.safetensors")
    beside = (".attn.bias", ".attn.masked_bias", "lm_head.weight")  # masks, and a head that is the table
    size = sum(math.prod(shape) for key, shape in shapes.items() if not key.endswith(beside))
    if fresh:
        size += (codec.vocabulary * (1 if tied else 2) - int(config["vocab_size"])) * int(config["n_embd"])
    head = "tied to the head" if tied else "with a head of its own"
    return {
        "name": name,
        "cutoff": WEBTEXT_ENDS,
        "cutoff_stated": False,
        "corpus": "unknown; taken to be GPT-2's WebText, pages linked on Reddit up to December 2017",
        "parameters": size,
        "rows": f"{codec.vocabulary} fresh token rows, {head}"
        if fresh
        else f"the model's {codec.vocabulary} token rows",
    }


def file_sha(file: Path) -> str:
    """Hex SHA-256 of a file of any size, worked out once a process."""
    stat = file.stat()
    return _file_sha(file.resolve(), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _file_sha(file: Path, size: int, changed: int) -> str:
    with reading(file, CURE), file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
