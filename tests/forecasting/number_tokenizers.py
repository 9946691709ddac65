"""GPT-2 tokenizers to test with: a small real one, trained here, and the published one where its folder is named."""

import os
from pathlib import Path

import numpy as np
import pytest
from tokenizers import ByteLevelBPETokenizer

REAL = os.environ.get("TUNETRADE_GPT2_TOKENIZER", "")
"""Folder with GPT-2's vocab.json and merges.txt."""


def train_small(folder: Path) -> Path:
    """A byte-level BPE with 60 merges, learnt from words, years and prices."""
    rng = np.random.default_rng(5)
    prices = [" ".join(f"{p:.{d}f}" for p in 10 ** rng.normal(0.3, 0.8, 20)) for d in (0, 2, 4, 5) for _ in range(30)]
    words = ["in the year 1999 and in 2004 there were 12 of 100 ... 3.5 more than in 1999"] * 20
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(prices + words, vocab_size=316, show_progress=False)
    tokenizer.save_model(str(folder))
    return folder


@pytest.fixture(scope="session", params=["small", "real"])
def tokenizer_folder(request, tmp_path_factory):
    if request.param == "small":
        return train_small(tmp_path_factory.mktemp("tokenizer"))
    if not REAL:
        pytest.skip("name the folder of GPT-2's tokenizer in TUNETRADE_GPT2_TOKENIZER")
    return Path(REAL)


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder):
    """The library's own tokenizer, to compare with."""
    return ByteLevelBPETokenizer.from_file(str(tokenizer_folder / "vocab.json"), str(tokenizer_folder / "merges.txt"))
