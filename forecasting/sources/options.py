"""What a user may say about a source of bars; everything else is found in the data or its name."""

from dataclasses import dataclass

from forecasting.calendars import MINUTES
from forecasting.errors import ConfigError, unknown
from forecasting.zones import check_zone

AUTO = "auto"
CALENDARS = (AUTO, "fx-week", "target", "round-the-clock")
STAMPS = ("open", "close")


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source. Plain types, all with defaults: this is a section of the study file.

    Parameters
    ----------
    symbol, timeframe
        Of a file whose name does not tell them, such as "EURUSD" and "H1".
    server_tz
        Clock of stamps without a zone, on which bars longer than an hour are cut: "us-dst" (UTC+2, UTC+3 in the summer
        of the USA), "UTC", "+02:00" or an IANA name. "auto" is us-dst for MetaTrader exports and for days without a
        time, otherwise what the format prescribes (HistData -05:00), otherwise UTC.
    calendar
        Trading hours: "fx-week", "target" (daily fixings) or "round-the-clock". "auto" is target for the ECB,
        else fx-week.
    digits
        Decimals of a price, when not those seen in the file.
    integer_points
        Prices are whole points: 113195 with digits 5 means 1.13195. Needs `digits`.
    stamps
        Whether a file's stamps name the "open" or the "close" of a bar. All formats known here stamp opens.
    time_column, close_column
        Names of these columns where the header is an unusual one.
    """

    symbol: str | None = None
    timeframe: str | None = None
    server_tz: str = AUTO
    calendar: str = AUTO
    digits: int | None = None
    integer_points: bool = False
    stamps: str = "open"
    time_column: str | None = None
    close_column: str | None = None

    def __post_init__(self) -> None:
        if self.timeframe is not None and self.timeframe not in MINUTES:
            raise ConfigError(unknown("timeframe", self.timeframe, MINUTES))
        if self.calendar not in CALENDARS:
            raise ConfigError(unknown("calendar", self.calendar, CALENDARS))
        if self.stamps not in STAMPS:
            raise ConfigError(unknown("kind of stamps", self.stamps, STAMPS))
        if self.server_tz != AUTO:
            check_zone(self.server_tz)
        if self.digits is not None and not 0 <= self.digits <= 10:
            raise ConfigError(f"digits is {self.digits}; it must be 0 to 10")
        if self.integer_points and self.digits is None:
            raise ConfigError("integer_points needs digits, the decimals that were taken away (5 for EURUSD)")
        if self.symbol is not None and not self.symbol.strip():
            raise ConfigError("symbol is empty; leave it out or write one such as EURUSD")
