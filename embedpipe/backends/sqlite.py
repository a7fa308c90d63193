"""A batch table in one SQLite file, shared by threads and processes of one machine.

The rule: a write is one `BEGIN IMMEDIATE` transaction, on disk when the call returns, and no cursor outlives a call.
Items have the shape they would have in DynamoDB, as JSON; items of other types may lie beside them. Who may not write to
the directory can still read.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from embedpipe.backends.blob_rules import local_errors
from embedpipe.backends.flock import locked_directory
from embedpipe.backends.table_rules import Item, Range, changed, in_order, index_ranges, item_key, row_of
from embedpipe.errors import (
    FREE_SPACE,
    ConfigError,
    CorruptData,
    EmbedpipeError,
    NewerSchema,
    ServiceError,
    StorageFull,
    Throttled,
    Unauthorized,
    Unavailable,
)
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.wire import decode, encode, row_to_item

if TYPE_CHECKING:
    from embedpipe.ports import BatchTable

__all__ = ["SqliteBatchTable"]

PAGE_ROWS: Final = 1_000
KEYS_PER_QUERY: Final = 500
"""SQLite allows 999 variables in its oldest builds; each key takes one, and the sort key one more."""
BUSY_TIMEOUT_S: Final = 30.0
"""How long a writer waits for another one; a write takes a millisecond."""
USER_VERSION: Final = 1

_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS items (
    pk TEXT NOT NULL,
    sk TEXT NOT NULL,
    index_pk TEXT,
    index_sk TEXT,
    status TEXT,
    revision INTEGER,
    item TEXT NOT NULL,
    PRIMARY KEY (pk, sk)
);
CREATE INDEX IF NOT EXISTS items_by_index ON items (index_pk, index_sk);
PRAGMA user_version = {USER_VERSION};
COMMIT;
"""
_PUT: Final = "(pk, sk, index_pk, index_sk, status, revision, item) VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT: Final = f"INSERT INTO items {_PUT} ON CONFLICT DO NOTHING"
_REPLACE: Final = f"INSERT OR REPLACE INTO items {_PUT}"
_GET: Final = "SELECT item FROM items WHERE pk = ? AND sk = ?"
_PAGE: Final = (
    "SELECT index_sk FROM items WHERE index_pk = ? AND index_sk > ? AND index_sk < ? ORDER BY index_sk LIMIT ?"
)


class SqliteBatchTable:
    """Items in the table `items` of the file at `path`, which the first write makes."""

    def __init__(self, path: Path, layout: Layout = SEED, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._busy_timeout_s = busy_timeout_s
        self._path = Path(path).absolute()
        self._layout = layout
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def put_new(self, row: BatchRow) -> bool:
        """Insert where no row is."""
        values = self._columns(row_to_item(row, self._layout))
        with self._writing() as connection:
            return connection.execute(_INSERT, values).rowcount == 1

    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        """Those that exist, each read once."""
        wanted = list(dict.fromkeys(batch_ids))
        rows: dict[str, BatchRow] = {}
        for start in range(0, len(wanted), KEYS_PER_QUERY):
            rows.update(self._rows(wanted[start : start + KEYS_PER_QUERY]))
        return rows

    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        """Ids of one type and status; each page is one query."""
        ranges = index_ranges(batch_type, status, after, self._layout)
        return in_order([self._ids(wanted, after) for wanted in ranges])

    def _ids(self, wanted: Range, after: str) -> Iterator[str]:
        low = wanted.low
        while keys := self._page(wanted, low):
            found = (wanted.batch_id(key) for key in keys)
            yield from (batch_id for batch_id in found if batch_id is not None and batch_id > after)
            low = keys[-1]

    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        """Change a row that still has `status` and `revision`."""
        key = item_key(batch_id, self._layout)
        with self._writing() as connection:
            found = connection.execute(_GET, key).fetchone()
            before = self._item(found[0], key[0]) if found else None
            after = changed(batch_id, before, changes, self._layout, status=status, revision=revision)
            connection.execute(_REPLACE, self._columns(after))
        row = row_of(after, self._layout)
        assert row is not None  # `changed` refuses what is no row
        return row

    def close(self) -> None:
        """Close the connections; a later call opens a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def read_raw(self, batch_id: str) -> Item | None:
        """The item under a batch's key, around the port."""
        key = item_key(batch_id, self._layout)
        with self._connection() as connection:
            found = connection.execute(_GET, key).fetchone()
        return self._item(found[0], key[0]) if found else None

    def write_raw(self, item: Mapping[str, object]) -> None:
        """Put an item of any type around the port, as another program would. It must have the two key attributes."""
        with self._writing() as connection:
            connection.execute(_REPLACE, self._columns(item))

    def delete_raw(self, batch_id: str) -> None:
        """Remove the item under a batch's key around the port, which never does; quiet where none is."""
        with self._writing() as connection:
            connection.execute("DELETE FROM items WHERE pk = ? AND sk = ?", item_key(batch_id, self._layout))

    # --- items ----------------------------------------------------------------------------------------------------

    def _columns(self, item: Mapping[str, object]) -> tuple[object, ...]:
        layout, names = self._layout, self._layout.attributes
        return (
            item[layout.pk],
            item[layout.sk],
            item.get(layout.index_pk),
            item.get(layout.index_sk),
            item.get(names.get("status", "status")),
            item.get(names.get("revision", "revision"), 0),
            encode(item).decode(),
        )

    def _item(self, text: str, key: str) -> Item:
        item = decode(text.encode(), f"Item {key} of {self._path}")
        if not isinstance(item, dict):
            raise CorruptData(f"Item {key} of {self._path} is not an object.", item=key)
        return item

    def _rows(self, batch_ids: Sequence[str]) -> dict[str, BatchRow]:
        if self._absent():
            return {}
        keys = [item_key(batch_id, self._layout)[0] for batch_id in batch_ids]
        marks = ",".join("?" * len(keys))
        query = f"SELECT pk, item FROM items WHERE sk = ? AND pk IN ({marks})"
        with self._connection() as connection:
            found = dict(connection.execute(query, (self._layout.sk_value, *keys)).fetchall())
        items = {name: self._item(found[key], key) for name, key in zip(batch_ids, keys, strict=True) if key in found}
        rows = {batch_id: row_of(item, self._layout) for batch_id, item in items.items()}
        return {batch_id: row for batch_id, row in rows.items() if row is not None}

    def _page(self, wanted: Range, low: str) -> list[str]:
        if self._absent():
            return []
        with self._connection() as connection:
            found = connection.execute(_PAGE, (wanted.partition, low, wanted.high, PAGE_ROWS)).fetchall()
        return [key for (key,) in found]

    # --- connections ----------------------------------------------------------------------------------------------

    def _absent(self) -> bool:
        """Whether nobody wrote yet. Reading makes no file."""
        with self._errors():
            return not self._path.exists()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other thread has meanwhile. As many stay open as were ever used at one time."""
        with self._errors():
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            connection = connection or self._connect()
            try:
                yield connection
            except sqlite3.Error:
                connection.close()  # what is wrong with it may be lasting
                raise
            except BaseException:
                self._give_back(connection)
                raise
            self._give_back(connection)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if isinstance(connection, _Still):
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._opened("rwc")
        except sqlite3.Error as error:
            if _primary(error) not in _DENIED:
                raise
        try:
            return self._opened("ro")
        except sqlite3.Error as error:
            # SQLite wants its two files beside the table's, and may not make them. What is in them would be missed.
            log = self._path.with_name(f"{self._path.name}-wal")
            if _primary(error) not in _DENIED or (log.exists() and log.stat().st_size):
                raise
        return self._opened("ro&immutable=1", _Still)

    def _opened(self, mode: str, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode={mode}",
            uri=True,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
            factory=factory,
        )
        try:
            if self._version(connection) == 0:
                # Changing to WAL waits for nobody, so two who begin at one time would refuse each other.
                with locked_directory(self._path.parent):
                    self._make(connection)
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > USER_VERSION:
            raise NewerSchema(
                f"{self._path} has schema {version}; this version reads up to {USER_VERSION}.",
                hint="Upgrade embedpipe.",
            )
        return int(version)

    def _make(self, connection: sqlite3.Connection) -> None:
        if self._version(connection) == 0:
            self._refuse_foreign(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_SCHEMA)

    def _refuse_foreign(self, connection: sqlite3.Connection) -> None:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name != 'items'").fetchone()
        (ours,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'items'").fetchone()
        if tables and not ours:
            raise ConfigError(f"{self._path} is the database of another program.", hint="Give the table its own file.")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with local_errors(str(self._path)):
                yield
        except sqlite3.Error as error:
            raise _mapped(error, self._path) from error


class _Still(sqlite3.Connection):
    """A connection that takes the file for one that nobody changes, so it serves one call only."""


_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DENIED: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN})


def _primary(error: sqlite3.Error) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _mapped(error: sqlite3.Error, path: Path) -> EmbedpipeError:
    primary = _primary(error)
    if primary in _BUSY:
        return Throttled(f"{path} stayed locked.", hint="Another process writes to it for long.")
    if primary == sqlite3.SQLITE_FULL:
        return StorageFull(f"No space left to write {path}.", hint=FREE_SPACE)
    if primary in _CORRUPT:
        return CorruptData(f"{path}: {error}.", hint="Restore the file, or move it away and rebuild the table.")
    if primary in _DENIED:
        return Unauthorized(
            f"{path} may not be written, or not even read.",
            hint="Check who owns the file and its directory, and their permissions.",
        )
    if primary == sqlite3.SQLITE_IOERR:
        return Unavailable(
            f"{path}: the system refused to read or write.",
            hint="Is a quota or a limit on the size of files reached? Else the system's log tells of the disk's state.",
        )
    return ServiceError(f"{path}: {error}.")


if TYPE_CHECKING:
    _: type[BatchTable] = SqliteBatchTable
