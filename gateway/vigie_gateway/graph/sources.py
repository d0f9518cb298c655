"""Sources of events, their write keys and limits. Ingest owns them; a key is told once, by what made it."""

from datetime import datetime

import msgspec
import strawberry
from vigie_contracts import sources
from vigie_contracts.errors import VigieError
from vigie_contracts.instants import from_micros, parse_instant

from vigie_gateway.graph.errors import UserError, errors_of
from vigie_gateway.graph.scalars import Info

PATH = "/internal/sources"
DAY_SECONDS = 86_400


@strawberry.type(description="A write key; itself it is kept as a hash.")
class SourceKey:
    hint: str = strawberry.field(description="Its last characters.")
    bootstrap: bool = strawberry.field(description="Whether it comes from the setting VIGIE_INGEST_WRITE_KEYS.")
    created_at: datetime = strawberry.field(description="When it was made, or first seen in the settings.")
    expires_at: datetime | None = strawberry.field(description="Until when it counts; null: for ever.")
    expired: bool = strawberry.field(description="Whether it counts no more.")


@strawberry.type(description="Who sends events.")
class EventSource:
    source_id: str = strawberry.field(description="Its id, as it stands on events.")
    created_at: datetime = strawberry.field(description="When it was made.")
    disabled_at: datetime | None = strawberry.field(description="Since when it may not send; null: it may.")
    origins: list[str] = strawberry.field(description="Origins of pages that may send; none: any.")
    events_per_second: int | None = strawberry.field(description="Its rate; null: no limit of its own.")
    weight: int = strawberry.field(description="Its share of the queue beside the others'.")
    keys: list[SourceKey] = strawberry.field(description="Its write keys, oldest first.")


@strawberry.input(description="A new source.")
class SourceCreateInput:
    source_id: str = strawberry.field(description="1 to 64 letters, digits, dots, dashes, underscores.")
    origins: list[str] = strawberry.field(default_factory=list, description="https://app.example.com; none: any page.")
    events_per_second: int | None = strawberry.field(default=None, description="Null: no limit of its own.")
    weight: int = strawberry.field(default=1, description="1 to 100.")


@strawberry.input(description="What changes; what is left out stays.")
class SourceUpdateInput:
    source_id: str = strawberry.field(description="Which source.")
    origins: list[str] | None = strawberry.field(default=strawberry.UNSET, description="Empty or null: any page.")
    events_per_second: int | None = strawberry.field(default=strawberry.UNSET, description="Null: no limit of its own.")
    weight: int | None = strawberry.field(default=strawberry.UNSET, description="1 to 100; null: 1.")


@strawberry.type(description="The outcome of a change of a source.")
class SourcePayload:
    source: EventSource | None = strawberry.field(description="The source as it is now.")
    errors: list[UserError] = strawberry.field(description="Empty when it was changed.")


@strawberry.type(description="The outcome of making a write key.")
class SourceKeyPayload:
    source: EventSource | None = strawberry.field(description="The source as it is now.")
    write_key: str | None = strawberry.field(description="The new key. Keep it now: it is never told again.")
    errors: list[UserError] = strawberry.field(description="Empty when it was made.")


@strawberry.type
class SourceQuery:
    """Mixed into `Query`."""

    @strawberry.field(description="Who may send events, by id.")
    async def sources(self, info: Info) -> list[EventSource] | None:
        rows = await info.context.services.get("ingest", PATH, list[sources.SourceRow])
        return [_source(row) for row in rows]


@strawberry.type
class SourceMutation:
    """Mixed into `Mutation`."""

    @strawberry.mutation(description="Make a source and its first write key.")
    async def source_create(self, info: Info, input: SourceCreateInput) -> SourceKeyPayload:
        asked = sources.SourceCreate(
            source_id=input.source_id,
            origins=input.origins,
            events_per_second=input.events_per_second,
            weight=input.weight,
        )
        return await _with_key(info, "create", asked, "input")

    @strawberry.mutation(description="Change a source's origins and limits.")
    async def source_update(self, info: Info, input: SourceUpdateInput) -> SourcePayload:
        rate = input.events_per_second
        asked = sources.SourceUpdate(
            source_id=input.source_id,
            origins=msgspec.UNSET if input.origins is strawberry.UNSET else input.origins or [],
            events_per_second=msgspec.UNSET if rate is strawberry.UNSET else rate,
            weight=msgspec.UNSET if input.weight is strawberry.UNSET else 1 if input.weight is None else input.weight,
        )
        return await _changed(info, "update", asked, "input")

    @strawberry.mutation(description="Make a new write key; those before it count for the overlap, then not at all.")
    async def source_key_rotate(
        self, info: Info, source_id: str, overlap_seconds: int = DAY_SECONDS
    ) -> SourceKeyPayload:
        asked = sources.KeyRotate(source_id=source_id, overlap_seconds=overlap_seconds)
        return await _with_key(info, "rotate", asked, "sourceId")

    @strawberry.mutation(description="Let a source send nothing any more, whatever its key. Safe to repeat.")
    async def source_disable(self, info: Info, source_id: str) -> SourcePayload:
        return await _changed(info, "switch", sources.SourceSwitch(source_id=source_id, disabled=True), "sourceId")

    @strawberry.mutation(description="Let a disabled source send again. Safe to repeat.")
    async def source_enable(self, info: Info, source_id: str) -> SourcePayload:
        return await _changed(info, "switch", sources.SourceSwitch(source_id=source_id, disabled=False), "sourceId")


async def _with_key(info: Info, name: str, asked: object, path: str) -> SourceKeyPayload:
    try:
        made = await info.context.services.post("ingest", f"{PATH}/{name}", asked, sources.NewKey)
    except VigieError as error:
        return SourceKeyPayload(source=None, write_key=None, errors=errors_of(error, path))
    return SourceKeyPayload(source=_source(made.source), write_key=made.write_key, errors=[])


async def _changed(info: Info, name: str, asked: object, path: str) -> SourcePayload:
    try:
        row = await info.context.services.post("ingest", f"{PATH}/{name}", asked, sources.SourceRow)
    except VigieError as error:
        return SourcePayload(source=None, errors=errors_of(error, path))
    return SourcePayload(source=_source(row), errors=[])


def _source(row: sources.SourceRow) -> EventSource:
    return EventSource(
        source_id=row.source_id,
        created_at=_instant(row.created_at),
        disabled_at=None if row.disabled_at is None else _instant(row.disabled_at),
        origins=row.origins,
        events_per_second=row.events_per_second,
        weight=row.weight,
        keys=[
            SourceKey(
                hint=key.hint,
                bootstrap=key.bootstrap,
                created_at=_instant(key.created_at),
                expires_at=None if key.expires_at is None else _instant(key.expires_at),
                expired=key.expired,
            )
            for key in row.keys
        ],
    )


def _instant(text: str) -> datetime:
    return from_micros(parse_instant(text))
