"""SQL of sources and their write keys. A key lies here as its SHA-256 only: it is random, so it needs no salt."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection

DDL = (
    "CREATE TABLE IF NOT EXISTS sources (source_id TEXT PRIMARY KEY, created_at_us INTEGER NOT NULL,"
    " disabled_at_us INTEGER, origins TEXT NOT NULL DEFAULT '[]', events_per_second INTEGER,"
    " weight INTEGER NOT NULL DEFAULT 1) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS source_keys (hash BLOB PRIMARY KEY, source_id TEXT NOT NULL, hint TEXT NOT NULL,"
    " bootstrap INTEGER NOT NULL, created_at_us INTEGER NOT NULL, expires_at_us INTEGER) WITHOUT ROWID",
)


class Source(NamedTuple):
    """A source as it is set."""

    source_id: str
    created_at_us: int
    disabled_at_us: int | None = None
    origins: tuple[str, ...] = ()
    events_per_second: int | None = None
    weight: int = 1


class Key(NamedTuple):
    """A write key's hash, and until when it counts (null: for ever)."""

    hash: bytes
    source_id: str
    hint: str
    bootstrap: bool
    created_at_us: int
    expires_at_us: int | None = None


def sources(connection: Connection) -> dict[str, Source]:
    """By id."""
    rows = connection.exec_driver_sql(
        "SELECT source_id, created_at_us, disabled_at_us, origins, events_per_second, weight FROM sources ORDER BY 1"
    )
    return {row[0]: Source(row[0], row[1], row[2], tuple(msgspec.json.decode(row[3])), *row[4:]) for row in rows}


def keys(connection: Connection) -> list[Key]:
    """All, oldest first."""
    rows = connection.exec_driver_sql(
        "SELECT hash, source_id, hint, bootstrap, created_at_us, expires_at_us FROM source_keys"
        " ORDER BY created_at_us, hash"
    )
    return [Key(row[0], row[1], row[2], bool(row[3]), row[4], row[5]) for row in rows]


def put_source(connection: Connection, source: Source) -> None:
    """Add or replace."""
    origins = msgspec.json.encode(source.origins).decode()
    connection.exec_driver_sql(
        "INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?, ?, ?)",
        (*source[:3], origins, source.events_per_second, source.weight),
    )


def put_key(connection: Connection, key: Key) -> None:
    """Add a key."""
    connection.exec_driver_sql("INSERT INTO source_keys VALUES (?, ?, ?, ?, ?, ?)", tuple(key))


def expire(connection: Connection, source_id: str, at_us: int) -> None:
    """The source's keys count until an instant, those that end sooner as before."""
    connection.exec_driver_sql(
        "UPDATE source_keys SET expires_at_us = ?1 WHERE source_id = ?2"
        " AND (expires_at_us IS NULL OR expires_at_us > ?1)",
        (at_us, source_id),
    )


def bootstrap(connection: Connection, given: Mapping[bytes, Key]) -> None:
    """Make the keys of the settings those that are given; one that was rotated out stays so."""
    known = {key.hash: key for key in keys(connection)}
    gone = [hash_ for hash_, key in known.items() if key.bootstrap and _moved(key, given.get(hash_))]
    _delete(connection, gone)
    present = sources(connection)
    for hash_, key in given.items():
        if key.source_id not in present:
            present[key.source_id] = Source(key.source_id, key.created_at_us)
            put_source(connection, present[key.source_id])
        if hash_ not in known or hash_ in gone:
            put_key(connection, key)


def _moved(key: Key, given: Key | None) -> bool:
    return given is None or given.source_id != key.source_id


def _delete(connection: Connection, hashes: Sequence[bytes]) -> None:
    for hash_ in hashes:
        connection.exec_driver_sql("DELETE FROM source_keys WHERE hash = ?", (hash_,))
