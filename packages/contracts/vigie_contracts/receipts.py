"""What became of an event: the answer of ingest's `/v1/receipts/{event_id}`."""

from typing import Literal

import msgspec

from vigie_contracts.events import Position


class Receipt(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What became of an event. `corrected_seconds`: effective instant - client's stamp; `duplicates`: later copies."""

    event_id: str
    verdict: Literal["accepted", "quarantined", "erased", "unknown"]
    source_id: str | None = None
    position: Position | None = None
    received_at: str | None = None
    known_at: str | None = None
    effective_at: str | None = None
    corrected_seconds: float | None = None
    duplicates: int = 0
    code: str | None = None
    reason: str | None = None
    notes: list[str] = []
