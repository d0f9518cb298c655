"""One DataLoader per service call: a query for n customers costs a constant number of calls."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar

from strawberry.dataloader import DataLoader
from vigie_contracts import reads
from vigie_contracts.offers import Decision, Offer
from vigie_contracts.reads import (
    CustomerRow,
    EngagementRow,
    IdentityExplanation,
    MembershipRow,
    SegmentRow,
    StandingScore,
)
from vigie_contracts.segmentation import HistoryAnswer, HistoryRequest, MoveRow

from vigie_gateway.services import Services

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
MOST_KEYS = 500
MOST_EXPLAINED = 100
"""What ingest explains in one call: as many as a page has."""


class Loaders:
    """The loaders of one request. On a WebSocket, where one context serves for long, `cache` is off."""

    def __init__(self, services: Services, *, cache: bool) -> None:
        self._services = services

        def loader(
            load: Callable[[list[Any]], Awaitable[Sequence[Any]]], most: int = MOST_KEYS
        ) -> DataLoader[Any, Any]:
            return DataLoader(load_fn=load, cache=cache, max_batch_size=most)

        self.customers: DataLoader[str, CustomerRow | None] = loader(self._customers)
        self.explanations: DataLoader[str, IdentityExplanation | None] = loader(self._explanations, MOST_EXPLAINED)
        self.scores: DataLoader[str, list[StandingScore]] = loader(self._scores)
        self.engagement: DataLoader[tuple[str, int], EngagementRow | None] = loader(self._engagement)
        self.decisions: DataLoader[tuple[str, str | None], Decision | None] = loader(self._decisions)
        self.memberships: DataLoader[tuple[str, str], list[MembershipRow]] = loader(self._memberships)
        self.segments: DataLoader[str, list[SegmentRow]] = loader(self._segments)
        self.segment_history: DataLoader[tuple[str, int, int | None], list[MoveRow]] = loader(self._segment_history)
        self.offers: DataLoader[str, dict[str, Offer]] = loader(self._offers)

    async def _customers(self, ids: list[str]) -> list[CustomerRow | None]:
        answer = await self._services.post(
            "ingest", "/internal/customers", reads.CustomersRequest(customer_ids=_distinct(ids)), reads.CustomersAnswer
        )
        found = {row.asked: row for row in answer.customers if row is not None}
        return [found.get(key) for key in ids]

    async def _explanations(self, ids: list[str]) -> list[IdentityExplanation | None]:
        request = reads.CustomersRequest(customer_ids=_distinct(ids))
        answer = await self._services.post("ingest", "/internal/identity/explain", request, reads.ExplainAnswer)
        found = {row.asked: row for row in answer.customers if row is not None}
        return [found.get(key) for key in ids]

    async def _scores(self, ids: list[str]) -> list[list[StandingScore]]:
        found: dict[str, list[StandingScore]] = defaultdict(list)
        for standing in await self._services.scores(_distinct(ids)):
            found[standing.assessment.customer_id].append(standing)
        return [found[key] for key in ids]

    async def _engagement(self, keys: list[tuple[str, int]]) -> list[EngagementRow | None]:
        found: dict[tuple[str, int], EngagementRow] = {}
        for days in {days for _, days in keys}:
            ids = _distinct([customer for customer, wanted in keys if wanted == days])
            request = reads.EngagementRequest(customer_ids=ids, window_days=days)
            answer = await self._services.post("features", "/internal/engagement", request, reads.EngagementAnswer)
            found.update({(row.customer_id, days): row for row in answer.rows})
        return [found.get(key) for key in keys]

    async def _decisions(self, keys: list[tuple[str, str | None]]) -> list[Decision | None]:
        found: dict[tuple[str, str | None], Decision] = {}
        for channel in {channel for _, channel in keys}:
            ids = _distinct([customer for customer, wanted in keys if wanted == channel])
            request = reads.DecisionsRequest(customer_ids=ids, channel=channel)
            answer = await self._services.post("scoring", "/internal/decisions", request, reads.DecisionsAnswer)
            found.update({(row.customer_id, channel): row for row in answer.decisions})
        return [found.get(key) for key in keys]

    async def _memberships(self, keys: list[tuple[str, str]]) -> list[list[MembershipRow]]:
        found: dict[tuple[str, str], list[MembershipRow]] = defaultdict(list)
        for service in {service for service, _ in keys}:
            ids = _distinct([customer for wanted, customer in keys if wanted == service])
            for row in await self._services.memberships(service, ids):
                found[service, row.customer_id].append(row)
        return [found[key] for key in keys]

    async def _segments(self, services: list[str]) -> list[list[SegmentRow]]:
        return [await self._services.segments(service) for service in services]

    async def _segment_history(self, keys: list[tuple[str, int, int | None]]) -> list[list[MoveRow]]:
        """One call for each (limit, before) that is asked for: pages of several customers are one."""
        found: dict[tuple[str, int, int | None], list[MoveRow]] = defaultdict(list)
        for limit, before in dict.fromkeys((limit, before) for _, limit, before in keys):
            ids = _distinct([customer for customer, *page in keys if page == [limit, before]])
            request = HistoryRequest(customer_ids=ids, before=before, limit=limit)
            answer = await self._services.post("features", "/internal/segment-history", request, HistoryAnswer)
            for row in answer.moves:
                found[row.customer_id, limit, before].append(row)
        return [found[key] for key in keys]

    async def _offers(self, keys: list[str]) -> list[dict[str, Offer]]:
        answer = await self._services.get("scoring", "/internal/offers", reads.OffersAnswer)
        return [{offer.code: offer for offer in answer.offers} for _ in keys]


def _distinct(values: list[K]) -> list[K]:
    return list(dict.fromkeys(values))
