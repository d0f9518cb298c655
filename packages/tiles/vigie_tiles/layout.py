"""What a member's state must hold so that every declared feature can be computed, and nothing more.

A feature reads groups of cells. A cell belongs to a slot: an atom (event names, filter, summed property) and a kind
(UTC hour, local day, last, first). Slots are numbered in sorted order; a blob names only numbers, so the layout's
hash stands in its header. Each slot keeps cells up to `span` hours or days before the newest event, as far as any
feature can still see at a read point.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec
import numpy as np
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import BASELINE_DAYS, HOUR_WINDOW_DAYS, FeatureSpec, FeatureTable

from vigie_tiles.local_days import Ints, local_days

FORMAT = 1
"""What cells mean; how they are written has a version of its own, in the codec."""
AGE_BITS = 9
SLOT_BITS = 13
MAX_SLOTS = 1 << SLOT_BITS
MAX_SPAN = (1 << AGE_BITS) - 2
"""Ages run to 510; 511 means older than anything a feature sees."""


class Kind(IntEnum):
    """What a cell's bucket and value are: hour and day add, last takes the maximum, first the minimum.

    A peak is the greatest value of a local day. A rank is the instant of one of the first few events, its age the place
    among them.
    """

    HOUR = 0
    DAY = 1
    LAST = 2
    FIRST = 3
    PEAK = 4
    RANK = 5


WINDOWED = (Kind.HOUR, Kind.DAY, Kind.PEAK)
"""Cells whose age grows with time."""


@dataclass(frozen=True, order=True)
class Atom:
    """Events of some catalogue names that pass a filter; `value_property` empty means that each counts 1.

    Counts and last instants have an atom a name, so that features share them; first and n-th ones have one for all.
    """

    names: tuple[str, ...]
    where: tuple[tuple[str, str], ...] = ()
    value_property: str = ""


@dataclass(frozen=True)
class Group:
    """Cells of some atoms with ages 0…`last_age` (hours or days by `kind`; 0 for last and first)."""

    atoms: tuple[Atom, ...]
    kind: Kind
    last_age: int = 0


@dataclass(frozen=True)
class Slot:
    """A numbered place for cells; `span` is the greatest age that any feature can see."""

    atom: Atom
    kind: Kind
    span: int


class Route(NamedTuple):
    """Where an event of a name goes: when `where` holds, its value goes to all slots of the route's number."""

    where: tuple[tuple[str, str], ...]
    value_property: str
    number: int


def accepts(where: Iterable[tuple[str, str]], properties: Mapping[str, Any]) -> bool:
    """Whether every named property is present and, as a string, equal (booleans `true`/`false`)."""
    return all(_text(properties.get(key)) == wanted for key, wanted in where)


def groups(feature: FeatureSpec) -> tuple[Group, ...]:
    """The groups of cells that a feature reads, in an order that its measure fixes.

    trend: window, then both periods together; baseline: window, own long window; rate: numerator, denominator;
    engagement: one a component.
    """
    days, where = feature.window_days or 0, tuple(sorted(feature.where.items()))
    match feature.measure:
        case "attribute" | "last":
            return ()
        case "recency":
            return (Group(_atoms(feature.events, where), Kind.LAST),)
        case "tenure":
            return (Group(_joint(feature.events, where), Kind.FIRST),)
        case "nth":
            return (Group(_joint(feature.events, where), Kind.RANK, (feature.nth or 1) - 1),)
        case "max":
            return (Group(_atoms(feature.events, where, feature.value_property or ""), Kind.PEAK, days),)
        case "active_days" | "streak" | "longest_gap":
            return (Group(_atoms(feature.events, where), Kind.DAY, days),)
        case "baseline":
            atoms = _atoms(feature.events, where)
            return _window(atoms, days), _window(atoms, BASELINE_DAYS)
        case "trend":
            atoms = _atoms(feature.events, where)
            return _window(atoms, days, 1), _window(atoms, days, 2)
        case "rate":
            return _window(_atoms(feature.events, where), days), _window(_atoms(feature.denominator), days)
        case "engagement":
            return tuple(
                Group(_atoms(part.events), Kind.DAY, days)
                if part.measure == "active_days"
                else _window(_atoms(part.events), days)
                for part in feature.components
            )
        case _:
            summed = (feature.value_property or "") if feature.measure == "sum" else ""
            return (_window(_atoms(feature.events, where, summed), days),)


@dataclass(frozen=True, order=True)
class Latest:
    """The property of some events whose latest value is kept with the attributes."""

    names: tuple[str, ...]
    where: tuple[tuple[str, str], ...]
    value_property: str


class Layout:
    """Slots, routes and attributes of a feature table in a time zone. InvalidInput when they do not fit a blob."""

    def __init__(self, table: FeatureTable, time_zone: str) -> None:
        self.table = table
        self.time_zone = time_zone
        self.days = local_days(time_zone)
        self.slots = _slots(table.features)
        self.attributes = tuple(sorted({row.attribute for row in table.features if row.attribute}))
        self.attribute_index = {name: number for number, name in enumerate(self.attributes)}
        self.latest = _latest(table.features)
        self.latest_routes = _latest_routes(self.latest, len(self.attributes))
        self.kinds: Ints = np.array([slot.kind for slot in self.slots], dtype=np.int64)
        self.spans: Ints = np.array([slot.span for slot in self.slots], dtype=np.int64)
        self.routes, self.route_slots = _routes(self.slots)
        self.hash = self._hash()
        self.plans: dict[tuple[int, ...], Any] = {}
        self.live_places: dict[tuple[int, ...], tuple[tuple[FeatureSpec, ...], tuple[int, ...]]] = {}
        self.leaving: Any = None
        self._numbers = {(slot.atom, slot.kind): number for number, slot in enumerate(self.slots)}

    def columns(self, group: Group) -> tuple[int, ...]:
        """Slot numbers of a group; InvalidInput when the table does not make the layout keep it."""
        found = [self._numbers.get((atom, group.kind)) for atom in group.atoms]
        kept = tuple(number for number in found if number is not None and group.last_age <= self.slots[number].span)
        if len(kept) < len(group.atoms):
            names = ", ".join(sorted({name for atom in group.atoms for name in atom.names}))
            raise InvalidInput(f"the tiles do not keep what this feature needs of {names}: add its row to the table")
        return kept

    def latest_number(self, feature: FeatureSpec) -> int:
        """Under which number a member's state keeps the value of a `last` feature; InvalidInput when it does not."""
        wanted = _last_of(feature)
        if wanted not in self.latest:
            raise InvalidInput(f"the tiles do not keep what {feature.key!r} needs: add its row to the table")
        return len(self.attributes) + self.latest.index(wanted)

    def _hash(self) -> int:
        rows = [(*astuple(slot.atom), slot.kind, slot.span) for slot in self.slots]
        latest = (list(map(astuple, self.latest)),) if self.latest else ()
        body = msgspec.json.encode((FORMAT, self.time_zone, self.attributes, rows, *latest))
        return int.from_bytes(hashlib.sha256(body + self.days.fingerprint).digest()[:8], "little")


def _last_of(feature: FeatureSpec) -> Latest:
    return Latest(
        tuple(sorted(set(feature.events))), tuple(sorted(feature.where.items())), feature.value_property or ""
    )


def _latest(features: Iterable[FeatureSpec]) -> tuple[Latest, ...]:
    return tuple(sorted({_last_of(feature) for feature in features if feature.measure == "last"}))


def _latest_routes(latest: tuple[Latest, ...], first: int) -> dict[str, tuple[Route, ...]]:
    """By event name, where values to keep go; numbers follow those of the attributes."""
    routes: dict[str, tuple[Route, ...]] = {}
    for number, kept in enumerate(latest, first):
        for name in kept.names:
            routes[name] = (*routes.get(name, ()), Route(kept.where, kept.value_property, number))
    return routes


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


def _atoms(names: Iterable[str], where: tuple[tuple[str, str], ...] = (), value_property: str = "") -> tuple[Atom, ...]:
    return tuple(Atom((name,), where, value_property) for name in sorted(set(names)))


def _joint(names: Iterable[str], where: tuple[tuple[str, str], ...]) -> tuple[Atom, ...]:
    return (Atom(tuple(sorted(set(names))), where),)


def _window(atoms: tuple[Atom, ...], days: int, periods: int = 1) -> Group:
    if days in HOUR_WINDOW_DAYS:
        return Group(atoms, Kind.HOUR, 24 * days * periods)
    return Group(atoms, Kind.DAY, days * periods)


def _slots(features: Iterable[FeatureSpec]) -> tuple[Slot, ...]:
    spans: dict[tuple[Atom, Kind], int] = {}
    for group in (group for feature in features for group in groups(feature)):
        for atom in group.atoms:
            spans[atom, group.kind] = max(group.last_age, spans.get((atom, group.kind), 0))
    slots = tuple(Slot(atom, kind, spans[atom, kind]) for atom, kind in sorted(spans))
    if len(slots) > MAX_SLOTS:
        raise InvalidInput(f"the feature table needs {len(slots)} kinds of cells; a blob has room for {MAX_SLOTS}")
    if any(slot.span > MAX_SPAN for slot in slots):
        raise InvalidInput(f"a window reaches further back than {MAX_SPAN} hours or days")
    return slots


def _routes(slots: tuple[Slot, ...]) -> tuple[dict[str, tuple[Route, ...]], tuple[Ints, Ints, Ints]]:
    """Routes by event name, and for all routes by number: (starts, counts, slot numbers)."""
    by_atom: dict[Atom, list[int]] = {}
    for number, slot in enumerate(slots):
        by_atom.setdefault(slot.atom, []).append(number)
    routes: dict[str, tuple[Route, ...]] = {}
    for number, atom in enumerate(by_atom):
        for name in atom.names:
            routes[name] = (*routes.get(name, ()), Route(atom.where, atom.value_property, number))
    counts = np.array([len(found) for found in by_atom.values()], dtype=np.int64)
    flat = np.array([slot for found in by_atom.values() for slot in found], dtype=np.int64)
    return routes, (np.cumsum(counts) - counts, counts, flat)
