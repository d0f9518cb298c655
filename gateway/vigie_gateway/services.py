"""The gateway's reads: one method a service call, counted, so that a test can assert how many a query costs."""

from collections import Counter
from typing import TypeVar

from vigie_contracts import reads
from vigie_kit.client import ServiceClient

T = TypeVar("T")


class Services:
    """The three services. Every call raises Unavailable when its service is down; nothing is retried here."""

    def __init__(self, ingest: ServiceClient, features: ServiceClient, scoring: ServiceClient) -> None:
        self._clients = {"ingest": ingest, "features": features, "scoring": scoring}
        self.calls: Counter[str] = Counter()

    async def post(self, service: str, path: str, body: object, answer: type[T]) -> T:
        """POST to a service's internal route."""
        self.calls[f"{service}{path}"] += 1
        return await self._clients[service].post(path, body, answer)

    async def get(self, service: str, path: str, answer: type[T]) -> T:
        """GET from a service's internal route."""
        self.calls[f"{service}{path}"] += 1
        return await self._clients[service].get(path, answer)

    async def memberships(self, service: str, ids: list[str]) -> list[reads.MembershipRow]:
        """Segments of customers that `features` (without scores) or `scoring` (with scores) evaluates."""
        request = reads.MembershipsRequest(customer_ids=ids)
        return (await self.post(service, "/internal/memberships", request, reads.MembershipsAnswer)).memberships

    async def segments(self, service: str) -> list[reads.SegmentRow]:
        """The segments of a service."""
        return (await self.get(service, "/internal/segments", reads.SegmentsAnswer)).segments

    async def scores(self, ids: list[str]) -> list[reads.StandingScore]:
        """Standing assessments of customers, all definitions."""
        return (
            await self.post("scoring", "/internal/scores", reads.ScoresRequest(customer_ids=ids), reads.ScoresAnswer)
        ).scores

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()
