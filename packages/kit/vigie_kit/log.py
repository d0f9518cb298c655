"""What a log is: appended in its producer's transaction, read after a position. Adapters pass one contract suite."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from sqlalchemy import Connection
from vigie_contracts.events import Cursor, Position


class Entry(NamedTuple):
    """A record as stored. An erased one keeps its position and no payload: readers pass over it."""

    position: Position
    payload: bytes


class LogWriter(Protocol):
    """Appends in the caller's transaction; only the producer's process has one."""

    def append(self, connection: Connection, payloads: Sequence[bytes], lane: int = 0) -> list[Position]:
        """Append in order; numbers of a lane rise by one from 1. Nothing stays when the transaction rolls back."""

    def rewrite(self, connection: Connection, payloads: Mapping[int, bytes]) -> None:
        """Replace records by number: only an erasure may do so."""

    def naming(self, connection: Connection, ids: Sequence[str], after: int = 0) -> list[tuple[int, bytes]]:
        """(number, payload) of the records after a number in which one of the ids stands as text, in order."""


class LogReader(Protocol):
    """Reads committed records; an absent log reads as empty."""

    def read(self, after: Cursor, limit: int) -> list[Entry]:
        """Up to `limit` records after the cursor, in order within each lane."""

    def end(self) -> Cursor:
        """The last number of each lane; empty for an empty log."""

    def close(self) -> None:
        """Release the connection."""


def advance(cursor: Cursor, entries: Iterable[Entry]) -> Cursor:
    """The cursor after these records."""
    moved = dict(cursor)
    for entry in entries:
        lane, number = entry.position.lane, entry.position.number
        moved[lane] = max(moved.get(lane, 0), number)
    return moved
