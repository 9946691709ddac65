"""Which token may come next when closes are spelled: a machine over the pieces of numbers, built from the tokenizer.

The grammar is written for characters, where it is obvious, and lifted to tokens by feeding each token's text through
it: from every state a token either leads to one other state or is forbidden. Sampling masks what is forbidden, so a
sample that does not parse cannot be drawn, whatever the model prefers. A masked softmax renormalises at every token;
what it costs is the mass a model gives to text that is no number.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from forecasting.errors import ConfigError

FORBIDDEN = 127
"""Entry of `Grammar.needs` that no number of closes still to be written satisfies."""

Step = tuple[int, bool]
"""Next state, and whether the character ended a close."""


@dataclass(frozen=True)
class Automaton:
    """Characters of closes: `moves[state]` maps a character to its step; what it lacks is forbidden. 0 is the start."""

    moves: tuple[dict[str, Step], ...]

    def run(self, state: int, text: str) -> tuple[int, int, bool] | None:
        """(next state, closes ended, whether text goes on after the last end); None where the text is forbidden."""
        ended, beyond = 0, False
        for character in text:
            step = self.moves[state].get(character)
            if step is None:
                return None
            state, ends = step
            ended, beyond = ended + ends, not ends
        return state, ended, beyond


def decimal_automaton(integer_digits: int, digits: int) -> Automaton:
    """Closes as text, each ` ?[1-9][0-9]*` or ` 0`, of at most `integer_digits`, then a point and exactly `digits`.

    The space before a close belongs to it. Zero is no price, so the last decimal of a close that is nothing but zeros
    so far must be 1 to 9. With `digits` > 0 a close ends at its last decimal; with `digits` 0 there is no point, and it
    ends where the next one's space is seen.
    """
    space, first = 0, 1
    integer = {n: first + n for n in range(1, integer_digits + 1)}
    zero = first + integer_digits + 1
    fraction = {(n, some): zero + 1 + 2 * n + some for n in range(digits) for some in (False, True)}
    moves: list[dict[str, Step]] = [{} for _ in range(zero + 1 + 2 * digits if digits else zero)]
    moves[space][" "] = (first, False)
    moves[first] = dict.fromkeys("123456789", (integer[1], False))
    for n, state in integer.items():
        if n < integer_digits:
            moves[state] |= dict.fromkeys("0123456789", (integer[n + 1], False))
        if digits:
            moves[state]["."] = (fraction[0, True], False)
        else:
            moves[state][" "] = (first, True)
    if digits:
        moves[first]["0"] = (zero, False)
        moves[zero]["."] = (fraction[0, False], False)
    for (n, some), state in fraction.items():
        for d in "0123456789":
            positive = some or d != "0"
            if n + 1 < digits:
                moves[state][d] = (fraction[n + 1, positive], False)
            elif positive:
                moves[state][d] = (space, True)
    return Automaton(tuple(moves))


@dataclass(frozen=True, eq=False)
class Grammar:
    """The machine over tokens: G states, A tokens that can occur at all.

    ids int64 [A]: the model's number of each token. needs int8 [G, A]: least number of closes still to be written for
    the token to be allowed, FORBIDDEN where it never is. following int64 [G, A]: state after it. ends int64 [G, A]:
    closes it ends. most: tokens of the longest close. State 0 is the start.
    """

    ids: np.ndarray
    needs: np.ndarray
    following: np.ndarray
    ends: np.ndarray
    most: int

    def __post_init__(self) -> None:
        if not (self.needs <= 1).any(axis=1).all():
            raise ConfigError(
                "the tokenizer cannot write every number: in some place none of its tokens may follow; "
                "use one that has each digit, the point and the space as tokens of their own"
            )

    @cached_property
    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """needs, following and ends as tensors."""
        return torch.from_numpy(self.needs), torch.from_numpy(self.following), torch.from_numpy(self.ends)


def lift(automaton: Automaton, pieces: dict[str, int], most: int, open_ended: bool) -> Grammar:
    """The automaton over tokens; `pieces` maps the text of a token to its id, those never allowed are dropped.

    A token may end one close and begin the next, but what is drawn must end with the last close, so there it may not
    reach beyond. `open_ended`: a close ends only where the next one's space is seen, so there it must.
    """
    states = range(len(automaton.moves))
    steps = {piece: [automaton.run(state, piece) for state in states] for piece in pieces if piece}
    kept = [piece for piece, ways in steps.items() if any(ways)]
    shape = (len(states), len(kept))
    needs, following, ends = np.full(shape, FORBIDDEN, dtype=np.int8), np.zeros(shape, int), np.zeros(shape, int)
    for column, piece in enumerate(kept):
        for state, step in enumerate(steps[piece]):
            if step is not None:
                following[state, column], ends[state, column], beyond = step
                needs[state, column] = max(1, step[1] + (beyond and not open_ended))
    return Grammar(np.array([pieces[piece] for piece in kept], dtype=np.int64), needs, following, ends, most)


def fixed_digits(digits: int) -> Grammar:
    """Closes of exactly `digits` tokens 0 to 9, without separators: the state is the place within the close."""
    place = np.arange(digits)[:, None]
    shape = (digits, 10)
    return Grammar(
        ids=np.arange(10, dtype=np.int64),
        needs=np.ones(shape, dtype=np.int8),
        following=np.broadcast_to((place + 1) % digits, shape).astype(np.int64),
        ends=np.broadcast_to(place == digits - 1, shape).astype(np.int64),
        most=digits,
    )
