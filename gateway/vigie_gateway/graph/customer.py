"""The customer and the segments: every field that crosses a service is nullable and loaded in one batch."""

from datetime import datetime
from enum import Enum

import strawberry
from vigie_contracts import reads
from vigie_contracts.reads import CustomerRow, EngagementRow, MembershipRow, SegmentRow
from vigie_contracts.segmentation import MoveRow

from vigie_gateway.graph import churn, identities, offers, profile
from vigie_gateway.graph import timeline as happened
from vigie_gateway.graph.churn import ChurnAssessment, ScoreUnavailableReason
from vigie_gateway.graph.identities import IdentityExplanation
from vigie_gateway.graph.offers import OfferDecision, OfferUnavailable, OfferUnavailableReason
from vigie_gateway.graph.paging import Connection, PageInfo, checked_first, connection, page_info
from vigie_gateway.graph.profile import CustomerProfile, Identity
from vigie_gateway.graph.scalars import Channel, Cursor, Info, Locale, Window, instant, maybe_instant, text
from vigie_gateway.graph.timeline import EventKind, ScoreEvent, TimelineEvent
from vigie_gateway.identifiers import to_global

SUPPORT_FAMILY = "support_model"
MEMBER_KIND = "members"
HISTORY = "segment_history"


@strawberry.enum(description="How a customer is looked after.")
class SupportModelKey(Enum):
    DEDICATED_ADVISER = "dedicated_adviser"
    DIGITAL = "digital"
    BRANCH_AND_PHONE = "branch_and_phone"
    HYBRID = "hybrid"


@strawberry.type(description="How a customer is looked after, and why.")
class SupportModel:
    key: SupportModelKey = strawberry.field(description="The model.")
    since: datetime = strawberry.field(description="Since when.")
    reasons: strawberry.Private[dict[str, str]]

    @strawberry.field(description="Why this model.")
    def because(self, locale: Locale | None = None) -> str:
        return text(self.reasons, locale)


@strawberry.type(description="How often a customer did something in a window, and in the window before.")
class MicroConversionCount:
    name: str = strawberry.field(description="The catalogue's name.")
    count: int = strawberry.field(description="In the window.")
    previous_count: int = strawberry.field(description="In the window before.")
    last_at: datetime | None = strawberry.field(description="The last time, where it is kept.")
    labels: strawberry.Private[dict[str, str]]

    @strawberry.field(description="Its label.")
    def label(self, locale: Locale | None = None) -> str:
        return text(self.labels, locale)


@strawberry.type(description="How engaged a customer is, computed at the business clock when it is asked.")
class Engagement:
    window: Window = strawberry.field(description="The window.")
    as_of: datetime = strawberry.field(description="The instant it was computed at.")
    score: float | None = strawberry.field(description="0 to 100.")
    active_days: int = strawberry.field(description="Local days with an act of the customer.")
    last_activity_at: datetime | None = strawberry.field(description="The customer's last act.")
    micro_conversions: list[MicroConversionCount] = strawberry.field(description="What the customer did.")
    trend: float | None = strawberry.field(description="Acts in the window over those of the window before.")


@strawberry.interface(description="An object with a global id.")
class Node:
    id: strawberry.ID = strawberry.field(description="Global id.")


@strawberry.type(description="A definition that a segment has or had.")
class SegmentVersion:
    version: int = strawberry.field(description="Its number; a number means one definition for ever.")
    definition: str = strawberry.field(description="The rule.")
    since: datetime = strawberry.field(description="When it was made, or first seen in the file.")
    made_by: str = strawberry.field(description="`file` (segments.toml) or `api` (the graph and the command line).")


@strawberry.type(description="A named, versioned rule that customers enter and leave.")
class Segment(Node):
    key: str = strawberry.field(description="Its key.")
    family: str = strawberry.field(description="demographic, behavioural, life_cycle, …")
    definition: str = strawberry.field(description="The rule.")
    version: int = strawberry.field(description="Rises with every change of the rule.")
    size: int | None = strawberry.field(description="Customers in it now.")
    evaluating: bool = strawberry.field(description="Whether everybody is being looked at; the size still moves.")
    versions: list[SegmentVersion] = strawberry.field(
        description="Newest first; empty for a segment that names scores."
    )
    names: strawberry.Private[dict[str, str]]
    service: strawberry.Private[str]

    @strawberry.field(description="Its name.")
    def name(self, locale: Locale | None = None) -> str:
        return text(self.names, locale)

    @strawberry.field(description="Its customers, by id.")
    async def members(self, info: Info, first: int = 20, after: Cursor | None = None) -> "CustomerConnection | None":
        first = checked_first(first)
        cursors = info.context.cursors
        request = reads.SegmentMembersRequest(
            key=self.key, after=cursors.read(MEMBER_KIND, after) if after else None, limit=first + 1
        )
        answer = await info.context.services.post(
            self.service, "/internal/segment-members", request, reads.MembershipsAnswer
        )
        rows = answer.memberships
        pairs = [(cursors.write(MEMBER_KIND, row.customer_id), row.customer_id) for row in rows[:first]]
        page = customer_page(pairs, has_next=len(rows) > first, has_previous=after is not None, total=self.size)
        for edge, row in zip(page.edges, rows, strict=False):
            edge.since = instant(row.since_us)
        return page


@strawberry.type(description="A customer's place in a segment.")
class SegmentMembership:
    segment: Segment = strawberry.field(description="The segment.")
    since: datetime = strawberry.field(description="Since when.")
    version: int | None = strawberry.field(description="The definition's version; null for one that names scores.")


@strawberry.type(description="A customer entered or left a segment.")
class SegmentMove:
    key: str = strawberry.field(description="The segment's key.")
    segment: Segment | None = strawberry.field(description="The segment; null when it is retired.")
    version: int = strawberry.field(description="Which version of its definition.")
    entered: bool = strawberry.field(description="True: entered, false: left.")
    at: datetime = strawberry.field(description="When.")


@strawberry.type(description="A customer: one person behind all identities that were joined.")
class Customer(Node):
    customer_id: strawberry.Private[str]

    async def _row(self, info: Info) -> CustomerRow | None:
        return await info.context.loaders.customers.load(self.customer_id)

    @strawberry.field(description="The id under which the institution knows the customer.")
    async def external_id(self, info: Info) -> str | None:
        row = await self._row(info)
        return row.external_id if row else None

    @strawberry.field(description="Whether no user id is known.")
    async def anonymous(self, info: Info) -> bool | None:
        row = await self._row(info)
        return row.anonymous if row else None

    @strawberry.field(description="Attributes and consents.")
    async def profile(self, info: Info) -> CustomerProfile | None:
        row = await self._row(info)
        return profile.profile(row) if row else None

    @strawberry.field(description="The names under which sources know the customer.")
    async def identities(self, info: Info) -> list[Identity] | None:
        row = await self._row(info)
        return [profile.identity(found) for found in row.identities] if row else None

    @strawberry.field(description="Why these names are one customer: which event by which rule; what was refused.")
    async def identity_explanation(self, info: Info) -> IdentityExplanation | None:
        found = await info.context.loaders.explanations.load(self.customer_id)
        return identities.explanation(found) if found else None

    @strawberry.field(description="Segments the customer is in, by key.")
    async def segments(
        self, info: Info, first: int = 20, after: Cursor | None = None
    ) -> Connection[SegmentMembership] | None:
        first, cursors = checked_first(first), info.context.cursors
        found = sorted(await memberships(info, self.customer_id), key=lambda pair: pair[0].key)
        if after:
            reached = cursors.read("memberships", after)
            found = [pair for pair in found if pair[0].key > reached]
        pairs = [
            (
                cursors.write("memberships", row.key),
                SegmentMembership(segment=segment, since=instant(row.since_us), version=row.version),
            )
            for row, segment in found[:first]
        ]
        return connection(pairs, has_next=len(found) > first, has_previous=after is not None)

    @strawberry.field(description="Segments entered and left, newest first; those that name scores are not told.")
    async def segment_history(
        self, info: Info, first: int = 20, after: Cursor | None = None
    ) -> Connection[SegmentMove] | None:
        first, cursors = checked_first(first), info.context.cursors
        before = cursors.read(HISTORY, after) if after else None
        rows = await info.context.loaders.segment_history.load((self.customer_id, first + 1, before))
        known = {one.key: one for one in await feature_segments(info)} if rows else {}
        pairs = [(cursors.write(HISTORY, row.number), _move(row, known.get(row.key))) for row in rows[:first]]
        return connection(pairs, has_next=len(rows) > first, has_previous=after is not None)

    @strawberry.field(description="How the customer is looked after.")
    async def support_model(self, info: Info) -> SupportModel | None:
        rows = {row.key: row for row in await info.context.loaders.segments.load("features")}
        for row in await info.context.loaders.memberships.load(("features", self.customer_id)):
            segment = rows.get(row.key)
            if segment is not None and segment.family == SUPPORT_FAMILY:
                return SupportModel(key=SupportModelKey(row.key), since=instant(row.since_us), reasons=segment.because)
        return None

    @strawberry.field(description="Engagement in a window, computed now.")
    async def engagement(self, info: Info, window: Window = Window.D30) -> Engagement | None:
        row = await info.context.loaders.engagement.load((self.customer_id, window.value))
        return _engagement(row, window) if row else None

    @strawberry.field(description="The last stored churn assessment; the primary definition by default.")
    async def churn(self, info: Info, definition: str | None = None) -> ChurnAssessment | None:
        key = definition or churn.primary(info)
        for standing in await info.context.loaders.scores.load(self.customer_id):
            if standing.assessment.definition == key:
                return churn.assessment(standing.assessment, info.context.texts, standing.change_7_days)
        if key not in info.context.texts.definitions:
            return None
        return churn.unavailable(key, info.context.texts, ScoreUnavailableReason.MODEL_UNAVAILABLE)

    @strawberry.field(description="The assessments of all definitions.")
    async def churns(self, info: Info) -> list[ChurnAssessment] | None:
        found = await info.context.loaders.scores.load(self.customer_id)
        return [churn.assessment(row.assessment, info.context.texts, row.change_7_days) for row in found]

    @strawberry.field(description="Stored assessments, newest first.")
    async def score_history(
        self, info: Info, definition: str | None = None, first: int = 30, after: Cursor | None = None
    ) -> Connection[ScoreEvent] | None:
        return await happened.score_history(info, self.customer_id, definition, first, after)

    @strawberry.field(description="The standing offer decision; reading it decides nothing and counts as no exposure.")
    async def next_best_offers(
        self, info: Info, first: int = 3, channel: Channel | None = None
    ) -> OfferDecision | None:
        loaders = info.context.loaders
        row = await loaders.decisions.load((self.customer_id, channel.value if channel else None))
        if row is None:
            return OfferUnavailable(
                reason=OfferUnavailableReason.MODEL_UNAVAILABLE, retry_after_seconds=None, rejected=[]
            )
        return offers.decision(row, await loaders.offers.load("all"), info.context.texts, checked_first(first))

    @strawberry.field(description="What happened, newest first.")
    async def timeline(
        self, info: Info, first: int = 20, after: Cursor | None = None, kinds: list[EventKind] | None = None
    ) -> Connection[TimelineEvent] | None:
        return await happened.timeline(info, self.customer_id, first, after, kinds)


@strawberry.type(description="A page of customers.")
class CustomerConnection:
    edges: "list[CustomerEdge]" = strawberry.field(description="The customers of this page.")
    page_info: PageInfo = strawberry.field(description="Where this page lies.")
    total_count: int | None = strawberry.field(description="How many there are in all; counted only when asked for.")


@strawberry.type(description="A customer and its place.")
class CustomerEdge:
    cursor: Cursor = strawberry.field(description="Its place.")
    node: Customer = strawberry.field(description="The customer.")
    since: datetime | None = strawberry.field(default=None, description="Since when, among a segment's members.")


def customer(customer_id: str) -> Customer:
    """A customer by id; everything else is loaded when asked."""
    return Customer(id=to_global("Customer", customer_id), customer_id=customer_id)


def customer_page(
    pairs: list[tuple[str, str]], *, has_next: bool, has_previous: bool, total: int | None
) -> CustomerConnection:
    """A page of (cursor, customer id)."""
    info = page_info([cursor for cursor, _ in pairs], has_next=has_next, has_previous=has_previous)
    edges = [CustomerEdge(cursor=Cursor(cursor), node=customer(found)) for cursor, found in pairs]
    return CustomerConnection(edges=edges, page_info=info, total_count=total)


def segment(row: SegmentRow, service: str) -> Segment:
    """The graph's form of a segment."""
    return Segment(
        id=to_global("Segment", row.key),
        key=row.key,
        family=row.family,
        definition=row.definition,
        version=row.version,
        size=row.size,
        evaluating=row.evaluating,
        versions=[
            SegmentVersion(
                version=one.version, definition=one.definition, since=instant(one.from_us), made_by=one.made_by
            )
            for one in row.versions
        ],
        names=row.name,
        service=service,
    )


async def all_segments(info: Info) -> list[Segment]:
    """The segments of both services, by key."""
    found = [
        segment(row, service)
        for service in ("features", "scoring")
        for row in await info.context.loaders.segments.load(service)
    ]
    return sorted(found, key=lambda one: one.key)


async def feature_segments(info: Info) -> list[Segment]:
    """The segments that features evaluates, in the order in which they are tried."""
    return [segment(row, "features") for row in await info.context.loaders.segments.load("features")]


async def memberships(info: Info, customer_id: str) -> list[tuple[MembershipRow, Segment]]:
    """A customer's memberships with their segments."""
    known = {one.key: one for one in await all_segments(info)}
    rows = [
        row
        for service in ("features", "scoring")
        for row in await info.context.loaders.memberships.load((service, customer_id))
    ]
    return [(row, known[row.key]) for row in rows if row.key in known]


def _move(row: MoveRow, segment: Segment | None) -> SegmentMove:
    return SegmentMove(key=row.key, segment=segment, version=row.version, entered=row.entered, at=instant(row.at_us))


def _engagement(row: EngagementRow, window: Window) -> Engagement:
    return Engagement(
        window=window,
        as_of=instant(row.as_of_us),
        score=row.score,
        active_days=row.active_days,
        last_activity_at=maybe_instant(row.last_activity_at_us),
        trend=row.trend,
        micro_conversions=[
            MicroConversionCount(
                name=found.name,
                count=found.count,
                previous_count=found.previous_count,
                last_at=maybe_instant(found.last_at_us),
                labels=found.label,
            )
            for found in row.micro_conversions
        ],
    )
