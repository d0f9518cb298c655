"""Small events and tables for the tests of tiles, and a real features.db on disk."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vigie_contracts.events import Event
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.instants import DAY_US, HOUR_US, parse_instant
from vigie_tiles import kernel, schema
from vigie_tiles.layout import Layout

NOON = parse_instant("2026-03-10T12:30:00Z")
HOUR, DAY = HOUR_US, DAY_US


def feature(name: str, measure: str, **fields: Any) -> FeatureSpec:
    return FeatureSpec(name=name, description="", measure=measure, **fields)


def table(*features: FeatureSpec) -> FeatureTable:
    return FeatureTable(features)


def event(at_us: int, name: str = "app.logged_in", **fields: Any) -> Event:
    """A catalogued event known when it happened; its id follows from its content unless given."""
    known = fields.pop("known_at_us", at_us)
    defaults = {
        "member_id": "m1",
        "event_id": f"{name}-{at_us}",
        "source_id": "app",
        "kind": "track",
        "catalogued": True,
        "received_at_us": known,
        "timestamp_us": at_us,
    }
    return Event(name=name, known_at_us=known, effective_at_us=at_us, **(defaults | fields))


def identify(at_us: int, **traits: Any) -> Event:
    return event(at_us, "identify", kind="identify", catalogued=False, traits=traits)


def blob_of(layout: Layout, events: Sequence[Event]) -> bytes:
    """The blob of one member that all these events belong to."""
    (folded,) = kernel.fold(layout, {row.member_id: None for row in events}, events).values()
    return folded.blob


def values(layout: Layout, events: Sequence[Event], t_us: int) -> dict[str, int | None]:
    """Every feature of the layout's table at t, by key; events of several members are joined."""
    folded = kernel.fold(layout, {row.member_id: None for row in events}, events)
    features = layout.table.features
    matrix = kernel.finalise(layout, features, [[row.blob for row in folded.values()]], t_us)
    pairs = zip(features, matrix.values[0].tolist(), matrix.valid[0].tolist(), strict=True)
    return {row.key: value if valid else None for row, value, valid in pairs}


def one(row: FeatureSpec, events: Sequence[Event], t_us: int, time_zone: str = "UTC") -> int | None:
    """The value of one feature."""
    return values(Layout(table(row), time_zone), events, t_us)[row.key]


def write_features_db(
    path: Path,
    layout: Layout,
    events: Sequence[Event],
    customers: Mapping[str, str] | None = None,
    number: int = 0,
) -> None:
    """A features.db as the features service leaves it: tiles, the map (member -> customer) and the position."""
    folded = kernel.fold(layout, {row.member_id: None for row in events}, events)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in schema.DDL:
            connection.execute(statement)
        connection.executemany(
            "INSERT INTO tiles VALUES (?, ?, ?)", [(member, row.blob, row.newest_us) for member, row in folded.items()]
        )
        connection.executemany("INSERT INTO members VALUES (?, ?, 0, NULL)", _pairs(customers))
        connection.execute("INSERT INTO applied VALUES (0, ?)", (number or len(events),))
    connection.close()


def _pairs(customers: Mapping[str, str] | None) -> Iterable[tuple[str, str]]:
    return list((customers or {}).items())
