"""Tables of bars with a header that can be recognised: Dukascopy, pandas, Yahoo and the like; HistData has none."""

import re
from collections.abc import Sequence

from forecasting.sources.metatrader import HISTDATA_ZONE
from forecasting.sources.options import SourceOptions
from forecasting.sources.text import Text

_NAMES = {
    "stamp": (
        "datetime date_time timestamp gmt_time local_time utc_time time_utc open_time opentime time_stamp unix "
        "unixtime unix_timestamp epoch ts ds index level_0 unnamed_0 utc gmt time_eet etc_utc time_etc_utc"
    ),
    "date": "date day",
    "time": "time",
    "open": "open o bidopen open_bid bid_open openbid",
    "high": "high h bidhigh high_bid bid_high highbid max",
    "low": "low l bidlow low_bid bid_low lowbid min",
    "close": "close c bidclose close_bid bid_close closebid last price rate value y",
    "volume": "volume vol v tickvol tick_volume tickvolume tickqty volume_from",
    "spread": "spread",
}
_ROLE = {name: role for role, names in _NAMES.items() for name in names.split()}
_HISTDATA = re.compile(r"^\d{8} \d{6}$")

UNDERSTOOD = (
    "understood are MetaTrader exports (<DATE> <TIME> <OPEN> ...), HistData, and columns named time, date or timestamp "
    "with open, high, low, close or close alone; name others with time_column and close_column"
)


def roles(header: Sequence[str], options: SourceOptions) -> dict[str, int] | None:
    """Which column plays which role (`stamp`, or `date` with `time`), or None if the header is not recognised."""
    names = [_plain(field) for field in header]
    found: dict[str, int] = {}
    if names and names[0] == "":
        found["stamp"] = 0
    for at, name in enumerate(names):
        role = _ROLE.get(name)
        if role and role not in found:
            found[role] = at
    for role, chosen in (("stamp", options.time_column), ("close", options.close_column)):
        if chosen is not None:
            if _plain(chosen) not in names:
                return None
            found[role] = names.index(_plain(chosen))
    clock = [role for role in ("date", "time") if role in found]
    # The unnamed first column of a pandas dump only counts rows where there is a date or time beside it.
    if len(clock) == 1 and (options.time_column is None and ("stamp" not in found or names[0] == "")):
        found["stamp"] = found[clock.pop()]
    elif len(clock) == 2 and names[0] == "" and options.time_column is None:
        found.pop("stamp", None)
    dropped = {"date", "time"} if "stamp" in found else set()
    if not {"open", "high", "low"} <= found.keys():
        dropped |= {"open", "high", "low"}
    found = {role: at for role, at in found.items() if role not in dropped}
    return found if "close" in found and ("stamp" in found or "date" in found) else None


def histdata(text: Text) -> dict[str, int] | None:
    """Roles of HistData's headerless `20170101 170000;open;high;low;close;volume`, or None."""
    if not text.header and len(text.cells.columns) >= 5 and _HISTDATA.match(text.cells.iloc[0, 0].strip()):
        return {"stamp": 0, "open": 1, "high": 2, "low": 3, "close": 4}
    return None


def zone(text: Text) -> str:
    """Clock the format prescribes for stamps without a zone."""
    return "UTC" if text.header else HISTDATA_ZONE


def _plain(name: str) -> str:
    """Lower-case name, everything but letters and digits as single underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")
