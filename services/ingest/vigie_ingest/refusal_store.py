"""SQL of merges that were not made: which two members, by which rule, why, how often, at which event the last time."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection
from vigie_kit.database import execute_many

DDL = (
    "CREATE TABLE IF NOT EXISTS refusals (one_no INTEGER NOT NULL, other_no INTEGER NOT NULL, because TEXT NOT NULL,"
    " reason TEXT NOT NULL, times INTEGER NOT NULL, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL,"
    " source_id TEXT NOT NULL, event_id TEXT NOT NULL, PRIMARY KEY (one_no, other_no)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS refusals_by_other ON refusals (other_no)",
)
_PUT = (
    "INSERT INTO refusals (one_no, other_no, because, reason, times, first_us, last_us, source_id, event_id)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (one_no, other_no) DO UPDATE SET because = excluded.because,"
    " reason = excluded.reason, times = times + excluded.times, last_us = excluded.last_us,"
    " source_id = excluded.source_id, event_id = excluded.event_id"
)
_OF = "(SELECT value FROM json_each(?1))"


class Refused(NamedTuple):
    """Two members (`one` is the older) that an event would have joined, and the `reason` of the latest refusal."""

    one_no: int
    other_no: int
    because: str
    reason: str
    times: int
    first_us: int
    last_us: int
    source_id: str
    event_id: str


def put(connection: Connection, rows: Sequence[Refused]) -> None:
    """Add refusals; of a pair the latest is told, and how many there were."""
    execute_many(connection, _PUT, rows)


def standing(connection: Connection, members: Iterable[int], limit: int) -> list[Refused]:
    """Pairs of these members with anybody that no standing link joins, latest first."""
    columns = ", ".join(Refused._fields)
    rows = connection.exec_driver_sql(
        f"SELECT {columns} FROM (SELECT * FROM refusals WHERE one_no IN {_OF} UNION SELECT * FROM refusals"
        f" WHERE other_no IN {_OF}) r WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.one_no = r.one_no"
        " AND l.other_no = r.other_no AND l.undone_number IS NULL) ORDER BY last_us DESC, one_no, other_no LIMIT ?2",
        (msgspec.json.encode(sorted(members)).decode(), limit),
    )
    return [Refused(*row) for row in rows]
