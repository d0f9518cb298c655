"""SQL of quarantine: events as they were sent, why they were not accepted, and when a good copy took their place."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

ERASED_CODE = "erased"
"""The code of a quarantined event of an erased person; its `event_id` is then the event's mark."""

DDL = (
    "CREATE TABLE IF NOT EXISTS quarantine (id INTEGER PRIMARY KEY, source_id TEXT NOT NULL, event_id TEXT NOT NULL,"
    " received_at_us INTEGER NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL,"
    " released_at_us INTEGER)",
)
_COLUMNS = "id, source_id, event_id, received_at_us, code, reason, body, released_at_us"


class QuarantinedRow(NamedTuple):
    """A quarantined event."""

    id: int
    source_id: str
    event_id: str
    received_at_us: int
    code: str
    reason: str
    body: bytes
    released_at_us: int | None


def rows(
    connection: Connection, before: int | None, limit: int, source_id: str | None = None, code: str | None = None
) -> list[QuarantinedRow]:
    """Newest first, with ids below `before`; of a source and for a reason, if given."""
    sql = (
        f"SELECT {_COLUMNS} FROM quarantine WHERE code != ?1 AND (?2 IS NULL OR id < ?2)"
        " AND (?3 IS NULL OR source_id = ?3) AND (?4 IS NULL OR code = ?4) ORDER BY id DESC LIMIT ?5"
    )
    found = connection.exec_driver_sql(sql, (ERASED_CODE, before, source_id, code, limit))
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


def put(connection: Connection, rows_: Sequence[tuple[int, str, str, int, str, str, bytes]]) -> None:
    """(id, source_id, event_id, received_at_us, code, reason, body)."""
    if rows_:
        connection.exec_driver_sql("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", list(rows_))


def release(connection: Connection, numbers: Sequence[int], at_us: int) -> None:
    """A good copy of these events counts since an instant."""
    if numbers:
        sql = "UPDATE quarantine SET released_at_us = ? WHERE id = ?"
        connection.exec_driver_sql(sql, [(at_us, number) for number in numbers])


def next_id(connection: Connection) -> int:
    """The id of the next quarantined event."""
    return int(connection.exec_driver_sql("SELECT coalesce(max(id), 0) + 1 FROM quarantine").scalar_one())
