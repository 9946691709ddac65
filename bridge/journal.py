"""What passed over the link, kept on disk: bars, forecasts, acks and fills, in one SQLite file that survives a crash.

Write-ahead logging: a killed program loses nothing that was committed; after a power failure the file is whole, bars
and forecasts of the last moments may be missing (bars are backfilled on the next hello), fills are not: they alone wait
for the disk. Bars are a source for everything else, `journal:EURUSD,H1`; `forecasting.sources.journal` reads them.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from bridge.messages import Ack, Exec, Forecast, Hello, encode
from bridge.service import Row
from forecasting.errors import UserError
from forecasting.sources.journal import SCHEMA_VERSION

_ACKS = """
CREATE TABLE IF NOT EXISTS acks (
    epoch INTEGER, client TEXT, seq INTEGER, re INTEGER NOT NULL, unique_id TEXT NOT NULL, bar_time_ms INTEGER NOT NULL,
    code TEXT NOT NULL, text TEXT NOT NULL, dry_run INTEGER NOT NULL, latency_ms REAL NOT NULL,
    received_ms INTEGER NOT NULL, PRIMARY KEY (epoch, client, seq, bar_time_ms, code)) WITHOUT ROWID;
"""
# A terminal that starts again counts its messages from 1 again within the same epoch, so `seq` alone is no key.

_TABLES = f"""
{_ACKS}CREATE TABLE IF NOT EXISTS runs (epoch INTEGER PRIMARY KEY, models TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS series (
    feed TEXT, unique_id TEXT, symbol TEXT NOT NULL, tf_sec INTEGER NOT NULL, digits INTEGER NOT NULL,
    PRIMARY KEY (feed, unique_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bars (
    feed TEXT, unique_id TEXT, time_ms INTEGER, open REAL NOT NULL, high REAL NOT NULL, low REAL NOT NULL,
    close REAL NOT NULL, volume REAL NOT NULL, spread REAL NOT NULL,
    PRIMARY KEY (feed, unique_id, time_ms)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS forecasts (
    epoch INTEGER, client TEXT, seq INTEGER, feed TEXT NOT NULL, unique_id TEXT NOT NULL, model_id TEXT NOT NULL,
    bar_time_ms INTEGER NOT NULL, issued_ms INTEGER NOT NULL, sent_ms INTEGER NOT NULL, model_ms REAL NOT NULL,
    position REAL NOT NULL, lots REAL NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (epoch, client, seq, sent_ms)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fills (
    feed TEXT, magic INTEGER, dry_run INTEGER, deal INTEGER, time_ms INTEGER, client TEXT NOT NULL,
    unique_id TEXT NOT NULL, bar_time_ms INTEGER NOT NULL, "order" INTEGER NOT NULL, ticket INTEGER NOT NULL,
    side TEXT NOT NULL, entry TEXT NOT NULL, lots REAL NOT NULL, price REAL NOT NULL, requested REAL,
    slippage REAL NOT NULL, commission REAL NOT NULL, swap REAL NOT NULL, profit REAL NOT NULL,
    latency_ms REAL NOT NULL, reason TEXT NOT NULL, received_ms INTEGER NOT NULL,
    PRIMARY KEY (feed, magic, dry_run, deal, time_ms)) WITHOUT ROWID;
"""

_OLD_ACKS = "PRIMARY KEY (epoch, client, seq)"
"""The key that journals had before: it lost acks of a terminal that was started again within one epoch."""

_ADD_BAR = "INSERT OR REPLACE INTO bars VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

_FILL = (
    "unique_id", "bar_time_ms", "order", "ticket", "side", "entry", "lots", "price", "requested", "slippage",
    "commission", "swap", "profit", "latency_ms", "reason",
)  # fmt: skip


class Journal:
    """An open journal; not thread-safe. Errors of the disk are sqlite3.Error, and leave nothing half written.

    newest: close time of the newest bar, by (feed, unique_id).
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        try:
            if str(path) != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute("PRAGMA busy_timeout=2000")
            version = self._base.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise UserError(
                    f"{path} is a journal of version {version}, not {SCHEMA_VERSION}; give another --journal"
                )
            self._base.executescript(_TABLES)
            self._renew_acks()
            self._base.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"cannot keep a journal in {path}: {error}; give another file with --journal") from None
        rows = self._base.execute("SELECT feed, unique_id, max(time_ms) FROM bars GROUP BY feed, unique_id")
        self.newest: dict[tuple[str, str], int] = {(feed, unique_id): time_ms for feed, unique_id, time_ms in rows}

    def new_epoch(self, now_ms: int) -> int:
        """The epoch of a run that begins now: above all before it, whatever the clock says."""
        try:
            last = self._base.execute("SELECT max(epoch) FROM runs").fetchone()[0] or 0
            epoch = max(now_ms, last + 1)
            self._base.execute("INSERT INTO runs VALUES (?, '')", (epoch,))
        except sqlite3.Error as error:
            raise UserError(f"cannot write to {self._path}: {error}; make room, or give another --journal") from None
        return int(epoch)

    def name_models(self, epoch: int, models: str) -> None:
        """What a run serves, once its models are loaded; for people, so a disk that is full now is no reason to end."""
        with contextlib.suppress(sqlite3.Error):
            self._base.execute("UPDATE runs SET models = ? WHERE epoch = ?", (models, epoch))

    def add_series(self, hello: Hello) -> None:
        """Facts of a series, as the newest peer tells them."""
        row = hello.feed, hello.unique_id, hello.symbol, hello.tf_sec, hello.digits
        self._base.execute("INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?, ?)", row)

    def add_bars(self, feed: str, unique_id: str, rows: Sequence[Row]) -> None:
        """Closed bars; one that is there already is replaced: a broker may mend its history."""
        values = [(feed, unique_id, *row) for row in rows]
        if len(rows) == 1:  # a statement is a transaction of its own, and takes half the time
            self._base.execute(_ADD_BAR, values[0])
        else:
            with self._transaction():
                self._base.executemany(_ADD_BAR, values)
        self.newest[feed, unique_id] = max(self.newest.get((feed, unique_id), 0), rows[-1][0])

    def add_forecast(self, client: str, feed: str, forecast: Forecast, model_ms: float) -> None:
        """A forecast as it is about to be sent. model_ms: time of the batch it was made in."""
        self._base.execute(
            "INSERT OR REPLACE INTO forecasts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                forecast.epoch, client, forecast.seq, feed, forecast.unique_id, forecast.model_id, forecast.bar_time_ms,
                forecast.issued_ms, forecast.ts_ms, model_ms, forecast.position, forecast.lots,
                encode(forecast)[1].decode(),
            ),
        )  # fmt: skip

    def add_ack(self, client: str, ack: Ack, now_ms: int) -> None:
        """What became of a forecast."""
        row = (
            ack.epoch, client, ack.seq, ack.re, ack.unique_id, ack.bar_time_ms, ack.code, ack.text, ack.dry_run,
            ack.latency_ms, now_ms,
        )  # fmt: skip
        self._base.execute("INSERT OR IGNORE INTO acks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _renew_acks(self) -> None:
        """Give a journal of before the key that acks have now; its rows stay."""
        (made,) = self._base.execute("SELECT sql FROM sqlite_master WHERE name = 'acks'").fetchone()
        if _OLD_ACKS in made:
            with self._transaction():
                self._base.execute("ALTER TABLE acks RENAME TO old_acks")
                self._base.execute(_ACKS)
                self._base.execute("INSERT INTO acks SELECT * FROM old_acks")
                self._base.execute("DROP TABLE old_acks")

    def add_fill(self, client: str, feed: str, magic: int, fill: Exec, now_ms: int) -> bool:
        """A fill, on the disk when this returns; False where it was known already."""
        values = [getattr(fill, name) for name in _FILL]
        row = (feed, magic, fill.dry_run, fill.deal, fill.time_ms, client, *values, now_ms)
        self._base.execute("PRAGMA synchronous=FULL")
        try:
            done = self._base.execute(f"INSERT OR IGNORE INTO fills VALUES ({', '.join('?' * len(row))})", row)
        finally:
            self._base.execute("PRAGMA synchronous=NORMAL")
        return done.rowcount == 1

    def close(self) -> None:
        """Fold the log into the file."""
        self._base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._base)


class _Transaction:
    """BEGIN, and COMMIT or ROLLBACK."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base

    def __enter__(self) -> None:
        self._base.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *ignored: object) -> None:
        if kind is None:
            try:
                self._base.execute("COMMIT")
                return
            except sqlite3.Error:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise
        if self._base.in_transaction:
            self._base.execute("ROLLBACK")
