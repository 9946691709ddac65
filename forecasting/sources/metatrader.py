"""Bar exports of MetaTrader: what its chart's "export bars" and its history centre write.

MetaTrader 5 writes `<DATE> <TIME> <OPEN> <HIGH> <LOW> <CLOSE> <TICKVOL> <VOL> <SPREAD>` separated by tabs, daily and
longer bars without `<TIME>`; some tools quote every line. MetaTrader 4 writes `2017.01.02,00:00,...` without a header.
Stamps are bar opens on the trade server's clock, prices are bid, spreads in points.
"""

import re

from forecasting.sources.text import Text
from forecasting.zones import US_DST

HISTDATA_ZONE = "-05:00"

_ROLES = {
    "<DATE>": "date",
    "<TIME>": "time",
    "<OPEN>": "open",
    "<HIGH>": "high",
    "<LOW>": "low",
    "<CLOSE>": "close",
    "<TICKVOL>": "volume",
    "<SPREAD>": "spread",
}
_MT4 = ("date", "time", "open", "high", "low", "close", "volume")


def roles(text: Text) -> dict[str, int] | None:
    """Which column plays which role, or None if this is no MetaTrader export."""
    header = [field.strip().strip('"').upper() for field in text.header]
    if "<DATE>" in header:
        found = {_ROLES[name]: at for at, name in enumerate(header) if name in _ROLES}
        if "volume" not in found and "<VOL>" in header:
            found["volume"] = header.index("<VOL>")
        return found
    first = text.cells.iloc[0]
    if header or len(first) < 6:
        return None
    if re.fullmatch(r"\d{4}\.\d\d\.\d\d", first[0]) and re.fullmatch(r"\d\d:\d\d(:\d\d)?", first[1]):
        return {name: at for at, name in enumerate(_MT4) if at < len(first)}
    return None


def zone(file_name: str) -> str:
    """Clock of the stamps: the usual server's, except in HistData's imitation of MetaTrader's format."""
    return HISTDATA_ZONE if file_name.upper().startswith("DAT_MT_") else US_DST
