"""Local clocks of markets and trade servers, turned into UTC and back.

A zone is a plain string, so that it can stand in a study file: an IANA name (`Europe/Helsinki`), `UTC`, a fixed offset
(`+02:00`), or `us-dst`, the clock most MetaTrader servers keep: UTC+2, and UTC+3 while New York has summer time, which
is New York's own clock plus seven hours, so that the trading day ends at midnight.
"""

import re
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pandas as pd

from forecasting.errors import ConfigError, unknown

US_DST = "us-dst"
NEW_YORK = "America/New_York"
_FIXED = re.compile(r"^(?:UTC|GMT)?([+-])(\d{1,2}):?(\d{2})?$")
_SERVER_AHEAD = np.timedelta64(7, "h")


def check_zone(name: str) -> str:
    """Return `name` if it is a zone this module knows, else raise a `ConfigError` that names the nearest."""
    _resolve(name)
    return name


def zone_name(name: str) -> str:
    """IANA name nearest to a zone: New York's for `us-dst`; a fixed offset has none and counts as UTC."""
    zone, _ = _resolve(name)
    return zone.key if zone is not None else "UTC"


def rule_to_utc(local: np.ndarray, name: str) -> np.ndarray:
    """UTC of local clock times that a rule names: datetime64[ns] [n] -> datetime64[ns] [n].

    A time the clock skips becomes the first instant after the gap; a time it shows twice is the first of the two.
    """
    zone, ahead = _resolve(name)
    naive = local.astype("datetime64[ns]") - ahead
    if zone is None:
        return np.asarray(naive)
    return _localize(naive, zone, first=True, nonexistent="shift_forward")


def stamps_to_utc(local: np.ndarray, name: str) -> np.ndarray:
    """UTC of the local clock times of consecutive bars: datetime64[ns] [n] -> datetime64[ns] [n], NaT if there is none.

    In the hour a clock shows twice, stamps belong to the first pass until they step back, then to the second.
    """
    zone, ahead = _resolve(name)
    naive = local.astype("datetime64[ns]") - ahead
    if zone is None or not len(naive):
        return np.asarray(naive)
    early = _localize(naive, zone, first=True, nonexistent="NaT")
    late = _localize(naive, zone, first=False, nonexistent="NaT")
    twice = np.flatnonzero(early != late)
    twice = twice[~np.isnat(early[twice])]
    utc = early.copy()
    for run in np.split(twice, np.flatnonzero(np.diff(twice) != 1) + 1):
        back = np.flatnonzero(np.diff(naive[run]) <= np.timedelta64(0, "ns"))
        if len(back):
            second = run[back[0] + 1 :]
            utc[second] = late[second]
    return utc


def from_utc(utc: np.ndarray, name: str) -> np.ndarray:
    """Local clock times of UTC instants: datetime64[ns] [n] -> datetime64[ns] [n]."""
    zone, ahead = _resolve(name)
    instants = utc.astype("datetime64[ns]")
    if zone is None:
        return np.asarray(instants + ahead)
    local = pd.DatetimeIndex(instants).tz_localize("UTC").tz_convert(zone).tz_localize(None)
    return np.asarray(local.to_numpy("datetime64[ns]") + ahead)


@lru_cache(maxsize=64)
def _resolve(name: str) -> tuple[ZoneInfo | None, np.timedelta64]:
    """The zone whose rules apply (None: UTC) and how far the named clock is ahead of it."""
    if name == US_DST:
        return ZoneInfo(NEW_YORK), _SERVER_AHEAD
    if name.upper() in ("UTC", "GMT", "Z"):
        return None, np.timedelta64(0, "m")
    fixed = _FIXED.match(name)
    if fixed:
        sign, hours, minutes = fixed[1], int(fixed[2]), int(fixed[3] or 0)
        if hours > 14 or minutes > 59:
            raise ConfigError(f"time zone {name!r} is more than 14 hours from UTC; write an offset such as +02:00")
        return None, np.timedelta64((hours * 60 + minutes) * (1 if sign == "+" else -1), "m")
    try:
        return ZoneInfo(name), np.timedelta64(0, "m")
    except (KeyError, ValueError, OSError):
        common = {US_DST, "UTC", "+02:00"} | {zone for zone in available_timezones() if zone.count("/") == 1}
        message = unknown("time zone", name, common).split("; known:")[0]
        raise ConfigError(f"{message}; write us-dst, UTC, an offset such as +02:00, or an IANA name") from None


def _localize(naive: np.ndarray, zone: ZoneInfo, *, first: bool, nonexistent: str) -> np.ndarray:
    index = pd.DatetimeIndex(naive)
    utc = index.tz_localize(zone, ambiguous=np.full(len(index), first), nonexistent=nonexistent).tz_convert("UTC")
    return np.asarray(utc.tz_localize(None).to_numpy("datetime64[ns]"))
