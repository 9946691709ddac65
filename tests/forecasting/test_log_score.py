"""Densities per close: they integrate to 1 for every codec, agree with cases by hand, and compare."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from forecasting.codecs import BinsCodec
from forecasting.codecs.digits import DigitsCodec
from forecasting.codecs.text import TextCodec
from forecasting.errors import ConfigError
from forecasting.log_score import log_scores, summary
from forecasting.windows import Contexts

pytest_plugins = ["number_tokenizers"]
pytestmark = pytest.mark.usefixtures("one_thread")

CONTEXT = 6
START = np.datetime64("2020-01-01", "ns")


def model_of(vocabulary):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(2)
    network = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary, n_positions=128, n_embd=16, n_layer=1, n_head=2, initializer_range=0.3,
            bos_token_id=None, eos_token_id=None,
        )
    ).eval()  # fmt: skip
    return lambda ids: network(ids[None]).logits[0]


def equal(vocabulary):
    return lambda ids: torch.zeros(len(ids), vocabulary)


def inputs_of(closes, count, horizon=1):
    """`count` windows with the same closes before the cutoff."""
    times = START + np.arange(len(closes) + horizon) * np.timedelta64(1, "D")
    repeated = np.tile(times, (count, 1))
    split = len(closes)
    return Contexts(
        "X-D1", repeated[:, split - 1], np.tile(closes, (count, 1)), repeated[:, :split], repeated[:, split:]
    )


def past(warm_up, sigma=0.01, level=1.0):
    """Closes that go up and down by sigma in turn."""
    return level * np.cumprod(np.where(np.arange(warm_up + CONTEXT) % 2, 1 + sigma, 1 / (1 + sigma)))


def test_bins_integrate_to_one():
    codec = BinsCodec(bins=31, half_lives=(3.0,), weights=(1.0,))
    closes = past(codec.warm_up)
    scaled_sigma = codec.encode(closes[None], np.empty((1, len(closes))), CONTEXT)[1].volatility.sigma(codec.scale)[0]
    middle, width = (codec.knots[1:] + codec.knots[:-1]) / 2, np.diff(codec.knots)
    returns = scaled_sigma * np.append(middle, codec.knots[-1] + 0.01)
    y = closes[-1] * (1 + returns)[:, None]
    density = np.exp(log_scores(model_of(31), codec, inputs_of(closes, len(y)), y, CONTEXT))[:, 0]
    assert density[-1] == 0
    assert density[:-1] @ (width * scaled_sigma) == pytest.approx(1, abs=1e-6)


def test_equal_bins_are_nearly_the_density_of_a_t():
    codec = BinsCodec(half_lives=(3.0,), weights=(1.0,))
    closes = past(codec.warm_up)
    sigma = codec.encode(closes[None], np.empty((1, len(closes))), CONTEXT)[1].volatility.sigma(codec.scale)[0]
    z = np.array([-1.5, -0.3, 0.2, 0.9, 2.0])
    score = log_scores(equal(255), codec, inputs_of(closes, 5), closes[-1] * (1 + sigma * z)[:, None], CONTEXT)
    unit = math.sqrt((codec.dof - 2) / codec.dof)
    assert score[:, 0] == pytest.approx(stats.t.logpdf(z / unit, codec.dof) - math.log(unit * sigma), abs=0.05)


def test_digits_integrate_to_one():
    codec = DigitsCodec(digits=2, length=7, half_lives=(3.0,), weights=(1.0,))
    closes = past(codec.warm_up)
    _, state = codec.encode(closes[None], np.empty(0), CONTEXT)
    every = np.array([[n // 10, n % 10] for n in range(100)])
    y = codec.closes_of(every, np.full((100, 1), 0.5), state)
    scores = log_scores(model_of(10), codec, inputs_of(closes, 100), y, CONTEXT)
    width = state.cell * state.anchor / closes[-1]
    assert np.exp(scores[:, 0]).sum() * width[0] == pytest.approx(1, abs=1e-5)
    beyond = log_scores(model_of(10), codec, inputs_of(closes, 1), y[-1:] * 1.5, CONTEXT)
    assert beyond.tolist() == [[-np.inf]]


def test_digits_integrate_to_one_where_cells_bend():
    """At 5 % a bar the range reaches far below half the anchor; the density is summed over prices, not over numbers."""
    codec = DigitsCodec(digits=3, length=7, half_lives=(3.0,), weights=(1.0,))
    closes = past(codec.warm_up, 0.1)
    _, state = codec.encode(closes[None], np.empty(0), CONTEXT)
    every = np.array([[n // 100, n // 10 % 10, n % 10] for n in range(1000)])
    y, low, high = (codec.closes_of(every, np.full((1000, 1), part), state)[:, 0] for part in (0.5, 0.0, 1.0))
    assert low[0] < 0.05 * state.anchor[0] < high[-1]
    scores = log_scores(model_of(10), codec, inputs_of(closes, 1000), y[:, None], CONTEXT)
    assert np.exp(scores[:, 0]) @ ((high - low) / closes[-1]) == pytest.approx(1, abs=1e-3)


def test_equal_digits_by_hand():
    """Every return is +-1 % in turn, so sigma is 0.01; the anchor is the last close, but for one move, too."""
    codec = DigitsCodec(digits=3, length=25, half_lives=(3.0,), weights=(1.0,), power=2.0)
    closes = np.concatenate([past(codec.warm_up)[: codec.warm_up], np.full(CONTEXT, 2.0)])
    closes[: codec.warm_up] *= 1.9 / closes[codec.warm_up - 1]
    sigma = math.sqrt(
        np.average(
            np.diff(closes[: codec.warm_up]) ** 2 / closes[: codec.warm_up - 1] ** 2,
            weights=0.5 ** (np.arange(codec.warm_up - 2, -1, -1) / 3),
        )
    )
    score = log_scores(equal(10), codec, inputs_of(closes, 1, 2), np.array([[2.01, 1.99]]), CONTEXT)
    by_hand = [
        -3 * math.log(10) + 3 * math.log(10) - math.log(2 * 8 * sigma * 5 * 1.9 / before) for before in (2.0, 2.01)
    ]
    assert score[0] == pytest.approx(by_hand, rel=1e-12)


@pytest.fixture
def characters():
    """A tokenizer of single characters: every text has one spelling."""
    pieces = tuple("0123456789. ")
    return TextCodec(2, 12, pieces, tuple(range(12)), (), integer_digits=1, half_lives=(3.0,), weights=(1.0,))


def every_price(codec):
    return np.arange(1, 10 ** (codec.integer_digits + codec.digits)) / 10**codec.digits


@pytest.mark.parametrize("digits", [2, 0])
def test_text_in_single_characters_integrates_to_one(characters, digits):
    codec = TextCodec.from_dict(characters.as_dict() | {"digits": digits, "integer_digits": 3 - digits})
    closes = np.round(past(codec.warm_up, 0.1, level=5.0), digits)
    y = every_price(codec)[:, None]
    scores = log_scores(model_of(12), codec, inputs_of(closes, len(y)), y, CONTEXT)
    assert np.exp(scores[:, 0]).sum() * codec.point / closes[-1] == pytest.approx(1, abs=1e-4)


def test_successive_closes_without_decimals_share_no_mass(characters):
    """The joint chance of two closes sums to 1: the space that ends one and begins the next is counted once."""
    codec = TextCodec.from_dict(characters.as_dict() | {"digits": 0, "integer_digits": 1})
    closes = np.round(past(codec.warm_up, 0.2, level=5.0))
    y = np.array([[a, b] for a in range(1, 10) for b in range(1, 10)], dtype=float)
    scores = log_scores(model_of(12), codec, inputs_of(closes, 81, 2), y, CONTEXT)
    joint = np.exp(scores.sum(axis=1)) * codec.point / closes[-1] * codec.point / y[:, 0]
    assert joint.sum() == pytest.approx(1, abs=1e-4)


def test_text_in_pieces_integrates_to_one_over_all_spellings(tokenizer_folder):
    """All ways to cut a close, a forward pass each; `log_scores` counts the tokenizer's own cut only."""
    plain = TextCodec.of_tokenizer(tokenizer_folder / "vocab.json", tokenizer_folder / "merges.txt", 1)
    codec = TextCodec.from_dict(plain.as_dict() | {"integer_digits": 1, "half_lives": (3.0,), "weights": (1.0,)})
    model, grammar = model_of(codec.vocabulary), codec.grammar
    closes = np.round(past(codec.warm_up, 0.1, level=5.0), 1)
    y = every_price(codec)[:, None]
    own = np.exp(log_scores(model, codec, inputs_of(closes, 99), y, CONTEXT)[:, 0]) * codec.point / closes[-1]
    ids = codec.encode(closes[None], np.empty(0), CONTEXT)[0][0]
    every: dict[str, float] = {}

    def walk(written, state, chance):
        with torch.inference_mode():
            logits = model(torch.tensor([*ids, *written]))[-1].double().numpy()
        kept = np.flatnonzero(grammar.needs[state] == 1)
        p = np.exp(logits[grammar.ids[kept]])
        for i, share in zip(kept, p / p.sum(), strict=True):
            new = [*written, int(grammar.ids[i])]
            if grammar.ends[state, i]:
                text = codec.text_of(np.array(new))
                every[text] = every.get(text, 0.0) + chance * share
            else:
                walk(new, grammar.following[state, i], chance * share)

    walk([], 0, 1.0)
    assert sum(every.values()) == pytest.approx(1, abs=1e-9)
    assert len(every) == 99
    all_cuts = np.array([every[f" {price:.1f}"] for price in y[:, 0]])
    assert (own <= all_cuts * (1 + 1e-5)).all()
    assert 0.2 < own.sum() < 1


def test_equal_characters_by_hand(characters):
    """A space, one of nine digits or 0, the point, then decimals: 1/10 for the first digit, 1/10 each after it."""
    closes = np.round(past(characters.warm_up, 0.1, level=5.0), 2)
    y = np.array([[5.25, 0.07]])
    scores = log_scores(equal(12), characters, inputs_of(closes, 1, 2), y, CONTEXT)
    thousandth = math.log(1 / 1000)
    by_hand = [
        thousandth - math.log(0.01 / closes[-1]),
        math.log(1 / 10 * 1 / 10 * 1 / 9) - math.log(0.01 / 5.25),
    ]
    assert scores[0] == pytest.approx(by_hand, rel=1e-12)


def follows(masses, seen, vocabulary):
    """A model that gives the next close the `masses` {its tokens: probability}, after `seen` tokens of context."""
    ways: dict[tuple[int, ...], dict[int, float]] = {}
    for word, mass in masses.items():
        for i, token in enumerate(word):
            nexts = ways.setdefault(word[:i], {})
            nexts[token] = nexts.get(token, 0.0) + mass

    def logits(ids):
        result = torch.full((len(ids), vocabulary), -1e9, dtype=torch.float64)
        for place in range(seen - 1, len(ids)):
            for token, mass in ways.get(tuple(ids[seen : place + 1].tolist()), {0: 1.0}).items():
                result[place, token] = math.log(max(mass, 1e-300))
        return result

    return logits


def test_the_three_codecs_agree_on_one_density(characters):
    """A normal density of the next return, cut into each codec's cells, scores each close as the normal itself does."""
    bins = BinsCodec(bins=255, half_lives=(3.0,), weights=(1.0,))
    digits = DigitsCodec(digits=4, length=7, half_lives=(3.0,), weights=(1.0,))
    text = TextCodec.from_dict(characters.as_dict() | {"digits": 4})
    closes = np.round(past(bins.warm_up, 0.01, level=5.0), 4)
    inputs = inputs_of(closes, 1)

    def below(price):
        return stats.norm.cdf(price / closes[-1] - 1, scale=0.008)

    sigma = bins.encode(inputs.closes, inputs.times, CONTEXT)[1].volatility.sigma(bins.scale)[0]
    edges = np.concatenate([[0], below(closes[-1] * (1 + sigma * bins.edges)), [1]])
    of_bins = {(i,): mass for i, mass in enumerate(np.diff(edges))}

    _, state = digits.encode(inputs.closes, inputs.times, CONTEXT)
    bounds = state.anchor * (1 + (np.arange(10_001) - digits.unchanged - 0.5) * state.cell)
    of_digits = {tuple(map(int, f"{n:04d}")): mass for n, mass in enumerate(np.diff(below(bounds)))}

    units = np.arange(round(closes[-1] * 9_300), round(closes[-1] * 10_700))
    masses = below((units + 0.5) / 10_000) - below((units - 0.5) / 10_000)
    of_text = {tuple(text.tokenize(f" {u / 10_000:.4f}")): mass for u, mass in zip(units.tolist(), masses, strict=True)}

    for change in (-0.011, -0.002, 0.0035, 0.009):
        y = np.array([[round(closes[-1] * (1 + change), 4)]])
        wanted = stats.norm.logpdf(y[0, 0] / closes[-1] - 1, scale=0.008)
        for codec, model in [
            (bins, follows(of_bins, CONTEXT, 255)),
            (digits, follows(of_digits, CONTEXT * 4, 10)),
            (text, follows(of_text, CONTEXT * 7, 12)),
        ]:
            score = log_scores(model, codec, inputs, y, CONTEXT)[0, 0]
            assert score == pytest.approx(wanted, abs=0.03), type(codec).__name__


def test_summary_hides_nothing():
    result = summary(np.array([[1.0, -np.inf], [3.0, np.nan]]))
    assert (result.mean, result.outside, result.closes) == (2.0, pytest.approx(1 / 3), 3)


def test_closes_not_yet_known_are_refused(characters):
    closes = np.round(past(characters.warm_up, 0.1, level=5.0), 2)
    with pytest.raises(ConfigError, match="not yet known"):
        log_scores(equal(12), characters, inputs_of(closes, 1), np.array([[np.nan]]), CONTEXT)
