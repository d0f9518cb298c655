"""SQL of quarantine: events as they were sent, why they were not accepted, and when a good copy took their place."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from vigie_ingest.domain import Refusal

ERASED_CODE = "erased"
"""The code of a quarantined event of an erased person; its `event_id` is then the event's mark."""

DDL = (
    "CREATE TABLE IF NOT EXISTS quarantine (id INTEGER PRIMARY KEY, source_id TEXT NOT NULL, event_id TEXT NOT NULL,"
    " received_at_us INTEGER NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL,"
    " released_at_us INTEGER, message BLOB NOT NULL DEFAULT x'', released_number INTEGER)",
)
_ADDED = {"message": "BLOB NOT NULL DEFAULT x''", "released_number": "INTEGER"}
_COLUMNS = (
    "id, source_id, event_id, received_at_us, code, reason, body, message, released_at_us, coalesce(released_number, 0)"
)


class QuarantinedRow(NamedTuple):
    """A quarantined event. `message` is empty when the body itself is what a release reads.

    `released_number`: where the good copy lies in the log; 0 for none, and for one of a file of an earlier version.
    """

    id: int
    source_id: str
    event_id: str
    received_at_us: int
    code: str
    reason: str
    body: bytes
    message: bytes
    released_at_us: int | None
    released_number: int


def adopt(connection: Connection) -> None:
    """Add the columns that a file of an earlier version lacks."""
    present = {row[1] for row in connection.exec_driver_sql("PRAGMA table_info(quarantine)")}
    for name, kind in _ADDED.items():
        if name not in present:
            connection.exec_driver_sql(f"ALTER TABLE quarantine ADD COLUMN {name} {kind}")


def rows(
    connection: Connection,
    before: int | None,
    limit: int,
    source_id: str | None = None,
    code: str | None = None,
    waiting: bool | None = None,
) -> list[QuarantinedRow]:
    """Newest first, with ids below `before`; of a source, for a reason, waiting or released, if given."""
    sql = (
        f"SELECT {_COLUMNS} FROM quarantine WHERE code != ?1 AND (?2 IS NULL OR id < ?2)"
        " AND (?3 IS NULL OR source_id = ?3) AND (?4 IS NULL OR code = ?4)"
        " AND (?5 IS NULL OR (released_at_us IS NULL) = ?5) ORDER BY id DESC LIMIT ?6"
    )
    found = connection.exec_driver_sql(sql, (ERASED_CODE, before, source_id, code, waiting, limit))
    return [QuarantinedRow(*row) for row in found]


def row(connection: Connection, number: int) -> QuarantinedRow | None:
    """One by its id."""
    sql = f"SELECT {_COLUMNS} FROM quarantine WHERE id = ? AND code != ?"
    found = connection.exec_driver_sql(sql, (number, ERASED_CODE)).first()
    return QuarantinedRow(*found) if found else None


def counts(connection: Connection) -> list[tuple[str, str, int, int]]:
    """(source_id, code, waiting, released)."""
    sql = (
        "SELECT source_id, code, sum(released_at_us IS NULL), sum(released_at_us IS NOT NULL) FROM quarantine"
        " WHERE code != ? GROUP BY source_id, code ORDER BY source_id, code"
    )
    return [(row[0], row[1], row[2], row[3]) for row in connection.exec_driver_sql(sql, (ERASED_CODE,))]


def put(connection: Connection, refused: Sequence[tuple[int, Refusal]]) -> None:
    """(id, what was refused)."""
    sql = (
        "INSERT INTO quarantine (id, source_id, event_id, received_at_us, code, reason, body, message)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    )
    if refused:
        rows_ = [
            (id_, r.source_id, r.event_id, r.received_at_us, r.code, r.reason, r.body, r.message) for id_, r in refused
        ]
        connection.exec_driver_sql(sql, rows_)


def release(connection: Connection, released: Sequence[tuple[int, int]], at_us: int) -> None:
    """Good copies of these events, (id, log number), count since an instant."""
    if released:
        sql = "UPDATE quarantine SET released_at_us = ?, released_number = ? WHERE id = ?"
        connection.exec_driver_sql(sql, [(at_us, number, id_) for id_, number in released])


def next_id(connection: Connection) -> int:
    """The id of the next quarantined event."""
    return int(connection.exec_driver_sql("SELECT coalesce(max(id), 0) + 1 FROM quarantine").scalar_one())
