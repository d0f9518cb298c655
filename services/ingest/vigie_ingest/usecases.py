"""What ingest answers to reads: customers with their profile, timelines, receipts, quarantine, status."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from vigie_contracts.arrivals import ArrivalsAnswer
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import InvalidInput, NotFound
from vigie_contracts.events import PURPOSES, Event, Position, Purpose, decode_record
from vigie_contracts.instants import format_instant
from vigie_contracts.reads import (
    AccountRow,
    AttributeRow,
    ConsentRow,
    CustomerRow,
    CustomersAnswer,
    CustomersRequest,
    ExplainAnswer,
    IdentityRow,
    TimelineAnswer,
    TimelineRequest,
    TimelineRow,
)
from vigie_contracts.receipts import Receipt
from vigie_kit.database import reading

from vigie_ingest import arrival_store, quarantine_store, store
from vigie_ingest.appender import event_hash
from vigie_ingest.domain import category_of
from vigie_ingest.explaining import explanation
from vigie_ingest.identity import USER
from vigie_ingest.resolver import MERGES, REFUSED, SHARED, UNDONE
from vigie_ingest.sealing import Sealer
from vigie_ingest.store import Connection, Consent, Engine, IdentityOf, MemberRow

MAX_CUSTOMERS = 1_000
MAX_LOOKUPS = 100
MAX_EVENTS = 1_000
MAX_ARRIVALS = 5_000
_NEVER = (2**63 - 1, 2**63 - 1)


class Reads:
    """Consistent reads of `ingest.db`."""

    def __init__(self, engine: Engine, catalogue: Catalogue, sealer: Sealer, unset_denied: Sequence[str]) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._sealer = sealer
        self._unset_denied = frozenset(unset_denied)

    def customers(self, request: CustomersRequest) -> CustomersAnswer:
        """Customers by id (a merged id answers with its survivor), then by identity; null where there is none."""
        if len(request.customer_ids) > MAX_CUSTOMERS or len(request.lookups) > MAX_LOOKUPS:
            raise InvalidInput(f"ask for at most {MAX_CUSTOMERS} customers or {MAX_LOOKUPS} lookups")
        with reading(self._engine) as connection:
            asked = _asked(connection, request)
            rows = self._rows(connection, sorted({found for _, found in asked if found is not None}))
        return CustomersAnswer(
            customers=[msgspec.structs.replace(rows[found], asked=name) if found else None for name, found in asked]
        )

    def explain(self, request: CustomersRequest) -> ExplainAnswer:
        """Why the members of each customer are one customer, asked for as in `customers`."""
        if len(request.customer_ids) + len(request.lookups) > MAX_LOOKUPS:
            raise InvalidInput(f"ask for at most {MAX_LOOKUPS} customers")
        with reading(self._engine) as connection:
            asked = _asked(connection, request)
            return ExplainAnswer(
                customers=[explanation(connection, name, found) if found else None for name, found in asked]
            )

    def timeline(self, request: TimelineRequest) -> TimelineAnswer:
        """Events of all members of the customer, newest first; NotFound when nobody has the id."""
        limit = min(max(request.limit, 0), MAX_EVENTS)
        with reading(self._engine) as connection:
            customer_id = store.customers_of_members(connection, [request.customer_id]).get(request.customer_id)
            if customer_id is None:
                raise NotFound(f"no customer {request.customer_id!r}")
            members = [member.number for member in store.members_of(connection, [customer_id])]
            before = request.before or _NEVER
            numbers = store.timeline_page(connection, members, before, limit, request.categories)
            payloads = store.payloads(connection, numbers)
        return TimelineAnswer(events=[self._timeline_row(number, payloads[number]) for number in numbers])

    def receipt(self, event_id: str, source_id: str | None) -> Receipt:
        """The verdict on an event of a source; without a source, of the first source that sent the id."""
        with reading(self._engine) as connection:
            sources = [source_id] if source_id is not None else sorted(store.counters(connection))
            for source in sources:
                value = event_hash(source, event_id)
                number = store.receipt_number(connection, value)
                if number is None:
                    continue
                sent = store.sent_as(connection, [number]).get(number)
                if sent is not None and sent.is_of(source, event_id):
                    if sent.mark:
                        return _erased(connection, source, event_id, value)
                    return _receipt(connection, source, event_id, value, number)
        return Receipt(event_id=event_id, verdict="unknown")

    def counts(self) -> dict[str, Any]:
        """Counts by source and verdict, and the most frequent uncatalogued names."""
        with reading(self._engine) as connection:
            sources = store.counters(connection)
            names = arrival_store.uncatalogued(connection, 50)
            identity = {key: store.meta(connection, key) for key in (MERGES, REFUSED, UNDONE, SHARED)}
        totals: dict[str, int] = defaultdict(int)
        for verdicts in sources.values():
            for verdict, number in verdicts.items():
                totals[verdict] += number
        unknown = [{"source_id": source, "name": name, "count": number} for source, name, number in names]
        return {"counts": dict(totals), "sources": sources, "uncatalogued": unknown, "identity": identity}

    def arrivals(self, limit: int) -> ArrivalsAnswer:
        """What came, by source and name, most frequent first."""
        with reading(self._engine) as connection:
            rows = arrival_store.read(connection, min(max(limit, 1), MAX_ARRIVALS))
            return ArrivalsAnswer(rows=rows, more=arrival_store.size(connection) - len(rows))

    def _rows(self, connection: Connection, customer_ids: list[str]) -> dict[str, CustomerRow]:
        if not customer_ids:
            return {}
        members = store.members_of(connection, customer_ids)
        numbers = [member.number for member in members]
        profile = _Profile(
            store.identities_of(connection, numbers),
            store.attributes_of(connection, numbers),
            store.standing_consents(connection, numbers),
            store.accounts_of(connection, numbers),
        )
        by_customer: dict[str, list[MemberRow]] = defaultdict(list)
        for member in members:
            by_customer[member.customer_id].append(member)
        return {customer_id: self._row(customer_id, own, profile) for customer_id, own in by_customer.items()}

    def _row(self, customer_id: str, members: list[MemberRow], profile: "_Profile") -> CustomerRow:
        identities = profile.identities_of(members)
        external = next((row.value for row in identities if row.namespace == USER), None)
        return CustomerRow(
            asked=customer_id,
            customer_id=customer_id,
            member_ids=[member.member_id for member in members],
            external_id=external,
            anonymous=external is None,
            identities=identities,
            attributes=self._attributes(profile, members),
            consents=[self._consent(purpose, profile, members) for purpose in PURPOSES],
            first_seen_us=min(member.first_us for member in members),
            last_seen_us=max(member.last_us for member in members),
            accounts=profile.accounts_of(members),
        )

    def _attributes(self, profile: "_Profile", members: list[MemberRow]) -> list[AttributeRow]:
        latest: dict[str, AttributeRow] = {}
        names = {member.number: member.member_id for member in members}
        for member_no, name, stored, effective_us, source_id in profile.attributes:
            spec = self._catalogue.attributes.get(name)
            if member_no in names and spec is not None:
                latest[name] = AttributeRow(
                    name=name,
                    attribute_class=spec.attribute_class,
                    value=self._sealer.open_value(names[member_no], name, stored),
                    source=source_id,
                    updated_at_us=effective_us,
                    pii=spec.pii,
                )
        return [row for row in latest.values() if row.value is not None]

    def _consent(self, purpose: Purpose, profile: "_Profile", members: list[MemberRow]) -> ConsentRow:
        stated = [profile.consents[key] for key in ((m.number, purpose) for m in members) if key in profile.consents]
        return consent_row(purpose, stated, purpose not in self._unset_denied)

    def _timeline_row(self, number: int, payload: bytes) -> TimelineRow:
        record = decode_record(payload)
        assert isinstance(record, Event)
        event = self._sealer.opened(record)
        return TimelineRow(
            lane=0,
            number=number,
            member_id=event.member_id,
            event_id=event.event_id,
            kind=event.kind,
            name=event.name,
            category=category_of(self._catalogue, event.name) if event.catalogued else None,
            effective_at_us=event.effective_at_us,
            channel=event.channel,
            properties=event.properties,
            measures=event.measures,
        )


def _asked(connection: Connection, request: CustomersRequest) -> list[tuple[str, str | None]]:
    """(what was asked, the customer's id now or null): ids first, then lookups."""
    by_id = store.customers_of_members(connection, request.customer_ids)
    asked = [(name, by_id.get(name)) for name in request.customer_ids]
    for lookup in request.lookups:
        asked.append((lookup.value, store.customer_of_identity(connection, lookup.namespace, lookup.value)))
    return asked


class _Profile:
    """What is stored of a set of members."""

    def __init__(
        self,
        identities: list[IdentityOf],
        attributes: list[tuple[int, str, str | bytes, int, str]],
        consents: Mapping[tuple[int, str], Consent],
        accounts: list[tuple[int, str, int]],
    ) -> None:
        self.attributes = attributes
        self.consents = consents
        self._identities = identities
        self._accounts = accounts

    def identities_of(self, members: list[MemberRow]) -> list[IdentityRow]:
        names = {member.number: member.member_id for member in members}
        return [one.row(names[one.member_no]) for one in self._identities if one.member_no in names]

    def accounts_of(self, members: list[MemberRow]) -> list[AccountRow]:
        """The accounts of a customer, latest statement first, each once."""
        numbers = {member.number for member in members}
        since: dict[str, int] = {}
        for member_no, account_id, at_us in self._accounts:
            if member_no in numbers:
                since.setdefault(account_id, at_us)
        return [AccountRow(account_id=account_id, since_us=at_us) for account_id, at_us in since.items()]


def consent_row(purpose: Purpose, stated: Sequence[Consent], unset_allowed: bool) -> ConsentRow:
    """What the members' statements mean for the customer: one denial denies, one grant grants, else the setting."""
    for state in ("denied", "granted"):
        found = [consent for consent in stated if consent.state == state]
        if found:
            first = min(found, key=lambda consent: consent.since_us)
            allowed = state == "granted"
            return ConsentRow(
                purpose=purpose, state=state, allowed=allowed, since_us=first.since_us, source=first.source_id
            )
    latest = max((consent.since_us for consent in stated), default=0)
    return ConsentRow(purpose=purpose, state="unset", allowed=unset_allowed, since_us=latest, source="default")


def _erased(connection: Connection, source_id: str, event_id: str, value: int) -> Receipt:
    return Receipt(
        event_id=event_id,
        verdict="erased",
        source_id=source_id,
        duplicates=store.duplicate_count(connection, value),
        reason="the person's data were erased; copies that come later are dropped",
    )


def _receipt(connection: Connection, source_id: str, event_id: str, value: int, number: int) -> Receipt:
    duplicates = store.duplicate_count(connection, value)
    if number < 0:
        row = quarantine_store.row(connection, -number)
        assert row is not None
        return Receipt(
            event_id=event_id,
            verdict="quarantined",
            source_id=source_id,
            duplicates=duplicates,
            received_at=format_instant(row.received_at_us),
            code=row.code,
            reason=row.reason,
        )
    event = decode_record(store.payloads(connection, [number])[number])
    assert isinstance(event, Event)
    original_us = event.original_timestamp_us
    return Receipt(
        event_id=event_id,
        verdict="accepted",
        source_id=source_id,
        position=Position(0, number),
        received_at=format_instant(event.received_at_us),
        known_at=format_instant(event.known_at_us),
        effective_at=format_instant(event.effective_at_us),
        corrected_seconds=0.0 if original_us is None else (event.effective_at_us - original_us) / 1_000_000,
        duplicates=duplicates,
        notes=store.notes_of(connection, value),
    )
