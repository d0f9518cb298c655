"""HTTP routes: receipts, imports, and the batched reads of other parts."""

import hmac
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from vigie_contracts.errors import InvalidInput, Unauthorized
from vigie_contracts.events import Position
from vigie_contracts.imports import MAX_IMPORT_RECORDS, ImportAnswer, ImportRequest, RefusedRecord
from vigie_contracts.reads import CustomersRequest, TimelineRequest, UndoRequest
from vigie_contracts.subjects import ErasureRequest, Subject
from vigie_kit.clock import Clock
from vigie_kit.http import StructResponse, decode, whole

from vigie_ingest.answers import refused
from vigie_ingest.appender import DUPLICATE, Item
from vigie_ingest.bodies import KeyRing, basic_user, read_body
from vigie_ingest.domain import Refusal
from vigie_ingest.erasing import Eraser, Persons
from vigie_ingest.messages import Normaliser
from vigie_ingest.usecases import Reads
from vigie_ingest.writer import Writer

MAX_IMPORT_BYTES = 64_000_000


class Receipts:
    """`GET /v1/receipts/{event_id}` with a write key (its own source's events) or the service token (all).

    With the token `?source=` names the source; without it the first source, by name, that sent the id is told.
    """

    def __init__(self, keys: KeyRing, reads: Reads, service_token: str) -> None:
        self._keys = keys
        self._reads = reads
        self._bearer = f"Bearer {service_token}".encode()

    def routes(self) -> list[Route]:
        """The one route."""
        return [Route("/v1/receipts/{event_id:path}", self.receipt)]

    async def receipt(self, request: Request) -> Response:
        """The verdict on an event."""
        authorization = request.headers.get("authorization", "")
        source_id = self._keys.source_of_key(basic_user(authorization))
        if source_id is None:
            if not hmac.compare_digest(authorization.encode(), self._bearer):
                return refused(Unauthorized("a receipt needs the write key of its source, or the service token"))
            source_id = request.query_params.get("source")
        found = await run_in_threadpool(self._reads.receipt, request.path_params["event_id"], source_id)
        return StructResponse(found)


class Internal:
    """Routes for our own processes; the service token is checked before."""

    def __init__(
        self, reads: Reads, normaliser: Normaliser, writer: Writer, clock: Clock, persons: Persons, eraser: Eraser
    ) -> None:
        self._persons = persons
        self._eraser = eraser
        self._reads = reads
        self._normaliser = normaliser
        self._writer = writer
        self._clock = clock

    def routes(self) -> list[Route]:
        """All below `/internal`."""
        return [
            Route("/internal/customers", self.customers, methods=["POST"]),
            Route("/internal/timeline", self.timeline, methods=["POST"]),
            Route("/internal/identity/explain", self.explain, methods=["POST"]),
            Route("/internal/identity/undo", self.undo, methods=["POST"]),
            Route("/internal/import", self.take_import, methods=["POST"]),
            Route("/internal/arrivals", self.arrivals),
            Route("/internal/status", self.status),
            Route("/internal/holdings", self.holdings, methods=["POST"]),
            Route("/internal/subject", self.subject, methods=["POST"]),
            Route("/internal/erasures", self.erase, methods=["POST"]),
        ]

    async def customers(self, request: Request) -> Response:
        """Profiles, identities and consent of many customers."""
        asked = decode(await request.body(), CustomersRequest)
        return StructResponse(await run_in_threadpool(self._reads.customers, asked))

    async def timeline(self, request: Request) -> Response:
        """A customer's events."""
        asked = decode(await request.body(), TimelineRequest)
        return StructResponse(await run_in_threadpool(self._reads.timeline, asked))

    async def explain(self, request: Request) -> Response:
        """Why members are one customer."""
        asked = decode(await request.body(), CustomersRequest)
        return StructResponse(await run_in_threadpool(self._reads.explain, asked))

    async def undo(self, request: Request) -> Response:
        """Take back a merge, or an undo."""
        asked = decode(await request.body(), UndoRequest)
        return StructResponse(await self._writer.undo(asked))

    async def take_import(self, request: Request) -> Response:
        """Records of a file, in one transaction."""
        body = await read_body(request, MAX_IMPORT_BYTES)
        items = await run_in_threadpool(self._drafted, body)
        outcomes = await self._writer.submit(items) if items else []
        return StructResponse(_import_answer(items, outcomes, self._writer.end))

    async def holdings(self, request: Request) -> Response:
        """How much of a person lies in each place."""
        asked = decode(await request.body(), Subject)
        return StructResponse(await run_in_threadpool(self._persons.holdings, asked))

    async def subject(self, request: Request) -> Response:
        """Everything about a person."""
        asked = decode(await request.body(), Subject)
        return StructResponse(await run_in_threadpool(self._persons.subject, asked))

    async def erase(self, request: Request) -> Response:
        """Erase a person; answered when nothing is left here."""
        asked = decode(await request.body(), ErasureRequest)
        survey = await run_in_threadpool(self._persons.survey, asked.customer_id)
        return StructResponse(await self._writer.call(lambda: self._eraser.erase(asked, survey)))

    async def arrivals(self, request: Request) -> Response:
        """What came, by source and name."""
        limit = whole(request.query_params.get("limit"))
        return StructResponse(await run_in_threadpool(self._reads.arrivals, 1_000 if limit is None else limit))

    async def status(self, _request: Request) -> Response:
        """Where the log ends, what waits, what was counted, what is wrong."""
        problem = self._writer.problem
        body: dict[str, Any] = {
            "service": "ingest",
            "now_us": self._clock.now_us(),
            "offsets": {"events": self._writer.end},
            "lag": {"waiting_events": self._writer.waiting},
            **await run_in_threadpool(self._reads.counts),
            "problems": [problem] if problem else [],
        }
        return Response(msgspec.json.encode(body), media_type="application/json")

    def _drafted(self, body: bytes) -> list[Item]:
        asked = decode(body, ImportRequest)
        if len(asked.records) > MAX_IMPORT_RECORDS:
            raise InvalidInput(f"an import request holds at most {MAX_IMPORT_RECORDS} records")
        if not asked.source_id:
            raise InvalidInput("an import request needs a source_id")
        now_us = self._clock.now_us()
        return [self._normaliser.imported(record, asked.source_id, now_us) for record in asked.records]


def _import_answer(items: list[Item], outcomes: list[int], end: int) -> ImportAnswer:
    refusals = [
        RefusedRecord(index=index, code=item.code, reason=item.reason)
        for index, item in enumerate(items)
        if isinstance(item, Refusal)
    ]
    drafts = [outcome for item, outcome in zip(items, outcomes, strict=True) if not isinstance(item, Refusal)]
    duplicates = drafts.count(DUPLICATE)
    return ImportAnswer(
        accepted=len(drafts) - duplicates, duplicates=duplicates, refused=refusals, end=Position(0, end)
    )
