"""What could not be accepted, why, and its release. Ingest owns it."""

from datetime import datetime
from enum import Enum
from typing import Any
from urllib.parse import urlencode

import msgspec
import strawberry
from vigie_contracts import quarantine
from vigie_contracts.errors import InvalidInput, VigieError
from vigie_contracts.instants import from_micros, parse_instant

from vigie_gateway.graph.errors import ErrorCode, FieldError, UserError, errors_of
from vigie_gateway.graph.events import EventReceipt, receipt_of
from vigie_gateway.graph.paging import Connection, checked_first, connection
from vigie_gateway.graph.scalars import DIRECT, Cursor, Info

PATH = "/internal/quarantine"
LIST = "quarantine"


@strawberry.enum(description="Where a quarantined event stands.")
class QuarantineState(Enum):
    WAITING = "waiting"
    RELEASED = "released"


@strawberry.type(description="An event that could not be accepted, kept as it was sent until its person is erased.")
class QuarantinedEvent:
    number: int = strawberry.field(description="Name it by this to release it.")
    event_id: str = strawberry.field(description="The sender's id of it, or the one that was given.")
    source: str = strawberry.field(description="Which source sent it.")
    received_at: datetime = strawberry.field(description="When it arrived.")
    code: str = strawberry.field(description="Why it was not accepted; stable.")
    reason: str = strawberry.field(description="The same in a sentence.")
    body: str = strawberry.field(description="What was sent.", directives=[DIRECT])
    message: str = strawberry.field(description="What a release reads: mend this.", directives=[DIRECT])
    state: QuarantineState = strawberry.field(description="Whether a good copy of it counts.")
    released_at: datetime | None = strawberry.field(description="Since when it counts.")
    log_number: int | None = strawberry.field(description="Where the good copy lies in the log.")


@strawberry.type(description="Events of a source that were not accepted for one reason.")
class QuarantineCount:
    source: str = strawberry.field(description="Which source sent them.")
    code: str = strawberry.field(description="Why they were not accepted.")
    waiting: int = strawberry.field(description="How many lie there.")
    released: int = strawberry.field(description="Of how many a good copy counts.")


@strawberry.type(description="The outcome of releasing an event from quarantine.")
class EventQuarantineReleasePayload:
    receipt: EventReceipt | None = strawberry.field(description="What became of the event.")
    already: bool = strawberry.field(description="Whether a good copy of it counted before.")
    errors: list[UserError] = strawberry.field(description="Empty when it counts now.")


@strawberry.type
class QuarantineQuery:
    """Mixed into `Query`."""

    @strawberry.field(description="Events that could not be accepted, newest first.")
    async def quarantine(
        self,
        info: Info,
        source: str | None = None,
        code: str | None = None,
        state: QuarantineState | None = None,
        first: int = 20,
        after: Cursor | None = None,
    ) -> Connection[QuarantinedEvent] | None:
        first, cursors = checked_first(first), info.context.cursors
        wanted = {"source": source, "code": code, "state": state.value if state else None, "limit": first + 1,
                  "before": cursors.read(LIST, after) if after else None}  # fmt: skip
        query = urlencode({name: value for name, value in wanted.items() if value is not None})
        rows = await info.context.services.get("ingest", f"{PATH}?{query}", list[quarantine.QuarantinedEvent])
        pairs = [(cursors.write(LIST, row.id), _event(row)) for row in rows[:first]]
        return connection(pairs, has_next=len(rows) > first, has_previous=after is not None)

    @strawberry.field(description="How many events could not be accepted, by source and reason.")
    async def quarantine_counts(self, info: Info) -> list[QuarantineCount] | None:
        rows = await info.context.services.get("ingest", f"{PATH}/counts", list[quarantine.QuarantineCount])
        return [
            QuarantineCount(source=row.source_id, code=row.code, waiting=row.waiting, released=row.released)
            for row in rows
        ]


@strawberry.type
class QuarantineMutation:
    """Mixed into `Mutation`."""

    @strawberry.mutation(
        description="Check a quarantined event again, mended if `event` (JSON) is given, and take it. Safe to repeat."
    )
    async def event_quarantine_release(
        self, info: Info, number: int, event: str | None = None
    ) -> EventQuarantineReleasePayload:
        try:
            request = quarantine.ReleaseRequest(id=number, event=_mended(event))
            answer = await info.context.services.post("ingest", f"{PATH}/release", request, quarantine.ReleaseAnswer)
            receipt = await receipt_of(info, answer.event_id, answer.source_id)
        except VigieError as error:
            path = "event" if event is not None and error.code == "VALIDATION_FAILED" else "number"
            return EventQuarantineReleasePayload(receipt=None, already=False, errors=errors_of(error, path))
        still: list[UserError] = []
        if answer.verdict == "quarantined":
            still = [FieldError(code=ErrorCode.VALIDATION_FAILED, message=answer.reason or "", path=["event"])]
        return EventQuarantineReleasePayload(receipt=receipt, already=answer.already, errors=still)


def _mended(event: str | None) -> dict[str, Any] | None:
    if event is None:
        return None
    try:
        found: dict[str, Any] = msgspec.json.decode(event, type=dict)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the mended event is no JSON object: {error}") from error
    return found


def _event(row: quarantine.QuarantinedEvent) -> QuarantinedEvent:
    released = row.released_at is not None
    return QuarantinedEvent(
        number=row.id,
        event_id=row.event_id,
        source=row.source_id,
        received_at=_instant(row.received_at),
        code=row.code,
        reason=row.reason,
        body=row.body,
        message=row.message,
        state=QuarantineState.RELEASED if released else QuarantineState.WAITING,
        released_at=_instant(row.released_at) if row.released_at else None,
        log_number=row.number,
    )


def _instant(text: str) -> datetime:
    return from_micros(parse_instant(text))
