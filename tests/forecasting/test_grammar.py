"""The machine over characters against an enumeration of closes, and over tokens against the characters."""

from itertools import product

import numpy as np
import pytest

from forecasting.codecs.grammar import FORBIDDEN, decimal_automaton, fixed_digits, lift
from forecasting.errors import ConfigError

CHARACTERS = {c: i for i, c in enumerate(" .0123456789")}


def closes_in_text(integer_digits, digits, alphabet):
    """Every positive close that can be written with these digits, by going through all numbers."""
    found = []
    for n in range(1, integer_digits + 1):
        for whole in map("".join, product(alphabet, repeat=n)):
            for part in map("".join, product(alphabet, repeat=digits)):
                text = f" {whole}.{part}" if digits else f" {whole}"
                if float(text) > 0 and text == (f" {float(text):.{digits}f}"):
                    found.append(text)
    return found


@pytest.mark.parametrize(("integer_digits", "digits"), [(1, 1), (2, 2), (2, 0), (3, 1)])
def test_the_automaton_takes_prefixes_of_closes_and_nothing_else(integer_digits, digits):
    automaton = decimal_automaton(integer_digits, digits)
    closes = closes_in_text(integer_digits, digits, "01")
    pairs = ["".join(pair) for pair in product(closes, repeat=2)]
    prefixes = {text[:n] for text in [*closes, *pairs] for n in range(len(text) + 1)}
    for length in range(7):
        for text in map("".join, product(" .01", repeat=length)):
            if text.count(" ") <= 2:
                assert (automaton.run(0, text) is not None) == (text in prefixes), text
    for text in closes:
        assert automaton.run(0, text)[1:] == ((1, False) if digits else (0, True))
    for text in pairs:
        assert automaton.run(0, text)[1] == (2 if digits else 1)


def test_a_token_that_spans_closes_is_not_for_the_last_one():
    pieces = CHARACTERS | {"5 1": 12, "5 1.5": 13, "..": 14, " 1.": 15}
    grammar = lift(decimal_automaton(1, 1), pieces, 4, open_ended=False)
    column = {name: i for i, name in enumerate(grammar.ids.tolist())}
    assert 14 not in column
    state = grammar.following[0, column[15]]
    assert grammar.needs[state, column[5 + 2]] == 1
    assert grammar.needs[state, column[12]] == 2
    assert grammar.ends[state, column[12]] == 1
    assert grammar.needs[state, column[13]] == 2
    assert grammar.ends[state, column[13]] == 2
    assert grammar.needs[0, column[12]] == FORBIDDEN


@pytest.mark.parametrize("missing", [" ", ".", "7", "0"])
def test_a_tokenizer_that_cannot_write_every_number_is_refused_or_writes_those_it_can(missing):
    pieces = {piece: i for piece, i in CHARACTERS.items() if piece != missing}
    if missing in " .":
        with pytest.raises(ConfigError, match="cannot write every number"):
            lift(decimal_automaton(2, 2), pieces, 6, open_ended=False)
    else:
        assert lift(decimal_automaton(2, 2), pieces, 6, open_ended=False).needs.shape[1] == 11


def test_no_state_is_a_dead_end_and_every_token_makes_progress():
    for integer_digits, digits in [(1, 0), (4, 0), (1, 5), (7, 5)]:
        grammar = lift(decimal_automaton(integer_digits, digits), CHARACTERS, 0, open_ended=digits == 0)
        rank = {0: 0}
        frontier = [0]
        while frontier:  # longest way from the start to the end of one close must be finite: no cycle before an end
            state = frontier.pop()
            assert (grammar.needs[state] == 1).any()
            for token in np.flatnonzero(grammar.needs[state] == 1):
                following = int(grammar.following[state, token])
                if not grammar.ends[state, token] and rank.get(following, -1) < rank[state] + 1:
                    rank[following] = rank[state] + 1
                    assert rank[following] <= 2 + integer_digits + digits
                    frontier.append(following)


def test_fixed_digits_come_round():
    grammar = fixed_digits(3)
    assert grammar.following[:, 0].tolist() == [1, 2, 0]
    assert grammar.ends[:, 9].tolist() == [0, 0, 1]
    assert (grammar.needs == 1).all()
