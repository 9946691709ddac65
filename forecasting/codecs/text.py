"""Closes as the text a person would write, ` 1.0842 1.0851`, in the tokens of GPT-2: the way of the first experiments.

Nothing is scaled, so a pretrained language model meets closes as it met numbers in its corpus, and every instrument
needs a fixed number of decimals only. The price of the format is tokens without equal meaning: a close is three to five
of them, cut where the tokenizer's merges happen to cut, and small moves change tokens that carry no nearness.

Each close is written with the space *before* it, the first one too. GPT-2 keeps a leading space with the word it
begins, so a close has the same tokens wherever it stands, a text is the sum of its closes' tokens, and it can be
shortened by whole closes.

The codec carries the part of the tokenizer that can write numbers, about 1,700 of GPT-2's 50,257 tokens and their
merges; merging among those gives what the whole tokenizer gives, as no other token is a part of a number.
"""

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.codecs.bins import returns_of
from forecasting.codecs.codec import Scaled, check_closes, plain_settings
from forecasting.codecs.grammar import Grammar, decimal_automaton, lift
from forecasting.errors import CheckpointError, ConfigError, DataError
from forecasting.files import reading
from forecasting.scale import Volatility, causal_sigma

SPACE = "Ġ"
"""The space in vocab.json and merges.txt, which write bytes as printable characters."""

_WORDS = re.compile(r" ?[0-9]+| ?\.| ")
_PIECE = re.compile(r"(?!.*( [ .]|\.[ .]))[0-9. ]+")

MOST_DIGITS = 15
"""Decimal digits that a double always keeps."""

CURE = "give GPT-2's vocab.json and merges.txt, or files of that form"


@dataclass(frozen=True)
class TextState:
    """What a forecast needs beside tokens: last close and volatility state of N windows, [N] each."""

    close: np.ndarray
    volatility: Volatility


@dataclass(frozen=True)
class TextCodec(Scaled):
    """Settings of the codec; they travel with the checkpoint.

    digits: decimals of a close, D; a close is rounded to them. integer_digits: most digits before the point.
    half_lives, weights, power, dof, floor: of the volatility (`scale.Scale`), which is reported and never changes a
    token. vocabulary: number of tokens of the whole tokenizer. pieces: text of those that can be part of a number, and
    ids their numbers. merges: pairs of pieces that are joined, first come first.
    """

    digits: int
    vocabulary: int
    pieces: tuple[str, ...]
    ids: tuple[int, ...]
    merges: tuple[tuple[str, str], ...]
    integer_digits: int = 7
    half_lives: tuple[float, ...] = (10.0, 80.0)
    weights: tuple[float, ...] = (0.7, 0.3)
    power: float = 1.5
    dof: float = 7.0
    floor: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 <= self.digits <= 12:
            raise ConfigError(f"codec.digits is {self.digits}; give 0 to 12 decimals")
        if not 1 <= self.integer_digits <= 12:
            raise ConfigError(f"codec.integer_digits is {self.integer_digits}; give 1 to 12 digits before the point")
        if self.digits + self.integer_digits > MOST_DIGITS:
            raise ConfigError(
                f"codec.digits {self.digits} and codec.integer_digits {self.integer_digits} make more digits than a "
                f"price of double precision has; give at most {MOST_DIGITS} in all"
            )
        self.scale.shares(1)

    @staticmethod
    def of_tokenizer(vocabulary: Path, merges: Path, digits: int) -> "TextCodec":
        """The codec of a GPT-2 tokenizer, from its vocab.json and merges.txt; CheckpointError where unreadable."""
        with reading(vocabulary, CURE):
            ids: dict[str, int] = json.loads(vocabulary.read_text(encoding="utf-8"))
            pieces = {text: i for token, i in ids.items() if _PIECE.fullmatch(text := token.replace(SPACE, " "))}
        with reading(merges, CURE):
            lines = merges.read_text(encoding="utf-8").splitlines()
            joined = [_pair(line) for line in lines if line and not line.startswith("#version")]
            kept = tuple(pair for pair in joined if pair[0] + pair[1] in pieces)
            made = {left + right for left, right in kept}
            if lost := [text for text in pieces if len(text) > 1 and text not in made]:
                raise ValueError(
                    f"it makes no {lost[0]!r}, which {vocabulary.name} has: cut short, or another tokenizer's"
                )
        pieces = dict(sorted(pieces.items(), key=lambda item: item[1]))
        return TextCodec(digits, max(ids.values()) + 1, tuple(pieces), tuple(pieces.values()), kept)

    def with_closes(self, closes: np.ndarray) -> "TextCodec":
        """The codec with room for a digit more before the point than these closes have; training part only, [T]."""
        most = len(f"{float(np.max(closes)):.{self.digits}f}".split(".")[0])
        return replace(self, integer_digits=min(most + 1, MOST_DIGITS - self.digits))

    @property
    def cuts(self) -> bool:
        """The oldest closes of a context may be left out."""
        return True

    @property
    def point(self) -> float:
        """Price of one unit of the last decimal."""
        return float(10.0**-self.digits)

    @cached_property
    def grammar(self) -> Grammar:
        """Positive closes of at most `integer_digits`, a point and `digits`, over the tokenizer's pieces."""
        most = 1 + self.integer_digits + (1 + self.digits if self.digits else 0)
        automaton = decimal_automaton(self.integer_digits, self.digits)
        return lift(automaton, dict(zip(self.pieces, self.ids, strict=True)), most, open_ended=self.digits == 0)

    @property
    def draws(self) -> int:
        """Uniform numbers that a close is drawn from: one for each token, whose order says nothing of prices."""
        return self.grammar.most

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return dict(zip(self.pieces, self.ids, strict=True))

    @cached_property
    def _piece_of(self) -> dict[int, str]:
        return dict(zip(self.ids, self.pieces, strict=True))

    @cached_property
    def _rank_of(self) -> dict[tuple[str, str], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _known_words(self) -> dict[str, tuple[int, ...]]:
        return {}

    def write(self, closes: np.ndarray) -> list[str]:
        """Text of each close, a space before it; closes [T]. DataError where one cannot be written."""
        texts = [f"{close:.{self.digits}f}" for close in closes.tolist()]
        for close, text in zip(closes.tolist(), texts, strict=True):
            if len(text.split(".")[0]) > self.integer_digits:
                raise DataError(
                    f"close {close:g} has more than codec.integer_digits {self.integer_digits} before the point; "
                    f"give more"
                )
            if float(text) == 0:
                raise DataError(f"close {close:g} is {text} with codec.digits {self.digits}; give more decimals")
        return [f" {text}" for text in texts]

    def tokenize(self, text: str) -> list[int]:
        """The tokenizer's ids of a text of closes: words apart, then merges within each (Sennrich 2016)."""
        ids: list[int] = []
        for word in _WORDS.findall(text):
            if word not in self._known_words:
                self._known_words[word] = tuple(self._id_of[piece] for piece in self._merged(word))
            ids += self._known_words[word]
        return ids

    def _merged(self, word: str) -> list[str]:
        pieces = list(word)
        while len(pieces) > 1:
            ranks = [self._rank_of.get(pair, len(self.merges)) for pair in pairwise(pieces)]
            best = min(ranks)
            if best == len(self.merges):
                break
            left, right = self.merges[best]
            joined: list[str] = []
            for piece in pieces:
                if joined and joined[-1] == left and piece == right:
                    joined[-1] = left + right
                else:
                    joined.append(piece)
            pieces = joined
        return pieces

    def encode(self, closes: np.ndarray, times: np.ndarray, tokens: int) -> tuple[list[np.ndarray], TextState]:
        """Tokens of the last `tokens` closes of each window, as many as their text takes.

        closes [N, T] float64, T > tokens; `times` play no part. Gives (N arrays of ids int64, state after the last
        close).
        """
        check_closes(closes)
        if closes.shape[1] <= tokens:
            raise ConfigError(f"{closes.shape[1]} closes in a window of {tokens}: volatility needs some before them")
        _, volatility = causal_sigma(returns_of(np.ascontiguousarray(closes)), self.scale)
        ids = [
            np.array([i for text in self.write(row) for i in self.tokenize(text)], dtype=np.int64)
            for row in closes[:, -tokens:]
        ]
        return ids, TextState(np.ascontiguousarray(closes[:, -1]), volatility)

    def text_of(self, ids: np.ndarray) -> str:
        """Text of tokens, [L]."""
        unknown = set(ids.tolist()) - self._piece_of.keys()
        if unknown:
            raise ConfigError(f"token {min(unknown)} is no part of a number; give tokens that this codec wrote")
        return "".join(self._piece_of[i] for i in ids.tolist())

    def decode(self, ids: list[np.ndarray], state: TextState, times: np.ndarray) -> np.ndarray:
        """Closes that the tokens write, [N, H]; N arrays of ids, times [N, H] of those bars.

        Without decimals the close after the last may have begun, as that is what ends the last; it is left out.
        """
        horizon = times.shape[1]
        closes = np.empty((len(ids), horizon))
        for row, tokens in zip(closes, ids, strict=True):
            numbers = self.text_of(tokens).split(" ")[1 : 1 + horizon]
            if len(numbers) < horizon:
                raise ConfigError(f"{len(numbers)} closes in a text of {horizon}: {self.text_of(tokens)!r}")
            row[:] = [float(number) for number in numbers]
        return closes

    def closes_of(self, ids: list[np.ndarray], parts: np.ndarray, state: TextState) -> np.ndarray:
        """Closes that the tokens write, [S, H]: on the grid of points, so `parts` [S, H] serve for their shape only."""
        return self.decode(ids, state, parts)

    def fit(self, ids: np.ndarray, room: int) -> np.ndarray:
        """The last of one window's ids [L] that fit `room` positions and begin with a close."""
        begins = np.flatnonzero([self._piece_of[i].startswith(" ") for i in ids.tolist()])
        fitting = begins[begins >= len(ids) - room]
        if not len(fitting):
            raise ConfigError(
                f"the model has {max(room, 0)} positions beside its forecast, too few for one close as text; "
                f"shorten windows.horizon or codec.integer_digits"
            )
        return ids[fitting[0] :]

    def most_tokens(self, closes: int) -> int:
        """Tokens of the longest text of so many closes: every character by itself, and one that ends the last."""
        return closes * self.grammar.most + (self.digits == 0)

    def check_windows(self, context: int, horizon: int) -> None:
        """Any window can be written; see `fit` for one that does not fit the model."""

    def as_dict(self) -> dict[str, Any]:
        """Plain settings for `codec.json`; `pieces` map text to ids, merges are lists of two texts."""
        return {
            "kind": "text",
            "digits": self.digits,
            "integer_digits": self.integer_digits,
            "half_lives": self.half_lives,
            "weights": self.weights,
            "power": self.power,
            "dof": self.dof,
            "floor": self.floor,
            "vocabulary": self.vocabulary,
            "pieces": self._id_of,
            "merges": [list(pair) for pair in self.merges],
        }

    @staticmethod
    def from_dict(settings: dict[str, Any]) -> "TextCodec":
        """Inverse of `as_dict`; CheckpointError where the settings are of another codec."""
        if settings.get("kind") != "text":
            raise CheckpointError(f"codec.json names codec {settings.get('kind')!r}; 'text' was expected")
        values = plain_settings(settings)
        pieces = dict(sorted(values.pop("pieces").items(), key=lambda item: item[1]))
        merges = tuple((str(left), str(right)) for left, right in values.pop("merges"))
        return TextCodec(pieces=tuple(pieces), ids=tuple(pieces.values()), merges=merges, **values)


def _pair(line: str) -> tuple[str, str]:
    left, right = line.split(" ")
    return left.replace(SPACE, " "), right.replace(SPACE, " ")
