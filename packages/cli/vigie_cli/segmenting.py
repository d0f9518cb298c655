"""Asks features about segments, and ingest for the names under which the institution knows customers."""

from collections.abc import Sequence
from typing import TypeVar

from vigie_contracts.errors import InvalidInput, NotFound
from vigie_contracts.instants import parse_instant
from vigie_contracts.reads import (
    CustomerRow,
    CustomersAnswer,
    CustomersRequest,
    Lookup,
    MembershipRow,
    MembershipsAnswer,
    SegmentMembersRequest,
    SegmentRow,
    SegmentsAnswer,
)
from vigie_contracts.segmentation import (
    DefineAnswer,
    DefineRequest,
    HistoryAnswer,
    HistoryRequest,
    MigrationAnswer,
    MigrationRequest,
    MoveRow,
    PreviewAnswer,
    PreviewRequest,
    RetireAnswer,
    RetireRequest,
)

from vigie_cli.connection import Connection

T = TypeVar("T")


class Segmenting:
    """The segments of a running system. Errors are the services' own sentences."""

    def __init__(self, system: Connection) -> None:
        self._system = system

    def all(self) -> list[SegmentRow]:
        """Those of features in the order in which they are tried, then those that scoring evaluates."""
        found: list[SegmentRow] = []
        for service in ("features", "scoring"):
            client = self._system.client(service)
            try:
                found += client.get("/internal/segments", SegmentsAnswer).segments
            finally:
                client.close()
        return found

    def one(self, key: str) -> SegmentRow:
        """The segment of that key; NotFound when there is none."""
        for row in self.all():
            if row.key == key:
                return row
        raise NotFound(f"there is no segment {key!r}; `vigie segments list` shows them")

    def preview(self, request: PreviewRequest) -> PreviewAnswer:
        """Whom a definition would hold for."""
        return self._post("/internal/segment-preview", request, PreviewAnswer)

    def define(self, request: DefineRequest) -> DefineAnswer:
        """Make or change a segment."""
        return self._post("/internal/segment-define", request, DefineAnswer)

    def retire(self, key: str) -> RetireAnswer:
        """Let everybody leave it."""
        return self._post("/internal/segment-retire", RetireRequest(key=key), RetireAnswer)

    def members(self, row: SegmentRow, after: str | None, limit: int) -> list[MembershipRow]:
        """Customers of a segment by id, after one."""
        service = "features" if row.versions else "scoring"
        request = SegmentMembersRequest(key=row.key, after=after, limit=limit)
        return self._post("/internal/segment-members", request, MembershipsAnswer, service).memberships

    def history(self, customer: str, before: int | None, limit: int) -> tuple[CustomerRow, list[MoveRow]]:
        """What a customer (a user id or a customer id) entered and left, newest first."""
        row = self._customer(customer)
        request = HistoryRequest(customer_ids=[row.customer_id], before=before, limit=limit)
        return row, self._post("/internal/segment-history", request, HistoryAnswer).moves

    def migration(self, family: str, since: str, until: str | None) -> MigrationAnswer:
        """Who went from where to where between two instants; until now when the second is not given."""
        to_us = self._system.clock.now_us() if until is None else _instant(until)
        request = MigrationRequest(family=family, from_us=_instant(since), to_us=to_us)
        return self._post("/internal/segment-migration", request, MigrationAnswer)

    def names(self, customer_ids: Sequence[str]) -> dict[str, str]:
        """The institution's own id of each customer that has one."""
        if not customer_ids:
            return {}
        asked = CustomersRequest(customer_ids=list(customer_ids))
        found = self._post("/internal/customers", asked, CustomersAnswer, "ingest").customers
        return {row.customer_id: row.external_id for row in found if row is not None and row.external_id}

    def _customer(self, given: str) -> CustomerRow:
        lookup = Lookup(namespace="user_id", value=given)
        for asked in (CustomersRequest(lookups=[lookup]), CustomersRequest(customer_ids=[given])):
            for found in self._post("/internal/customers", asked, CustomersAnswer, "ingest").customers:
                if found is not None:
                    return found
        raise NotFound(f"nobody is known under {given!r}")

    def _post(self, path: str, body: object, answer: type[T], service: str = "features") -> T:
        client = self._system.client(service)
        try:
            return client.post(path, body, answer)
        finally:
            client.close()


def _instant(text: str) -> int:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no instant; write it as 2026-11-23T12:00:00Z") from error
