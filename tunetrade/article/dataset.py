"""The articles' data set: 2,500 closes, stride-1 windows of 60, as text; and what its shape does to a test."""

from dataclasses import dataclass, replace

import numpy as np

from forecasting.bars import Bars
from forecasting.codecs import TextCodec
from forecasting.errors import DataError
from tunetrade.article.published import CLOSES, HELD_BACK, PROMPT, WINDOW

TRAINED_SHARE = 0.8
"""Of the closes, for the repaired split; what comes after them is the test part."""

AHEAD = WINDOW - PROMPT
"""Closes of a window after the prompt."""


@dataclass(frozen=True)
class Dataset:
    """The last closes of a series, rounded to its decimals as the articles' text has them; positions count from 0."""

    bars: Bars

    @property
    def closes(self) -> np.ndarray:
        """Closes, float64 [T]."""
        return self.bars.closes

    @property
    def rows(self) -> np.ndarray:
        """Every window of 60 closes, a bar apart, [T - 59, 60]."""
        return np.lib.stride_tricks.sliding_window_view(self.closes, WINDOW)

    @property
    def published_rows(self) -> np.ndarray:
        """What the articles train on: all rows but the last 10."""
        return self.rows[:-HELD_BACK]

    @property
    def trained_closes(self) -> int:
        """Closes before the repaired test part."""
        return int(TRAINED_SHARE * len(self.closes))

    @property
    def clean_rows(self) -> np.ndarray:
        """Windows that end before the repaired test part."""
        return self.rows[: self.trained_closes - WINDOW + 1]

    @property
    def origins(self) -> np.ndarray:
        """Last prompt closes of windows inside the repaired test part, whose forecasts do not overlap: 20 bars apart.

        The articles' own window, the last of the series, is not among them.
        """
        return np.arange(self.trained_closes + PROMPT - 1, len(self.closes) - AHEAD, 20)

    @property
    def last(self) -> int:
        """The last prompt close of the articles' test row, which is the last row."""
        return len(self.closes) - AHEAD - 1

    def window(self, origin: int) -> np.ndarray:
        """The 60 closes around a prompt that ends at `origin`."""
        return self.closes[origin - PROMPT + 1 : origin + AHEAD + 1]


def dataset(bars: Bars, closes: int = CLOSES) -> Dataset:
    """The last `closes` bars; DataError where the series has fewer."""
    if len(bars) < closes:
        raise DataError(
            f"{bars.instrument.source} has {len(bars)} bars, the articles' data set {closes}; use a longer one"
        )
    frame = bars.frame.iloc[-closes:].round(dict.fromkeys(("open", "high", "low", "close"), bars.instrument.digits))
    return Dataset(replace(bars, frame=frame))


def shared_closes(rows: int, window: int, held_back: int) -> int:
    """How many closes of the last of `rows` stride-1 windows are in a training row too, when the last few are kept out.

    >>> shared_closes(2441, 60, 10)
    50
    """
    last_trained = rows - held_back - 1 + window - 1
    return max(0, last_trained - (rows - 1) + 1)


def tokens_of(codec: TextCodec, closes: np.ndarray) -> np.ndarray:
    """Tokens of closes written one after the other, int64 [L]."""
    return np.array([token for text in codec.write(closes) for token in codec.tokenize(text)], dtype=np.int64)


def blocks(codec: TextCodec, rows: np.ndarray, size: int) -> np.ndarray:
    """The text of all rows cut into blocks of `size` tokens, int64 [N, size]; the rest is dropped, as in the articles.

    Where the articles have the end of a line, a row here simply follows the one before.
    """
    stream = np.concatenate([tokens_of(codec, row) for row in rows])
    return stream[: len(stream) // size * size].reshape(-1, size)
