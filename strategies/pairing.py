"""Which trades of two ledgers belong together. Imports nothing of strategies but what a comment says of an exit.

Positions, trades of one side and one moment of entry, are paired first, nearest in time of entry and exit, each once;
then the trades of a pair one by one, or, where the two were closed in another number of parts, as wholes.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from strategies.differences import MINUTE, Account, Tolerances

BARS_AWAY = 3
LEAST_WINDOW = 195 * MINUTE
"""Trades this far apart may still be one, entered late or under another summer time."""

POSITION = ["direction", "entry_time"]
SAME_EXIT = [*POSITION, "entry_price", "exit_time", "exit_price", "comment"]
SUMS = ("lots", "units", "commission", "swap", "profit", "net", "count")
MEANS = ("entry_price", "exit_price", "rate", "spread")
"""Of which a whole has its parts' sum, and their mean by lots; the rest it has of the part closed last."""

Pairs = list[tuple[int, int]]


def whole(parts: pd.DataFrame) -> pd.Series:
    """Parts of a position, in order of closing, as one trade; `parts` of the result keeps them."""
    row = parts.iloc[-1].copy()
    lots = parts["lots"].to_numpy(np.float64)
    for name in SUMS:
        if name in parts:
            row[name] = parts[name].sum()
    for name in MEANS:
        if name in parts:
            row[name] = float(parts[name].to_numpy(np.float64) @ lots / lots.sum())
    row["ticket"] = "+".join(dict.fromkeys(parts["ticket"]))
    row["parts"] = tuple(part for _, part in parts.iterrows())
    return row


def merged(trades: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Trades with those that agree in `by` made wholes, each in the place of its first part."""
    several = trades.duplicated(list(by), keep=False)
    if not several.any():
        return trades
    closed = trades[several].sort_values("exit_time", kind="stable").groupby(list(by), sort=False)
    wholes = pd.DataFrame([whole(parts).rename(parts.index.min()) for _, parts in closed])
    return pd.concat([trades[~several], wholes.astype(trades.dtypes.to_dict())]).sort_index()


def paired(
    ours: pd.DataFrame, theirs: pd.DataFrame, limits: Tolerances, account: Account
) -> tuple[pd.DataFrame, pd.DataFrame, Pairs]:
    """Both ledgers, positions closed in another number of parts made wholes, and the rows that belong together."""
    ours, theirs = (_told_once(frame) for frame in (ours, theirs))
    mine, other = (_members(frame) for frame in (ours, theirs))
    pairs: Pairs = []
    for o, t in _positions(merged(ours, POSITION), merged(theirs, POSITION), limits, account):
        a, b = mine.get(o, [o]), other.get(t, [t])
        if len(a) == len(b):
            pairs += zip(_by_exit(ours, a), _by_exit(theirs, b), strict=True)
        else:
            ours, theirs = _as_whole(ours, a), _as_whole(theirs, b)
            pairs.append((o, t))
    return ours, theirs, sorted(pairs)


def nearest(ours: pd.DataFrame, theirs: pd.DataFrame, window: float, limits: Tolerances) -> Pairs:
    """Greedy pairs of one side within a window of the entry, seconds; cost: seconds apart at entry and exit, lots."""
    candidates: list[tuple[float, int, int]] = []
    for side in (1, -1):
        mine, other = (frame[frame["direction"] == side] for frame in (ours, theirs))
        order = other.sort_values("entry_time", kind="stable")
        entries, rows = seconds(order["entry_time"]), order.index.to_numpy()
        exits, lots = seconds(order["exit_time"]), order["lots"].to_numpy(np.float64)
        starts, first, last = (seconds(mine[name]) for name in ("entry_time", "earliest", "exit_time"))
        for place, row in enumerate(mine.index.tolist()):
            a = np.searchsorted(entries, starts[place] - window)
            b = np.searchsorted(entries, starts[place] + window, "right")
            apart = np.abs(entries[a:b] - starts[place]) + _outside(exits[a:b], first[place], last[place])
            other_lots = np.abs(lots[a:b] - mine["lots"].iloc[place]) > limits.lots
            costs = apart + other_lots * MINUTE
            candidates += zip(costs.tolist(), [row] * (b - a), rows[a:b].tolist(), strict=True)
    taken_ours: set[int] = set()
    taken_theirs: set[int] = set()
    pairs = []
    for _, o, t in sorted(candidates):
        if o not in taken_ours and t not in taken_theirs:
            taken_ours.add(o)
            taken_theirs.add(t)
            pairs.append((o, t))
    return pairs


def seconds(times: pd.Series) -> np.ndarray:
    """Times without zone as seconds since 1970."""
    return np.asarray(times.to_numpy("datetime64[ns]").astype(np.int64) / 1e9)


def _told_once(trades: pd.DataFrame) -> pd.DataFrame:
    """Parts closed together at one price as the one trade they are, numbers of trades in `count`."""
    once = merged(trades.assign(count=1), SAME_EXIT)
    return once.assign(parts=[()] * len(once))


def _positions(ours: pd.DataFrame, theirs: pd.DataFrame, limits: Tolerances, account: Account) -> Pairs:
    """First within the tolerance, then farther away."""
    wide = max(BARS_AWAY * account.minutes * MINUTE, LEAST_WINDOW)
    near = nearest(ours, theirs, limits.minutes * MINUTE, limits)
    rest_ours = ours.drop([o for o, _ in near])
    rest_theirs = theirs.drop([t for _, t in near])
    return sorted([*near, *nearest(rest_ours, rest_theirs, wide, limits)])


def _members(trades: pd.DataFrame) -> dict[int, list[int]]:
    """Rows of the positions that have several, by their first."""
    several = trades[trades.duplicated(POSITION, keep=False)]
    rows = (part.index.tolist() for _, part in several.groupby(POSITION, sort=False))
    return {min(each): each for each in rows}


def _by_exit(trades: pd.DataFrame, rows: list[int]) -> list[int]:
    return trades.loc[rows, "exit_time"].sort_values(kind="stable").index.tolist() if len(rows) > 1 else rows


def _as_whole(trades: pd.DataFrame, rows: list[int]) -> pd.DataFrame:
    return trades if len(rows) == 1 else pd.concat([trades.drop(rows), merged(trades.loc[rows], POSITION)])


def _outside(times: np.ndarray, first: float, last: float) -> np.ndarray:
    return np.maximum(np.maximum(first - times, times - last), 0.0)
