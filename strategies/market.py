"""What an account meets along a span of bars, as arrays: prices, spread, slippage, nights, conversion, finer bars.

Both engines, Backtrader's and the fast twin, read these and nothing else, so they differ in arithmetic alone. Row t
holds what is known at the close of bar t, or what happens within it; docs/EXECUTION.md says which.
"""

from dataclasses import dataclass

import numpy as np

from forecasting.bars import Bars, Instrument
from forecasting.calendars import MINUTES
from forecasting.errors import ConfigError, DataError
from forecasting.files import sha256_of
from forecasting.zones import NEW_YORK, from_utc
from strategies.contract import FROM_DATA, WEEKDAYS, BrokerRules, minute_of_day, session_of, span_of_day, within

ROLLOVER_HOUR = 17
"""Hour in New York at which the trading day ends and positions pay or earn their swap."""

STALE_DAYS = 7
"""Age beyond which a conversion rate is none: weekends and holidays pass. Of rates once a week it is two of them."""

_HOUR, _DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")
_MONDAY = np.datetime64("1970-01-05", "D")


@dataclass(frozen=True)
class Market:
    """T bars as an account meets them, float64 [T] unless said otherwise; prices in quote currency.

    times: UTC closes, datetime64[ns]. open, high, low, close: bids, or mids of a close-only source. spread: in price,
    known at the bar's close. slippage: in price, of market and stop orders that fill within the bar. nights: int64,
    nights that positions held from the bar before pay for before the bar's first fill, the triple day counted three;
    nights_end: those within the last bar. conversion: account currency for one unit of quote currency, at the close.
    finer: open, high, low [3, K] of the bars
    within bars; begin: int64 [T + 1], finer bars of bar t are begin[t] to begin[t + 1]; at least one each.
    """

    times: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    spread: np.ndarray
    slippage: np.ndarray
    nights: np.ndarray
    nights_end: int
    conversion: np.ndarray
    finer: np.ndarray
    begin: np.ndarray
    point: float
    close_only: bool

    def __len__(self) -> int:
        return len(self.times)


def market_of(bars: Bars, broker: BrokerRules, conversion: Bars | None = None, finer: Bars | None = None) -> Market:
    """The market of a span of bars under a broker's rules.

    conversion: bars of broker.conversion where that is needed; finer: bars of broker.finer. DataError where a price,
    spread or conversion that an account needs is missing or cannot be.
    """
    frame, instrument = bars.frame, bars.instrument
    columns = {name: frame[name].to_numpy(np.float64) for name in ("open", "high", "low", "close")}
    spread = spreads(bars, broker)
    check_spread(spread, bars)
    slippage = slippages(bars, broker)
    check_slippage(slippage, bars)
    starts = bar_starts(bars)
    segments, begin = segments_of(bars, finer)
    ends = np.append(starts, max(starts[-1], bars.times[-1] - np.timedelta64(1, "ns")))
    nights = nights_between(ends[:-1], ends[1:], broker.swap_triple)
    return Market(
        times=bars.times,
        **columns,
        spread=spread,
        slippage=slippage,
        nights=np.concatenate([[0], nights[:-1]]),
        nights_end=int(nights[-1]),
        conversion=conversions(bars, broker, conversion),
        finer=segments,
        begin=begin,
        point=instrument.point,
        close_only=instrument.close_only,
    )


def account_currency(instrument: Instrument, broker: BrokerRules) -> str:
    """The currency of deposit and results."""
    return broker.currency or instrument.quote


def bar_starts(bars: Bars) -> np.ndarray:
    """UTC at which orders fill within each bar, datetime64[ns] [T].

    When its trading begins: at the close before it, or with the session. Of a close-only source the fixing itself.
    """
    if bars.instrument.close_only:
        return bars.times
    starts = bars.calendar.starts(bars.times)
    return np.concatenate([starts[:1], np.maximum(starts[1:], bars.times[:-1])])


def spreads(bars: Bars, broker: BrokerRules) -> np.ndarray:
    """Spread known at each bar's close in price units, float64 [T]; NaN where the data do not tell."""
    if broker.spread_points == FROM_DATA:
        points = np.asarray(bars.frame["spread"], np.float64).copy()
    else:
        points = np.full(len(bars), float(broker.spread_points))
    if broker.spread_sessions:
        minutes = minutes_of_day(bars.times, broker.timezone)
        for text in broker.spread_sessions:
            first, last, value = session_of(text)
            points[[within(minute, (first, last)) for minute in minutes.tolist()]] = value
    return points * bars.instrument.point


def check_spread(spread: np.ndarray, bars: Bars) -> None:
    """DataError where a spread is unknown, negative or not below the price."""
    if np.isnan(spread).any():
        raise DataError(
            f"{bars.instrument.unique_id}: the bar of {bars.times[np.isnan(spread)][0]} has no spread, and "
            f'broker.spread_points is "{FROM_DATA}"; set broker.spread_points to a number of points, such as 10'
        )
    wrong = (spread < 0) | (spread >= bars.frame["low"].to_numpy(np.float64))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        points, what = spread[at] / bars.instrument.point, "negative" if spread[at] < 0 else "not below its price"
        raise DataError(
            f"{bars.instrument.unique_id}: the spread of the bar of {bars.times[at]} is {points:g} points, {what}; "
            "mend the data, or set broker.spread_points to a number of points, such as 10"
        )


def slippages(bars: Bars, broker: BrokerRules) -> np.ndarray:
    """Slippage of each bar's market and stop orders in price units, [T]: even from 0 to twice the mean.

    A hash of seed, series and the bar's time (SplitMix64, Steele et al. 2014): the same whatever span is traded.
    """
    if not broker.slippage_points:
        return np.zeros(len(bars))
    key = int(sha256_of(f"{broker.slippage_seed}|{bars.instrument.unique_id}|slippage")[:16], 16)
    bits = bars.times.astype("datetime64[ns]").astype(np.int64).astype(np.uint64) ^ np.uint64(key)
    with np.errstate(over="ignore"):
        bits = bits + np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform = ((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.asarray(uniform * 2 * broker.slippage_points * bars.instrument.point)


def check_slippage(slippage: np.ndarray, bars: Bars) -> None:
    """ConfigError where a sale of a bar would lose its whole price to slippage."""
    wrong = slippage >= bars.frame["low"].to_numpy(np.float64)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise ConfigError(
            f"broker.slippage_points draws {slippage[at] / bars.instrument.point:.0f} points for the bar of "
            f"{bars.times[at]} of {bars.instrument.unique_id}, not below its price; set it to points such as 1"
        )


def nights_between(after: np.ndarray, until: np.ndarray, triple: str) -> np.ndarray:
    """Rollovers r with after < r <= until, each weekday's counted once and the triple day's three times, int64 [n].

    after, until: UTC, datetime64[ns] [n]. A night belongs to the weekday that ends at 17:00 in New York; Saturday and
    Sunday have none.
    """
    return np.asarray(_paid_until(until, triple) - _paid_until(after, triple))


def _paid_until(utc: np.ndarray, triple: str) -> np.ndarray:
    """Swap nights from the first Monday of 1970 to each instant, rollovers at the instant included."""
    local = from_utc(utc, NEW_YORK) - ROLLOVER_HOUR * _HOUR
    days = (local.astype("datetime64[D]") - _MONDAY).astype(np.int64) + 1  # trading days ended
    weight = np.array([3 if name == triple else 1 for name in WEEKDAYS] + [0, 0])
    weeks, rest = np.divmod(days, 7)
    return np.asarray(weeks * weight.sum() + np.concatenate([[0], np.cumsum(weight)])[rest])


def minutes_of_day(utc: np.ndarray, timezone: str) -> np.ndarray:
    """Minute of the local day of each instant, int64 [n]."""
    local = from_utc(utc, timezone)
    return np.asarray((local - local.astype("datetime64[D]")).astype("timedelta64[m]").astype(np.int64))


def entries_allowed(bars: Bars, broker: BrokerRules) -> np.ndarray:
    """Whether a position may be opened on what is decided at each close, bool [T]: broker.hours at that moment."""
    if not broker.hours:
        return np.ones(len(bars), bool)
    span = span_of_day(broker.hours, "hours")
    return np.array([within(minute, span) for minute in minutes_of_day(bars.times, broker.timezone).tolist()], bool)


def check_hours(bars: Bars, broker: BrokerRules) -> None:
    """ConfigError where no bar closes within broker.hours: nothing could ever be opened."""
    if broker.hours and not entries_allowed(bars, broker).any():
        minute = int(minutes_of_day(bars.times[:1], broker.timezone)[0])
        raise ConfigError(
            f"broker.hours {broker.hours} hold the close of no bar of {bars.instrument.unique_id}, such as "
            f"{minute // 60:02}:{minute % 60:02} {broker.timezone}, so nothing would be opened; widen them, or leave "
            "them out"
        )


def weekend_ahead(bars: Bars, broker: BrokerRules) -> np.ndarray:
    """Whether what is decided at each close is to close all, for the weekend, bool [T].

    Nothing is held through a bar of which a moment lies between broker.friday_close and Saturday's end on the server's
    clock. Row t is of the bar in which its order is dealt, the next one of the data, as a terminal looks at the clock
    when it deals and not before; of the last row it is the calendar's next.
    """
    if not broker.friday_close:
        return np.zeros(len(bars), bool)
    if bars.instrument.timeframe == "W1":
        raise ConfigError("broker.friday_close cannot be kept on bars of a week; leave it out, or trade shorter bars")
    begins, ends = (from_utc(moments, broker.timezone) for moments in _dealt_within(bars))
    days = begins.astype("datetime64[D]")
    week = days - (days - _MONDAY) % (7 * _DAY)
    minutes = np.timedelta64(minute_of_day(broker.friday_close, "friday_close"), "m")
    return np.asarray((ends > week + 4 * _DAY + minutes) & (begins < week + 6 * _DAY))


def _dealt_within(bars: Bars) -> tuple[np.ndarray, np.ndarray]:
    """Begin and end of the bar in which what is decided at each close is dealt: UTC, two of datetime64[ns] [T].

    Of fixings it lasts until the calendar's next one, the first moment at which what was dealt could be closed.
    """
    after = bars.calendar.following(bars.times[-1], 1)
    if bars.instrument.close_only:
        begins = np.append(bars.times[1:], after)
        return begins, bars.calendar.following_many(begins, 1)[:, 0]
    begins = np.append(bar_starts(bars)[1:], np.maximum(bars.calendar.starts(after), bars.times[-1]))
    return begins, np.append(bars.times[1:], after)


def conversions(bars: Bars, broker: BrokerRules, other: Bars | None) -> np.ndarray:
    """Account currency for one unit of the quote currency as known at each close, float64 [T].

    From the pair's own closes where the account is in its base currency, else from the last close of `other` at or
    before each bar, which must not be stale (`STALE_DAYS`).
    """
    instrument = bars.instrument
    currency = account_currency(instrument, broker)
    if currency == instrument.quote:
        return np.ones(len(bars))
    if currency == instrument.base:
        return np.asarray(1 / bars.closes)
    if other is None:
        raise ConfigError(
            f"an account in {currency} cannot book results of {instrument.symbol} in {instrument.quote}; set "
            f"broker.conversion to a series of both, such as ecb:{currency}{instrument.quote}"
        )
    pair = (other.instrument.base, other.instrument.quote)
    if set(pair) != {currency, instrument.quote}:
        raise ConfigError(
            f"broker.conversion is {other.instrument.symbol}, which does not turn {instrument.quote} into {currency}; "
            f"such as ecb:{currency}{instrument.quote} does"
        )
    known = np.searchsorted(other.times, bars.times, side="right") - 1
    if known[0] < 0:
        raise DataError(
            f"broker.conversion {other.instrument.symbol} begins at {other.times[0]}, after the first bar traded, "
            f"{bars.times[0]}; choose a longer series or a later start"
        )
    _check_age(bars, other, other.times[known])
    rate = other.closes[known]
    return np.asarray(rate if pair[0] == instrument.quote else 1 / rate)


def _check_age(bars: Bars, other: Bars, dated: np.ndarray) -> None:
    limit = np.timedelta64(max(STALE_DAYS * 1440, 2 * MINUTES[other.instrument.timeframe]), "m")
    stale = bars.times - dated > limit
    if stale.any():
        at = int(np.flatnonzero(stale)[0])
        raise DataError(
            f"broker.conversion {other.instrument.symbol} has no rate for the bar of {bars.times[at]}: its last one is "
            f"of {dated[at].astype('datetime64[D]')}, {(bars.times[at] - dated[at]) // _DAY} days before; use a series "
            "without that gap, or trade another span"
        )


STRANGE = 0.02
"""Most of the bars that may have finer prices beyond their high or low before both are of different feeds."""


def segments_of(bars: Bars, finer: Bars | None) -> tuple[np.ndarray, np.ndarray]:
    """Open, high and low [3, K] of the bars within bars, and where each bar's begin, int64 [T + 1].

    Without finer bars, or where those of a bar do not reach its high and its low (some are missing), it is its own.
    Prices of finer bars are kept within their bar's range, so that both series tell of the same highs and lows;
    DataError where more than STRANGE of the bars have finer prices beyond it.
    """
    own = bars.frame[["open", "high", "low"]].to_numpy(np.float64).T.copy()
    count = len(bars)
    if finer is None:
        return np.ascontiguousarray(own), np.arange(count + 1)
    if finer.instrument.symbol != bars.instrument.symbol:
        raise ConfigError(f"broker.finer is of {finer.instrument.symbol}; it must be of {bars.instrument.symbol}")
    if MINUTES[finer.instrument.timeframe] >= MINUTES[bars.instrument.timeframe]:
        raise ConfigError(
            f"broker.finer has bars of {finer.instrument.timeframe}, not shorter than {bars.instrument.timeframe}"
        )
    starts = bar_starts(bars)
    first = np.searchsorted(finer.times, starts, side="right")
    last = np.searchsorted(finer.times, bars.times, side="right")
    inner = finer.frame[["open", "high", "low"]].to_numpy(np.float64).T
    pieces, near, strange = [], bars.instrument.point / 2, 0
    for t, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        opened, high, low = own[:, t].tolist()
        strange += b > a and bool(inner[1, a:b].max() > high + near or inner[2, a:b].min() < low - near)
        piece = np.clip(inner[:, a:b], low, high)
        whole = b > a and piece[1].max() > high - near and piece[2].min() < low + near
        pieces.append(piece if whole else own[:, t : t + 1])
        first_high, first_low = pieces[t][1:, 0].tolist()
        pieces[t][:, 0] = opened, max(opened, first_high), min(opened, first_low)
    if strange > STRANGE * count:
        raise DataError(
            f"broker.finer: {strange} of {count} bars of {bars.instrument.unique_id} have finer prices beyond their "
            "high or low; both series must be of one feed and one clock"
        )
    begin = np.concatenate([[0], np.cumsum([piece.shape[1] for piece in pieces])])
    return np.ascontiguousarray(np.concatenate(pieces, axis=1)), begin
