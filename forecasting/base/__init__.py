"""Base models: those called by a name, which lie beside this file, a folder of the same layout, or GPT-2 itself.

A base is a Hugging Face folder (config.json, model.safetensors) with codec.json, the codec its tokens belong to, and
card.json, which states corpus and cut-off: the last day the model has seen. A GPT-2 as the hub keeps it, by name or in
a folder, has neither of the two (`hub`): it gets the `bins` codec with fresh token rows (`rows`), tied to the head;
`untied:NAME` gives the head weights of its own, `text:NAME` keeps GPT-2's rows and speaks its BPE.
"""

import json
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from forecasting.base import hub
from forecasting.base.rows import RECIPE, load_rows, replace_rows
from forecasting.codecs import AnyCodec, Codec, codec_from_dict, positions_needed
from forecasting.errors import CheckpointError, ConfigError
from forecasting.files import plain, read_record, reading, sha256_of, write_folder, write_json
from forecasting.windows import WindowSpec

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

EMBEDDED = Path(__file__).parent / "embedded"
EMBEDDED_DIGITS = EMBEDDED.with_name("embedded_digits")
NAMED = {"embedded": EMBEDDED, "embedded-digits": EMBEDDED_DIGITS}
FILES = ("config.json", "model.safetensors", "codec.json", "card.json")
CURE = "use 'embedded' or a folder that `tunetrade pretrain --out FOLDER` wrote"
_SCALE = ("half_lives", "weights", "power", "dof", "floor")
NEEDED = {
    "bins": ("bins", *_SCALE),
    "digits": ("digits", "length", "reach", *_SCALE),
    "text": ("digits", "integer_digits", "vocabulary", "pieces", "merges", *_SCALE),
}
"""Settings of codec.json by its kind: a default in the place of a lost one could give tokens another meaning than the
weights learnt. Settings that came later are not among them, so that older bases load."""
WAYS = ("text", "untied")
"""What may stand before a GPT-2 of the hub's layout, with a colon."""


@dataclass(frozen=True)
class Base:
    """A base on disk: where it lies, its codec and card, most tokens of a window, width, the hash of its files.

    fresh: its token rows are not those in the folder but new ones, to be trained. tied: the head is the token table.
    rows: file of trained rows to use instead. resident: its GPT-2 in memory, of which `load_model` gives copies.
    """

    folder: Path
    codec: AnyCodec
    card: dict[str, Any]
    positions: int
    width: int
    sha: str
    fresh: bool = False
    tied: bool = True
    rows: Path | None = None
    resident: "GPT2LMHeadModel | None" = field(default=None, compare=False, repr=False)

    @property
    def cutoff(self) -> str:
        """Last day of the data it was trained on, ISO."""
        return str(self.card["cutoff"])


def find_base(name: str) -> Base:
    """The base of that name (`NAMED`), the folder, or GPT-2; CheckpointError says what is wrong and the cure."""
    before, colon, after = name.partition(":")
    way = before if colon and before in WAYS else ""
    called = after if way else name
    folder = NAMED.get(called, Path(called))
    if not folder.is_dir() and hub.is_hub_name(called):
        return _gpt2(name, called, hub.fetch(called, way == "text"), way)
    if hub.is_hub_folder(folder):
        return _gpt2(name, folder.resolve().name, folder, way)
    if way:
        raise CheckpointError(
            f"base {name!r}: {way}: goes before a GPT-2 as the hub keeps it; {folder} is "
            f"{'a base with a codec of its own, give it without' if folder.is_dir() else 'no such folder'}"
        )
    if not folder.is_dir() and called not in NAMED:
        raise CheckpointError(f"base {name!r} is no folder here and names no GPT-2 of the hub; {CURE}")
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        cure = "make it with `tunetrade pretrain --codec digits`" if folder == EMBEDDED_DIGITS else CURE
        raise CheckpointError(f"base {name!r}: {folder} lacks {', '.join(missing)}; {cure}")
    card, codec = _card(folder / "card.json"), _codec(folder / "codec.json")
    config = hub.config_of(name, folder, CURE)
    hub.check_tensors(folder / "model.safetensors", config, CURE)
    check_rows_of(codec, folder, config["vocab_size"], CURE)
    sha = sha256_of(*(folder / file for file in FILES[:3]))
    return Base(folder, codec, card, int(config["n_positions"]), int(config["n_embd"]), sha)


def _codec(file: Path) -> AnyCodec:
    """The codec of a file that has every setting its tokens' meaning hangs on (`NEEDED`)."""
    with reading(file, CURE):
        settings = read_record(file)
        for key in NEEDED.get(str(settings["kind"]), ()):
            settings[key]
        return codec_from_dict(settings)


def _is_day(value: Any) -> bool:
    """Whether it names a day; NumPy takes "" and "NaT" too, before which nothing would count as seen."""
    try:
        return isinstance(value, str) and not np.isnat(np.datetime64(value, "D"))
    except ValueError:
        return False


def _card(file: Path) -> dict[str, Any]:
    with reading(file, CURE):
        card = read_record(file)
        cutoff = card["cutoff"]
        if not _is_day(cutoff):
            raise ValueError(f"its cutoff is {cutoff!r}, not a day such as '2014-12-31'")
    return card


def _gpt2(name: str, called: str, folder: Path, way: str) -> Base:
    """A GPT-2 in the hub's layout as a base."""
    text, tied = way == "text", way != "untied"
    config = hub.check_folder(name, folder, text)
    codec = hub.codec_of(name, folder, config, text)
    card = hub.card_of(called, folder, config, codec, not text, tied)
    made = [] if text else [RECIPE, str(tied)]
    sha = sha256_of(*(hub.file_sha(folder / file) for file in hub.MODEL), json.dumps(plain(codec.as_dict())), *made)
    sizes = int(config["n_positions"]), int(config["n_embd"])
    return Base(folder, codec, card, *sizes, sha, fresh=not text, tied=tied)


def check_length(base: Base, spec: WindowSpec, taken: int = 0) -> None:
    """ConfigError where a window has more tokens than the base has positions; see `positions_needed`.

    taken: positions that a method's virtual tokens use up.
    """
    room = base.positions - taken

    def needed(context: int) -> int:
        return positions_needed(base.codec, context, spec.horizon)

    if needed(spec.context) > room:
        most = next((fewer for fewer in range(spec.context, 1, -1) if needed(fewer) <= room), 0)
        cure = f"give at most {most} with a windows.horizon of {spec.horizon}" if most else "shorten both"
        less = f" less the method's {taken} virtual tokens" if taken else ""
        raise ConfigError(
            f"windows.context is {spec.context}: with a windows.horizon of {spec.horizon} that makes "
            f"{needed(spec.context)} tokens, and the base holds {base.positions}{less}; {cure}"
        )


def load_model(base: Base) -> "GPT2LMHeadModel":
    """The base's GPT-2, float32 on the CPU; CheckpointError where the files do not hold together."""
    if base.resident is not None:
        model = deepcopy(base.resident)
    elif base.fresh:
        model = replace_rows(_read_gpt2(base.folder, hub.CURE), base.codec.vocabulary, base.tied)
    else:
        model = load_gpt2(base.folder, base.codec, CURE)
    if base.rows:
        load_rows(model, base.rows, "train it anew with `tunetrade train`")
    return model


def load_gpt2(folder: Path, codec: Codec, cure: str) -> "GPT2LMHeadModel":
    """The GPT-2 in a Hugging Face folder, complete and with a row for each of the codec's tokens."""
    model = _read_gpt2(folder, cure)
    check_rows_of(codec, folder, model.config.vocab_size, cure)
    return model


def check_rows_of(codec: Codec, folder: Path, rows: int, cure: str) -> None:
    """CheckpointError unless a model in that folder, of so many token rows, has one for each of the codec's tokens."""
    if rows != codec.vocabulary:
        file = folder / "model.safetensors"
        raise CheckpointError(f"{file} has {rows} token rows, its codec {codec.vocabulary} tokens; {cure}")


def _read_gpt2(folder: Path, cure: str) -> "GPT2LMHeadModel":
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    with reading(folder / "config.json", cure):
        (folder / "config.json").stat()
        config = GPT2Config.from_pretrained(folder, local_files_only=True)
    file = folder / "model.safetensors"
    hub.check_tensors(file, config.to_dict(), cure)
    with reading(file, cure):
        model, loaded = GPT2LMHeadModel.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
        if loaded["missing_keys"]:  # transformers would leave them random
            raise ValueError(f"no weights for {', '.join(sorted(loaded['missing_keys']))}")
    return model


def save_gpt2(model: "GPT2LMHeadModel", folder: Path) -> None:
    """Write config.json and model.safetensors; `generate` is not used, so its settings are left out."""
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)


def save_base(folder: Path, model: "GPT2LMHeadModel", codec: Codec, card: dict[str, Any]) -> None:
    """Write model, codec and card as one folder that appears whole."""

    def fill(partial: Path) -> None:
        save_gpt2(model, partial)
        write_json(partial / "codec.json", codec.as_dict())
        write_json(partial / "card.json", card)

    write_folder(folder, fill)
