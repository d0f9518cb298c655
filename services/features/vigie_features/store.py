"""All SQL of features.db: tiles and the map (read by others, written only here), segments, offsets and output logs.

Everything that a batch of events changes is written in one `Transaction`; the offset row fences a second writer.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection
from vigie_contracts.errors import Conflict, NotFound
from vigie_contracts.events import Change, Cursor, Position, SegmentMoved
from vigie_contracts.reads import MembershipRow
from vigie_contracts.segmentation import MigrationCell, MoveRow
from vigie_contracts.segments import SegmentSpec
from vigie_contracts.subjects import Place
from vigie_kit.database import erasing as overwriting
from vigie_kit.database import execute_many, open_engine, reading, scrub, transaction
from vigie_kit.failpoints import hit
from vigie_kit.holdings import Table
from vigie_kit.sqlite_log import LANE, SqliteLogWriter
from vigie_tiles import schema

from vigie_features.domain import Moved, StoredTile

CHANGES, SEGMENTS = "changes", "segments"
TilesTable = Literal["tiles", "tiles_next"]
TILES: TilesTable = "tiles"
NEXT_TILES: TilesTable = "tiles_next"
"""The tiles that are served, and those that are folded for a feature table which is not live yet."""

_OWN_TABLES = (
    "CREATE TABLE IF NOT EXISTS memberships (customer_id TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,"
    " since_us INTEGER NOT NULL, PRIMARY KEY (customer_id, key)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS memberships_by_key ON memberships (key, customer_id)",
    "CREATE TABLE IF NOT EXISTS segment_sizes (key TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS segment_moves (number INTEGER PRIMARY KEY, customer_id TEXT NOT NULL,"
    " key TEXT NOT NULL, version INTEGER NOT NULL, entered INTEGER NOT NULL, at_us INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS segment_moves_by_customer ON segment_moves (customer_id, number)",
    "CREATE INDEX IF NOT EXISTS segment_moves_by_key ON segment_moves (key, at_us)",
    "CREATE TABLE IF NOT EXISTS segment_definitions (key TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,"
    " made_by TEXT NOT NULL, from_us INTEGER NOT NULL, retired_us INTEGER, PRIMARY KEY (key, version)) WITHOUT ROWID",
)
_INDEX_MOVES = f"""INSERT INTO segment_moves
    SELECT number, json_extract(said, '$.customer_id'), json_extract(said, '$.key'), json_extract(said, '$.version'),
        json_extract(said, '$.entered'), json_extract(said, '$.at_us')
    FROM (SELECT number, CAST(payload AS TEXT) AS said FROM log_{SEGMENTS}
        WHERE number > (SELECT coalesce(max(number), 0) FROM segment_moves) AND length(payload) > 0)"""
"""What the log holds and its index does not: written before there was one."""
PERSONS = "members"
TABLES = (
    Table("tiles", "member_id", PERSONS, "What features are computed from: counts, sums and days, no single event."),
    Table("tiles_next", "member_id", PERSONS, "The same for features that are still being folded."),
    Table("members", "member_id", PERSONS, "Which of the person's ids are one customer."),
    Table("customers", "customer_id", PERSONS, "When the person's features move next without an event."),
    Table("memberships", "customer_id", PERSONS, "The segments that the person is in."),
    Table("segment_moves", "customer_id", PERSONS, "The segments that the person entered and left."),
)
WITHOUT_PERSONS = frozenset({"segment_sizes", "segment_definitions", "applied", "installation"})
"""Counts and settings. The logs name persons; `Snapshot.naming` finds them there."""
LOG_ERASED = "records emptied, numbers kept"
_AMONG = "IN (SELECT value FROM json_each(?))"


class CustomerState(NamedTuple):
    """When a customer's features next move without an event (a far instant: never), and its newest instant."""

    customer_id: str
    next_change_at_us: int
    newest_us: int


class Membership(NamedTuple):
    """A standing membership."""

    version: int
    since_us: int


class Definition(NamedTuple):
    """A version of a segment, as it was declared; `retired_us` when the API took it back."""

    spec: SegmentSpec
    made_by: Literal["file", "api"]
    from_us: int
    retired_us: int | None = None


_SPEC = msgspec.json.Decoder(SegmentSpec)


class _Owned(msgspec.Struct, frozen=True):
    customer_id: str


_OWNED = msgspec.json.Decoder(_Owned)


class Snapshot:
    """Reads inside one consistent view of the database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """For reads that are declared elsewhere."""
        return self._connection

    def applied(self) -> int:
        """The last number of the log "events" that is in the state."""
        found = self._rows("SELECT number FROM applied WHERE lane = ?", (LANE,))
        return int(found[0][0]) if found else 0

    def setting(self, key: str) -> str | None:
        """A value of the table `installation`."""
        found = self._rows("SELECT value FROM installation WHERE key = ?", (key,))
        return str(found[0][0]) if found else None

    def tiles(self, member_ids: Collection[str], table: TilesTable = TILES) -> dict[str, StoredTile]:
        """State of the members that have any."""
        sql = f"SELECT member_id, blob, newest_us FROM {table} WHERE member_id {_AMONG}"
        rows = self._rows(sql, (_json(member_ids),))
        return {member_id: StoredTile(blob, newest_us) for member_id, blob, newest_us in rows}

    def tiles_after(self, member_id: str, limit: int) -> dict[str, StoredTile]:
        """State of members, by id, after one."""
        sql = "SELECT member_id, blob, newest_us FROM tiles WHERE member_id > ? ORDER BY member_id LIMIT ?"
        return {row[0]: StoredTile(row[1], row[2]) for row in self._rows(sql, (member_id, limit))}

    def customers_after(self, customer_id: str, limit: int) -> list[str]:
        """Customers that the map names, by id, after one."""
        return [row[0] for row in self._rows(_MAPPED_AFTER, (customer_id, limit))]

    def customer_of(self, member_ids: Collection[str]) -> dict[str, str]:
        """The customer of each member now; a member that the map does not name is its own customer."""
        rows = self._rows(
            f"SELECT member_id, customer_id FROM members WHERE until_us IS NULL AND member_id {_AMONG}",
            (_json(member_ids),),
        )
        return {member_id: member_id for member_id in member_ids} | dict(rows)

    def members_of(self, customer_ids: Collection[str]) -> dict[str, list[str]]:
        """The members of each customer now, in order."""
        found: dict[str, list[str]] = {customer_id: [] for customer_id in customer_ids}
        gone = set(
            dict(
                self._rows(
                    f"SELECT member_id, customer_id FROM members WHERE until_us IS NULL AND member_id {_AMONG}",
                    (_json(customer_ids),),
                )
            )
        )
        for customer_id in found:
            if customer_id not in gone:
                found[customer_id].append(customer_id)
        joined = self._rows(
            f"SELECT customer_id, member_id FROM members WHERE until_us IS NULL AND customer_id {_AMONG}",
            (_json(customer_ids),),
        )
        for customer_id, member_id in joined:
            found[customer_id].append(member_id)
        return {customer_id: sorted(members) for customer_id, members in found.items()}

    def due(self, now_us: int, limit: int) -> list[CustomerState]:
        """Customers whose features moved by `now_us` without an event, earliest first."""
        return [CustomerState(*row) for row in self._rows(DUE, (now_us, limit))]

    def known_after(self, customer_id: str, limit: int) -> list[str]:
        """Customers with state or memberships, by id, after one."""
        found: set[str] = set()
        for sql in _KNOWN_AFTER:
            found.update(row[0] for row in self._rows(sql, (customer_id, limit)))
        return sorted(found)[:limit]

    def memberships(self, customer_ids: Collection[str]) -> dict[str, dict[str, Membership]]:
        """Standing memberships by customer and key, in order of key."""
        rows = self._rows(
            f"SELECT customer_id, key, version, since_us FROM memberships WHERE customer_id {_AMONG}"
            " ORDER BY customer_id, key",
            (_json(customer_ids),),
        )
        found: dict[str, dict[str, Membership]] = {}
        for customer_id, key, version, since_us in rows:
            found.setdefault(customer_id, {})[key] = Membership(version, since_us)
        return found

    def members_of_segment(self, key: str, after: str | None, limit: int) -> list[MembershipRow]:
        """Customers of a segment by id, after one."""
        rows = self._rows(
            "SELECT customer_id, key, since_us, version FROM memberships WHERE key = ? AND customer_id > ?"
            " ORDER BY customer_id LIMIT ?",
            (key, after or "", limit),
        )
        return [MembershipRow(customer_id=row[0], key=row[1], since_us=row[2], version=row[3]) for row in rows]

    def with_state_after(self, customer_id: str, limit: int) -> list[str]:
        """Customers with state, by id, after one."""
        rows = self._rows(
            "SELECT customer_id FROM customers WHERE customer_id > ? ORDER BY customer_id LIMIT ?", (customer_id, limit)
        )
        return [row[0] for row in rows]

    def population(self) -> int:
        """How many customers have state."""
        return int(self._rows("SELECT count(*) FROM customers")[0][0])

    def standing_among(self, customer_ids: Collection[str]) -> dict[str, int]:
        """How many of these customers are in each segment."""
        sql = f"SELECT key, count(*) FROM memberships WHERE customer_id {_AMONG} GROUP BY key"
        return dict(self._rows(sql, (_json(customer_ids),)))

    def definitions(self) -> list[Definition]:
        """Every version of every segment that ever stood, in the order they were made."""
        rows = self._rows(
            "SELECT body, made_by, from_us, retired_us FROM segment_definitions ORDER BY from_us, key, version"
        )
        return [Definition(_SPEC.decode(row[0]), *row[1:]) for row in rows]

    def moves_of(self, customer_id: str, before: int | None, limit: int) -> list[MoveRow]:
        """What a customer entered and left, newest first, at numbers below one."""
        rows = self._rows(
            "SELECT number, key, version, entered, at_us FROM segment_moves WHERE customer_id = ? AND number < ?"
            " ORDER BY number DESC LIMIT ?",
            (customer_id, before if before is not None else 2**62, limit),
        )
        return [
            MoveRow(
                number=row[0], customer_id=customer_id, key=row[1], version=row[2], entered=bool(row[3]), at_us=row[4]
            )
            for row in rows
        ]

    def migration(self, keys: Collection[str], from_us: int, to_us: int) -> list[MigrationCell]:
        """How many customers went from which of these segments to which between two instants."""
        asked = (_json(keys), from_us, _json(keys), _json(keys), to_us, _json(keys))
        return [
            MigrationCell(from_key=row[0], to_key=row[1], customers=row[2]) for row in self._rows(_MIGRATION, asked)
        ]

    def sizes(self) -> dict[str, int]:
        """Customers in each segment."""
        return dict(self._rows("SELECT key, size FROM segment_sizes"))

    def counts(self) -> dict[str, int]:
        """Members and customers with state, memberships, and the last numbers of the output logs."""
        statements = {
            "members": "SELECT count(*) FROM tiles",
            "customers": "SELECT count(*) FROM customers",
            "memberships": "SELECT coalesce(sum(size), 0) FROM segment_sizes",
            CHANGES: f"SELECT coalesce(max(number), 0) FROM log_{CHANGES}",
            SEGMENTS: f"SELECT coalesce(max(number), 0) FROM log_{SEGMENTS}",
        }
        return {name: int(self._rows(sql)[0][0]) for name, sql in statements.items()}

    def naming(self, log: str, member_ids: Sequence[str]) -> list[tuple[int, bytes]]:
        """(number, payload) of an output log's records about a person."""
        found = SqliteLogWriter(log).naming(self._connection, member_ids)
        persons = set(member_ids)
        return [(number, payload) for number, payload in found if _OWNED.decode(payload).customer_id in persons]

    def places(self, member_ids: Sequence[str]) -> list[Place]:
        """How much of a person lies in each place of this file."""
        ids = {PERSONS: member_ids}
        places = [table.place(self._connection, ids) for table in TABLES]
        for log in (CHANGES, SEGMENTS):
            found = len(self.naming(log, member_ids))
            places.append(Place(name=f"log of {log}", found=found, erased_by=LOG_ERASED))
        return places

    def explain(self, sql: str, parameters: Sequence[Any]) -> list[str]:
        """SQLite's query plan, a line a step."""
        return [str(row[3]) for row in self._rows(f"EXPLAIN QUERY PLAN {sql}", parameters)]

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return [tuple(row) for row in self._connection.exec_driver_sql(sql, tuple(parameters)).fetchall()]


DUE = (
    "SELECT customer_id, next_change_at_us, newest_us FROM customers WHERE next_change_at_us <= ?"
    " ORDER BY next_change_at_us LIMIT ?"
)

_MAPPED_AFTER = (
    "SELECT DISTINCT customer_id FROM members WHERE until_us IS NULL AND customer_id > ? ORDER BY customer_id LIMIT ?"
)
_KNOWN_AFTER = (
    "SELECT member_id FROM tiles WHERE member_id > ? AND NOT EXISTS"
    " (SELECT 1 FROM members WHERE members.member_id = tiles.member_id AND until_us IS NULL)"
    " ORDER BY member_id LIMIT ?",
    _MAPPED_AFTER,
    "SELECT DISTINCT customer_id FROM memberships WHERE customer_id > ? ORDER BY customer_id LIMIT ?",
)


_STANDING_AT = f"""SELECT customer_id, key FROM
    (SELECT moves.customer_id, moves.key, moves.entered, max(moves.number) FROM segment_moves AS moves
        JOIN (SELECT customer_id, max(number) AS last FROM segment_moves WHERE key {_AMONG} AND at_us <= ?
            GROUP BY customer_id) AS cut
        ON moves.customer_id = cut.customer_id AND moves.number <= cut.last
        WHERE moves.key {_AMONG} GROUP BY moves.customer_id, moves.key)
    WHERE entered"""
"""Each customer's records up to the last that is not after an instant; SQLite takes `entered` from the row of `max`."""
_MIGRATION = f"""WITH earlier AS MATERIALIZED ({_STANDING_AT}), later AS MATERIALIZED ({_STANDING_AT})
    SELECT from_key, to_key, count(*) FROM
        (SELECT earlier.key AS from_key, later.key AS to_key FROM earlier LEFT JOIN later USING (customer_id)
        UNION ALL SELECT NULL, key FROM later WHERE customer_id NOT IN (SELECT customer_id FROM earlier))
    GROUP BY from_key, to_key ORDER BY from_key, to_key"""


class Transaction(Snapshot):
    """Reads and writes that are committed together."""

    def advance(self, expected: int, number: int) -> None:
        """Move the offset; Conflict when it is not where this writer left it (another one runs)."""
        moved = self._connection.exec_driver_sql(
            "UPDATE applied SET number = ? WHERE lane = ? AND number = ?", (number, LANE, expected)
        )
        if moved.rowcount != 1:
            raise Conflict(f"the offset is no longer {expected}: another writer moved it")

    def set(self, key: str, value: str | None) -> None:
        """Store or remove a value of the table `installation`."""
        if value is None:
            self._run("DELETE FROM installation WHERE key = ?", (key,))
        else:
            self._run("INSERT OR REPLACE INTO installation (key, value) VALUES (?, ?)", (key, value))

    def clear_tiles(self) -> None:
        """Forget all tiles that are served."""
        self._run("DELETE FROM tiles")

    def clear_next_tiles(self) -> None:
        """Forget the tiles that are not served yet."""
        self._run("DELETE FROM tiles_next")

    def put_next_tiles(self) -> None:
        """The next tiles become those that are served."""
        self._run("DROP TABLE tiles")
        self._run("ALTER TABLE tiles_next RENAME TO tiles")
        self._run(schema.NEXT_TILES)

    def forget(self, member_ids: Sequence[str]) -> None:
        """Delete a person's state and memberships, and empty what the output logs said of it."""
        for standing in self.memberships(member_ids).values():
            for key in standing:
                self._run("UPDATE segment_sizes SET size = size - 1 WHERE key = ?", (key,))
        for table in TABLES:
            table.delete(self._connection, {PERSONS: member_ids})
        for log in (CHANGES, SEGMENTS):
            emptied = {number: b"" for number, _ in self.naming(log, member_ids)}
            SqliteLogWriter(log).rewrite(self._connection, emptied)

    def save_tiles(self, tiles: Mapping[str, StoredTile], table: TilesTable = TILES) -> None:
        """Replace the state of members."""
        execute_many(
            self._connection,
            f"INSERT INTO {table} (member_id, blob, newest_us) VALUES (?, ?, ?) ON CONFLICT (member_id) DO UPDATE"
            " SET blob = excluded.blob, newest_us = excluded.newest_us",
            [(member_id, tile.blob, tile.newest_us) for member_id, tile in sorted(tiles.items())],
        )

    def move_member(self, moved: Moved) -> None:
        """End the member's place in the map and begin the next one, at the instant it was known."""
        member_id, at_us = moved.move.member_id, moved.known_at_us
        self._run("UPDATE members SET until_us = ? WHERE member_id = ? AND until_us IS NULL", (at_us, member_id))
        self._run(
            "INSERT INTO members (member_id, customer_id, from_us, until_us) VALUES (?, ?, ?, NULL)",
            (member_id, moved.move.to_customer_id, at_us),
        )

    def save_customers(self, states: Sequence[CustomerState]) -> None:
        """Replace when these customers next move."""
        execute_many(
            self._connection,
            "INSERT INTO customers (customer_id, next_change_at_us, newest_us) VALUES (?, ?, ?)"
            " ON CONFLICT (customer_id) DO UPDATE"
            " SET next_change_at_us = excluded.next_change_at_us, newest_us = excluded.newest_us",
            states,
        )

    def remove_customers(self, customer_ids: Sequence[str]) -> None:
        """Forget customers that have no member any more."""
        execute_many(
            self._connection,
            "DELETE FROM customers WHERE customer_id = ?",
            [(customer_id,) for customer_id in customer_ids],
        )

    def save_moves(self, moves: Sequence[SegmentMoved]) -> None:
        """Apply enter and leave records to memberships and sizes, and append them to the log "segments"."""
        left = [(move.customer_id, move.key, move.version) for move in moves if not move.entered]
        entered = [(move.customer_id, move.key, move.version, move.at_us) for move in moves if move.entered]
        execute_many(
            self._connection, "DELETE FROM memberships WHERE customer_id = ? AND key = ? AND version = ?", left
        )
        execute_many(
            self._connection,
            "INSERT INTO memberships (customer_id, key, version, since_us) VALUES (?, ?, ?, ?)",
            entered,
        )
        differences: dict[str, int] = {}
        for move in moves:
            differences[move.key] = differences.get(move.key, 0) + (1 if move.entered else -1)
        execute_many(
            self._connection,
            "INSERT INTO segment_sizes (key, size) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET size = size + excluded.size",
            sorted(differences.items()),
        )
        numbers = [position.number for position in self._append(SEGMENTS, moves)]
        execute_many(
            self._connection,
            "INSERT INTO segment_moves (number, customer_id, key, version, entered, at_us) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (number, move.customer_id, move.key, move.version, move.entered, move.at_us)
                for number, move in zip(numbers, moves, strict=True)
            ],
        )

    def save_definition(self, definition: Definition) -> None:
        """Add a version of a segment, or replace it (its texts, or that it was retired)."""
        spec, body = definition.spec, msgspec.json.encode(definition.spec)
        self._run(
            "INSERT OR REPLACE INTO segment_definitions (key, version, body, made_by, from_us, retired_us)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (spec.key, spec.version, body, definition.made_by, definition.from_us, definition.retired_us),
        )

    def append_changes(self, found: Sequence[Change]) -> None:
        """Append to the log "changes"."""
        self._append(CHANGES, found)

    def _append(self, log: str, records: Sequence[Change] | Sequence[SegmentMoved]) -> list[Position]:
        hit("features.before_append")
        found = SqliteLogWriter(log).append(self._connection, [msgspec.json.encode(record) for record in records])
        hit("features.after_append")
        return found

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._connection.exec_driver_sql(sql, tuple(parameters))


class Store:
    """features.db: made when absent, written by this process only."""

    def __init__(self, data: Path) -> None:
        self.path = data / schema.FEATURES_DB
        self._engine = open_engine(self.path)

    def create(self) -> None:
        """Make what is not there yet."""
        with transaction(self._engine) as connection:
            for statement in (*schema.DDL, *_OWN_TABLES):
                connection.exec_driver_sql(statement)
            for log in (CHANGES, SEGMENTS):
                SqliteLogWriter(log).create(connection)
            connection.exec_driver_sql(_INDEX_MOVES)
            connection.exec_driver_sql("INSERT OR IGNORE INTO applied (lane, number) VALUES (?, 0)", (LANE,))

    @contextmanager
    def writing(self, failpoint: str = "features.", *, erasing: bool = False) -> Iterator[Transaction]:
        """All or nothing; `failpoint` prefixes the kill points around the commit; `erasing` overwrites the deleted."""
        with (overwriting if erasing else transaction)(self._engine) as connection:
            yield Transaction(connection)
            hit(f"{failpoint}before_commit")
        hit(f"{failpoint}after_commit")

    def scrub(self) -> bool:
        """Empty the write-ahead log, which may hold what was erased; False while a reader stands in the way."""
        return scrub(self._engine)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """One consistent view."""
        with reading(self._engine) as connection:
            yield Snapshot(connection)

    def required(self, key: str) -> str:
        """A value of the table `installation`; NotFound before the first start."""
        with self.snapshot() as snapshot:
            value = snapshot.setting(key)
        if value is None:
            raise NotFound(f"{self.path} says nothing of {key!r} yet; start services/features once")
        return value

    def cursor(self) -> Cursor:
        """The committed offset in the log "events"."""
        with self.snapshot() as snapshot:
            return {LANE: snapshot.applied()}

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()


def _json(values: Collection[str]) -> str:
    return msgspec.json.encode(list(values)).decode()
