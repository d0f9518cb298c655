"""SQL of the links: which two members a merge joined, by which record of the log, and whether that was undone.

A customer is the members that standing links connect. A pair has one row for ever, the older member first.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection
from vigie_contracts.events import MapChanged, decode_record

DDL = (
    "CREATE TABLE IF NOT EXISTS links (one_no INTEGER NOT NULL, other_no INTEGER NOT NULL, number INTEGER NOT NULL,"
    " known_at_us INTEGER NOT NULL, because TEXT NOT NULL, undone_number INTEGER, changed_at_us INTEGER NOT NULL,"
    " reason TEXT NOT NULL, PRIMARY KEY (one_no, other_no)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS links_by_other ON links (other_no)",
    "CREATE UNIQUE INDEX IF NOT EXISTS links_by_number ON links (number)",
    "CREATE UNIQUE INDEX IF NOT EXISTS links_by_undone ON links (undone_number) WHERE undone_number IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS undos (idempotency_key TEXT PRIMARY KEY, number INTEGER NOT NULL,"
    " undoes INTEGER NOT NULL) WITHOUT ROWID",
)
_COLUMNS = "one_no, other_no, number, known_at_us, because, undone_number, changed_at_us, reason"
_OF = "(SELECT value FROM json_each(?1))"
_TOUCHING = f"one_no IN {_OF} UNION SELECT {_COLUMNS} FROM links WHERE other_no IN {_OF}"


class Link(NamedTuple):
    """A merge of two members (`one` is the older) and what became of it.

    `number` is the merge's place in the log, `undone_number` that of its undo (null: it stands); `changed_at_us` is
    when it was last made, undone or restored.
    """

    one_no: int
    other_no: int
    number: int
    known_at_us: int
    because: str
    undone_number: int | None
    changed_at_us: int
    reason: str

    @property
    def stands(self) -> bool:
        """Whether it joins its members now."""
        return self.undone_number is None


def between(connection: Connection, one: int, other: int) -> Link | None:
    """The link of a pair, standing or not."""
    return _first(connection, "one_no = ? AND other_no = ?", (min(one, other), max(one, other)))


def by_number(connection: Connection, number: int) -> Link | None:
    """The link that a record of the log made."""
    return _first(connection, "number = ?", (number,))


def by_undo(connection: Connection, number: int) -> Link | None:
    """The link that a record of the log undid, if it is undone by that record now."""
    return _first(connection, "undone_number = ?", (number,))


def touching(connection: Connection, members: Iterable[int]) -> list[Link]:
    """The links of these members, standing or not, in the order of the log."""
    sql = f"SELECT {_COLUMNS} FROM links WHERE {_TOUCHING} ORDER BY number"
    return [Link(*row) for row in connection.exec_driver_sql(sql, (_json(members),))]


def newest_us(connection: Connection, members: Iterable[int]) -> int:
    """When the map of these members last changed, 0 when it never did."""
    sql = f"SELECT coalesce(max(changed_at_us), 0) FROM (SELECT {_COLUMNS} FROM links WHERE {_TOUCHING})"
    return int(connection.exec_driver_sql(sql, (_json(members),)).scalar_one())


def put(connection: Connection, link: Link) -> None:
    """Add or replace the link of a pair."""
    connection.exec_driver_sql("INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?, ?, ?, ?, ?)", tuple(link))


def undo_of(connection: Connection, key: str) -> tuple[int, int] | None:
    """(number of its record, number of what it took back) of the undo that was asked for with a key."""
    sql = "SELECT number, undoes FROM undos WHERE idempotency_key = ?"
    row = connection.exec_driver_sql(sql, (key,)).first()
    return (row[0], row[1]) if row else None


def put_undo(connection: Connection, key: str, number: int, undoes: int) -> None:
    """Remember an undo by the key that it was asked for with."""
    connection.exec_driver_sql("INSERT INTO undos VALUES (?, ?, ?)", (key, number, undoes))


def adopt(connection: Connection, log_table: str) -> None:
    """Make the links of merges that were logged before links were kept: between the members that named the customers.

    Reads the log once, when there are merges but no links.
    """
    merged = connection.exec_driver_sql("SELECT 1 FROM map_history LIMIT 1").first()
    if merged is None or connection.exec_driver_sql("SELECT 1 FROM links LIMIT 1").first() is not None:
        return
    numbers = dict(map(tuple, connection.exec_driver_sql("SELECT member_id, member_no FROM members")))
    sql = f"SELECT number, payload FROM {log_table} WHERE substr(payload, 1, 13) = CAST(? AS BLOB) ORDER BY number"
    for number, payload in connection.exec_driver_sql(sql, ('{"type":"map"',)).all():
        record = decode_record(payload)
        assert isinstance(record, MapChanged)
        move = record.moves[0]
        pair = sorted(numbers[name] for name in (move.from_customer_id, move.to_customer_id) if name in numbers)
        if len(pair) == 2:
            known_us = record.known_at_us
            put(connection, Link(pair[0], pair[1], number, known_us, record.because, None, known_us, ""))


def _first(connection: Connection, where: str, parameters: Sequence[int]) -> Link | None:
    row = connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM links WHERE {where}", tuple(parameters)).first()
    return Link(*row) if row else None


def _json(values: Iterable[int]) -> str:
    return msgspec.json.encode(sorted(values)).decode()
