"""Quarantine for people: what lies there, why, and releasing it. A released event is known at its release.

The event as it was sent stays beside the good one until the person is erased.
"""

from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from vigie_contracts.errors import Conflict, InvalidInput, NotFound
from vigie_contracts.imports import ImportRecord
from vigie_contracts.instants import format_instant
from vigie_contracts.quarantine import QuarantineCount, QuarantinedEvent, ReleaseAnswer, ReleaseRequest
from vigie_kit.clock import Clock
from vigie_kit.database import reading
from vigie_kit.http import StructResponse, decode, whole

from vigie_ingest import quarantine_store
from vigie_ingest.domain import UNREADABLE, Draft, Refusal
from vigie_ingest.messages import KINDS, Normaliser, read
from vigie_ingest.quarantine_store import QuarantinedRow
from vigie_ingest.store import Engine
from vigie_ingest.writer import Writer

MOST_ROWS = 500
DEFAULT_ROWS = 50


class Quarantine:
    """Reads, and releases through the one writer."""

    def __init__(self, engine: Engine, normaliser: Normaliser, writer: Writer, clock: Clock) -> None:
        self._engine = engine
        self._normaliser = normaliser
        self._writer = writer
        self._clock = clock

    def routes(self) -> list[Route]:
        """All below `/internal/quarantine`."""
        return [
            Route("/internal/quarantine", self._list),
            Route("/internal/quarantine/counts", self._counts),
            Route("/internal/quarantine/release", self._release, methods=["POST"]),
        ]

    def events(
        self,
        before: int | None = None,
        limit: int = DEFAULT_ROWS,
        source_id: str | None = None,
        code: str | None = None,
        state: str | None = None,
    ) -> list[QuarantinedEvent]:
        """Newest first, with ids below `before`; `state`: waiting or released, null for both (else InvalidInput)."""
        if state not in (None, "waiting", "released"):
            raise InvalidInput(f"state must be waiting or released, not {state!r}")
        waiting, most = None if state is None else state == "waiting", min(max(limit, 1), MOST_ROWS)
        with reading(self._engine) as connection:
            rows = quarantine_store.rows(connection, before, most, source_id, code, waiting)
        return [_told(row) for row in rows]

    def counts(self) -> list[QuarantineCount]:
        """By source and reason."""
        with reading(self._engine) as connection:
            return [
                QuarantineCount(source_id=source, code=code, waiting=waiting, released=released)
                for source, code, waiting, released in quarantine_store.counts(connection)
            ]

    async def release(self, asked: ReleaseRequest) -> ReleaseAnswer:
        """Check an event again by today's rules and take it when they hold; durable when this answers.

        Asking again answers the same. NotFound without such an event, Conflict when its id is an erased event's,
        InvalidInput when the event given is no message or of another id.
        """
        row = await run_in_threadpool(self._row, asked.id)
        if row.released_at_us is not None:
            return _released(row, row.released_number)
        item = self._again(row, asked.event)
        if isinstance(item, Refusal):
            return _answer(row, verdict="quarantined", code=item.code, reason=item.reason)
        (number,) = await self._writer.submit([item])
        if number > 0:
            return _answer(row, verdict="accepted", number=number)
        row = await run_in_threadpool(self._row, asked.id)
        if row.released_at_us is None:
            raise Conflict(f"the event {row.event_id!r} is a copy of one that was erased; it is never taken again")
        return _released(row, row.released_number)

    def _row(self, number: int) -> QuarantinedRow:
        with reading(self._engine) as connection:
            row = quarantine_store.row(connection, number)
        if row is None:
            raise NotFound(f"there is no event {number} in quarantine; `vigie quarantine list` shows what is")
        return row

    def _again(self, row: QuarantinedRow, mended: dict[str, Any] | None) -> Draft | Refusal:
        """By today's rules, under the id and at the arrival that it had."""
        body = (row.message or row.body) if mended is None else msgspec.json.encode(mended)
        kind = _kind_of(body)
        if kind is None:
            record = _record_of(body)
            if record is None:
                raise InvalidInput(
                    "this is no message of the tracking API: give the whole event with its `type` (track, identify, …)"
                )
            item = self._normaliser.imported(record, row.source_id, self._clock.now_us())
        else:
            (item,) = self._normaliser.items(read(body, kind), row.source_id, row.received_at_us)
        if isinstance(item, Refusal):
            return item
        if mended is not None and mended.get("messageId") not in (None, row.event_id):
            raise InvalidInput(f"a mended event keeps its messageId, {row.event_id!r}")
        item.event_id = row.event_id
        if item.backfilled:
            item.known_at_us = self._clock.now_us()
        return item

    async def _list(self, request: Request) -> Response:
        asked = request.query_params
        before, limit = whole(asked.get("before")), whole(asked.get("limit"))
        found = await run_in_threadpool(
            self.events,
            before,
            DEFAULT_ROWS if limit is None else limit,
            asked.get("source"),
            asked.get("code"),
            asked.get("state"),
        )
        return StructResponse(found)

    async def _counts(self, _request: Request) -> Response:
        return StructResponse(await run_in_threadpool(self.counts))

    async def _release(self, request: Request) -> Response:
        return StructResponse(await self.release(decode(await request.body(), ReleaseRequest)))


def _kind_of(body: bytes) -> str | None:
    try:
        found = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    kind = found.get("type") if isinstance(found, dict) else None
    return kind if isinstance(kind, str) and kind in KINDS else None


def _record_of(body: bytes) -> ImportRecord | None:
    try:
        return msgspec.json.decode(body, type=ImportRecord)
    except UNREADABLE:
        return None


def _released(row: QuarantinedRow, number: int) -> ReleaseAnswer:
    return _answer(row, verdict="accepted", number=number or None, already=True)


def _answer(row: QuarantinedRow, **told: Any) -> ReleaseAnswer:
    return ReleaseAnswer(id=row.id, source_id=row.source_id, event_id=row.event_id, **told)


def _told(row: QuarantinedRow) -> QuarantinedEvent:
    return QuarantinedEvent(
        id=row.id,
        source_id=row.source_id,
        event_id=row.event_id,
        received_at=format_instant(row.received_at_us),
        code=row.code,
        reason=row.reason,
        body=row.body.decode(errors="replace"),
        message=(row.message or row.body).decode(errors="replace"),
        released_at=None if row.released_at_us is None else format_instant(row.released_at_us),
        number=row.released_number or None,
    )
