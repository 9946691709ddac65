"""Windows as rows of tokens to train on: context and targets together, and which of them are targets.

Texts differ in length. Their rows are cut at the left as a forecast cuts its context, so that training sees positions
as forecasting does, and filled up at the right with `PADDING`, which cross-entropy leaves out of every mean.
"""

import numpy as np

from forecasting.codecs import AnyCodec, TextCodec

PADDING = -100
"""No token; the index that torch's cross-entropy ignores."""


def rows_of(
    codec: AnyCodec, closes: np.ndarray, times: np.ndarray, context: int, horizon: int, positions: int
) -> tuple[list[np.ndarray], list[int]]:
    """Tokens of N windows, and how many at the beginning of each are context, input only.

    closes, times [N, M + C + H]; positions: those of the model, which reads all tokens of a row but the last.
    """
    ids, _ = codec.encode(closes, times, context + horizon)
    if not isinstance(codec, TextCodec):
        return list(ids), [codec.most_tokens(context)] * len(ids)
    past, _ = codec.encode(closes[:, :-horizon], times[:, :-horizon], context)
    room = positions - codec.most_tokens(horizon) + 1
    kept = [codec.fit(row, room) for row in past]
    rows = [np.concatenate([c, row[len(p) :]]) for c, p, row in zip(kept, past, ids, strict=True)]
    return rows, [len(row) for row in kept]


def padded(rows: list[np.ndarray]) -> np.ndarray:
    """Rows as one array, int64 [N, longest], PADDING after the shorter ones."""
    table = np.full((len(rows), max(map(len, rows))), PADDING, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table
