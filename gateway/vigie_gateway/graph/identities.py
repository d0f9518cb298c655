"""Why a customer's identities are one customer, what was refused, and taking a merge back. Ingest owns all of it."""

from datetime import datetime
from enum import Enum

import strawberry
from vigie_contracts import reads
from vigie_contracts.errors import VigieError

from vigie_gateway.graph import profile
from vigie_gateway.graph.errors import UserError, errors_of
from vigie_gateway.graph.profile import Identity
from vigie_gateway.graph.scalars import Info, instant
from vigie_gateway.identifiers import to_global


@strawberry.enum(description="What made an event join two members.")
class MergeRule(Enum):
    IDENTIFIED = "identified"
    ALIAS = "alias"


@strawberry.type(description="What an identity was when it was first seen; its events carry it for ever.")
class IdentityMember:
    member_id: strawberry.ID = strawberry.field(description="A customer's global id, also after a merge: look it up.")
    minted_at: datetime = strawberry.field(description="When it was made.")
    identities: list[Identity] = strawberry.field(description="Whose events it gets now.")


@strawberry.type(description="The event that joined two members.")
class MergeEvent:
    event_id: str = strawberry.field(description="The source's id of it; its receipt says more.")
    source: str = strawberry.field(description="Which source sent it.")
    kind: str = strawberry.field(description="identify, alias, track, …")
    effective_at: datetime = strawberry.field(description="When it happened.")
    log_number: int = strawberry.field(description="Where it lies in the log.")


@strawberry.type(description="Two members that an event joined; all that stand make the customer.")
class IdentityMerge:
    number: int = strawberry.field(description="Its record of the log. Name it by this to take it back.")
    rule: MergeRule = strawberry.field(description="By which rule.")
    member_ids: list[strawberry.ID] = strawberry.field(description="The two, the older first.")
    known_at: datetime = strawberry.field(description="Since when it counts.")
    event: MergeEvent | None = strawberry.field(description="Which event; null when it was erased.")
    stands: bool = strawberry.field(description="Whether it joins them now.")
    undone_number: int | None = strawberry.field(description="The record that undid it. Undo that to restore it.")
    changed_at: datetime = strawberry.field(description="When it was made, undone or restored.")
    reason: str = strawberry.field(description="Why it was undone or restored; empty when it never was.")


@strawberry.type(description="Two members that events would have joined, and nothing joins now.")
class MergeRefusal:
    rule: MergeRule = strawberry.field(description="By which rule they would have been.")
    member_ids: list[strawberry.ID] = strawberry.field(description="The two, the older first.")
    reason: str = strawberry.field(description="Why not, in a sentence; that of the last time.")
    times: int = strawberry.field(description="How often.")
    first_at: datetime = strawberry.field(description="The first time.")
    last_at: datetime = strawberry.field(description="The last time.")
    event_id: str = strawberry.field(description="The event of the last time, by its source's id.")
    source: str = strawberry.field(description="Which source sent it.")


@strawberry.type(description="Why identities are one customer.")
class IdentityExplanation:
    members: list[IdentityMember] = strawberry.field(description="Oldest first; the first names the customer.")
    merges: list[IdentityMerge] = strawberry.field(description="Standing and undone, in the order of the log.")
    refused: list[MergeRefusal] = strawberry.field(description="The latest 100, the latest first.")
    refused_more: bool = strawberry.field(description="Whether older ones are left out.")


@strawberry.type(description="A member that a change of the map gave to another customer.")
class IdentityMove:
    member_id: strawberry.ID = strawberry.field(description="The member.")
    from_customer_id: strawberry.ID = strawberry.field(description="Whose it was.")
    to_customer_id: strawberry.ID = strawberry.field(description="Whose it is.")


@strawberry.type(description="The outcome of taking back a merge, or an undo.")
class IdentityMergeUndoPayload:
    number: int | None = strawberry.field(description="The record that did it. Undo that to take this back.")
    undone_at: datetime | None = strawberry.field(description="Since when it counts.")
    moves: list[IdentityMove] = strawberry.field(description="None when other merges join the same members.")
    already: bool = strawberry.field(description="Whether an earlier request with the same key did it.")
    errors: list[UserError] = strawberry.field(description="Empty when it is done.")


@strawberry.type
class IdentityMutation:
    """Mixed into `Mutation`."""

    @strawberry.mutation(
        description="Take back the merge, or the undo, that a record of the log is. The same key does it once."
    )
    async def identity_merge_undo(
        self, info: Info, number: int, reason: str, idempotency_key: str | None = None
    ) -> IdentityMergeUndoPayload:
        request = reads.UndoRequest(number=number, reason=reason, idempotency_key=idempotency_key)
        try:
            done = await info.context.services.post("ingest", "/internal/identity/undo", request, reads.UndoAnswer)
        except VigieError as error:
            path = "reason" if error.code == "VALIDATION_FAILED" else "number"
            return IdentityMergeUndoPayload(
                number=None, undone_at=None, moves=[], already=False, errors=errors_of(error, path)
            )
        return IdentityMergeUndoPayload(
            number=done.number,
            undone_at=instant(done.known_at_us),
            moves=[
                IdentityMove(
                    member_id=_id(move.member_id),
                    from_customer_id=_id(move.from_customer_id),
                    to_customer_id=_id(move.to_customer_id),
                )
                for move in done.moves
            ],
            already=done.already,
            errors=[],
        )


def explanation(found: reads.IdentityExplanation) -> IdentityExplanation:
    """The graph's form of an explanation."""
    return IdentityExplanation(
        members=[
            IdentityMember(
                member_id=_id(member.member_id),
                minted_at=instant(member.minted_at_us),
                identities=[profile.identity(row) for row in member.identities],
            )
            for member in found.members
        ],
        merges=[_merge(row) for row in found.merges],
        refused=[_refusal(row) for row in found.refused],
        refused_more=found.refused_more,
    )


def _merge(row: reads.MergeRow) -> IdentityMerge:
    return IdentityMerge(
        number=row.number,
        rule=MergeRule(row.rule),
        member_ids=[_id(member) for member in row.members],
        known_at=instant(row.known_at_us),
        event=_event(row.event) if row.event else None,
        stands=row.undone_number is None,
        undone_number=row.undone_number,
        changed_at=instant(row.changed_at_us),
        reason=row.reason,
    )


def _event(event: reads.MergeEvent) -> MergeEvent:
    return MergeEvent(
        event_id=event.event_id,
        source=event.source_id,
        kind=event.kind,
        effective_at=instant(event.effective_at_us),
        log_number=event.number,
    )


def _refusal(row: reads.RefusalRow) -> MergeRefusal:
    return MergeRefusal(
        rule=MergeRule(row.rule),
        member_ids=[_id(member) for member in row.members],
        reason=row.reason,
        times=row.times,
        first_at=instant(row.first_us),
        last_at=instant(row.last_us),
        event_id=row.event_id,
        source=row.source_id,
    )


def _id(member_id: str) -> strawberry.ID:
    return to_global("Customer", member_id)
