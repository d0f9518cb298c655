"""What the log "events" holds, and the small records of the logs "changes" and "segments".

A log record is one of `LogRecord`, told apart by its `type` tag. Encoded as JSON with `encode_record`.
"""

import hashlib
from typing import Any, Literal

import msgspec

EventKind = Literal["track", "identify", "page", "screen", "group", "alias"]
Purpose = Literal["service", "analytics", "marketing", "profiling"]
ConsentState = Literal["granted", "denied", "unset"]
PURPOSES: tuple[Purpose, ...] = ("service", "analytics", "marketing", "profiling")

MEMBER_PARTITIONS = 64

Cursor = dict[int, int]
"""Lane -> last number seen. The embedded log has the one lane 0; a team log has one lane a partition."""


def partition_of(member_id: str) -> int:
    """The member's partition, 0…63, fixed for ever: the first 8 bytes of SHA-256, modulo 64."""
    return int.from_bytes(hashlib.sha256(member_id.encode()).digest()[:8], "big") % MEMBER_PARTITIONS


class Position(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Where a record lies: numbers rise by one within a lane and are never compared across lanes."""

    lane: int
    number: int


class Event(msgspec.Struct, frozen=True, kw_only=True, tag="event", omit_defaults=True):
    """An accepted event. `name` is the catalogue's when `catalogued`, else as it was sent.

    `measures` holds the numeric properties that the catalogue declares, as scaled integers (money in minor units),
    converted once at acceptance, so that every engine folds the same integers. `properties` keeps what was sent.
    `traits` are an identify's attributes. All `*_us` are microseconds UTC.

    In the log only a header is clear: the catalogued name, the times, and the declared properties, measures and traits
    that are not personal. All else (`user_id`, `anonymous_id`, `context`, an uncatalogued name, personal or undeclared
    properties and traits) is absent there and lies in `sealed`, encrypted with the member's key that ingest alone has.
    """

    member_id: str
    event_id: str
    source_id: str
    kind: EventKind
    name: str
    catalogued: bool = False
    anonymous_id: str | None = None
    user_id: str | None = None
    original_timestamp_us: int | None = None
    sent_at_us: int | None = None
    received_at_us: int
    known_at_us: int
    timestamp_us: int
    effective_at_us: int
    channel: str | None = None
    properties: dict[str, Any] = {}
    measures: dict[str, int] = {}
    traits: dict[str, Any] = {}
    context: dict[str, Any] = {}
    backfilled: bool = False
    sealed: bytes = b""

    @property
    def partition(self) -> int:
        """The member's partition."""
        return partition_of(self.member_id)

    @property
    def order_key(self) -> tuple[int, int, str, str]:
        """How ties break: (effective_at, known_at, source_id, event_id)."""
        return (self.effective_at_us, self.known_at_us, self.source_id, self.event_id)


class MapMove(msgspec.Struct, frozen=True, array_like=True):
    """One member moves from one customer to another."""

    member_id: str
    from_customer_id: str
    to_customer_id: str


class MapChanged(msgspec.Struct, frozen=True, kw_only=True, tag="map", omit_defaults=True):
    """A merge or its undo: changes only the map member -> customer. A member not in the map is its own customer.

    `between` are the two members that it joins or parts. The event that caused a merge is the next event of the log.
    A merge without moves found them joined already; it keeps them so when another merge is undone. An undo names the
    record that it takes back (a merge, or an undo: then the merge stands again) and the operator's reason.
    """

    moves: list[MapMove]
    known_at_us: int
    because: str
    between: tuple[str, str] | None = None
    undoes: int | None = None
    reason: str = ""


class ConsentStated(msgspec.Struct, frozen=True, kw_only=True, tag="consent"):
    """A member's statement for one purpose; the latest by (effective_at, known_at, source_id, event_id) counts."""

    member_id: str
    purpose: Purpose
    state: ConsentState
    effective_at_us: int
    known_at_us: int
    source_id: str
    event_id: str


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, tag="tombstone", omit_defaults=True):
    """What an erasure left of a record: its number, and by `mark` (see `mark_of`) that a later copy is none."""

    mark: str = ""


class Erased(msgspec.Struct, frozen=True, kw_only=True, tag="erased"):
    """These members, all of a customer, were erased: whoever holds anything of them forgets it. No later record names
    them; a returning identity is a new member."""

    erasure_id: str
    customer_id: str
    member_ids: list[str]
    known_at_us: int


LogRecord = Event | MapChanged | ConsentStated | Tombstone | Erased


def mark_of(source_id: str, event_id: str) -> str:
    """32 hex digits (BLAKE2b) that recognise an erased event's later copies without saying what it was."""
    return hashlib.blake2b(f"{source_id}\0{event_id}".encode(), digest_size=16).hexdigest()


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(LogRecord)


def encode_record(record: LogRecord) -> bytes:
    """JSON bytes of a record of the log "events"."""
    return _ENCODER.encode(record)


def decode_record(payload: bytes) -> LogRecord:
    """A record of the log "events"; msgspec.ValidationError when it is none."""
    record: LogRecord = _DECODER.decode(payload)
    return record


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A hint in the log "changes": this customer's features may have moved.

    `cause` is the position in the log "events" (null for the sweep); `not_before_us` the earliest read instant.
    """

    customer_id: str
    cause: Position | None
    not_before_us: int
    why: Literal["event", "sweep", "map", "rebuild"]


class SegmentMoved(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the log "segments": a customer entered or left a version of a segment."""

    customer_id: str
    key: str
    version: int
    entered: bool
    at_us: int
    cause: Position | None = None
