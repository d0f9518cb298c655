"""What a batch of log records means for customers, which segments they are in, and what moved. Pure.

Predicates are evaluated for all customers of a batch at once; `vigie_contracts.segments.evaluate` says the same of one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from vigie_contracts.events import Change, Erased, Event, MapChanged, MapMove, Position, SegmentMoved, decode_record
from vigie_contracts.segments import (
    EXCLUSIVE_FAMILIES,
    And,
    Comparison,
    IsNull,
    Node,
    Not,
    OneOf,
    Or,
    Segment,
    features_used,
)
from vigie_kit.log import Entry

Why = Literal["event", "sweep", "map", "rebuild"]
Bools = NDArray[np.bool_]


class StoredTile(NamedTuple):
    """A member's state and the newest effective_at or known_at in it."""

    blob: bytes
    newest_us: int


@dataclass(frozen=True)
class CustomerRead:
    """A customer's state (its members' blobs) and the earliest instant, not before now, at which it can be read."""

    customer_id: str
    blobs: list[bytes]
    newest_us: int
    t_us: int


def customer_reads(
    members: Mapping[str, Sequence[str]], tiles: Mapping[str, StoredTile], now_us: int
) -> list[CustomerRead]:
    """Every customer asked for, in order; one without state has no blobs and is read now."""
    found: list[CustomerRead] = []
    for customer_id, member_ids in members.items():
        own = [tiles[member_id] for member_id in member_ids if member_id in tiles]
        newest_us = max((tile.newest_us for tile in own), default=-1)
        found.append(CustomerRead(customer_id, [tile.blob for tile in own], newest_us, max(now_us, newest_us + 1)))
    return found


def rows(values: NDArray[np.int64], valid: Bools) -> list[list[int | None]]:
    """A matrix as lists with null where it is not valid."""
    return [
        [value if known else None for value, known in zip(row, flags, strict=True)]
        for row, flags in zip(values.tolist(), valid.tolist(), strict=True)
    ]


class Column(NamedTuple):
    """A feature of n customers: integers and which of them are not null."""

    values: NDArray[np.int64]
    valid: Bools


class Cause(NamedTuple):
    """The last record that touched a customer."""

    position: Position | None
    why: Why


class Moved(NamedTuple):
    """A change of the map with the instant it was known."""

    move: MapMove
    known_at_us: int


@dataclass
class Batch:
    """Log records by what they do: events to fold, the map's moves in order, the last cause by member and customer.

    `erased` are persons to forget, last of all: no record after `Erased` names them.
    """

    events: list[Event] = field(default_factory=list)
    moves: list[Moved] = field(default_factory=list)
    by_member: dict[str, Cause] = field(default_factory=dict)
    by_customer: dict[str, Cause] = field(default_factory=dict)
    erased: list[Erased] = field(default_factory=list)


def read_batch(entries: Iterable[Entry]) -> Batch:
    """Sort records by what they do; consent statements and tombstones touch no feature."""
    batch = Batch()
    for entry in entries:
        record = decode_record(entry.payload)
        if isinstance(record, Event):
            batch.events.append(record)
            batch.by_member[record.member_id] = Cause(entry.position, "event")
        elif isinstance(record, Erased):
            batch.erased.append(record)
        elif isinstance(record, MapChanged):
            for move in record.moves:
                batch.moves.append(Moved(move, record.known_at_us))
                for customer_id in (move.from_customer_id, move.to_customer_id):
                    batch.by_customer[customer_id] = Cause(entry.position, "map")
    return batch


def causes(batch: Batch, customer_of: Mapping[str, str]) -> dict[str, Cause]:
    """The last cause of each touched customer, by the map as it is after the batch; sorted by customer."""
    found: dict[str, Cause] = dict(batch.by_customer)
    gone = {member_id for person in batch.erased for member_id in person.member_ids}
    for member_id, cause in batch.by_member.items():
        customer_id = customer_of[member_id]
        if customer_id not in found or _number(cause) > _number(found[customer_id]):
            found[customer_id] = cause
    return {customer_id: cause for customer_id, cause in sorted(found.items()) if customer_id not in gone}


def _number(cause: Cause) -> int:
    return cause.position.number if cause.position is not None else 0


# ---- segments -------------------------------------------------------------------------------------------------------


def features_of(segments: Sequence[Segment]) -> tuple[str, ...]:
    """The feature keys that the segments' predicates use, each once."""
    return tuple(dict.fromkeys(key for segment in segments for key in features_used(segment.tree)))


def holds(node: Node, columns: Mapping[str, Column], count: int) -> Bools:
    """Of which of `count` customers a checked predicate without scores holds; shape (count,)."""
    match node:
        case Comparison(subject, sign, value):
            column = columns[subject]
            return np.asarray(column.valid & _COMPARE[sign](column.values, value), dtype=np.bool_)
        case OneOf(subject, values, negated):
            column = columns[subject]
            return np.asarray(column.valid & (np.isin(column.values, np.array(values)) != negated), dtype=np.bool_)
        case IsNull(subject, negated):
            return np.asarray(columns[subject].valid == negated, dtype=np.bool_)
        case Not(operand):
            return ~holds(operand, columns, count)
        case And(operands):
            return _reduced(np.logical_and, [holds(part, columns, count) for part in operands], count, True)
        case Or(operands):
            return _reduced(np.logical_or, [holds(part, columns, count) for part in operands], count, False)


_COMPARE: dict[str, np.ufunc] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def _reduced(combine: np.ufunc, parts: Sequence[Bools], count: int, start: bool) -> Bools:
    result = np.full(count, start)
    for part in parts:
        result = combine(result, part)
    return result


def memberships(segments: Sequence[Segment], columns: Mapping[str, Column], count: int) -> list[dict[str, int]]:
    """For each customer the keys of the segments it is in, with their versions; one segment of an exclusive family."""
    found: list[dict[str, int]] = [{} for _ in range(count)]
    taken: dict[str, Bools] = {family: np.zeros(count, dtype=np.bool_) for family in EXCLUSIVE_FAMILIES}
    for segment in segments:
        members = holds(segment.tree, columns, count)
        if segment.spec.family in taken:
            members = members & ~taken[segment.spec.family]
            taken[segment.spec.family] |= members
        for row in np.flatnonzero(members):
            found[row][segment.spec.key] = segment.spec.version
    return found


def moved(
    customer_id: str, before: Mapping[str, int], after: Mapping[str, int], at_us: int, cause: Position | None
) -> list[SegmentMoved]:
    """Leave records, then enter records, by key. Another version of a segment is left and entered."""
    left = [key for key, version in before.items() if after.get(key) != version]
    entered = [key for key, version in after.items() if before.get(key) != version]
    return [
        SegmentMoved(customer_id=customer_id, key=key, version=versions[key], entered=enters, at_us=at_us, cause=cause)
        for keys, versions, enters in ((sorted(left), before, False), (sorted(entered), after, True))
        for key in keys
    ]


def changes(found: Mapping[str, Cause], not_before_us: Mapping[str, int]) -> list[Change]:
    """One hint a customer, in the order given."""
    return [
        Change(customer_id=customer_id, cause=cause.position, not_before_us=not_before_us[customer_id], why=cause.why)
        for customer_id, cause in found.items()
    ]
