"""GPT-2s with random weights: as the Hugging Face hub keeps the real one, and as a base of ours."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from forecasting.base import save_base
from forecasting.codecs import BinsCodec
from forecasting.files import write_json


def write_hub_gpt2(
    folder: Path, vocabulary: int = 300, width: int = 32, layers: int = 2, heads: int = 2, positions: int = 96,
    std: float = 0.2, seed: int = 3,
) -> Path:  # fmt: skip
    """The hub's names: no `transformer.` before them, no head, and the causal mask of each block among the weights."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return std * torch.randn(*shape, generator=draw)

    tensors = {"wte.weight": normal(vocabulary, width) + 0.1, "wpe.weight": normal(positions, width)}
    for i in range(layers):
        for name, shape in {
            "attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width), "mlp.c_fc": (width, 4 * width),
            "mlp.c_proj": (4 * width, width),
        }.items():  # fmt: skip
            tensors |= {f"h.{i}.{name}.weight": normal(*shape), f"h.{i}.{name}.bias": normal(shape[1])}
        for name in ("ln_1", "ln_2"):
            tensors |= {f"h.{i}.{name}.weight": 1 + normal(width), f"h.{i}.{name}.bias": normal(width)}
        tensors[f"h.{i}.attn.bias"] = torch.tril(torch.ones(positions, positions))[None, None]
    tensors |= {"ln_f.weight": 1 + normal(width), "ln_f.bias": normal(width)}
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = {
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
        "bos_token_id": vocabulary - 1, "embd_pdrop": 0.1, "eos_token_id": vocabulary - 1, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": positions, "n_embd": width, "n_head": heads,
        "n_layer": layers, "n_positions": positions, "resid_pdrop": 0.1, "summary_activation": None,
        "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
        "summary_use_proj": True, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "vocab_size": vocabulary,
    }  # fmt: skip
    write_json(folder / "config.json", config)
    return folder


def write_own_base(folder: Path, positions: int = 96) -> Path:
    """A base of 31 bins that were its tokens from the beginning, 2 layers x 16, with room for virtual tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    codec = BinsCodec(bins=31, half_lives=(3.0, 6.0), weights=(0.6, 0.4))
    config = GPT2Config(
        vocab_size=codec.bins, n_positions=positions, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, initializer_range=0.3, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    save_base(folder, GPT2LMHeadModel(config), codec, {"name": "own", "cutoff": "2000-12-31"})
    return folder
