"""Sampling closes of several tokens: against plain loops and enumerations, and against models that want to break it."""

import math
import re
import shutil
from dataclasses import replace
from functools import cache
from itertools import zip_longest

import numpy as np
import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_same_bytes_alone, forward_of
from ways import Way, with_blocks, with_prefix, with_prompt_of

from forecasting.codecs.digits import DigitsCodec
from forecasting.codecs.grammar import decimal_automaton, fixed_digits, lift
from forecasting.codecs.text import TextCodec
from forecasting.decoder import Adapter, Decoder, Product, weights_of, with_prompt
from forecasting.errors import CheckpointError, ConfigError
from forecasting.sampler import SamplingOptions
from forecasting.spelling import SpellingForecaster, at, narrow, spell, spelling_decoders, spelling_forecaster
from forecasting.uniforms import uniforms
from forecasting.windows import WindowSpec, contexts, targets

pytest_plugins = ["number_tokenizers"]
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of transformers, about how peft calls it
]

SPEC = WindowSpec(context=12, horizon=3)
PATHS = 16


def bars_of(closes, like):
    """`like`'s stamps and calendar with other closes."""
    return replace(like, frame=like.frame.assign(**dict.fromkeys(("open", "high", "low", "close"), closes)))


def gpt2(vocabulary, positions, width=16):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(11)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary, n_positions=positions, n_embd=width, n_layer=2, n_head=2, initializer_range=0.3,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
        )
    ).eval()  # fmt: skip


def text_codec(folder, digits, **settings_):
    plain = TextCodec.of_tokenizer(folder / "vocab.json", folder / "merges.txt", digits)
    scale = {"half_lives": (3.0,), "weights": (1.0,)}
    return TextCodec.from_dict(plain.as_dict() | {"integer_digits": 2} | scale | settings_)


@pytest.fixture(params=["digits", "text", "text without decimals"])
def codec(request, tokenizer_folder):
    if request.param == "digits":
        return DigitsCodec(digits=3, length=15, half_lives=(3.0,), weights=(1.0,))
    if request.param == "text":
        return text_codec(tokenizer_folder, 4)
    return text_codec(tokenizer_folder, 0, integer_digits=4)


@pytest.fixture
def series(codec, eurusd):
    """Real closes; without decimals they are written in units of a thousandth."""
    whole = isinstance(codec, TextCodec) and codec.digits == 0
    return bars_of(eurusd.closes * 1000, eurusd) if whole else eurusd


@pytest.fixture
def model(codec):
    return gpt2(10 if isinstance(codec, DigitsCodec) else codec.vocabulary, 128)


def forecaster(codec, model, **options):
    chosen = SamplingOptions(**{"paths": PATHS, "threads": 1, **options})
    make = spelling_decoders(weights_of(model), codec, chosen.paths, SPEC.horizon)
    return SpellingForecaster("tiny", codec, SPEC.context, 128, chosen, make)


def starts_closes(codec, text, most):
    """Whether a text is the beginning of at most that many closes; the slow way, number by number."""
    first, *numbers = text.split(" ")
    if first or len(numbers) > most:
        return False
    for i, number in enumerate(numbers):
        whole, point, part = number.partition(".")
        unfinished = i == len(numbers) - 1 and len(part) < max(codec.digits, 1)
        if not re.fullmatch(r"(0|[1-9][0-9]*)?", whole) or len(whole) > codec.integer_digits:
            return False
        if not re.fullmatch("[0-9]*", part) or len(part) > codec.digits or (point and not (whole and codec.digits)):
            return False
        if not unfinished and (len(part) < codec.digits or not number or float(number) == 0):
            return False
        if codec.digits == 0 and whole == "0":
            return False
    return True


@cache
def allowed_after(codec, text, most):
    """Tokens that keep a text the beginning of at most that many closes; by trying all of them."""
    return [i for p, i in zip(codec.pieces, codec.ids, strict=True) if starts_closes(codec, text + p, most)]


def allowed_by_text(codec, text):
    """Tokens that may follow; what stands before the last number was allowed, and only counts."""
    if isinstance(codec, DigitsCodec):
        return list(range(10))
    before, space, last = text.rpartition(" ")
    return allowed_after(codec, space + last, SPEC.horizon + (codec.digits == 0) - before.count(" "))


def blocks(model):
    hooked, weights = with_blocks(model)
    return Way(weights, forward_of(hooked))


WAYS = {
    "plain": lambda model: Way(weights_of(model), forward_of(model)),
    "prefix": with_prefix,
    "prompt": lambda model: with_prompt_of(model, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)),
    "blocks": blocks,
}


def slow_paths(logits, codec, inputs, context, n, paths):
    """Tokens of each path and closes [S, H] of one window from ids [L]; `logits` is the library's own forward.

    No cache, the grammar a regular expression, closes parsed by float().
    """
    _, state = codec.encode(inputs.closes, inputs.times, SPEC.context)
    draws = 1 if isinstance(codec, DigitsCodec) else 2 + codec.integer_digits + codec.digits - (codec.digits == 0)
    uniform = uniforms(1, inputs.unique_id, inputs.cutoffs[n], paths, SPEC.horizon * draws)
    written, texts, parts = ([[] for _ in range(paths)] for _ in range(3))
    begun, rest, closes = [0] * paths, list(uniform[0]), np.empty((paths, SPEC.horizon))
    pieces = {} if isinstance(codec, DigitsCodec) else dict(zip(codec.ids, codec.pieces, strict=True))
    ending = re.compile("" if not pieces else rf"\.[0-9]{{{codec.digits}}}" if codec.digits else r"[0-9](?= )")
    for step in range(codec.most_tokens(SPEC.horizon)):
        writing = [s for s in range(paths) if len(parts[s]) < SPEC.horizon]
        if not writing:
            break
        last = logits(torch.tensor([[*context, *written[s]] for s in writing]))[:, -1].double().numpy()
        for s, row in zip(writing, last, strict=True):
            place = step - begun[s]
            if place < draws:
                rest[s] = uniform[len(parts[s]) * draws + place, s]
            names = allowed_by_text(codec, "".join(texts[s]))
            p = np.exp(row[names] - row[names].max())
            below = np.cumsum(p / p.sum())
            i = int(np.searchsorted(below, rest[s] * below[-1], side="right"))
            before = below[i - 1] if i else 0
            rest[s] = (rest[s] * below[-1] - before) / (below[i] - before)
            written[s].append(names[i])
            texts[s].append(pieces.get(names[i], ""))
            closed = len(ending.findall("".join(texts[s]))) if pieces else len(written[s]) // codec.digits
            if closed > len(parts[s]):
                parts[s].append(rest[s])
                begun[s] = step + 1
    for s in range(paths):
        if pieces:
            closes[s] = [float(number) for number in "".join(texts[s]).split()[: SPEC.horizon]]
            continue
        for h in range(SPEC.horizon):
            number = int("".join(map(str, written[s][h * codec.digits : (h + 1) * codec.digits]))) - codec.unchanged
            change = (number + parts[s][h] - 0.5) * state.cell[n]
            closes[s, h] = state.anchor[n] * (1 + change if change >= -0.5 else math.exp(2 * change + 1) / 2)
    return written, closes


@pytest.mark.parametrize("name", WAYS)
def test_tokens_logits_and_closes_are_those_of_a_plain_loop_over_the_library(codec, model, series, name, monkeypatch):
    way, spelled, rows = WAYS[name](model), [], []
    paths = 64 if isinstance(codec, DigitsCodec) else PATHS

    class Recorded(Decoder):
        def start(self, ids):
            rows.append([ids[0], super().start(ids).expand(paths, -1)])
            return rows[-1][1][:1]

        def advance(self, ids):
            rows[-1].append(super().advance(ids)[0])
            return rows[-1][-1][None]

    def recorded(*asked):
        spelled.append(spell(*asked))
        return spelled[-1]

    monkeypatch.setattr("forecasting.spelling.Decoder", Recorded)
    monkeypatch.setattr("forecasting.spelling.spell", recorded)
    inputs = contexts(series, SPEC, codec.warm_up, np.array([700, 5000]))
    options = SamplingOptions(paths, threads=1)
    drawn = spelling_forecaster(name, way.weights, codec, SPEC, options).predict(inputs).paths
    _, state = codec.encode(inputs.closes, inputs.times, SPEC.context)
    point = state.anchor * state.cell if isinstance(codec, DigitsCodec) else np.full(2, 10.0**-codec.digits)
    equal = []
    for n, (ours, (context, *logits)) in enumerate(zip(spelled, rows, strict=True)):
        whole = torch.cat([context.expand(paths, -1), torch.from_numpy(ours.tokens)], dim=1)
        theirs = way.logits(whole)[:, len(context) - 1 : -1, torch.from_numpy(codec.grammar.ids)]
        assert torch.stack(logits, dim=1).numpy() == pytest.approx(theirs.numpy(), abs=1e-4)
        tokens, closes = slow_paths(way.logits, codec, inputs, context.tolist(), n, paths)
        pairs = [list(zip_longest(one.tolist(), other)) for one, other in zip(ours.ids(), tokens, strict=True)]
        together = np.array([all(one == other for one, other in path) for path in pairs])
        assert np.abs(drawn[n] - closes)[together].max() < point[n] / 2
        equal += [one == other for path in pairs for one, other in path]
    assert np.mean(equal) >= 0.999


def test_figures_are_those_of_the_paths(codec, model, series):
    inputs = contexts(series, SPEC, codec.warm_up, np.array([700, 5000]))
    result = forecaster(codec, model, paths=64).predict(inputs)
    forecasts, paths, anchor = result.forecasts, result.paths, inputs.closes[:, -1, None]
    assert forecasts.mean == pytest.approx(paths.mean(axis=1))
    ups = [
        [np.mean([(x > a) + (x == a) / 2 for x in column]) for column in p.T]
        for p, (a,) in zip(paths, anchor, strict=True)
    ]
    assert forecasts.p_up == pytest.approx(np.array(ups))
    group_means = [paths[:, g * 16 : (g + 1) * 16].mean(axis=1) for g in range(4)]
    assert forecasts.mean_se == pytest.approx(np.std(group_means, axis=0, ddof=1) / 2)
    assert (np.diff(forecasts.quantiles, axis=1) >= 0).all()
    y = targets(series, SPEC, np.array([700, 5000]))
    assert np.isfinite(result.crps(y)).all()
    assert np.isfinite(result.crps_noise(y)).all()


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_the_same_cutoff_gives_the_same_bytes_alone_and_in_any_batch(eurusd, data):
    codec = DigitsCodec(digits=3, length=15, half_lives=(3.0,), weights=(1.0,))
    network = gpt2(10, 64)
    batch = data.draw(st.lists(st.integers(100, 7100), min_size=2, max_size=5, unique=True))
    wanted = data.draw(st.sampled_from(batch))
    together = forecaster(codec, network, threads=2).predict(contexts(eurusd, SPEC, codec.warm_up, np.array(batch)))
    alone = forecaster(codec, network).predict(contexts(eurusd, SPEC, codec.warm_up, np.array([wanted])))
    assert_same_bytes_alone(together, batch.index(wanted), alone)


def test_texts_of_different_length_do_not_touch_each_other(codec, model, series):
    batch = np.array([300, 700, 5000])
    together = forecaster(codec, model, threads=2).predict(contexts(series, SPEC, codec.warm_up, batch))
    for i, cutoff in enumerate(batch):
        alone = forecaster(codec, model).predict(contexts(series, SPEC, codec.warm_up, np.array([cutoff])))
        assert_same_bytes_alone(together, i, alone)


class Adversary:
    """A model that wants what it must not have: each row an extreme chosen at random."""

    def __init__(self, tokens, paths, seed):
        self.draw = np.random.default_rng(seed)
        self.tokens, self.paths = tokens, paths

    def start(self, ids):
        return self.rows(1)[:, 0]

    def advance(self, ids):
        return self.rows(self.paths)

    def rows(self, count):
        kinds = self.draw.integers(6, size=count)
        normal = self.draw.normal(size=(count, self.tokens))
        only = np.where(np.arange(self.tokens) == self.draw.integers(self.tokens, size=(count, 1)), 1e30, -1e30)
        choices = [
            np.zeros_like(normal),
            normal * 1e30,
            only,
            np.sign(normal) * 1e30,
            np.broadcast_to(np.linspace(-1e30, 1e30, self.tokens), normal.shape),
            np.broadcast_to(np.linspace(30, -30, self.tokens), normal.shape),
        ]
        return torch.from_numpy(np.choose(kinds[:, None], choices).astype(np.float32))[None]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), horizon=st.integers(1, 6), spread=st.sampled_from(["sampler", "edges", "any"]))
@pytest.mark.parametrize("kind", ["digits", "text", "text without decimals", "tokens that span closes"])
def test_every_sample_parses_whatever_the_model_wants(kind, seed, horizon, spread):
    integer_digits, digits = 2, 0 if kind == "text without decimals" else 3
    characters = {c: 40 + i for i, c in enumerate("0123456789. ")}
    pieces = characters | {" 1": 1, "23": 2, " 00": 3, "0.0": 4, "...": 5, "000": 6, " 0.": 7, "  ": 8, "999": 9}
    if kind == "tokens that span closes":
        pieces |= {"5 1": 10, "0 0.0": 11, "77 7.777 7": 12, "1 1.111 1.111 1.1": 13}
    if kind == "digits":
        grammar = fixed_digits(digits)
    else:
        automaton = decimal_automaton(integer_digits, digits)
        grammar = lift(automaton, pieces, integer_digits + digits + 2, open_ended=digits == 0)
    draws = 1 + seed % 4
    uniform = uniforms(seed, "X", np.datetime64("2020-01-01"), PATHS, horizon * draws)
    if spread == "edges":
        uniform = np.random.default_rng(seed).choice([0.0, 2.0**-54, 1 - 2.0**-53, 1.0], size=uniform.shape)
    elif spread == "any":
        uniform = np.random.default_rng(seed).random(uniform.shape)
    model = Adversary(len(grammar.ids), PATHS, seed)
    uniform = uniform.reshape(horizon, draws, PATHS)
    drawn = spell(model, np.zeros(1, int), grammar, uniform, horizon * grammar.most + (digits == 0))
    assert ((drawn.parts >= 0) & (drawn.parts <= 1)).all()
    if kind == "digits":
        assert (drawn.lengths == horizon * digits).all()
        assert ((drawn.tokens >= 0) & (drawn.tokens < 10)).all()
        return
    text_of = {name: piece for piece, name in pieces.items()}
    for ids in drawn.ids():
        text = "".join(text_of[name] for name in ids.tolist())
        if digits:
            assert re.fullmatch(rf"( ([1-9][0-9]?|0)\.[0-9]{{3}}){{{horizon}}}", text), text
        else:
            assert re.fullmatch(rf"( [1-9][0-9]?){{{horizon}}} ([1-9][0-9]?)?", text), text
        closes = [float(number) for number in text.split(" ")[1 : horizon + 1]]
        assert len(closes) == horizon
        assert min(closes) > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_that_says_nothing_is_refused(value):
    class Broken(Adversary):
        def rows(self, count):
            return torch.full((1, count, self.tokens), value)

    with pytest.raises(CheckpointError, match="NaN or infinite"):
        spell(Broken(10, PATHS, 0), np.zeros(1, int), fixed_digits(3), np.full((2, 1, PATHS), 0.5), 6)


class Equal(Adversary):
    def rows(self, count):
        return torch.zeros(1, count, self.tokens)


def test_equal_digits_are_the_uniform_numbers_themselves(eurusd):
    codec = DigitsCodec(digits=4, length=15, half_lives=(3.0,), weights=(1.0,))
    inputs = contexts(eurusd, SPEC, codec.warm_up, np.array([3000]))
    options = SamplingOptions(PATHS, threads=1)
    maker = SpellingForecaster("equal", codec, 12, 64, options, lambda: Equal(10, PATHS, 0))
    _, state = codec.encode(inputs.closes, inputs.times, 12)
    uniform = uniforms(1, inputs.unique_id, inputs.cutoffs[0], PATHS, 3).T
    wanted = state.anchor * (1 + (uniform * 10**4 - codec.unchanged - 0.5) * state.cell)
    assert maker.predict(inputs).paths[0] == pytest.approx(wanted, rel=1e-12)


class Chain(Adversary):
    """Logits by the last token alone, so that the chance of every text can be counted."""

    def __init__(self, grammar, paths):
        self.table = torch.from_numpy(np.random.default_rng(4).normal(0, 1.5, (100, len(grammar.ids))))
        self.paths = paths

    def start(self, ids):
        return self.table[ids[:, -1]]

    def advance(self, ids):
        return self.table[ids]


@pytest.mark.parametrize("draws", [1, 4])
def test_samples_follow_the_masked_softmax(draws):
    """The chance of every close by going through all token sequences, spellings that differ included."""
    pieces = {c: i for i, c in enumerate("0123456789. ")} | {" 1": 20, "1.": 21, " 2.": 22, ".3": 23}
    grammar = lift(decimal_automaton(1, 1), pieces, 4, open_ended=False)
    text_of = {name: piece for piece, name in pieces.items()}
    chain = Chain(grammar, 65_536)
    chances: dict[str, float] = {}

    def walk(text, state, last, chance):
        kept = np.flatnonzero(grammar.needs[state] <= 1)
        p = np.exp(chain.table[last].numpy()[kept])
        for i, share in zip(kept, p / p.sum(), strict=True):
            name = int(grammar.ids[i])
            new = text + text_of[name]
            if grammar.ends[state, i]:
                chances[new] = chances.get(new, 0.0) + chance * share
            else:
                walk(new, grammar.following[state, i], name, chance * share)

    walk("", 0, 99, 1.0)
    assert len(chances) == 99
    assert sum(chances.values()) == pytest.approx(1, abs=1e-12)
    uniform = uniforms(3, "X", np.datetime64("2020-01-01"), 65_536, draws)[None]
    drawn = spell(chain, np.array([99]), grammar, uniform, 4)
    texts, counts = np.unique(["".join(text_of[i] for i in ids.tolist()) for ids in drawn.ids()], return_counts=True)
    frequency = dict(zip(texts.tolist(), (counts / 65_536).tolist(), strict=True))
    for text, chance in chances.items():
        assert frequency.get(text, 0.0) == pytest.approx(chance, abs=5 * (chance / 65_536) ** 0.5 + 1e-4)
    common = np.array([text == " 2.3" for text in ("".join(text_of[i] for i in ids.tolist()) for ids in drawn.ids())])
    assert common.sum() > 500
    assert np.sort(drawn.parts[common, 0]) == pytest.approx(np.linspace(0, 1, common.sum()), abs=0.1)


def test_a_narrow_head_gives_the_full_head_s_logits(codec, model):
    ids, steps = torch.arange(9)[None], torch.zeros(1, PATHS, dtype=torch.int64)
    with torch.inference_mode():
        full, few = Decoder(weights_of(model), PATHS, 2), Decoder(narrow(weights_of(model), codec.grammar), PATHS, 2)
        names = torch.from_numpy(codec.grammar.ids)
        assert few.start(ids).numpy() == pytest.approx(full.start(ids)[:, names].numpy(), abs=1e-5)
        assert few.advance(steps).numpy() == pytest.approx(full.advance(steps)[..., names].numpy(), abs=1e-5)


def test_a_prefix_takes_room(codec, model, series):
    """A context is cut, or refused, as if the model were shorter by the prefix."""
    torch.manual_seed(3)
    adapter = Adapter(Product(torch.randn(16, 4)), Product(torch.randn(4, 16)))
    plain = weights_of(model, adapters=(adapter,))
    weights = with_prompt(plain, torch.randn(7, 16))
    options = SamplingOptions(PATHS, threads=1)
    inputs = contexts(series, SPEC, codec.warm_up, np.array([3000, 3001]))
    found = spelling_forecaster("prefixed", weights, codec, SPEC, options)
    assert found.positions == len(plain.positions) - 7 == 121
    wanted = SpellingForecaster(
        "prefixed", codec, SPEC.context, 121, options, spelling_decoders(weights, codec, PATHS, SPEC.horizon)
    ).predict(inputs)
    assert found.predict(inputs).paths.tobytes() == wanted.paths.tobytes()
    least = codec.most_tokens((1 if codec.cuts else SPEC.context) + SPEC.horizon) - 1
    tight = with_prompt(plain, torch.randn(len(plain.positions) - least, 16))
    paths = spelling_forecaster("tight", tight, codec, SPEC, options).predict(inputs).paths
    assert np.isfinite(paths).all()
    over = with_prompt(plain, torch.randn(len(plain.positions) - least + (16 if codec.cuts else 1), 16))
    with pytest.raises(ConfigError, match=r"shorten (the context|windows\.horizon)"):
        spelling_forecaster("over", over, codec, SPEC, options).predict(inputs)


@pytest.mark.parametrize("shape", ["constant", "halves", "rises by half"])
def test_odd_series_give_finite_forecasts(codec, model, series, shape):
    closes = series.closes.copy()
    if shape == "constant":
        closes[:] = closes[0]
    else:
        closes[698:] *= 0.5 if shape == "halves" else 1.5
    inputs = contexts(bars_of(closes, series), SPEC, codec.warm_up, np.array([700]))
    result = forecaster(codec, model).predict(inputs)
    assert np.isfinite(result.paths).all()
    assert (result.paths > 0).all()
    assert (result.forecasts.sigma > 0).all()
    if isinstance(codec, DigitsCodec):
        assert (np.abs(result.paths / closes[700] - 1) < (0.01 if shape == "constant" else 1)).all()


def test_a_window_too_long_for_digits_or_model_is_refused(eurusd):
    codec = DigitsCodec(digits=3, length=14, half_lives=(3.0,), weights=(1.0,))
    inputs = contexts(eurusd, SPEC, codec.warm_up, np.array([700]))
    with pytest.raises(ConfigError, match="a window of 15 closes"):
        forecaster(codec, gpt2(10, 64)).predict(inputs)
    codec = DigitsCodec(digits=3, length=15, half_lives=(3.0,), weights=(1.0,))
    options = SamplingOptions(PATHS)
    short = SpellingForecaster(
        "x", codec, 12, 43, options, spelling_decoders(weights_of(gpt2(10, 43)), codec, PATHS, 3)
    )
    with pytest.raises(ConfigError, match="has 35 beside its forecast"):
        short.predict(inputs)
    enough = SpellingForecaster(
        "x", codec, 12, 44, options, spelling_decoders(weights_of(gpt2(10, 44)), codec, PATHS, 3)
    )
    assert enough.predict(inputs).paths.shape == (1, PATHS, 3)


def test_a_state_of_one_window():
    codec = DigitsCodec(digits=3, length=15, half_lives=(3.0,), weights=(1.0,))
    closes = 1 + np.random.default_rng(0).random((3, 40)) / 100
    _, state = codec.encode(closes, np.empty(0), 12)
    one = at(state, 1)
    assert one.close.tolist() == [closes[1, -1]]
    assert one.volatility.totals.tolist() == state.volatility.totals[:, 1:2].tolist()
    assert one.volatility.sigma(codec.scale) == state.volatility.sigma(codec.scale)[1]


@pytest.mark.slow
def test_the_text_path_runs_end_to_end_with_a_gpt2_of_124_million(tokenizer_folder, eurusd, tmp_path):
    """Random weights in the hub's layout, config and tokenizer files included, read back from disk."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    made = GPT2LMHeadModel(GPT2Config())
    made.save_pretrained(tmp_path / "gpt2")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(tokenizer_folder / name, tmp_path / "gpt2" / name)
    network = GPT2LMHeadModel.from_pretrained(tmp_path / "gpt2", local_files_only=True).eval()
    assert sum(value.numel() for value in network.parameters()) == 124_439_808
    text = TextCodec.of_tokenizer(tmp_path / "gpt2" / "vocab.json", tmp_path / "gpt2" / "merges.txt", 4)
    text = text.with_closes(eurusd.closes[:3000])
    spec = WindowSpec(20, 5)
    inputs = contexts(eurusd, spec, text.warm_up, np.array([3000, 5000]))
    make = spelling_decoders(weights_of(network), text, 8, spec.horizon)
    result = SpellingForecaster("124M", text, 20, 1024, SamplingOptions(8), make).predict(inputs)
    assert result.paths.shape == (2, 8, 5)
    assert np.allclose(result.paths, np.round(result.paths, 4), rtol=0, atol=1e-12)
    assert (result.paths > 0).all()
    assert len(np.unique(result.paths)) > 20
