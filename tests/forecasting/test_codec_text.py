"""Closes as text: tokens against the `tokenizers` library, round trips, what cannot be written."""

import json

import numpy as np
import pytest

from forecasting.codecs.text import TextCodec
from forecasting.errors import CheckpointError, ConfigError, DataError

pytest_plugins = ["number_tokenizers"]


@pytest.fixture
def codec_of(tokenizer_folder):
    def make(decimals, **settings):
        plain = TextCodec.of_tokenizer(tokenizer_folder / "vocab.json", tokenizer_folder / "merges.txt", decimals)
        return TextCodec.from_dict(plain.as_dict() | settings)

    return make


def closes_of(digits, count=300, seed=1):
    return np.maximum(10 ** np.random.default_rng(seed).normal(0.5, 1.2, count), 10.0**-digits)


@pytest.mark.parametrize("digits", [0, 1, 2, 3, 4, 5, 8])
def test_tokens_are_those_of_the_tokenizers_library(codec_of, tokenizer, digits):
    codec, closes = codec_of(digits), closes_of(digits)
    ids, _ = codec.encode(np.concatenate([[1.0], closes])[None], np.empty(0), len(closes))
    text = "".join(f" {close:.{digits}f}" for close in closes)
    assert ids[0].tolist() == tokenizer.encode(text).ids
    assert codec.text_of(ids[0]) == text


def test_merges_are_used(codec_of):
    codec = codec_of(4)
    text = "".join(codec.write(closes_of(4)))
    assert len(codec.tokenize(text)) < 0.8 * len(text)


@pytest.mark.parametrize("digits", [0, 2, 5])
def test_round_trip(codec_of, digits):
    closes = closes_of(digits).reshape(3, 100)
    ids, state = codec_of(digits).encode(np.concatenate([closes[:, :1], closes], axis=1), np.empty(0), 100)
    back = codec_of(digits).decode(ids, state, np.empty((3, 100)))
    assert (back == [[float(f"{close:.{digits}f}") for close in row] for row in closes]).all()
    assert state.close.tolist() == closes[:, -1].tolist()


def test_settings_survive_json(codec_of):
    codec = codec_of(5, integer_digits=3)
    again = TextCodec.from_dict(json.loads(json.dumps(codec.as_dict(), sort_keys=True)))
    assert again == codec
    assert repr(again) == repr(codec)
    with pytest.raises(CheckpointError, match="names codec 'digits'"):
        TextCodec.from_dict({"kind": "digits"})


def test_a_context_is_cut_to_whole_closes(codec_of):
    codec = codec_of(4)
    closes = np.array([1.0, 1.2345, 1.2346, 0.9871, 1.5])
    ids = codec.encode(closes[None], np.empty(0), 4)[0][0]
    lengths = [len(codec.tokenize(text)) for text in codec.write(closes[1:])]
    assert codec.fit(ids, len(ids)).tolist() == ids.tolist()
    for room in range(lengths[-1], len(ids) + 1):
        cut = codec.fit(ids, room)
        kept = codec.text_of(cut).split()
        assert codec.text_of(cut).startswith(" ")
        assert kept == codec.text_of(ids).split()[-len(kept) :]
        assert room - len(cut) < (lengths[-len(kept) - 1] if len(kept) < 4 else 1)
    with pytest.raises(ConfigError, match="too few for one close"):
        codec.fit(ids, lengths[-1] - 1)


def test_what_cannot_be_written_is_refused(codec_of):
    codec = codec_of(5, integer_digits=3)
    for close, message in [(1e-6, "is 0.00000 with codec.digits 5"), (1e6, "codec.integer_digits 3")]:
        with pytest.raises(DataError, match=message):
            codec.encode(np.array([[1.0, close]]), np.empty(0), 1)
    for close in (np.nan, np.inf, 0.0, -1.0):
        with pytest.raises(DataError, match="positive and finite"):
            codec.encode(np.array([[1.0, close]]), np.empty(0), 1)
    with pytest.raises(ConfigError, match="1 closes in a text of 2"):
        codec.decode([np.array(codec.tokenize(" 1.00000"))], None, np.empty((1, 2)))
    with pytest.raises(ConfigError, match="no part of a number"):
        codec.text_of(np.array([10**6]))


def test_very_small_and_very_large_closes_with_decimals_to_match(codec_of):
    for digits, integer_digits, close in [(8, 2, 1e-6), (2, 8, 1e6)]:
        codec = codec_of(digits, integer_digits=integer_digits)
        ids, state = codec.encode(np.array([[close, close]]), np.empty(0), 1)
        assert codec.decode(ids, state, np.empty((1, 1))).tolist() == [[close]]


def test_room_before_the_point_is_a_digit_more_than_the_training_part_has(codec_of):
    assert codec_of(4).with_closes(np.array([1.2, 99.99999])).integer_digits == 4  # written as 100.0000
    assert codec_of(4).with_closes(np.array([1.2, 0.5])).integer_digits == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"digits": 13}, "codec.digits"),
        ({"integer_digits": 0}, "codec.integer_digits"),
        ({"digits": 8, "integer_digits": 8}, "at most 15 in all"),
        ({"half_lives": (0.0,), "weights": (1.0,)}, "codec.half_lives"),
        ({"floor": 0.0}, "codec.floor"),
    ],
)
def test_bad_settings_are_refused(codec_of, settings, message):
    with pytest.raises(ConfigError, match=message):
        codec_of(4, **settings)


def test_unreadable_tokenizer_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"vocab\.json is missing; give GPT-2's"):
        TextCodec.of_tokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt", 4)
    (tmp_path / "vocab.json").write_text('{"1": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n1 2 3\n")
    with pytest.raises(CheckpointError, match=r"merges\.txt cannot be read"):
        TextCodec.of_tokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt", 4)


def test_a_tokenizer_cut_short_is_refused(tokenizer_folder, tmp_path):
    lines = (tokenizer_folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "merges.txt").write_text("\n".join(lines[: len(lines) // 2]), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"merges.txt.*makes no .*which vocab.json has"):
        TextCodec.of_tokenizer(tokenizer_folder / "vocab.json", tmp_path / "merges.txt", 4)
