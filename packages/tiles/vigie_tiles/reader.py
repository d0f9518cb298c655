"""Reads of feature values straight from features.db: one snapshot, a blob a member, the kernel at the read instant."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from vigie_contracts.errors import Unavailable
from vigie_contracts.events import Cursor
from vigie_contracts.features import FeatureSpec, FeatureTable

from vigie_tiles.kernel import Matrix
from vigie_tiles.layout import Layout
from vigie_tiles.live import FEATURES, LIVE, Following, finalise_live
from vigie_tiles.local_days import Ints
from vigie_tiles.schema import WATERMARK

_IN_MAP = (
    "SELECT m.member_id, m.customer_id FROM json_each(?) AS asked CROSS JOIN members AS m"
    " ON m.{column} = asked.value WHERE m.until_us IS NULL"
)
_TILES = (
    "SELECT t.member_id, t.blob, t.newest_us FROM json_each(?) AS asked CROSS JOIN tiles AS t"
    " ON t.member_id = asked.value"
)

Tile = tuple[bytes, int]
"""A member's state and the newest instant in it."""


class TileRead(NamedTuple):
    """Rows in the order asked for. `t_us` is each row's read instant, `pos` what the tiles held, `present` false for
    a customer without any state (whose values are those of no events)."""

    matrix: Matrix
    t_us: Ints
    pos: Cursor
    present: npt.NDArray[np.bool_]


class Tiles(Protocol):
    """Where tiles are read: features.db, or its copy in Redis. Both answer the same; one contract suite checks both."""

    def read(self, customer_ids: Sequence[str], features: Sequence[FeatureSpec], now_us: int) -> TileRead:
        """Values of `features` for each customer at t = max(now, newest in its state + 1 µs)."""

    def close(self) -> None:
        """Release what is open."""


class StateReached(NamedTuple):
    """How far the state is: `pos` of the log "events", and the sweep's watermark (null before the first sweep)."""

    pos: Cursor
    swept_us: int | None


class TileReader:
    """Reads tiles of one features.db, read-only; may be shared by threads (each gets its own connection)."""

    def __init__(self, features_db: Path, layout: Layout) -> None:
        self._following = Following(layout)
        self._path = features_db
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def read(self, customer_ids: Sequence[str], features: Sequence[FeatureSpec], now_us: int) -> TileRead:
        """Values of `features` for each customer at t = max(now, newest in its state + 1 µs).

        Null for a feature that is not live. Raises Unavailable when features.db cannot be read yet or is rebuilt,
        IncompatibleData for tiles of another layout.
        """
        with self._snapshot() as connection:
            layout = self._layout(connection)
            members = _members(connection, customer_ids)
            tiles = _tiles(connection, [member for found in members.values() for member in found])
            pos = dict(connection.execute("SELECT lane, number FROM applied").fetchall())
        rows = [[tiles[member] for member in members[customer] if member in tiles] for customer in customer_ids]
        return finalised(layout, features, rows, pos, now_us)

    def live(self) -> FeatureTable:
        """The feature table that the tiles hold now; Unavailable as `read` raises it."""
        with self._snapshot() as connection:
            return self._layout(connection).table

    def reached(self) -> StateReached:
        """How far folding and sweep are; Unavailable when features.db cannot be read yet."""
        with self._snapshot() as connection:
            pos = dict(connection.execute("SELECT lane, number FROM applied").fetchall())
            swept = _setting(connection, WATERMARK)
        return StateReached(pos, int(swept) if swept else None)

    def customer_of(self, member_ids: Sequence[str]) -> dict[str, str]:
        """Each member's customer now; a member that the map does not name is its own customer."""
        with self._snapshot() as connection:
            found = connection.execute(_IN_MAP.format(column="member_id"), (json.dumps(list(member_ids)),)).fetchall()
        return {member: member for member in member_ids} | dict(found)

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
            self._local = threading.local()

    def _layout(self, connection: sqlite3.Connection) -> Layout:
        return self._following.at(_setting(connection, LIVE), lambda: _setting(connection, FEATURES) or "[]")

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of the tiles, the map and the position."""
        try:
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise Unavailable(f"{self._path} cannot be read ({error}): is the features service running?") from error

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            found = sqlite3.connect(uri, uri=True, timeout=10.0, isolation_level=None, check_same_thread=False)
            self._local.connection = found
            with self._lock:
                self._connections.append(found)
        return found


def finalised(
    layout: Layout, features: Sequence[FeatureSpec], tiles: Sequence[Sequence[Tile]], pos: Cursor, now_us: int
) -> TileRead:
    """Values of customers from their members' tiles, a row each, at t = max(now, newest in its state + 1 µs)."""
    newest = [row[0][1] if len(row) == 1 else max((tile[1] for tile in row), default=now_us - 1) for row in tiles]
    t_us = np.maximum(np.array(newest, dtype=np.int64) + 1, now_us)
    blobs = [[tile[0] for tile in row] for row in tiles]
    matrix = finalise_live(layout, features, blobs, t_us)
    return TileRead(matrix, t_us, pos, np.array([bool(row) for row in tiles], dtype=bool))


def _setting(connection: sqlite3.Connection, key: str) -> str | None:
    found = connection.execute("SELECT value FROM installation WHERE key = ?", (key,)).fetchone()
    return None if found is None else str(found[0])


def _members(connection: sqlite3.Connection, customer_ids: Sequence[str]) -> dict[str, list[str]]:
    """The members of each customer in the map of now, sorted."""
    asked = json.dumps(list(dict.fromkeys(customer_ids)))
    moved = {member for member, _ in connection.execute(_IN_MAP.format(column="member_id"), (asked,))}
    members = {customer: [] if customer in moved else [customer] for customer in customer_ids}
    for member, customer in connection.execute(_IN_MAP.format(column="customer_id"), (asked,)):
        members[customer].append(member)
    for found in members.values():
        if len(found) > 1:
            found.sort()
    return members


def _tiles(connection: sqlite3.Connection, member_ids: Sequence[str]) -> dict[str, Tile]:
    rows = connection.execute(_TILES, (json.dumps(member_ids),))
    return {member: (blob, newest) for member, blob, newest in rows}
