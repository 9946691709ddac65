"""Base models: those called by a name, which lie beside this file, or a folder of the same layout.

A base is a Hugging Face folder (config.json, model.safetensors) with codec.json, the codec its tokens belong to, and
card.json, which states corpus and cut-off: the last day the model has seen.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from forecasting.codecs import AnyCodec, Codec, codec_from_dict, positions_needed
from forecasting.errors import CheckpointError, ConfigError
from forecasting.files import read_json, reading, sha256_of, write_folder, write_json
from forecasting.windows import WindowSpec

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

EMBEDDED = Path(__file__).parent / "embedded"
EMBEDDED_DIGITS = EMBEDDED.with_name("embedded_digits")
NAMED = {"embedded": EMBEDDED, "embedded-digits": EMBEDDED_DIGITS}
FILES = ("config.json", "model.safetensors", "codec.json", "card.json")
CURE = "use 'embedded' or a folder that `tunetrade pretrain --out FOLDER` wrote"


@dataclass(frozen=True)
class Base:
    """A base on disk: where it lies, its codec and card, most tokens of a window, the hash of what defines it."""

    folder: Path
    codec: AnyCodec
    card: dict[str, Any]
    positions: int
    sha: str

    @property
    def cutoff(self) -> str:
        """Last day of the data it was trained on, ISO."""
        return str(self.card["cutoff"])


def find_base(name: str) -> Base:
    """The base of that name (`NAMED`), or the folder; CheckpointError says what is wrong and the cure."""
    folder = NAMED.get(name, Path(name))
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        cure = "make it with `tunetrade pretrain --codec digits`" if folder == EMBEDDED_DIGITS else CURE
        raise CheckpointError(f"base {name!r}: {folder} lacks {', '.join(missing)}; {cure}")
    with reading(folder / "codec.json", CURE):
        codec = codec_from_dict(read_json(folder / "codec.json"))
    with reading(folder / "card.json", CURE):
        card = read_json(folder / "card.json")
        np.datetime64(card["cutoff"], "D")
    with reading(folder / "config.json", CURE):
        positions = int(read_json(folder / "config.json")["n_positions"])
    return Base(folder, codec, card, positions, sha256_of(*(folder / file for file in FILES[:3])))


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
    return load_gpt2(base.folder, base.codec, CURE)


def load_gpt2(folder: Path, codec: Codec, cure: str) -> "GPT2LMHeadModel":
    """The GPT-2 in a Hugging Face folder, complete and with a row for each of the codec's tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    with reading(folder / "config.json", cure):
        (folder / "config.json").stat()
        config = GPT2Config.from_pretrained(folder, local_files_only=True)
    file = folder / "model.safetensors"
    with reading(file, cure):
        file.stat()
        model, loaded = GPT2LMHeadModel.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
        if loaded["missing_keys"]:  # transformers would leave them random
            raise ValueError(f"no weights for {', '.join(sorted(loaded['missing_keys']))}")
    if config.vocab_size != codec.vocabulary:
        raise CheckpointError(f"{file} has {config.vocab_size} token rows, its codec {codec.vocabulary} tokens; {cure}")
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
