"""Why the members of a customer are one: which event, by which rule, when; what was undone, what refused and why."""

from collections import defaultdict

from vigie_contracts.events import Event, MapChanged, decode_record
from vigie_contracts.reads import (
    IdentityExplanation,
    IdentityMember,
    IdentityRow,
    MergeEvent,
    MergeRow,
    RefusalRow,
)

from vigie_ingest import link_store, refusal_store, store
from vigie_ingest.link_store import Link
from vigie_ingest.refusal_store import Refused
from vigie_ingest.store import Connection

MAX_REFUSALS = 100

_RECORDS_OF_AN_EVENT = 2
"""An event follows the records of the map that it caused: at most two (an alias that also has an anonymous id)."""


def explanation(connection: Connection, asked: str, customer_id: str) -> IdentityExplanation:
    """All of a customer that exists: its members, every merge that touches them, standing or undone, and refusals."""
    minted = store.minted(connection, customer_id)
    numbers = [member.number for member, _ in minted]
    links = link_store.touching(connection, numbers)
    refusals = refusal_store.standing(connection, numbers, MAX_REFUSALS + 1)
    pairs: list[Link | Refused] = [*links, *refusals]
    names = store.member_names(connection, {number for pair in pairs for number in (pair.one_no, pair.other_no)})
    names |= {member.number: member.member_id for member, _ in minted}
    identities: dict[int, list[IdentityRow]] = defaultdict(list)
    for identity in store.identities_of(connection, numbers):
        identities[identity.member_no].append(identity.row(names[identity.member_no]))
    causes = _causes(connection, links)
    return IdentityExplanation(
        asked=asked,
        customer_id=customer_id,
        members=[
            IdentityMember(member_id=member.member_id, minted_at_us=at_us, identities=identities[member.number])
            for member, at_us in minted
        ],
        merges=[_merge(link, (names[link.one_no], names[link.other_no]), causes.get(link.number)) for link in links],
        refused=[_refusal(row, (names[row.one_no], names[row.other_no])) for row in refusals[:MAX_REFUSALS]],
        refused_more=len(refusals) > MAX_REFUSALS,
    )


def _refusal(row: Refused, members: tuple[str, str]) -> RefusalRow:
    return RefusalRow(
        rule=row.because,
        members=members,
        reason=row.reason,
        times=row.times,
        first_us=row.first_us,
        last_us=row.last_us,
        source_id=row.source_id,
        event_id=row.event_id,
    )


def _merge(link: Link, members: tuple[str, str], event: MergeEvent | None) -> MergeRow:
    return MergeRow(
        number=link.number,
        rule=link.because,
        members=members,
        known_at_us=link.known_at_us,
        event=event,
        undone_number=link.undone_number,
        changed_at_us=link.changed_at_us,
        reason=link.reason,
    )


def _causes(connection: Connection, links: list[Link]) -> dict[int, MergeEvent]:
    """The event that caused each merge, by the merge's number, unless it was erased."""
    after = [link.number + step for link in links for step in range(1, _RECORDS_OF_AN_EVENT + 1)]
    records = {number: decode_record(payload) for number, payload in store.payloads(connection, after).items()}
    found: dict[int, MergeEvent] = {}
    for link in links:
        number = link.number + 1
        while isinstance(records.get(number), MapChanged):
            number += 1
        event = records.get(number)
        if isinstance(event, Event):
            found[link.number] = _event(number, event)
    return found


def _event(number: int, event: Event) -> MergeEvent:
    return MergeEvent(
        number=number,
        source_id=event.source_id,
        event_id=event.event_id,
        kind=event.kind,
        effective_at_us=event.effective_at_us,
    )
