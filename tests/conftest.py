"""Shared small material: a simulated series as checked bars, and a tiny base on disk. Everything is offline."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

# Before torch is imported, here and in the processes the tests start: several workers share the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from forecasting.bars import Bars, Instrument, load_bars
from forecasting.base import save_base
from forecasting.codecs import BinsCodec


@pytest.fixture(scope="session", autouse=True)
def own_cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads what an earlier run, or the user, has kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNETRADE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole studies first: begun last, they would leave one worker with nothing to do."""
    items.sort(key=lambda item: "tunetrade" not in item.path.parts[-2:-1])


def bars_of(closes: np.ndarray, like: Bars) -> Bars:
    """`like`'s stamps and calendar with other closes (close-only)."""
    frame = pd.DataFrame(
        dict.fromkeys(("open", "high", "low", "close"), closes) | {"volume": 0.0, "spread": np.nan},
        index=like.frame.index[: len(closes)],
    )
    return Bars(frame, replace(like.instrument, sha256="0" * 64), like.calendar)


@pytest.fixture(scope="session")
def eurusd() -> Bars:
    """Real daily fixings."""
    return load_bars("ecb:EURUSD")


@pytest.fixture(scope="session")
def hourly() -> Bars:
    """A simulated hourly series over a change to daylight saving, with the real FX-week calendar."""
    from forecasting.calendars import FxWeek

    calendar = FxWeek("H1")
    times = calendar.between(np.datetime64("2016-01-01", "ns"), np.datetime64("2016-06-30", "ns"))
    rng = np.random.default_rng(7)
    closes = 1.1 * np.exp(np.cumsum(rng.standard_t(5, size=len(times)) * 1e-3))
    frame = pd.DataFrame(
        dict.fromkeys(("open", "high", "low", "close"), closes) | {"volume": 1.0, "spread": 10.0},
        index=pd.DatetimeIndex(times, name="time").tz_localize("UTC"),
    )
    return Bars(frame, Instrument("EURUSD", "EUR", "USD", 5, "H1", "simulated", "1" * 64, False), calendar)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of 2 layers x 16 with large random weights, saved as a base with 31 bins and an early cut-off."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    codec = BinsCodec(bins=31, half_lives=(3.0, 6.0), weights=(0.6, 0.4))
    config = GPT2Config(
        vocab_size=codec.bins, n_positions=32, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, initializer_range=0.3, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("base") / "tiny"
    model = GPT2LMHeadModel(config)
    card = {"name": "tiny", "cutoff": "2000-12-31", "parameters": sum(p.numel() for p in model.parameters())}
    save_base(folder, model, codec, card)
    return folder
