"""Several tuned models on one base in memory: the same forecasts, and what is the base's is held once."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_gpt2 import write_hub_gpt2, write_own_base
from transformers import GPT2LMHeadModel

from forecasting import base as bases
from forecasting.base import find_base
from forecasting.checkpoint import load_checkpoint, new_model, save_checkpoint
from forecasting.decoder import Product
from forecasting.errors import CheckpointError, ConfigError
from forecasting.methods import METHODS, method, settled
from forecasting.sampler import SamplingOptions
from forecasting.switchboard import Switchboard, shared, tensors_of
from forecasting.windows import WindowSpec, contexts

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of transformers, about how peft calls it
]

SPEC = WindowSpec(context=10, horizon=4)
SAMPLING = SamplingOptions(paths=8, threads=1)
LAYERS, WIDTH = 2, 16  # of the own base


def checkpoint(base_name: str, name: str, folder: Path, seed: int = 1) -> Path:
    """A model with noise on all that trains."""
    options = settled(name, method(name).options(), SPEC)
    torch.manual_seed(seed)
    model = new_model(base_name, name, options)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(0.1 * torch.randn(value.shape))
    save_checkpoint(folder, model.eval(), name, options, SPEC, find_base(base_name).codec, base_name)
    return folder


@pytest.fixture(scope="module")
def own_base(tmp_path_factory):
    return write_own_base(tmp_path_factory.mktemp("bases") / "own")


@pytest.fixture(scope="module", params=["own", "gpt2"])
def base_name(request, own_base, tmp_path_factory):
    if request.param == "own":
        return str(own_base)
    return str(write_hub_gpt2(tmp_path_factory.mktemp("hub") / "gpt2"))


@pytest.fixture(scope="module")
def folders(base_name, tmp_path_factory):
    where = tmp_path_factory.mktemp("tuned")
    return {name: checkpoint(base_name, name, where / name) for name in METHODS}


@pytest.fixture(scope="module")
def board(base_name, folders):
    return Switchboard(find_base(base_name), folders)


def test_forecasts_are_those_of_the_checkpoints_however_one_switches(board, folders, eurusd):
    inputs = contexts(eurusd, SPEC, board.held("full").codec.warm_up, np.array([900, 4000]))
    for name in [*folders, *reversed(folders)]:
        alone, spec = load_checkpoint(folders[name], SAMPLING)
        switched = board.forecaster(name, SAMPLING)
        one, other = switched.predict(inputs), alone.predict(inputs)
        assert (board.held(name).spec, switched.sha) == (spec, alone.sha)
        assert one.paths.tobytes() == other.paths.tobytes()
        for field in ("mean", "mean_se", "quantiles", "p_up"):
            assert getattr(one.forecasts, field).tobytes() == getattr(other.forecasts, field).tobytes()


def test_what_is_the_bases_is_the_same_memory(board):
    plain, lora = board.held("untuned").weights, board.held("lora").weights
    assert lora.positions.data_ptr() == plain.positions.data_ptr()
    for one, other in zip(lora.blocks, plain.blocks, strict=True):
        assert one.qkv is not other.qkv
        assert one.mlp_in is other.mlp_in
        assert one.attention_out is other.attention_out
        assert one.ln_1[0].data_ptr() == other.ln_1[0].data_ptr()
    assert board.held("adapter").weights.blocks[1].mlp_out is plain.blocks[1].mlp_out
    own = {tensor.data_ptr() for tensor in tensors_of(board.held("full").weights) if not tensor.is_mkldnn}
    assert not own & {tensor.data_ptr() for tensor in tensors_of(plain) if not tensor.is_mkldnn}


def test_a_model_costs_what_it_changes(own_base, tmp_path):
    """LoRA the fused projection of each block, as it is and packed, and its bias; the untuned base nothing."""
    base = find_base(str(own_base))
    folders = {"untuned": checkpoint(str(own_base), "untuned", tmp_path / "untuned")}
    alone = Switchboard(base, folders)
    assert alone.bytes == alone.base_bytes
    folders |= {f"lora {i}": checkpoint(str(own_base), "lora", tmp_path / f"lora{i}", seed=i) for i in range(5)}
    copies = 2 if torch.backends.mkldnn.is_available() else 1
    each = LAYERS * 4 * (copies * WIDTH * 3 * WIDTH + 3 * WIDTH)
    board = Switchboard(base, folders)
    assert board.bytes == alone.bytes + 5 * each
    matrices = LAYERS * 12 * WIDTH * WIDTH * copies + (31 + 96) * WIDTH
    assert alone.base_bytes >= 4 * matrices


def test_no_torch_model_is_kept_where_only_the_density_is_forecast(base_name, folders):
    def alive():
        gc.collect()
        return [found for found in gc.get_objects() if type(found) is GPT2LMHeadModel]

    plain = {name: folder for name, folder in folders.items() if not METHODS[name].objective}
    before = alive()
    board = Switchboard(find_base(base_name), plain)
    assert len(alive()) == len(before)
    assert board.names == tuple(plain)


def test_the_base_is_read_from_disk_once(base_name, folders, monkeypatch):
    read = []
    original = bases._read_gpt2
    monkeypatch.setattr(bases, "_read_gpt2", lambda *given: read.append(given) or original(*given))
    chosen = {name: folders[name] for name in ("untuned", "lora", "adapter")}
    board = Switchboard(find_base(base_name), chosen)
    for name in chosen:
        board.forecaster(name, SAMPLING)
    assert len(read) == 1


def test_another_base_is_refused(own_base, tmp_path, board, base_name):
    other = str(write_hub_gpt2(tmp_path / "other", seed=4))
    folder = checkpoint(other, "lora", tmp_path / "lora")
    with pytest.raises(CheckpointError, match=r"tuned on another base .*switchboard of that base"):
        Switchboard(find_base(base_name), {"lora": folder})


def test_an_unknown_model_names_the_nearest(board):
    assert board.names == tuple(METHODS)
    with pytest.raises(ConfigError, match=r"unknown model 'lorra' \(did you mean 'lora'"):
        board.forecaster("lorra", SAMPLING)


def test_zero_and_minus_zero_are_not_shared():
    one, other = torch.zeros(3), -torch.zeros(3)
    assert shared(other, one) is other
    assert shared(torch.zeros(3), one) is one
    plain, gelu = Product(torch.ones(2, 2), torch.ones(2)), Product(torch.ones(2, 2), torch.ones(2), gelu=True)
    assert shared(gelu, plain) is gelu
    assert shared(Product(torch.ones(2, 2), torch.ones(2)), plain) is plain
