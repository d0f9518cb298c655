"""The SQL of `arrivals`: what came by source, kind and name, and the shapes of its properties."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection as Connection
from vigie_contracts.arrivals import ArrivalRow, PropertyShape

Key = tuple[str, str, str]
"""(source_id, kind, name)."""

DDL = (
    "CREATE TABLE IF NOT EXISTS arrivals (source_id TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,"
    " catalogued INTEGER NOT NULL, count INTEGER NOT NULL, warned INTEGER NOT NULL, first_at_us INTEGER NOT NULL,"
    " last_at_us INTEGER NOT NULL, properties TEXT NOT NULL, PRIMARY KEY (source_id, kind, name)) WITHOUT ROWID",
)
_PUT = (
    "INSERT INTO arrivals VALUES (?, ?, ?, ?, ?, ?, ?, ?, coalesce(?, '{}')) ON CONFLICT (source_id, kind, name)"
    " DO UPDATE SET catalogued = excluded.catalogued, count = count + excluded.count,"
    " warned = warned + excluded.warned, last_at_us = max(last_at_us, excluded.last_at_us), properties = {}"
)
_SHAPES = msgspec.json.Decoder(dict[str, PropertyShape])


class Arrival(NamedTuple):
    """What a transaction adds; `properties` are all shapes of the name, None when there is nothing new."""

    source_id: str
    kind: str
    name: str
    catalogued: bool
    events: int
    warned: int
    at_us: int
    properties: dict[str, PropertyShape] | None


def adopt(connection: Connection) -> None:
    """Take over the counts of uncatalogued names that an earlier version kept, which knew the last instant only."""
    sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'uncatalogued'"
    if not connection.exec_driver_sql(sql).scalar_one():
        return
    connection.exec_driver_sql(
        "INSERT OR IGNORE INTO arrivals SELECT source_id, 'track', name, 0, count, 0, last_at_us, last_at_us, '{}'"
        " FROM uncatalogued"
    )
    connection.exec_driver_sql("DROP TABLE uncatalogued")


def put(connection: Connection, rows: Sequence[Arrival]) -> None:
    """Add counts, and replace the shapes where there are new ones."""
    for shaped in (False, True):
        chosen = [_parameters(row) for row in rows if (row.properties is not None) == shaped]
        if chosen:
            kept = "excluded.properties" if shaped else "properties"
            connection.exec_driver_sql(_PUT.replace("properties = {}", f"properties = {kept}"), chosen)


def shapes(connection: Connection, key: Key) -> dict[str, PropertyShape]:
    """The stored shapes of a name."""
    sql = "SELECT properties FROM arrivals WHERE source_id = ? AND kind = ? AND name = ?"
    found = connection.exec_driver_sql(sql, key).scalar()
    return _SHAPES.decode(found) if found else {}


def read(connection: Connection, limit: int) -> list[ArrivalRow]:
    """Rows, most frequent first."""
    sql = "SELECT * FROM arrivals ORDER BY count DESC, source_id, kind, name LIMIT ?"
    return [
        ArrivalRow(
            source_id=source_id, kind=kind, name=name, catalogued=bool(catalogued), count=count, warned=warned,
            first_at_us=first_us, last_at_us=last_us, properties=_SHAPES.decode(properties),
        )
        for source_id, kind, name, catalogued, count, warned, first_us, last_us, properties in (
            connection.exec_driver_sql(sql, (limit,))
        )
    ]  # fmt: skip


def size(connection: Connection) -> int:
    """How many rows there are."""
    return int(connection.exec_driver_sql("SELECT count(*) FROM arrivals").scalar_one())


def uncatalogued(connection: Connection, limit: int) -> list[tuple[str, str, int]]:
    """(source_id, name, count) of uncatalogued track calls, most frequent first."""
    sql = (
        "SELECT source_id, name, count FROM arrivals WHERE kind = 'track' AND NOT catalogued"
        " ORDER BY count DESC, source_id, name LIMIT ?"
    )
    return [(source_id, name, count) for source_id, name, count in connection.exec_driver_sql(sql, (limit,))]


def uncount(connection: Connection, names: Mapping[tuple[str, str], int]) -> None:
    """Take erased events under uncatalogued names, (source_id, name), out of the counts.

    A name that nobody else sent is forgotten, with what it carried.
    """
    rows = [(count, *key) for key, count in names.items()]
    if rows:
        connection.exec_driver_sql(
            "UPDATE arrivals SET count = count - ? WHERE source_id = ? AND kind = 'track' AND name = ?", rows
        )
        connection.exec_driver_sql("DELETE FROM arrivals WHERE count <= 0")


def _parameters(row: Arrival) -> tuple[Any, ...]:
    shapes = None if row.properties is None else msgspec.json.encode(row.properties).decode()
    return (*row[:-1], row.at_us, shapes)
