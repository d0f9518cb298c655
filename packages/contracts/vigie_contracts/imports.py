"""Files on their way in: records that `vigie import` sends to ingest in batches, and what became of each."""

from typing import Any, Literal

import msgspec

from vigie_contracts.events import Position

MAX_IMPORT_RECORDS = 10_000
"""Most records of one request; a request is one transaction."""


class ImportRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event (`track`) or a statement about a profile (`identify`) from a file.

    `event_id` is the mapping's and makes a repeated import harmless. `known_at_us` is the mapping's instant (null: as
    `effective_at_us`). `consent` states purposes by name.
    """

    kind: Literal["track", "identify"]
    event_id: str
    effective_at_us: int
    name: str = ""
    user_id: str | None = None
    anonymous_id: str | None = None
    known_at_us: int | None = None
    channel: str | None = None
    properties: dict[str, Any] = {}
    traits: dict[str, Any] = {}
    consent: dict[str, bool] = {}


class ImportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/import` of ingest: at most `MAX_IMPORT_RECORDS` records of one source, one transaction."""

    source_id: str
    records: list[ImportRecord]


class RefusedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record that went to quarantine: its index in the request, and why."""

    index: int
    code: str
    reason: str


class ImportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Written and synced: `accepted + duplicates + len(refused)` is the number of records. `end` is the log's end."""

    accepted: int
    duplicates: int
    refused: list[RefusedRecord]
    end: Position
