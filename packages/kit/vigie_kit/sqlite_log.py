"""The embedded log: a table `log_NAME` in the producer's SQLite file. It has the single lane 0."""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection
from vigie_contracts.events import Cursor, Position

from vigie_kit.database import execute_many
from vigie_kit.log import Entry

LANE = 0


class SqliteLogWriter:
    """Appends to `log_NAME` in the transaction of the connection that it is given."""

    def __init__(self, name: str) -> None:
        self._table = f"log_{_checked(name)}"

    def create(self, connection: Connection) -> None:
        """Make the table if it is not there."""
        connection.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS {self._table}"
            " (number INTEGER PRIMARY KEY, lane INTEGER NOT NULL, payload BLOB NOT NULL)"
        )

    def append(self, connection: Connection, payloads: Sequence[bytes], lane: int = LANE) -> list[Position]:
        """Append in order; ValueError for a lane that the embedded log does not have."""
        if lane != LANE:
            raise ValueError(f"the embedded log has the single lane {LANE}, not {lane}")
        if not payloads:
            return []
        first = self.last(connection) + 1
        numbers = range(first, first + len(payloads))
        rows = list(zip(numbers, repeat(lane), payloads, strict=False))
        execute_many(connection, f"INSERT INTO {self._table} (number, lane, payload) VALUES (?, ?, ?)", rows)
        return [Position(lane, number) for number in numbers]

    def rewrite(self, connection: Connection, payloads: Mapping[int, bytes]) -> None:
        """Replace records by number: only an erasure may do so."""
        rows = [(payload, number) for number, payload in payloads.items()]
        if rows:
            connection.exec_driver_sql(f"UPDATE {self._table} SET payload = ? WHERE number = ?", rows)

    def naming(self, connection: Connection, ids: Sequence[str], after: int = 0) -> list[tuple[int, bytes]]:
        """(number, payload) of the records after a number in which one of the ids stands as text. Reads them all."""
        found = " OR ".join(["instr(payload, ?) > 0"] * len(ids)) or "0"
        rows = connection.exec_driver_sql(
            f"SELECT number, payload FROM {self._table} WHERE number > ? AND ({found}) ORDER BY number",
            (after, *(one.encode() for one in ids)),
        )
        return [(row[0], bytes(row[1])) for row in rows]

    def last(self, connection: Connection) -> int:
        """The last number, 0 for an empty log."""
        return int(connection.exec_driver_sql(f"SELECT coalesce(max(number), 0) FROM {self._table}").scalar_one())


class SqliteLogReader:
    """Reads another process's log by its file, never writing to it. Safe to share between threads."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._table = f"log_{_checked(name)}"
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def read(self, after: Cursor, limit: int) -> list[Entry]:
        """Up to `limit` records after the cursor."""
        rows = self._query(
            f"SELECT lane, number, payload FROM {self._table} WHERE number > ? ORDER BY number LIMIT ?",
            (after.get(LANE, 0), limit),
        )
        return [Entry(Position(lane, number), payload) for lane, number, payload in rows]

    def end(self) -> Cursor:
        """The last number by lane."""
        rows = self._query(f"SELECT max(number) FROM {self._table}", ())
        return {LANE: rows[0][0]} if rows and rows[0][0] is not None else {}

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _query(self, sql: str, parameters: Sequence[object]) -> list[tuple[int, int, bytes]]:
        with self._lock:
            if self._connection is None:
                if not self._path.exists():
                    return []
                self._connection = sqlite3.connect(
                    f"file:{quote(str(self._path))}?mode=ro",
                    uri=True,
                    timeout=10,
                    check_same_thread=False,
                    isolation_level=None,
                )
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise


def _checked(name: str) -> str:
    if not name.isidentifier():
        raise ValueError(f"{name!r} is no log name")
    return name
