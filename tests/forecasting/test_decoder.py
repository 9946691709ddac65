"""Every way in which a tuned model enters the decode engine, against the forward pass of the library it comes from.

A way is a model with random tuned parameters, far from neutral: the weights that the engine gets, and the library's own
uncached forward in float32, adapters unmerged, attention written out (`eager`).
"""

import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_same_bytes_alone, forward_of, slow_draws
from transformers import GPT2Config, GPT2LMHeadModel
from ways import (
    Way,
    bottleneck,
    hooked,
    packed,
    prefix_of,
    shaken,
    with_blocks,
    with_prefix,
    with_prompt_of,
)

from forecasting.codecs import BinsCodec
from forecasting.decoder import Decoder, weights_of, with_prompt
from forecasting.forecaster import PathForecaster
from forecasting.methods import METHODS
from forecasting.methods.adapter import AdapterOptions
from forecasting.methods.lora import LoraOptions
from forecasting.sampler import SamplingOptions, gpt2_decoders, sample
from forecasting.windows import WindowSpec, contexts

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of transformers, about how peft calls it
]

BINS, WIDTH, LAYERS, HEADS, POSITIONS = 31, 32, 2, 4, 40
CODEC = BinsCodec(bins=BINS, half_lives=(3.0, 6.0), weights=(0.6, 0.4))
TARGETS = ["c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=BINS, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.2, bos_token_id=None, eos_token_id=None,
        attn_implementation="eager",
    )  # fmt: skip
    return shaken(GPT2LMHeadModel(config), 2, 0.1)


def plain() -> Way:
    model = gpt2()
    return Way(weights_of(model), forward_of(model))


def full() -> Way:
    """Fine-tuned as a whole: head and embeddings, tied, among the rest; the engine gets the tuned tensors by name."""
    model = shaken(gpt2(), 5, 0.1)
    return Way(weights_of(gpt2(), state=model.state_dict()), forward_of(model))


def merging(config: peft.PeftConfig, prune: bool = False) -> Way:
    """A method of peft that merges: apart in the oracle, merged in the engine."""
    model = shaken(peft.get_peft_model(gpt2(), config), 3, 0.3)
    if prune:  # AdaLoRA sets singular values to zero
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "lora_E" in name:
                    value[::2] = 0.0
    return Way(weights_of(deepcopy(model).merge_and_unload()), forward_of(model))


def lora_of_the_project() -> Way:
    chosen = METHODS["lora"]
    model = shaken(chosen.prepare(gpt2(), LoraOptions(rank=3, alpha=4.0, targets=",".join(TARGETS))), 3, 0.3)
    return Way(chosen.weights(model), forward_of(model))


def prefix(tokens: int = 5, **options: object) -> Way:
    return with_prefix(gpt2(), tokens, **options)


def prompt(config: peft.PeftConfig) -> Way:
    return with_prompt_of(gpt2(), config)


def article_adapter() -> Way:
    chosen = METHODS["adapter"]
    model = shaken(chosen.prepare(gpt2(), AdapterOptions(bottleneck=6)), 3, 0.3)
    return Way(chosen.weights(model), forward_of(model))


def blocks(gelu: bool = True, only_mlp_of: int | None = None) -> Way:
    model, weights = with_blocks(gpt2(), gelu, only_mlp_of)
    return Way(weights, forward_of(model))


def blocks_behind_a_prompt() -> Way:
    """The prompt's keys and values pass through the blocks' adapters too."""
    model, weights = with_blocks(gpt2())
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    wrapped = shaken(peft.get_peft_model(model, config), 3, 0.3)
    with torch.no_grad():
        embeddings = wrapped.get_prompt(1)[0]
    return Way(with_prompt(weights, embeddings), forward_of(wrapped, 4))


def everything() -> Way:
    """Prefix, adapters inside every block and after the last norm."""
    model, weights = with_blocks(gpt2())
    last = [bottleneck(WIDTH, 50, False), bottleneck(WIDTH, 51, True)]
    for side in last:
        hooked(model.transformer.ln_f, side)
    wrapped = peft.get_peft_model(model, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    shaken(wrapped, 3, 0.3)
    entering = replace(weights, adapters=tuple(packed(side) for side in last), prefix=prefix_of(wrapped))
    return Way(entering, forward_of(wrapped))


def nf4(folder: str) -> Way:
    """A base in 4 bits, double quantised; the engine gets its matrices dequantised once."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    gpt2().save_pretrained(folder)
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    model = GPT2LMHeadModel.from_pretrained(
        folder, quantization_config=quantisation, device_map="cpu", dtype=torch.float32, attn_implementation="eager"
    )
    state, quantised = dict(model.state_dict()), 0
    for name, module in model.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            matrix = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            state[f"{name}.weight"] = matrix.T  # Linear keeps [outputs, inputs], GPT-2 [inputs, outputs]
            quantised += 1
    assert quantised == 4 * LAYERS
    # in training, without dropout: for inference some processors are given a kernel in half precision
    return Way(weights_of(model, state=state), forward_of(model.train()))


def lora_config(**options: object) -> peft.PeftConfig:
    return peft.LoraConfig(
        task_type="CAUSAL_LM", r=3, lora_alpha=4, target_modules=TARGETS, fan_in_fan_out=True, **options
    )


WAYS: dict[str, Callable[[], Way]] = {
    "plain": plain,
    "full": full,
    "layer norms": lambda: merging(
        peft.LNTuningConfig(task_type="CAUSAL_LM", target_modules=["ln_1", "ln_2", "ln_f"]),
    ),
    "lora": lambda: merging(lora_config()),
    "lora of the project": lora_of_the_project,
    "dora and rslora": lambda: merging(lora_config(use_dora=True, use_rslora=True)),
    "ia3": lambda: merging(
        peft.IA3Config(
            task_type="CAUSAL_LM", target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"],
            fan_in_fan_out=True,
        )
    ),
    "adalora": lambda: merging(
        peft.AdaLoraConfig(
            task_type="CAUSAL_LM", init_r=4, target_r=2, total_step=10, target_modules=TARGETS, fan_in_fan_out=True
        ),
        prune=True,
    ),
    "prefix": prefix,
    "prefix of one": lambda: prefix(tokens=1),
    "prefix projected": lambda: prefix(prefix_projection=True, encoder_hidden_size=16),
    "prompt": lambda: prompt(peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)),
    "p-tuning": lambda: prompt(
        peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, encoder_hidden_size=16)
    ),
    "article adapter": article_adapter,
    "blocks": blocks,
    "one block, relu": lambda: blocks(gelu=False, only_mlp_of=1),
    "blocks behind a prompt": blocks_behind_a_prompt,
    "everything": everything,
}  # fmt: skip
NAMES = [*WAYS, "nf4"]


@pytest.fixture(scope="module")
def way(tmp_path_factory) -> Callable[[str], Way]:
    """Builds each way once."""

    @cache
    def made(name: str) -> Way:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return nf4(str(tmp_path_factory.mktemp("nf4"))) if name == "nf4" else WAYS[name]()

    return made


@pytest.mark.parametrize("name", NAMES)
def test_logits_at_every_step_of_a_forced_sequence(way, name):
    """Three windows, four paths each, up to the last position there is."""
    chosen, context, paths = way(name), 16, 4
    steps = chosen.weights.room - context
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(0, BINS, (3, context), generator=generator)
    forced = torch.randint(0, BINS, (steps, 3, paths), generator=generator)
    with torch.inference_mode():
        decoder = Decoder(chosen.weights, paths, steps)
        ours = [decoder.start(ids)[:, None].expand(-1, paths, -1)] + [decoder.advance(step) for step in forced]
    whole = torch.cat([ids[:, None].expand(-1, paths, -1), forced.permute(1, 2, 0)], dim=2)
    theirs = chosen.logits(whole.reshape(3 * paths, -1))[:, context - 1 :].view(3, paths, steps + 1, BINS)
    assert torch.stack(ours, dim=2).numpy() == pytest.approx(theirs.numpy(), abs=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "plain"])
def test_a_way_is_not_the_base_in_disguise(way, name):
    ids = torch.randint(0, BINS, (4, 16), generator=torch.Generator().manual_seed(8))
    with torch.inference_mode():
        tuned, base = (Decoder(way(each).weights, 4, 1).start(ids) for each in (name, "plain"))
    assert (tuned - base).abs().amax(dim=1).min() > 0.05


@pytest.mark.parametrize("name", ["prefix", "prefix of one", "prefix projected", "prompt", "p-tuning", "everything"])
def test_a_prefix_takes_up_positions(way, name):
    """peft gives the tokens that follow a prefix the positions behind it, keys and values of prefix tuning included."""
    taken = {"prefix of one": 1, "p-tuning": 4, "everything": 3}.get(name, 5)
    weights = way(name).weights
    assert (weights.taken, weights.room) == (taken, POSITIONS - taken)
    assert all(part.shape == (HEADS, taken, WIDTH // HEADS) for layer in weights.prefix for part in layer)
    with torch.inference_mode(), pytest.raises((RuntimeError, IndexError)):
        Decoder(weights, 4, 1).start(torch.zeros(weights.room + 1, dtype=torch.int64))


SPEC = WindowSpec(context=16, horizon=7)


@pytest.mark.parametrize("name", NAMES)
def test_sampled_tokens_are_those_of_a_plain_loop_over_the_library(way, eurusd, name):
    """Five windows: a tile of four and one alone, 64 paths each."""
    chosen, paths, seen = way(name), 64, []
    inputs = contexts(eurusd, SPEC, CODEC.warm_up, np.array([700, 2000, 3500, 5000, 6500]))

    class Recorded(Decoder):
        def advance(self, ids):
            seen.append(ids.clone())
            return super().advance(ids)

    options = SamplingOptions(paths, seed=3, threads=1)
    steps = SPEC.horizon - 1
    drawn = sample(inputs, CODEC, lambda: Recorded(chosen.weights, paths, steps), SPEC.context, options)
    tokens, closes = slow_draws(chosen.logits, CODEC, inputs, SPEC.context, paths, 3)
    rolled = [torch.stack(seen[i : i + steps], dim=2) for i in range(0, len(seen), steps)]
    taken = torch.cat(rolled)[-len(inputs) :].numpy()  # those before are of the check of tiles
    assert taken.shape == tokens[:, :, :-1].shape
    same = taken == tokens[:, :, :-1]
    assert same.mean() >= 0.999
    together = same.all(axis=2)
    assert drawn.paths[together] == pytest.approx(closes[together], rel=1e-5)
    assert len(np.unique(taken)) > BINS // 2


SAME_BYTES = ["plain", "prefix", "prompt", "blocks", "everything"]


@pytest.mark.parametrize("name", SAME_BYTES)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_the_same_cutoff_gives_the_same_bytes_in_any_batch_order_thread_and_tile(way, eurusd, name, data):
    paths = 32
    cutoffs = data.draw(st.lists(st.integers(200, 7000), min_size=1, max_size=19, unique=True))
    rows, threads = data.draw(st.sampled_from([32, 64, 256])), data.draw(st.sampled_from([1, 2, 3]))
    wanted = data.draw(st.sampled_from(cutoffs))

    def predicted(at, threads, rows):
        made = gpt2_decoders(way(name).weights, paths, SPEC.horizon)
        forecaster = PathForecaster(name, CODEC, SPEC.context, SamplingOptions(paths, threads=threads), made)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("forecasting.sampler.TILE_ROWS", rows)
            return forecaster.predict(contexts(eurusd, SPEC, CODEC.warm_up, np.array(at)))

    together, alone = predicted(cutoffs, threads, rows), predicted([wanted], 1, paths)
    assert_same_bytes_alone(together, cutoffs.index(wanted), alone)


def test_a_decoder_with_a_prefix_forgets_its_last_window(way):
    weights = way("everything").weights
    with torch.inference_mode():
        used, fresh = Decoder(weights, 4, 3), Decoder(weights, 4, 3)
        used.start(torch.arange(12))
        used.advance(torch.arange(4))
        used.start(torch.arange(5, 14))
        fresh.start(torch.arange(5, 14))
        assert torch.equal(used.advance(torch.arange(4)), fresh.advance(torch.arange(4)))


def test_a_prompt_does_not_change_the_weights_it_is_put_before(way):
    weights = way("plain").weights
    tuned = with_prompt(weights, torch.zeros(3, WIDTH))
    assert (weights.prefix, weights.room, tuned.room) == ((), POSITIONS, POSITIONS - 3)
    behind = with_prompt(tuned, torch.ones(2, WIDTH))
    at_once = with_prompt(weights, torch.cat([torch.zeros(3, WIDTH), torch.ones(2, WIDTH)]))
    for one, other in zip(behind.prefix, at_once.prefix, strict=True):
        for part, same in zip(one, other, strict=True):
            assert part.numpy() == pytest.approx(same.numpy(), abs=1e-5)
