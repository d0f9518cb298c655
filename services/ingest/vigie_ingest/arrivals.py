"""Counts what arrives by source and name, and learns the shapes of properties without keeping any value."""

from typing import Any

from vigie_contracts.arrivals import PropertyShape

from vigie_ingest import arrival_store
from vigie_ingest.arrival_store import Arrival, Connection, Key
from vigie_ingest.domain import Draft
from vigie_ingest.masking import masked, shown_name

MAX_PROPERTIES = 50
REMEMBERED_NAMES = 5_000
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


class Arrivals:
    """What a transaction accepts: counts by key, and one event of each."""

    def __init__(self) -> None:
        self._found: dict[Key, list[int]] = {}
        self._samples: dict[Key, Draft] = {}

    def see(self, draft: Draft) -> None:
        """Count an accepted event."""
        key = (draft.source_id, draft.kind, draft.name)
        counts = self._found.get(key)
        if counts is None:
            self._found[key] = counts = [0, 0]
            self._samples[key] = draft
        counts[0] += 1
        counts[1] += draft.warned

    def rows(self) -> list[tuple[Key, int, int, Draft]]:
        """(key, count, warned, a sample), in the order of keys."""
        return [(key, *self._found[key], self._samples[key]) for key in sorted(self._found)]  # type: ignore[misc]


class Book:
    """Writes arrivals; remembers which shapes are written, so that most transactions only add to counts."""

    def __init__(self) -> None:
        self._known: dict[Key, set[tuple[str, str]]] = {}

    def forget(self) -> None:
        """What was remembered may not be on disk: the transaction failed."""
        self._known.clear()

    def write(self, connection: Connection, arrivals: Arrivals, now_us: int) -> None:
        """Add a transaction's arrivals to what is stored."""
        rows: list[Arrival] = []
        for key, count, warned, sample in arrivals.rows():
            shapes = self._learn(connection, key, sample)
            rows.append(Arrival(*key, sample.catalogued, count, warned, now_us, shapes))
        arrival_store.put(connection, rows)

    def _learn(self, connection: Connection, key: Key, sample: Draft) -> dict[str, PropertyShape] | None:
        """The shapes of a name with those of the sample, or None when it has nothing new."""
        seen = shapes_of(sample.traits if sample.kind in ("identify", "group") else sample.properties)
        known = self._known.get(key)
        if known is not None and seen.keys() <= known:
            return None
        if len(self._known) >= REMEMBERED_NAMES:
            self._known.clear()
        stored = arrival_store.shapes(connection, key)
        for (name, type_), example in seen.items():
            before = stored.get(name)
            if before is None and len(stored) < MAX_PROPERTIES:
                stored[name] = PropertyShape(types=[type_], example=example)
            elif before is not None and type_ not in before.types:
                stored[name] = PropertyShape(types=sorted({*before.types, type_}), example=before.example)
        self._known.setdefault(key, set()).update(seen)
        return stored


def shapes_of(properties: dict[str, Any]) -> dict[tuple[str, str], str]:
    """(name, JSON type) -> an example without its value; null values tell nothing."""
    return {
        (shown_name(name), _TYPES.get(type(value), "string")): masked(value)
        for name, value in list(properties.items())[:MAX_PROPERTIES]
        if value is not None
    }
