"""What has arrived at ingest, by source and name, for the catalogue: counts and the shapes of properties."""

import msgspec

from vigie_contracts.events import EventKind


class PropertyShape(msgspec.Struct, frozen=True, kw_only=True):
    """How a property came: JSON types seen, and one value with its letters and digits hidden (`Aaaa-99`)."""

    types: list[str]
    example: str


class ArrivalRow(msgspec.Struct, frozen=True, kw_only=True):
    """Accepted events of one source under one name. `warned`: those that violate the tracking plan.

    First and last seen are instants of acceptance. `properties` come from samples: one event a name and transaction.
    """

    source_id: str
    kind: EventKind
    name: str
    catalogued: bool
    count: int
    warned: int
    first_at_us: int
    last_at_us: int
    properties: dict[str, PropertyShape]


class ArrivalsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /internal/arrivals` of ingest; most frequent first. `more`: rows beyond the limit."""

    rows: list[ArrivalRow]
    more: int = 0
