"""Events by their id: what became of one."""

from datetime import datetime
from enum import Enum
from urllib.parse import quote, urlencode

import strawberry
from vigie_contracts.instants import parse_instant
from vigie_contracts.receipts import Receipt

from vigie_gateway.graph.scalars import Info, maybe_instant


@strawberry.enum(description="What became of an event.")
class EventVerdict(Enum):
    ACCEPTED = "ACCEPTED"
    QUARANTINED = "QUARANTINED"
    ERASED = "ERASED"
    UNKNOWN = "UNKNOWN"


@strawberry.type(description="What became of an event, by the id that its source gave it.")
class EventReceipt:
    event_id: str = strawberry.field(description="The source's id of it.")
    verdict: EventVerdict = strawberry.field(description="What became of it.")
    source: str | None = strawberry.field(description="Which source sent it.")
    received_at: datetime | None = strawberry.field(description="When it arrived.")
    known_at: datetime | None = strawberry.field(description="From when it counts for those who ask as of an instant.")
    effective_at: datetime | None = strawberry.field(description="When it happened, corrected by the sender's clock.")
    corrected_seconds: float | None = strawberry.field(description="By how much its own stamp was corrected.")
    duplicates: int = strawberry.field(description="How many copies came later; they count once.")
    code: str | None = strawberry.field(description="Why it lies in quarantine.")
    reason: str | None = strawberry.field(description="The same in a sentence.")
    notes: list[str] = strawberry.field(description="What was noticed beside it, such as a shared device.")


async def receipt_of(info: Info, event_id: str, source: str | None) -> EventReceipt:
    """The verdict on an event of a source; without one, of the first source that sent the id."""
    query = "" if source is None else f"?{urlencode({'source': source})}"
    found = await info.context.services.get("ingest", f"/v1/receipts/{quote(event_id, safe='')}{query}", Receipt)
    return EventReceipt(
        event_id=found.event_id,
        verdict=EventVerdict(found.verdict.upper()),
        source=found.source_id,
        received_at=_instant(found.received_at),
        known_at=_instant(found.known_at),
        effective_at=_instant(found.effective_at),
        corrected_seconds=found.corrected_seconds,
        duplicates=found.duplicates,
        code=found.code,
        reason=found.reason,
        notes=found.notes,
    )


def _instant(text: str | None) -> datetime | None:
    return maybe_instant(None if text is None else parse_instant(text))
