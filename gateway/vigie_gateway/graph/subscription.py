"""Score updates as they are committed: filtered, resumable by cursor, with gaps said and heartbeats between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import strawberry
from vigie_contracts.errors import InvalidInput, Unavailable
from vigie_contracts.instants import from_micros
from vigie_contracts.scores import BANDS, ChurnScore

from vigie_gateway.context import Context
from vigie_gateway.graph import churn
from vigie_gateway.graph.churn import ChurnAssessment, RiskBand
from vigie_gateway.graph.customer import Customer, customer
from vigie_gateway.graph.scalars import Cursor, Info, instant
from vigie_gateway.hub import Told
from vigie_gateway.identifiers import local_id, to_global

CURSOR_KIND = "score-stream"
LEAST_DELTA = 0.05
RETRY_SECONDS = 0.5


@strawberry.input(description="Which updates; all conditions must hold.")
class ScoreUpdateFilter:
    definitions: list[str] | None = strawberry.field(default=None, description="Of these churn definitions.")
    customer_ids: list[strawberry.ID] | None = strawberry.field(default=None, description="Of these customers.")
    segment_keys: list[str] | None = strawberry.field(
        default=None, description="Of customers in any of these segments now."
    )
    band_at_least: RiskBand | None = strawberry.field(default=None, description="Now in this band or above.")  # type: ignore[valid-type]
    min_delta: float | None = strawberry.field(
        default=None, description="Moved by at least so much since the update before; at least 0.05."
    )


@strawberry.type(description="A customer's score changed enough to be told.")
class ScoreUpdate:
    cursor: Cursor = strawberry.field(description="Resume after this item with it.")
    emitted_at: datetime = strawberry.field(description="When the score was made.")
    customer_id: strawberry.ID = strawberry.field(description="Global id of the customer.")
    customer: Customer | None = strawberry.field(description="The customer as of now.")
    previous: ChurnAssessment | None = strawberry.field(description="The update before; null for the first.")
    current: ChurnAssessment = strawberry.field(description="The assessment.")


@strawberry.type(description="Items were lost to this stream: read the work list or an export, then go on.")
class StreamGap:
    cursor: Cursor = strawberry.field(description="Where the stream goes on.")
    dropped_at_least: int = strawberry.field(description="Records that were passed over; 0 when it is not known.")
    reason: str = strawberry.field(description="Why.")


@strawberry.type(description="The stream lives; nothing else happened.")
class StreamHeartbeat:
    cursor: Cursor = strawberry.field(description="Resume here.")
    at: datetime = strawberry.field(description="Business time.")


ScoreStreamItem = Annotated[
    ScoreUpdate | StreamGap | StreamHeartbeat,
    strawberry.union("ScoreStreamItem", description="An item of the stream. Every item carries a cursor."),
]


@strawberry.type(description="Streams, over graphql-transport-ws or graphql-sse.")
class Subscription:
    @strawberry.subscription(
        description="Score updates after a cursor (from now without one): at least once, in order for each customer."
    )
    async def score_updated(
        self, info: Info, filter: ScoreUpdateFilter | None = None, after: Cursor | None = None
    ) -> AsyncIterator[ScoreStreamItem]:
        stream = _Stream(info.context, filter or ScoreUpdateFilter(), after)
        async for item in stream.items():
            yield item


@dataclass
class _Stream:
    context: Context
    wanted: ScoreUpdateFilter
    after: str | None

    def __post_init__(self) -> None:
        if self.wanted.min_delta is not None and self.wanted.min_delta < LEAST_DELTA:
            raise InvalidInput(f"minDelta must be at least {LEAST_DELTA}: smaller moves are no updates")
        self.ids = {local_id(one, "Customer") for one in self.wanted.customer_ids or []}
        self.number = self.context.shared.hub.end
        if self.after is not None:
            self.number = self.context.cursors.read(CURSOR_KIND, self.after)

    async def items(self) -> AsyncIterator[Any]:
        hub, limit = self.context.shared.hub, self.context.shared.hub.most_lag
        if self.number > hub.end:
            yield self._gap(0, "the cursor lies behind the end of this installation's log", hub.end)
        yield self._heartbeat()
        now, pause = asyncio.get_running_loop().time, self.context.shared.heartbeat_seconds
        due = now() + pause
        while True:
            if hub.end - self.number > limit:
                yield self._gap(
                    hub.end - self.number - limit, "the reader was too slow or the cursor too old", hub.end - limit
                )
            end = hub.end
            batch = await hub.after(self.number)
            for told in await self._allowed(batch):
                yield self._update(told)
                due = now() + pause
            if batch:
                self.number = batch[-1].number
            elif self.number < end:  # nothing but what an erasure emptied
                self.number = end
            elif await self._idle(due - now()):
                return
            if now() >= due:  # also while records come that this reader does not want
                yield self._heartbeat()
                due = now() + pause

    async def _idle(self, seconds: float) -> bool:
        """Wait for a record, so many seconds or the drain; True when draining."""
        waits: list[Awaitable[Any]] = [self.context.shared.hub.moved_past(self.number)]
        if self.context.drain is not None:
            waits.append(self.context.drain.wait())
        tasks = [asyncio.ensure_future(one) for one in waits]
        try:
            await asyncio.wait(tasks, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return self.context.drain is not None and self.context.drain.draining

    async def _allowed(self, batch: list[Told]) -> list[Told]:
        """What the filter lets pass and consent still allows; waits while scoring cannot say."""
        found = [told for told in batch if told.record.is_update and self._matches(told)]
        while found:
            try:
                if self.wanted.segment_keys:
                    found = await self._in_segments(found)
                return await self._consented(found)
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
        return found

    def _matches(self, told: Told) -> bool:
        current, previous = told.record.current, told.record.previous
        if self.ids and current.customer_id not in self.ids:
            return False
        if self.wanted.definitions and current.definition not in self.wanted.definitions:
            return False
        if self.wanted.band_at_least is not None:
            least = BANDS.index(self.wanted.band_at_least.name)
            if not isinstance(current, ChurnScore) or BANDS.index(current.band) < least:
                return False
        if self.wanted.min_delta is not None and isinstance(current, ChurnScore) and isinstance(previous, ChurnScore):
            return abs(current.probability - previous.probability) >= self.wanted.min_delta
        return True

    async def _in_segments(self, found: list[Told]) -> list[Told]:
        ids = list(dict.fromkeys(told.record.current.customer_id for told in found))
        keys, services = set(self.wanted.segment_keys or []), self.context.services
        rows = [row for name in ("features", "scoring") for row in await services.memberships(name, ids)]
        inside = {row.customer_id for row in rows if row.key in keys}
        return [told for told in found if told.record.current.customer_id in inside]

    async def _consented(self, found: list[Told]) -> list[Told]:
        """Scores of customers who deny profiling now are not delivered, whenever they were made."""
        scored = [told for told in found if isinstance(told.record.current, ChurnScore)]
        if not scored:
            return found
        ids = list(dict.fromkeys(told.record.current.customer_id for told in scored))
        standing = await self.context.services.scores(ids)
        denied = {
            row.assessment.customer_id
            for row in standing
            if getattr(row.assessment, "reason", None) == "CONSENT_WITHDRAWN"
        }
        return [
            told
            for told in found
            if told.record.current.customer_id not in denied or not isinstance(told.record.current, ChurnScore)
        ]

    def _update(self, told: Told) -> ScoreUpdate:
        current, previous, texts = told.record.current, told.record.previous, self.context.texts
        return ScoreUpdate(
            cursor=self._cursor(told.number),
            emitted_at=instant(current.scored_at_us),
            customer_id=to_global("Customer", current.customer_id),
            customer=customer(current.customer_id),
            previous=None if previous is None else churn.assessment(previous, texts),
            current=churn.assessment(current, texts),
        )

    def _gap(self, dropped: int, reason: str, number: int) -> StreamGap:
        self.number = number
        return StreamGap(cursor=self._cursor(number), dropped_at_least=dropped, reason=reason)

    def _heartbeat(self) -> StreamHeartbeat:
        return StreamHeartbeat(cursor=self._cursor(self.number), at=from_micros(self.context.shared.clock.now_us()))

    def _cursor(self, number: int) -> Cursor:
        return Cursor(self.context.cursors.write(CURSOR_KIND, number))
