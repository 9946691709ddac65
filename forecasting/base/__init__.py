"""Base models: the embedded one that ships with the project, or a folder of the same layout.

A base is a Hugging Face folder (config.json, model.safetensors) with codec.json, the codec its tokens belong to, and
card.json, which states corpus and cut-off: the last day the model has seen.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from forecasting.codecs import BinsCodec
from forecasting.errors import CheckpointError
from forecasting.files import read_json, sha256_of, write_folder, write_json

EMBEDDED = Path(__file__).parent / "embedded"
FILES = ("config.json", "model.safetensors", "codec.json", "card.json")


@dataclass(frozen=True)
class Base:
    """A base on disk: where it lies, its codec and card, and the hash of what defines it."""

    folder: Path
    codec: BinsCodec
    card: dict[str, Any]
    sha: str

    @property
    def cutoff(self) -> str:
        """Last day of the data it was trained on, ISO."""
        return str(self.card["cutoff"])


def find_base(name: str) -> Base:
    """The base called `embedded`, or the folder of that name; CheckpointError says what is missing and how to get it."""
    folder = EMBEDDED if name == "embedded" else Path(name)
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise CheckpointError(
            f"base {name!r}: {folder} lacks {', '.join(missing)}; use 'embedded' or a folder that "
            f"`tunetrade pretrain --out FOLDER` wrote"
        )
    codec = BinsCodec.from_dict(read_json(folder / "codec.json"))
    return Base(folder, codec, read_json(folder / "card.json"), sha256_of(*(folder / file for file in FILES[:3])))


def load_model(base: Base) -> nn.Module:
    """The base's GPT-2, float32 on the CPU; CheckpointError where the files do not hold together."""
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = GPT2LMHeadModel.from_pretrained(base.folder, local_files_only=True, dtype=torch.float32)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"base {base.folder}: cannot be read ({reason}); restore or rebuild the folder"
        ) from error
    if model.config.vocab_size != base.codec.bins:
        raise CheckpointError(
            f"base {base.folder}: {model.config.vocab_size} token rows but a codec of {base.codec.bins} bins; "
            f"they must come from one `tunetrade pretrain`"
        )
    return model


def save_base(folder: Path, model: nn.Module, codec: BinsCodec, card: dict[str, Any]) -> None:
    """Write model, codec and card as one folder that appears whole."""

    def fill(partial: Path) -> None:
        model.save_pretrained(partial, safe_serialization=True)
        (partial / "generation_config.json").unlink(missing_ok=True)
        write_json(partial / "codec.json", codec.as_dict())
        write_json(partial / "card.json", card)

    write_folder(folder, fill)
