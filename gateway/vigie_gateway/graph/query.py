"""What can be asked."""

from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import strawberry
from vigie_contracts import reads
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import to_micros

from vigie_gateway.graph.churn import RiskBand
from vigie_gateway.graph.customer import (
    Customer,
    CustomerConnection,
    Node,
    Segment,
    all_segments,
    customer,
    customer_page,
)
from vigie_gateway.graph.events import EventReceipt, receipt_of
from vigie_gateway.graph.features import FeatureQuery
from vigie_gateway.graph.offers import Offer, offer
from vigie_gateway.graph.paging import Connection, checked_first, connection
from vigie_gateway.graph.quarantine import QuarantineQuery
from vigie_gateway.graph.scalars import Cursor, Info, Locale
from vigie_gateway.graph.segments import SegmentQuery
from vigie_gateway.graph.sources import SourceQuery
from vigie_gateway.identifiers import from_global, local_id

WORK_LIST = "customers"


@strawberry.input(description="A name under which a source knows a customer.")
class IdentityInput:
    namespace: str = strawberry.field(description="user_id, anonymous_id, …")
    value: str = strawberry.field(description="The name itself.")


@strawberry.input(description="One way to name a customer.", one_of=True)
class CustomerLookup:
    id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="Global id; a merged one answers with its survivor."
    )
    external_id: str | None = strawberry.field(default=strawberry.UNSET, description="The institution's own id.")
    identity: IdentityInput | None = strawberry.field(default=strawberry.UNSET, description="Any identity.")


@strawberry.input(description="A range; both ends count.")
class FloatRange:
    min: float | None = strawberry.field(default=None, description="Least value.")
    max: float | None = strawberry.field(default=None, description="Greatest value.")


@strawberry.input(description="Which customers; all conditions must hold.")
class CustomerFilter:
    segment_keys: list[str] | None = strawberry.field(default=None, description="In any of these segments.")
    definition: str | None = strawberry.field(default=None, description="Churn definition; the primary one by default.")
    bands: list[RiskBand] | None = strawberry.field(default=None, description="In any of these bands.")  # type: ignore[valid-type]
    probability: FloatRange | None = strawberry.field(default=None, description="Churn probability.")
    inactive_for_days: int | None = strawberry.field(default=None, description="No act for at least so many days.")
    scored_since: datetime | None = strawberry.field(default=None, description="Scored at or after this instant.")


@strawberry.enum(description="What the work list is ordered by.")
class CustomerOrderField(Enum):
    CHURN_PROBABILITY = "CHURN_PROBABILITY"
    SCORE_CHANGE_7_DAYS = "SCORE_CHANGE_7_DAYS"
    LAST_ACTIVITY_AT = "LAST_ACTIVITY_AT"


@strawberry.enum(description="Rising or falling.")
class SortDirection(Enum):
    ASC = "ASC"
    DESC = "DESC"


@strawberry.input(description="The order of the work list; ties by customer id.")
class CustomerOrder:
    field: CustomerOrderField = strawberry.field(default=CustomerOrderField.CHURN_PROBABILITY, description="By what.")
    direction: SortDirection = strawberry.field(default=SortDirection.DESC, description="Which way.")


@strawberry.type(description="Who is asking.")
class Viewer:
    client_name: str = strawberry.field(description="The client's name.")
    scopes: list[str] = strawberry.field(description="What it may do.")
    locale: Locale = strawberry.field(description="The language of texts when a field does not say.")


@strawberry.type(description="The client's budget for query cost.")
class RateLimit:
    limit: int = strawberry.field(description="Size of the budget.")
    cost: int = strawberry.field(description="Cost of this query.")
    remaining: int = strawberry.field(description="What is left after it.")
    reset_at: datetime = strawberry.field(description="When the budget is full again if nothing is asked.")


@strawberry.type(description="Reads.")
class Query(FeatureQuery, QuarantineQuery, SegmentQuery, SourceQuery):
    @strawberry.field(description="What became of an event, by its source's id; `source` where several gave it.")
    async def receipt(self, info: Info, event_id: str, source: str | None = None) -> EventReceipt | None:
        return await receipt_of(info, event_id, source)

    @strawberry.field(description="An object by its global id: a customer or a segment.")
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:
        type_name, local = from_global(id)
        if type_name == "Customer":
            return await _customer(info, customer_ids=[local])
        if type_name == "Segment":
            return await _segment(info, local)
        raise InvalidInput(f"{type_name} is no type that has a node")

    @strawberry.field(description="A customer; null when there is none.")
    async def customer(self, info: Info, by: CustomerLookup) -> Customer | None:
        if isinstance(by.id, str):
            return await _customer(info, customer_ids=[local_id(by.id, "Customer")])
        if isinstance(by.external_id, str):
            return await _customer(info, lookups=[reads.Lookup(namespace="user_id", value=by.external_id)])
        assert isinstance(by.identity, IdentityInput)
        lookup = reads.Lookup(namespace=by.identity.namespace, value=by.identity.value)
        return await _customer(info, lookups=[lookup])

    @strawberry.field(description="The work list: customers by risk, answered from one indexed projection.")
    async def customers(
        self,
        info: Info,
        filter: CustomerFilter | None = None,
        order_by: CustomerOrder | None = None,
        first: int = 20,
        after: Cursor | None = None,
    ) -> CustomerConnection | None:
        wanted, order = filter or CustomerFilter(), order_by or CustomerOrder()
        cursors = info.context.cursors
        shape = [order.field.value, order.direction.value]
        place = _place(cursors.read(WORK_LIST, after), shape) if after else None
        request = reads.WorkListRequest(
            definition=wanted.definition,
            bands=[band.name for band in wanted.bands or []],  # type: ignore[attr-defined]
            segment_keys=wanted.segment_keys or [],
            probability_min=wanted.probability.min if wanted.probability else None,
            probability_max=wanted.probability.max if wanted.probability else None,
            inactive_for_days=wanted.inactive_for_days,
            scored_since_us=to_micros(wanted.scored_since) if wanted.scored_since else None,
            order_by=order.field.value,
            descending=order.direction is SortDirection.DESC,
            after=place,
            limit=checked_first(first),
            with_total=_asks_for(info, "totalCount"),
        )
        answer = await info.context.services.post("scoring", "/internal/work-list", request, reads.WorkListAnswer)
        pairs = [
            (cursors.write(WORK_LIST, [shape, [row.order_value, row.customer_id]]), row.customer_id)
            for row in answer.rows
        ]
        return customer_page(pairs, has_next=answer.has_next, has_previous=after is not None, total=answer.total)

    @strawberry.field(description="A segment by key; null when there is none.")
    async def segment(self, info: Info, key: str) -> Segment | None:
        return await _segment(info, key)

    @strawberry.field(description="All segments, by key.")
    async def segments(self, info: Info, first: int = 20, after: Cursor | None = None) -> Connection[Segment] | None:
        first, cursors = checked_first(first), info.context.cursors
        reached = cursors.read("segments", after) if after else ""
        found = [one for one in await all_segments(info) if one.key > reached]
        pairs = [(cursors.write("segments", one.key), one) for one in found[:first]]
        return connection(pairs, has_next=len(found) > first, has_previous=after is not None)

    @strawberry.field(description="The offer catalogue, by code.")
    async def offers(self, info: Info, first: int = 20, after: Cursor | None = None) -> Connection[Offer] | None:
        first, cursors = checked_first(first), info.context.cursors
        reached = cursors.read("offers", after) if after else ""
        known = await info.context.loaders.offers.load("all")
        found = [known[code] for code in sorted(known) if code > reached]
        pairs = [(cursors.write("offers", row.code), offer(row)) for row in found[:first]]
        return connection(pairs, has_next=len(found) > first, has_previous=after is not None)

    @strawberry.field(description="Who is asking.")
    def viewer(self) -> Viewer:
        return Viewer(
            client_name="api-token",
            scopes=["customer:read", "score:read", "score:write", "segment:write"],
            locale=Locale.EN,
        )

    @strawberry.field(description="The client's budget.")
    def rate_limit(self, info: Info) -> RateLimit:
        bucket, cost = info.context.shared.bucket, info.context.cost or {"requested": 0, "left": 0}
        from_now = timedelta(seconds=bucket.seconds_to_full)
        return RateLimit(
            limit=bucket.size,
            cost=cost["requested"],
            remaining=cost["left"],
            reset_at=datetime.now().astimezone() + from_now,
        )


async def _customer(info: Info, **by: Any) -> Customer | None:
    answer = await info.context.services.post(
        "ingest", "/internal/customers", reads.CustomersRequest(**by), reads.CustomersAnswer
    )
    row = answer.customers[0]
    if row is None:
        return None
    info.context.loaders.customers.prime(row.customer_id, row)
    return customer(row.customer_id)


async def _segment(info: Info, key: str) -> Segment | None:
    return next((one for one in await all_segments(info) if one.key == key), None)


def _place(value: Any, shape: list[str]) -> tuple[float | int | None, str]:
    found, (order_value, customer_id) = value
    if found != shape:
        raise InvalidInput("this cursor belongs to another order; begin again without `after`")
    return order_value, customer_id


def _asks_for(info: Info, name: str) -> bool:
    return any(getattr(one, "name", "") == name for field in info.selected_fields for one in field.selections)
