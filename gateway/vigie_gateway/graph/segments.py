"""Segments beyond reading them: preview, definition, history, migration. Features owns them."""

from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry
from vigie_contracts import segmentation
from vigie_contracts.errors import InvalidInput, VigieError
from vigie_contracts.instants import to_micros

from vigie_gateway.graph.customer import Customer, Segment, customer, feature_segments, segment
from vigie_gateway.graph.errors import UserError, errors_of
from vigie_gateway.graph.paging import PageInfo, checked_first, page_info
from vigie_gateway.graph.scalars import Cursor, Info, instant

PREVIEW = "segment_preview"


@strawberry.enum(description="What a segment divides customers by.")
class SegmentFamily(Enum):
    DEMOGRAPHIC = "demographic"
    GEOGRAPHIC = "geographic"
    BEHAVIOURAL = "behavioural"
    PSYCHOGRAPHIC = "psychographic"
    TRANSACTIONAL = "transactional"
    LIFE_CYCLE = "life_cycle"
    VALUE_TIER = "value_tier"
    SUPPORT_MODEL = "support_model"
    RISK = "risk"


@strawberry.type(description="How many of the previewed customers are in a segment now.")
class SegmentOverlap:
    segment: Segment = strawberry.field(description="The segment.")
    size: int = strawberry.field(description="Customers in both.")


@strawberry.type(description="Whom a definition would hold for now. Every figure is of one instant; nothing is saved.")
class SegmentPreview:
    definition: str | None = strawberry.field(description="The definition in canonical text; null with problems.")
    size: int | None = strawberry.field(description="How many of those examined it holds for; null with problems.")
    examined: int = strawberry.field(description="How many customers were looked at before time was up, by id.")
    population: int = strawberry.field(description="How many customers there are.")
    complete: bool = strawberry.field(description="Whether all were looked at.")
    estimated_size: int | None = strawberry.field(description="The size; in proportion when not all were looked at.")
    as_of: datetime | None = strawberry.field(description="The instant it was computed at.")
    sample: list[Customer] = strawberry.field(description="A page of whom it holds for, by id.")
    page_info: PageInfo = strawberry.field(description="Where this page lies; every page computes the preview anew.")
    overlaps: list[SegmentOverlap] = strawberry.field(description="Segments that share customers with it, most first.")
    problems: list[UserError] = strawberry.field(description="What is wrong with the definition, and where.")


@strawberry.input(description="A segment to be made or changed.")
class SegmentDefineInput:
    key: str = strawberry.field(description="A letter, then letters, digits and _, all small.")
    name: str = strawberry.field(description="Its name, in English.")
    name_fr: str | None = strawberry.field(default=None, description="Its name in French.")
    definition: str = strawberry.field(description="The rule as text, or as a tree in JSON.")
    family: SegmentFamily | None = strawberry.field(
        default=None, description="As it is; a new segment is behavioural by default."
    )
    because: str | None = strawberry.field(
        default=None, description="Why one is in it, in words; a new definition explains itself by default."
    )
    expected_version: int | None = strawberry.field(
        default=None, description="The version you saw, 0 for none: refused when another stands."
    )


@strawberry.type(description="The outcome of defining a segment.")
class SegmentDefinePayload:
    segment: Segment | None = strawberry.field(description="As it stands; its size grows while it is being evaluated.")
    estimated_size: int | None = strawberry.field(description="How many the definition holds for now.")
    changed: bool = strawberry.field(description="False when it stood so before.")
    errors: list[UserError] = strawberry.field(description="Empty when it stands.")


@strawberry.type(description="The outcome of retiring a segment.")
class SegmentRetirePayload:
    changed: bool = strawberry.field(description="False when it was retired before.")
    errors: list[UserError] = strawberry.field(description="Empty when it is retired.")


@strawberry.type(description="How many customers were in one segment first and in one later.")
class SegmentMigrationCell:
    from_key: str | None = strawberry.field(description="Key at the first instant; null: in none of the family.")
    to_key: str | None = strawberry.field(description="Key at the second; null: in none, merged away or gone.")
    customers: int = strawberry.field(description="How many.")


@strawberry.type(description="Who moved between the segments of a family, exactly, by the log of moves.")
class SegmentMigration:
    family: SegmentFamily = strawberry.field(description="The family.")
    segments: list[Segment] = strawberry.field(description="Its segments, in the order in which they are tried.")
    retired_keys: list[str] = strawberry.field(description="Keys that were in the family and are no more.")
    cells: list[SegmentMigrationCell] = strawberry.field(
        description="Where somebody was; a cell that is not here is 0."
    )


@strawberry.type
class SegmentQuery:
    """Mixed into `Query`."""

    @strawberry.field(description="Whom a definition would hold for, before it is saved.")
    async def segment_preview(
        self, info: Info, definition: str, first: int = 20, after: Cursor | None = None
    ) -> SegmentPreview | None:
        request = segmentation.PreviewRequest(
            definition=definition,
            after=info.context.cursors.read(PREVIEW, after) if after else None,
            limit=checked_first(first),
        )
        try:
            found = await info.context.services.post(
                "features", "/internal/segment-preview", request, segmentation.PreviewAnswer
            )
        except InvalidInput as error:
            return _refused(error)
        return await _preview(info, found, has_previous=after is not None)

    @strawberry.field(description="How many went from which segment of a family to which between two instants.")
    async def segment_migration(
        self,
        info: Info,
        family: SegmentFamily,
        from_: Annotated[datetime, strawberry.argument(name="from")],
        to: datetime,
    ) -> SegmentMigration | None:
        request = segmentation.MigrationRequest(family=family.value, from_us=to_micros(from_), to_us=to_micros(to))
        found = await info.context.services.post(
            "features", "/internal/segment-migration", request, segmentation.MigrationAnswer
        )
        known = {one.key: one for one in await feature_segments(info) if one.family == family.value}
        return SegmentMigration(
            family=family,
            segments=[known[key] for key in found.keys if key in known],
            retired_keys=[key for key in found.keys if key not in known],
            cells=[
                SegmentMigrationCell(from_key=cell.from_key, to_key=cell.to_key, customers=cell.customers)
                for cell in found.cells
            ],
        )


@strawberry.type
class SegmentMutation:
    """Mixed into `Mutation`."""

    @strawberry.mutation(description="Make a segment or change one: another definition is a new version. Repeatable.")
    async def segment_define(self, info: Info, input: SegmentDefineInput) -> SegmentDefinePayload:
        request = segmentation.DefineRequest(
            key=input.key,
            name={"en": input.name, **({"fr": input.name_fr} if input.name_fr else {})},
            definition=input.definition,
            family=input.family.value if input.family else None,
            because={"en": input.because} if input.because else None,
            expected_version=input.expected_version,
        )
        try:
            found = await info.context.services.post(
                "features", "/internal/segment-define", request, segmentation.DefineAnswer
            )
        except VigieError as error:
            path = "definition" if "position" in error.details else "input"
            return SegmentDefinePayload(segment=None, estimated_size=None, changed=False, errors=errors_of(error, path))
        return SegmentDefinePayload(
            segment=segment(found.segment, "features"),
            estimated_size=found.estimated_size,
            changed=found.changed,
            errors=[],
        )

    @strawberry.mutation(description="Let everybody leave a segment that was defined here; its history stays.")
    async def segment_retire(self, info: Info, key: str) -> SegmentRetirePayload:
        try:
            found = await info.context.services.post(
                "features",
                "/internal/segment-retire",
                segmentation.RetireRequest(key=key),
                segmentation.RetireAnswer,
            )
        except VigieError as error:
            return SegmentRetirePayload(changed=False, errors=errors_of(error, "key"))
        return SegmentRetirePayload(changed=found.changed, errors=[])


async def _preview(info: Info, found: segmentation.PreviewAnswer, *, has_previous: bool) -> SegmentPreview:
    known = {one.key: one for one in await feature_segments(info)}
    shared = sorted((row for row in found.overlaps if row.both), key=lambda row: (-row.both, row.key))
    cursors = [info.context.cursors.write(PREVIEW, customer_id) for customer_id in found.customer_ids]
    return SegmentPreview(
        definition=found.definition,
        size=found.size,
        examined=found.examined,
        population=found.population,
        complete=found.complete,
        estimated_size=found.estimated_size,
        as_of=instant(found.t_us),
        sample=[customer(customer_id) for customer_id in found.customer_ids],
        page_info=page_info(cursors, has_next=found.has_next, has_previous=has_previous),
        overlaps=[SegmentOverlap(segment=known[row.key], size=row.both) for row in shared if row.key in known],
        problems=[],
    )


def _refused(error: InvalidInput) -> SegmentPreview:
    return SegmentPreview(
        definition=None,
        size=None,
        examined=0,
        population=0,
        complete=False,
        estimated_size=None,
        as_of=None,
        sample=[],
        page_info=page_info([], has_next=False, has_previous=False),
        overlaps=[],
        problems=errors_of(error, "definition"),
    )
