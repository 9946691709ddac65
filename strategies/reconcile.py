"""Our trades beside those of a MetaTrader report: which belong together, and why they differ, in a trader's words.

Every difference of what `strategies.pairing` puts together has its part of the money, and the parts add up to the
whole: net profit there less net profit here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from forecasting.errors import DataError
from forecasting.zones import rule_to_utc
from strategies.deals import OPEN_COLUMNS, closed_trades, hedging_deals
from strategies.differences import KINDS, MINUTE, Account, Difference, Tolerances, Words, hours_text
from strategies.exports import Export, number
from strategies.pairing import POSITION, Pairs, nearest, paired, seconds
from strategies.tester import AT_OPEN, fill_times

MOST_SHIFT = 14 * 60 * MINUTE
HALF_HOUR = 30 * MINUTE
LEAST_VOTES = 2
"""One or two trades that came late say nothing of a clock."""

LEAST_MOVE = 0.1
"""Points a price has to move before its money tells a rate: less is the rounding of its digits."""


@dataclass(frozen=True)
class Reconciliation:
    """Outcome. matched: our trades with a counterpart; equal: those without a difference; notes: such as of a clock."""

    ours: int
    theirs: int
    matched: int
    equal: int
    ours_net: float
    theirs_net: float
    differences: Sequence[Difference]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def same(self) -> bool:
        """Whether nothing differs beyond the tolerances."""
        return not self.differences

    @property
    def money(self) -> dict[str, float]:
        """Money by kind, only those that occur; below the tolerances: "rounding". Adds up to theirs_net - ours_net."""
        found = {kind: sum(d.money for d in self.differences if d.kind == kind) for kind in KINDS}
        present = {kind: value for kind, value in found.items() if any(d.kind == kind for d in self.differences)}
        return {**present, "rounding": self.theirs_net - self.ours_net - sum(present.values())}


def reconcile(
    trades: pd.DataFrame, span: tuple[pd.Timestamp, pd.Timestamp], export: Export, account: Account, limits: Tolerances
) -> Reconciliation:
    """Compare a run's trades (TRADE_COLUMNS) with an export.

    span: UTC of the first and the last bar of the run. DataError where the export has no trade of the symbol or cannot
    be made into trades.
    """
    ours = our_trades(trades, account)
    theirs, still_open, notes = their_trades(export, account)
    totals = (len(ours), len(theirs), float(ours["net"].sum()), float(theirs["net"].sum()))
    shift = clock_shift(ours, theirs)
    if shift:
        moved = pd.Timedelta(seconds=shift)
        theirs = theirs.assign(entry_time=theirs["entry_time"] - moved, exit_time=theirs["exit_time"] - moved)
        still_open = still_open.assign(entry_time=still_open["entry_time"] - moved)
        notes.append(
            f"the export's clock is {hours_text(shift)} {'ahead of' if shift > 0 else 'behind'} {account.timezone}: "
            "most trades fit once that is taken off; name its clock with --server-tz"
        )
    ours, theirs, pairs = paired(ours, theirs, limits, account)
    words = Words(account, limits)
    found = [difference for o, t in pairs for difference in words.of_pair(ours.loc[o], theirs.loc[t])]
    with_difference = {difference.ours for difference in found}
    counts = {ours.loc[o, "ticket"]: int(ours.loc[o, "count"]) for o, _ in pairs}
    found += _lone(ours, theirs, still_open, pairs, span, words)
    return Reconciliation(
        ours=totals[0],
        theirs=totals[1],
        matched=sum(counts.values()),
        equal=sum(count for ticket, count in counts.items() if ticket not in with_difference),
        ours_net=totals[2],
        theirs_net=totals[3],
        differences=tuple(found),
        notes=(*notes, *_account_notes(export, account), *_advice(ours, theirs, pairs, account, limits)),
    )


def our_trades(trades: pd.DataFrame, account: Account) -> pd.DataFrame:
    """Our trades as CLOSED_COLUMNS, UTC, with `earliest`, the first moment the exit can have been, `rate` and `spread`.

    rate: account currency for a unit of quote currency; spread: in price, of the side that paid it. Both follow from
    the trade's own figures; where its price moved less than LEAST_MOVE, the rate is the median of the others.
    """
    entered, left = fill_times(trades, account.minutes, account.close_only)
    profit = trades["profit_before_costs"] - trades["spread_cost"] - trades["slippage_cost"]
    move = trades["direction"] * (trades["exit_price"] - trades["entry_price"])
    move = move.where(move.abs() >= LEAST_MOVE * account.point)
    rate = (profit / (trades["units"] * move)).astype(np.float64)
    rate = rate.fillna(rate.median()).fillna(1.0)
    within = trades["exit_reason"] != AT_OPEN
    length = pd.Timedelta(minutes=0 if account.close_only else account.minutes)
    return pd.DataFrame(
        {
            "ticket": trades["trade"].astype(str),
            "direction": trades["direction"],
            "lots": trades["lots"],
            "units": trades["units"],
            "entry_time": _naive(entered),
            "entry_price": trades["entry_price"],
            "exit_time": _naive(left),
            "earliest": _naive(left.where(~within, left - length)),
            "exit_price": trades["exit_price"],
            "commission": -trades["commission"],
            "swap": trades["swap"],
            "profit": profit,
            "net": trades["net_profit"],
            "comment": trades["exit_reason"],
            "rate": rate,
            "spread": trades["spread_cost"] / (trades["units"] * rate),
        }
    ).reset_index(drop=True)


def their_trades(export: Export, account: Account) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The export's trades of the account's symbol (CLOSED_COLUMNS), what stays open (OPEN_COLUMNS), in UTC, and notes.

    `open` of a trade: lots of its position that stay open.
    """
    notes: list[str] = []
    still_open = pd.DataFrame(columns=list(OPEN_COLUMNS))
    if export.positions is not None and (export.deals is None or export.hedging):
        found = export.positions[_of_symbol(export.positions["symbol"], account.symbol)].reset_index(drop=True)
    else:
        assert export.deals is not None
        deals = export.deals[export.deals["type"].isin(("buy", "sell"))]
        deals = deals[_of_symbol(deals["symbol"], account.symbol)]
        netting = (account.netting if export.hedging is None else not export.hedging) and not hedging_deals(deals)
        found, still_open = closed_trades(deals, netting or bool((deals["direction"] == "in/out").any()))
        if len(still_open):
            notes.append(f"{len(still_open)} position(s) of the export are still open: what is open has no result yet")
    found = found.assign(exit_time=_utc(found["exit_time"], account), entry_time=_utc(found["entry_time"], account))
    still_open = still_open.assign(entry_time=_utc(still_open["entry_time"], account))
    rests = still_open.groupby(POSITION)["lots"].sum()
    places = pd.MultiIndex.from_frame(found[POSITION])
    return found.assign(open=rests.reindex(places, fill_value=0.0).to_numpy(np.float64)), still_open, notes


def clock_shift(ours: pd.DataFrame, theirs: pd.DataFrame) -> float:
    """Seconds, whole half hours, by which the export's entries come later than ours; 0 unless most agree on it."""
    votes: dict[float, int] = {}
    for side in (1, -1):
        mine = np.sort(seconds(ours.loc[ours["direction"] == side, "entry_time"]))
        for at in seconds(theirs.loc[theirs["direction"] == side, "entry_time"]):
            near = mine[np.searchsorted(mine, at - MOST_SHIFT) : np.searchsorted(mine, at + MOST_SHIFT, "right")]
            for away in set((np.floor((at - near) / HALF_HOUR + 0.25) * HALF_HOUR).tolist()):
                votes[away] = votes.get(away, 0) + 1
    if not votes:
        return 0.0
    best = max(votes, key=lambda away: (votes[away], -abs(away)))
    most = votes[best] > votes.get(0.0, 0) and votes[best] > max(LEAST_VOTES, min(len(ours), len(theirs)) / 2)
    return best if most else 0.0


def _lone(
    ours: pd.DataFrame,
    theirs: pd.DataFrame,
    still_open: pd.DataFrame,
    pairs: Pairs,
    span: tuple[pd.Timestamp, pd.Timestamp],
    words: Words,
) -> list[Difference]:
    """Trades of one side only; one of each on opposite sides at the same time are told as one difference."""
    mine, other = ours.drop([o for o, _ in pairs]), theirs.drop([t for _, t in pairs])
    found = []
    opposite = nearest(mine.assign(direction=-mine["direction"]), other, words.limits.minutes * MINUTE, words.limits)
    for o, t in sorted(opposite):
        a, b = ours.loc[o], theirs.loc[t]
        text = f"trade {a['ticket']} is {words.lone(a)}; there it was {words.lone(b)}: the signals disagree"
        found.append(Difference("other side", a["ticket"], b["ticket"], float(b["net"] - a["net"]), text))
    mine, other = mine.drop([o for o, _ in opposite]), other.drop([t for _, t in opposite])
    there = (theirs["entry_time"].min(), theirs["exit_time"].max()) if len(theirs) else None
    for trade in _rows(mine):
        held = _held(trade, still_open, words.limits)
        if held is not None:
            text = (
                f"trade {trade['ticket']} ({words.lone(trade)}) is still open there: {words.held(held)} was not closed"
            )
            found.append(Difference("still open", trade["ticket"], held["ticket"], -float(trade["net"]), text))
            continue
        why = "the export holds no closed trade" if there is None else _where(trade, there, "the export's trades")
        why = why or "refused there (margin, lot limits, market closed), or no signal was given"
        text = f"trade {trade['ticket']} ({words.lone(trade)}) is missing there: {why}"
        found.append(Difference("missing there", trade["ticket"], "", -float(trade["net"]), text))
    first, last = (pd.Timestamp(stamp).tz_localize(None) for stamp in span)
    for trade in _rows(other):
        why = _where(trade, (first, last), "the run") or "no signal here, or the entry was refused here"
        text = f"their {trade['ticket']} ({words.lone(trade)}) is missing here: {why}"
        found.append(Difference("missing here", "", str(trade["ticket"]), float(trade["net"]), text))
    return found


def _held(trade: pd.Series, still_open: pd.DataFrame, limits: Tolerances) -> pd.Series | None:
    """The ticket entered with a trade, of its side, that is still open there."""
    apart = (still_open["entry_time"] - trade["entry_time"]).abs() <= pd.Timedelta(minutes=limits.minutes)
    fitting = still_open[apart & (still_open["direction"] == trade["direction"])]
    return fitting.iloc[0] if len(fitting) else None


def _where(trade: pd.Series, span: tuple[pd.Timestamp, pd.Timestamp], what: str) -> str:
    if trade["entry_time"] < span[0]:
        return f"it is from before {what} begin" + ("s" if what == "the run" else "")
    return f"it is from after {what} end" + ("s" if what == "the run" else "") if trade["entry_time"] > span[1] else ""


def _rows(frame: pd.DataFrame) -> Iterable[pd.Series]:
    return (row for _, row in frame.iterrows())


def _account_notes(export: Export, account: Account) -> list[str]:
    """Settings of the two accounts that differ."""
    found = []
    currency = export.facts.get("currency", "")
    if currency and account.currency and currency.upper() != account.currency.upper():
        found.append(f"the account there is in {currency}, here in {account.currency}: money does not compare")
    try:
        deposit = number(export.facts.get("initial deposit", ""), export.decimal_comma)
    except ValueError:
        deposit = 0.0
    if deposit and abs(deposit - account.deposit) > 0.005:
        found.append(f"initial deposit {deposit:,.2f} there, {account.deposit:,.2f} here (broker.deposit)")
    return found


def _advice(
    ours: pd.DataFrame,
    theirs: pd.DataFrame,
    pairs: Pairs,
    account: Account,
    limits: Tolerances,
) -> list[str]:
    """What is the same in nearly all pairs: one setting rather than many differences."""
    if not pairs:
        return []
    a, b = ours.loc[[o for o, _ in pairs]], theirs.loc[[t for _, t in pairs]]
    found = []
    factor = b["lots"].to_numpy(np.float64) / a["lots"].to_numpy(np.float64)
    if (
        len(pairs) > 2
        and _nearly_all(np.abs(factor - 1) > 1e-6)
        and float(np.ptp(factor)) < 0.01 * float(factor.mean())
    ):
        found.append(
            f"all lots there are {float(np.median(factor)):.3g} times those here: compare trading.sizing and "
            "trading.lots with the size setting of the test"
        )
    a_lot = -b["commission"].to_numpy(np.float64) / b["lots"].to_numpy(np.float64) / 2
    here = -a["commission"].to_numpy(np.float64) / a["lots"].to_numpy(np.float64) / 2
    if _nearly_all(np.abs(a_lot - here) > 0.005) and float(np.ptp(a_lot)) < 0.01 + 0.01 * abs(float(a_lot.mean())):
        found.append(f"all commissions fit with broker.commission_per_lot = {float(np.median(a_lot)):.2f}")
    side = a["direction"].to_numpy(np.float64)
    entry = side * (b["entry_price"].to_numpy(np.float64) - a["entry_price"].to_numpy(np.float64)) / account.point
    for name, mask in (("long", side > 0), ("short", side < 0)):
        points = entry[mask]
        if len(points) > 2 and _nearly_all(np.abs(points) > limits.points) and float(np.ptp(points)) <= limits.points:
            middle = float(np.median(points))
            found.append(
                f"every {name} entry is {abs(middle):.1f} points {'worse' if middle > 0 else 'better'} there: compare "
                "broker.spread_points with the spread of the test"
            )
    return found


def _nearly_all(mask: np.ndarray) -> bool:
    return bool(len(mask)) and float(mask.mean()) > 0.8


def _of_symbol(names: pd.Series, symbol: str) -> pd.Series:
    """Rows of a symbol, whatever the broker puts before or behind it; DataError where there are none of it."""
    matching: Sequence[Callable[[str], bool]] = (
        lambda name: name.upper() == symbol.upper(),
        lambda name: name.upper().startswith(symbol.upper()),
        lambda name: symbol.upper() in name.upper(),
    )
    for fits in matching:
        rows = names.map(lambda name, fits=fits: fits(str(name)))
        if len(rows) and rows.any():
            only = names[rows].unique()
            if len(only) > 1:
                raise DataError(f"the export has deals in {', '.join(only)}; name one of them with --symbol")
            return rows.astype(bool)
    if len(names):
        present = ", ".join(sorted(set(names) - {""}))
        if not present:
            raise DataError(f"the export's {len(names)} trades name no symbol; write {symbol} into their column Symbol")
        raise DataError(f"the export has trades of {present}, none of {symbol}; name its symbol with --symbol")
    return pd.Series(False, index=names.index)


def _utc(local: pd.Series, account: Account) -> pd.Series:
    values = local.to_numpy("datetime64[ns]")
    return pd.Series(rule_to_utc(values, account.timezone), index=local.index)


def _naive(utc: pd.Series) -> pd.Series:
    return utc.dt.tz_convert("UTC").dt.tz_localize(None)
