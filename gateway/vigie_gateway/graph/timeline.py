"""What happened to a customer, newest first: events as they came, and scores."""

from datetime import datetime
from enum import Enum
from typing import Any

import strawberry
from vigie_contracts import reads
from vigie_contracts.reads import ScoreHistoryRow, TimelineRow

from vigie_gateway.graph.churn import ChurnAssessment, assessment
from vigie_gateway.graph.paging import Connection, checked_first, connection
from vigie_gateway.graph.scalars import Info, Money, instant, money
from vigie_gateway.identifiers import to_global

CURSOR_KIND = "timeline"
HISTORY_KIND = "scores"


@strawberry.enum(description="What kind of thing happened.")
class EventKind(Enum):
    MICRO_CONVERSION = "MICRO_CONVERSION"
    TRANSACTION = "TRANSACTION"
    SERVICE_CONTACT = "SERVICE_CONTACT"
    OFFER = "OFFER"
    SCORE = "SCORE"


CATEGORY_KINDS = {
    "payments": EventKind.TRANSACTION,
    "money": EventKind.TRANSACTION,
    "service": EventKind.SERVICE_CONTACT,
    "offers": EventKind.OFFER,
}


@strawberry.interface(description="Something that happened.")
class TimelineEvent:
    id: strawberry.ID = strawberry.field(description="Global id.")
    occurred_at: datetime = strawberry.field(description="When.")
    kind: EventKind = strawberry.field(description="What kind of thing.")
    summary: str = strawberry.field(description="One line for people.")


@strawberry.type(description="A small act.")
class MicroConversionEvent(TimelineEvent):
    name: str = strawberry.field(description="The catalogue's name, or the name as sent.")
    channel: str | None = strawberry.field(description="Where it happened.")


@strawberry.type(description="Money moved.")
class TransactionEvent(TimelineEvent):
    name: str = strawberry.field(description="The catalogue's name.")
    amount: Money | None = strawberry.field(description="How much.")


@strawberry.type(description="Help was sought.")
class ServiceContactEvent(TimelineEvent):
    name: str = strawberry.field(description="The catalogue's name.")
    channel: str | None = strawberry.field(description="Where.")
    topic: str | None = strawberry.field(description="About what.")


@strawberry.type(description="An offer was shown or answered.")
class OfferEvent(TimelineEvent):
    name: str = strawberry.field(description="offer.shown, offer.accepted, …")
    offer_code: str | None = strawberry.field(description="Which offer.")
    recommendation_id: strawberry.ID | None = strawberry.field(description="The recommendation it answers.")


@strawberry.type(description="A score was made.")
class ScoreEvent(TimelineEvent):
    assessment: ChurnAssessment = strawberry.field(description="The score, or why there is none.")


async def timeline(
    info: Info, customer_id: str, first: int, after: str | None, kinds: list[EventKind] | None
) -> Connection[TimelineEvent]:
    """Events of ingest and scores of scoring merged by time; a cursor holds a place in both."""
    context, first = info.context, checked_first(first)
    before, number = context.cursors.read(CURSOR_KIND, after) if after else (None, None)
    wanted = set(kinds or EventKind)
    events: list[TimelineRow] = []
    if wanted != {EventKind.SCORE}:
        categories = await _categories(info, wanted) if kinds else []
        request = reads.TimelineRequest(
            customer_id=customer_id, limit=first + 1, before=tuple(before) if before else None, categories=categories
        )
        events = (await context.services.post("ingest", "/internal/timeline", request, reads.TimelineAnswer)).events
    scores = await _history(info, customer_id, None, first + 1, number) if EventKind.SCORE in wanted else []
    merged: list[TimelineRow | ScoreHistoryRow] = sorted([*events, *scores], key=_when, reverse=True)
    pairs: list[tuple[str, TimelineEvent]] = []
    for row in merged[:first]:
        if isinstance(row, TimelineRow):
            before = (row.effective_at_us, row.number)
        else:
            number = row.number
        pairs.append((context.cursors.write(CURSOR_KIND, (before, number)), _shown(info, row)))
    return connection(pairs, has_next=len(merged) > first, has_previous=after is not None)


async def score_history(
    info: Info, customer_id: str, definition: str | None, first: int, after: str | None
) -> Connection[ScoreEvent]:
    """Stored scores, newest first."""
    context, first = info.context, checked_first(first)
    before = context.cursors.read(HISTORY_KIND, after) if after else None
    rows = await _history(info, customer_id, definition, first + 1, before)
    pairs = [(context.cursors.write(HISTORY_KIND, row.number), _score(info, row)) for row in rows[:first]]
    return connection(pairs, has_next=len(rows) > first, has_previous=after is not None)


async def _history(
    info: Info, customer_id: str, definition: str | None, limit: int, before: int | None
) -> list[ScoreHistoryRow]:
    request = reads.ScoreHistoryRequest(customer_id=customer_id, definition=definition, limit=limit, before=before)
    answer = await info.context.services.post("scoring", "/internal/score-history", request, reads.ScoreHistoryAnswer)
    return answer.scores


async def _categories(info: Info, wanted: set[EventKind]) -> list[str]:
    answer = await info.context.services.get("features", "/internal/catalogue", reads.CatalogueAnswer)
    known = sorted({row.category for row in answer.micro_conversions})
    return [name for name in known if CATEGORY_KINDS.get(name, EventKind.MICRO_CONVERSION) in wanted]


def _when(row: TimelineRow | ScoreHistoryRow) -> int:
    return row.effective_at_us if isinstance(row, TimelineRow) else row.assessment.scored_at_us


def _shown(info: Info, row: TimelineRow | ScoreHistoryRow) -> TimelineEvent:
    return _event(row) if isinstance(row, TimelineRow) else _score(info, row)


def _event(row: TimelineRow) -> TimelineEvent:
    kind = CATEGORY_KINDS.get(row.category or "", EventKind.MICRO_CONVERSION)
    shared: dict[str, Any] = {
        "id": to_global("Event", f"{row.lane}.{row.number}"),
        "occurred_at": instant(row.effective_at_us),
        "kind": kind,
        "summary": row.name.replace(".", " ").replace("_", " "),
        "name": row.name,
    }
    if kind is EventKind.TRANSACTION:
        amount = row.measures.get("amount")
        return TransactionEvent(**shared, amount=None if amount is None else money(amount))
    if kind is EventKind.SERVICE_CONTACT:
        return ServiceContactEvent(**shared, channel=row.channel, topic=_text(row.properties.get("topic")))
    if kind is EventKind.OFFER:
        answered = _text(row.properties.get("recommendation_id"))
        return OfferEvent(
            **shared,
            offer_code=_text(row.properties.get("offer")),
            recommendation_id=strawberry.ID(answered) if answered else None,
        )
    return MicroConversionEvent(**shared, channel=row.channel)


def _score(info: Info, row: ScoreHistoryRow) -> ScoreEvent:
    found = assessment(row.assessment, info.context.texts)
    probability = getattr(found, "probability", None)
    return ScoreEvent(
        id=to_global("Score", str(row.number)),
        occurred_at=instant(row.assessment.scored_at_us),
        kind=EventKind.SCORE,
        summary="no score" if probability is None else f"churn probability {probability:.3f}",
        assessment=found,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
